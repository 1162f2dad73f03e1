"""The figures of a running program: what its sources, its loop and its outputs have done, as plain data.

They are collected on the loop, in one callback of ordinary urgency, and cost nothing in between: all counters are those
that the loop and its sources keep anyway. Whoever shows them (the status line, metrics) works on the plain data.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hwloop.core.naming import short_name
from hwloop.core.statistics import LoopStatistics, SourceStatistics
from hwloop.service.critical import watched
from hwloop.service.messages import undelivered


class SourceFigures(NamedTuple):
    """The figures of one source, poll or measurement."""

    counts: SourceStatistics
    is_open: bool | None
    """Whether its device is open; False while it is away and is going to be reopened. None for a poll."""
    is_suspect: bool | None
    """Whether a transfer has outlasted its time and none has succeeded since; None where there are no transfers."""


class Figures(NamedTuple):
    """The figures of one loop."""

    time: float
    """Loop time."""
    loop: LoopStatistics
    sources: tuple[SourceFigures, ...]
    outputs: int
    """Outputs that are open in the process."""
    overdue: Mapping[str, bool]
    """By name of each critical source or task: whether it has made no progress within its bound."""
    undelivered: int
    """Messages that did not reach the service manager."""


def collect(loop: Any) -> Figures:
    """Return the figures of a loop. Call it in the loop's thread. A source that can't be read is left out."""
    return Figures(
        time=loop.time(),
        loop=loop.statistics(),
        sources=tuple(_sources(loop)),
        outputs=len(_loaded("hwloop.sources.gpio.open_outputs", lambda module: module.listed, ())),
        overdue={each.name: each.is_overdue for each in watched(loop)},
        undelivered=undelivered(),
    )


def _sources(loop: Any) -> list[SourceFigures]:
    """Return the figures of the open sources, polls and measurements of a loop, and of others that are registered."""
    streams = _loaded("hwloop.sources.event_stream", lambda module: module.open_streams(loop), [])
    known, registered = set(map(id, streams)), loop.sources()
    reported = set(map(id, registered))  # by the loop itself, whose statistics are read too
    everything = [*streams, *(source for source in registered if id(source) not in known)]
    found = [_figures(each, reports=id(each) not in reported) for each in everything]
    return [each for each in found if each is not None]


def _figures(source: Any, *, reports: bool) -> SourceFigures | None:
    try:
        counts = source.statistics()
        if not isinstance(counts, SourceStatistics):
            return None
        fileno = getattr(source, "fileno", None)
        suspect = getattr(source, "suspect", None)
        return SourceFigures(
            counts, None if fileno is None else fileno() >= 0, suspect if isinstance(suspect, bool) else None
        )
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        if reports and id(source) not in _reported:
            _reported.add(id(source))
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the statistics of {short_name(source)} can't be read (reported once)", "exception": error}
            )
        return None


_reported: set[int] = set()


def _loaded(name: str, read: Callable[[Any], Any], otherwise: Any) -> Any:
    """Return what `read` finds in a module, if the program has loaded it."""
    module = sys.modules.get(name)
    return otherwise if module is None else read(module)
