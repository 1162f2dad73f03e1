"""A passive infrared motion sensor: an HC-SR501 module.

Its output is high for the hold time after a movement. With the jumper on H each further movement begins the hold time
again; on L it does not, and the output is low for the block time after each hold, whatever moves (the module's manual,
"time delay" and "trigger"). For the first minute after power the output means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import LONGEST, within
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline


@dataclass
class Pir(Device):
    """An HC-SR501 motion sensor.

    Parameters:
        line: the line of its output.
        hold: seconds for which the output stays high after a movement.
        block: seconds after that in which it sees nothing.
        retrigger: whether a movement during the hold time begins it again (the jumper on H).
        warm_up: seconds after power for which it sees nothing; a real one takes up to 60.

    Attributes:
        seen: movements that it has seen.
    """

    line: int
    hold: float = within(0.1, 3600, "seconds", default=2.5)
    block: float = within(0, 60, "seconds", default=2.5)
    retrigger: bool = True
    warm_up: float = within(0, LONGEST, "seconds", default=0.0)
    seen: int = field(default=0, init=False)

    fixed = "warm_up"
    wiring = "OUT to the line (3.3 V), VCC to 5 V, GND to GND; no pull resistor"
    example = "sensor = gpiozero.MotionSensor(17); sensor.wait_for_motion()"

    def attach(self, board: Connections) -> None:
        self._line: Line = board.use_line(self.line, f"the motion sensor on line {self.line}")
        self._timeline: Timeline = board.timeline
        self._line.drive(0)
        self._end: Event | None = None
        self._blind_until_ns = board.timeline.now_ns() + round(self.warm_up * 1e9)

    def motion(self) -> None:
        """Move something in front of the sensor."""
        with self._timeline.lock:
            self._timeline.catch_up()
            if self._timeline.moment_ns() < self._blind_until_ns or (self._end is not None and not self.retrigger):
                return
            self.seen += 1
            if self._end is not None:
                self._end.cancel()
            self._line.drive(1)
            self._end = self._timeline.after(self.hold, self._rest)

    def _rest(self) -> None:
        self._end = None
        self._line.drive(0)
        self._blind_until_ns = self._timeline.moment_ns() + round(self.block * 1e9)
