"""Reopening a source after its device has failed: attempts with growing pauses, then the program's hook.

A port that was unplugged is opened again, but the device behind it has lost its settings: a modem its echo mode, a
sensor its measuring mode. So a program may pass a hook that sets the device up again. Guaranteed are one reopening for
one outage, however often the failure is noticed; one report when the outage begins and one line when it is over; and
that a hook that raises is reported like a callback, and the source stays open.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hwloop.core.naming import named_place, short_name
from hwloop.sources.containment import EXITS, ends_task, logger

ReopenHook = Callable[[Any], object]
"""Called with the source when it has come back; a coroutine function is awaited in a task."""
Failed = Callable[[str, BaseException], None]

_GOLDEN_RATIO = 0.6180339887498949
"""Its multiples modulo 1 are spread evenly: as good as random numbers for this, and nothing is imported for them."""


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts to reopen a source, in seconds: `initial`, then `factor` times the last, to `maximum`.

    Each pause is shorter by a changing part, up to the share `jitter` of it: the devices of a hub that fail together
    are not opened in the same moment again and again.
    """

    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.factor >= 1 and 0 <= self.jitter <= 1):
            limits = "0 < initial <= maximum, factor >= 1 and 0 <= jitter <= 1"
            raise ValueError(f"a backoff needs {limits}, not {self}")

    def pause(self, attempt: int, share: float = 0.0) -> float:
        """Seconds to wait before attempt number `attempt`, counted from 0, without `share` (0 to 1) of the jitter."""
        # The exponent is capped where any useful factor is past its maximum, so that years of retries can't overflow.
        return min(self.initial * self.factor ** min(attempt, 64), self.maximum) * (1 - self.jitter * share)


class Pauses:
    """The pauses before the attempts of one source. They are the same in each run, so that virtual time can repeat it.

    Parameters:
        backoff: their lengths.
        name: the source's, at which its sequence of these parts begins.
    """

    def __init__(self, backoff: Backoff, name: str) -> None:
        self.backoff: Backoff = backoff
        self._place = int.from_bytes(name.encode(errors="replace"), "little") % 65521

    def before(self, attempt: int) -> float:
        """Return the seconds to wait before attempt number `attempt`, counted from 0."""
        self._place += 1
        return self.backoff.pause(attempt, self._place * _GOLDEN_RATIO % 1.0)


class Reopening:
    """The attempts to reopen one source. It refers to the source during an outage only."""

    def __init__(self, backoff: Backoff, name: str) -> None:
        self._pauses = Pauses(backoff, name)
        self._timer: asyncio.TimerHandle | None = None
        self._outage: _Outage | None = None
        self._back_at = 0.0
        self._attempts = 0
        self.failed: int = 0
        """Attempts that failed, over all outages."""
        self.succeeded: int = 0

    def begin(
        self, source: object, loop: asyncio.AbstractEventLoop, attempt: Callable[[], None], *, worked: bool
    ) -> None:
        """Call `attempt()`, which opens the device or raises, again and again until it succeeds.

        A device that comes back and fails before it has `worked` has not ended its outage: the pauses keep growing.
        """
        now = loop.time()
        if worked or now - self._back_at >= self._pauses.backoff.maximum:
            self._attempts = 0
        self._outage = _Outage(source, loop, attempt, now)
        self._schedule()

    def cancel(self) -> None:
        """Make no further attempt."""
        self._outage = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._outage is not None:  # else the source was closed by the attempt itself
            self._timer = self._outage.loop.call_later(self._pauses.before(self._attempts), self._try)

    def _try(self) -> None:
        self._timer = None
        self._attempts += 1
        attempts = self._attempts
        outage = self._outage
        assert outage is not None
        try:
            outage.attempt()
        except EXITS:
            self._schedule()
            raise
        except BaseException:
            # The outage was reported when it began; a failed attempt is only counted.
            self.failed += 1
            self._schedule()
        else:
            self.succeeded += 1
            if self._outage is outage:  # else it has failed again already
                self._outage = None
            self._back_at = outage.loop.time()
            lasted = self._back_at - outage.began
            logger.warning("%s is back after %.3g s, at attempt %d", short_name(outage.source), lasted, attempts)


class _Outage(NamedTuple):
    source: object
    loop: asyncio.AbstractEventLoop
    attempt: Callable[[], None]
    began: float
    """Loop time."""


class HookRunner:
    """Runs a program's hook each time a source has come back; a new outage or the end cancels a running one."""

    def __init__(self, hook: ReopenHook) -> None:
        if not callable(hook):
            raise TypeError(f"on_reopen must be a function of the source, not {short_name(hook)}")
        self._hook = hook
        self._task: asyncio.Task[None] | None = None

    def run(self, source: Any, loop: asyncio.AbstractEventLoop, failed: Failed) -> None:
        """Call the hook with `source`; if it returns an awaitable, await that in a task.

        Its exception is passed to `failed(message, error)`.
        """
        self.cancel()
        name = short_name(source)
        try:
            outcome = self._hook(source)
            if inspect.isawaitable(outcome):
                self._task = loop.create_task(self._follow(loop, outcome, failed), name=f"{name} on_reopen")
        except EXITS:
            raise
        except BaseException as error:
            failed(self._message(), error)

    def cancel(self) -> None:
        """Cancel the hook if it is still running, unless the hook itself calls this."""
        task, self._task = self._task, None
        if task is None or task.done():
            return
        loop = task.get_loop()
        if not loop.is_closed() and task is not asyncio.current_task(loop):
            task.cancel()

    async def _follow(self, loop: asyncio.AbstractEventLoop, outcome: Awaitable[object], failed: Failed) -> None:
        try:
            await outcome
        except EXITS:
            raise
        except BaseException as error:
            if ends_task(loop, error):
                raise
            failed(self._message(), error)

    def _message(self) -> str:
        return f"exception in on_reopen hook {named_place(self._hook)}"
