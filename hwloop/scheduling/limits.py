"""Rate limits: token buckets that never drift.

A bucket holds up to `burst` tokens and gains `rate` of them a second; each event takes one. Kept as a float, a bucket
gathers rounding errors for as long as the program runs. Here the tokens are counted exactly, in integers: nanoseconds
that have passed times the rate as a ratio of integers. So in any t seconds, of the first year or the tenth, at most
`burst + rate * t` events pass, and exactly that number if enough of them arrive.

`RateLimiter` makes tasks wait, first come, first served. `throttle` is for callbacks that arrive at any rate: it drops,
merges or queues calls over the limit, and counts them. Both use the time of the running loop, work on any asyncio loop,
and are not for calls from other threads.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import inspect
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, TypeVar, cast, get_args, overload

from hwloop.core import clock
from hwloop.errors import check_range

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
ThrottleMode = Literal["drop", "latest", "queue"]


class TokenBucket:
    """Tokens by time. The caller passes the time: nanoseconds of any origin, which never go back.

    Parameters:
        rate: tokens a second, 1e-9 to 1e9.
        burst: tokens that it holds; it begins full.

    Raises ValueError for a rate or burst out of range, TypeError for one that is not a number.
    """

    __slots__ = ("_at_ns", "_cost", "_credit", "_full", "_per_ns", "burst", "rate")

    def __init__(self, rate: float, burst: int = 1) -> None:
        self.rate: float = check_range("a rate (per second)", rate, 1e-9, 1e9)
        _check_count("burst", burst)
        self.burst: int = burst
        # With the rate as the ratio per_ns / denominator, a nanosecond brings per_ns units of credit.
        self._per_ns, denominator = rate.as_integer_ratio()
        self._cost = denominator * 1_000_000_000
        # A token that falls due within a nanosecond is taken at its end; the rest of that nanosecond counts.
        self._full = burst * self._cost + self._per_ns - 1
        self._credit = burst * self._cost
        self._at_ns = 0

    def take(self, now_ns: int, tokens: int = 1) -> bool:
        """Take `tokens` if the bucket holds them. Return whether it does."""
        # A clock that has gone back is another loop's: go on from there, with the tokens that were left.
        passed = max(now_ns - self._at_ns, 0)
        self._at_ns = now_ns
        self._credit = min(self._full, self._credit + passed * self._per_ns)
        if self._credit < tokens * self._cost:
            return False
        self._credit -= tokens * self._cost
        return True

    def give_back(self, tokens: int = 1) -> None:
        """Return tokens that were taken and not used."""
        self._credit = min(self._full, self._credit + tokens * self._cost)

    def due_ns(self, tokens: int = 1) -> int:
        """Return the first nanosecond at which `take` succeeds, if no call takes tokens before."""
        missing = tokens * self._cost - self._credit
        return self._at_ns - min(-missing // self._per_ns, 0)


class RateLimiter:
    """At most `rate` a second, and `burst` at once after a rest.

        limiter = hwloop.RateLimiter(rate=10, burst=3)
        async with limiter:                 # or: await limiter.acquire()
            await send(report)
        if limiter.try_acquire(): ...       # now or not at all

    Tasks get their tokens in the order of their calls, so a task that wants many is not overtaken by tasks that want
    few. Cancelling a task that waits costs no token.

    Parameters:
        rate: tokens a second, 1e-9 to 1e9.
        burst: the largest number of tokens that can be taken at once.
    """

    def __init__(self, rate: float, burst: int = 1) -> None:
        self._bucket = TokenBucket(rate, burst)
        self._waiters: collections.deque[tuple[int, asyncio.Future[None], Context]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def acquire(self, tokens: int = 1) -> None:
        """Wait for this task's turn and for enough tokens, and take them. Return at once if there are enough.

        Raises ValueError for more than the burst, or fewer than one.
        """
        if self.try_acquire(tokens):
            return
        assert self._loop is not None
        waiter: asyncio.Future[None] = self._loop.create_future()
        # With its context, so that the timer that wakes it has its urgency.
        entry = (tokens, waiter, copy_context())
        self._waiters.append(entry)
        if self._timer is None:
            self._arm()
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._bucket.give_back(tokens)  # served and cancelled in the same turn
            elif entry in self._waiters:
                self._waiters.remove(entry)
            if not self._loop.is_closed():  # else the coroutine is only cleared away
                self._serve()
            raise

    def try_acquire(self, tokens: int = 1) -> bool:
        """Take tokens if there are enough and no task waits for any. Return whether that succeeded."""
        if not 1 <= tokens <= self._bucket.burst:
            raise ValueError(f"tokens must be from 1 to the burst of {self._bucket.burst}, not {tokens!r}")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._waiters:
                raise RuntimeError(f"{self!r} is being waited for on another event loop")
            self._loop = loop
        return not self._waiters and self._bucket.take(clock.to_ns(loop.time()), tokens)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<RateLimiter {self._bucket.rate:g}/s burst {self._bucket.burst} waiting {len(self._waiters)}>"

    def _serve(self) -> None:
        """Give the tokens to the waiting tasks, in order, and set a timer for the next task."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._loop is not None
        now_ns = clock.to_ns(self._loop.time())
        while self._waiters:
            tokens, waiter, _ = self._waiters[0]
            if not waiter.done():  # else it was cancelled, and has not run since
                if not self._bucket.take(now_ns, tokens):
                    self._arm()
                    return
                waiter.set_result(None)
            self._waiters.popleft()

    def _arm(self) -> None:
        assert self._loop is not None
        tokens, _, context = self._waiters[0]
        self._timer = self._loop.call_at(clock.from_ns(self._bucket.due_ns(tokens)), self._serve, context=context)


