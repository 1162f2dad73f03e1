"""Measurements made of edges and their times: pulse widths, frequencies, and the position of an encoder.

    async with gpio.pulse_width(24) as echo:
        pulse = await anext(echo)                 # pulse.seconds

    async with gpio.encoder(5, 6, pull="up") as knob:
        async for steps in knob:
            print(steps, knob.direction)

Everything is computed from the kernel's timestamps, so a late loop measures as well as a punctual one. It happens in
the reader itself, before any queue: attributes are always up to date, and a program that is slow to iterate misses
nothing. A detected loss spoils no result: a pulse with a missing edge is not reported, a frequency starts again, and an
encoder counts the transitions that it could not decode.

Each takes lines and watches them itself, or takes a `Watch` that exists already.
"""

from __future__ import annotations

import asyncio
import collections
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Literal, NamedTuple, Self, TypeVar

from hwloop.board import Edge, LineName
from hwloop.core import clock
from hwloop.core.periodic_timer import Schedule
from hwloop.lines import Level, Pull
from hwloop.requests import check_level
from hwloop.sources.channel import Iteration
from hwloop.sources.event_stream import EventStream
from hwloop.sources.gpio.edges import Watch

T = TypeVar("T")

KEPT = 1024
"""Results kept for consumers."""


class Pulse(NamedTuple):
    """A pulse that was observed from its beginning to its end."""

    seconds: float
    """Its width."""
    timestamp_ns: int
    """The time at which it began: nanoseconds, CLOCK_MONOTONIC."""


