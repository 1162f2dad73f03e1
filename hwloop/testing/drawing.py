"""Schedules drawn by Hypothesis: which faults a board can have, where, when, and with which keys."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies
from hypothesis.strategies import SearchStrategy

from firmware_sim.errors import FaultError
from firmware_sim.faults import Fault
from firmware_sim.faults.injector import FAULTS
from firmware_sim.faults.places import BusFault, LineFault, PortFault, TransferFault
from firmware_sim.faults.spi import SpiBusFault, SpiFault
from hwloop import plugins
from hwloop.testing.fault_names import chosen_faults
from hwloop.testing.schedule import PlannedFault, Schedule
from hwloop.testing.targets import Targets

MOST_FAULTS = 4
"""Faults of a schedule, at most: what four can't break together, five seldom do."""
DURATIONS = (0.01, 0.05, 0.2, 1.0, 3.0)
"""Seconds that a fault lasts."""
KEYS: Mapping[tuple[str, str], Sequence[Any]] = {
    ("blocked-loop", "seconds"): (0.02, 0.2, 1.0),
    ("edge-flood", "rate"): (200.0, 2000.0),
    ("full-fifo", "capacity"): (0, 4),
    ("i2c-clock-stretch", "seconds"): (0.005, 0.05, 1.5),
    ("kernel-overflow", "events"): (16, 4, 1),
    ("serial-gap", "seconds"): (0.02, 0.2, 2.0),
    ("serial-latency", "seconds"): (0.016, 0.2),
    ("serial-noise", "bits"): (1, 3),
    ("serial-overrun", "buffer"): (16, 4),
    ("serial-truncation", "keep"): (None, 1),
}
"""The values that are drawn for keys that are numbers; others keep their default."""


def schedules(targets: Targets, names: Sequence[str] | None = None) -> SearchStrategy[Schedule]:
    """Return a strategy for schedules of the faults called `names`, or of all faults; of all others for "-name".

    Raises `FaultError` for an unknown name, or if the board can have none of the faults.
    """
    if names is not None and not names:
        raise FaultError("name at least one fault, or leave the names out for all")
    chosen = chosen_faults(names or ())
    possible = [made for name in chosen if (made := _fault(name, targets)) is not None]
    if not possible and names is not None:
        raise FaultError(f"this board can have none of these faults: {', '.join(chosen)}")
    drawn = strategies.lists(strategies.one_of(possible), max_size=MOST_FAULTS) if possible else strategies.just([])
    return strategies.builds(
        lambda seed, faults: Schedule(seed, tuple(sorted(faults, key=lambda fault: fault.after))),
        strategies.integers(0, 999),
        drawn,
    )


def _fault(name: str, targets: Targets) -> SearchStrategy[PlannedFault] | None:
    """Return a strategy for one kind of fault; None if the board has no place for it."""
    kind: type[Fault] = plugins.load_class(FAULTS[name])
    places = _places(kind, targets)
    if not places:
        return None
    hints = typing.get_type_hints(kind)
    keys: dict[str, SearchStrategy[Any]] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in kind.place:
            continue
        if (name, field.name) in KEYS:
            keys[field.name] = strategies.sampled_from(KEYS[name, field.name])
        elif typing.get_origin(hints[field.name]) is typing.Literal:
            keys[field.name] = strategies.sampled_from(typing.get_args(hints[field.name]))
    milliseconds = strategies.integers(0, max(1, round(targets.seconds * 1000)))

    def planned(
        after: int, duration: float | None, place: tuple[tuple[str, Any], ...], others: dict[str, Any]
    ) -> PlannedFault:
        given = ((key, value) for key, value in others.items() if value is not None)
        return PlannedFault(name, after / 1000, duration, (*place, *given))

    return strategies.builds(
        planned,
        milliseconds,
        strategies.none() if kind.momentary else strategies.sampled_from(DURATIONS),
        strategies.sampled_from(places),
        strategies.fixed_dictionaries(keys),
    )


def _places(kind: type[Fault], targets: Targets) -> list[tuple[tuple[str, Any], ...]]:
    """Return the places of a fault as keys and values; one empty place for a fault of the whole board."""
    if issubclass(kind, LineFault):
        return [(("line", line),) for line in targets.lines]
    if issubclass(kind, PortFault):
        return [(("port", port),) for port in targets.ports]
    if issubclass(kind, TransferFault):
        return [(("bus", bus), ("address", address)) for bus, address in targets.devices]
    if issubclass(kind, BusFault):
        used = {bus for bus, _ in targets.devices}
        return [(("bus", bus),) for bus in targets.buses if bus in used]
    if issubclass(kind, SpiFault):
        return [(("bus", bus), ("select", select)) for bus, select in targets.spi_devices]
    if issubclass(kind, SpiBusFault):
        return [(("bus", bus),) for bus in sorted({bus for bus, _ in targets.spi_devices})]
    if kind.place:
        return []
    return [()]
