"""Pulses on a line, measured as a part sees them: widths, frequency and duty cycle, from the times of edges."""

from __future__ import annotations

from collections.abc import Callable

from firmware_sim.pins import Line
from firmware_sim.timeline import Timeline

_LONGEST_PERIOD_NS = 1_000_000_000
_JITTER_NS = 1_000_000


class PulseMeter:
    """A meter of the pulses on a line. Without an edge for two periods, the line counts as steady.

    Parameters:
        on_pulse: called as `on_pulse(seconds)` with the width of each pulse at its end; None calls nothing.
        active: the level of a pulse.

    Attributes:
        pulses: pulses that have ended.
    """

    def __init__(
        self,
        timeline: Timeline,
        line: Line,
        on_pulse: Callable[[float], object] | None = None,
        *,
        active: int = 1,
    ) -> None:
        self.pulses: int = 0
        self._timeline = timeline
        self._line = line
        self._on_pulse = on_pulse
        self._active = active
        self._began_ns: int | None = None
        self._period_ns = 0
        self._width_ns = 0
        self._edge_ns = 0
        line.observe(self._on_level)

    @property
    def frequency(self) -> float:
        """Pulses a second, from the last period; 0 while the line is steady."""
        with self._timeline.lock:
            self._timeline.catch_up()
            if (fast := self._line.fast_pulses) is not None:
                return 1e9 / fast[0]
            if (fast := self._line.fast_pulses) is not None:
                return 1e9 / fast[0]
            return 0.0 if self._steady() else 1e9 / self._period_ns

    @property
    def duty(self) -> float:
        """The part of the last period for which the line was active, 0 to 1; its level while it is steady."""
        with self._timeline.lock:
            self._timeline.catch_up()
            if (fast := self._line.fast_pulses) is not None:
                return fast[1] / fast[0] if self._active else 1 - fast[1] / fast[0]
            if (fast := self._line.fast_pulses) is not None:
                return (fast[1] if self._active else fast[0] - fast[1]) / fast[0]
            if self._steady():
                return float(self._line.level == self._active)
            return self._width_ns / self._period_ns

    def _steady(self) -> bool:
        silent_ns = self._timeline.moment_ns() - self._edge_ns
        return not self._period_ns or silent_ns > 2 * self._period_ns + _JITTER_NS

    def _on_level(self, level: int, when_ns: int) -> None:
        if level == self._active:
            began_ns = self._began_ns
            if began_ns is not None and self._width_ns and when_ns - began_ns <= _LONGEST_PERIOD_NS:
                self._period_ns = when_ns - began_ns
            else:
                self._period_ns = 0
            self._began_ns = when_ns
        elif self._began_ns is not None:
            self._width_ns = when_ns - self._began_ns
            self.pulses += 1
            if self._on_pulse is not None:
                self._on_pulse(self._width_ns / 1e9)
        self._edge_ns = when_ns
