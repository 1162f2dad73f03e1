"""Critical sources and tasks: the watchdog is fed only while each of them makes progress within its own bound.

A loop that runs is not yet a program that works: a task may wait for an answer that never comes, and a sensor may have
stopped sending. So a program names what it can't do without:

    async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps:
        with service.critical(gps, within=5):
            async for line in gps: …

Progress is observed, not asked for. A source makes progress when the program takes an event from it: then both work,
the device and the consumer. A task makes progress when it waits for something else than before; a task that it awaits
counts too. Where that says too little, such as for a task that hands its work to others, the program checks in by
itself.
"""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hwloop.core.naming import error_text, short_name
from hwloop.errors import check_range

if TYPE_CHECKING:
    from hwloop.core.statistics import SourceStatistics

logger: logging.Logger = logging.getLogger("hwloop.service")

LONGEST = 365 * 86400.0
_DEPTH = 50
"""Tasks that wait for tasks: as far as they are followed."""


@runtime_checkable
class Source(Protocol):
    """A source, with its counters."""

    def statistics(self) -> SourceStatistics:
        """Return the counters so far."""


class Critical:
    """A source or a task without whose progress the watchdog is not fed; a context manager.

    Attributes:
        name: its name in reports.
        within: seconds of the loop's time within which it must make progress.
        loop: the loop whose watchdog heeds it.
    """

    def __init__(self, subject: object, within: float, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.within = within
        self.loop: asyncio.AbstractEventLoop = loop
        self._subject = subject
        self._seen = loop.time()
        self._mark: object = None
        self._stalled = self._failed = False
        self._mark = self._progress()
        _critical.append(self)

    def check_in(self) -> None:
        """Note that it made progress now."""
        self._seen = self.loop.time()

    def end(self) -> None:
        """Let the watchdog heed it no longer. Harmless when repeated."""
        if self in _critical:
            _critical.remove(self)

    def __enter__(self) -> Critical:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    @property
    def is_overdue(self) -> bool:
        """Whether it has made no progress within its bound, as far as it was looked at."""
        return self._pause() > self.within * (1 + 1e-9)  # a sum of intervals is not exact

    def examine(self) -> bool:
        """Return whether it has made progress within its bound; report when that ends, and when it begins again."""
        if not self.is_overdue:
            if self._stalled:
                self._stalled = False
                logger.warning("%s makes progress again: the watchdog is fed", self.name)
            return True
        if not self._stalled:
            self._stalled = True
            logger.error(
                "%s has made no progress for %.3g s, and has to make some within %g s: the watchdog is not fed",
                self.name, self._pause(), self.within,
            )  # fmt: skip
        return False

    def _pause(self) -> float:
        """Return the seconds since it was last seen to have made progress."""
        now, mark = self.loop.time(), self._progress()
        if mark != self._mark:
            self._mark, self._seen = mark, now
        return now - self._seen

    def _progress(self) -> object:
        """Return a value that changes with progress."""
        if isinstance(self._subject, asyncio.Task):
            return _waits_for(self._subject)
        if not isinstance(self._subject, Source):
            return None
        try:
            return self._subject.statistics().delivered
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if not self._failed:
                self._failed = True
                logger.exception("%s: its statistics can't be read: %s (reported once)", self.name, error_text(error))
            return self._mark


_critical: list[Critical] = []


def critical(subject: object = None, *, within: float, name: str = "") -> Critical:
    """Have the watchdog fed only while `subject` makes progress, at least once in `within` seconds.

    `subject` is a source (it makes progress when the program takes an event from it, or a callback does), a task, or
    None for something that only `check_in()` reports. Use the result as a context manager, or call its `end()`: a task
    that has ended, and a source that was closed, make no progress. The watchdog looks at least twice in `within`
    seconds.

    Call it where the loop runs. Raises TypeError for other subjects, and ValueError unless `within` is from 0.001
    seconds to a year.
    """
    check_range("within", within, 0.001, LONGEST)
    if subject is not None and not isinstance(subject, asyncio.Task | Source):
        raise TypeError(f"critical() takes a source, a task, or None, not {short_name(subject)}")
    if not name:
        if isinstance(subject, asyncio.Task):
            name = f"task {subject.get_name()}"
        else:
            name = "the program" if subject is None else subject.statistics().name
    return Critical(subject, within, name, asyncio.get_running_loop())


def stalled(loop: asyncio.AbstractEventLoop) -> list[Critical]:
    """Return what has made no progress within its bound, of all that is critical on a loop."""
    _critical[:] = [each for each in _critical if not each.loop.is_closed()]
    return [each for each in watched(loop) if not each.examine()]


def watched(loop: asyncio.AbstractEventLoop) -> list[Critical]:
    """Return all that is critical on a loop."""
    return [each for each in _critical if each.loop is loop]


def shortest_bound(loop: asyncio.AbstractEventLoop, otherwise: float) -> float:
    """Return the shortest bound of all that is critical on a loop, or `otherwise` if that is shorter."""
    return min([otherwise, *(each.within for each in watched(loop))])


def _waits_for(task: asyncio.Task[Any]) -> tuple[object, ...]:
    """Return the task, and what it waits for: futures and tasks, and what these wait for.

    The caller keeps them, so no later future can have the identity of an earlier one.
    """
    found: list[object] = []
    left: list[object] = [task]
    while left and len(found) < _DEPTH:
        each = left.pop()
        found.append(each)
        # asyncio's own names: a task's future, and the futures that gather() waits for.
        left.extend(getattr(each, "_children", ()))
        if (waiter := getattr(each, "_fut_waiter", None)) is not None:
            left.append(waiter)
    return tuple(found)
