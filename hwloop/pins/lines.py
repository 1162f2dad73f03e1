"""The watched lines of a factory: one epoll set, and their edges in the order of their time stamps.

Each line has a descriptor of its own, and descriptors are read one after the other, so a later edge of one line may be
read before an earlier one of another. An encoder decodes wrongly then, and a program sees a release before the press
that caused it. So edges wait here until nothing earlier can still come. The facts that decide when that is:

- lgpio and the simulated board write their reports in the order of their time stamps. Once a last look finds
  nothing that was not read, whatever comes later is later; where a long backlog is left in a descriptor, the last edge
  read from it is the limit.
- The kernel's own line requests are filled by one interrupt thread for each line, in any order. A stream says how long
  an edge may take (`EdgeStream.disorder_ns`), and where several lines are watched, edges wait as long as that.

Edges with the same time stamp keep the order in which they were read. All methods need the lock of `Dispatch`.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import operator
import select
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from hwloop.board import Edge, EdgeStream
from hwloop.core.clock import Clock


class Taker(Protocol):
    """A pin: where an edge is delivered."""

    def held_off(self) -> bool:
        """Whether something holds the line off the level to which its pull takes it."""

    def deliver(self, edge: Edge) -> None:
        """Hand `edge` to the device."""


class Entry(NamedTuple):
    """An edge on its way to a pin."""

    pin: Taker
    edge: Edge
    when_ns: int
    """Its time stamp, or that of an earlier edge of its stream where that is later."""
    found: bool = False
    """Whether the line's level showed it, and no report: then its time stamp is that of the look."""


Failed = Callable[[EdgeStream, BaseException], object]

_NEVER_NS = 1 << 63
_ROUNDS = 16  # looks for descriptors that became readable meanwhile
_by_time = operator.attrgetter("when_ns")


