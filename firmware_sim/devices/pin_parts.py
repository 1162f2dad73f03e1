"""Parts on single lines: a push button with bouncing contacts, an LED, a wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.contacts import Contacts
from firmware_sim.device import Connections, Device
from firmware_sim.errors import WiringError
from firmware_sim.limits import LEAST_PERIOD, LONGEST, state, within
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline

HISTORY = 10_000
"""The least number of an LED's changes that are kept."""
LED_DROP = 1.3
"""Volts over the series resistor of a red LED: 3.3 V less its forward voltage."""
_PIN_RESISTANCE = 45.0
"""Ohms of a pin's output transistor and of an LED, together."""


@dataclass
class Button(Device):
    """A push button between a line and ground, or with `active_low` false between the line and 3.3 V.

    Parameters:
        line: its line.
        active_low: whether a press connects the line to ground.
        resistor: whether the part has its own resistor, which pulls the line to the level of the open contact.
            Without one the program must set a pull, or the line keeps the level of the last press.
        bounce: seconds over which the contact bounces after a press and after a release.
        press_every: seconds from press to press, and until the first one; None: only `press()` and `click()` press it.
            Assign another at any time.
        hold: seconds that such a press, or `click()`, lasts.
        seed: of the bounces: the same seed gives the same ones.

    Attributes:
        pressed: whether it is pressed. Assigning it presses or releases the button.
    """

    line: int
    active_low: bool = True
    resistor: bool = False
    bounce: float = within(0, 1, "seconds", default=0.0)
    press_every: float | None = within(LEAST_PERIOD, LONGEST, "seconds", default=None, changed="_plan_presses")
    hold: float = within(0, LONGEST, "seconds", default=0.2)
    seed: int = 0
    pressed: bool = field(default=state(False, changed="_move"), init=False)

    fixed = "resistor, seed"
    wiring = "one contact to the line, the other to GND; set a pull-up, or add 10 kΩ to 3.3 V (resistor)"
    example = "button = gpiozero.Button(17); button.wait_for_press()"

    def __post_init__(self) -> None:
        if self.hold <= self.bounce:
            raise ValueError(f"hold must be longer than the bounce of {self.bounce} s, not {self.hold}")
        self._check_presses()
        self._next_press: Event | None = None

    def _check_presses(self) -> None:
        if self.press_every is not None and self.press_every <= self.hold + self.bounce:
            raise ValueError(f"press_every must be longer than hold and bounce together, not {self.press_every}")

    def attach(self, board: Connections) -> None:
        self._line: Line = board.use_line(self.line, f"the button on line {self.line}")
        self._timeline: Timeline = board.timeline
        self._contacts = Contacts(board.timeline, self._touch, self.seed)
        if self.resistor:
            self._line.pull("up" if self.active_low else "down")
        self._plan_presses()

    def press(self) -> None:
        """Press it, and hold it until `release()`. Harmless if it is pressed."""
        self.pressed = True

    def release(self) -> None:
        """Release it. Harmless if it is not pressed."""
        self.pressed = False

    def click(self) -> None:
        """Press it, and release it after `hold` seconds."""
        with self._timeline.lock:
            self.press()
            self._timeline.after(self.hold, self.release)

    def stop(self) -> None:
        """End the presses of `press_every`. A press under way ends as planned."""
        with self._timeline.lock:
            self._cancel_press()

    def _cancel_press(self) -> None:
        if self._next_press is not None:
            self._next_press.cancel()

    def _plan_presses(self) -> None:
        """Plan the presses of `press_every` from now on, and none of those that were planned before."""
        self._check_presses()
        with self._timeline.lock:
            self._cancel_press()
            if self.press_every is not None:
                self._next_ns = self._timeline.moment_ns()
                self._plan_press(self.press_every)

    def _plan_press(self, every: float) -> None:
        def press() -> None:
            self.click()
            self._plan_press(every)

        self._next_ns += round(every * 1e9)
        self._next_press = self._timeline.at(self._next_ns, press)

    def _move(self) -> None:
        self._contacts.move(self.pressed, self.bounce)

    def _touch(self, closed: bool) -> None:
        self._line.drive((0 if self.active_low else 1) if closed else None)


@dataclass
class Led(Device):
    """An LED that lights while its line is high, or with `active_low` while it is low.

    Parameters:
        line: its line.
        active_low: whether it lights while the line is low.
        resistor: its series resistor; with less than about 40 Ω the pin gives more than it can.
    """

    line: int
    active_low: bool = False
    resistor: float = within(0, 1e6, "Ω", default=330.0)
    _history: list[tuple[int, bool]] = field(default_factory=list, init=False, repr=False)

    fixed = "active_low, resistor"
    wiring = "anode over 330 Ω to the line, cathode to GND; with active_low the anode over 330 Ω to 3.3 V"
    example = "gpiozero.LED(17).on()"

    def attach(self, board: Connections) -> None:
        line = board.use_line(self.line, f"the LED on line {self.line}")
        self._timeline = board.timeline
        with board.timeline.lock:
            self._note(line.level, board.timeline.now_ns())
            line.observe(self._note)
            line.load(1000 * LED_DROP / (self.resistor + _PIN_RESISTANCE), 0 if self.active_low else 1)

    @property
    def history(self) -> list[tuple[int, bool]]:
        """(Time in ns, the board's clock; lit or not), oldest first: the initial state, then each change.

        A long run keeps the last ten thousand and more.
        """
        return self._history

    @property
    def lit(self) -> bool:
        """Whether it is lit now."""
        with self._timeline.lock:
            self._timeline.catch_up()
            return self._history[-1][1]

    def _note(self, level: int, when_ns: int) -> None:
        self._history.append((when_ns, bool(level) != self.active_low))
        if len(self._history) > 2 * HISTORY:
            del self._history[:-HISTORY]


@dataclass
class Wire(Device):
    """A wire that joins lines, which may have other parts on them.

    Parameters:
        lines: the lines that it joins.
    """

    lines: list[int]

    wiring = "from line to line"
    example = "gpiozero.LED(17).on(); assert gpiozero.InputDevice(27).value == 1"

    def __post_init__(self) -> None:
        if len(set(self.lines)) < 2 or len(set(self.lines)) < len(self.lines):
            raise ValueError(f"a wire joins two or more different lines, not {self.lines}")

    def attach(self, board: Connections) -> None:
        try:
            for line in self.lines[1:]:
                board.chip.wire(self.lines[0], line)
        except ValueError as error:
            raise WiringError(f"a wire between lines {self.lines}: {error}") from error
