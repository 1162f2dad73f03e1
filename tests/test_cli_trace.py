"""`hwloop run --trace`: the trace of a program's run, in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard
from hwloop.cli import UsageError, trace_file

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
BLINK = """
    import asyncio, os, signal, sys
    from hwloop import gpio
    async def main():
        async with gpio.output(27, safe=0) as lamp:
            lamp.set(1)
            await asyncio.sleep(1)
            lamp.set(0)
            lamp.set(1)
    """


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run(source, *options)` runs a program with a trace in virtual time, in a directory of its own."""

    def run(source: str, *options: str, trace: str = "run.csv", board: str = "board.toml") -> Any:
        (tmp_path / "program.py").write_text(textwrap.dedent(source), encoding="utf-8")
        wiring = '[[device]]\ntype = "led"\nname = "lamp"\nline = 27\n'
        (tmp_path / "board.toml").write_text(wiring, encoding="utf-8")
        command = [sys.executable, "-m", "hwloop", "run", "program.py", "--board", board, "--trace", trace, *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def rows(path: Path) -> list[tuple[str, str, str]]:
    """Return the time after the first event, the line and name, and the level of each row of a table."""
    table = [row.split(",") for row in path.read_text().splitlines()[1:]]
    first = float(table[0][0])
    return [(f"{float(row[0]) - first:.3f}", f"{row[2]} {row[3]}", row[4]) for row in table]


LEVELS = [("0.000", "27 lamp", "1"), ("1.000", "27 lamp", "0"), ("1.000", "27 lamp", "1")]
SAFE = [("1.000", "27 lamp", "0")]


def test_the_trace_has_all_events_to_the_end_with_the_names_of_the_board_file(run: Run, tmp_path: Path) -> None:
    """One file, where it was asked for, even if the program changes its directory and a forked child ends in order."""
    source = textwrap.dedent(BLINK) + "        os.chdir('/')\n        pid = os.fork()\n        if not pid: sys.exit()\n"
    done = run(source + "        os.waitpid(pid, 0)\n", "--clock", "virtual")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(tmp_path / "run.csv") == LEVELS + SAFE
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("1 / 0", 1),
        ("os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(1)", -signal.SIGTERM),
    ],
)
def test_it_is_written_however_the_program_ends(run: Run, tmp_path: Path, last: str, status: int) -> None:
    done = run(textwrap.dedent(BLINK) + f"        {last}\n", "--clock", "virtual")
    assert done.returncode == status
    assert rows(tmp_path / "run.csv") == LEVELS + SAFE


def test_a_script_without_a_loop_is_traced(run: Run, tmp_path: Path) -> None:
    script = """
        import lgpio
        handle = lgpio.gpiochip_open(0)
        lgpio.gpio_claim_output(handle, 27, 1)
        lgpio.gpio_write(handle, 27, 0)
        """
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row[1:] for row in rows(tmp_path / "run.csv")] == [("27 lamp", "1"), ("27 lamp", "0")]


def test_a_vcd_is_written_beside_a_recorder(run: Run, tmp_path: Path) -> None:
    done = run(BLINK, "--clock", "virtual", "--recorder", "flight.ring,1M", trace="run.vcd")
    assert (done.returncode, done.stderr) == (0, "")
    assert "line27_lamp" in (tmp_path / "run.vcd").read_text()
    assert (tmp_path / "flight.ring").exists()


def test_a_wrong_file_is_an_error_before_the_program_begins(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--trace: run.wav: no format of traces has the suffix '.wav'; use .vcd, .csv"
    ):
        trace_file.TraceFile("run.wav")
    with pytest.raises(UsageError, match=r"--trace .*nowhere/run.vcd: there is no directory .*; create it first"):
        trace_file.TraceFile(str(tmp_path / "nowhere" / "run.vcd"))


def test_an_empty_trace_or_one_that_can_not_be_written_is_reported(tmp_path: Path, capsys: Any) -> None:
    path = str(tmp_path / "run.csv")
    file = trace_file.TraceFile(path)
    file.write()
    with SimBoard() as board:
        file.attach(board)
        file.write()
    os.remove(path)
    os.mkdir(path)
    file.write()
    assert capsys.readouterr().err.splitlines() == [
        f"hwloop run: {path}: empty, because the program has not used a board",
        f"hwloop run: {path}: empty, because nothing has happened on the lines, ports and buses of the board",
        f"hwloop run: {path}: the trace could not be written: Is a directory",
    ]


def test_a_forked_child_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = trace_file.TraceFile(str(tmp_path / "run.csv"))
    monkeypatch.setattr(os, "getpid", lambda: -1)
    file.write()
    assert not list(tmp_path.iterdir())


def test_a_long_run_keeps_its_last_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(trace_file, "KEPT", 3)
    file = trace_file.TraceFile(str(tmp_path / "run.csv"))
    with SimBoard() as board, SimBoard() as other:
        for each in (board, board, other):
            file.attach(each)
        for number in range(10):
            board.line(17).drive(number % 2)
    file.write()
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 4
    assert capsys.readouterr().err.splitlines() == [
        f"hwloop run: {tmp_path}/run.csv: it has the events of simulated board, and not those of simulated board",
        f"hwloop run: {tmp_path}/run.csv: has the last 3 events; earlier ones were left out",
    ]
