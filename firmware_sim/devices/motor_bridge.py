"""DC motors on bridge drivers: an L298N, a DRV8833, and a bridge of four transistors, which can destroy itself.

Which way the motor turns is decided by two inputs, and how fast by the duty cycle of one of them or of the enable
input. Both inputs alike brake (ST L298, "Bidirectional DC motor control"; TI DRV8833, "Bridge Control").
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.pins import Line
from firmware_sim.pulse_meter import PulseMeter

logger: logging.Logger = logging.getLogger("firmware_sim")


@dataclass
class L298n(Device):
    """A DC motor on one channel of an L298N.

    Parameters:
        in1, in2: the lines of IN1 and IN2.
        enable: the line of ENA; None: its jumper is set.
    """

    in1: int
    in2: int
    enable: int | None = None

    fixed = "in1, in2, enable"
    wiring = "IN1, IN2, ENA to the lines, +12V to the motor's supply, GND to both; the motor between OUT1 and OUT2"
    example = "motor = gpiozero.Motor(17, 27); motor.forward(0.5)"

    def attach(self, board: Connections) -> None:
        self._inputs = [
            PulseMeter(board.timeline, board.use_line(line, f"IN{place} of the motor bridge on line {line}"))
            for place, line in enumerate((self.in1, self.in2), 1)
        ]
        self._enable: PulseMeter | None = None
        if self.enable is not None:
            line = board.use_line(self.enable, f"the enable input of the motor bridge on line {self.enable}")
            self._enable = PulseMeter(board.timeline, line)

    @property
    def speed(self) -> float:
        """The mean voltage on the motor, from -1 (full speed backward) to 1."""
        enabled = 1.0 if self._enable is None else self._enable.duty
        return enabled * (self._inputs[0].duty - self._inputs[1].duty)

    @property
    def direction(self) -> str:
        """Return "forward", "backward" or "stopped"."""
        speed = self.speed
        return "forward" if speed > 0 else "backward" if speed < 0 else "stopped"

    @property
    def braked(self) -> bool:
        """Whether both ends of the motor are connected: enabled, with both inputs high or both low."""
        return (self._enable is None or self._enable.duty > 0) and self.speed == 0


@dataclass
class Drv8833(L298n):
    """A DC motor on one channel of a DRV8833.

    Parameters:
        in1, in2: the lines of AIN1 and AIN2.
        enable: the line of nSLEEP, high while it is awake; None: tied high.
    """

    wiring = (
        "AIN1, AIN2 and SLEEP to the lines, VM to the motor's supply, GND to both; the motor between AOUT1 and AOUT2"
    )

    @property
    def braked(self) -> bool:
        """Whether both ends of the motor are connected to ground: awake, with both inputs high."""
        return (self._enable is None or self._enable.duty > 0) and all(meter.duty == 1 for meter in self._inputs)


@dataclass
class HBridge(Device):
    """A DC motor on a bridge of four transistors, each on a line of its own.

    Both transistors of one side conduct from the supply to ground: that is a shoot-through, counted and logged.

    Parameters:
        left_high, left_low: the lines of the transistors between the left end of the motor and supply and ground.
        right_high, right_low: the same at its right end.

    Attributes:
        shoot_throughs: how often both transistors of one side began to conduct.
    """

    left_high: int
    left_low: int
    right_high: int
    right_low: int
    shoot_throughs: int = field(default=0, init=False)

    fixed = "left_high, left_low, right_high, right_low"
    wiring = "each line to the driver of its transistor; the motor between the middles of left and right"
    example = "left_high, right_low = gpiozero.LED(17), gpiozero.LED(26); left_high.on(); right_low.on()"

    def attach(self, board: Connections) -> None:
        self._sides: list[tuple[Line, Line]] = []
        self._meters: list[PulseMeter] = []
        for side, numbers in (
            ("left", (self.left_high, self.left_low)),
            ("right", (self.right_high, self.right_low)),
        ):
            high, low = (
                board.use_line(number, f"the {side} {which} transistor on line {number}")
                for which, number in zip(("upper", "lower"), numbers, strict=True)
            )
            self._sides.append((high, low))
            for line in (high, low):
                self._meters.append(PulseMeter(board.timeline, line))
                line.observe(lambda level, when_ns, high=high, low=low: self._on_level(high, low, level))  # type: ignore[misc]

    @property
    def speed(self) -> float:
        """The mean voltage on the motor, from -1 (full speed backward) to 1: the current flows from left to right."""
        left_high, left_low, right_high, right_low = (meter.duty for meter in self._meters)
        return min(left_high, right_low) - min(right_high, left_low)

    def _on_level(self, high: Line, low: Line, level: int) -> None:
        if level and high.level and low.level:
            self.shoot_throughs += 1
            if self.shoot_throughs == 1:
                logger.warning(
                    "shoot-through: %s and %s conduct together; switch one off before the other on, with a dead time",
                    high.part,
                    low.part,
                )
