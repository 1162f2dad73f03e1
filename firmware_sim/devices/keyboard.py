"""A keyboard, a remote control or a pad of keys, as the kernel's input layer shows it: /dev/input/eventN."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.input_events import EV_KEY, InputDevice
from firmware_sim.limits import within

_PC_KEYS = list(range(1, 249))  # KEY_ESC to KEY_MICMUTE


@dataclass
class Keyboard(Device):
    """A keyboard whose keys a program reads from /dev/input/eventN.

    Parameters:
        number: N.
        label: the name of the device.
        keys: the codes of its keys, as <linux/input-event-codes.h> numbers them; none: those of a PC's keyboard.
        hold: seconds for which `click()` holds a key.
    """

    number: int = 0
    label: str = "simulated keyboard"
    keys: list[int] = field(default_factory=list)
    hold: float = within(0, 3600, "seconds", default=0.05)

    fixed = "number, label, keys"
    wiring = "to a USB port, or as keys of a remote control behind a receiver with the overlay gpio-ir"
    example = "for event in evdev.InputDevice('/dev/input/event0').read_loop(): print(evdev.categorize(event))"

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 31:
            raise ValueError(f"number must be 0 to 31, as in /dev/input/event0, not {self.number}")
        for code in self.keys:
            if not 0 <= code <= 0x2FF:
                raise ValueError(f"keys must be codes from 0 to 767, not {code}")

    def attach(self, board: Connections) -> None:
        self._timeline = board.timeline
        self._codes = self.keys or _PC_KEYS
        self.device: InputDevice = InputDevice(board.timeline, self.number, self.label, {EV_KEY: self._codes})
        board.nodes.add(f"/dev/input/event{self.number}", self.device)

    def press(self, key: int) -> None:
        """Press a key. Raises ValueError if there is none of this code; harmless if it is pressed."""
        self._move(key, True)

    def release(self, key: int) -> None:
        """Release a key. Raises ValueError if there is none of this code; harmless if it is not pressed."""
        self._move(key, False)

    def click(self, key: int) -> None:
        """Press a key, and release it after `hold` seconds."""
        with self._timeline.lock:
            self.press(key)
            self._timeline.after(self.hold, lambda: self.release(key))

    def _move(self, key: int, down: bool) -> None:
        if key not in self._codes:
            raise ValueError(f"{self.label} has no key {key}")
        with self._timeline.lock:
            if (key in self.device.pressed) != down:
                self.device.emit(EV_KEY, key, int(down))
