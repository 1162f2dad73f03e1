"""Drivers from PyPI, and gpiozero's devices, on parts on lines and serial ports: they read right values, unmodified."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

pytestmark = pytest.mark.kind("drivers")

BOARD = "from hwloop.board import current; board = current()\n"
"""Gives a script the parts, to move them and to look at them."""
WAIT = """
import time
def until(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()
"""

SCRIPTS: dict[str, tuple[str, str, str]] = {
    "gpiozero-distance-sensor": (
        """
        import warnings; warnings.simplefilter("ignore")
        from gpiozero import DistanceSensor
        sensor = DistanceSensor(echo=24, trigger=23, max_distance=4)
        print(until(lambda: abs(sensor.distance - 0.8) < 0.02))
        """,
        '[[device]]\ntype = "hc-sr04"\ntrigger = 23\necho = 24\ndistance = 0.8',
        "True\n",
    ),
    "gpiozero-servo": (
        """
        import warnings; warnings.simplefilter("ignore")
        from gpiozero import AngularServo
        servo = AngularServo(18, min_angle=0, max_angle=180, min_pulse_width=.0005, max_pulse_width=.0024)
        for angle in (45, 180):
            servo.angle = angle
            print(until(lambda: abs((board["arm"].angle or 0) - angle) < 1))
        print(board["arm"].out_of_range)
        """,
        '[[device]]\ntype = "servo"\nname = "arm"\nline = 18',
        "True\nTrue\n0\n",
    ),
    "gpiozero-motor": (
        """
        from gpiozero import Motor
        motor = Motor(5, 6)
        motor.forward(0.5)
        print(until(lambda: abs(board["motor"].speed - 0.5) < 0.01), board["motor"].direction)
        motor.backward()
        print(until(lambda: board["motor"].speed == -1))
        """,
        '[[device]]\ntype = "l298n"\nname = "motor"\nin1 = 5\nin2 = 6',
        "True forward\nTrue\n",
    ),
    "gpiozero-tonal-buzzer": (
        """
        from gpiozero import TonalBuzzer
        from gpiozero.tones import Tone
        buzzer = TonalBuzzer(12)
        buzzer.play(Tone("A4"))
        print(until(lambda: abs(board["buzzer"].frequency - 440) < 1))
        buzzer.stop()
        print(until(lambda: board["buzzer"].frequency == 0))
        """,
        '[[device]]\ntype = "buzzer"\nname = "buzzer"\nline = 12',
        "True\nTrue\n",
    ),
    "gpiozero-rgb-led": (
        """
        from gpiozero import RGBLED
        led = RGBLED(13, 19, 26)
        led.color = (1, 0.5, 0)
        print(until(lambda: board["led"].color == (1, 0.5, 0)))
        """,
        '[[device]]\ntype = "rgb-led"\nname = "led"\nred = 13\ngreen = 19\nblue = 26',
        "True\n",
    ),
    "gpiozero-rotary-encoder": (
        """
        from gpiozero import RotaryEncoder
        knob = RotaryEncoder(20, 21)
        for turns in (3, -5):
            board["knob"].turn(turns)
            print(until(lambda: knob.steps == board["knob"].position), knob.steps)
        """,
        '[[device]]\ntype = "rotary-encoder"\nname = "knob"\na = 20\nb = 21\nstep_time = 0.1',
        "True 3\nTrue -2\n",
    ),
    "gpiozero-motion-sensor": (
        """
        from gpiozero import MotionSensor
        sensor = MotionSensor(25)
        board["eye"].motion()
        print(sensor.wait_for_motion(10))
        """,
        '[[device]]\ntype = "pir"\nname = "eye"\nline = 25',
        "True\n",
    ),
    "raspberrypi-tm1637": (
        """
        import logging; logging.disable(logging.WARNING)  # it drives DIO against the acknowledgement
        import tm1637
        display = tm1637.TM1637(clk=21, dio=20)
        display.numbers(12, 59)
        print(board["display"].text)
        display.show("Abcd")
        display.brightness(2)
        print(board["display"].text, board["display"].brightness)
        """,
        '[[device]]\ntype = "tm1637"\nname = "display"\nclock = 21\ndata = 20',
        "12:59\nAbCd 2\n",
    ),
    "rpimotorlib": (
        """
        from RpiMotorLib import RpiMotorLib
        RpiMotorLib.BYJMotor("m", "28BYJ").motor_run([17, 18, 27, 22], .003, 16, False, False, "half", .01)
        print(round(board["belt"].position), board["belt"].lost_steps)
        RpiMotorLib.A4988Nema(23, 24, (-1, -1, -1), "A4988").motor_go(False, "Full", 50, .002, False, .05)
        print(abs(board["arm"].position), board["arm"].lost_steps)
        """,
        '[[device]]\ntype = "28byj-48"\nname = "belt"\nlines = [17, 18, 27, 22]\n'
        '[[device]]\ntype = "a4988"\nname = "arm"\nstep = 24\ndirection = 23',
        "127 0\n50 0\n",
    ),
    "pad4pi": (
        """
        from pad4pi import rpi_gpio
        keys = [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"], ["*", "0", "#"]]
        keypad = rpi_gpio.KeypadFactory().create_keypad(keypad=keys, row_pins=[12, 16, 23, 24], col_pins=[25, 8, 7])
        got = []
        keypad.registerKeyPressHandler(got.append)
        for place, key in enumerate("150#", 1):
            board["keypad"].press(key)
            until(lambda: len(got) == place)
            board["keypad"].release(key)
            time.sleep(0.5)
        print("".join(got))
        keypad.cleanup()
        """,
        '[[device]]\ntype = "keypad"\nname = "keypad"\nrows = [12, 16, 23, 24]\ncolumns = [25, 8, 7]\n'
        'keys = "123456789*0#"',
        "150#\n",
    ),
    "adafruit-circuitpython-matrixkeypad": (
        """
        import adafruit_matrixkeypad, board as pins, digitalio
        rows = [digitalio.DigitalInOut(pin) for pin in (pins.D12, pins.D16)]
        columns = [digitalio.DigitalInOut(pin) for pin in (pins.D25, pins.D8)]
        keypad = adafruit_matrixkeypad.Matrix_Keypad(rows, columns, (("1", "2"), ("3", "4")))
        print(keypad.pressed_keys)
        board["keypad"].press("3")
        print(keypad.pressed_keys)
        """,
        '[[device]]\ntype = "keypad"\nname = "keypad"\nrows = [12, 16]\ncolumns = [25, 8]\nkeys = "1234"',
        "[]\n['3']\n",
    ),
    "rpi_hardware_pwm": (
        """
        from rpi_hardware_pwm import HardwarePWM
        pwm = HardwarePWM(pwm_channel=0, hz=50, chip=0)
        pwm.start(7.25)
        print(until(lambda: board["arm"].angle == 90))
        pwm.change_duty_cycle(2.5)
        print(until(lambda: board["arm"].angle == 0))
        pwm.stop()
        """,
        '[[device]]\ntype = "servo"\nname = "arm"\nline = 18',
        "True\nTrue\n",
    ),
    "pynmea2": (
        """
        import pynmea2, serial
        with serial.Serial("/dev/ttyAMA0", 115200, timeout=5) as port:
            seen = {}
            while {"RMC", "GGA", "GSV", "VTG", "GSA"} - seen.keys():
                line = port.readline().decode("ascii", "replace")
                if line.startswith("$"):
                    message = pynmea2.parse(line)
                    seen[message.sentence_type] = message
        fix = seen["GGA"]
        print(round(fix.latitude, 4), round(fix.longitude, 4), fix.altitude, fix.num_sats, seen["RMC"].status)
        """,
        '[[device]]\ntype = "gps"\nport = "/dev/ttyAMA0"\nlatitude = -33.8568\nlongitude = 151.2153\naltitude = 12.0\n'
        "baudrate = 115200\ninterval = 0.3",
        "-33.8568 151.2153 12.0 08 A\n",
    ),
    "pyubx2": (
        """
        import serial
        from pyubx2 import SET, UBXMessage, UBXReader
        with serial.Serial("/dev/ttyAMA0", 115200, timeout=5) as port:
            seen = {}
            reader = UBXReader(port, protfilter=2)
            port.write(UBXMessage("CFG", "CFG-RATE", SET, measRate=100, navRate=1, timeRef=1).serialize())
            port.write(UBXMessage.config_set(1, 0, [("CFG_MSGOUT_UBX_NAV_PVT_UART1", 1)]).serialize())
            while {"NAV-PVT", "ACK-ACK"} - seen.keys():
                _, message = reader.read()
                seen[message.identity] = message
        fix = seen["NAV-PVT"]
        print(fix.lat, fix.lon, fix.hMSL, fix.fixType, fix.numSV, board["gps"].interval)
        """,
        '[[device]]\ntype = "gps"\nname = "gps"\nport = "/dev/ttyAMA0"\nlatitude = 48.1173\nlongitude = 11.5167\n'
        'baudrate = 115200\ninterval = 0.3\nprotocol = "both"',
        "48.1173 11.5167 545400 3 8 0.1\n",
    ),
    "minimalmodbus": (
        """
        import minimalmodbus
        meter = minimalmodbus.Instrument("/dev/ttyUSB0", 1)
        print(meter.read_registers(0, 2), meter.read_register(8, functioncode=4, signed=True), meter.read_bits(0, 3, 1))
        meter.write_register(100, 9)
        meter.write_bit(1, 1)
        print(board["meter"].holding[100], board["meter"].coil[1])
        try:
            meter.read_register(5)
        except minimalmodbus.IllegalRequestError as error:
            print(error)
        """,
        '[[device]]\ntype = "modbus-slave"\nname = "meter"\nport = "/dev/ttyUSB0"\n'
        "holding_registers = [[0, 215, 3], [100, 7]]\ninput_registers = [[8, -5]]\ncoils = [[0, 1, 0, 1]]",
        "[215, 3] -5 [1, 0, 1]\n9 1\nSlave reported illegal data address\n",
    ),
    "pymodbus": (
        """
        from pymodbus.client import ModbusSerialClient
        with ModbusSerialClient("/dev/ttyUSB0", baudrate=19200) as client:
            print(client.read_holding_registers(0, count=2, device_id=1).registers)
            client.write_coils(0, [False, True, False], device_id=1)
            client.write_registers(0, [1, 2], device_id=1)
            print(client.read_coils(0, count=3, device_id=1).bits[:3], board["meter"].holding)
            print(client.read_discrete_inputs(0, count=1, device_id=1).exception_code)
        """,
        '[[device]]\ntype = "modbus-slave"\nname = "meter"\nport = "/dev/ttyUSB0"\n'
        "holding_registers = [[0, 215, 3]]\ncoils = [[0, 1, 0, 1]]",
        "[215, 3]\n[False, True, False] {0: 1, 1: 2}\n2\n",
    ),
    "mh_z19": (
        """
        import mh_z19
        mh_z19.set_serialdevice("/dev/ttyUSB0")
        reading = mh_z19.read_all(serial_console_untouched=True)
        print(reading["co2"], reading["temperature"])
        """,
        '[[device]]\ntype = "mh-z19"\nport = "/dev/ttyUSB0"\nco2 = 823\ntemperature = 24',
        "823 24\n",
    ),
    "py-sds011": (
        """
        from sds011 import SDS011
        sensor = SDS011("/dev/ttyUSB0", use_query_mode=True)
        print(sensor.query())
        sensor.sleep(sleep=True)
        print(board["dust"].asleep)
        sensor.sleep(sleep=False)
        print(sensor.query())
        """,
        '[[device]]\ntype = "sds011"\nname = "dust"\nport = "/dev/ttyUSB0"\npm25 = 12.3\npm10 = 45.6',
        "(12.3, 45.6)\nTrue\n(12.3, 45.6)\n",
    ),
    "pms5003": (
        """
        from pms5003 import PMS5003
        sensor = PMS5003(device="/dev/ttyAMA0", baudrate=9600, pin_enable="GPIO22", pin_reset="GPIO27")
        data = sensor.read()
        print(data.pm_ug_per_m3(1.0), data.pm_ug_per_m3(2.5), data.pm_ug_per_m3(10))
        """,
        '[[device]]\ntype = "pms5003"\nport = "/dev/ttyAMA0"\nreset = 27\nenable = 22\npm1 = 5\npm25 = 11\npm10 = 17',
        "5 11 17\n",
    ),
    "dsmr_parser": (
        """
        from dsmr_parser import telegram_specifications
        from dsmr_parser.clients import SERIAL_SETTINGS_V5, SerialReader
        reader = SerialReader("/dev/ttyUSB0", SERIAL_SETTINGS_V5, telegram_specifications.V5)
        telegram = next(iter(reader.read_as_object()))
        print(telegram.CURRENT_ELECTRICITY_USAGE.value, telegram.ELECTRICITY_ACTIVE_TARIFF.value)
        print(telegram.MBUS_DEVICES[0].MBUS_METER_READING.value)
        """,
        '[[device]]\ntype = "dsmr-meter"\nport = "/dev/ttyUSB0"\npower = 1.25\ngas = 987.654',
        "1.250 0002\n987.654\n",
    ),
    "rdm6300": (
        """
        import threading
        import rdm6300

        class Reader(rdm6300.BaseReader):
            def card_inserted(self, card):
                print("inserted", card.value, card.is_valid)

            def card_removed(self, card):
                print("removed", card.value)
                self.stop()

        reader = Reader("/dev/ttyUSB0")
        threading.Timer(1, lambda: board["reader"].card(0x1A004B3C5D)).start()
        reader.start()
        """,
        '[[device]]\ntype = "rdm6300"\nname = "reader"\nport = "/dev/ttyUSB0"',
        "inserted 4930653 True\nremoved 4930653\n",
    ),
    "python-gsmmodem-new": (
        """
        from gsmmodem.modem import GsmModem
        modem = GsmModem("/dev/ttyUSB0", 9600)
        modem.smsTextMode = True
        modem.connect()
        print(modem.manufacturer, modem.signalStrength, modem.networkName)
        modem.smsTextMode = True
        modem.sendSms("+491234", "the pump is dry")
        print(board["modem"].sent)
        modem.close()
        """,
        '[[device]]\ntype = "at-modem"\nname = "modem"\nport = "/dev/ttyUSB0"\nsignal = 17',
        "SIMCOM_Ltd 17 hwloop mobile\n[('+491234', 'the pump is dry')]\n",
    ),
}

POLLING: dict[str, tuple[str, str]] = {
    "dht11": (
        """
        import time
        import dht11
        import RPi.GPIO as GPIO
        GPIO.setmode(GPIO.BCM)
        sensor = dht11.DHT11(pin=4)
        for _ in range(3):
            found = sensor.read()
            print(found.is_valid(), found.temperature, found.humidity)
            time.sleep(2)
        """,
        "True 21.0 45.0\n" * 3,
    ),
    "adafruit-circuitpython-dht": (
        """
        import time
        import adafruit_dht
        import board
        sensor = adafruit_dht.DHT11(board.D4, use_pulseio=False)
        for _ in range(3):
            print(sensor.temperature, sensor.humidity)
            time.sleep(3)
        """,
        "21.0 45\n" * 3,
    ),
}
"""Drivers that measure pulses of 26 and 70 µs by reading the line again and again, which takes virtual time.

In real time a busy machine takes their turn away for longer than a pulse. Adafruit_DHT, and adafruit-circuitpython-dht
with pulseio, measure in a program of their own, which needs /dev/gpiomem or libgpiod's C library on a real chip, and
pigpio-dht needs pigpio's daemon.
"""


@pytest.mark.parametrize("driver", POLLING)
def test_a_driver_that_polls_reads_right_values_in_virtual_time(run_script: Any, driver: str) -> None:
    program, output = POLLING[driver]
    sensor = '[[device]]\ntype = "dht11"\nline = 4\ntemperature = 21\nhumidity = 45'
    assert run_script(program, sensor, "--clock", "virtual").stdout == output


@pytest.mark.parametrize("driver", SCRIPTS)
def test_a_driver_reads_right_values(run_script: Any, driver: str) -> None:
    program, board, output = SCRIPTS[driver]
    done = run_script(BOARD + WAIT + textwrap.dedent(program), board)
    assert done.stdout == output, done.stderr
