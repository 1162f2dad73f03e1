"""lgpio's software-timed transmissions (PWM, servo pulses, waves), played on the board's timeline.

lgpio plays them from a thread that sleeps to the next edge; here the firmware thread does. The queue follows lgpio:
ten entries, an endless one gives way to its successor at the end of a cycle, and PWM begins at a whole multiple of
its period, counted within the current second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_sim.libraries.lgpio.constants import Constants, Refused
from firmware_sim.timeline import Event, Timeline

SLOTS = 10
_ENDLESS = -1


class Transmission:
    """The entries that are being sent on one line or group, and the time of the next step."""

    def __init__(self, timeline: Timeline) -> None:
        self.active: bool = True
        self._timeline = timeline
        self._due_ns = timeline.now_ns()
        self._next: Event | None = None

    def stop(self) -> None:
        """End immediately, leaving the level as it is."""
        self.active = False
        if self._next is not None:
            self._next.cancel()

    def _wait_micros(self, micros: int) -> None:
        self._due_ns += micros * 1000
        self._next = self._timeline.at(self._due_ns, self._step)

    def _step(self) -> None:
        raise NotImplementedError


@dataclass
class _Pulses:
    micros_on: int
    micros_off: int
    cycles: int
    """Cycles left to send; -1 for endless."""


class Pwm(Transmission):
    """Pulses on one line."""

    def __init__(self, timeline: Timeline, write: Callable[[int], object], on: int, off: int, offset: int, cycles: int):
        super().__init__(timeline)
        self._write = write
        self._queue = [_Pulses(on, off, cycles or _ENDLESS)]
        self._high_next = True
        self._period_ns = 0  # of an endless entry without pulses, which needs no steps; 0 for others
        period = on + off
        self._wait_micros(period - self._due_ns // 1000 % 1_000_000 % period + offset)

    def add(self, on: int, off: int, cycles: int) -> None:
        """Queue another entry, which replaces an endless one that still waits."""
        if len(self._queue) > 1 and self._queue[-1].cycles == _ENDLESS:
            self._queue.pop()
        if len(self._queue) >= SLOTS:
            raise Refused(Constants.TX_QUEUE_FULL)
        self._queue.append(_Pulses(on, off, cycles or _ENDLESS))
        if self._period_ns:  # at the end of the present cycle
            passed = (self._timeline.now_ns() - self._due_ns) // self._period_ns
            self._due_ns += passed * self._period_ns
            self._wait_micros(self._period_ns // 1000)
            self._period_ns = 0

    @property
    def room(self) -> int:
        """The number of free entries in the queue."""
        return SLOTS - len(self._queue)

    def _step(self) -> None:
        if not self._high_next and self._queue[0].micros_on:
            self._high_next = True
            self._write(0)
            self._wait_micros(self._queue[0].micros_off)
            return
        if self._queue[0].cycles <= 0 and len(self._queue) > 1:
            self._queue.pop(0)
        now = self._queue[0]
        if now.cycles == 0:
            self._write(0)
            self.active = False
            return
        if now.cycles > 0:
            now.cycles -= 1
        self._write(1 if now.micros_on else 0)
        self._high_next = not (now.micros_on and now.micros_off)
        if self._high_next and now.cycles == _ENDLESS and len(self._queue) == 1:
            self._period_ns = 1000 * (now.micros_on or now.micros_off)
            return
        self._wait_micros(now.micros_on or now.micros_off)


class Wave(Transmission):
    """A sequence of (bits, mask, delay in microseconds) on a group."""

    def __init__(
        self, timeline: Timeline, write: Callable[[int, int], object], pulses: Sequence[tuple[int, int, int]]
    ) -> None:
        super().__init__(timeline)
        self._write = write
        self._queue = [list(pulses)]
        self._wait_micros(0)

    def add(self, pulses: Sequence[tuple[int, int, int]]) -> None:
        """Queue another wave."""
        if len(self._queue) >= SLOTS:
            raise Refused(Constants.TX_QUEUE_FULL)
        self._queue.append(list(pulses))

    @property
    def room(self) -> int:
        """The number of free entries in the queue."""
        return SLOTS - len(self._queue)

    def _step(self) -> None:
        while not self._queue[0]:
            if len(self._queue) == 1:
                self.active = False
                return
            self._queue.pop(0)
        bits, mask, delay = self._queue[0].pop(0)
        self._write(bits, mask)
        self._wait_micros(delay)
