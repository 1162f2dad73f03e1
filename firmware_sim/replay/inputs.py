"""The inputs of a replay: each happens as long after the output before it as it did when it was recorded.

A program on a real computer takes time to start, to compute and to wake, never twice the same, and none at all in
virtual time. So an input can't have a fixed time: it would come before the request that it answers, or when the program
is ahead of it. An input waits for all outputs that were recorded before it, and keeps its distance from the last one:
an echo that came 2 ms after its trigger comes 2 ms after the trigger again. In a recording of virtual time that is the
recorded time, to the nanosecond. An output that the program no longer makes is waited for only once, and not for long.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from firmware_sim.replay.outputs import Outputs
from firmware_sim.timeline import Event, Timeline

PATIENCE_NS = 1_000_000_000
"""For how long an input waits for an output that was recorded before it, where times are not compared."""


class Input(NamedTuple):
    """Something that happens to the board."""

    place: int
    """Its place in the order of all events."""
    when_ns: int
    """Its time, by the clock of the recording."""
    happen: Callable[[], object]


class Inputs:
    """The inputs of a recording, planned one at a time.

    Parameters:
        inputs: the inputs, in order.
        outputs: the outputs that they wait for.
        timeline: the board's time.
        rests_from_ns: the time of the recording from which on nothing more is planned on the board; None if that makes
            no difference. A program that nothing can wake gets an error in virtual time, and the recorded one got it
            when the last part was at rest. So the board is not at rest before: until the next recorded output.

    Attributes:
        started: whether they have been started.
    """

    def __init__(
        self, inputs: Sequence[Input], outputs: Outputs, timeline: Timeline, *, rests_from_ns: int | None = None
    ) -> None:
        self.started: bool = False
        self._inputs = list(inputs)
        self._outputs = outputs
        self._timeline = timeline
        self._rests_from_ns = rests_from_ns
        late_ns = outputs.tolerance_ns
        self._patience_ns = PATIENCE_NS if late_ns is None else late_ns + 1
        self._next = 0
        self._offset_ns = 0
        self._lag_ns = 0  # how much later than recorded the output before the next input was
        self._lags: list[tuple[int, int]] = []  # of the outputs after it, with their places
        self._patient_until = -1  # the place up to which no output is waited for any more
        self._planned: Event | None = None
        self._blocked = False
        outputs.progressed = self._on_output

    def start(self, offset_ns: int) -> None:
        """Begin: the recorded times are `offset_ns` before the board's."""
        with self._timeline.lock:
            if not self.started:
                self.started = True
                self._offset_ns = offset_ns
                self._plan()

    def add(self, further: Input) -> None:
        """Add an input, behind those of its time."""
        with self._timeline.lock:
            bisect.insort(self._inputs, further, lo=self._next, key=lambda each: each.when_ns)
            self._plan()

    def _plan(self) -> None:
        """Plan the next input, or the end of the patience for the outputs before it. The lock is held."""
        if not self.started:
            return
        if self._next == len(self._inputs):
            self._stay_awake()
            return
        when_ns = self._due_ns()
        if self._planned is not None:
            if self._planned.when_ns <= when_ns:
                return  # it looks again then
            self._planned.cancel()
        self._planned = self._timeline.at(when_ns, self._happen)

    def _due_ns(self) -> int:
        """Return when the next input is due, as far as that is known."""
        following = self._inputs[self._next]
        missing = self._outputs.first_missing()
        self._blocked = missing is not None and self._patient_until < missing.place < following.place
        while self._lags and self._lags[0][0] < following.place:
            self._lag_ns = heapq.heappop(self._lags)[1]
        wait_ns = self._patience_ns if self._blocked else 0
        return max(following.when_ns + self._offset_ns + self._lag_ns + wait_ns, self._timeline.moment_ns())

    def _happen(self) -> None:
        """Let the next input happen, if it is due. The lock is held."""
        self._planned = None
        if self._due_ns() <= self._timeline.moment_ns():
            following = self._inputs[self._next]
            if self._blocked:
                self._patient_until = following.place
                if self._outputs.tolerance_ns is None:
                    self._lag_ns += self._patience_ns  # what follows keeps its distance
            self._next += 1
            self._plan()
            following.happen()
        else:
            self._plan()

    def _stay_awake(self) -> None:
        """Plan the end of the board's activity, as far as that is known. The lock is held."""
        if self._rests_from_ns is not None:
            missing = self._outputs.first_missing()
            until_ns = self._rests_from_ns if missing is None else min(missing.event.when_ns, self._rests_from_ns)
            self._timeline.at(until_ns + self._offset_ns, lambda: None)

    def _on_output(self, place: int, lag_ns: int) -> None:
        """Go on, after an output that was recorded. The lock is held."""
        heapq.heappush(self._lags, (place, lag_ns))
        if self._next == len(self._inputs) or place < self._inputs[self._next].place:
            self._plan()
