"""Setting an attribute of a part has an effect or raises: no part accepts a value and then ignores it.

The general test goes through all parts of `hwloop parts` and all their keys, states and results. Each attribute

- can't be set: it is a property without a setter, or one of the part's `fixed` keys;
- or moves the part: its descriptor calls a method of the part (`State`, or `within(..., changed=)`);
- or is read later. That is in the source: a method that runs on the board, and not only while it is made, reads the
  attribute or counts on from it. READ_BY_OTHERS names those that another object reads.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard, SMBus
from firmware_sim.catalog import part_type
from firmware_sim.device import Device
from firmware_sim.limits import Limited, State
from firmware_sim.wiring import DEVICES
from hwloop.testing.scenario.targets import Value, check_writable, find_value, values_of

WHILE_MADE = {"__init__", "__post_init__", "attach", "prepare", "connect", "connected", "signal"}
"""The methods that the board calls while it is made."""
READ_BY_OTHERS = {
    ("bme280", "stretch"): "the bus, in each transfer",
    ("bmp280", "stretch"): "the bus, in each transfer",
    ("modbus-slave", "baudrate"): "RtuLine, for each request",
    ("modbus-slave", "parity"): "RtuLine, for each request",
    ("modbus-slave", "reply_delay"): "RtuLine, for each request",
    ("modbus-slave", "answered"): "RtuLine, which counts on from it",
    ("modbus-slave", "ignored"): "RtuLine, which counts on from it",
    ("modbus-temperature", "answered"): "RtuLine, which counts on from it",
    ("modbus-temperature", "ignored"): "RtuLine, which counts on from it",
    ("modbus-temperature", "baudrate"): "RtuLine, for each request",
    ("modbus-temperature", "parity"): "RtuLine, for each request",
    ("modbus-temperature", "reply_delay"): "RtuLine, for each request",
}


@functools.cache
def methods_of_class(cls: type) -> dict[str, ast.FunctionDef]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    return {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}


def methods_of(kind: type) -> dict[str, list[ast.FunctionDef]]:
    """Return the methods by name, with those that they override, which `super()` may call."""
    found = dict[str, list[ast.FunctionDef]]()
    for cls in kind.__mro__:
        if cls.__module__.startswith(("firmware_sim.", __name__)):
            for name, method in methods_of_class(cls).items():
                found.setdefault(name, []).append(method)
    return found


def uses(node: ast.AST, nested: bool = False) -> Iterator[tuple[str, bool, bool]]:
    """Yield each attribute of self that is read: its name, whether a nested function reads it, whether it is called."""
    for child in ast.iter_child_nodes(node):
        inner = nested or isinstance(child, ast.Lambda | ast.FunctionDef)
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id == "self":
            counted = isinstance(node, ast.AugAssign) and node.target is child
            if counted or isinstance(child.ctx, ast.Load):
                yield child.attr, inner, isinstance(node, ast.Call) and node.func is child
        yield from uses(child, inner)


def read_later(kind: type) -> set[str]:
    """Return the attributes that a part's own methods read while the board runs."""
    methods = methods_of(kind)
    later = [name for name in methods if not name.startswith("_") and name not in WHILE_MADE]
    later += {each.changed for each in (descriptor(kind, name) for name in dir(kind)) if is_moving(each)}
    read, early, seen = set[str](), [name for name in methods if name in WHILE_MADE], set[str]()
    while early:
        if (name := early.pop()) in seen:
            continue
        seen.add(name)
        for attribute, nested, called in (each for method in methods[name] for each in uses(method)):
            if attribute not in methods:
                read.update({attribute} if nested else ())
            elif called and not nested:
                early.append(attribute)
            else:  # it is handed on, to be called later
                later.append(attribute)
    seen = set()
    while later:
        if (name := later.pop()) in seen:
            continue
        seen.add(name)
        for attribute, _, _ in (each for method in methods[name] for each in uses(method)):
            read.add(attribute)
            later += [attribute] * (attribute in methods)
    return read


def is_moving(found: object) -> bool:
    return isinstance(found, State | Limited) and bool(found.changed)


