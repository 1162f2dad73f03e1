"""The main job's program, as it stands, on a kernel's GPIO lines, I2C bus and terminal."""

from __future__ import annotations

import os
import pty
import re
import selectors
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim
from wires import linked, stub_bus

from firmware_sim import bosch
from firmware_sim.devices import bme280

ROOT = Path(__file__).parents[2]
DOOR, LAMP, SENSOR = 17, 27, 0x76
RAW_TEMPERATURE, RAW_PRESSURE, RAW_HUMIDITY = 519888, 415148, 30000
SENTENCE = b"$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76"


@pytest.fixture
def sensor() -> Iterator[None]:
    """Bus 1, and on it i2c-stub with the registers of a BME280, which always measures the same."""
    calibration, humidity_calibration = bme280.CALIBRATION.registers()
    data = (RAW_PRESSURE << 4).to_bytes(3) + (RAW_TEMPERATURE << 4).to_bytes(3) + RAW_HUMIDITY.to_bytes(2)
    with stub_bus(SENSOR) as write:
        for first, values in {0x88: calibration, 0xD0: b"\x60", 0xE1: humidity_calibration, 0xF7: data}.items():
            write(first, values)
        yield


@pytest.fixture
def receiver() -> Iterator[int]:
    """The far end of /dev/ttyAMA0."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with linked("/dev/ttyAMA0", os.ttyname(theirs)):
        yield ours
    os.close(ours)
    os.close(theirs)


class Station:
    """The program in its own process, and the text that it has printed so far."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "hwloop", "run", "examples/weather_station.py"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.printed = ""

    def await_line(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """Wait until the program has printed text of this form since the last call."""
        assert self.process.stdout is not None
        give_up = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not (found := re.search(pattern, self.printed)):
                assert time.monotonic() < give_up, f"no {pattern!r} in {self.printed!r}"
                assert self.process.poll() is None, self.process.communicate()[1].decode()
                if selector.select(1):
                    self.printed += (self.process.stdout.read() or b"").decode()
        self.printed = self.printed[found.end() :]
        return found


def test_the_weather_station_runs_as_it_stands(chip: GpioSim, backend: str, sensor: None, receiver: int) -> None:
    station = Station()
    try:
        station.await_line("climate ")
        assert chip.level(DOOR) == 1  # pulled up, as the program asks
        for level in (0, 1, 0, 1):
            chip.drive(DOOR, level)
            station.await_line(rf"door +Edge\(line={DOOR}, value={level}, .*lost=0\)")
            assert chip.level(LAMP) == level
        os.write(receiver, SENTENCE + b"\r\n")
        assert SENTENCE.decode() in station.await_line(r"position +.*\n")[0]
        fine = bosch.fine_temperature(RAW_TEMPERATURE)
        expected = (fine / 5120, bme280.percent(RAW_HUMIDITY, fine), bosch.pascal(RAW_PRESSURE, fine) / 100)
        reading = station.await_line(r"temperature=(\S+), humidity=(\S+), pressure=([\d.]+)")
        assert tuple(map(float, reading.groups())) == pytest.approx(expected)

        station.process.send_signal(signal.SIGTERM)
        _, complaints = station.process.communicate(timeout=30)
        assert (station.process.returncode, complaints) == (-signal.SIGTERM, b"")
        assert chip.level(LAMP) == 0
    finally:
        station.process.kill()
        station.process.communicate()
