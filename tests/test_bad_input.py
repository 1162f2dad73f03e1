"""Bad input to the scheduling calls: asyncio's error or a clear one, in debug mode and out of it, and nothing left."""

from __future__ import annotations

import asyncio
import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import hwloop
from hwloop import Priority
from hwloop.core import urgency as scheduling

Call = Callable[[Any], object]
NAN, INF = math.nan, math.inf
NO_CALLBACKS = (None, 3, "callback")


def plain() -> None:
    pass


async def coroutine() -> None:
    pass


class Outcome(NamedTuple):
    error: str
    """The type of the exception that the call raised, or "" if the loop accepted it."""
    reported: list[str]
    """Types of the exceptions that then reached the exception handler."""
    unawaited: int
    """Coroutines that were made and never awaited."""


def outcome(loop: asyncio.AbstractEventLoop, call: Call) -> tuple[Outcome, str]:
    """Return the outcome of a call on a loop that then runs for a moment, and the message of its error."""
    reported: list[str] = []
    loop.set_exception_handler(lambda _, context: reported.append(type(context.get("exception")).__name__))
    error: Exception | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call(loop)
        except Exception as raised:
            error = raised
        loop.run_until_complete(loop.shutdown_default_executor())  # which ends its jobs first
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
    unawaited = sum("never awaited" in str(one.message) for one in caught)
    return Outcome("" if error is None else type(error).__name__, reported, unawaited), str(error)


def close(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def debug(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def new_loop(factory: Callable[[], Any], debug: bool) -> Any:
    loop = factory()
    loop.set_debug(debug)
    return loop


@pytest.fixture
def loop(debug: bool) -> Iterator[hwloop.EventLoop]:
    loop = new_loop(hwloop.new_event_loop, debug)
    yield loop
    close(loop)


# Calls that asyncio has too.

SAME_AS_ASYNCIO: list[tuple[str, Call]] = [
    *((f"call_later {delay}", lambda loop, d=delay: loop.call_later(d, plain))
      for delay in (-1, -INF, INF, None, "1")),
    *((f"call_at {when}", lambda loop, w=when: loop.call_at(w, plain)) for when in (-1, -INF, INF, None)),
    *(
        (f"{name} {getattr(callback, '__name__', callback)!r}", lambda loop, m=make, c=callback: m(loop, c))
        for callback in (*NO_CALLBACKS, coroutine)
        for name, make in {
            "call_soon": lambda loop, callback: loop.call_soon(callback),
            "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
            "call_later 0": lambda loop, callback: loop.call_later(0, callback),
            "call_later": lambda loop, callback: loop.call_later(1e-9, callback),
            "call_at": lambda loop, callback: loop.call_at(1e-9, callback),
            "add_signal_handler": lambda loop, callback: loop.add_signal_handler(10, callback),
            "run_in_executor": lambda loop, callback: loop.run_in_executor(None, callback) and None,
        }.items()
    ),
    ("create_task of a function", lambda loop: loop.create_task(plain)),
    ("add_reader of nothing", lambda loop: loop.add_reader(-1, plain)),
    ("add_reader of a word", lambda loop: loop.add_reader("x", plain)),
    ("remove_reader of nothing", lambda loop: loop.remove_reader(-1)),
]  # fmt: skip


def test_bad_arguments_of_asyncios_calls_have_the_same_effect_as_on_asyncios_loop(debug: bool) -> None:
    for name, call in SAME_AS_ASYNCIO:
        stock, loop = new_loop(asyncio.SelectorEventLoop, debug), new_loop(hwloop.new_event_loop, debug)
        try:
            expected, message = outcome(stock, call)
            found, ours = outcome(loop, call)
            assert found == expected, name
            if debug:  # out of it, the quick path may say it in other words
                assert ours == message, name
            if found.error:
                assert loop.statistics().ready == loop.statistics().timers == 0, name
        finally:
            close(stock)
            close(loop)


@pytest.mark.parametrize("method", ["call_at", "call_later"])
def test_a_time_without_an_order_is_rejected_where_asyncio_would_queue_it(loop: hwloop.EventLoop, method: str) -> None:
    """asyncio's heap is in disorder from then on, or its loop ends with the next timer."""
    for when in (NAN, None, "1", 1 + 2j, b""):
        with pytest.raises(ValueError if isinstance(when, float) else TypeError):
            getattr(loop, method)(when, plain)
        assert loop.statistics().timers == loop.statistics().ready == 0, when


@pytest.mark.parametrize("when", [-INF, INF, -1, 0])
def test_an_infinite_time_is_accepted(loop: hwloop.EventLoop, when: float) -> None:
    ran: list[float] = []
    loop.call_at(when, ran.append, when)
    loop.call_later(when, ran.append, when)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert ran == ([when] * 2 if when <= 0 else [])


# Our own calls.


@pytest.mark.parametrize("callback", [*NO_CALLBACKS, coroutine])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda loop, callback: loop.call_soon_priority(Priority.HIGH, callback), id="call_soon_priority"),
        pytest.param(lambda loop, callback: loop.call_deadline(loop.time() + 1, callback), id="call_deadline"),
        pytest.param(lambda loop, callback: loop.call_tolerant(0, callback, tolerance=0), id="call_tolerant"),
    ],
)
def test_an_invalid_callback_is_treated_as_by_call_soon(
    loop: hwloop.EventLoop, debug: bool, call: Callable[[Any, Any], object], callback: Any
) -> None:
    """Outside of debug mode asyncio checks none, for checking takes longer than the call."""
    expected, _ = outcome(loop, lambda loop: loop.call_soon(callback))
    found, message = outcome(loop, lambda loop: call(loop, callback))
    assert found == expected
    assert bool(found.error) == debug
    if debug:
        assert message.startswith(("a callable object was expected by call_", "coroutines cannot be used with call_"))
    assert loop.statistics().ready == loop.statistics().timers == 0


