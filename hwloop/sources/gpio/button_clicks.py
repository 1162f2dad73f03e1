"""A push button's clicks: single, double and long.

    async with gpio.clicks(17, pull="up", active_low=True) as button:
        async for click in button:
            print(click.kind)

The kind of a press is known only later, from the edges that follow it:

                     press                 held for `long`
        at rest ─────────────▶ pressed ─────────────────────▶ held ──release──▶ at rest
           ▲                      │            "long"
           │                   release
           │ `gap` over           ▼           press
           ├──"single"──────── released ─────────────────────▶ again ──release──▶ at rest
                                              "double"

With `gap=0` a release is a single click at once, and there are no double ones. All times are the kernel's timestamps of
the edges, so a busy program decides as a quick one would. An edge may be on its way for a moment; so a click that time
alone decides ("long", "single") is reported `LATENCY` seconds after it is certain, and with its exact time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple

from hwloop.board import Edge, LineName
from hwloop.core import clock
from hwloop.errors import check_range
from hwloop.lines import Pull
from hwloop.sources.gpio.edges import Watch
from hwloop.sources.gpio.measurements import Measurement

LATENCY = 0.003
"""Seconds from an edge until a loop that is not busy has read it, including lgpio's delay of a millisecond."""

GIVEN_UP = 0.015
"""Seconds after which a release counts as lost that the line's level shows and no edge reports."""


class Click(NamedTuple):
    """A click."""

    kind: Literal["single", "double", "long"]
    pressed_ns: int
    """The time of the press, of a double click the first: nanoseconds, CLOCK_MONOTONIC."""
    timestamp_ns: int
    """The time at which it was certain, on the same clock: the second press of a double click, `long` after the press,
    `gap` after the release."""


class Clicks(Measurement[Click]):
    """Clicks of a button. `hwloop.gpio.clicks` is this class; iterating yields each `Click`.

    Parameters:
        line, pull, active_low: see `Measurement`. The line's logical level must be 1 while the button is pressed.
        debounce: seconds for which the contact must be quiet; 0.01 if None. A `Watch` has its own.
        gap: seconds from a release within which the next press makes a double click; 0 for no double clicks.
        long: seconds after which a press is a long click.

    If a release was lost, the line's level shows it when the press would become a long one, and it is a single click.
    If the next press comes first, the earlier press is not reported.
    """

    def __init__(
        self,
        line: LineName | Watch,
        *,
        gap: float = 0.3,
        long: float = 0.8,
        pull: Pull | None = None,
        active_low: bool = False,
        debounce: float | None = None,
    ) -> None:
        check_range("gap in seconds", gap, 0, 60)
        check_range("long in seconds", long, 0.01, 60)
        if debounce is None:
            debounce = 0.0 if isinstance(line, Watch) else 0.01
        super().__init__((line,), 1, pull, active_low, debounce)
        self._gap_ns = clock.to_ns(gap)
        self._long_ns = clock.to_ns(long)
        self._state: Literal["at rest", "pressed", "held", "released", "again"] = "at rest"
        self._pressed_ns = self._released_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def _finish(self, failure: Exception | None) -> None:
        self._stop_timer()
        super()._finish(failure)

    def _take(self, edge: Edge) -> None:
        self._channel.lost += edge.lost
        now_ns = edge.timestamp_ns
        if edge.value:
            self._stop_timer()
            if self._state == "released":
                if now_ns - self._released_ns <= self._gap_ns:
                    self._state = "again"
                    self._channel.put(Click("double", self._pressed_ns, now_ns))
                    return
                self._put_single()
            self._state = "pressed"
            self._pressed_ns = now_ns
            self._set_timer(now_ns + self._long_ns, self._see_if_long)
        elif self._state == "pressed" and edge.lost:
            self._interrupted()  # a release and a press are missing, so this is not the end of that press
        elif self._state == "pressed":
            self._stop_timer()
            self._released_ns = now_ns
            if now_ns - self._pressed_ns >= self._long_ns:
                self._put_long()
                self._state = "at rest"
            elif self._gap_ns:
                self._state = "released"
                self._set_timer(now_ns + self._gap_ns, self._put_single)
            else:
                self._put_single()
        elif self._state in ("held", "again"):
            self._state = "at rest"

    def _interrupted(self) -> None:
        self._stop_timer()
        self._state = "at rest"

    def _see_if_long(self) -> None:
        """The button has been held for `long`, unless its release was lost or has yet to be read."""
        if self._pressed_now():
            self._put_long()
        else:
            self._timer = asyncio.get_running_loop().call_later(GIVEN_UP, self._see_if_released)

    def _see_if_released(self) -> None:
        """No edge has reported the release, but the line's level shows it: the press was a short one."""
        if self._pressed_now():
            self._interrupted()  # pressed anew, and both edges lost
            return
        self._released_ns = self._pressed_ns + self._long_ns
        self._put_single()

    def _pressed_now(self) -> bool:
        try:
            return bool(self.watch.value)
        except Exception:  # away
            return True

    def _put_single(self) -> None:
        self._state = "at rest"
        self._channel.put(Click("single", self._pressed_ns, self._released_ns + self._gap_ns))

    def _put_long(self) -> None:
        self._state = "held"
        self._channel.put(Click("long", self._pressed_ns, self._pressed_ns + self._long_ns))

    def _set_timer(self, when_ns: int, action: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(clock.from_ns(when_ns) + LATENCY, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


clicks = Clicks