class Measurement(EventStream[T]):
    """The base of everything that is computed from a watch's edges: opening, closing, and the results' channel.

    Parameters:
        lines: BCM numbers or names, which are watched with `pull`, `active_low` and `debounce`; or one `Watch`, open
            or not. One that was open stays open afterwards.
        wanted: how many lines it needs.
        queue_size: results kept for consumers (1024 if None); the oldest are dropped.

    Attributes:
        watch: the source of the edges, with its `statistics()`.

    Iterating ends when the watch is closed, and raises the `HardwareError` with which it failed. The measurement goes
    on when the watch has been reopened.
    """

    def __init__(
        self,
        lines: tuple[LineName | Watch, ...],
        wanted: int,
        pull: Pull | None,
        active_low: bool,
        debounce: float,
        *,
        queue_size: int | None = None,
    ) -> None:
        what = type(self).__name__
        given = [line for line in lines if isinstance(line, Watch)]
        if given:
            if len(lines) > 1:
                raise TypeError(f"{what}: lines, or one Watch, not {lines!r}")
            if pull is not None or active_low or debounce:
                raise TypeError(f"{what}: pull, active_low and debounce are those of the Watch")
            self.watch: Watch = given[0]
        else:
            named = tuple(line for line in lines if not isinstance(line, Watch))
            self.watch = Watch(*named, pull=pull, active_low=active_low, debounce=debounce)
        if len(self.watch.lines) != wanted:
            raise ValueError(f"{what} needs {wanted} line{'s' * (wanted > 1)}, not {len(self.watch.lines)}")
        if self.watch.edges != "both":
            raise ValueError(f"{what} needs edges='both', not a Watch of {self.watch.edges} edges")
        super().__init__(f"{what} of {self.watch.name}", KEPT if queue_size is None else queue_size, "drop-oldest")
        self._opened_watch = False

    @abstractmethod
    def _take(self, edge: Edge) -> None:
        """Process an edge, in the reader."""

    @abstractmethod
    def _interrupted(self) -> None:
        """The watch has come back after a failure: what was under way will not be completed."""

    def _begin(self) -> None:
        """The watch is open, and edges are processed from now on."""

    @property
    def lost(self) -> int:
        """Edges that the source knows to be lost."""
        return self._channel.lost

    @property
    def dropped(self) -> int:
        """Results that nobody took and that gave way to newer ones."""
        return self._channel.dropped

    def open(self) -> Self:
        """Open the watch, if it is not open, and begin to measure. `async with` does it too.

        Raises `HardwareError` as `Watch` does, and RuntimeError without a running loop, or if it is open or closed.
        """
        loop = self._loop_to_open_on()
        self._opened_watch = self.watch.fileno() < 0
        if self._opened_watch:
            self.watch.open()
        self._note_open(loop)
        self.watch.add_callback(self._take)
        self.watch.at_end.append(self._watch_ended)
        self.watch.at_reopen.append(self._interrupted)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop measuring, and close the watch unless it was open before. Harmless when repeated."""
        self._finish(None)

    def _watch_ended(self) -> None:
        self._finish(self.watch.failure)

    def _finish(self, failure: Exception | None) -> None:
        if self.closed:
            return
        self._channel.ended = True
        try:
            if self._loop is not None:
                self.watch.remove_callback(self._take)
                self.watch.at_end.remove(self._watch_ended)
                self.watch.at_reopen.remove(self._interrupted)
                if self._opened_watch:
                    self.watch.close()
        finally:
            self._end(failure)

    def __aiter__(self) -> AsyncIterator[T]:
        return Iteration(self, self._channel, self.__anext__)  # some compute the results when asked

    def __repr__(self) -> str:
        state = "closed" if self.closed else "new" if self._loop is None else "open"
        return f"<{self.name} {state}>"


class PulseWidth(Measurement[Pulse]):
    """The widths of pulses on a line. `hwloop.gpio.pulse_width` is this class; iterating yields each `Pulse`, in order.

    Parameters:
        line, pull, active_low, debounce: see `Measurement`.
        value: the level that makes a pulse.

    Attributes:
        last: the last pulse; None before the first.
        count: pulses so far.
    """

    def __init__(
        self,
        line: LineName | Watch,
        *,
        value: Level = 1,
        pull: Pull | None = None,
        active_low: bool = False,
        debounce: float = 0.0,
    ) -> None:
        check_level("value", value)
        super().__init__((line,), 1, pull, active_low, debounce)
        self.last: Pulse | None = None
        self.count: int = 0
        self._value = value
        self._began_ns: int | None = None

    def _take(self, edge: Edge) -> None:
        if edge.lost:
            self._channel.lost += edge.lost
            self._began_ns = None
        if edge.value == self._value:
            self._began_ns = edge.timestamp_ns
        elif self._began_ns is not None:
            self.last = Pulse((edge.timestamp_ns - self._began_ns) / 1e9, self._began_ns)
            self.count += 1
            self._began_ns = None
            self._channel.put(self.last)

    def _interrupted(self) -> None:
        self._began_ns = None


class Frequency(Measurement[float]):
    """The rising edges of a line a second, in Hz. `hwloop.gpio.frequency` is this class; iterating yields it each
    `window`.

    Parameters:
        line, pull, active_low, debounce: see `Measurement`.
        window: seconds over which the mean is taken. With fewer than two rising edges in a window it is 0.

    Attributes:
        count: rising edges so far.
    """

    def __init__(
        self,
        line: LineName | Watch,
        *,
        window: float = 1.0,
        pull: Pull | None = None,
        active_low: bool = False,
        debounce: float = 0.0,
    ) -> None:
        self._schedule = Schedule(window, None, "skip")
        self._due_ns: int | None = None
        super().__init__((line,), 1, pull, active_low, debounce)
        self.count: int = 0
        self._window_ns = clock.to_ns(window)
        self._rises_ns: collections.deque[int] = collections.deque()

    @property
    def hz(self) -> float:
        """The mean over the rising edges of the last `window` seconds: periods between the first and the last."""
        self._forget(clock.to_ns(asyncio.get_running_loop().time()))
        if len(self._rises_ns) < 2:
            return 0.0
        return 1e9 * (len(self._rises_ns) - 1) / (self._rises_ns[-1] - self._rises_ns[0])

    async def __anext__(self) -> float:
        # A value stays due until a consumer has it: a wait that is cancelled, even as it ends, takes none away.
        loop = asyncio.get_running_loop()
        while True:
            self._channel.check_open()
            now_ns = clock.to_ns(loop.time())
            if self._due_ns is None:
                self._due_ns, _ = self._schedule.next(now_ns)
            if now_ns >= self._due_ns:
                self._due_ns = None
                return self.hz
            timer = loop.call_at(clock.from_ns(self._due_ns), self._channel.wake_all)
            try:
                await self._channel.wait()
            finally:
                timer.cancel()

    def add_callback(self, callback: Callable[[float], object]) -> None:
        """Raise TypeError: a frequency is computed when it is asked for, by iterating or by reading `hz`."""
        raise TypeError(f"{self.name} has no callbacks; iterate over it, or read hz in loop.call_every()")

    def _take(self, edge: Edge) -> None:
        if edge.lost:
            self._channel.lost += edge.lost
            self._rises_ns.clear()
        if edge.value:
            self.count += 1
            self._forget(edge.timestamp_ns)
            self._rises_ns.append(edge.timestamp_ns)

    def _interrupted(self) -> None:
        self._rises_ns.clear()

    def _forget(self, now_ns: int) -> None:
        while self._rises_ns and now_ns - self._rises_ns[0] > self._window_ns:
            self._rises_ns.popleft()


class Encoder(Measurement[int]):
    """A quadrature encoder: two lines that change in turn. `hwloop.gpio.encoder` is this class.

    It turns forward where the first line leads: 00, 10, 11, 01 and 00 again. Iterating yields `steps` whenever it has
    changed, the newest value only.

    Parameters:
        lines: the encoder's A and B.
        pull, active_low, debounce: see `Measurement`. Debouncing loses transitions of a quick encoder. Without it,
            bouncing does no harm: the lines go back and forth, and so does the count.
        resolution: steps made by four transitions: 4 counts all, 2 those of A, 1 one of them (usually a detent).

    Attributes:
        steps: since it was opened; may be set. direction: of the last step: 1, -1, or 0 before the first. invalid:
        transitions that no turning makes: a line at the level that it had, because an edge was missed. Each may
            shift the count by four, a whole cycle of the phase; the phase is right again afterwards.
    """

    def __init__(
        self,
        *lines: LineName | Watch,
        resolution: Literal[1, 2, 4] = 4,
        pull: Pull | None = None,
        active_low: bool = False,
        debounce: float = 0.0,
    ) -> None:
        if resolution not in (1, 2, 4):
            raise ValueError(f"resolution must be 1, 2 or 4, not {resolution!r}")
        super().__init__(lines, 2, pull, active_low, debounce, queue_size=1)
        self.steps: int = 0
        self.direction: int = 0
        self.invalid: int = 0
        self._yielded = 0
        self._divisor = 4 // resolution
        self._levels = [0, 0]
        self._place = 0  # transitions, such that the lowest two bits are the phase

    async def __anext__(self) -> int:
        while (steps := await self._channel.get()) == self._yielded:
            pass  # it turned, and turned back
        self._yielded = steps
        return steps

    def _begin(self) -> None:
        """Read the levels; edges count from here."""
        self._before_ns = clock.to_ns(asyncio.get_running_loop().time())
        self._levels = [self.watch.level(line) for line in self.watch.lines]
        self._after_ns = clock.to_ns(asyncio.get_running_loop().time())
        self._place = _PHASES.index(tuple(self._levels))

    def _take(self, edge: Edge) -> None:
        if edge.timestamp_ns < self._before_ns:
            return  # the levels that were read include it
        self._channel.lost += edge.lost
        which = self.watch.lines.index(edge.line)
        if edge.value == self._levels[which]:
            self.invalid += edge.timestamp_ns > self._after_ns
            return
        self._levels[which] = edge.value
        forward = (_PHASES.index(tuple(self._levels)) - self._place) % 4 == 1
        before = self._step()
        self._place += 1 if forward else -1
        change = self._step() - before
        if change:
            self.steps += change
            self.direction = change
            self._channel.put(self.steps)

    _interrupted = _begin

    def _step(self) -> int:
        # Steps are at the transitions 0 to 1 and, with resolution 2, also 2 to 3: those of A.
        return (self._place + self._divisor - 1) // self._divisor


_PHASES = ((0, 0), (1, 0), (1, 1), (0, 1))

pulse_width = PulseWidth
frequency = Frequency
encoder = Encoder
