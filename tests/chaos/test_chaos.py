"""`make chaos`: a few schedules pass, always with the same counts, and a broken promise is found and repeated."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = "tests/chaos/run.py"


def chaos(*words: str, change: str = "") -> tuple[int, str]:
    """Run chaos in a process of its own, with a change of hwloop's code; return its status and what it prints."""
    code = f"import sys; sys.path.insert(0, 'tests/chaos'); import run\n{change}\nsys.exit(run.main({list(words)}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=300)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_a_few_schedules_pass_and_have_the_same_counts_each_time() -> None:
    results = [chaos("--schedules", "2", "--seed", seed, change="run.SECONDS = 1.0") for seed in ("1", "1", "2")]
    assert [status for status, _ in results] == [0, 0, 0]
    counts = [out.partition("passed:")[0] for _, out in results]
    assert counts[0] == counts[1] != counts[2]
    assert re.search(r"^  door delivered +\d+$", counts[0], re.M)


MORE = """
from firmware_sim.faults.i2c import I2cNack
begin, kept = I2cNack.begin, []
def more(fault, board, chance):
    for loop in board.loops():
        loop.call_soon_threadsafe(act, loop)
    return begin(fault, board, chance)
I2cNack.begin = more
"""
NACK = "i2c-nack after=0.5 duration=0.01 bus=1 address=0x76"
BROKEN = [
    (
        "from hwloop.sources.source import Source; Source.count_lost = lambda source, count: None",
        "kernel-overflow after=0.1 duration=0.8 events=4",
        r"door: \d+ lost and \d+ dropped; events say \d+, and \d+ are owed",
    ),
    (f"import os{MORE}def act(loop): kept.append(os.pipe())", NACK, r"left behind: descriptor \d+ \(pipe:"),
    (f"import asyncio{MORE}def act(loop): kept.append(loop.create_task(asyncio.sleep(99)))", NACK, r"task left: "),
    (f"{MORE}def act(loop): 1 / 0", NACK, r"reported: .*ZeroDivisionError"),
    (f"{MORE}def act(loop):\n    while True: pass", NACK, r"the run has not ended after 1 s of processor time"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "fault", "message"), BROKEN)
def test_a_broken_promise_is_found(change: str, fault: str, message: str) -> None:
    short = "\nrun.SECONDS, run.SETTLE, run.MOST_CPU = 1.0, 0.5, 1.0"
    status, out = chaos("--schedule", f"seed=0; {fault}", change=change + short)
    assert status == 1
    assert re.search(f"^FAILED: (Broken|Hung): .*{message}", out, re.M), out


@pytest.mark.slow
def test_the_smallest_schedule_is_shown_with_the_line_that_repeats_it() -> None:
    change = f"{MORE}def act(loop): 1 / 0\nrun.SECONDS, run.SETTLE = 0.5, 0.1"
    status, out = chaos("--schedules", "60", change=change)
    assert status == 1
    assert re.search(r"^the smallest schedule that was found, in \d+ runs:\n  i2c-nack after=0.0\d* ", out, re.M), out
    command = re.search(rf"to run it again: python {RUN} (--schedule .*)", out)
    assert command is not None
    again = chaos(*shlex.split(command[1]), change=change)
    assert again[0] == 1
    assert next(line for line in again[1].splitlines() if line.startswith("FAILED: ")) in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--schedules", "0"], "--schedules is a number from 1 on"),
        (["--schedule", "stuck"], "--schedule: a schedule begins with its seed"),
    ],
)
def test_a_wrong_call_says_what_would_be_right(words: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, RUN, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.slow
def test_events_that_are_still_queued_when_the_station_fails_are_accounted_for() -> None:
    status, out = chaos(
        "--schedule", "seed=0; blocked-loop after=0.001 seconds=0.2; chip-vanishes after=0.131 duration=0.01"
    )
    assert status == 0, out
