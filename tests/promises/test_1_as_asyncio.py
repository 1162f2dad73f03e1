"""Promise 1 for programs that ask for nothing: the order is asyncio's own, `stop()` and timers of no delay included.

Hypothesis writes programs out of what asyncio has: callbacks, timers that are due when they are set, tasks, futures,
cancellation, exceptions, `stop()`. Each runs on asyncio's loop and on ours, and what ran in which order must be the
same to the last entry. Time only moves as a program says, and some of its callbacks take several slices.
"""

from __future__ import annotations

import asyncio
import selectors

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

import hwloop
from hwloop.core.dispatch import SLICE

MOMENT = 2.0**-24
"""Seconds by which the clock moves whenever a timer is set, so that no two times are equal: asyncio's heap leaves
the order of equal ones open."""


class Clock(selectors.SelectSelector):
    """A clock that stands still but for what callbacks take; nobody waits on it."""

    def __init__(self):
        super().__init__()
        self.time = 1000.0

    def select(self, timeout=None):
        return super().select(0)


class OnAsyncio(asyncio.SelectorEventLoop):
    def __init__(self):
        self.clock = Clock()
        super().__init__(self.clock)

    def time(self):
        return self.clock.time

    def take(self, seconds):
        self.clock.time += seconds


class OnHwloop(hwloop.EventLoop):
    def __init__(self):
        self.clock = Clock()
        super().__init__(self.clock)

    def time(self):
        return self.clock.time

    def take(self, seconds):
        self.clock.time += seconds


class InVirtualTime(hwloop.SimLoop):
    """A look after each callback, which is a slice of its own."""

    def take(self, seconds):
        pass  # callbacks take no time


class Program:
    """Runs scripts on a loop and keeps the trace."""

    def __init__(self, loop):
        self.loop = loop
        self.trace = []
        self.handles, self.tasks, self.futures = [], [], []
        self.names = 0
        loop.set_exception_handler(lambda loop, context: self.trace.append(f"report {context.get('exception')}"))

    def name(self, kind):
        self.names += 1
        return f"{kind} {self.names}"

    def play(self, script, rounds):
        self.do(script)
        for batches in rounds:
            self.loop.call_soon(self.stop_after, batches)
            self.loop.run_forever()
            self.trace.append("stopped")
        while pending := [task for task in self.tasks if not task.done()]:
            for task in pending:
                task.cancel()
            self.loop.call_soon(self.stop_after, 5)
            self.loop.run_forever()

    def stop_after(self, batches):
        if batches:
            self.loop.call_soon(self.stop_after, batches - 1)
        else:
            self.loop.stop()

    def do(self, script):
        for what, *arguments in script:
            getattr(self, f"do_{what}")(*arguments)

    def run(self, name, script):
        self.trace.append(name)
        self.do(script)

    async def steps(self, name, scripts):
        for script in scripts:
            self.run(name, script)
            await asyncio.sleep(0)
        if self.futures:
            try:
                self.trace.append(f"{name} got {await self.futures[-1]}")
            except asyncio.CancelledError:
                self.trace.append(f"{name} cancelled")
                raise

    def do_slow(self):
        self.take(4 * SLICE)

    def do_quick(self):
        self.take(SLICE / 4)

    def do_soon(self, script):
        self.handles.append(self.loop.call_soon(self.run, self.name("soon"), script))

    def do_threadsafe(self, script):
        self.handles.append(self.loop.call_soon_threadsafe(self.run, self.name("threadsafe"), script))

    def do_later(self, script):
        self.take(MOMENT)
        delay = -(self.names % 3) if not self.virtual else self.unique()
        self.handles.append(self.loop.call_later(delay, self.run, self.name("later"), script))

    def do_at(self, script):
        self.take(MOMENT)
        before = 0 if not self.virtual else self.unique()
        self.handles.append(self.loop.call_at(self.loop.time() + before, self.run, self.name("at"), script))

    virtual = False  # time stands still, on asyncio's loop too

    def take(self, seconds):
        if not self.virtual:
            self.loop.take(seconds)

    def unique(self):
        """A time in the past that no other timer has."""
        return -(self.names * 617 % 1009 + 1) * 2.0**-20

    def do_task(self, scripts):
        name = self.name("task")
        self.tasks.append(self.loop.create_task(self.steps(name, scripts)))

    def do_future(self):
        self.futures.append(self.loop.create_future())

    def do_resolve(self, number):
        if self.futures and not (future := self.futures[number % len(self.futures)]).done():
            future.set_result(number)

    def do_cancel(self, number):
        if self.handles:
            self.handles[number % len(self.handles)].cancel()

    def do_cancel_task(self, number):
        if self.tasks:
            self.tasks[number % len(self.tasks)].cancel()

    def do_fail(self):
        if asyncio._get_running_loop() is not None and asyncio.current_task() is None:
            raise ZeroDivisionError(self.name("failure"))

    def do_stop(self):
        self.loop.stop()


