"""The way of a report from the kernel to a FIFO: the kernel's buffer of each line, lgpio's thread, the FIFO itself.

Nothing goes wrong on this way unless a fault says so. It may keep lgpio's thread from running. Then the kernel keeps
the newest events of each line and drops the others (linereq_put_event() in gpiolib-cdev.c), and lgpio reports the kept
ones later without noticing the gap. Or it may make FIFOs small, or hand over a record in two parts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import NamedTuple, Protocol

from firmware_sim.pins import Line
from firmware_sim.timeline import Timeline

RECORD = 16
"""Bytes of a report."""
EDGE_LEVELS = 2
"""Levels below this one are edges; 2 is the watchdog's report."""


class Fifo(Protocol):
    """A FIFO for reports."""

    paused: bool

    def write(self, data: bytes, room: int | None) -> bool:
        """Write data whole. False if the FIFO is full, or would hold more than `room` bytes."""


class _Event(NamedTuple):
    when_ns: int
    number: int
    line: Line
    level: int
    find_fifo: Callable[[], Fifo | None]
    record: bytes


class Reports:
    """All reports of one lgpio. The timeline's lock is held in every method.

    Attributes:
        capacities: the numbers of reports that faults let a FIFO hold; the smallest one counts.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.capacities: list[int] = []
        self._timeline = timeline
        self._asleep: dict[object, bool] = {}  # faults that keep the thread from running, and whether a claim ends them
        self._keep = 0
        self._waiting: dict[Line, collections.deque[_Event]] = {}
        self._events = 0
        self._tears: collections.deque[tuple[int, float]] = collections.deque()
        self._torn: collections.deque[tuple[Fifo, bytes]] | None = None

    def send(self, line: Line, when_ns: int, level: int, find_fifo: Callable[[], Fifo | None], record: bytes) -> None:
        """Send a report to the FIFO that `find_fifo` returns, and count it on its line."""
        self._events += 1
        event = _Event(when_ns, self._events, line, level, find_fifo, record)
        if not self._asleep:
            self._write(event)
            return
        waiting = self._waiting.setdefault(line, collections.deque())
        waiting.append(event)
        if len(waiting) > self._keep:
            self._count(waiting.popleft(), written=False)

    def stop_thread(self, by: object, *, keep: int, until_claim: bool) -> None:
        """Keep lgpio's thread from running until `start_thread(by)`, and with `until_claim` until a line is claimed.

        The kernel keeps the newest `keep` events of each line meanwhile.
        """
        self._asleep[by] = until_claim
        self._keep = keep

    def start_thread(self, by: object) -> None:
        """Let lgpio's thread run again. Harmless if `by` does not stop it."""
        self._asleep.pop(by, None)
        if self._asleep:
            return
        waiting = sorted(event for events in self._waiting.values() for event in events)
        self._waiting.clear()
        for event in waiting:
            self._write(event)

    def line_claimed(self) -> None:
        """Wake a thread that has missed the wake-up of an earlier claim."""
        for by, until_claim in tuple(self._asleep.items()):
            if until_claim:
                self.start_thread(by)

    def tear(self, at: int, seconds: float) -> None:
        """Hand over the next record in two parts: the first `at` bytes, and `seconds` later the rest."""
        self._tears.append((at, seconds))

    def _write(self, event: _Event) -> None:
        fifo = event.find_fifo()
        if fifo is None or fifo.paused:
            return
        record = event.record
        if self._torn is not None:
            self._torn.append((fifo, record))
            self._count(event, written=True)
        elif self._tears:
            at, seconds = self._tears.popleft()
            if not self._put(fifo, record[:at]):
                self._count(event, written=False)
                return
            self._torn = collections.deque([(fifo, record[at:])])
            self._timeline.after(seconds, self._mend)
            self._count(event, written=True)
        else:
            self._count(event, written=self._put(fifo, record))

    def _mend(self) -> None:
        """Write the rest of a torn record, and the records that came after it."""
        torn, self._torn = self._torn or (), None
        for fifo, data in torn:
            self._put(fifo, data)

    def _put(self, fifo: Fifo, data: bytes) -> bool:
        return fifo.write(data, min(self.capacities) * RECORD if self.capacities else None)

    @staticmethod
    def _count(event: _Event, *, written: bool) -> None:
        if event.level >= EDGE_LEVELS:
            return
        if written:
            event.line.reports += 1
        else:
            event.line.reports_lost += 1
