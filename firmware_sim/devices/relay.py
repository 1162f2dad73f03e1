"""A relay: its contacts follow the coil some milliseconds later (Songle SRD-05VDC: operate 10 ms, release 5 ms)."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.timeline import Event, Timeline

_COIL = 71.4
"""Milliamps of a 5 V coil of 70 Ω."""


@dataclass
class Relay(Device):
    """A relay, such as those of relay modules.

    Parameters:
        line: the line that drives it.
        active_low: whether it closes while the line is low, as most modules do.
        driver: whether a transistor drives its coil, which takes more current than a pin gives.
        operate, release: how long the contacts take to close, and to open.

    Attributes:
        clicks: how often they closed or opened.
    """

    line: int
    active_low: bool = False
    driver: bool = True
    operate: float = within(0, 1, "seconds", default=0.01)
    release: float = within(0, 1, "seconds", default=0.005)
    clicks: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False, repr=False)

    fixed = "active_low, driver"
    wiring = "IN to the line, VCC to 5 V, GND to GND; a bare relay needs a transistor and a diode across its coil"
    example = "async with hwloop.gpio.output(17, safe=0) as pump: pump.on()"

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        line = board.use_line(self.line, f"the relay on line {self.line}")
        if self.active_low:
            line.pull("up")  # the input of such a module
        if not self.driver:
            line.load(_COIL, 0 if self.active_low else 1)
        self._move: Event | None = None
        line.observe(self._on_level)
        if line.level != self.active_low:
            self._on_level(line.level, board.timeline.now_ns())

    @property
    def closed(self) -> bool:
        """Whether its contacts are closed."""
        return self._closed

    def _on_level(self, level: int, when_ns: int) -> None:
        if self._move is not None:
            self._move.cancel()
        close = bool(level) != self.active_low
        delay = self.operate if close else self.release
        self._move = self._timeline.at(when_ns + round(delay * 1e9), lambda: self._settle(close))

    def _settle(self, close: bool) -> None:
        if close != self._closed:
            self._closed = close
            self.clicks += 1