def descriptor(kind: type, name: str) -> Any:
    return inspect.getattr_static(kind, name, None)


def made(name: str) -> tuple[SimBoard, Device]:
    wiring = tomllib.loads(part_type(name).snippet)
    wiring["device"][-1]["name"] = "part"
    board = SimBoard(wiring, clock=hwloop.VirtualClock())
    return board, board["part"]


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_setting_an_attribute_has_an_effect_or_raises(name: str) -> None:
    board, part = made(name)
    with board:
        kind, later = type(part), read_later(type(part))
        assert values_of(part)
        for attribute in values_of(part):
            found, value = descriptor(kind, attribute), getattr(part, attribute)
            if (isinstance(found, property) and found.fset is None) or attribute in kind.fixed_keys:
                with pytest.raises(AttributeError, match=f"^{attribute} of {kind.__name__} c(an be read only|ounts)"):
                    setattr(part, attribute, value)
                with pytest.raises(ValueError, match=r"can be read only|can't change afterwards"):
                    check_writable(board, find_value(board, f"part.{attribute}"), value)
            elif is_moving(found):
                called = list[str]()
                vars(part)[found.changed] = functools.partial(called.append, attribute)
                setattr(part, attribute, other_value(value))
                assert called == [attribute]
                del vars(part)[found.changed]
            else:
                assert attribute in later or (name, attribute) in READ_BY_OTHERS, f"{name}.{attribute} has no effect"


def other_value(value: Any) -> Any:
    if isinstance(value, str):
        return f"{value} "
    return 0.25 if value is None or isinstance(value, float) else not value if isinstance(value, bool) else value + 1


def test_the_search_for_reads_tells_keys_that_are_read_later_from_those_that_are_not() -> None:
    class Part(Device):
        early = handed = nested = counted = late = unused = 0

        def attach(self, board: Any) -> None:
            self._prepare(self.early)
            board.observe(self._on_level, lambda: self.nested)

        def _prepare(self, early: int) -> None:
            self._early = self.early

        def _on_level(self) -> None:
            self.counted += self.handed

        def press(self) -> None:
            self._move()

        def _move(self) -> None:
            self.unused = self.late

    found = read_later(Part)
    assert {"handed", "nested", "counted", "late"} <= found
    assert not {"early", "unused"} & found


# The effects.


def running(*devices: dict[str, Any]) -> SimBoard:
    return SimBoard({"device": list(devices)}, clock=hwloop.VirtualClock())


def test_pressed_moves_a_button() -> None:
    with running({"type": "button", "name": "door", "line": 17, "resistor": True}) as board:
        board["door"].pressed = True
        assert board.line(17).level == 0
        board["door"].pressed = False
        assert board.line(17).level == 1


def test_a_button_may_get_another_schedule_or_none() -> None:
    with running({"type": "button", "name": "door", "line": 17, "resistor": True, "press_every": 10.0}) as board:
        door, line = board["door"], board.line(17)
        board.clock.sleep(5)
        door.press_every = 1.0
        before = line.changes
        board.clock.sleep(3.5)
        assert line.changes == before + 6
        door.press_every = None
        board.clock.sleep(60)
        assert line.changes == before + 6
        with pytest.raises(ValueError, match="press_every must be longer than hold and bounce together"):
            door.press_every = 0.1
        assert door.press_every is None


def test_near_moves_the_magnet_of_a_reed_switch() -> None:
    with running({"type": "reed-switch", "name": "reed", "line": 17, "near": True, "resistor": True}) as board:
        reed, line = board["reed"], board.line(17)
        assert line.level == 0
        reed.near = False
        assert (line.level, reed.moves) == (1, 1)
        reed.near = False
        reed.approach()
        assert (line.level, reed.near, reed.moves) == (0, True, 2)


