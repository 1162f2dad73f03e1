"""A motion sensor for the simulated board: its line is high for a while, again and again."""

from dataclasses import dataclass

from firmware_sim import Connections, Device


@dataclass
class Motion(Device):
    line: int
    every: float = 10.0  # seconds from one movement to the next
    hold: float = 2.0  # seconds for which the line is high

    def attach(self, board: Connections) -> None:
        self._line = board.use_line(self.line, f"the motion sensor on line {self.line}")
        self._after = board.timeline.after
        self._rest()

    def _rest(self) -> None:
        self._line.drive(0)
        self._after(self.every - self.hold, self._move)

    def _move(self) -> None:
        self._line.drive(1)
        self._after(self.hold, self._rest)
