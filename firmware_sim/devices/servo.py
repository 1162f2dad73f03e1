"""A hobby servo: the width of its pulses, 50 a second, is its angle (TowerPro SG90 datasheet: 0.5 to 2.4 ms, 180°)."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pulse_meter import PulseMeter


@dataclass
class Servo(Device):
    """A servo such as an SG90.

    Parameters:
        line: the line of its pulses.
        min_pulse, max_pulse: the pulses of its two ends.
        travel: from end to end.

    Attributes:
        out_of_range: pulses that it can't follow; it stops at the end that is nearer.
    """

    line: int
    min_pulse: float = within(0.0001, 0.01, "seconds", default=0.0005)
    max_pulse: float = within(0.0001, 0.01, "seconds", default=0.0024)
    travel: float = within(1, 3600, "degrees", default=180.0)
    out_of_range: int = field(default=0, init=False)
    _angle: float | None = field(default=None, init=False, repr=False)

    wiring = "orange to the line, red to 5 V of a supply that gives 1 A, brown to GND of both"
    example = "servo = gpiozero.AngularServo(17, min_pulse_width=.0005, max_pulse_width=.0024); servo.angle = 45"

    def __post_init__(self) -> None:
        if self.min_pulse >= self.max_pulse:
            raise ValueError(f"max_pulse must be longer than min_pulse {self.min_pulse}, not {self.max_pulse}")

    def attach(self, board: Connections) -> None:
        line = board.use_line(self.line, f"the servo on line {self.line}")
        self._meter = PulseMeter(board.timeline, line, self._on_pulse)

    @property
    def angle(self) -> float | None:
        """Its angle, 0 at the shortest pulse; None before the first pulse."""
        return self._angle

    @property
    def powered(self) -> bool:
        """Whether pulses arrive, and it holds its angle."""
        return self._meter.frequency > 0

    def _on_pulse(self, width: float) -> None:
        share = (width - self.min_pulse) / (self.max_pulse - self.min_pulse)
        self.out_of_range += not -0.01 <= share <= 1.01
        self._angle = self.travel * min(max(share, 0.0), 1.0)
