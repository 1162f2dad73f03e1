"""A flow meter with a Hall sensor: a YF-S201, whose pulses follow F = 7.5 Q (Hz, litres a minute), 450 to a litre."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline


@dataclass
class FlowMeter(Device):
    """A flow meter such as a YF-S201.

    Parameters:
        line: the line of its pulses.
        rate: the flow. Assign another at any time.
        pulses_per_litre: 450 for a YF-S201.
        resistor: whether its open-collector output has a pull-up; else the program must set one.

    Attributes:
        pulses: pulses so far.
    """

    line: int
    rate: float = within(0, 100, "litres a minute", default=0.0, changed="plan")
    pulses_per_litre: float = within(0.1, 6000, "pulses", default=450.0)
    resistor: bool = True
    pulses: int = field(default=0, init=False)

    fixed = "resistor"
    wiring = "yellow to the line with 10 kΩ to 3.3 V (resistor), red to 5 V, black to GND"
    example = "meter = gpiozero.DigitalInputDevice(17, pull_up=True); meter.when_activated = count"

    _timeline: Timeline | None = field(default=None, init=False, repr=False)

    def attach(self, board: Connections) -> None:
        self._line: Line = board.use_line(self.line, f"the flow meter on line {self.line}")
        self._line.pull("up" if self.resistor else "none")
        self._timeline = board.timeline
        self._turned, self._low = 0.0, False
        self._since_ns, self._before = board.timeline.now_ns(), self.rate
        self._next: Event | None = None
        self.plan()

    @property
    def litres(self) -> float:
        """The litres that its pulses stand for."""
        return self.pulses / self.pulses_per_litre

    def plan(self) -> None:
        """Plan the next half turn of the wheel at the present rate."""
        if self._timeline is None:
            return
        with self._timeline.lock:
            now_ns = self._timeline.moment_ns()
            self._turned += (now_ns - self._since_ns) * self._half_turns_a_second(self._before) / 1e9
            self._since_ns, self._before = now_ns, self.rate
            if self._next is not None:
                self._next.cancel()
            if self.rate:
                left = max(0.0, 1 - self._turned)
                self._next = self._timeline.after(left / self._half_turns_a_second(self.rate), self._half_turn)

    def _half_turns_a_second(self, rate: float) -> float:
        return 2 * rate * self.pulses_per_litre / 60

    def _half_turn(self) -> None:
        assert self._timeline is not None
        self._turned, self._since_ns = 0.0, self._timeline.moment_ns()
        self._low = not self._low
        self._line.drive(0 if self._low else None)
        self.pulses += not self._low
        self.plan()
