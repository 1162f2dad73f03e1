"""The dispatcher of virtual time: that of `hwloop.core.dispatch`, with a slice of one callback.

Time stands still while callbacks run, so most polls between two of them would find nothing: they are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hwloop.core.dispatch import Dispatcher
from hwloop.virtual.poller import VirtualPoller
from hwloop.virtual.run_queue import VirtualRunQueue

if TYPE_CHECKING:
    from hwloop.core.asyncio_base import SelectorEventLoop


class VirtualDispatcher(Dispatcher):
    """A dispatcher for virtual time.

    Attributes:
        after_step: called after each callback, for tests that wait for a condition.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.after_step: Callable[[], object] | None = None

    def poll(self, loop: SelectorEventLoop) -> float:
        if self.after_step is not None:
            self.after_step()
        timers = self._timers
        run_queue: VirtualRunQueue = self._run_queue  # type: ignore[assignment]
        poller: VirtualPoller = self._poller  # type: ignore[assignment]
        if (
            (run_queue.ordinary or run_queue.found or run_queue.urgent.waiting)  # `run_queue.has_work()`, inlined
            and not timers.new
            and not timers.has_tolerant()
            and poller.may_skip()
        ):
            now = self._clock.now
            time = now()
        else:
            time = Dispatcher.poll(self, loop)
        if run_queue.step_order is not None:
            run_queue.arrange()
        return time
