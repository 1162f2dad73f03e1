"""`HoldTimer` and `Hold`: `when_held`, decided by timestamps.

`hold_time` after it learns of a press, gpiozero's thread checks whether it has learned of the release. Where handlers
keep the program busy it learns of both late, and a button that was held for a second was not held. Here a button was
held if `hold_time` or more lies between the timestamps of press and release, whenever these are delivered:

- before an edge is delivered, `when_held` is called for all holds that were due before it, in the order of time;
- when nothing is late, a timer decides: an undelivered edge of the button says how long it was held; without one, the
  level of the line decides, for a level is a fact;
- where the line is inactive and no edge says since when, the report is on its way or lost: the next edge decides, and
  an edge whose report was lost does not prove a hold.

While a loop serves, `when_held` runs on it. Otherwise each press has a thread, as in gpiozero, and `when_held` may wait
for the release.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from typing import Any

from hwloop.pins.delivery import Delivery
from hwloop.pins.device_info import pins_of
from hwloop.pins.timed_steps import Steps, TimedSteps

_NEVER_NS = 1 << 63
_DOUBT = 0.002  # seconds; lgpio holds a report back for about 1 ms
_LONGEST_DOUBT = 0.1
_IN_TURN = 0.2  # seconds that an edge waits for an earlier `when_held` in another thread


class HoldTimer:
    """Replaces gpiozero's `HoldThread`, which wakes ten times a second for every button."""

    def __init__(self, parent: Any, delivery: Delivery) -> None:
        self.holding = self  # devices call holding.set() when they become active
        self._parent = weakref.proxy(parent)
        self._subject = weakref.ref(parent)
        self._delivery = delivery
        self._holding: Hold | None = None

    def set(self) -> None:
        """Start a hold: the device has become active."""
        self.stop()
        subject = self._subject()
        if subject is not None and not subject._inactive_event.is_set():
            self._holding = Hold(self._delivery, self._parent, subject)
            self._delivery.follow_hold(self._holding)
            self._holding.start()

    def released(self) -> None:
        """End the hold: the device is inactive. Does not wait for a running `when_held`, which may wait for this."""
        if self._holding is not None:
            self._holding.end()

    def stop(self, timeout: float = 10) -> None:
        """End the hold, and wait for a running `when_held`."""
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.stop(timeout)


class Hold(TimedSteps):
    """One press of a device, from its edge on."""

    def __init__(self, delivery: Delivery, device: Any, subject: object) -> None:
        super().__init__(delivery, self._hold, "hwloop hold", subject)
        self._device = device
        self._pins = list(pins_of(subject))
        self._counted_from: float = device._last_changed
        self._decided_ns = -1  # the device is known to have been active until then
        self._calling = False
        self._called = threading.Event()

    def due_ns(self) -> int:
        """Return the time of the next `when_held`; `_NEVER_NS` if the device has gone."""
        try:
            return round(self._due_ticks() * 1e9)
        except ReferenceError:
            return _NEVER_NS

    def _due_ticks(self) -> float:
        return self._counted_from + float(self._device.hold_time)

    def _early(self) -> float:
        """Return the seconds until `when_held` is due."""
        # In whole nanoseconds, the resolution of every clock.
        return (round(self._due_ticks() * 1e9) - self._delivery.clock.now_ns()) / 1e9

    def catch_up(self, until_ns: int) -> None:
        """Call `when_held` as often as it was due by then: the device was active until then and no longer.

        A hold in a thread does so itself; wait a moment for it.
        """
        if self._delivery.loop is not None and not self._calling:
            with contextlib.suppress(ReferenceError):
                while self.is_alive() and self.due_ns() <= until_ns:
                    if not self._fire() or self._device.hold_time <= 0:
                        return
            return
        self._decided_ns = until_ns
        if self._calling:
            return
        if self.is_alive() and self.due_ns() <= until_ns and self.pause():
            # The thread sleeps on: the program has shortened the hold time meanwhile, or the level is in doubt.
            self._due = self._delivery.time()
            self.carry_on(self._delivery.loop)
        give_up = time.monotonic() + _IN_TURN
        while (
            self.is_alive()
            and (self._calling or self.due_ns() <= until_ns)
            and (left := give_up - time.monotonic()) > 0
        ):
            self._called.wait(left)
            self._called.clear()

    def end(self) -> None:
        self._delivery.forget_hold(self)
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
        """Return whether the device was active until the hold was due."""
        due_ns = self.due_ns()
        if self._decided_ns >= due_ns:
            return True
        edge = self._delivery.next_edge(self._pins)
        if edge is not None:
            return edge.timestamp_ns >= due_ns
        return bool(self._device.is_active)

    def _fire(self) -> bool:
        """Call `when_held` and return whether it repeats."""
        device = self._device
        self._counted_from = self._due_ticks()
        if device._held_from is None:
            device._held_from = self._counted_from
        again = bool(device.hold_repeat)
        self._calling = True
        try:
            if not again:
                self._delivery.forget_hold(self)
            device._fire_held()
        finally:
            self._calling = False
            self._called.set()
        if not again:
            self.end()
        return again and self.is_alive()
