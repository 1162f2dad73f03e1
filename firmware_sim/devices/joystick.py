"""A joystick: two potentiometers on inputs of an ADC, and a push switch on a line (KY-023)."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.adc_inputs import adc_input
from firmware_sim.analog import Adc
from firmware_sim.contacts import Contacts
from firmware_sim.device import Connections, Device
from firmware_sim.limits import state, within


@dataclass
class Joystick(Device):
    """A joystick with two axes and a push switch, such as a KY-023.

    Parameters:
        adc: the name of the ADC part.
        x_channel, y_channel: its inputs for both axes, from 0.
        switch: the line of its push switch, which connects it to ground; None: not connected.
        x, y: its position, -1 to 1 each; 0 is the middle. Assign others at any time, or call `move()`.
        supply: the voltage at the upper ends.
        bounce: how long the switch bounces.

    Attributes:
        pressed: whether the switch is pressed. Assigning it presses or releases the switch.
    """

    adc: str
    x_channel: int = 0
    y_channel: int = 1
    switch: int | None = None
    x: float = within(-1, 1, "of the way", default=0.0, changed="apply")
    y: float = within(-1, 1, "of the way", default=0.0, changed="apply")
    supply: float = within(0, 5.3, "volts", default=3.3, changed="apply")
    bounce: float = within(0, 0.1, "seconds", default=0.0)
    pressed: bool = field(default=state(False, changed="_push"), init=False)
    _adc: Adc | None = field(default=None, init=False, repr=False)

    fixed = "adc, x_channel, y_channel, switch"
    wiring = "VRx and VRy to inputs of the ADC, SW to the line with a pull-up, +5V to 3.3 V, GND to GND"
    example = 'board["stick"].move(0.5, -1)   # in a test; the program reads the ADC'

    def __post_init__(self) -> None:
        if self.x_channel == self.y_channel:
            raise ValueError(f"x_channel and y_channel must be two inputs, not both {self.x_channel}")

    def attach(self, board: Connections) -> None:
        self._contacts: Contacts | None = None
        if self.switch is not None:
            line = board.use_line(self.switch, f"the switch of the joystick on line {self.switch}")
            self._contacts = Contacts(board.timeline, lambda closed: line.drive(0 if closed else None), self.switch)
        for axis, channel in (("x", self.x_channel), ("y", self.y_channel)):
            self._adc = adc_input(board, self.adc, channel, f"axis {axis} of the joystick on channel {channel}")
        self.apply()

    def move(self, x: float, y: float) -> None:
        """Move it to a position, -1 to 1 each."""
        self.x, self.y = x, y

    def press(self) -> None:
        """Press the switch, and hold it until `release()`."""
        self.pressed = True

    def release(self) -> None:
        """Release the switch."""
        self.pressed = False

    def apply(self) -> None:
        """Set the inputs of the ADC to the voltages of the present position."""
        if self._adc is not None:
            self._adc.inputs[self.x_channel] = self.supply * (1 + self.x) / 2
            self._adc.inputs[self.y_channel] = self.supply * (1 + self.y) / 2

    def _push(self) -> None:
        if self._contacts is None:
            raise ValueError("the joystick has no switch; give it the key switch")
        self._contacts.move(self.pressed, self.bounce)
