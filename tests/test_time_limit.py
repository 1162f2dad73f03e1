"""Runs in virtual time that would never end: the limits, and the errors that say where the program waits."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim.board import SimBoard
from hwloop import gpio
from hwloop.virtual import time_limit as timelimit

ROOT = Path(__file__).parents[1]
Main = Callable[[SimBoard], Coroutine[Any, Any, Any]]

BUSY = {"device": [{"type": "button", "line": 17, "press_every": 1.0}]}


@pytest.fixture(autouse=True)
def no_limit_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWLOOP_LIMIT", raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stall end after ten minutes of virtual time, on any machine."""
    monkeypatch.setattr(timelimit, "STALL_SECONDS", 600.0)
    monkeypatch.setattr(timelimit, "STALL_CPU_SECONDS", math.inf)


def play(wiring: Mapping[str, object] | None, main: Main, limit: float | None = None) -> Any:
    clock = hwloop.VirtualClock()
    with SimBoard(wiring, clock=clock) as board:
        return hwloop.run(main(board), board=board, clock=clock, limit=limit)


async def _wait_for_line_5(board: SimBoard) -> int:
    async with gpio.watch(5, pull="up") as line:
        return (await anext(line)).timestamp_ns


# Waits that never end.


@pytest.mark.usefixtures("impatient")
def test_a_wait_on_a_board_that_only_repeats_itself_fails_and_says_where() -> None:
    with pytest.raises(hwloop.TimeLimitError) as caught:
        play(BUSY, _wait_for_line_5)
    text = str(caught.value)
    assert isinstance(caught.value, hwloop.DeadlockError)
    assert "only the simulated board has moved" in text
    assert "HWLOOP_LIMIT" in text
    line = _wait_for_line_5.__code__.co_firstlineno + 2
    assert f"{__file__}:{line} in _wait_for_line_5" in text


def test_a_stall_ends_after_some_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelimit, "STALL_CPU_SECONDS", 0.1)
    with pytest.raises(hwloop.TimeLimitError) as caught:
        play(BUSY, _wait_for_line_5)
    assert "0.1 s of processor time" in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_a_thing_planned_long_ago_may_be_waited_for_on_a_busy_board() -> None:
    async def main(board: SimBoard) -> int:
        board.timeline.after(3600, lambda: board.chip.line(5).drive(0))
        return await _wait_for_line_5(board)

    assert play(BUSY, main) == 3601 * 10**9


@pytest.mark.usefixtures("impatient")
def test_a_timer_may_be_waited_for_on_a_busy_board() -> None:
    async def main(board: SimBoard) -> float:
        await asyncio.sleep(86400)
        return asyncio.get_running_loop().time()

    assert play({"device": [{"type": "button", "line": 17, "press_every": 60.0}]}, main) == 86401


@pytest.mark.usefixtures("impatient")
def test_a_program_that_the_board_reaches_now_and_then_may_run_for_days() -> None:
    async def main(board: SimBoard) -> int:
        async with gpio.watch(17, pull="up") as button:
            for _ in range(48):
                edge = await anext(button)
        return edge.timestamp_ns

    assert play({"device": [{"type": "button", "line": 17, "press_every": 3600.0}]}, main) > 86400 * 10**9


@pytest.mark.usefixtures("impatient")
def test_the_loops_own_thread_that_waits_on_a_busy_board_fails_too() -> None:
    async def main(board: SimBoard) -> None:
        condition = board.clock.condition()
        with condition:
            condition.wait()

    with pytest.raises(hwloop.TimeLimitError, match="the loop's own thread"):
        play(BUSY, main)


@pytest.mark.usefixtures("impatient")
def test_a_stalled_program_can_clean_up() -> None:
    cleaned = []

    async def main(board: SimBoard) -> None:
        try:
            await _wait_for_line_5(board)
        finally:
            await asyncio.sleep(5)
            cleaned.append(True)

    with pytest.raises(hwloop.TimeLimitError):
        play(BUSY, main)
    assert cleaned


# Limits that the program gives.


async def _tick(board: SimBoard) -> None:
    while True:
        await asyncio.sleep(1)


