"""A buzzer: a passive one sounds at the frequency of its line, an active one at its own while its line is high."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pins import Line
from firmware_sim.pulse_meter import PulseMeter
from firmware_sim.timeline import Timeline

HISTORY = 10_000
_AUDIBLE = (20, 20_000)


@dataclass
class Buzzer(Device):
    """A buzzer.

    Parameters:
        line: the line that drives it.
        pitch: the frequency of an active buzzer (TMB12A05: 2300 Hz); None for a passive one, which needs pulses.
        current: what it draws from the pin while the line is high: 30 mA for an active one without a transistor.
    """

    line: int
    pitch: float | None = within(20, 20_000, "Hz", default=None)
    current: float = within(0, 1000, "mA", default=5.0)
    _heard: list[tuple[float, float]] = field(default_factory=list, init=False, repr=False)

    fixed = "current"
    wiring = "+ to the line, - to GND; an active buzzer over a transistor"
    example = "gpiozero.TonalBuzzer(17).play(gpiozero.tones.Tone('A4'))"

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._line: Line = board.use_line(self.line, f"the buzzer on line {self.line}")
        self._line.load(self.current)
        self._meter = PulseMeter(board.timeline, self._line)
        self._line.observe(self._on_level)

    @property
    def heard(self) -> list[tuple[float, float]]:
        """(Seconds on the board's clock, frequency in Hz) of each tone, at its beginning.

        Tones of the same frequency one after the other count once. A long run keeps the last ten thousand.
        """
        return self._heard

    @property
    def frequency(self) -> float:
        """The frequency that it sounds at, in Hz; 0 while it is silent."""
        if self.pitch is not None:
            return self.pitch if self._line.level else 0.0
        frequency = self._meter.frequency
        return frequency if _AUDIBLE[0] <= frequency <= _AUDIBLE[1] else 0.0

    def _on_level(self, level: int, when_ns: int) -> None:
        frequency = round(self.frequency, 1)
        if level and frequency and (self.pitch is not None or not self._heard or self._heard[-1][1] != frequency):
            self._heard.append((when_ns / 1e9, frequency))
            del self._heard[:-HISTORY]
