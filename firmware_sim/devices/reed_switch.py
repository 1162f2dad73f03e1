"""A reed switch: contacts in glass that a magnet closes, as on doors and windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.contacts import Contacts
from firmware_sim.device import Connections, Device
from firmware_sim.limits import state, within


@dataclass
class ReedSwitch(Device):
    """A reed switch between a line and ground.

    Parameters:
        line: its line.
        near: whether the magnet is near. Assigning it moves the magnet.
        normally_closed: whether its contacts are closed without a magnet.
        resistor: whether it has a pull-up of its own; else the program must set one.
        bounce: seconds for which it bounces; 0.5 ms is usual (Meder KSK-1A66, "operate time, incl. bounce").
        seed: of the bounces.

    Attributes:
        moves: how often the magnet came or went.
    """

    line: int
    near: bool = state(False, changed="_move")
    normally_closed: bool = False
    resistor: bool = False
    bounce: float = within(0, 0.1, "seconds", default=0.0)
    seed: int = 0
    moves: int = field(default=0, init=False)

    fixed = "normally_closed, resistor, seed"
    wiring = "one end to the line, the other to GND; set a pull-up, or add 10 kΩ to 3.3 V (resistor)"
    example = "door = gpiozero.Button(17); door.when_released = lambda: print('the door opens')"

    def attach(self, board: Connections) -> None:
        line = board.use_line(self.line, f"the reed switch on line {self.line}")
        line.pull("up" if self.resistor else "none")
        self._contacts = Contacts(board.timeline, lambda closed: line.drive(0 if closed else None), self.seed)
        self._contacts.move(self.near != self.normally_closed)

    def approach(self) -> None:
        """Bring the magnet near, as a door does that closes."""
        self.near = True

    def leave(self) -> None:
        """Take the magnet away, as a door does that opens."""
        self.near = False

    def _move(self) -> None:
        self.moves += 1
        self._contacts.move(self.near != self.normally_closed, self.bounce)
