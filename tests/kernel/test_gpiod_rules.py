"""The simulated /dev/gpiochip0 keeps the kernel's rules: the same calls of gpiod see the same on gpio-sim and on it.

Each rule is a function that makes calls and returns what it saw, without times. The order of a line's levels and the
answers to wrong calls are the kernel's; what a line does after its release is the chip's, and differs from a Pi's.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import gpiod
import pytest
from gpio_sim import GpioSim
from gpiod.line import Bias, Clock, Direction, Drive, Edge, Value

from firmware_sim.gpio_device import GpioDevice
from firmware_sim.libraries.gpiod.bindings import load_copy
from firmware_sim.nodes import Nodes
from firmware_sim.pins import Chip
from firmware_sim.timeline import Timeline

Seen = list[Any]


class Real:
    """A chip of gpio-sim."""

    gpiod: Any = gpiod

    def __init__(self, chip: GpioSim) -> None:
        self._chip = chip
        self.path = chip.path

    def drive(self, line: int, *levels: int) -> None:
        """Put a line to levels, one after the other, slowly enough for an event of each."""
        for level in levels:
            self._chip.drive(line, level)
            time.sleep(0.03)

    def level(self, line: int) -> int:
        return self._chip.level(line)

    def unplug(self) -> None:
        self._chip.unplug()


class Simulated:
    """A simulated chip whose lines are pulled down at first, as gpio-sim's are."""

    path = "/dev/gpiochip0"

    def __init__(self) -> None:
        self.timeline = Timeline()
        self._chip = Chip(self.timeline, label="pinctrl-bcm2711", lines=58)
        for number in range(58):
            line = self._chip.line(number)
            line.pull("down")
            line.name = f"GPIO{number}" if 2 <= number < 28 else ""
        self.device = GpioDevice(self._chip, 0)
        nodes = Nodes()
        nodes.add(self.path, self.device)
        self.gpiod: Any = load_copy(nodes)

    def drive(self, line: int, *levels: int) -> None:
        for level in levels:
            self._chip.line(line).pull("up" if level else "down")

    def level(self, line: int) -> int:
        return self._chip.line(line).level

    def unplug(self) -> None:
        self._chip.remove()


Side = Real | Simulated


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    simulated = Simulated()
    yield simulated
    simulated.device.close()
    simulated.timeline.stop()


def settings(side: Side, **values: Any) -> Any:
    """Return settings with the side's own enumerations."""
    line = side.gpiod.line
    own = {
        key: getattr(getattr(line, type(value).__name__), value.name) if hasattr(value, "name") else value
        for key, value in values.items()
    }
    return side.gpiod.LineSettings(**own)


def attempt(call: Callable[[], object]) -> Any:
    """Return the kind and number of the error of a call; None without one."""
    try:
        call()
    except (OSError, ValueError, NotImplementedError) as error:
        return type(error).__name__, error.args[0] if isinstance(error.args[0], int) else ""
    return None


def edges(request: Any, count: int) -> Seen:
    """Return `count` edges, and whether there are more."""
    found: Seen = []
    while len(found) < count and request.wait_edge_events(2):
        found += [
            (event.event_type.name, event.line_offset, event.global_seqno, event.line_seqno)
            for event in request.read_edge_events(count - len(found))
        ]
    return [*found, request.wait_edge_events(0.05)]


def changes(chip: Any) -> Seen:
    found = []
    while chip.wait_info_event(0.2):
        event = chip.read_info_event()
        info = event.line_info
        found.append((event.event_type.name, info.offset, info.used, info.consumer, info.direction.name))
    return found


def described(info: Any) -> tuple[Any, ...]:
    return (
        *(info.offset, info.name, info.used, info.consumer, info.direction.name, info.active_low, info.bias.name),
        *(info.drive.name, info.edge_detection.name, info.event_clock.name, info.debounced, info.debounce_period),
    )


