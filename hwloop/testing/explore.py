"""Schedules of faults: the bug hunter draws, plays and shrinks them.

A schedule is a seed for the order of tasks and a list of faults, each with its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PlannedFault:
    """A fault of a schedule."""

    name: str
    """Its name in `board.faults.names()`."""
    after: float
    """Seconds from the beginning of the run."""
    duration: float | None
    """Seconds; None for a fault that only begins."""
    fields: tuple[tuple[str, Any], ...]
    """The keys of the fault and their values."""


@dataclass(frozen=True)
class Schedule:
    """A seed and the faults of a run, in the order of their times."""

    seed: int
    faults: tuple[PlannedFault, ...]
