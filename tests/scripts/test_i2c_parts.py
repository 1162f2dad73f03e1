"""Drivers from PyPI, as users' scripts use them, read from the simulated I2C parts what the board file says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.kind("drivers")
Run = Callable[..., subprocess.CompletedProcess[str]]

BLINKA = "import board, time; i2c = board.I2C()\n"


class Case(NamedTuple):
    """A script, the part on its board, and the lines that it prints."""

    part: str
    script: str
    output: str


CASES = {
    "Adafruit_MCP9808": Case(
        "type='mcp9808', temperature=-12.25",
        """
        import Adafruit_MCP9808.MCP9808 as MCP9808
        sensor = MCP9808.MCP9808(busnum=1)
        print(sensor.begin(), sensor.readTempC())
        """,
        "True -12.25",
    ),
    "PCA9685_smbus2": Case(
        "type='pca9685', name='servos'",
        """
        from PCA9685_smbus2 import PCA9685
        from hwloop import board
        pwm = PCA9685.PCA9685(interface=1)
        pwm.set_pwm_freq(50)
        pwm.set_pwm(3, 0, 307)
        servos = board.current()["servos"]
        print(round(servos.frequency), round(servos.pulse_width(3) * 1e3, 2), servos.pulse_width(2))
        """,
        "50 1.5 0.0",
    ),
    "RPLCD": Case(
        "type='lcd1602', name='display', columns=20, rows=4",
        """
        from RPLCD.i2c import CharLCD
        from hwloop import board
        lcd = CharLCD("PCF8574", 0x27, cols=20, rows=4, charmap="A00")
        lcd.write_string("Pump 1: on\\r\\n21.5 °C\\r\\nthird row\\r\\n")
        lcd.cursor_pos = (3, 16)
        lcd.write_string("end!")
        display = board.current()["display"]
        print(display.text().replace(" ", "."), display.ignored)
        lcd.backlight_enabled = False
        print(display.backlight)
        """,
        "Pump.1:.on..........\n21.5.°C.............\nthird.row...........\n................end! 0\nFalse",
    ),
    "adafruit_ads1x15": Case(
        "type='ads1115', inputs=[1.0, 2.0, 0.5, 3.0]",
        """
        from adafruit_ads1x15 import ADS1115, AnalogIn, ads1x15
        adc = ADS1115(i2c)
        print([round(AnalogIn(adc, channel).voltage, 3) for channel in range(4)])
        print(round(AnalogIn(adc, 0, 1).voltage, 3))
        """,
        "[1.0, 2.0, 0.5, 3.0]\n-1.0",
    ),
    "adafruit_ads7830": Case(
        "type='ads7830', inputs=[0.5, 1.0, 1.5, 2.0, 0.1, 0.2, 0.3, 0.4]",
        """
        import adafruit_ads7830.ads7830 as ADC
        adc = ADC.ADS7830(i2c)
        print([round((adc.read(channel) >> 8) / 256 * 2.5, 1) for channel in range(8)])
        """,
        "[0.5, 1.0, 1.5, 2.0, 0.1, 0.2, 0.3, 0.4]",
    ),
    "adafruit_ahtx0": Case(
        "type='aht20', temperature=-7.5, humidity=88.0",
        """
        import adafruit_ahtx0
        sensor = adafruit_ahtx0.AHTx0(i2c)
        print(round(sensor.temperature, 2), round(sensor.relative_humidity, 2))
        """,
        "-7.5 88.0",
    ),
    "adafruit_bme680": Case(
        "type='bme680', temperature=24.0, pressure=987.6, humidity=50.0, gas_resistance=43210.0",
        """
        import adafruit_bme680
        sensor = adafruit_bme680.Adafruit_BME680_I2C(i2c, 0x76)
        print(round(sensor.temperature, 1), round(sensor.pressure, 1), round(sensor.gas, -2))
        # This driver mixes up the lowest bits of two calibration values: with these it reads 1 %RH less.
        print(abs(sensor.relative_humidity - 50) < 1.1)
        """,
        "24.0 987.6 43200\nTrue",
    ),
    "adafruit_bmp280": Case(
        "type='bmp280', temperature=33.3, pressure=1021.2",
        """
        import adafruit_bmp280
        sensor = adafruit_bmp280.Adafruit_BMP280_I2C(i2c, 0x76)
        print(round(sensor.temperature, 1), round(sensor.pressure, 1))
        """,
        "33.3 1021.2",
    ),
    "adafruit_ds3231": Case(
        "type='ds3231', time='2028-02-29 12:34:56', temperature=-3.25",
        """
        import adafruit_ds3231
        clock = adafruit_ds3231.DS3231(i2c)
        print(clock.datetime[:5], clock.temperature, clock.lost_power)
        clock.datetime = time.struct_time((2030, 6, 7, 8, 9, 10, 4, 0, -1))
        clock.alarm1 = (time.struct_time((2030, 6, 7, 8, 9, 11, 4, 0, -1)), "daily")
        time.sleep(1.1)
        print(clock.datetime[:6], clock.alarm1_status)
        """,
        "(2028, 2, 29, 12, 34) -3.25 False\n(2030, 6, 7, 8, 9, 11) True",
    ),
    "adafruit_htu21d": Case(
        "type='htu21d', temperature=24.7, humidity=54.8",
        """
        import adafruit_htu21d
        sensor = adafruit_htu21d.HTU21D(i2c)
        print(round(sensor.temperature, 1), round(sensor.relative_humidity, 1))
        """,
        "24.7 54.8",
    ),
    "adafruit_ina219": Case(
        "type='ina219', voltage=12.0, current=-0.8",
        """
        import adafruit_ina219
        monitor = adafruit_ina219.INA219(i2c)
        print(round(monitor.bus_voltage, 2), round(monitor.current), round(monitor.shunt_voltage, 3))
        """,
        "12.0 -800 -0.08",
    ),
    "adafruit_mcp230xx": Case(
        "type='mcp23017', name='expander'",
        """
        import digitalio
        from adafruit_mcp230xx.mcp23017 import MCP23017
        from hwloop import board
        expander = board.current()["expander"]
        chip = MCP23017(i2c)
        led, button = chip.get_pin(0), chip.get_pin(9)
        led.switch_to_output(value=True)
        button.direction, button.pull = digitalio.Direction.INPUT, digitalio.Pull.UP
        print(expander.level(0), button.value)
        expander.drive(9, 0)
        print(button.value)
        """,
        "1 True\nFalse",
    ),
    "adafruit_mcp9808": Case(
        "type='mcp9808', temperature=25.25",
        """
        import adafruit_mcp9808
        print(adafruit_mcp9808.MCP9808(i2c).temperature)
        """,
        "25.25",
    ),
    "adafruit_mpu6050": Case(
        "type='mpu6050', acceleration=[0.5, -0.5, 1.0], rotation=[57.29578, 0.0, -57.29578], temperature=30.0",
        """
        import adafruit_mpu6050
        sensor = adafruit_mpu6050.MPU6050(i2c)
        time.sleep(0.01)
        print([round(value, 2) for value in sensor.acceleration], [round(value, 2) for value in sensor.gyro])
        print(round(sensor.temperature, 1))
        """,
        "[4.9, -4.9, 9.81] [1.0, 0.0, -1.0]\n30.0",
    ),
    "adafruit_pca9685": Case(
        "type='pca9685', name='leds'",
        """
        from adafruit_pca9685 import PCA9685
        from hwloop import board
        chip = PCA9685(i2c)
        chip.frequency = 60
        chip.channels[15].duty_cycle = 0x8000
        leds = board.current()["leds"]
        print(round(leds.frequency), leds.duty_cycle(15), leds.duty_cycle(0))
        """,
        "60 0.5 0.0",
    ),
    "adafruit_pcf8574": Case(
        "type='pcf8574', name='expander'",
        """
        import adafruit_pcf8574
        from hwloop import board
        expander = board.current()["expander"]
        chip = adafruit_pcf8574.PCF8574(i2c)
        chip.write_gpio(0xFE)
        expander.drive(7, 0)
        print([int(chip.read_pin(pin)) for pin in range(8)])
        """,
        "[0, 1, 1, 1, 1, 1, 1, 0]",
    ),
    "adafruit_pcf8591": Case(
        "type='pcf8591', name='adc', inputs=[0.5, 1.0, 1.5, 2.0]",
        """
        from adafruit_pcf8591.pcf8591 import PCF8591
        from hwloop import board
        adc = PCF8591(i2c)
        print([round(adc.read(channel) / 256 * 3.3, 1) for channel in range(4)])
        adc.dac_enabled = True
        adc.write(128)
        print(round(board.current()["adc"].output, 2))
        """,
        "[0.5, 1.0, 1.5, 2.0]\n1.65",
    ),
    "adafruit_scd4x": Case(
        "type='scd40', co2=615.0, temperature=25.0, humidity=37.0",
        """
        import adafruit_scd4x
        sensor = adafruit_scd4x.SCD4X(i2c)
        print([hex(byte) for byte in sensor.serial_number])
        sensor.start_periodic_measurement()
        while not sensor.data_ready:
            time.sleep(0.1)
        print(sensor.CO2, round(sensor.temperature, 1), round(sensor.relative_humidity, 1))
        """,
        "['0xf8', '0x96', '0x9f', '0x7', '0x3b', '0xbe']\n615 25.0 37.0",
    ),
    "adafruit_sht31d": Case(
        "type='sht31', temperature=-20.5, humidity=90.0",
        """
        import adafruit_sht31d
        sensor = adafruit_sht31d.SHT31D(i2c)
        print(round(sensor.temperature, 1), round(sensor.relative_humidity, 1), sensor.serial_number == 0x1A2B3C4D)
        """,
        "-20.5 90.0 True",
    ),
    "adafruit_ssd1306": Case(
        "type='ssd1306', name='display', height=32",
        """
        import adafruit_ssd1306
        from hwloop import board
        display = adafruit_ssd1306.SSD1306_I2C(128, 32, i2c)
        display.fill(0)
        for x in range(8):
            display.pixel(x, x // 2, 1)
        display.show()
        print(board.current()["display"].text().strip())
        """,
        "⠉⠒⠤⣀",
    ),
    "adafruit_tcs34725": Case(
        "type='tcs34725', red=2.0, green=3.0, blue=1.5, clear=7.0",
        """
        import adafruit_tcs34725
        sensor = adafruit_tcs34725.TCS34725(i2c)
        sensor.integration_time, sensor.gain = 24, 4
        time.sleep(0.1)
        print(sensor.color_raw)
        """,
        "(192, 288, 144, 672)",
    ),
    "adafruit_vl53l0x": Case(
        "type='vl53l0x', distance=432.0",
        """
        import adafruit_vl53l0x
        sensor = adafruit_vl53l0x.VL53L0X(i2c)
        print(sensor.range)
        with sensor.continuous_mode():
            print(sensor.range)
        sensor.set_address(0x30)
        print(sensor.range, [hex(address) for address in i2c.scan()])
        """,
        "432\n432\n432 ['0x30']",
    ),
    "bme680": Case(
        "type='bme680', temperature=24.0, pressure=987.6, humidity=71.0, gas_resistance=43210.0",
        """
        import bme680, time
        sensor = bme680.BME680(0x76)
        sensor.set_humidity_oversample(bme680.OS_2X)
        sensor.set_pressure_oversample(bme680.OS_4X)
        sensor.set_temperature_oversample(bme680.OS_8X)
        sensor.set_filter(bme680.FILTER_SIZE_3)
        sensor.set_gas_status(bme680.ENABLE_GAS_MEAS)
        sensor.set_gas_heater_temperature(320)
        sensor.set_gas_heater_duration(150)
        sensor.select_gas_heater_profile(0)
        while not (sensor.get_sensor_data() and sensor.data.heat_stable):
            time.sleep(0.2)
        data = sensor.data
        print(data.temperature, data.pressure, data.humidity, round(data.gas_resistance, -2))
        """,
        "24.0 987.6 71.0 43200.0",
    ),
    "bmp280": Case(
        "type='bmp280', temperature=-5.25, pressure=899.5",
        """
        import bmp280, smbus2
        sensor = bmp280.BMP280(i2c_dev=smbus2.SMBus(1))
        sensor.setup(mode="forced")
        print(round(sensor.get_temperature(), 2), round(sensor.get_pressure(), 1))
        """,
        "-5.25 899.5",
    ),
    "htu21df": Case(
        "type='htu21d', temperature=24.7, humidity=54.8",
        """
        from htu21 import HTU21
        sensor = HTU21()
        print(round(sensor.read_temperature(), 1), round(sensor.read_humidity(), 1))
        """,
        "24.7 54.8",
    ),
    "luma.oled": Case(
        "type='ssd1306', name='display'",
        """
        from luma.core.interface.serial import i2c
        from luma.core.render import canvas
        from luma.oled.device import ssd1306
        from hwloop import board
        device = ssd1306(i2c(port=1, address=0x3C))
        with canvas(device) as draw:
            draw.rectangle((2, 4, 9, 11), outline="white", fill="white")
        display = board.current()["display"]
        print(display.text())
        display.save("screen.png")
        device.hide()
        print(sum(display.picture().dots))
        """,
        "\n ⣿⣿⣿⣿\n ⣿⣿⣿⣿" + "\n" * 14 + "0",
    ),
    "mcp23017": Case(
        "type='mcp23017', name='expander'",
        """
        import smbus
        from hwloop import board
        from mcp23017 import GPA0, GPB1, INPUT, OUTPUT, HIGH, MCP23017
        chip = MCP23017(0x20, smbus.SMBus(1))
        chip.pin_mode(GPA0, OUTPUT)
        chip.digital_write(GPA0, HIGH)
        expander = board.current()["expander"]
        expander.drive(9, 1)
        print(expander.level(0), chip.digital_read(GPB1))
        """,
        "1 255",
    ),
    "mpu6050-raspberrypi": Case(
        "type='mpu6050', acceleration=[0.5, -0.5, 1.0], rotation=[10.0, 0.0, -20.0], temperature=30.0",
        """
        import time
        from mpu6050 import mpu6050
        sensor = mpu6050(0x68)
        time.sleep(0.01)
        print(sensor.get_accel_data(g=True), sensor.get_gyro_data(), round(sensor.get_temp(), 1))
        """,
        "{'x': 0.5, 'y': -0.5, 'z': 1.0} {'x': 10.0, 'y': 0.0, 'z': -20.0} 30.0",
    ),
    "pi-ina219": Case(
        "type='ina219', voltage=12.0, current=0.8",
        """
        from ina219 import INA219
        monitor = INA219(0.1, busnum=1)
        monitor.configure()
        print(monitor.voltage(), round(monitor.current()), round(monitor.power(), -2), monitor.shunt_voltage())
        """,
        "12.0 800 9600.0 80.0",
    ),
    "python-PCF8574": Case(
        "type='pcf8574', name='expander'",
        """
        from PCF8574 import PCF8574
        from hwloop import board
        chip = PCF8574(1, 0x20)
        chip.begin(0xFF)
        chip.pinMode("P0", "OUTPUT")
        chip.digitalWrite("P0", 0)
        expander = board.current()["expander"]
        expander.drive(5, 0)
        print(expander.level(0), chip.digitalRead("P5"), chip.digitalRead("P6"))
        """,
        "0 False True",
    ),
    "rpi_lcd_i2c": Case(
        "type='lcd1602', name='display'",
        """
        from rpi_lcd_i2c import I2cLcd
        from hwloop import board
        lcd = I2cLcd(1, 0x27, 2, 16)
        lcd.putstr("Temperature:")
        lcd.move_to(0, 1)
        lcd.putstr("21.5 C")
        print(board.current()["display"].text().replace(" ", "."))
        """,
        "Temperature:....\n21.5.C..........",
    ),
    "sensirion-i2c-sht3x": Case(
        "type='sht31', temperature=21.5, humidity=45.0",
        """
        from sensirion_driver_adapters.i2c_adapter.i2c_channel import I2cChannel
        from sensirion_i2c_driver import CrcCalculator, I2cConnection, LinuxI2cTransceiver
        from sensirion_i2c_sht3x.commands import Repeatability
        from sensirion_i2c_sht3x.device import Sht3xDevice
        with LinuxI2cTransceiver("/dev/i2c-1") as transceiver:
            crc = CrcCalculator(8, 0x31, 0xFF, 0x0)
            sensor = Sht3xDevice(I2cChannel(I2cConnection(transceiver), slave_address=0x44, crc=crc))
            for holds_clock in (False, True):
                print([f"{value.value:.1f}" for value in sensor.measure_single_shot(Repeatability.HIGH, holds_clock)])
        """,
        "['21.5', '45.0']\n['21.5', '45.0']",
    ),
    "sparkfun-qwiic-ads1015": Case(
        "type='ads1015', inputs=[1.0, 2.0, 0.5, 1.5]",
        """
        import qwiic_ads1015
        adc = qwiic_ads1015.QwiicADS1015()
        adc.use_conversion_ready(True)  # else it reads the conversion before, as from a real part
        print(adc.begin(), [adc.get_single_ended(channel) for channel in range(4)])
        """,
        "True [1000, 2000, 500, 1500]",
    ),
    "sparkfun-qwiic-pca9685": Case(
        "type='pca9685', name='servos'",
        """
        import qwiic_pca9685
        from hwloop import board
        pwm = qwiic_pca9685.QwiicPCA9685(0x40)
        print(pwm.is_connected(), pwm.begin())
        pwm.set_sleep_bit(0)
        pwm.set_channel_word(2, 1, 0)
        pwm.set_channel_word(2, 0, 1024)
        print(board.current()["servos"].duty_cycle(2))
        """,
        "True True\n0.25",
    ),
    "sparkfun-qwiic-scd4x": Case(
        "type='scd40', co2=615.0, temperature=25.0, humidity=37.0",
        """
        import time, qwiic_scd4x
        sensor = qwiic_scd4x.QwiicSCD4x()
        print(sensor.begin())
        while not sensor.read_measurement():
            time.sleep(0.1)
        print(sensor.get_co2(), round(sensor.get_temperature(), 1), round(sensor.get_humidity(), 1))
        """,
        "True\n615 25.0 37.0",
    ),
}


@pytest.mark.parametrize("driver", CASES)
def test_a_driver_reads_what_the_board_file_says(run_script: Run, driver: str) -> None:
    part, script, output = CASES[driver]
    board = "[[device]]\n" + re.sub(r", (?=\w+=)", "\n", part)
    body = "\n".join(line.removeprefix("        ") for line in script.strip("\n").splitlines())
    done = run_script((BLINKA if driver.startswith("adafruit_") else "") + body, board)
    assert done.stdout.rstrip("\n") == output
