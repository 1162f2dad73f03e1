"""Drivers from PyPI read right values from the simulated parts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.kind("drivers")
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_rpi_bme280(run_script: Run) -> None:
    done = run_script(
        """
        import bme280, smbus2
        bus = smbus2.SMBus(1)
        parameters = bme280.load_calibration_params(bus, 0x76)
        reading = bme280.sample(bus, 0x76, parameters)
        print(round(reading.temperature, 1), round(reading.pressure), round(reading.humidity))
        """,
        """
        [[device]]
        type = "bme280"
        bus = 1
        address = 0x76
        temperature = 21.5
        pressure = 1008.0
        humidity = 45.0
        temperature_swing = 0.0
        humidity_swing = 0.0
        pressure_swing = 0.0
        """,
    )
    assert done.stdout == "21.5 1008 45\n"
