"""Faults of the program: a callback that blocks its loop, signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.errors import FaultError
from hwloop import gpio


def run(board: SimBoard, main: object) -> None:
    hwloop.run(main, board=board, clock=board.clock)  # type: ignore[arg-type]


def test_a_blocked_loop_delivers_late_what_happened_meanwhile(board: SimBoard) -> None:
    late: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with gpio.watch(17) as watch:
            board.faults.inject("blocked-loop", seconds=0.5, after=1)
            board.timeline.after(1.1, board["door"].press)
            edge = await anext(watch)
            late.append((edge.received_ns - edge.timestamp_ns) / 1e9)
            late.append(loop.time() - edge.timestamp_ns / 1e9)

    run(board, main())
    assert late == [pytest.approx(0.4), pytest.approx(0.4)]


def test_a_blocked_loop_in_real_time() -> None:
    with SimBoard() as board:

        async def main() -> None:
            async with gpio.watch(17) as watch:
                board.faults.inject("blocked-loop", seconds=0.05)
                await asyncio.sleep(0)
                board.line(17).drive(1)
                edge = await anext(watch)
                assert edge.received_ns - began_ns >= 50_000_000

        began_ns = board.clock.now_ns()
        hwloop.run(main(), board=board)


def test_a_loop_that_is_closed_is_left_alone(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.watch(17):
            pass

    run(board, main())
    board.faults.inject("blocked-loop")


def test_a_signal_reaches_the_handler_of_the_program(board: SimBoard) -> None:
    async def main() -> None:
        caught = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caught.set)
        board.faults.inject("program-signal", after=1)
        await caught.wait()

    run(board, main())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGHUP"])
def test_a_signal_does_not_end_a_process_that_is_not_the_programs_own(board: SimBoard, name: str) -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(FaultError, match=f"{name} would end this process, which is not the program's own"):
        board.faults.inject("program-signal", signal=name)


INJECTION = 'board.current().faults.inject("program-signal", signal=sys.argv[1], after=5)'
PROGRAM = f"""
import asyncio, sys
from hwloop import board, gpio

async def main():
    with gpio.output(27, safe=0) as relay:
        relay.set(1)
        {INJECTION}
        try:
            await asyncio.sleep(60)
        finally:
            print("cleaning up", flush=True)
"""


def test_a_scenario_ends_a_program_with_a_signal(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM.replace(INJECTION, ""))
    (tmp_path / "ended.toml").write_text(
        """
        steps = [
          { after = "3s", fault = "program-signal" },
          { expect_output = "cleaning up", within = "1s" },
        ]
        """
    )
    done = subprocess.run(
        [sys.executable, "-m", "hwloop", "sim", "program.py", "--scenario", "ended.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "passed: 2 steps, 1 expectation, 3 s of virtual time" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status", "level"), [("SIGTERM", -15, 0), ("SIGKILL", -9, 1)])
def test_a_signal_ends_a_program_under_hwloop_run(tmp_path: Path, name: str, status: int, level: int) -> None:
    """SIGKILL leaves the output as it is, for which `hwloop guard` is there."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    lines = tmp_path / "lines"
    done = subprocess.run(
        [sys.executable, "-m", "hwloop", "run", "--board", "sim", "--clock", "virtual", str(program), "--", name],
        env={"PATH": "/usr/bin:/bin", "HWLOOP_SIM_LINES": str(lines)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "" if level else "cleaning up\n"), done.stderr
    with contextlib.closing(SimBoard(lines=str(lines))) as board:
        assert board.line(27).level == level
