"""A matrix keypad: each key joins the line of its row with the line of its column while it is pressed."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.contacts import Contacts
from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.timeline import Timeline


@dataclass
class Keypad(Device):
    """A matrix keypad, 4x4 or of another size.

    Parameters:
        rows, columns: the lines of its rows and columns.
        keys: the labels of its keys, row by row.
        bounce: seconds for which a key bounces.
        hold: seconds for which `click()` and `type()` hold a key.
        seed: of the bounces.
    """

    rows: list[int] = field(metadata={"example": [5, 6, 13, 19]})
    columns: list[int] = field(metadata={"example": [12, 16, 20, 21]})
    keys: str = "123A456B789C*0#D"
    bounce: float = within(0, 0.1, "seconds", default=0.0)
    hold: float = within(0.001, 10, "seconds", default=0.1)
    seed: int = 0
    _pressed: list[str] = field(default_factory=list, init=False, repr=False)

    fixed = "rows, columns, keys, seed"
    wiring = "pins 1 to 4 to the rows, 5 to 8 to the columns; pull up those that are read, drive the others low in turn"
    example = "keypad = adafruit_matrixkeypad.Matrix_Keypad(rows, columns, keys); keypad.pressed_keys"

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.rows) * len(self.columns) or len(set(self.keys)) < len(self.keys):
            raise ValueError(
                f"keys must be {len(self.rows) * len(self.columns)} different characters, one for each row and column, "
                f"not {self.keys!r}"
            )

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        for name, lines in (("row", self.rows), ("column", self.columns)):
            for place, line in enumerate(lines, 1):
                board.use_line(line, f"{name} {place} of the keypad on line {line}")
        places = [(row, column) for row in self.rows for column in self.columns]
        self._contacts = {
            key: self._key(board, row, column, self.seed + place)
            for place, (key, (row, column)) in enumerate(zip(self.keys, places, strict=True))
        }
        self._free_ns = 0

    @property
    def pressed(self) -> list[str]:
        """The keys that are pressed, the last one at the end."""
        return [*self._pressed]

    def press(self, key: str) -> None:
        """Press a key, and hold it until `release(key)`. Raises ValueError if there is no such key."""
        self._move(key, True)

    def release(self, key: str) -> None:
        """Release a key."""
        self._move(key, False)

    def click(self, key: str) -> None:
        """Press a key, and release it after `hold` seconds."""
        self.press(key)
        self._timeline.after(self.hold, lambda: self.release(key))

    def type(self, keys: str) -> None:
        """Click some keys one after the other, each `hold` seconds after the release of the one before."""
        for key in keys:
            self._check(key)
        with self._timeline.lock:
            when_ns = max(self._timeline.moment_ns(), self._free_ns)
            for key in keys:
                self._timeline.at(when_ns, lambda key=key: self.click(key))  # type: ignore[misc]
                when_ns += round(2 * self.hold * 1e9)
            self._free_ns = when_ns

    def _check(self, key: str) -> None:
        if key not in self._contacts:
            raise ValueError(f"the keypad has no key {key!r}; its keys are {self.keys}")

    def _move(self, key: str, pressed: bool) -> None:
        self._check(key)
        with self._timeline.lock:
            self._timeline.catch_up()
            self._pressed = [other for other in self._pressed if other != key] + [key] * pressed
            self._contacts[key].move(pressed, self.bounce)

    @staticmethod
    def _key(board: Connections, row: int, column: int, seed: int) -> Contacts:
        chip = board.chip
        return Contacts(
            board.timeline, lambda closed: chip.wire(row, column) if closed else chip.cut(row, column), seed
        )
