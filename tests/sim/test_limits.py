"""Numbers of devices: one that no part can have raises wherever it is set, and never reaches the board's thread."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from firmware_sim import SimBoard, wiring
from firmware_sim.bus import Bus
from firmware_sim.catalog import example_keys
from firmware_sim.device import Connections, Device
from firmware_sim.devices.pin_parts import Button
from firmware_sim.errors import WiringError
from firmware_sim.limits import limits_of, within
from firmware_sim.timeline import Timeline
from firmware_sim.uart import Port
from hwloop import plugins

ABSURD = (float("nan"), float("inf"), -float("inf"), -1e30, 1e30, 10**40, "5", {})
KINDS: dict[str, type[Any]] = {name: plugins.load_class(path) for name, path in wiring.DEVICES.items()}


def number_fields(kind: type[Any]) -> list[str]:
    """The fields that a board file may give a number with a fraction, and those with limits of their own."""
    fields = [field for field in dataclasses.fields(kind) if field.init]
    return [field.name for field in fields if "float" in str(field.type) or field.name in limits_of(kind)]


WITH_NUMBERS = [name for name, kind in KINDS.items() if number_fields(kind)]


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_an_absurd_number_raises_at_run_time_and_changes_nothing(name: str) -> None:
    part = KINDS[name](**example_keys(KINDS[name]))
    for value in ABSURD:
        for key in number_fields(type(part)):
            before = getattr(part, key)
            with pytest.raises(ValueError, match=f"^{key} must be "):
                setattr(part, key, value)
            assert getattr(part, key) == before


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_an_absurd_number_in_a_board_file_is_an_error_that_names_the_key(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwloop.plugins.installed", lambda *arguments: {})  # it searches all packages for each error
    for value in (float("nan"), float("inf"), 1e300, -1e300):
        for key in number_fields(KINDS[name]):
            entry = {"type": name, **example_keys(KINDS[name]), key: value}
            with pytest.raises(WiringError, match=rf"^wiring: device 1 \({name}\): {key} must be "):
                SimBoard({"device": [entry]})


def test_none_is_a_number_only_where_it_is_the_default() -> None:
    button = Button(17, press_every=1.0)
    button.press_every = None
    with pytest.raises(ValueError, match="hold must be 0 to 1000000000 seconds, not None"):
        button.hold = None  # type: ignore[assignment]


def test_a_device_of_another_package_has_limits_too() -> None:
    @dataclass
    class Heater(Device):
        watts: float = within(0, 3000, "watts", default=500.0)

        def attach(self, board: Connections) -> None:
            pass

    heater = Heater()
    heater.watts = 1500
    with pytest.raises(ValueError, match="watts must be 0 to 3000 watts, not 3001"):
        heater.watts = 3001
    assert heater.watts == 1500
    with pytest.raises(ValueError, match="not nan"):
        Heater(float("nan"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1, 1e30], ids=repr)
def test_ports_and_buses_reject_absurd_numbers(value: float) -> None:
    timeline = Timeline()
    port, bus = Port("tty", timeline), Bus(1, timeline)
    with pytest.raises(ValueError, match="baudrate must be"):
        port.send(b"x", value)  # type: ignore[arg-type]
    for owner, name in ((port, "latency"), (bus, "clock"), (bus, "adapter_timeout")):
        if (name, value) != ("latency", 0):
            with pytest.raises(ValueError, match=f"^{name} must be"):
                setattr(owner, name, value)
    port.close()


def test_a_port_without_a_name_is_an_error() -> None:
    with pytest.raises(WiringError, match="port must be the name that programs open, such as '/dev/ttyAMA0', not ' '"):
        SimBoard({"device": [{"type": "gps", "port": " "}]})


@pytest.mark.parametrize("when_ns", [float("nan"), float("inf"), 1e300, 10**40], ids=repr)
def test_an_action_at_a_time_that_never_comes_raises(when_ns: Any) -> None:
    timeline = Timeline()
    with pytest.raises(ValueError, match="an action is planned for a time in nanoseconds that comes"):
        timeline.at(when_ns, int)
    assert timeline.next_ns() is None


def test_an_action_in_thirty_million_years_does_not_end_the_thread() -> None:
    done = threading.Event()
    with SimBoard() as board:
        board.timeline.after(1e15, int)
        board.timeline.after(0.001, done.set)
        assert done.wait(5)
        done.clear()
        board.timeline.after(0.001, done.set)
        assert done.wait(5)
