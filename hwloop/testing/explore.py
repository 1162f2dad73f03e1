"""The bug hunter: runs a program under many schedules of faults, and shrinks one that makes it fail.

Hypothesis draws and shrinks the schedules. The board and the program are deterministic, so the smallest schedule that
still fails in the same way (the same exception at the same place) repeats the failure.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hwloop.testing.schedule import Schedule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class Found(NamedTuple):
    """A failure, with the smallest schedule that was found for it."""

    schedule: Schedule
    error: BaseException
    runs: int
    """The runs that were made, those of shrinking included."""


def explore(
    play: Callable[[Schedule], object], schedules: SearchStrategy[Schedule], *, runs: int, seed: int = 0
) -> Found | None:
    """Run `play` with up to `runs` schedules; return the smallest that makes it raise, or None if none does.

    `seed` decides which schedules are drawn. Two failures are the same if they have the same type and the same place.
    """
    import hypothesis

    made = 0
    smallest: Found | None = None

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=runs,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=hypothesis.Verbosity.quiet,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(schedules)
    def run(schedule: Schedule) -> None:
        nonlocal made, smallest
        made += 1
        try:
            play(schedule)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            smallest = Found(schedule, error, made)
            raise

    try:
        run()
    except KeyboardInterrupt:
        raise
    except BaseException:
        if smallest is None:
            raise
    if smallest is None:
        return None
    found, more = _without_needless_faults(smallest, play)
    return found._replace(runs=made + more)


def _without_needless_faults(found: Found, play: Callable[[Schedule], object]) -> tuple[Found, int]:
    """Leave out each fault without which the program fails in the same way; return the runs that this took.

    Hypothesis shrinks what it has drawn, and can miss that one of two equal faults is enough.
    """
    runs = 0
    for fault in found.schedule.faults:
        faults = list(found.schedule.faults)
        faults.remove(fault)
        runs += 1
        try:
            play(shorter := Schedule(found.schedule.seed, tuple(faults)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if _kind(error) == _kind(found.error):
                found = Found(shorter, error, found.runs)
    return found, runs


def _kind(error: BaseException) -> tuple[object, ...]:
    """Return the type and the place of an exception, by which failures are distinguished."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return (type(error), *((frame.filename, frame.lineno) for frame in place))
