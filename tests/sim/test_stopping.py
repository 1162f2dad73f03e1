"""Devices that act by themselves can be stopped, so that a test can compare what they sent with what arrived."""

from __future__ import annotations

import time
from typing import Any

from firmware_sim import SimBoard
from firmware_sim.devices.gps import Gps
from firmware_sim.devices.pin_parts import Button
from firmware_sim.pins import Chip, Line


class Bench:
    """The connections that a button needs of a board, in simulated time."""

    def __init__(self, timeline: Any) -> None:
        self.timeline = timeline
        self.chip = Chip(timeline, label="test", lines=28)

    def use_line(self, line: int, user: str) -> Line:
        return self.chip.line(line)


def test_a_button_that_is_stopped_ends_the_press_under_way_and_begins_no_other(timeline: Any) -> None:
    bench: Any = Bench(timeline)
    button = Button(17, resistor=True, press_every=1.0, hold=0.3)
    button.attach(bench)
    timeline.advance(1.1)
    assert button.pressed
    button.stop()
    timeline.advance(0.3)
    assert not button.pressed
    changes = bench.chip.line(17).changes
    timeline.advance(5)
    assert bench.chip.line(17).changes == changes


def test_a_button_that_nobody_set_going_can_be_stopped(timeline: Any) -> None:
    bench: Any = Bench(timeline)
    button = Button(17)
    button.attach(bench)
    button.stop()


def test_a_gps_that_is_stopped_sends_no_other_burst() -> None:
    with SimBoard({"device": [{"type": "gps", "port": "gps", "baudrate": 921600, "interval": 0.01}]}) as board:
        gps, port = board.devices[0], board.ports["gps"]
        assert isinstance(gps, Gps)
        while not gps.sentences_sent:
            time.sleep(0.001)
        gps.stop()
        sent = gps.sentences_sent
        time.sleep(0.03)
        assert gps.sentences_sent == sent
        assert port.bytes_out + port.dropped > 0
