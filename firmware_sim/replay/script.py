"""The script of a replay: the events of a recording, sorted into the board's inputs and the program's outputs.

An input is whatever did not come from the program: a change of a line by a part, bytes that a port received. An output
is a change by the program, the bytes that it sent, or a transfer that it made. (The answer of a transfer belongs to the
transfer.) All have a place in one order, that of their times.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hwloop.trace_events import I2cTransfer, LineChange, SerialData, SpiTransfer, TraceEvent

LINES = 54
"""Lines of the replaying board."""
PROGRAM = "program"
"""The cause of a line's change by the program."""


class Step(NamedTuple):
    """An event in its place."""

    place: int
    """Its place in the order of all events."""
    number: int
    """Its number in the recording."""
    event: LineChange | SerialData | I2cTransfer | SpiTransfer
    when_ns: int
    """When it happened, or was complete, by the clock of the recording."""


class Script:
    """The events of a recording.

    Parameters:
        events: the events with their numbers.
        label: the label of the board.
        start_ns: the start of the recording.
        simulated: whether the board was a simulated one. It then had no other ports and buses than those in `state`; a
            real one may have had others, and the levels of its lines at the start are not known.
        state: the state of a simulated board at the start: `SimBoard.snapshot()`.
        end_ns: the time of the last event of any kind, if it is known.
        is_cut: whether the recording is cut off there: the program went on.
        signal_ns: the time of the signal that ended the program, if there was one.
    """

    def __init__(
        self,
        events: Iterable[tuple[int, TraceEvent]],
        *,
        label: str = "",
        start_ns: int = 0,
        simulated: bool = True,
        state: Mapping[str, Any] | None = None,
        end_ns: int = 0,
        is_cut: bool = False,
        signal_ns: int | None = None,
    ) -> None:
        self.label: str = label or "a recorded board"
        self.start_ns = start_ns
        self.simulated = simulated
        self.is_cut = is_cut
        self.signal_ns = signal_ns
        kept = [
            (event.end_ns if isinstance(event, I2cTransfer | SpiTransfer) else event.when_ns, number, event)
            for number, event in events
            if isinstance(event, LineChange | SerialData | I2cTransfer | SpiTransfer)
        ]
        kept.sort(key=lambda each: each[0])  # stable: events of one moment keep their order
        steps = [Step(place, number, event, when_ns) for place, (when_ns, number, event) in enumerate(kept)]
        self.inputs: list[Step] = [step for step in steps if not is_output(step.event)]
        self.outputs: list[Step] = [step for step in steps if is_output(step.event)]
        self.end_ns: int = max(end_ns, steps[-1].when_ns if steps else start_ns)
        self._order: list[tuple[int, int]] = [(step.when_ns, step.number) for step in steps]
        state = state or {}
        self.wires: list[list[int]] = state.get("wires", [])
        self.ports: list[str] = _sorted({*state.get("ports", ()), *(_names(steps, SerialData, "port"))})
        self.buses: list[int] = _sorted({*state.get("buses", ()), *(_names(steps, I2cTransfer, "bus"))})
        self.spi_buses: list[int] = _sorted({0, *(_names(steps, SpiTransfer, "bus"))})
        self.driven: set[int] = {step.event.line for step in self.outputs if isinstance(step.event, LineChange)}
        """The lines that the program has changed."""
        self.levels: dict[int, int] = dict(state.get("levels", ()))
        """The levels at the start, where they are not those at reset."""
        self.unknown: set[int] = set()
        """The lines of a real board that the recording does not mention."""
        if not simulated:
            changed = {step.event.line for step in steps if isinstance(step.event, LineChange)}
            self.unknown = {line for line in range(LINES) if line not in changed}
            for step in reversed(steps):
                if isinstance(step.event, LineChange):
                    self.levels[step.event.line] = 1 - step.event.level

    def place_of(self, when_ns: int, number: float = math.inf) -> int:
        """Return the place of something else with this time and number, by default behind all events of the time."""
        return bisect.bisect_left(self._order, (when_ns, number))


def is_output(event: TraceEvent) -> bool:
    """Return whether the program has made an event."""
    if isinstance(event, LineChange):
        return event.by == PROGRAM
    return isinstance(event, I2cTransfer | SpiTransfer) or (isinstance(event, SerialData) and event.direction == "sent")


def _names(steps: list[Step], kind: type[Any], name: str) -> set[Any]:
    return {getattr(step.event, name) for step in steps if isinstance(step.event, kind)}


def _sorted(names: set[Any]) -> list[Any]:
    return sorted(names)
