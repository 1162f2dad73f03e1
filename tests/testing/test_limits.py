"""Programs that wait for ever, or never rest, fail within a limit and show where each task waits."""

from __future__ import annotations

import asyncio
import queue
import threading
from time import sleep

import pytest
from gpiozero import Button

import hwloop
from hwloop.testing import session


async def wait_for_nothing():
    await asyncio.Event().wait()


async def tick():
    while True:
        await asyncio.sleep(1)


@pytest.mark.hwloop(limit=60)
def test_a_program_that_ticks_for_ever_fails_at_the_limit_of_the_mark(board):
    async def main():
        async with board.run(tick()):
            await wait_for_nothing()

    with pytest.raises(hwloop.TimeLimitError, match="the limit of 60 s of virtual time has passed") as raised:
        board.session.call(main())
    assert f"called from {__file__}" in str(raised.value)
    assert "tick waits at" in str(raised.value)


def test_a_test_that_uses_too_much_processor_time_fails(board, monkeypatch):
    monkeypatch.setattr(session, "CPU_LIMIT", 0.05)

    async def main():
        async with board.run(tick()):
            await wait_for_nothing()

    with pytest.raises(hwloop.TimeLimitError, match="s of processor time have passed"):
        board.session.call(main())


@pytest.mark.hwloop(clock="real", limit=0.05)
def test_in_real_time_the_limit_is_real(board):
    with pytest.raises(hwloop.TimeLimitError, match=r"the limit of 0\.05 s has passed") as raised:
        board.session.call(wait_for_nothing())
    assert "wait_for_nothing" in str(raised.value)


def test_a_test_may_go_on_after_a_deadlock_that_it_expects(board):
    with pytest.raises(hwloop.DeadlockError, match="nothing can ever wake"):
        board.session.call(wait_for_nothing())
    board.advance(5)


def test_a_handler_that_sleeps_again_and_again_holds_up_nothing(board):
    def wait_for_the_release():
        while button.is_pressed:
            sleep(0.5)
        released.append(board.clock.now_ns())

    released = []
    button = Button(17)
    button.when_pressed = wait_for_the_release
    board.line(17).drive(0)
    board.advance(3600.2)
    assert not released
    board.line(17).drive(None)
    board.advance(0.5)
    assert released == [3_601_500_000_000]


def test_a_thread_that_never_waits_fails_within_the_limit_of_processor_time(board, monkeypatch):
    monkeypatch.setattr(session, "CPU_LIMIT", 0.3)
    monkeypatch.setattr("hwloop.virtual.clock.PATIENCE", 0.01)
    over = []

    def compute():
        while not over:
            pass

    thread = threading.Thread(target=compute, name="computes")
    thread.start()
    with pytest.raises(hwloop.TimeLimitError, match="s of processor time have passed") as raised:
        board.advance(1)
    assert f"computes waits at {__file__}:" in str(raised.value)
    over.append(True)
    thread.join()


made_before = queue.SimpleQueue()


def test_a_wait_for_a_lock_in_real_time_is_named(board, monkeypatch):
    monkeypatch.setattr(session, "LOCK_LIMIT", 0.05)
    monkeypatch.setattr("hwloop.virtual.clock.PATIENCE", 0.01)
    thread = threading.Thread(target=made_before.get, name="reader")
    thread.start()
    with pytest.raises(hwloop.TimeLimitError, match="the thread 'reader' waits in real time, for a lock, an event or"):
        board.advance(1)
    made_before.put(1)
    thread.join()
