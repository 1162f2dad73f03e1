"""lgpio's 18 example programs, unmodified, with the parts that they are written for: each behaves as on the Pi.

`errors.py` is compared with the real library in `test_lgpio`. A program that only prints is looked at when it has
ended; `hwloop sim` plays the others with steps of a scenario file. Where a program fails on the Pi too, it fails here
in the same way: `rotary_encoder` calls `lgpio.stop()`, which only rgpio has, `sonar_ranger` frees lines of the chip's
number instead of its handle, and `testbed` opens "serial0", which it finds in /dev only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.kind("lgpio examples")
Run = Callable[..., subprocess.CompletedProcess[str]]
Source = Callable[[str], Path]

PRINTS: dict[str, tuple[str, str, int, str]] = {
    "bench": ("real", "", 1, r"\d+ toggles per second"),
    "chipline": ("real", "", 55, "offset=53 flags=65536 name=GPIO53 user="),
    "lg_ads1x15": ("virtual", 'type = "ads1015"\ninputs = [1.5]', 590, r"1\.5"),
    "lg_mcp3008": ("virtual", 'type = "mcp3008"\nselect = 1\ninputs = [1.65]', 590, "512"),
    "lg_mcp3202": ("virtual", 'type = "mcp3202"\nselect = 1\ninputs = [1.65]', 590, "2048"),
    "motor_sync": ("virtual", "", 2, "finished"),
    "tx_pulse": ("virtual", "", 1, r"120 cycles at 40 Hz took 3\..*"),
    "tx_wave": ("virtual", "", 1, r"500 pulses took 13\.0 seconds \(exp=13\.0\)"),
}
"""For each: the clock, the part, the number of lines that it prints at least, and the last one."""

TESTBED = """type = "mcp4131"
adc = "adc"

[[device]]
type = "mcp3008"
name = "adc"
line = 25

