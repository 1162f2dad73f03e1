"""Timers from outside: helpers that change a loop's time or look at its timers, and threads that set them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import heapq
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import hwloop
from hwloop import Priority

LOOPS = [asyncio.SelectorEventLoop, hwloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "hwloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    with contextlib.closing(request.param()) as loop:
        yield loop


# A clock of the user's.


def turns(loop: asyncio.AbstractEventLoop, count: int = 3) -> None:
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


class Shifted:
    """The loop's time, moved on by `offset`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.base = loop.time
        self.offset = 0.0

    def __call__(self) -> float:
        return self.base() + self.offset


@contextlib.contextmanager
def assigned(loop: Any, clock: Callable[[], float]) -> Iterator[None]:
    loop.time = clock
    yield
    del loop.time


@contextlib.contextmanager
def on_the_class(loop: Any, clock: Callable[[], float]) -> Iterator[None]:
    with mock.patch.object(type(loop), "time", new=lambda self: clock()):  # noqa: PT008
        yield


@contextlib.contextmanager
def patched(loop: Any, clock: Callable[[], float]) -> Iterator[None]:
    with mock.patch.object(loop, "time", clock):
        yield


@contextlib.contextmanager
def in_a_subclass(loop: Any, clock: Callable[[], float]) -> Iterator[None]:
    kind = type(loop)
    loop.__class__ = type("Travelling", (kind,), {"time": lambda self: clock()})
    yield
    loop.__class__ = kind


REPLACED = [assigned, patched, on_the_class, in_a_subclass]


@pytest.mark.parametrize("replaced", REPLACED)
@pytest.mark.parametrize("where", ["before it runs", "while it runs"])
def test_a_replaced_time_is_followed_at_once_and_so_is_the_old_one(loop, replaced, where):
    clock = Shifted(loop)
    ran: list[str] = []

    def travel() -> None:
        assert loop.time() == pytest.approx(clock(), abs=5)
        loop.call_later(1000, ran.append, "relative")
        loop.call_at(clock() + 1000, ran.append, "absolute")
        assert loop.call_later(500, print).when() == pytest.approx(clock() + 500, abs=5)
        clock.offset += 1001
        for _ in range(2):
            loop.call_soon(lambda: None)

    with replaced(loop, clock):
        clock.offset = 5000
        if replaced in (on_the_class, in_a_subclass):
            turns(loop, 1)  # hwloop's follows a change of the class from its next look on
        if where == "while it runs":
            loop.call_soon(travel)
        else:
            travel()
        turns(loop)
    assert sorted(ran) == ["absolute", "relative"]
    assert loop.time() == pytest.approx(time.monotonic(), abs=5)
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(0.002))
    assert time.monotonic() - began >= 0.002


@pytest.mark.parametrize("replaced", REPLACED)
def test_a_timer_set_just_after_the_time_was_set_back_is_set_by_it(loop, replaced):
    clock = Shifted(loop)
    clock.offset = 5000

    async def travel_and_return() -> float:
        with replaced(loop, clock):
            await asyncio.sleep(0)  # a look
            await asyncio.sleep(0)
        return loop.call_later(500, print).when()

    assert loop.run_until_complete(travel_and_return()) == pytest.approx(time.monotonic() + 500, abs=50)


def test_a_sleeping_task_wakes_when_the_time_moves_within_a_run(loop):
    async def main() -> bool:
        clock = Shifted(asyncio.get_running_loop())
        asyncio.get_running_loop().time = clock  # type: ignore[method-assign]
        task = asyncio.create_task(asyncio.sleep(100))
        await asyncio.sleep(0)
        clock.offset += 100
        for _ in range(5):
            await asyncio.sleep(0)
        return task.done()

    assert loop.run_until_complete(main())


def test_a_clock_that_stands_still_holds_timers_back_and_the_alarm_does_not_ring(loop):
    ran: list[int] = []
    for delay in (0.001, 0.01, 0.1, 1):  # the shortest that a busy machine does not exceed in the first turn
        ran.clear()
        timer = loop.call_later(delay, ran.append, 1)
        turns(loop, 1)  # the alarm may be set by now
        if not ran:
            break
    with mock.patch.object(loop, "time", mock.Mock(return_value=timer.when() - 1)):
        time.sleep(2 * delay)
        turns(loop, 5)
        assert ran == []
    turns(loop)
    assert ran == [1]