def rule_edges_are_numbered_in_the_request_and_on_their_line(side: Side) -> Seen:
    with side.gpiod.request_lines(side.path, {(5, 6): settings(side, edge_detection=Edge.BOTH)}) as request:
        side.drive(5, 1)
        side.drive(6, 1, 0)
        side.drive(5, 0)
        return edges(request, 4)


def rule_one_kind_of_edge_and_active_low(side: Side) -> Seen:
    config = {
        5: settings(side, edge_detection=Edge.RISING),
        6: settings(side, edge_detection=Edge.FALLING),
        7: settings(side, edge_detection=Edge.RISING, active_low=True),
    }
    with side.gpiod.request_lines(side.path, config) as request:
        for line in (5, 6, 7):
            side.drive(line, 1, 0)
        return [edges(request, 3), [value.name for value in request.get_values()]]


def rule_a_full_buffer_drops_the_oldest(side: Side) -> Seen:
    seen: Seen = []
    for size in (None, 5, 20):
        wanted = {5: settings(side, edge_detection=Edge.BOTH)}
        with side.gpiod.request_lines(side.path, wanted, event_buffer_size=size) as request:
            side.drive(5, *[1, 0] * 18)
            numbers = [number for *_, number in edges(request, 36)[:-1]]
            # By their distance from the last: a busy kernel may see two changes as one.
            seen.append([numbers[-1] - number for number in numbers])
    return seen


def rule_a_debounced_line_keeps_its_level(side: Side) -> Seen:
    wanted = settings(side, edge_detection=Edge.BOTH, debounce_period=timedelta(milliseconds=300))
    with side.gpiod.request_lines(side.path, {5: wanted}) as request:
        side.drive(5, 1)
        before = request.get_value(5).name
        seen = edges(request, 1)
        side.drive(5, 0, 1)
        time.sleep(0.5)
        return [before, seen, request.get_value(5).name, edges(request, 0)]


def rule_wrong_settings(side: Side) -> Seen:
    wrong: list[dict[str, Any]] = [
        {"direction": Direction.OUTPUT, "edge_detection": Edge.BOTH},
        {"direction": Direction.INPUT, "drive": Drive.OPEN_DRAIN},
        {"drive": Drive.OPEN_SOURCE},
        {"bias": Bias.PULL_UP},
        {"direction": Direction.INPUT, "bias": Bias.UNKNOWN},
        {"direction": Direction.OUTPUT, "debounce_period": timedelta(milliseconds=1)},
        {"edge_detection": Edge.BOTH, "event_clock": Clock.HTE},
        {"event_clock": Clock.REALTIME},
        {"edge_detection": Edge.BOTH, "event_clock": Clock.REALTIME},
    ]
    with side.gpiod.Chip(side.path) as chip:
        return [
            attempt(lambda values=values: chip.request_lines({5: settings(side, **values)}).release())
            for values in wrong
        ]


def rule_wrong_calls(side: Side) -> Seen:
    with side.gpiod.Chip(side.path) as chip, chip.request_lines({5: settings(side, direction=Direction.INPUT)}) as held:
        return [
            attempt(lambda: held.set_value(5, side.gpiod.line.Value.ACTIVE)),
            attempt(lambda: held.get_value(6)),
            attempt(lambda: chip.request_lines({5: None})),
            attempt(lambda: chip.request_lines({(6, 5): None})),
            described(chip.get_line_info(6)),
            attempt(lambda: chip.get_line_info(58)),
            attempt(lambda: chip.unwatch_line_info(5)),
            attempt(lambda: chip.line_offset_from_id("GPIO99")),
            chip.line_offset_from_id("GPIO17"),
        ]


def rule_descriptions_of_lines(side: Side) -> Seen:
    seen: Seen = []
    with side.gpiod.Chip(side.path) as chip:
        for values in (
            {},
            {"direction": Direction.INPUT, "active_low": True},
            {"direction": Direction.OUTPUT, "drive": Drive.OPEN_DRAIN, "output_value": Value.ACTIVE},
            {"edge_detection": Edge.FALLING, "event_clock": Clock.REALTIME},
            {"edge_detection": Edge.BOTH, "debounce_period": timedelta(milliseconds=5)},
        ):
            with chip.request_lines({5: settings(side, **values)}, "a consumer with a name that is too long for it"):
                seen.append(described(chip.get_line_info(5)))
            seen.append(described(chip.get_line_info(5)))
        with chip.request_lines({40: None}):
            seen.append(described(chip.get_line_info(40)))
    return seen


