"""hwloop's pin factory asks lgpio for lines as gpiozero's LGPIOFactory does: function, pull, edges and debounce.

Both run on the simulated lgpio, whose calls are recorded. They may differ in the way to a state, so the states are
compared: of each line, whether it is free, an input, an input whose edges are reported, or an output; its pull; the
edges; the debounce time. hwloop's factory differs on purpose in four ways:

- LGPIOFactory makes each line an input without a pull first, also one that is to be driven: a line that a pull held
  would float for a moment. So the pull of outputs is not compared.
- A pin with a resistor on the board (GPIO2, GPIO3) keeps its pull when it is closed, as with other factories.
- LGPIOFactory reports no more edges once the pull of an input with a handler is changed. hwloop's goes on.
- LGPIOFactory accepts no edges "none".
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gpiozero
import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.libraries.lgpio.api import Lgpio
from hwloop.pins import LoopFactory

PULLS = {32: "up", 64: "down", 128: "none"}
EDGES = {1: "rising", 2: "falling", 3: "both"}


@dataclass
class State:
    """The state of a line after the last calls."""

    claim: str = "free"
    pull: str = "as it is"
    edges: str = ""
    debounce_micros: int = 0

    def seen(self) -> tuple[str, str, str, int]:
        """Return what is compared."""
        return self.claim, self.pull if self.claim != "output" else "", self.edges, self.debounce_micros

    def pulled(self, flags: int) -> str:
        return next((pull for bit, pull in PULLS.items() if flags & bit), self.pull)


class Recorder:
    """Records the calls of the simulated lgpio that concern a line's state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[int, State] = {}
        for name in ("gpio_claim_input", "gpio_claim_output", "gpio_claim_alert", "gpio_free"):
            monkeypatch.setattr(Lgpio, name, self.recording(name, getattr(Lgpio, name)))
        name = "gpio_set_debounce_micros"
        monkeypatch.setattr(Lgpio, name, self.recording(name, getattr(Lgpio, name)))

    def recording(self, name: str, real: Callable[..., int]) -> Callable[..., int]:
        def call(lgpio: Lgpio, handle: int, gpio: int, *arguments: Any, **named: Any) -> int:
            result = real(lgpio, handle, gpio, *arguments, **named)
            state = self.states.setdefault(gpio, State())
            getattr(self, name)(state, *arguments, **named)
            return result

        return call

    def gpio_claim_input(self, state: State, flags: int = 0) -> None:
        state.claim, state.edges, state.pull = "input", "", state.pulled(flags)

    def gpio_claim_output(self, state: State, level: int = 0, flags: int = 0) -> None:
        state.claim, state.edges, state.pull = "output", "", state.pulled(flags)

    def gpio_claim_alert(self, state: State, edges: int, flags: int = 0, notify: int | None = None) -> None:
        state.claim, state.edges, state.pull = "edges", EDGES[edges], state.pulled(flags)

    def gpio_free(self, state: State) -> None:
        state.claim, state.edges = "free", ""

    def gpio_set_debounce_micros(self, state: State, micros: int) -> None:
        state.debounce_micros = micros


class Bench:
    def __init__(self, board: SimBoard, recorder: Recorder, factory: Any) -> None:
        self.board = board
        self.states = recorder.states
        self.factory = factory


