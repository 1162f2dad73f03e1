"""Libraries and drivers for SPI, as users use them, on the simulated parts."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kind("drivers")
Run = Callable[..., subprocess.CompletedProcess[str]]

ADC = """
[[device]]
type = "mcp3008"
inputs = [1.65, 0.5, 3.3]
"""


@pytest.mark.parametrize("factory", ["hwloop", "lgpio"])
def test_gpiozero_mcp3008(run_script: Run, factory: str) -> None:
    done = run_script(
        """
        from gpiozero import MCP3008
        first, last = MCP3008(0), MCP3008(channel=2)
        with MCP3008(1) as middle:
            print(round(first.voltage, 2), middle.raw_value, round(last.value, 2))
        """,
        ADC,
        GPIOZERO_PIN_FACTORY=factory,
    )
    assert (done.stdout, done.stderr) == ("1.65 155 1.0\n", "")


def test_spidev_mcp3008(run_script: Run) -> None:
    """The function that most tutorials have."""
    done = run_script(
        """
        import spidev
        spi = spidev.SpiDev()
        spi.open(0, 0)
        spi.max_speed_hz = 1350000

        def analog_read(channel):
            answer = spi.xfer2([1, (8 + channel) << 4, 0])
            return ((answer[1] & 3) << 8) + answer[2]

        print(*map(analog_read, range(3)))
        spi.close()
        """,
        ADC,
    )
    assert done.stdout == "512 155 1023\n"


def test_circuitpython_busio(run_script: Run) -> None:
    done = run_script(
        """
        import board
        spi = board.SPI()
        while not spi.try_lock():
            pass
        spi.configure(baudrate=1000000)
        answer = bytearray(3)
        spi.write_readinto(bytes([1, 0x90, 0]), answer)
        spi.unlock()
        print((answer[1] & 3) << 8 | answer[2])
        """,
        ADC,
    )
    assert done.stdout == "155\n"


CARD = """
[[device]]
type = "mfrc522"
uid = "04a1b2c3"
text = "member 42"
reset_line = 25
"""


def test_mfrc522(run_script: Run, source: Callable[[str], Path]) -> None:
    done = run_script(
        """
        from mfrc522 import SimpleMFRC522
        import RPi.GPIO as GPIO
        reader = SimpleMFRC522()
        id, text = reader.read()
        print(f"{id:010x}", text.strip())
        reader.write("member 43")
        print(reader.read()[1].strip())
        GPIO.cleanup()
        """,
        CARD,
        PYTHONPATH=str(source("mfrc522")),
    )
    assert done.stdout == "04a1b2c3d4 member 42\nmember 43\n"


def test_pyspiflash(run_script: Run) -> None:
    """It expects pyftdi's controller; spidev takes its place with the one call that the driver makes."""
    done = run_script(
        """
        import spidev
        from spiflash.serialflash import SerialFlashManager

        class Port:
            def __init__(self):
                self.device = spidev.SpiDev(0, 0)
                self.device.max_speed_hz = 10_000_000
            def set_frequency(self, hertz):
                pass
            @property
            def frequency(self):
                return self.device.max_speed_hz
            def exchange(self, out, readlen=0):
                answer = self.device.xfer3([*out, *[0] * readlen])
                return bytes(answer[len(out):])

        class Controller:
            def get_port(self, cs=0, freq=None, mode=0):
                return Port()
            def terminate(self):
                pass

        flash = SerialFlashManager.get_from_controller(Controller())
        print(flash, len(flash))
        flash.erase(0x1000, 0x1000)
        flash.write(0x10F0, b"hello over a page's end")
        print(bytes(flash.read(0x10F0, 23)), bytes(flash.read(0, 2)))
        """,
        """
        [[device]]
        type = "flash"
        megabits = 32
        """,
    )
    assert done.stdout.splitlines()[1:] == ["""b"hello over a page's end" b'\\xff\\xff'"""]
    assert done.stdout.startswith("Winbond W25Q32")


def test_python_periphery(run_script: Run) -> None:
    done = run_script(
        """
        from periphery import SPI
        spi = SPI("/dev/spidev0.0", 0, 1000000)
        answer = spi.transfer([1, 0x80, 0])
        print((answer[1] & 3) << 8 | answer[2], spi.max_speed, spi.mode, spi.bits_per_word, spi.bit_order)
        spi.close()
        """,
        ADC,
    )
    assert done.stdout == "512 1000000 0 8 msb\n"


def test_luma_core(stage: Any) -> None:
    """A display whose picture goes over SPI: its bytes are those that luma was given."""
    stage.run(
        """
        from luma.core.interface.serial import spi
        serial = spi(port=0, device=0, bus_speed_hz=8000000, gpio_DC=24, gpio_RST=25)
        serial.command(0xAE, 0xA6)
        serial.data([1, 2, 3] * 2000)
        serial.cleanup()
        """,
        "",
        "--trace",
        "run.csv",
    )
    with open(stage.directory / "run.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "spi"]
    sent = bytes.fromhex("".join(row["value"].partition(" r ")[0].removeprefix("w ") for row in rows))
    assert {row["where"] for row in rows} == {"0.0"}
    assert sent == b"\xae\xa6" + b"\x01\x02\x03" * 2000


def test_circuitpython_mcp3xxx(run_script: Run) -> None:
    done = run_script(
        """
        import board, busio, digitalio
        import adafruit_mcp3xxx.mcp3008 as MCP
        from adafruit_mcp3xxx.analog_in import AnalogIn

        spi = busio.SPI(clock=board.SCK, MISO=board.MISO, MOSI=board.MOSI)
        mcp = MCP.MCP3008(spi, digitalio.DigitalInOut(board.D5))
        print(round(AnalogIn(mcp, MCP.P0).voltage, 2), AnalogIn(mcp, MCP.P1).value >> 6)
        """,
        ADC + "line = 5\n",
    )
    assert done.stdout == "1.65 155\n"


def test_circuitpython_max31855(run_script: Run) -> None:
    done = run_script(
        """
        import board, digitalio
        import adafruit_max31855
        sensor = adafruit_max31855.MAX31855(board.SPI(), digitalio.DigitalInOut(board.D5))
        print(sensor.temperature, sensor.reference_temperature)
        """,
        """
        [[device]]
        type = "max31855"
        line = 5
        temperature = 451.25
        internal = 22.5
        """,
    )
    assert done.stdout == "451.25 22.5\n"


def test_circuitpython_max31855_reports_a_broken_thermocouple(run_script: Run) -> None:
    done = run_script(
        """
        import board, digitalio
        import adafruit_max31855
        sensor = adafruit_max31855.MAX31855(board.SPI(), digitalio.DigitalInOut(board.D5))
        try:
            sensor.temperature
        except RuntimeError as error:
            print(error)
        """,
        """
        [[device]]
        type = "max31855"
        line = 5
        fault = "open"
        """,
    )
    assert done.stdout == "thermocouple not connected\n"