class Given:
    """A source made of what it is given."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def fileno(self) -> Any:
        return self.fd


def register(**attributes: object) -> Call:
    return lambda loop: loop.register(Given(**{"fd": 0, "on_readable": plain} | attributes))


def call_every(loop: hwloop.EventLoop, period: float, **options: Any) -> None:
    loop.call_every(period, plain, **options)


async def acquire(tokens: Any) -> None:
    await hwloop.RateLimiter(1, burst=2).acquire(tokens)


def enter(**urgency: Any) -> Call:
    async def main() -> None:
        with hwloop.scheduled(**urgency):
            pass

    return lambda loop: loop.run_until_complete(main())


def create_task(**urgency: Any) -> Call:
    async def main() -> None:
        hwloop.create_task(coroutine(), **urgency)  # a warning if it is left as it is

    return lambda loop: loop.run_until_complete(main())


def reschedule(**urgency: Any) -> Call:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        try:
            hwloop.reschedule(task, **urgency)
        finally:
            await task

    return lambda loop: loop.run_until_complete(main())


class Invalid(NamedTuple):
    """A call that must fail: `message` is a pattern that its error has in it."""

    name: str
    call: Call
    error: type[Exception]
    message: str = "."


NOT_POSITIVE = (0, -1, NAN, -INF)
NO_NUMBERS = (None, "1", [])
PERIODIC = {
    "period": (*NOT_POSITIVE, INF, 1e-7),
    "phase": (-1, NAN, INF, 2),
    "deadline": (*NOT_POSITIVE, INF),
    "tolerance": (-1, NAN, INF),
}

INVALID = [
    *(
        Invalid(f"{name} priority {priority!r}", make(priority), ValueError, f"unknown priority {priority!r}; use ")
        for priority in ("URGENT", True, 5, -1, 1.5, NAN)
        for name, make in {
            "call_soon_priority": lambda p: lambda loop: loop.call_soon_priority(p, plain),
            "call_deadline": lambda p: lambda loop: loop.call_deadline(1e9, plain, priority=p),
            "call_every": lambda p: lambda loop: loop.call_every(1, plain, priority=p),
            "every": lambda p: lambda loop: hwloop.every(1, priority=p),
            "scheduled": lambda p: enter(priority=p),
            "create_task": lambda p: create_task(priority=p),
            "reschedule": lambda p: reschedule(priority=p),
            "register": lambda p: register(priority=p),
        }.items()
    ),
    *(
        Invalid(f"{name} {value!r}", make(value), error)
        for values, error in ((NOT_POSITIVE, ValueError), (NO_NUMBERS[1:], TypeError))
        for value in values
        for name, make in {
            "call_deadline": lambda v: lambda loop: loop.call_deadline(v, plain),
            "scheduled deadline": lambda v: enter(deadline=v),
            "create_task deadline": lambda v: create_task(deadline=v),
            "reschedule deadline": lambda v: reschedule(deadline=v),
            "register deadline": lambda v: register(deadline=v),
            "watch_slices": lambda v: lambda loop: loop.watch_slices(v),
            "sliced": lambda v: lambda loop: hwloop.sliced([], budget=v),
            "RateLimiter": lambda v: lambda loop: hwloop.RateLimiter(v),
            "throttle": lambda v: lambda loop: hwloop.throttle(rate=v),
        }.items()
    ),
    *(
        Invalid(f"{name} {parameter} {value!r}", make({"period": 1, parameter: value}), ValueError, "must be|more than")
        for parameter, values in PERIODIC.items()
        for value in values
        for name, make in {
            "call_every": lambda how: lambda loop: call_every(loop, **how),
            "every": lambda how: lambda loop: hwloop.every(**how),
        }.items()
    ),
    *(
        Invalid(f"{name} {parameter} '1'", make({"period": 1, parameter: "1"}), TypeError, "must be a number, not '1'")
        for parameter in PERIODIC
        for name, make in {
            "call_every": lambda how: lambda loop: call_every(loop, **how),
            "every": lambda how: lambda loop: hwloop.every(**how),
        }.items()
    ),
    Invalid("call_every overrun", lambda loop: loop.call_every(1, plain, overrun="x"), ValueError, "'skip', 'catch-"),
    *(
        Invalid(f"call_every of {getattr(callback, '__name__', callback)!r}",
                lambda loop, c=callback: loop.call_every(1, c), TypeError, "call_every")
        for callback in (*NO_CALLBACKS, coroutine)
    ),
    *(
        Invalid(f"{name} {getattr(handler, '__name__', handler)!r}", make(handler), TypeError, "plain function or None")
        for handler in (3, "handler", coroutine)
        for name, make in {
            "set_deadline_handler": lambda h: lambda loop: loop.set_deadline_handler(h),
            "watch_slices handler": lambda h: lambda loop: loop.watch_slices(handler=h),
        }.items()
    ),
    *(Invalid(f"call_tolerant {when}", lambda loop, w=when: loop.call_tolerant(w, plain, tolerance=1), ValueError)
      for when in (NAN, INF, -INF)),
    *(Invalid(f"tolerance {value}", lambda loop, v=value: loop.call_tolerant(1, plain, tolerance=v), ValueError)
      for value in (-1, NAN, INF)),
    Invalid("call_tolerant None", lambda loop: loop.call_tolerant(None, plain, tolerance=1), TypeError),
    Invalid("RateLimiter burst 0", lambda loop: hwloop.RateLimiter(1, burst=0), ValueError, "at least 1, not 0"),
    Invalid("RateLimiter inf", lambda loop: hwloop.RateLimiter(INF), ValueError, "a rate"),
    *(Invalid(f"burst {value!r}", lambda loop, v=value: hwloop.RateLimiter(1, burst=v), TypeError, "whole number")
      for value in (NAN, INF, 1.5, "1", True, None)),
    *(Invalid(f"queue_size {value!r}", lambda loop, v=value: hwloop.throttle(rate=1, queue_size=v), TypeError, "whole")
      for value in (NAN, INF, 1.5, "1", True, None)),
    *(Invalid(f"acquire {tokens!r}", lambda loop, t=tokens: loop.run_until_complete(acquire(t)), ValueError, "tokens")
      for tokens in (0, -1, 3, NAN)),
    Invalid("throttle queue_size", lambda loop: hwloop.throttle(rate=1, queue_size=0), ValueError, "at least 1, not 0"),
    Invalid("throttle burst", lambda loop: hwloop.throttle(rate=1, burst=0), ValueError, "at least 1, not 0"),
    Invalid("throttle mode", lambda loop: hwloop.throttle(rate=1, mode="x"), ValueError, "'drop', 'latest', 'queue'"),
    *(Invalid(f"throttle of {value!r}", lambda loop, v=value: hwloop.throttle(rate=1)(v), TypeError, "functions")
      for value in NO_CALLBACKS),
    *(Invalid(f"set_spin {value}", lambda loop, v=value: loop.set_spin(v), ValueError, "spin is in seconds")
      for value in (-1, NAN, INF, 1)),
    *(Invalid(f"reschedule {value!r}", lambda loop, v=value: loop.reschedule(v, priority=0), TypeError, "a task was")
      for value in (None, 5, "task")),
    Invalid("reschedule a future", lambda loop: loop.reschedule(loop.create_future(), priority=0), TypeError, "Future"),
    Invalid("schedule_gc", lambda loop: loop.schedule_gc("never"), ValueError, "not 'never'"),
    Invalid("set_realtime", lambda loop: loop.set_realtime(50), TypeError, "a hwloop.RealTime or None, not 50"),
    Invalid("register a number", lambda loop: loop.register(0), TypeError, "a source needs an on_readable"),
    Invalid("register without on_readable", register(on_readable=None), TypeError, "a source needs an on_readable"),
    Invalid("register a coroutine function", register(on_readable=coroutine), TypeError, "a plain function"),
    Invalid("register no descriptor", register(fd=-1), ValueError, "Invalid file descriptor: -1"),
    Invalid("register a word", register(fd="x"), ValueError, "Invalid file object: 'x'"),
    Invalid("unregister what is not there", lambda loop: loop.unregister(Given(fd=0)), KeyError),
]  # fmt: skip


def test_invalid_arguments_are_rejected_at_once_and_the_loop_goes_on(loop: hwloop.EventLoop) -> None:
    before = loop.statistics()
    for name, call, error, message in INVALID:
        raised: Exception | None = None
        try:
            call(loop)
        except Exception as caught:
            raised = caught
        assert isinstance(raised, error), (name, raised)
        assert re.search(message, str(raised)), (name, raised)
        after = loop.statistics()
        assert (after.ready, after.timers, after.descriptors, after.sources) == (0, 0, before.descriptors, ()), name
        assert not loop.sources(), name
        assert scheduling.URGENCY.get() == scheduling.NORMAL, name
    ran: list[bool] = []
    loop.call_soon(ran.append, True)
    loop.run_until_complete(asyncio.sleep(0))
    assert ran


def test_a_task_of_another_loop_is_not_rescheduled(loop: hwloop.EventLoop) -> None:
    other = hwloop.new_event_loop()
    task = other.create_task(asyncio.sleep(0))

    async def main() -> None:
        with pytest.raises(ValueError, match="is on another loop"):
            hwloop.reschedule(task, priority=Priority.HIGH)

    loop.run_until_complete(main())
    other.run_until_complete(task)
    other.close()


@pytest.mark.parametrize("name", ["high", "HIGH", " High "])
def test_a_priority_is_accepted_by_name(name):
    assert scheduling.as_priority(name) is Priority.HIGH
