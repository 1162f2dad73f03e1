"""Holds: `when_held`, decided by time stamps.

gpiozero's thread asks, `hold_time` after it heard of a press, whether it has heard of the release. Where handlers keep
the program busy it hears late of both, and a button that was held for a second was not held. Here a button was held if
`hold_time` or more lies between the time stamps of the press and of the release, whenever these are delivered:

- before an edge is delivered, what was held by its time stamp is held, in the order of time;
- when nothing is late, a timer decides: an edge of the button that waits to be delivered says how long it was held;
  where none waits, the level of the line does, for a level is a fact;
- where the line is inactive and no edge says since when, the report is on its way, or lost: the edge decides that
  comes, and one whose report was lost is no proof of a hold.

While a loop serves, `when_held` runs on it. Else it has a thread of its own from the press on, as in gpiozero: it may
wait for the release.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from typing import Any

from hwloop.pins.dispatch import Dispatch
from hwloop.pins.jobs import Job, Steps
from hwloop.pins.parts import pins_of

_NEVER_NS = 1 << 63
_DOUBT = 0.002  # seconds; lgpio holds a report back for about 1 ms
_LONGEST_DOUBT = 0.1
_IN_TURN = 0.2  # seconds that an edge waits for a `when_held` in another thread that is due before it


class Hold:
    """In place of gpiozero's `HoldThread`, which wakes ten times a second for every button."""

    def __init__(self, parent: Any, dispatch: Dispatch) -> None:
        self.holding = self  # what devices set when they become active
        self._parent = weakref.proxy(parent)
        self._subject = weakref.ref(parent)
        self._dispatch = dispatch
        self._holding: Holding | None = None

    def set(self) -> None:
        """The device has become active."""
        self.stop()
        subject = self._subject()
        if subject is not None and not subject._inactive_event.is_set():
            self._holding = Holding(self._dispatch, self._parent, subject)
            self._dispatch.follow_hold(self._holding)
            self._holding.start()

    def released(self) -> None:
        """The device is active no more. A `when_held` under way is not waited for: it may wait for this."""
        if self._holding is not None:
            self._holding.end()

    def stop(self, timeout: float = 10) -> None:
        """Hold no more; a `when_held` under way is waited for."""
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.stop(timeout)


class Holding(Job):
    """The time from one press on."""

    def __init__(self, dispatch: Dispatch, device: Any, subject: object) -> None:
        super().__init__(dispatch, self._hold, "hwloop hold", subject)
        self._device = device
        self._pins = list(pins_of(subject))
        self._counted_from: float = device._last_changed
        self._decided_ns = -1  # up to this time the device was active for sure
        self._calling = False
        self._called = threading.Event()

    def due_ns(self) -> int:
        """When the device has been held, or held again; never, where it is gone."""
        try:
            return round(self._due_ticks() * 1e9)
        except ReferenceError:
            return _NEVER_NS

    def _due_ticks(self) -> float:
        return self._counted_from + float(self._device.hold_time)

    def _early(self) -> float:
        """Seconds until it is due."""
        # In whole nanoseconds: no clock gets anywhere in less.
        return (round(self._due_ticks() * 1e9) - self._dispatch.clock.now_ns()) / 1e9

    def catch_up(self, until_ns: int) -> None:
        """The device was active until then, and that is over: have `when_held` called for what was due by then.

        In a thread of its own, as long as that takes no longer than a moment.
        """
        if self._dispatch.loop is not None and not self._calling:
            with contextlib.suppress(ReferenceError):
                while self.is_alive() and self.due_ns() <= until_ns:
                    if not self._fire() or self._device.hold_time <= 0:
                        return
            return
        self._decided_ns = until_ns
        if self._calling:
            return
        give_up = time.monotonic() + _IN_TURN
        while (
            self.is_alive()
            and (self._calling or self.due_ns() <= until_ns)
            and (left := give_up - time.monotonic()) > 0
        ):
            self._called.wait(left)
            self._called.clear()

    def end(self) -> None:
        self._dispatch.forget_hold(self)
        super().end()
        self._called.set()

    def _next_due(self, pause: float, now: float) -> float:
        return now + pause

    def _hold(self) -> Steps:
        doubt = _DOUBT
        while True:
            if (early := self._early()) > 0:
                yield early
            elif self._was_held():
                if not self._fire():
                    return
                doubt = _DOUBT
                yield max(0.0, self._early())
            else:
                yield doubt
                doubt = min(2 * doubt, _LONGEST_DOUBT)

    def _was_held(self) -> bool:
        """Whether the device was active until the hold was due."""
        due_ns = self.due_ns()
        if self._decided_ns >= due_ns:
            return True
        edge = self._dispatch.next_edge(self._pins)
        if edge is not None:
            return edge.timestamp_ns >= due_ns
        return bool(self._device.is_active)

    def _fire(self) -> bool:
        """Call `when_held`. Whether it may be held again."""
        device = self._device
        self._counted_from = self._due_ticks()
        if device._held_from is None:
            device._held_from = self._counted_from
        again = bool(device.hold_repeat)
        self._calling = True
        try:
            if not again:
                self._dispatch.forget_hold(self)
            device._fire_held()
        finally:
            self._calling = False
            self._called.set()
        if not again:
            self.end()
        return again and self.is_alive()