def test_a_limit_ends_a_program_that_goes_on() -> None:
    with pytest.raises(hwloop.TimeLimitError) as caught:
        play(None, _tick, 60)
    assert "the limit of 60 s of virtual time has passed" in str(caught.value)
    assert "(virtual time" not in str(
        caught.value
    )  # the time of the clock, which begins at 1 s, would contradict the limit
    assert f"{__file__}:{_tick.__code__.co_firstlineno + 2} in _tick" in str(caught.value)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_run_ends_at_its_limit_and_not_at_the_last_event_before_it(blocked: bool) -> None:
    times = []

    async def main(board: SimBoard) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await asyncio.sleep(3)
            if blocked:
                loop.clock.sleep(1000)  # type: ignore[attr-defined]
            await asyncio.sleep(1000)
        finally:
            times.append(loop.time() - began)

    with pytest.raises(hwloop.TimeLimitError):
        play(None, main, 5)
    assert times == [5.0]


def test_an_event_at_the_limit_still_happens() -> None:
    async def main(board: SimBoard) -> None:
        await asyncio.sleep(60)

    play(None, main, 60)
    with pytest.raises(hwloop.TimeLimitError):
        play(None, main, 59.999999)


def test_a_limit_counts_anew_for_the_clean_up() -> None:
    cleaned = []

    async def main(board: SimBoard) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(50)
            cleaned.append(True)

    with pytest.raises(hwloop.TimeLimitError):
        play(None, main, 60)
    assert cleaned


def test_a_limit_takes_the_place_of_the_stall_limit(impatient: None) -> None:
    with pytest.raises(hwloop.TimeLimitError, match="the limit of 1000 s"):
        play(BUSY, _wait_for_line_5, 1000)


def test_a_limit_holds_where_the_loops_own_thread_sleeps() -> None:
    async def main(board: SimBoard) -> None:
        board.clock.sleep(100)

    with pytest.raises(hwloop.TimeLimitError, match="the limit of 60 s"):
        play(None, main, 60)


def test_the_environment_gives_a_limit_where_the_program_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_LIMIT", "30")
    with pytest.raises(hwloop.TimeLimitError, match="the limit of 30 s"):
        play(None, _tick)
    with pytest.raises(hwloop.TimeLimitError, match="the limit of 40 s"):
        play(None, _tick, 40)


def test_an_infinite_limit_is_none(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_LIMIT", "inf")

    async def main(board: SimBoard) -> int:
        def count(left: int) -> None:
            if left:
                board.timeline.after(60, lambda: count(left - 1))
            else:
                board.chip.line(5).drive(0)

        count(20)
        return await _wait_for_line_5(board)

    assert play(BUSY, main) == 1201 * 10**9


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_limit_of_no_time_raises(limit: float) -> None:
    with pytest.raises(ValueError, match="limit must be more than 0 virtual seconds"):
        hwloop.SimLoop(limit=limit)


@pytest.mark.parametrize("limit", ["60", True, b"1"])
def test_a_limit_that_is_no_number_raises(limit: Any) -> None:
    with pytest.raises(TypeError, match="limit must be a number of virtual seconds"):
        hwloop.SimLoop(limit=limit)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "0"])
def test_an_invalid_limit_in_the_environment_raises(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_LIMIT", text)
    with pytest.raises(ValueError, match=f"HWLOOP_LIMIT must be .* not '{text}'"):
        hwloop.SimLoop()


def test_real_time_takes_no_limit() -> None:
    with pytest.raises(ValueError, match="a limit needs clock='virtual'"):
        hwloop.run(asyncio.sleep(0), limit=60)


# Signals.

SPINNING = """
import asyncio, signal, sys, hwloop
from firmware_sim.board import SimBoard
clock = hwloop.VirtualClock()
board = SimBoard({"device": [{"type": "button", "line": 17, "press_every": 1.0}]}, clock=clock)
def tell():
    print("spinning", flush=True)
async def main():
    task = asyncio.current_task()
    if sys.argv[1] == "handler":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    elif sys.argv[1] == "plain":
        signal.signal(signal.SIGTERM, lambda *_: task.cancel())
    board.timeline.after(100, tell)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled")
        raise
with board:
    hwloop.run(main(), board=board, clock=clock, limit=float("inf"))
"""


@pytest.mark.parametrize(
    ("how", "number", "ends_with"),
    [
        ("runner", signal.SIGINT, -signal.SIGINT),
        ("handler", signal.SIGTERM, 1),
        ("plain", signal.SIGTERM, 1),
    ],
)
def test_a_signal_ends_a_wait_in_which_time_rushes_on(how: str, number: int, ends_with: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SPINNING, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "spinning\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert out == "cancelled\n"
    assert process.returncode == ends_with