class Lines:
    """Lines whose edges are read on `clock`. `close()` it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        clock.claim(self._epoll.fileno())
        self._by_fd: dict[int, tuple[EdgeStream, Taker]] = {}
        self._last_ns: dict[EdgeStream, int] = {}
        self._held: list[Entry] = []  # read, and something earlier may still come; by time
        self._ordered: collections.deque[Entry] = collections.deque()

    def fileno(self) -> int:
        """The epoll set, which is readable when a line is."""
        return self._epoll.fileno()

    def __bool__(self) -> bool:
        """Whether any line is watched, or an edge waits."""
        return bool(self._by_fd or self._ordered or self._held)

    def watched(self) -> bool:
        """Whether any line is watched."""
        return bool(self._by_fd)

    def add(self, stream: EdgeStream, pin: Taker) -> None:
        """Watch a stream."""
        for fd in _descriptors(stream):
            self._by_fd[fd] = (stream, pin)
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, stream: EdgeStream) -> None:
        """Watch a stream no more, and forget its edges. Harmless if it is not watched."""
        for fd, (watched, pin) in list(self._by_fd.items()):
            if watched is stream:
                del self._by_fd[fd]
                with contextlib.suppress(OSError):  # somebody has closed the descriptor
                    self._epoll.unregister(fd)
                self._last_ns.pop(stream, None)
                self.forget(pin)

    def forget(self, pin: Taker) -> None:
        """Deliver no edge that waits for this pin."""
        self._held = [entry for entry in self._held if entry.pin is not pin]
        self._ordered = collections.deque(entry for entry in self._ordered if entry.pin is not pin)

    def append(self, entry: Entry) -> None:
        """Queue an edge that comes from no descriptor, after all that wait already."""
        self._ordered.append(entry)

    def collect(self, failed: Failed) -> bool:
        """Read what is there; whether that was anything. A stream that fails is passed to `failed`."""
        read: set[EdgeStream] = set()
        horizon_ns, anything = _NEVER_NS, False  # of what is not read yet, nothing is earlier
        for _ in range(_ROUNDS):
            now_ns = self._clock.now_ns()
            ready = {fd: self._by_fd[fd] for fd, _ in self._epoll.poll(0) if fd in self._by_fd}
            streams = {stream for stream, _ in ready.values()}
            horizon_ns = min((self._last_ns[stream] for stream in streams & read), default=_NEVER_NS)
            if streams <= read:
                break
            anything = True
            for fd, (stream, pin) in ready.items():
                if stream in read or fd not in self._by_fd:
                    continue
                try:
                    if fd == stream.alarm_fileno():
                        stream.check()
                    elif edges := stream.read():
                        read.add(stream)
                        self._hold(stream, pin, edges)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.remove(stream)
                    failed(stream, error)
        self._release(min(horizon_ns, self._latest_ns(now_ns)))
        return anything

    def _hold(self, stream: EdgeStream, pin: Taker, edges: list[Edge]) -> None:
        when_ns = self._last_ns.get(stream, 0)
        for edge in edges:
            when_ns = max(when_ns, edge.timestamp_ns)  # the edges of one stream keep their order in any case
            self._held.append(Entry(pin, edge, when_ns))
        self._last_ns[stream] = when_ns

    def _latest_ns(self, now_ns: int) -> int:
        """The time up to which every edge could be read at `now_ns`."""
        streams = {stream for stream, _ in self._by_fd.values()}
        if len(streams) < 2:
            return _NEVER_NS
        disorder_ns = max(stream.disorder_ns for stream in streams)
        return now_ns - disorder_ns if disorder_ns else _NEVER_NS

    def _release(self, until_ns: int) -> None:
        self._held.sort(key=_by_time)
        count = bisect.bisect_right(self._held, until_ns, key=_by_time)
        self._ordered.extend(self._held[:count])
        del self._held[:count]

    def wait_ns(self) -> int | None:
        """For how long the first edge that is held must wait; None where none is."""
        if not self._held:
            return None
        streams = {stream for stream, _ in self._by_fd.values()}
        disorder_ns = max((stream.disorder_ns for stream in streams), default=0)
        return max(0, self._held[0].when_ns + disorder_ns - self._clock.now_ns())

    def recheck(self) -> None:
        """Queue edges whose report was lost, as the level of their lines shows."""
        for stream, pin in dict(self._by_fd.values()).items():
            with contextlib.suppress(OSError):  # its next read tells
                self._ordered.extend(Entry(pin, edge, edge.timestamp_ns, found=True) for edge in stream.recheck())

    def doubtful(self) -> bool:
        """Whether a stream is to be asked again soon, because a line is not where its last edge left it."""
        return any(stream.doubtful for stream, _ in self._by_fd.values())

    def held_off(self) -> bool:
        """Whether something holds a line off the level to which its pull takes it."""
        return any(pin.held_off() for _, pin in self._by_fd.values())

    def first(self) -> Entry | None:
        """The next edge to be delivered."""
        return self._ordered[0] if self._ordered else None

    def take(self, entry: Entry) -> bool:
        """Remove `entry`, if it is still the next one."""
        if self._ordered and self._ordered[0] is entry:
            self._ordered.popleft()
            return True
        return False

    def next_of(self, pins: Collection[object]) -> Entry | None:
        """The next edge of any of these pins that waits."""
        for entries in (self._ordered, self._held):
            for entry in entries:
                if entry.pin in pins:
                    return entry
        return None

    def clear(self) -> None:
        """Watch nothing, forget all edges."""
        self._by_fd.clear()
        self._last_ns.clear()
        self._held.clear()
        self._ordered.clear()

    def close(self) -> None:
        """Give the epoll set back. Harmless when repeated."""
        self.clear()
        if not self._epoll.closed:
            self._clock.disclaim(self._epoll.fileno())
            self._epoll.close()


def _descriptors(stream: EdgeStream) -> list[int]:
    """What is readable when edges wait, and what tells that the device may be gone."""
    return [fd for fd in (stream.fileno(), stream.alarm_fileno()) if fd >= 0]
