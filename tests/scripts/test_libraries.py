"""Libraries that scripts import lead to the simulated board, whatever else is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

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


OLD = "raise ImportError('the old RPi.GPIO was imported')"


def test_another_rpi_gpio_before_it_in_the_path_is_passed_over(run_script: Run, tmp_path: Path) -> None:
    package = tmp_path / "RPi" / "GPIO"
    package.mkdir(parents=True)
    (tmp_path / "RPi" / "__init__.py").write_text("")
    (package / "__init__.py").write_text(OLD)
    done = run_script("import RPi.GPIO as GPIO\nfrom RPi import GPIO as again\nprint(GPIO.VERSION, again is GPIO)")
    assert done.stdout.split()[1] == "True"


def test_without_rpi_lgpio_the_error_says_how_to_install_it(run_script: Run) -> None:
    script = """
        import importlib.metadata
        def missing(name):
            raise importlib.metadata.PackageNotFoundError(name)
        importlib.metadata.distribution = missing
        import RPi.GPIO
        """
    assert "pip install --force-reinstall rpi-lgpio" in run_script(script, status=2).stderr


@pytest.mark.parametrize("name", ["pigpio", "picamera", "picamera2", "rpi_ws281x", "bluetooth", "bluedot", "wiringpi"])
def test_a_library_that_is_not_offered_says_so(run_script: Run, name: str) -> None:
    last = run_script(f"import {name}", status=2).stderr.splitlines()[-1]
    assert f": an import failed ({name} reaches " in last
    assert "simulated board" in last
