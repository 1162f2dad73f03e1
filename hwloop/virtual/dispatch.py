"""The dispatcher of virtual time: that of `hwloop.core.dispatch`, with a slice of one callback.

Time stands still while callbacks run, so most polls between two of them would find nothing: they are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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

    after_step: Callable[[], object] | None = None
    _run_queue: VirtualRunQueue
    _poller: VirtualPoller

    def poll(self, loop: SelectorEventLoop) -> float:
        if self.after_step is not None:
            self.after_step()
        timers, run_queue = self._timers, self._run_queue
        if run_queue.has_work() and not timers.new and not timers.has_tolerant() and self._poller.may_skip():
            time = self._clock.now()
        else:
            time = super().poll(loop)
        if run_queue.step_order is not None:
            run_queue.arrange()
        return time