def rule_watched_lines(side: Side) -> Seen:
    with side.gpiod.Chip(side.path) as chip:
        chip.watch_line_info(5)
        seen = [attempt(lambda: chip.watch_line_info(5))]
        with chip.request_lines({(5, 6): None}, "watched") as request:
            request.reconfigure_lines({6: settings(side, direction=Direction.OUTPUT)})
            request.reconfigure_lines({5: settings(side, direction=Direction.OUTPUT)})
            seen.append(changes(chip))
        seen.append(changes(chip))
        for _ in range(20):
            chip.request_lines({5: None}).release()
        seen.append(changes(chip))
        chip.unwatch_line_info(5)
        chip.request_lines({5: None}).release()
        return [*seen, changes(chip), attempt(lambda: chip.unwatch_line_info(5))]


def rule_reconfigured_edges(side: Side) -> Seen:
    with side.gpiod.request_lines(side.path, {5: settings(side, edge_detection=Edge.BOTH)}) as request:
        side.drive(5, 1)
        request.reconfigure_lines({5: settings(side, edge_detection=Edge.RISING)})
        side.drive(5, 0, 1)
        request.reconfigure_lines({5: settings(side, direction=Direction.INPUT)})
        side.drive(5, 0, 1)
        request.reconfigure_lines({5: settings(side, edge_detection=Edge.FALLING, active_low=True)})
        side.drive(5, 0, 1)
        seen = edges(request, 3)
        request.reconfigure_lines({5: settings(side, direction=Direction.OUTPUT)})
        return [seen, side.level(5), attempt(lambda: request.set_value(5, side.gpiod.line.Value.ACTIVE)), side.level(5)]


def rule_a_request_lives_as_long_as_its_descriptor(side: Side) -> Seen:
    with side.gpiod.Chip(side.path) as chip:
        request = chip.request_lines({5: settings(side, edge_detection=Edge.BOTH)})
        copy = os.dup(request.fd)
        request.release()
        seen = [chip.get_line_info(5).used]
        side.drive(5, 1)
        seen.append(len(os.read(copy, 4096)))
        os.close(copy)
        return [*seen, chip.get_line_info(5).used]


def rule_reads(side: Side) -> Seen:
    with side.gpiod.request_lines(side.path, {5: settings(side, edge_detection=Edge.BOTH)}) as request:
        side.drive(5, 1, 0, 1, 0)
        seen: Seen = [len(request.read_edge_events(count)) for count in (1, 0, 2, None)]
        os.set_blocking(request.fd, False)
        return [*seen, attempt(request.read_edge_events), errno.EAGAIN]


def rule_a_chip_that_vanishes(side: Side) -> Seen:
    with side.gpiod.Chip(side.path) as chip:
        request = chip.request_lines({5: settings(side, edge_detection=Edge.BOTH)})
        side.drive(5, 1)
        side.unplug()
        seen = [
            request.wait_edge_events(1),
            attempt(request.read_edge_events),
            attempt(lambda: request.get_value(5)),
            attempt(lambda: chip.get_line_info(5)),
            attempt(lambda: chip.request_lines({6: None})),
            attempt(lambda: side.gpiod.Chip(side.path)),
        ]
        request.release()
        return seen


RULES = [each for name, each in sorted(globals().items()) if name.startswith("rule_")]


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__.removeprefix("rule_") for rule in RULES])
def test_the_simulated_chip_keeps_the_rule(rule: Callable[[Side], Seen], chip: GpioSim, simulated: Simulated) -> None:
    expected = rule(Real(chip))
    print(expected)
    assert expected
    assert rule(simulated) == expected