class ThrottleStatistics(NamedTuple):
    """Counts of the calls so far: `calls` is the sum of the others."""

    calls: int
    ran: int
    dropped: int
    """Over the limit, replaced by a later call, cancelled."""
    waiting: int


class Throttled(Protocol[P, T_co]):
    """A function behind a limit."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co: ...

    def statistics(self) -> ThrottleStatistics:
        """Return the counts of the calls so far."""

    def cancel(self) -> None:
        """Drop the calls that wait. Later ones are served as before."""


class Decorator(Protocol):
    """The result of `throttle()`."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is a callable too
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Throttled[P, Coroutine[Any, Any, T | None]]: ...
    @overload
    def __call__(self, function: Callable[P, object], /) -> Throttled[P, None]: ...


def throttle(*, rate: float, mode: ThrottleMode = "latest", burst: int = 1, queue_size: int = 1024) -> Decorator:
    """Run a function at most `rate` times a second, and `burst` times at once after a rest.

        @hwloop.throttle(rate=20, mode="latest")
        def show(edge): ...

        button.on_edge(show)
        show.statistics()           # calls, ran, dropped, waiting
        show.cancel()               # drop the waiting calls

    A call within the limit runs at once. A call over it is, depending on `mode`:
        "drop": dropped.
        "latest": kept until the limit allows it, unless a later one takes its place: the last state always arrives.
        "queue": kept in order, up to `queue_size` calls; further ones are dropped.

    A plain function returns nothing, because it may run later: from the loop, in the context of its call, and an
    exception then goes to the loop's exception handler. A coroutine function runs in the task that awaits the call. The
    task waits and gets the result, or None if the call was dropped; cancelling it gives its turn to the next.

    A method's limit is shared by all instances. Raises ValueError for a bad rate, burst, mode or queue size, and
    TypeError for an object that can't be throttled.
    """
    if mode not in get_args(ThrottleMode):
        raise ValueError(f"mode must be one of {', '.join(map(repr, get_args(ThrottleMode)))}, not {mode!r}")
    _check_count("queue_size", queue_size)
    TokenBucket(rate, burst)  # so that an invalid one raises here, not where the function is decorated

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"throttle is for functions and coroutine functions, not {function!r}")
        gate = _Gate(TokenBucket(rate, burst), mode, queue_size, function)
        throttled: Any

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def throttled(*args: Any, **kwargs: Any) -> Any:
                return await function(*args, **kwargs) if await gate.wait() else None

        else:

            @functools.wraps(function)
            def throttled(*args: Any, **kwargs: Any) -> None:
                gate.enter(_Call(functools.partial(function, *args, **kwargs), None, copy_context()))

        throttled.statistics = gate.statistics
        throttled.cancel = gate.cancel
        return throttled  # type: ignore[no-any-return]

    return cast(Decorator, decorate)


class _Call(NamedTuple):
    run: Callable[[], object]
    turn: asyncio.Future[bool] | None
    """For a call that waits in a task: whether it may run."""
    context: Context


class _Gate:
    """Decides which calls run, and when."""

    def __init__(self, bucket: TokenBucket, mode: ThrottleMode, queue_size: int, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function  # reports of slow callbacks name it
        self._bucket = bucket
        self._mode = mode
        self._room = {"drop": 0, "latest": 1, "queue": queue_size}[mode]
        self._waiting: collections.deque[_Call] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls = self._ran = self._dropped = 0

    def statistics(self) -> ThrottleStatistics:
        return ThrottleStatistics(self._calls, self._ran, self._dropped, len(self._waiting))

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._drop(self._waiting.popleft())

    def enter(self, call: _Call) -> None:
        """Run a call now, keep it, or drop it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self.cancel()  # calls that waited on an earlier loop can't run any more
            self._loop = loop
        self._calls += 1
        if not self._waiting and self._bucket.take(clock.to_ns(loop.time())):
            self._ran += 1
            call.run()
            return
        if len(self._waiting) >= self._room:
            if self._mode != "latest":
                self._drop(call)
                return
            self.cancel()
        self._waiting.append(call)
        if self._timer is None:
            self._arm()

    async def wait(self) -> bool:
        """Wait for the turn of this call. Return False if it never comes."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        call = _Call(functools.partial(turn.set_result, True), turn, copy_context())
        self.enter(call)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                if turn.result():  # let through and cancelled in the same turn
                    self._bucket.give_back()
                    self._ran -= 1
                    self._dropped += 1
            elif call in self._waiting:
                self._waiting.remove(call)
                self._dropped += 1
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._waiting and self._loop is not None and not self._loop.is_closed():
                self._arm()
            raise

    def _drop(self, call: _Call) -> None:
        self._dropped += 1
        if call.turn is not None and not call.turn.done():
            call.turn.set_result(False)

    def _arm(self) -> None:
        assert self._loop is not None
        when = clock.from_ns(self._bucket.due_ns())
        self._timer = self._loop.call_at(when, self._release, context=self._waiting[0].context)

    def _release(self) -> None:
        """Run the first waiting call, from its own timer."""
        assert self._loop is not None
        self._timer = None
        if self._waiting[0].turn is not None and self._waiting[0].turn.done():  # cancelled, and has not run since
            self._waiting.popleft()
            self._dropped += 1
            call = None
        elif self._bucket.take(clock.to_ns(self._loop.time())):
            call = self._waiting.popleft()
        else:
            call = None  # the loop's timers may be early
        if self._waiting:
            self._arm()
        if call is not None:
            self._ran += 1
            call.run()


def _check_count(what: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{what} must be at least 1, not {value!r}")
