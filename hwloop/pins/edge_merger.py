"""`EdgeMerger`: the watched lines of a factory in one epoll set, and their edges in the order of their timestamps.

Each line has its own descriptor, and descriptors are read one after the other, so a later edge of one line may be read
before an earlier edge of another. An encoder then decodes wrongly, and a program sees a release before the press that
caused it. So edges wait here until nothing earlier can still arrive. Two facts decide when that is:

- lgpio and the simulated board write their reports in the order of their timestamps. Once a last poll finds nothing
  unread, everything that arrives later is later; where a long backlog is left in a descriptor, the last edge read from
  it is the limit.
- The kernel's own line requests are filled by one interrupt thread for each line, in any order. A stream says how long
  an edge may take (`EdgeStream.disorder_ns`), and where several lines are watched, edges wait that long.

Edges with the same timestamp keep the order in which they were read. All methods need the lock of `Delivery`.
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


class EdgeTarget(Protocol):
    """A pin, to which edges are delivered."""

    def held_off(self) -> bool:
        """Return whether something holds the line off the level of its pull."""

    def deliver(self, edge: Edge) -> None:
        """Pass `edge` to the device."""


class QueuedEdge(NamedTuple):
    """An edge on its way to a pin."""

    pin: EdgeTarget
    edge: Edge
    when_ns: int
    """Its timestamp, or that of an earlier edge of its stream if that is later."""
    found: bool = False
    """Whether the line's level showed the edge, without a report; its timestamp is then the time of reading."""


Failed = Callable[[EdgeStream, BaseException], object]

_NEVER_NS = 1 << 63
_ROUNDS = 16  # polls for descriptors that became readable meanwhile
_by_time = operator.attrgetter("when_ns")


class EdgeMerger:
    """Lines whose edges are read on `clock`, until `close()`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        clock.claim(self._epoll.fileno(), announced=True)  # of FIFOs that are
        self._by_fd: dict[int, tuple[EdgeStream, EdgeTarget]] = {}
        self._last_ns: dict[EdgeStream, int] = {}
        self._held: list[QueuedEdge] = []  # read, but something earlier may still arrive; sorted by time
        self._ordered: collections.deque[QueuedEdge] = collections.deque()

    def fileno(self) -> int:
        """Return the epoll set, which is readable when a line is."""
        return self._epoll.fileno()

    def __bool__(self) -> bool:
        """Return whether any line is watched, or an edge waits."""
        return bool(self._by_fd or self._ordered or self._held)

    def watched(self) -> bool:
        """Return whether any line is watched."""
        return bool(self._by_fd)

    def add(self, stream: EdgeStream, pin: EdgeTarget) -> None:
        """Watch a stream."""
        for fd in _descriptors(stream):
            self._by_fd[fd] = (stream, pin)
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, stream: EdgeStream) -> None:
        """Stop watching a stream and forget its edges. Harmless if it is not watched."""
        for fd, (watched, pin) in list(self._by_fd.items()):
            if watched is stream:
                del self._by_fd[fd]
                with contextlib.suppress(OSError):  # a library has closed the descriptor
                    self._epoll.unregister(fd)
                self._last_ns.pop(stream, None)
                self.forget(pin)

    def forget(self, pin: EdgeTarget) -> None:
        """Forget the edges that wait for this pin."""
        self._held = [entry for entry in self._held if entry.pin is not pin]
        self._ordered = collections.deque(entry for entry in self._ordered if entry.pin is not pin)

    def append(self, entry: QueuedEdge) -> None:
        """Queue an edge that comes from no descriptor, after all that wait."""
        self._ordered.append(entry)

    def collect(self, failed: Failed) -> bool:
        """Read all edges and return whether there were any. A stream that fails is passed to `failed`."""
        read: set[EdgeStream] = set()
        horizon_ns, anything = _NEVER_NS, False  # no unread edge is earlier
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

    def _hold(self, stream: EdgeStream, pin: EdgeTarget, edges: list[Edge]) -> None:
        when_ns = self._last_ns.get(stream, 0)
        for edge in edges:
            when_ns = max(when_ns, edge.timestamp_ns)  # edges of one stream always keep their order
            self._held.append(QueuedEdge(pin, edge, when_ns))
        self._last_ns[stream] = when_ns

    def _latest_ns(self, now_ns: int) -> int:
        """Return the time up to which every edge was readable at `now_ns`."""
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
        """Return how long the first held edge must still wait; None if none is held."""
        if not self._held:
            return None
        streams = {stream for stream, _ in self._by_fd.values()}
        disorder_ns = max((stream.disorder_ns for stream in streams), default=0)
        return max(0, self._held[0].when_ns + disorder_ns - self._clock.now_ns())

    def recheck(self) -> None:
        """Queue edges whose report was lost, as the levels of the lines show."""
        for stream, pin in dict(self._by_fd.values()).items():
            with contextlib.suppress(OSError):  # its next read reports that
                self._ordered.extend(QueuedEdge(pin, edge, edge.timestamp_ns, found=True) for edge in stream.recheck())

    def doubtful(self) -> bool:
        """Return whether to recheck soon, because a line is not at the level of its last edge."""
        return any(stream.doubtful for stream, _ in self._by_fd.values())

    def held_off(self) -> bool:
        """Return whether something holds a line off the level of its pull."""
        return any(pin.held_off() for _, pin in self._by_fd.values())

    def first(self) -> QueuedEdge | None:
        """Return the next edge to deliver."""
        return self._ordered[0] if self._ordered else None

    def take(self, entry: QueuedEdge) -> bool:
        """Remove `entry` if it is still the next one, and return whether it was."""
        if self._ordered and self._ordered[0] is entry:
            self._ordered.popleft()
            return True
        return False

    def next_of(self, pins: Collection[object]) -> QueuedEdge | None:
        """Return the next waiting edge of these pins."""
        for entries in (self._ordered, self._held):
            for entry in entries:
                if entry.pin in pins:
                    return entry
        return None

    def clear(self) -> None:
        """Stop watching, and forget all edges."""
        self._by_fd.clear()
        self._last_ns.clear()
        self._held.clear()
        self._ordered.clear()

    def close(self) -> None:
        """Close the epoll set. Harmless when repeated."""
        self.clear()
        if not self._epoll.closed:
            self._clock.disclaim(self._epoll.fileno())
            self._epoll.close()


def _descriptors(stream: EdgeStream) -> list[int]:
    """Return the descriptor that is readable when edges wait, and the one for a device that goes away."""
    return [fd for fd in (stream.fileno(), stream.alarm_fileno()) if fd >= 0]
