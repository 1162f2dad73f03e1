"""Edges of GPIO lines.

An edge carries the time at which the kernel saw it, so its time is exact however late it is read. Edges can be lost
before hwloop sees them: in the kernel, in lgpio, in a full FIFO. Every loss that can be detected is counted, on the
next edge and in `statistics()`. An edge lost at the end of a burst has no next one; so once the lines have been quiet,
they are read, and an edge without a report is delivered late, with the time at which it was found.

An edge takes these steps: `Source.on_readable` calls `Watch.receive`, which reads and decodes all reports that are
there; each edge goes into the channel, which calls the callbacks and wakes a consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple

from hwloop import board as boards
from hwloop.board import Board, Edge, EdgeKind, EdgeRequest, EdgeStream, LineName, Losses, Pull
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.core.statistics import WatchStatistics
from hwloop.core.urgency import Priority
from hwloop.lines import RECHECK_AFTER, RECHECKS, Level, recheck_pause
from hwloop.requests import check_choice, check_line
from hwloop.sources.containment import EXITS
from hwloop.sources.intake import WhenFull
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.source import Source


class Watch(Source[Edge]):
    """Edges of one or more GPIO lines. `hwloop.gpio.watch` is this class.

    As a source it yields each `Edge`, in the order of their times.

    Parameters:
        lines: BCM numbers (17), the kernel's names ("GPIO17"), or positions on the header ("J8:11"); one or several, or
            a list of them.
        chip: label or device path of the chip that has the lines; None for the chip of the header.
        edges: "rising", "falling" or "both"; of the logical level. Lost edges can only be detected under "both".
        pull: the chip's pull resistor: "up", "down", "none" for no resistor, None to leave it as it is.
        active_low: whether the line is active (1) when it is electrically low.
        debounce: seconds for which a level must be stable to be reported, 0 to 5; 0 reports every edge. See
            docs/gpio.md.
        queue_size, when_full, priority, reopen, on_reopen, rate_limit, name: as for every `Source`; the name is
            "gpio:17" if not given.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `async with` raise `HardwareError` if
    a line does not exist, is in use, or the program may not use it.

    Example:

        async with gpio.watch(17, pull="up", active_low=True, debounce=0.005) as button:
            async for edge in button:
                print("pressed" if edge.value else "released", edge.timestamp_ns)

    Source: the kernel's GPIO character device, include/uapi/linux/gpio.h.
    """

    def __init__(
        self,
        *lines: LineName | Sequence[LineName],
        chip: str | None = None,
        edges: EdgeKind = "both",
        pull: Pull | None = None,
        active_low: bool = False,
        debounce: float = 0.0,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        priority: Priority = Priority.INTERRUPT,
        name: str | None = None,
        reopen: Backoff | None = None,
        on_reopen: ReopenHook | None = None,
        rate_limit: RateLimit | float | None = None,
    ) -> None:
        named = _flat(lines)
        name = name or f"gpio:{','.join(map(str, named))}"
        check_choice("edges", edges, EdgeKind)  # a request may also ask for none
        self._request = EdgeRequest(
            named, consumer=name, chip=chip, edges=edges, pull=pull, active_low=active_low, debounce=debounce
        )
        super().__init__(
            name=name,
            priority=priority,
            queue_size=queue_size,
            when_full=when_full,
            reopen=reopen,
            on_reopen=on_reopen,
            rate_limit=rate_limit,
        )
        self.lines = named
        self.edges: EdgeKind = edges
        self._board: Board | None = None
        self._stream: EdgeStream | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._quiet_looks = 0
        self._alarm_fd = -1
        self._past_losses = Losses()
        self._level_waiters: dict[asyncio.Future[None], Level] = {}

    def on_edge(self, callback: Callable[[Edge], object]) -> None:
        """Call `callback(edge)` straight from the reader: `add_callback` by the name that suits lines."""
        self.add_callback(callback)

    @property
    def value(self) -> int:
        """The line's logical level now; with debounce the settled one. A watch of several lines has `values`."""
        return self.level(self._only_line("value"))

    @property
    def values(self) -> dict[LineName, int]:
        """The logical level of each line now, settled as in `value`."""
        return {line: self.level(line) for line in self.lines}

    def level(self, line: LineName) -> int:
        """Return the logical level of one of the lines now.

        Raises ValueError if the line is not watched, RuntimeError if the watch is not open, and `HardwareError`.
        """
        if line not in self.lines and (line := check_line(line)) not in self.lines:
            raise ValueError(f"{self.name}: line {line!r} is not watched; {', '.join(map(str, self.lines))} are")
        if self._stream is None:
            raise RuntimeError(f"{self.name} is not open; use 'async with' or call open() first")
        return self._stream.level(line)

    @property
    def active_level(self) -> Level | None:
        """The logical level to which the watched edges lead, or against which the line is pulled; None if unknown."""
        if self.edges != "both":
            return 1 if self.edges == "rising" else 0
        if self._request.active_low:
            return 1
        return {"up": 0, "down": 1}.get(self._request.pull or "")  # type: ignore[return-value]

    async def wait_for(self, value: Level, timeout: float | None = None) -> None:
        """Return when the line is at a logical level: at once if it is there, else at the edge to it.

        `timeout` in seconds. Edges that arrive meanwhile are not queued unless the watch is iterated over as well.
        Raises TimeoutError, the `HardwareError` with which the source failed, or RuntimeError if it is closed.
        """
        line = self._only_line("wait_for")
        if value not in (0, 1):
            raise ValueError(f"{self.name}: a level is 0 or 1, not {value!r}")
        if self.edges != "both" and self.edges != ("rising" if value else "falling"):
            raise ValueError(f"{self.name}: level {value} can't be waited for with edges={self.edges!r}; use 'both'")
        loop = asyncio.get_running_loop()
        reached: asyncio.Future[None] = loop.create_future()
        started_ns = round(loop.time() * 1e9)

        def check(edge: Edge) -> None:
            # An earlier edge says nothing about the level now; but a debounced level is known from edges only.
            fresh = edge.timestamp_ns >= started_ns or self._request.debounce
            if edge.value == value and fresh and not reached.done():
                reached.set_result(None)

        def end() -> None:
            if not reached.done():
                reached.set_exception(self.failure or RuntimeError(f"{self.name} was closed"))

        # While a failed device is being reopened there is no level; it is read when the device is back.
        if not self._away and self.level(line) == value:
            return
        self.add_callback(check)
        self._level_waiters[reached] = value
        self.at_end.append(end)
        try:
            async with asyncio.timeout(timeout):
                await reached
        finally:
            del self._level_waiters[reached]
            self.remove_callback(check)
            self.at_end.remove(end)

    def statistics(self) -> WatchStatistics:
        """Return the counters so far, with the kinds of losses."""
        losses = self._past_losses
        if self._stream is not None:
            losses = _sum(losses, self._stream.losses)
        return WatchStatistics(
            **vars(super().statistics()),
            lost_kernel=losses.kernel,
            lost_fifo=losses.fifo,
            merged=losses.merged,
            reconciled=losses.reconciled,
            overflows=losses.overflows,
        )

    def connect(self) -> int:
        if self._board is None:
            self._board = boards.current()
        try:
            with DeferredSignals():  # a second Ctrl-C would leave open what is not noted yet
                self._stream = boards.checked_call(self._board.open_edges, self._request, EdgeStream)
            alarm_fd = self._stream.alarm_fileno()
            if alarm_fd >= 0:
                asyncio.get_running_loop().add_reader(alarm_fd, self._on_alarm)
                self._alarm_fd = alarm_fd
            for waiter, value in self._level_waiters.items():
                if not waiter.done() and self._stream.level(self.lines[0]) == value:
                    waiter.set_result(None)
        except BaseException:
            self.disconnect()
            raise
        self._quiet_looks = 0
        self._await_quiet()
        return self._stream.fileno()

    def receive(self) -> Iterable[Edge]:
        assert self._stream is not None
        edges = self._stream.read()
        for edge in edges:
            if edge.lost:
                self.count_lost(edge.lost)
        if self._quiet_timer is None or self._quiet_looks:
            self._quiet_looks = 0
            self._await_quiet()
        return edges

    def disconnect(self) -> None:
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        if self._alarm_fd >= 0:
            assert self._loop is not None
            if not (self._loop.is_closed() or self.forked):
                self._loop.remove_reader(self._alarm_fd)
            self._alarm_fd = -1
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._past_losses = _sum(self._past_losses, stream.losses)
            stream.close()

    def _on_alarm(self) -> None:
        assert self._stream is not None
        try:
            self._stream.check()
        except EXITS:
            raise
        except BaseException as error:
            self.fail(error)

    def _await_quiet(self) -> None:
        # A lost report of a single edge leaves no trace but the level, so the lines are read for a while, at growing
        # intervals, and then no more: an idle line causes no wakeups.
        assert self._stream is not None
        shortest = max(RECHECK_AFTER, self._request.debounce + 0.005)
        pause = recheck_pause(max(self._quiet_looks, 1), doubtful=self._stream.doubtful, shortest=shortest)
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        self._quiet_timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        """Compare the lines with the last reports; where they differ, look again soon."""
        self._quiet_timer = None
        assert self._stream is not None
        try:
            edges = self._stream.recheck()
        except EXITS:
            raise
        except BaseException as error:
            self.fail(error)
            return
        for edge in edges:
            self.deliver(edge)
        if self._stream is None:  # a callback has closed the watch
            return
        if not self._stream.doubtful:
            self._quiet_looks += 1
        if self._stream.doubtful or (self._quiet_looks < RECHECKS and self.edges == "both"):
            self._await_quiet()

    def _only_line(self, what: str) -> LineName:
        if len(self.lines) > 1:
            raise TypeError(f"{self.name}: {what} is for a watch of one line; this one has {len(self.lines)}")
        return self.lines[0]


watch = Watch


def _flat(lines: Sequence[LineName | Sequence[LineName]]) -> tuple[LineName, ...]:
    """Return the lines of a watch, given one by one or as one list. Raises ValueError or TypeError."""
    if len(lines) == 1 and isinstance(lines[0], Iterable) and not isinstance(lines[0], str | bytes):
        lines = tuple(lines[0])
    if not lines:
        raise ValueError("gpio.watch needs a line: a BCM number such as 17, or a name such as 'GPIO17'")
    return tuple(check_line(line) for line in lines)


def _sum(one: Losses, other: Losses) -> Losses:
    return Losses(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))
