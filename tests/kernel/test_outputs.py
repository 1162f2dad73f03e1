"""Outputs on the kernel's own GPIO: what they do by themselves, and the level at which each way out leaves them.

gpio-sim gives a line back to its pull when it is released, which here is the unsafe level. So what the guardian holds
is seen on the line itself, and what a program sets on its way out in the kernel's trace of GPIO events.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard

ROOT = Path(__file__).parents[2]
TRACING = Path("/sys/kernel/tracing")
LINE = 27
PROGRAM = """
import asyncio, sys, time
import hwloop
from hwloop import gpio

async def main():
    async with gpio.output(27, initial=1, safe=0):
        print("pumping", flush=True)
        if "stall" in sys.argv:
            time.sleep(600)
        await asyncio.sleep(600)

if __name__ == "__main__":
    hwloop.run(main())
"""
HWLOOP = ("-m", "hwloop")
Start = Callable[..., subprocess.Popen[str]]
Driven = Callable[[], list[int]]


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "pump.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture
def pump(chip: GpioSim, backend: str) -> GpioSim:
    """A chip whose line 27 goes to 1, the unsafe level, when nobody drives it."""
    chip.drive(LINE, 1)
    return chip


@pytest.fixture
def driven() -> Iterator[Driven]:
    """Traces what the kernel drives its lines to."""
    if not (TRACING / "events").is_dir():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=True)
    (TRACING / "trace").write_text("")
    (TRACING / "events/gpio/gpio_value/enable").write_text("1")

    def levels() -> list[int]:
        """Those that were driven so far, in their order; of all lines."""
        lines = (TRACING / "trace").read_text().splitlines()
        return [int(line.split()[-1]) for line in lines if " set " in line]

    yield levels
    (TRACING / "events/gpio/gpio_value/enable").write_text("0")


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(*arguments, **environment)`: Python with them, once it has begun to pump."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "pumping\n"
        return process

    yield start
    for process in started:
        process.kill()
        finish(process)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its status, and what it had to say."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_pulses_and_blinks_reach_the_line_in_their_order(chip: GpioSim, board: LinuxBoard, driven: Driven) -> None:
    async def main() -> None:
        async with gpio.output(LINE, active_low=True) as lamp:
            await lamp.pulse(0.01)
            await lamp.blink(0.3, 0.3, n=3)  # one that is late by more is left out
            lamp.schedule(asyncio.get_running_loop().time() + 0.01, 1)
            await asyncio.sleep(0.1)
            assert (lamp.value, chip.level(LINE)) == (1, 0)

    hwloop.run(main(), board=board)
    assert driven() == [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]  # electrically


def test_pwm_is_lgpios_and_ends_when_the_line_is_set(chip: GpioSim, board: LinuxBoard, backend: str) -> None:
    async def main() -> None:
        async with gpio.output(LINE) as lamp:
            if backend == "gpiod":
                with pytest.raises(
                    hwloop.HardwareError, match=r"this line has none, because gpiod drives it; use HWLOOP_GPIO=lgpio"
                ):
                    lamp.pwm(0.5)
                return
            for level in (1, 0):
                lamp.pwm(0.5, frequency=20)
                seen = set()
                give_up = time.monotonic() + 20
                while seen != {0, 1} and time.monotonic() < give_up:
                    await asyncio.sleep(0.005)
                    seen.add(chip.level(LINE))
                assert seen == {0, 1}
                lamp.set(level)
                await asyncio.sleep(0.2)
                assert chip.level(LINE) == level

    hwloop.run(main(), board=board)


@pytest.mark.parametrize("level", [0, 1])
def test_an_output_without_an_initial_level_keeps_the_one_that_the_line_has(
    chip: GpioSim, board: LinuxBoard, driven: Driven, level: int
) -> None:
    chip.drive(LINE, level)

    async def main() -> None:
        async with gpio.output(LINE, initial=None) as relay:
            assert (relay.value, chip.level(LINE)) == (level, level)
            relay.toggle()
            assert chip.level(LINE) == 1 - level

    hwloop.run(main(), board=board)
    assert driven() == [level, 1 - level]


@pytest.mark.parametrize("way", ["close", "exception", "cancellation"])
def test_an_output_that_is_closed_drives_its_safe_level_last(
    pump: GpioSim, board: LinuxBoard, driven: Driven, way: str
) -> None:
    async def main() -> None:
        async with gpio.output(LINE, initial=1, safe=0):
            if way == "exception":
                raise KeyError(way)
            if way == "cancellation":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(60)

    try:
        hwloop.run(main(), board=board)
    except (KeyError, asyncio.CancelledError):
        pass
    assert driven() == [1, 0]


def test_sigterm_ends_hwloop_run_at_the_safe_level(pump: GpioSim, driven: Driven, start: Start, program: str) -> None:
    process = start(*HWLOOP, "run", program)
    process.terminate()
    assert finish(process) == (-signal.SIGTERM, "")
    assert driven() == [1, 0]


def test_sigterm_ends_a_guarded_hwloop_run_as_it_does_without(
    pump: GpioSim, driven: Driven, start: Start, program: str
) -> None:
    guardian = start(*HWLOOP, "guard", "--", sys.executable, *HWLOOP, "run", program)
    guardian.terminate()
    assert finish(guardian) == (-signal.SIGTERM, "")
    assert driven() == [1, 0]


@pytest.mark.parametrize("way", ["SIGTERM", "SIGKILL", "stall"])
def test_the_guardian_of_a_program_that_is_killed_or_hangs_holds_the_safe_level(
    pump: GpioSim, driven: Driven, start: Start, program: str, way: str
) -> None:
    stall = "10" if way == "stall" else "60"  # longer than opening an output takes in a slow emulated machine
    guardian = start(*HWLOOP, "guard", "--stall", stall, "--", sys.executable, program, way)
    if way != "stall":
        (child,) = Path(f"/proc/{guardian.pid}/task/{guardian.pid}/children").read_text().split()
        os.kill(int(child), signal.Signals[way])
    give_up = time.monotonic() + 60
    while pump.level(LINE) == 1 and time.monotonic() < give_up:
        time.sleep(0.02)
    assert pump.level(LINE) == 0
    guardian.terminate()
    status, errors = finish(guardian)
    assert status == (-signal.SIGTERM if way == "SIGTERM" else 128 + signal.SIGKILL)
    assert "line 27 is at its safe level 0" in errors
    assert ("no sign of life for 10 s" in errors) == (way == "stall")
    assert (driven(), pump.level(LINE)) == ([1, 0], 1)  # held no longer, it is gpio-sim's again


def test_the_lines_of_a_killed_program_are_driven_after_it(
    pump: GpioSim, driven: Driven, start: Start, program: str, tmp_path: Path
) -> None:
    """As systemd does it: SIGABRT when the watchdog was not fed, then ExecStopPost=."""
    file = tmp_path / "outputs"
    process = start(program, "stall", HWLOOP_GUARD_FILE=str(file))
    process.send_signal(signal.SIGABRT)
    finish(process)
    assert (driven(), pump.level(LINE)) == ([1], 1)  # nobody has seen to it yet
    after = [sys.executable, *HWLOOP, "guard", "--after", str(file)]
    assert subprocess.run(after, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    assert driven() == [1, 0]
    assert not file.exists()
