"""A 28BYJ-48 stepper motor on a ULN2003 driver board.

The coils pull the rotor to the direction of their field; eight half steps are one turn of the field, and 4096 one of
the shaft (64 of the rotor's by a gear of 64). The rotor follows no faster than the motor can. If the field is more
than half a turn ahead, the rotor falls back to the nearest position: it loses steps, eight at a time (28BYJ-48
datasheet of Kiatronics, "4 phase, 8 beat"; pull-out frequency 1000 Hz).
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.timeline import Timeline

STEPS = 4096
"""Half steps of one turn of the shaft."""


@dataclass
class Stepper28byj(Device):
    """A 28BYJ-48 stepper motor on a ULN2003 driver.

    Parameters:
        lines: the lines of IN1 to IN4.
        max_rate: the fastest that the rotor follows, in half steps; a full step counts two.
    """

    lines: list[int] = field(metadata={"example": [17, 18, 27, 22]})
    max_rate: float = within(1, 100_000, "half steps a second", default=1000.0)

    wiring = "IN1 to IN4 to the lines, + to 5 V of its own supply, - to GND of both"
    example = "motor = RpiMotorLib.BYJMotor(); motor.motor_run([17, 18, 27, 22], .002, 512, steptype='half')"

    def __post_init__(self) -> None:
        if len(self.lines) != 4:
            raise ValueError(f"lines must be the four lines of IN1 to IN4, not {self.lines}")

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._coils = []
        for place, number in enumerate(self.lines, 1):
            line = board.use_line(number, f"IN{place} of the stepper on line {number}")
            line.observe(self._on_level)
            self._coils.append(line)
        self._rotor = self._target = 0.0
        self._field: int | None = None
        self._commanded = 0
        self._since_ns = board.timeline.now_ns()

    @property
    def position(self) -> float:
        """Half steps from the start, forward in the order of the lines."""
        with self._timeline.lock:
            self._timeline.catch_up()
            self._follow(self._timeline.moment_ns())
            return self._rotor

    @property
    def angle(self) -> float:
        """Degrees of the shaft from the start."""
        return self.position * 360 / STEPS

    @property
    def lost_steps(self) -> int:
        """Half steps that the program has made, and the rotor has not: whole turns of the field."""
        with self._timeline.lock:
            return abs(8 * round((self._commanded - self._target) / 8))

    @property
    def powered(self) -> bool:
        """Whether a coil draws current, and warms the motor."""
        return any(coil.level for coil in self._coils)

    def _follow(self, now_ns: int) -> None:
        reach = (now_ns - self._since_ns) / 1e9 * self.max_rate
        self._rotor += min(max(self._target - self._rotor, -reach), reach)
        self._since_ns = now_ns

    def _on_level(self, level: int, when_ns: int) -> None:
        self._follow(when_ns)
        pull = sum(coil.level * cmath.exp(1j * math.pi / 2 * place) for place, coil in enumerate(self._coils))
        if abs(pull) < 0.5:  # no coil, or coils that cancel out: it stays where it is
            self._target = self._rotor
            return
        now = round(cmath.phase(pull) / (math.pi / 4)) % 8
        way = _nearest(now - self._rotor)
        if self._field is None:
            self._commanded = round(self._rotor + way)
        else:
            self._commanded += round(_nearest(now - self._field))
        self._field = now
        if abs(way) < 4:  # exactly opposite, it would not know where to turn
            self._target = self._rotor + way


def _nearest(steps: float) -> float:
    """Return the same direction as a way of half a turn of the field at most."""
    return (steps + 4) % 8 - 4