which = st.integers(0, 9)


def actions(scripts):
    return st.one_of(
        st.just(("slow",)),
        st.just(("quick",)),
        st.tuples(st.just("soon"), scripts),
        st.tuples(st.just("soon"), scripts),
        st.tuples(st.just("threadsafe"), scripts),
        st.tuples(st.just("later"), scripts),
        st.tuples(st.just("at"), scripts),
        st.tuples(st.just("task"), st.lists(scripts, max_size=3)),
        st.just(("future",)),
        st.tuples(st.just("resolve"), which),
        st.tuples(st.just("cancel"), which),
        st.tuples(st.just("cancel_task"), which),
        st.just(("fail",)),
        st.just(("stop",)),
    )


scripts = st.recursive(
    st.just(()), lambda inner: st.lists(actions(inner), min_size=1, max_size=7).map(tuple), max_leaves=40
)


def traced(make, script, rounds, *, debug=False, virtual=False):
    loop = make()
    try:
        loop.set_debug(debug)
        loop.slow_callback_duration = 1e9
        program = Program(loop)
        program.virtual = virtual
        program.play(script, rounds)
        return program.trace
    finally:
        loop.close()


def without_threads(script):
    """Calls from other threads come in when a loop in virtual time is at rest: a rule of its own."""
    return tuple(
        (
            "soon" if part[0] == "threadsafe" else part[0],
            *(
                [without_threads(one) for one in rest]
                if isinstance(rest, list)
                else without_threads(rest)
                if isinstance(rest, tuple)
                else rest
                for rest in part[1:]
            ),
        )
        for part in script
    )


SOON = ("soon", ())
STOP_IN_A_LATER_SLICE = (("soon", (SOON,)), ("soon", (("slow",),)), ("soon", (("stop",),)), SOON)
LATER_BEHIND_MANY = (("later", ()), *[SOON] * 9, ("soon", (("slow",), ("later", ()))), *[SOON] * 9)
CHAIN = (("soon", (("later", ()), ("soon", (SOON, ("later", (SOON,)))))), ("later", (("later", ()), SOON)))

as_long_as_it_takes = settings(
    max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@example(script=STOP_IN_A_LATER_SLICE, rounds=[9])
@example(script=LATER_BEHIND_MANY, rounds=[9])
@example(script=CHAIN, rounds=[0, 0, 1, 9])
@given(script=scripts, rounds=st.lists(st.integers(0, 6), min_size=1, max_size=6))
@as_long_as_it_takes
def test_the_trace_of_a_program_is_asyncios(debug, script, rounds):
    assert traced(OnHwloop, script, rounds, debug=debug) == traced(OnAsyncio, script, rounds, debug=debug)


@example(script=STOP_IN_A_LATER_SLICE, rounds=[9])
@example(script=CHAIN, rounds=[0, 0, 1, 9])
@given(script=scripts.map(without_threads), rounds=st.lists(st.integers(0, 6), min_size=1, max_size=6))
@as_long_as_it_takes
def test_so_it_is_in_virtual_time(script, rounds):
    assert traced(InVirtualTime, script, rounds, virtual=True) == traced(OnAsyncio, script, rounds, virtual=True)


@pytest.mark.parametrize("make", [OnAsyncio, OnHwloop, InVirtualTime])
def test_stop_in_a_later_slice_leaves_what_the_batch_has_added(make):
    trace = traced(make, STOP_IN_A_LATER_SLICE, [9])
    assert trace[: trace.index("stopped")] == ["soon 1", "soon 2", "soon 3", "soon 4"]


@pytest.mark.parametrize("make", [OnAsyncio, OnHwloop])
def test_a_timer_of_no_delay_runs_behind_all_that_is_queued(make):
    trace = traced(make, LATER_BEHIND_MANY, [9])
    assert trace.index("later 1") == 19
    assert trace[-2:] == ["later 21", "stopped"]
