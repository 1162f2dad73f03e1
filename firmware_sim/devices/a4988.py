"""A stepper motor on an A4988 or DRV8825 driver: STEP and DIR.

Each rising edge of STEP is one (micro)step in the direction of DIR; STEP must stay high and low for 1 µs (Allegro
A4988 datasheet). Without acceleration a motor follows up to its pull-in rate and loses faster steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pins import Line

_LEAST_PULSE_NS = 1000


@dataclass
class A4988(Device):
    """A stepper motor on an A4988 or DRV8825 driver.

    Parameters:
        step: the line of STEP.
        direction: the line of DIR; high is forward.
        enable: the line of ENABLE, low while the motor is driven; None: tied low.
        microsteps: 1, 2, 4, 8, 16 or 32, as MS1 to MS3 are tied.
        steps_per_revolution: full steps of one turn.
        max_rate: the fastest that the motor follows.

    Attributes:
        position: microsteps from the start.
        lost_steps: steps that came too fast, or too short for the driver.
        ignored_steps: steps while it was not enabled.
    """

    step: int
    direction: int
    enable: int | None = None
    microsteps: int = 1
    steps_per_revolution: int = 200
    max_rate: float = within(1, 100_000, "full steps a second", default=1000.0)
    position: int = field(default=0, init=False)
    lost_steps: int = field(default=0, init=False)
    ignored_steps: int = field(default=0, init=False)

    fixed = "step, direction, enable"
    wiring = (
        "STEP, DIR and EN to the lines, RST to SLP, VDD to 3.3 V, VMOT to the motor's supply with 100 µF, GND to both"
    )
    example = "step = gpiozero.DigitalOutputDevice(17); step.blink(0.001, 0.001, n=200)"

    def __post_init__(self) -> None:
        if self.microsteps not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"microsteps must be 1, 2, 4, 8, 16 or 32, not {self.microsteps}")
        if self.steps_per_revolution < 1:
            raise ValueError(f"steps_per_revolution must be 1 or more, not {self.steps_per_revolution}")

    def attach(self, board: Connections) -> None:
        user = "of the stepper driver on line"
        board.use_line(self.step, f"STEP {user} {self.step}").observe(self._on_step)
        self._direction: Line = board.use_line(self.direction, f"DIR {user} {self.direction}")
        self._enable = None if self.enable is None else board.use_line(self.enable, f"EN {user} {self.enable}")
        if self._enable is not None:
            self._enable.pull("down")
        self._edge_ns = self._stepped_ns = -(10**12)

    @property
    def angle(self) -> float:
        """Degrees of the shaft from the start."""
        return self.position * 360 / (self.steps_per_revolution * self.microsteps)

    def _on_step(self, level: int, when_ns: int) -> None:
        short = when_ns - self._edge_ns < _LEAST_PULSE_NS
        self._edge_ns = when_ns
        if not level:
            return
        if self._enable is not None and self._enable.level:
            self.ignored_steps += 1
            return
        too_fast = (when_ns - self._stepped_ns) * self.max_rate * self.microsteps < 1e9 - 1
        self._stepped_ns = when_ns
        if short or too_fast:
            self.lost_steps += 1
        else:
            self.position += 1 if self._direction.level else -1