def test_the_kernels_alarm_is_used_again_once_the_time_is_the_kernels() -> None:
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        loop.time = lambda: 5.0  # type: ignore[method-assign]
        turns(loop)
        assert loop._poller._alarm is None
        del loop.time
        turns(loop)
        assert loop._poller._alarm is not None


def test_time_is_the_clock_itself_and_can_be_called_in_each_way() -> None:
    class Later(hwloop.EventLoop):
        def time(self) -> float:
            return super().time() + 1e6

    with contextlib.closing(hwloop.new_event_loop()) as loop, contextlib.closing(Later()) as later:
        assert loop.time is time.monotonic
        assert hwloop.EventLoop.time(loop) <= loop.time()
        assert later.time() == pytest.approx(loop.time() + 1e6, abs=5)
        later.run_until_complete(asyncio.sleep(0.001))


def test_patches_within_patches_are_undone_one_by_one(loop, monkeypatch):
    with mock.patch.object(loop, "time", return_value=1.0):
        with mock.patch.object(loop, "time", return_value=2.0):
            turns(loop)
            assert loop.time() == 2.0
        turns(loop)
        assert loop.time() == 1.0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: 3.0)
        assert loop.time() == 3.0
    assert loop.time() == pytest.approx(time.monotonic(), abs=5)
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.__dict__.pop("time", None)


def test_a_clock_that_stands_still_holds_up_nothing_but_timers(loop):
    async def main() -> None:
        running = asyncio.get_running_loop()
        running.time = lambda: 5.0  # type: ignore[method-assign]
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        busy = asyncio.create_task(spin())
        writer.send(b"!")
        assert await running.sock_recv(reader, 1) == b"!"
        busy.cancel()
        reader.close()
        writer.close()

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    loop.run_until_complete(main())


# The timers that wait.


def test_the_pending_timers_are_where_asyncio_has_them(loop):
    ran: list[str] = []
    timers = [loop.call_later(delay, ran.append, str(delay)) for delay in (300, 100, 200)]
    timers.append(loop.call_at(loop.time() + 400, ran.append, "400"))
    timers[2].cancel()

    def pending() -> list[float]:
        return sorted(handle._when for handle in loop._scheduled if not handle.cancelled())

    wanted = sorted(timer.when() for timer in timers if not timer.cancelled())
    assert pending() == wanted  # not seen by a look yet
    due = loop.call_later(0, print)
    assert due in loop._scheduled
    due.cancel()
    turns(loop)
    assert pending() == wanted
    assert all(isinstance(handle, asyncio.TimerHandle) for handle in loop._scheduled)
    assert min(loop._scheduled)._when == wanted[0]
    for handle in list(loop._scheduled):  # what helpers do that fire timers early
        if not handle.cancelled() and handle.when() < loop.time() + 350:
            handle._run()
            handle.cancel()
    turns(loop)
    assert sorted(ran) == ["100", "300"]
    assert pending() == wanted[-1:]


def test_tolerant_timers_are_among_them_and_all_leave_when_they_are_due() -> None:
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        loop.call_tolerant(loop.time() + 100, print, tolerance=1)
        loop.call_later(200, print)
        soon = loop.call_later(0.001, loop.stop)
        assert heapq.nsmallest(1, loop._scheduled) == [soon]
        loop.run_forever()
        assert [round(handle.when() - loop.time()) for handle in loop._scheduled] == [100, 200]
        assert loop.statistics().timers == 2
        loop._scheduled = []
        turns(loop)
        assert loop._scheduled == []
        assert loop.statistics().timers == 0


# Other threads, as programs use them in spite of the documentation.


@contextlib.contextmanager
def threads_that_take_turns_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def quietly(loop: asyncio.AbstractEventLoop) -> None:
    """asyncio too reports a callback that is cancelled in the very moment in which it begins."""

    def handler(_: object, context: dict[str, Any]) -> None:
        assert isinstance(context["exception"], TypeError), context

    loop.set_exception_handler(handler)


