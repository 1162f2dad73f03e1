"""A rotary encoder with a push switch: a KY-040 module.

Between two detents both contacts close and open once, one before the other: A leads when it turns clockwise (Alps
EC11, "Output signal"). Contacts bounce, up to 3 ms by the same datasheet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.contacts import Contacts
from firmware_sim.device import Connections, Device
from firmware_sim.limits import LEAST_PERIOD, state, within
from firmware_sim.pins import Line
from firmware_sim.timeline import Timeline

_CLOCKWISE = ((0, True), (1, True), (0, False), (1, False))
"""The contacts (A is 0) that move between two detents, and whether they close."""


@dataclass
class RotaryEncoder(Device):
    """A rotary encoder with a push switch, such as a KY-040.

    Parameters:
        a: the line of contact A (CLK), which leads when it turns clockwise.
        b: the line of contact B (DT).
        switch: the line of its push switch (SW); None: not connected.
        bounce: seconds for which a contact bounces.
        step_time: seconds from one detent to the next.
        resistor: whether it has pull-ups of its own, as modules have.
        seed: of the bounces.

    Attributes:
        position: detents from the start, clockwise. Assigning it turns the encoder there.
        pressed: whether the switch is pressed. Assigning it presses or releases the switch.
    """

    a: int
    b: int
    switch: int | None = None
    bounce: float = within(0, 0.1, "seconds", default=0.0)
    step_time: float = within(LEAST_PERIOD, 10, "seconds", default=0.02)
    resistor: bool = True
    seed: int = 0
    position: int = field(default=state(0, changed="_turn"), init=False)
    pressed: bool = field(default=state(False, changed="_push"), init=False)

    fixed = "a, b, switch, resistor, seed"
    wiring = "CLK to a, DT to b, SW to switch, + to 3.3 V, GND to GND; without a module 10 kΩ from each to 3.3 V"
    example = "knob = gpiozero.RotaryEncoder(17, 27); knob.when_rotated = lambda: print(knob.steps)"

    def __post_init__(self) -> None:
        if self.bounce * len(_CLOCKWISE) >= self.step_time:
            raise ValueError(f"bounce must be shorter than a quarter of step_time {self.step_time}, not {self.bounce}")

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._free_ns = 0
        self._turned_to = self.position
        self._turns = [self._contacts(board, line, name) for line, name in ((self.a, "A"), (self.b, "B"))]
        self._switch = None if self.switch is None else self._contacts(board, self.switch, "the switch")

    def turn(self, steps: int = 1) -> None:
        """Turn it by some detents, clockwise, or with a negative number counter-clockwise; after turns under way."""
        with self._timeline.lock:
            self.position += steps

    def _turn(self) -> None:
        with self._timeline.lock:
            steps, self._turned_to = self.position - self._turned_to, self.position
            when_ns = max(self._timeline.moment_ns(), self._free_ns)
            moves = [(place if steps > 0 else 1 - place, closed) for place, closed in _CLOCKWISE] * abs(steps)
            for place, closed in moves:
                move = lambda place=place, closed=closed: self._turns[place].move(closed, self.bounce)  # noqa: E731
                self._timeline.at(when_ns, move)
                when_ns += round(self.step_time * 1e9 / len(_CLOCKWISE))
            self._free_ns = when_ns

    def press(self) -> None:
        """Press the switch, and hold it until `release()`."""
        self.pressed = True

    def release(self) -> None:
        """Release the switch."""
        self.pressed = False

    def _push(self) -> None:
        if self._switch is None:
            raise ValueError(f"the rotary encoder on lines {self.a} and {self.b} has no switch; give it the key switch")
        self._switch.move(self.pressed, self.bounce)

    def _contacts(self, board: Connections, number: int, name: str) -> Contacts:
        line: Line = board.use_line(number, f"{name} of the rotary encoder on line {number}")
        line.pull("up" if self.resistor else "none")
        return Contacts(board.timeline, lambda closed: line.drive(0 if closed else None), self.seed + number)