def on_both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Yield a bench with each factory."""
    for name in ("LGPIOFactory", "LoopFactory"):
        with contextlib.ExitStack() as stack:
            patch = stack.enter_context(monkeypatch.context())
            recorder = Recorder(patch)  # before there is a module with these functions
            board = stack.enter_context(SimBoard())
            stack.enter_context(imports.led_to(board))
            patch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)  # it keeps the lgpio that it found
            if name == "LoopFactory":
                factory: Any = LoopFactory(board)
            else:
                factory = importlib.import_module("gpiozero.pins.lgpio").LGPIOFactory()
            patch.setattr(gpiozero.Device, "pin_factory", factory)  # of the parts of a composite device
            try:
                yield Bench(board, recorder, factory)
            finally:
                factory.close()
                sys.modules.pop("gpiozero.pins.lgpio", None)


DEVICES: dict[str, Callable[[Any], gpiozero.Device]] = {
    "InputDevice": lambda f: gpiozero.InputDevice(4, pull_up=True, pin_factory=f),
    "InputDevice floating": lambda f: gpiozero.InputDevice(4, pull_up=None, active_state=True, pin_factory=f),
    "DigitalInputDevice": lambda f: gpiozero.DigitalInputDevice(4, pin_factory=f),
    "DigitalInputDevice debounced": lambda f: gpiozero.DigitalInputDevice(4, bounce_time=0.0125, pin_factory=f),
    "Button": lambda f: gpiozero.Button(4, pin_factory=f),
    "Button debounced": lambda f: gpiozero.Button(4, pull_up=False, bounce_time=0.05, pin_factory=f),
    "Button on a fixed pull": lambda f: gpiozero.Button(2, pin_factory=f),
    "ButtonBoard": lambda f: gpiozero.ButtonBoard(4, 5, bounce_time=0.01, pin_factory=f),
    "LineSensor": lambda f: gpiozero.LineSensor(4, pin_factory=f),
    "MotionSensor": lambda f: gpiozero.MotionSensor(4, pull_up=None, active_state=True, pin_factory=f),
    "RotaryEncoder": lambda f: gpiozero.RotaryEncoder(4, 5, bounce_time=0.001, pin_factory=f),
    "DigitalOutputDevice": lambda f: gpiozero.DigitalOutputDevice(4, pin_factory=f),
    "PWMOutputDevice": lambda f: gpiozero.PWMOutputDevice(4, pin_factory=f),
    "OutputDevice": lambda f: gpiozero.OutputDevice(4, pin_factory=f),
    "OutputDevice as it is": lambda f: gpiozero.OutputDevice(4, initial_value=None, pin_factory=f),
    "LED": lambda f: gpiozero.LED(4, active_high=False, initial_value=True, pin_factory=f),
    "PWMLED": lambda f: gpiozero.PWMLED(4, pin_factory=f),
    "RGBLED": lambda f: gpiozero.RGBLED(4, 5, 6, pin_factory=f),
    "Buzzer": lambda f: gpiozero.Buzzer(4, pin_factory=f),
    "TonalBuzzer": lambda f: gpiozero.TonalBuzzer(4, pin_factory=f),
    "Motor": lambda f: gpiozero.Motor(4, 5, enable=6, pin_factory=f),
    "PhaseEnableMotor": lambda f: gpiozero.PhaseEnableMotor(4, 5, pin_factory=f),
    "Servo": lambda f: gpiozero.Servo(4, pin_factory=f),
    "AngularServo": lambda f: gpiozero.AngularServo(4, pin_factory=f),
    "LEDBoard": lambda f: gpiozero.LEDBoard(4, 5, 6, pin_factory=f),
    "LEDBarGraph": lambda f: gpiozero.LEDBarGraph(4, 5, pwm=True, pin_factory=f),
    "LEDCharDisplay": lambda f: gpiozero.LEDCharDisplay(4, 5, 6, 7, 8, 9, 10, pin_factory=f),
    "TrafficLights": lambda f: gpiozero.TrafficLights(4, 5, 6, pin_factory=f),
    "TrafficLightsBuzzer": lambda f: gpiozero.TrafficLightsBuzzer(
        gpiozero.TrafficLights(4, 5, 6, pin_factory=f),
        gpiozero.Buzzer(7, pin_factory=f),
        gpiozero.Button(8, pin_factory=f),
        pin_factory=f,
    ),
    "Robot": lambda f: gpiozero.Robot(
        gpiozero.Motor(4, 5, pin_factory=f), gpiozero.Motor(6, 7, pin_factory=f), pin_factory=f
    ),
    "MCP3008 on lines": lambda f: gpiozero.MCP3008(0, clock_pin=4, mosi_pin=5, miso_pin=6, select_pin=7, pin_factory=f),
}


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_has_its_lines_in_the_same_state(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    opened, closed = [], []
    for bench in on_both(monkeypatch):
        device = DEVICES[name](bench.factory)
        opened.append({line: state.seen() for line, state in bench.states.items()})
        device.close()
        closed.append({line: state.pull for line, state in bench.states.items() if line > 3})
        assert {state.claim for state in bench.states.values()} <= {"input", "free"}
    assert opened[1] == opened[0]
    assert closed[1] == closed[0]


CHANGES: dict[str, list[tuple[str, object]]] = {
    "pull": [("pull", "up"), ("pull", "down"), ("pull", "floating")],
    "debounce": [("bounce", 0.01), ("when_changed", True), ("bounce", None), ("bounce", 0.25), ("when_changed", None)],
    "edges": [
        ("when_changed", True),
        ("edges", "rising"),
        ("edges", "falling"),
        ("when_changed", None),
        ("edges", "both"),
    ],
    "edges before": [("pull", "up"), ("edges", "falling"), ("when_changed", True), ("when_changed", None)],
    "function": [("function", "output"), ("state", 1), ("function", "input"), ("pull", "up"), ("when_changed", True)],
    "function with a handler": [("pull", "up"), ("when_changed", True), ("when_changed", None), ("function", "output")],
}
"""Changes of a pin while it is open: its attributes, and the values that they get."""


def handler(ticks: float, state: float) -> None:
    """Take a change."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_pin_that_is_changed_has_its_line_in_the_same_state(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen: list[list[tuple[object, ...]]] = []
    for bench in on_both(monkeypatch):
        pin = bench.factory.pin(4)
        pin.function = "input"
        pin.pull = "floating"
        seen.append([])
        for attribute, value in CHANGES[name]:
            setattr(pin, attribute, handler if value is True else value)
            seen[-1].append((attribute, value, bench.states[4].seen(), pin.function, pin.bounce, pin.edges))
        pin.when_changed = None
        pin.close()
    assert seen[1] == seen[0]


def test_an_input_whose_pull_is_changed_goes_on_to_report_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = []
    for bench in on_both(monkeypatch):
        pin = bench.factory.pin(4)
        pin.input_with_pull("up")
        pin.when_changed = handler
        pin.pull = "down"
        claims.append((bench.states[4].claim, bench.states[4].pull))
        pin.when_changed = None
    assert claims == [("input", "down"), ("edges", "down")]


def test_no_device_class_is_forgotten() -> None:
    tried = {name.split()[0] for name in DEVICES}
    left = {
        name
        for name, each in vars(gpiozero).items()
        if isinstance(each, type) and issubclass(each, gpiozero.GPIODevice) and name not in tried
    }
    # GPIODevice claims nothing, SmoothedInputDevice is the base of sensors, and the threads of the others change their
    # lines again and again.
    assert left == {"GPIODevice", "SmoothedInputDevice", "LightSensor", "DistanceSensor"}