[[device]]
type = "lgpio_parts:Nano"
"""
BEHAVE: dict[str, tuple[str, str, list[object]]] = {
    "28BYJ_48": (
        "20 21 22 23",
        'type = "28byj-48"\nname = "motor"\nlines = [20, 21, 22, 23]',
        [
            {"expect": "motor.angle", "below": -359.5},
            {"expect": "motor.angle", "above": -0.5},
            {"expect": "motor.lost_steps", "equals": 0},
        ],
    ),
    "DHT": (
        "4",
        'type = "dht22"\nname = "air"\nline = 4\ntemperature = 21.5\nhumidity = 40',
        [
            {"expect_output": r"\d+\.\d+ g= 4 s=0 t=21.5 rh=40.0", "regex": True},
            {"set": "air.temperature", "to": -5.5},
            {"expect_output": r"\d+\.\d+ g= 4 s=0 t=-5.5 rh=40.0", "regex": True},
            {"set": "air.bad_checksums", "to": 1},
            {"expect_output": r"\d+\.\d+ g= 4 s=1 .*", "regex": True},
        ],
    ),
    "NRF24": (
        "",
        'type = "lgpio_parts:Radio"\nname = "radio"',
        [
            {"expect_output": "CONFIG: RX_DR IRQ, TX_DS IRQ, MAX_RT IRQ, CRC on, CRC 2 byte, Power up, RX"},
            {"call": "radio.hear", "arguments": ["hello"]},
            {"expect_output": r"L3\.\d+< bytearray\(b'hello'\)", "regex": True},
        ],
    ),
    "lg_mcp4131": (
        "",
        'type = "mcp4131"\nname = "pot"',
        [
            {"expect": "pot.wiper0", "equals": 3},
            {"expect": "pot.wiper0", "equals": 128},
        ],
    ),
    "lg_mcp4251": (
        "",
        'type = "mcp4251"\nname = "pot"',
        [
            {"expect": "pot.wiper1", "equals": 250},
        ],
    ),
    "monitor": (
        "0:23 24",
        'type = "wire"\nlines = [23, 24]',
        [
            {"expect_output": "chip=0 gpio=24"},
            {"set": "line 23", "to": 1},
            {"expect_output": r"chip=0 gpio=23 level=1 time=\d+\.\d{9}", "regex": True},
            {"expect_output": r"chip=0 gpio=24 level=1 time=\d+\.\d{9}", "regex": True},
            {"set": "line 23", "to": 0},
            {"expect_output": r"chip=0 gpio=23 level=0 time=\d+\.\d{9}", "regex": True},
        ],
    ),
    "rotary_encoder": (
        "8 7",
        'type = "rotary-encoder"\nname = "knob"\na = 7\nb = 8',
        [
            {"wait": "1s"},
            {"call": "knob.turn", "arguments": [3]},
            {"expect_output": "pos=3"},
            {"call": "knob.turn", "arguments": [-2]},
            {"expect_output": "pos=1"},
        ],
    ),
    "sonar_ranger": (
        "24 25",
        'type = "hc-sr04"\nname = "eye"\ntrigger = 24\necho = 25\ndistance = 0.5',
        [
            {"expect_output": r"cms=(49|50)\.\d", "regex": True},
            {"set": "eye.distance", "to": 1.0},
            {"expect_output": r"cms=(99|100)\.\d", "regex": True},
        ],
    ),
    "testbed": (
        "",
        TESTBED,
        [
            {"expect_output": "ADC0=   0 pot=0"},
            {"expect_output": "bytearray(b'I2C: Hello world!')"},
            {"expect_output": r"bytearray(b'0random chars\n9')"},
            {"expect_output": r"bytearray(b'SPI: A message to SPI\n')"},
            {"expect_output": "ADC0= 160 pot=20"},
        ],
    ),
}
"""For each: its arguments, its parts, and the steps of its scenario."""

FAIL_WHEN_THEY_END = {"sonar_ranger": "lgpio.error: 'unknown handle'"}
"""The last lines of programs that fail when they are interrupted, on the Pi too."""


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_its_hardware_does(run_script: Run, source: Source, name: str) -> None:
    clock, part, least, last = PRINTS[name]
    done = run_script(source("lgpio-examples") / f"{name}.py", f"[[device]]\n{part}" if part else "", "--clock", clock)
    lines = done.stdout.splitlines()
    assert len(lines) >= least
    assert re.fullmatch(last, lines[-1])


@pytest.mark.parametrize("name", BEHAVE)
def test_an_example_behaves(source: Source, name: str, tmp_path: Path) -> None:
    arguments, parts, steps = BEHAVE[name]
    shutil.copy(Path(__file__).with_name("lgpio_parts.py"), tmp_path)
    (tmp_path / "board.toml").write_text(f"[[device]]\n{parts}\n")
    lines = ",\n  ".join(inline(step) for step in steps)
    (tmp_path / "steps.toml").write_text(f'within = "100s"\nsteps = [\n  {lines},\n]\n')
    command = [sys.executable, "-m", "hwloop", "sim", str(source("lgpio-examples") / f"{name}.py")]
    command += ["--scenario", str(tmp_path / "steps.toml"), "--board", str(tmp_path / "board.toml")]
    done = subprocess.run(
        [*command, "--", *arguments.split()],
        cwd="/dev" if name == "testbed" else tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    if name in FAIL_WHEN_THEY_END:
        assert "FAILED: the program failed, with exit status 1" in done.stdout
        assert done.stderr.splitlines()[-1] == FAIL_WHEN_THEY_END[name]
    else:
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def inline(step: object) -> str:
    """Return a step as an inline table of TOML."""
    assert isinstance(step, dict)
    return f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in step.items())} }}"


def test_the_encoder_ends_as_with_the_real_library(run_script: Run, source: Source) -> None:
    program = source("lgpio-examples") / "rotary_encoder.py"
    done = run_script(program, "", "--clock", "virtual", "--", "7", "8", status=1)
    assert done.stderr.splitlines()[-1].startswith("AttributeError: module 'lgpio' has no ")
    assert "'stop'" in done.stderr.splitlines()[-1]


def test_every_example_is_in_one_of_the_tables(source: Source) -> None:
    there = {path.stem for path in source("lgpio-examples").glob("*.py")}
    assert there == {*PRINTS, *BEHAVE, "errors"}
    assert len(there) == len(PRINTS) + len(BEHAVE) + 1
