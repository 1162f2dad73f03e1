"""Libraries that open device nodes and sysfs files themselves reach the simulated board unmodified."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.kind("device nodes")
Run = Callable[..., subprocess.CompletedProcess[str]]

CLIMATE = """
[[device]]
type = "bme280"
temperature = 21.5
pressure = 1008.0
humidity = 45.0
temperature_swing = 0.0
humidity_swing = 0.0
pressure_swing = 0.0
"""
WIRED = """
[[device]]
type = "wire"
lines = [27, 22]
"""


@pytest.mark.parametrize("revision", ["c03111", "a020d3", "c04170", "902120"])
def test_blinka_finds_the_pi_its_pins_and_its_i2c_bus(run_script: Run, revision: str) -> None:
    done = run_script(
        """
        import warnings
        warnings.simplefilter("ignore")
        import board
        from adafruit_bme280 import basic
        i2c = board.I2C()
        while not i2c.try_lock():
            pass
        print(board.board_id, [hex(address) for address in i2c.scan()])
        i2c.unlock()
        sensor = basic.Adafruit_BME280_I2C(i2c, address=0x76)
        print(round(sensor.temperature, 1), round(sensor.pressure), round(sensor.relative_humidity))
        """,
        f'revision = "{revision}"\n{CLIMATE}',
    )
    names = {
        "c03111": "RASPBERRY_PI_4B",
        "a020d3": "RASPBERRY_PI_3B_PLUS",
        "c04170": "RASPBERRY_PI_5",
        "902120": "RASPBERRY_PI_ZERO_2_W",
    }
    assert done.stdout == f"{names[revision]} ['0x76']\n21.5 1008 45\n"


def test_blinkas_digitalio(run_script: Run) -> None:
    done = run_script(
        """
        import board
        import digitalio
        out = digitalio.DigitalInOut(board.D27)
        out.switch_to_output(value=True)
        into = digitalio.DigitalInOut(board.D22)
        into.switch_to_input(pull=digitalio.Pull.DOWN)
        print(into.value)
        out.value = False
        print(into.value)
        try:
            import pwmio
            pwmio.PWMOut(board.D5)
        except ImportError as refused:
            print("simulated board" in str(refused))
        try:
            import analogio
        except NotImplementedError as refused:
            print(refused)
        """,
        WIRED,
    )
    assert done.stdout == "True\nFalse\nTrue\nanalogio not supported for this board.\n"


def test_extended_bus_and_pure_io(run_script: Run) -> None:
    done = run_script(
        """
        from Adafruit_PureIO import smbus
        from adafruit_extended_bus import ExtendedI2C
        import warnings
        warnings.simplefilter("ignore")
        print([hex(address) for address in ExtendedI2C(1).scan()])
        try:
            ExtendedI2C(3)
        except ValueError as missing:
            print(missing)
        with smbus.SMBus(1) as bus:
            bus.write_byte_data(0x76, 0xF2, 5)
            bus.write_i2c_block_data(0x76, 0xF4, [0x27])
            print(bus.read_byte_data(0x76, 0xD0), bytes(bus.read_i2c_block_data(0x76, 0xF4, 1)).hex())
            try:
                bus.read_byte(0x50)
            except OSError as error:
                print(error.errno)
        """,
        CLIMATE,
    )
    assert done.stdout == "['0x76']\nNo device found for /dev/i2c-3\n96 27\n121\n"


def test_python_periphery(run_script: Run) -> None:
    done = run_script(
        """
        from periphery import I2C, PWM, Serial
        i2c = I2C("/dev/i2c-1")
        messages = [I2C.Message([0xD0]), I2C.Message([0], read=True)]
        i2c.transfer(0x76, messages)
        print(messages[1].data)
        i2c.close()
        pwm = PWM(0, 0)
        pwm.frequency, pwm.duty_cycle = 50, 0.075
        pwm.enable()
        print(pwm.period_ns, pwm.duty_cycle_ns, pwm.enabled, pwm.polarity)
        pwm.close()
        port = Serial("/dev/ttyAMA0", 9600)
        print(port.read(2000, 2)[:1], port.baudrate, port.parity)
        port.close()
        """,
        CLIMATE + '[[device]]\ntype = "gps"\nport = "/dev/ttyAMA0"\ninterval = 0.5',
    )
    assert done.stdout == "[96]\n20000000 1500000 True normal\nb'$' 9600 none\n"


def test_periphery_drives_lines(run_script: Run) -> None:
    done = run_script(
        """
        from periphery import GPIO
        out, into = GPIO("/dev/gpiochip0", 27, "out"), GPIO("/dev/gpiochip0", 22, "in", edge="both")
        print(into.read())
        out.write(True)
        print(into.poll(5), into.read_event().edge, into.read())
        out.close()
        into.close()
        """,
        WIRED,
    )
    assert done.stdout == "False\nTrue rising True\n"


@pytest.mark.parametrize("library", ["smbus", "smbus2"])
def test_smbus_and_smbus2(run_script: Run, library: str) -> None:
    done = run_script(
        f"""
        from {library} import SMBus
        bus = SMBus(1)
        print(hex(bus.read_byte_data(0x76, 0xD0)), bus.read_i2c_block_data(0x76, 0xD0, 2)[:1])
        try:
            bus.read_byte(0x50)
        except OSError as error:
            print(error.errno)
        bus.close()
        """,
        CLIMATE,
    )
    assert done.stdout == "0x60 [96]\n121\n"


def test_fcntl_by_hand(run_script: Run) -> None:
    done = run_script(
        """
        import fcntl
        from fcntl import ioctl
        device = open("/dev/i2c-1", "rb+", buffering=0)
        ioctl(device, 0x0703, 0x76)
        device.write(bytes([0xD0]))
        print(device.read(1))
        device.close()
        """,
        CLIMATE,
    )
    assert done.stdout == "b'`'\n"


def test_w1thermsensor(run_script: Run) -> None:
    done = run_script(
        """
        from w1thermsensor import Sensor, SensorNotReadyError, Unit, W1ThermSensor
        for sensor in sorted(W1ThermSensor.get_available_sensors(), key=lambda sensor: sensor.id):
            print(sensor.id, sensor.name, sensor.get_temperature(), sensor.get_resolution())
        print(round(W1ThermSensor(Sensor.DS18B20, "0316a2794b1c").get_temperature(Unit.DEGREES_F), 3))
        """,
        """
        [[device]]
        type = "ds18b20"
        serial = 0x0316a2794b1c
        temperature = -10.125
        [[device]]
        type = "ds18b20"
        temperature = 25.0
        resolution = 9
        """,
    )
    assert done.stdout == "031602790001 DS18B20 25.0 9\n0316a2794b1c DS18B20 -10.125 12\n13.775\n"


def test_the_usual_script_for_a_ds18b20(run_script: Run) -> None:
    done = run_script(
        """
        import glob, time
        device_file = glob.glob("/sys/bus/w1/devices/" + "28*")[0] + "/w1_slave"
        def read_temp_raw():
            with open(device_file, "r") as file:
                return file.readlines()
        lines = read_temp_raw()
        while lines[0].strip()[-3:] != "YES":
            time.sleep(0.2)
            lines = read_temp_raw()
        print(float(lines[1][lines[1].find("t=") + 2:]) / 1000.0)
        """,
        '[[device]]\ntype = "ds18b20"\ntemperature = 19.25',
    )
    assert done.stdout == "19.25\n"


def test_rpi_hardware_pwm_moves_a_servo(run_script: Run) -> None:
    done = run_script(
        """
        import time
        from rpi_hardware_pwm import HardwarePWM, HardwarePWMException
        from hwloop.board import current
        pwm = HardwarePWM(pwm_channel=0, hz=50)
        pwm.start(2.5)
        time.sleep(0.1)
        print(current()["servo"].angle)
        pwm.change_duty_cycle(12)
        time.sleep(0.1)
        print(current()["servo"].angle)
        pwm.change_frequency(100)
        pwm.stop()
        try:
            HardwarePWM(pwm_channel=0, hz=50, chip=2)
        except HardwarePWMException as missing:
            print(missing)
        """,
        '[[device]]\ntype = "servo"\nname = "servo"\nline = 18',
    )
    assert done.stdout == "0.0\n180.0\nNeed to add 'dtoverlay=pwm-2chan' to /boot/config.txt and reboot\n"


PORTS = """
[[port]]
name = "/dev/ttyUSB0"
serial_number = "A50285BI"
[[device]]
type = "gps"
port = "/dev/ttyUSB0"
interval = 0.5
"""


def test_serialx_reads_and_lists_a_port(run_script: Run) -> None:
    done = run_script(
        """
        import serialx
        from serialx.tools.list_ports import comports
        for port in comports():
            print(port.device, hex(port.vid), hex(port.pid), port.serial_number)
        with serialx.serial_for_url("/dev/ttyUSB0", baudrate=9600, parity=serialx.Parity.EVEN) as port:
            port.readline()
            print(port.readline()[:2])
        """,
        PORTS,
    )
    by_id = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"
    assert done.stdout == f"{by_id} 0x403 0x6001 A50285BI\nb'$G'\n"


def test_list_ports_as_a_module(run_script: Run) -> None:
    done = run_script(
        """
        import runpy, sys
        sys.argv = ["list_ports", "-v"]
        try:
            runpy.run_module("serial.tools.list_ports", run_name="__main__")
        except SystemExit as ended:
            print(ended.code)
        """,
        PORTS,
    )
    assert "/dev/ttyUSB0" in done.stdout
    assert "USB VID:PID=0403:6001 SER=A50285BI LOCATION=1-1.1" in done.stdout


def test_evdev(run_script: Run) -> None:
    done = run_script(
        """
        import evdev
        from hwloop.board import current
        [path] = [each for each in evdev.list_devices() if evdev.InputDevice(each).name == "remote"]
        remote = evdev.InputDevice(path)
        current()["remote"].click(evdev.ecodes.KEY_A)
        keys = []
        for event in remote.read_loop():
            if event.type == evdev.ecodes.EV_KEY:
                keys.append((evdev.categorize(event).keycode, event.value, remote.active_keys()))
                if len(keys) == 2:
                    break
        print(path, keys)
        print(remote.capabilities()[evdev.ecodes.EV_KEY], remote.info.bustype)
        with remote.grab_context():
            pass
        """,
        '[[device]]\ntype = "keyboard"\nname = "remote"\nlabel = "remote"\nnumber = 7\nkeys = [30, 48]',
    )
    assert done.stdout == "/dev/input/event7 [('KEY_A', 1, [30]), ('KEY_A', 0, [])]\n[30, 48] 25\n"