@pytest.mark.parametrize("tolerant", [False, True])
def test_other_threads_may_cancel_timers_and_none_of_the_others_is_lost(tolerant: bool) -> None:
    with contextlib.closing(hwloop.new_event_loop()) as loop, threads_that_take_turns_often():
        quietly(loop)
        own: list[int] = []
        made = 0
        batches: collections.deque[list[asyncio.TimerHandle]] = collections.deque()
        rounds, many = 40, 1200

        def later(delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
            if tolerant:
                return loop.call_tolerant(loop.time() + delay, callback, *args, tolerance=1e-4)
            return loop.call_later(delay, callback, *args)

        def more() -> None:
            """The loop's own timers come and go while others cancel most of what is in the heap."""
            nonlocal made
            if not made % 50:
                batches.append([later(50, print) for _ in range(many)])
            later(0.0001, own.append, made)
            made += 1
            if made < rounds * 50:
                loop.call_soon(more)

        def cancel() -> None:
            while batches or made < rounds * 50:
                try:
                    batch = batches.popleft()
                except IndexError:
                    time.sleep(0)
                else:
                    for timer in batch:
                        timer.cancel()

        team = [threading.Thread(target=cancel) for _ in range(3)]
        for thread in team:
            thread.start()
        loop.call_soon(more)

        def end_with_team() -> None:
            if any(thread.is_alive() for thread in team) or len(own) < made:
                loop.call_later(0.001, end_with_team)
            else:
                loop.stop()

        end_with_team()
        loop.call_later(30, loop.stop)  # where one was lost
        loop.run_forever()
        for thread in team:
            thread.join()
        assert sorted(own) == list(range(rounds * 50))
        assert loop.statistics().timers == 1
        turns(loop, 2)
        assert len(loop._timers.all()) < 200


@pytest.mark.parametrize("delay", [None, 0.0, 0.00002, 0.0002])
def test_other_threads_may_schedule_what_they_should_not_and_all_of_it_runs(delay: float | None) -> None:
    rounds, workers = 500, 3
    with contextlib.closing(hwloop.new_event_loop()) as loop, threads_that_take_turns_often():
        ran: list[int] = []

        def work() -> None:
            for number in range(rounds):
                if delay is None:
                    loop.call_soon_threadsafe(int)
                    loop.call_soon(ran.append, number)
                else:
                    loop.call_later(delay, ran.append, number)

        team = [threading.Thread(target=work) for _ in range(workers)]

        def tick() -> None:
            """The loop is awake: nothing tells a sleeping one, as on asyncio's."""
            loop.call_soon_threadsafe(int)
            if any(thread.is_alive() for thread in team) or len(ran) < rounds * workers:
                loop.call_later(0.0001, tick)
            else:
                loop.stop()

        for thread in team:
            thread.start()
        tick()
        loop.call_later(30, loop.stop)
        loop.run_forever()
        for thread in team:
            thread.join()
        assert len(ran) == rounds * workers


def test_a_finalizer_may_cancel_timers_at_any_moment() -> None:
    class Owner:
        def __init__(self, loop: Any) -> None:
            self.itself = self
            self.timers = [loop.call_later(50, print) for _ in range(70)]

        def __del__(self) -> None:
            for timer in self.timers:
                timer.cancel()

    threshold = gc.get_threshold()
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        ran: list[int] = []
        gc.set_threshold(3, 2, 2)
        try:
            for number in range(50):
                Owner(loop)
                loop.call_later(0.0001, ran.append, number)
                turns(loop, 1)
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        loop.call_later(0.005, loop.stop)
        loop.run_forever()
        assert sorted(ran) == list(range(50))
        assert loop.statistics().timers == 0


def test_priorities_follow_a_replaced_time_too() -> None:
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        ran: list[str] = []
        clock = Shifted(loop)
        loop.time = clock  # type: ignore[method-assign]
        clock.offset = 1e6
        loop.call_soon(ran.append, "plain")
        loop.call_deadline(loop.time() + 10, ran.append, "deadline")
        loop.call_soon_priority(Priority.HIGH, ran.append, "high")
        turns(loop)
        assert ran == ["high", "deadline", "plain"]
        assert loop.statistics().deadline_misses == {}