def test_a_rotary_encoder_turns_to_its_position_and_its_switch_follows_pressed() -> None:
    with running(
        {"type": "rotary-encoder", "name": "knob", "a": 17, "b": 18, "switch": 27},
        {"type": "rotary-encoder", "name": "bare", "a": 5, "b": 6},
    ) as board:
        knob = board["knob"]
        before = [board.line(number).changes for number in (17, 18)]
        knob.position = 3
        knob.turn(-1)
        assert knob.position == 2
        board.clock.sleep(1)
        assert [board.line(number).changes for number in (17, 18)] == [changes + 4 * 2 for changes in before]
        knob.pressed = True
        assert board.line(27).level == 0
        with pytest.raises(ValueError, match="has no switch; give it the key switch"):
            board["bare"].pressed = True
        assert not board["bare"].pressed


def test_a_joystick_is_pressed() -> None:
    devices = {"type": "ads1115", "name": "adc"}, {"type": "joystick", "name": "stick", "adc": "adc", "switch": 27}
    with running(*devices) as board:
        board.line(27).pull("up")
        board["stick"].pressed = True
        assert board.line(27).level == 0
        board["stick"].supply = 5.0
        assert board["adc"].inputs[0] == 2.5


def test_the_time_of_a_clock_can_be_set() -> None:
    with running({"type": "ds3231", "name": "clock", "time": "2026-01-01 00:00:00"}) as board, SMBus(1, board) as bus:
        board.clock.sleep(5)
        board["clock"].time = "2027-12-31 23:59:58"
        board.clock.sleep(3)
        assert bus.read_i2c_block_data(0x68, 0, 7) == [0x01, 0x00, 0x00, 0x06, 0x01, 0x01, 0x28]
        with pytest.raises(ValueError, match="time must be a time such as"):
            board["clock"].time = "tomorrow"
        assert board["clock"].time == "2027-12-31 23:59:58"
        assert board["clock"].now.year == 2028


def test_a_particle_sensor_that_is_made_active_sends_again() -> None:
    with running({"type": "pms5003", "name": "air", "port": "/dev/ttyUSB0"}) as board:
        air = board["air"]
        air.active = False
        board.clock.sleep(10)
        assert air.frames == 0
        air.active = True
        board.clock.sleep(1)
        assert air.frames == 1


def test_a_receiver_that_sends_a_log_has_no_position_to_set() -> None:
    with running({"type": "gps", "name": "gps", "port": "/dev/ttyUSB0"}) as board:
        with pytest.raises(ValueError, match="sends a log, or its walk, unchanged; give latitude and longitude in the"):
            board["gps"].fix = "none"
        assert board["gps"].fix == "3d"


def test_results_of_the_program_and_wiring_can_not_be_set() -> None:
    with running(
        {"type": "relay", "name": "pump", "line": 17},
        {"type": "servo", "name": "arm", "line": 18},
        {"type": "led", "name": "lamp", "line": 27},
        {"type": "modbus-slave", "name": "meter", "port": "/dev/ttyUSB0", "holding_registers": [[0, 1]]},
    ) as board:
        for name, attribute in (("pump", "closed"), ("arm", "angle"), ("lamp", "history"), ("lamp", "lit")):
            with pytest.raises(AttributeError, match=f"^{attribute} of .* can be read only$"):
                setattr(board[name], attribute, True)
        with pytest.raises(
            AttributeError, match="holding_registers of ModbusSlave counts while the board is made, and"
        ):
            board["meter"].holding_registers = [[0, 2]]
        board["pump"].clicks = 0  # a counter counts on from there


def test_a_part_that_is_on_no_board_keeps_what_is_set() -> None:
    from firmware_sim.devices.reed_switch import ReedSwitch

    reed = ReedSwitch(17)
    reed.near, reed.line = True, 18
    with SimBoard() as board:
        reed.attach(board)
        assert (board.line(18).level, reed.moves) == (0, 0)
        reed.near = False
        assert reed.moves == 1
        with pytest.raises(AttributeError, match="line of ReedSwitch counts while the board is made"):
            reed.line = 19


def test_scenarios_set_what_has_an_effect() -> None:
    with running({"type": "button", "name": "b", "line": 17, "resistor": True}) as board:
        value: Value = find_value(board, "b.pressed")
        check_writable(board, value, True)
        value.write(True)
        assert board.line(17).level == 0
