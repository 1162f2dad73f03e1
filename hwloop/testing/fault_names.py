"""The faults that the bug hunter draws: those that are named, or all but those that are named with a "-"."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_sim.errors import FaultError
from firmware_sim.faults.injector import FAULTS
from hwloop.errors import suggestion
from hwloop.testing.schedule import Schedule

NEVER = {"program-signal"}
"""Faults that would end the process of the test."""


def chosen_faults(names: Sequence[str]) -> list[str]:
    """Return the faults that are drawn: those called `names`, all others for "-name", and all for no name.

    Raises `FaultError` for an unknown name, and for one that is never drawn.
    """
    drawn = [name for name in names if not name.startswith("-")]
    left_out = [name[1:] for name in names if name.startswith("-")]
    for name in (*drawn, *left_out):
        if name not in FAULTS:
            hint = suggestion(name, FAULTS) or f"; known are {', '.join(sorted(FAULTS))}"
            raise FaultError(f"unknown fault {name!r}{hint}")
    if drawn and left_out:
        raise FaultError(f"name the faults that are drawn, or those that are not (-{left_out[0]}), but not both")
    if ending := [name for name in drawn if name in NEVER]:
        raise FaultError(
            f"{ending[0]} ends the program, so it is not drawn; a scenario can end it with the step 'stop'"
        )
    return drawn or [name for name in sorted(FAULTS) if name not in {*NEVER, *left_out}]


def all_but(schedule: Schedule, names: Sequence[str] | None) -> list[str]:
    """Return the names with which the same faults as with `names` are drawn, but none of a schedule's.

    Return none if there is nothing to leave out, or if `names` are those of the faults that are drawn.
    """
    if not schedule.faults or (names and not names[0].startswith("-")):
        return []
    return list(dict.fromkeys([*(names or ()), *(f"-{fault.name}" for fault in schedule.faults)]))
