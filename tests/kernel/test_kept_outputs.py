"""Outputs that outlive their program on the kernel's own GPIO: its trace witnesses that no level changes in between.

gpio-sim gives a line back to its pull when it is released, which here is the opposite of the level that is kept.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpio_sim import GpioSim
from gpio_trace import GpioTrace

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard

ROOT = Path(__file__).parents[2]
GUARD = [sys.executable, "-m", "hwloop", "guard"]

PROGRAMS = """
# Each line of the input is a program: the settings of its output, what it does with that, and how it ends.
import asyncio, gc, os, signal, sys
import hwloop
from hwloop import gpio
from hwloop.boards import kernel_output, linux
from hwloop.service import guard

async def main(settings, step):
    async with gpio.output(**{"keep": True, "safe": 0, **settings}) as pump:
        step(pump)
        if "closed" in end:
            print("closed", flush=True)
            return
        print(pump.value, pump.adopted, pump.kept, flush=True)
        if "wait" in end:
            await asyncio.to_thread(sys.stdin.readline)
        if "kill" in end:
            os.kill(os.getpid(), signal.SIGKILL)

linux.load_gpiod()
gc.freeze()  # a collection in a child would copy all pages
for line in sys.stdin:
    settings, step, end = eval(line)
    child = os.fork()
    if not child:
        try:
            hwloop.run(main(settings, eval("lambda pump: " + step)))
        except hwloop.HardwareError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


class Programs:
    """Starts programs one after the other, each a fork of a process that has imported everything."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAMS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HWLOOP_GUARD_SOCKET": str(path), **environment},
        )

    def begin(self, step: str = "None", *, how: str = "", **settings: Any) -> str:
        """Run a program; return what it prints: the level, whether it was taken over, whether it is kept."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{(settings, step, how)!r}\n")
        self.process.stdin.flush()
        return self.heard()

    def run(self, step: str = "None", *, how: str = "", **settings: Any) -> str:
        said = self.begin(step, how=how, **settings)
        assert self.heard() == "ended"
        return said

    def go_on(self) -> None:
        """Let a program that waits go on to its end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.heard() == "ended"

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def pump(chip: GpioSim, monkeypatch: pytest.MonkeyPatch) -> GpioSim:
    """A chip whose lines are at 0 when nobody drives them."""
    monkeypatch.setenv("HWLOOP_GPIO", "gpiod")
    return chip


@pytest.fixture
def trace() -> Iterator[GpioTrace]:
    trace = GpioTrace()
    yield trace
    trace.close()


def start_guardian(path: Path) -> subprocess.Popen[str]:
    """Start a guardian that listens at a path."""
    guardian = subprocess.Popen(
        [*GUARD, "--listen", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_for(lambda: listens(path))
    return guardian


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard") / "socket"


@pytest.fixture(scope="module")
def guardians(path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """The guardians that were started. The last one listens."""
    guardians = [start_guardian(path)]
    yield guardians
    for guardian in guardians:
        if guardian.returncode is None:
            guardian.kill()
            guardian.communicate(timeout=60)


@pytest.fixture(scope="module")
def programs(path: Path, guardians: object) -> Iterator[Programs]:
    programs = Programs(path, HWLOOP_GUARD_STALL="0.6")
    yield programs
    programs.process.communicate(timeout=60)


def wait_for(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> str:
    """End a guardian as systemd does, and return what it had to say."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def test_a_hundred_restarts_and_twenty_kills_change_no_level(
    pump: GpioSim, trace: GpioTrace, programs: Programs
) -> None:
    assert programs.run("pump.on()", line=22) == "1 False True"
    trace.clear()
    for number in range(120):
        assert programs.run(line=22, how="kill" if number % 6 == 5 else "") == "1 True True", number
        assert pump.level(22) == 1
    assert trace.changes() == []
    elsewhere = r"in use by another process \(which calls itself 'gpio:22'\)"
    with LinuxBoard() as board, hwloop.board.using(board), pytest.raises(hwloop.HardwareError, match=elsewhere):
        gpio.output(22).open()
    assert programs.run("(pump.off(), pump.on(), pump.off(), pump.on())", line=22) == "1 True True"
    assert trace.changes() == ["set 0", "set 1", "set 0", "set 1"]
    assert programs.run("pump.close(keep=False)", line=22, how="closed") == "closed"
    assert trace.changes()[4:] == ["set 0"]


def test_a_program_that_comes_too_late_begins_anew_without_a_release(
    pump: GpioSim, trace: GpioTrace, programs: Programs
) -> None:
    pump.drive(23, 1)  # the level of a line that nobody drives
    assert programs.run("pump.on()", line=23, within=0.3) == "1 False True"
    wait_for(lambda: pump.level(23) == 0)
    assert trace.changes()[-2:] == ["set 1", "set 0"]
    trace.clear()
    assert programs.run(line=23, initial=1) == "1 False True"
    assert trace.changes() == ["set 1"]


def test_a_kept_line_changes_its_settings_in_one_step(pump: GpioSim, trace: GpioTrace, programs: Programs) -> None:
    assert programs.run("pump.on()", line=24) == "1 False True"
    trace.clear()
    assert programs.run(line="GPIO24", active_low=True, initial=None, safe=1) == "0 True True"
    assert (trace.changes(), pump.level(24)) == (["set 1", "out"], 1)  # as they were
    assert programs.run("pump.off()", line=24, drive="open-drain") == "0 True True"
    assert pump.level(24) == 0
    trace.clear()
    programs.run("pump.on()", line=24, drive="open-drain")
    assert trace.changes()[-1:] == ["in"]  # it lets go; gpio-sim's line stays where it was then


def test_a_guardian_may_be_killed_while_the_program_runs(
    pump: GpioSim, trace: GpioTrace, programs: Programs, path: Path, guardians: list[subprocess.Popen[str]]
) -> None:
    assert programs.begin("pump.on()", line=25, how="wait kill") == "1 False True"
    trace.clear()
    guardians[-1].kill()
    guardians[-1].communicate(timeout=60)
    guardians.append(start_guardian(path))
    time.sleep(6)  # the loop looks for a guardian every 0.2 s
    programs.go_on()
    assert programs.run(line=25) == "1 True True"
    assert (trace.changes(), pump.level(25)) == ([], 1)
    assert end(guardians[-1]).endswith("hwloop guard: line 25 is at its safe level 0\n")
    assert trace.changes() == ["set 0"]


PUMP = """
import os, signal, sys
import hwloop
from hwloop import gpio

async def main():
    async with gpio.output(27, keep=True, safe=0) as pump:
        print(pump.value, pump.adopted, flush=True)
        pump.on()
        if "killed" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_whole_programs_under_a_guardian_end_at_the_safe_level_with_their_supervisor(
    pump: GpioSim, trace: GpioTrace, tmp_path: Path
) -> None:
    program = tmp_path / "pump.py"
    program.write_text(PUMP)
    run = f"{sys.executable} -m hwloop run {program}"
    other = "gpiod" if importlib.util.find_spec("lgpio") is None else "lgpio"  # the line is the same through both
    done = subprocess.run(
        [*GUARD, "--hold", "0", "--", "sh", "-c", f"{run}; HWLOOP_GPIO={other} {run} -- killed; {run}"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines() == ["0 False", "1 True", "1 True"]
    assert done.stderr.endswith("hwloop guard: line 27 is at its safe level 0\n")
    assert trace.changes() == ["set 0", "out", *["set 1"] * 3, "set 0"]
