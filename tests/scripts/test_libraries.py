"""Libraries that scripts import lead to the simulated board, whatever else is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.kind("libraries")
Run = Callable[..., subprocess.CompletedProcess[str]]


def test_rpi_gpio_is_rpi_lgpio(run_script: Run) -> None:
    done = run_script(
        """
        import RPi.GPIO as GPIO
        GPIO.setmode(GPIO.BCM)
        GPIO.setup(27, GPIO.OUT)
        GPIO.setup(22, GPIO.IN)
        GPIO.output(27, GPIO.HIGH)
        print(GPIO.input(22))
        GPIO.cleanup()
        """,
        """
        [[device]]
        type = "wire"
        lines = [27, 22]
        """,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
