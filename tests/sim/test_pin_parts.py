"""Buttons, LEDs and wires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard, WiringError
from firmware_sim.devices.pin_parts import HISTORY, Button, Led, Wire
from firmware_sim.pins import Chip, Line


class Bench:
    """The connections that parts need of a board, in simulated time."""

    def __init__(self, timeline: Any) -> None:
        self.timeline = timeline
        self.chip = Chip(timeline, label="test", lines=28)
        self.users: list[tuple[int, str]] = []

    def use_line(self, line: int, user: str) -> Line:
        self.users.append((line, user))
        return self.chip.line(line)

    def attach(self, part: Any) -> Any:
        part.attach(self)
        return part

    def record(self, line: int) -> list[tuple[float, int]]:
        """(milliseconds, level) of each change of a line from now on."""
        seen: list[tuple[float, int]] = []
        self.chip.line(line).observe(lambda level, when_ns: seen.append((when_ns / 1e6, level)))
        return seen


@pytest.fixture
def bench(timeline: Any) -> Bench:
    return Bench(timeline)


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board:
        yield board


def test_a_button_connects_its_line_to_ground(bench: Bench) -> None:
    button = bench.attach(Button(17, resistor=True))
    levels = [bench.chip.line(17).level]
    for move in (button.press, button.press, button.release, button.release):
        move()
        levels.append(bench.chip.line(17).level)
    assert levels == [1, 0, 0, 1, 1]
    assert not button.pressed
    assert bench.users == [(17, "the button on line 17")]


def test_a_button_may_connect_to_the_supply(bench: Bench) -> None:
    button = bench.attach(Button(2, active_low=False, resistor=True))
    assert bench.chip.line(2).level == 0
    button.press()
    assert (bench.chip.line(2).level, button.pressed) == (1, True)


def test_without_a_pull_the_line_keeps_the_level_of_the_last_press(bench: Bench) -> None:
    button = bench.attach(Button(17))
    bench.chip.line(17).claim("x", bias="none")
    bench.chip.line(17).drive(1)
    button.press()
    button.release()
    assert bench.chip.line(17).level == 0


@pytest.mark.parametrize("seed", range(20))
def test_contacts_bounce_within_their_time_and_end_where_they_were_moved(bench: Bench, seed: int) -> None:
    button = bench.attach(Button(17, resistor=True, bounce=0.005, seed=seed))
    for move, begins_ms, level in ((button.press, 0, 0), (button.release, 100, 1)):
        seen = bench.record(17)
        move()
        bench.timeline.advance(0.1)
        assert 3 <= len(seen) <= 9
        assert [level for _, level in seen] == [level if place % 2 == 0 else 1 - level for place in range(len(seen))]
        assert seen[0][0] == begins_ms
        assert seen[-1][0] <= begins_ms + 5
        assert bench.chip.line(17).level == level


def test_the_same_seed_bounces_the_same(timeline: Any) -> None:
    runs = []
    for seed in (1, 1, 2):
        bench = Bench(timeline)
        button = bench.attach(Button(17, resistor=True, bounce=0.005, seed=seed))
        seen = bench.record(17)
        start_ms = timeline.time_ns / 1e6
        button.press()
        timeline.advance(1)
        runs.append([(round(when - start_ms, 3), level) for when, level in seen])
    assert runs[0] == runs[1] != runs[2]


def test_a_release_amidst_the_bouncing_ends_it(bench: Bench) -> None:
    button = bench.attach(Button(17, resistor=True, bounce=0.005))
    button.press()
    button.bounce = 0
    button.release()
    seen = bench.record(17)
    bench.timeline.advance(1)
    assert (seen, bench.chip.line(17).level) == ([], 1)


def test_a_click_holds_for_its_time(bench: Bench) -> None:
    button = bench.attach(Button(17, resistor=True, hold=0.05))
    seen = bench.record(17)
    button.click()
    bench.timeline.advance(1)
    assert seen == [(0, 0), (50, 1)]


def test_a_button_presses_itself_on_schedule(bench: Bench) -> None:
    bench.attach(Button(17, resistor=True, press_every=0.5, hold=0.1))
    seen = bench.record(17)
    bench.timeline.advance(1.2)
    assert seen == [(500, 0), (600, 1), (1000, 0), (1100, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounce": -0.1}, "bounce must be 0 to 1 seconds, not -0.1"),
        ({"bounce": 2}, "bounce must be 0 to 1 seconds"),
        ({"hold": 0}, "hold must be longer than the bounce of 0.0 s, not 0"),
        ({"bounce": 0.3}, "hold must be longer than the bounce of 0.3 s"),
        ({"press_every": 0.2}, "press_every must be longer than hold and bounce together, not 0.2"),
    ],
)
def test_a_button_with_impossible_values_raises(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Button(17, **options)


def test_an_led_that_blinks_for_days_keeps_the_latest_changes(bench: Bench) -> None:
    led = bench.attach(Led(27))
    line = bench.chip.line(27)
    for change in range(3 * HISTORY):
        line.drive((change + 1) % 2)
    assert HISTORY <= len(led.history) <= 2 * HISTORY
    assert [lit for _, lit in led.history[-3:]] == [False, True, False]


@pytest.mark.parametrize(("active_low", "lit"), [(False, [False, True, False]), (True, [True, False, True])])
def test_an_led_shows_its_line_and_keeps_its_history(bench: Bench, active_low: bool, lit: list[bool]) -> None:
    led = bench.attach(Led(27, active_low=active_low))
    line = bench.chip.line(27)
    line.claim("x", output=0)
    bench.timeline.advance(0.001)
    line.set_output(1)
    line.set_output(1)
    assert led.lit == lit[1]
    bench.timeline.advance(0.001)
    line.set_output(0)
    assert led.history == list(zip((0, 1_000_000, 2_000_000), lit, strict=True))


def test_a_wire_joins_lines_that_parts_are_on(board: SimBoard) -> None:
    led, button = Led(27), Button(17, resistor=True)
    for part in (led, button, Wire([17, 27, 22])):
        part.attach(board)
    assert led.lit
    button.press()
    assert (led.lit, board.chip.line(22).level) == (False, 0)


def test_two_parts_can_not_be_on_one_line(board: SimBoard) -> None:
    Button(17).attach(board)
    with pytest.raises(WiringError, match="the LED on line 17: line 17 is used already, by the button on line 17"):
        Led(17).attach(board)


@pytest.mark.parametrize("part", [Button(54), Led(-1), Wire([17, 54])])
def test_a_line_that_is_not_on_the_board_raises(board: SimBoard, part: Any) -> None:
    with pytest.raises(WiringError, match="lines are 0 to 53"):
        part.attach(board)


@pytest.mark.parametrize("lines", [[], [17], [17, 17]])
def test_a_wire_has_two_ends(lines: list[int]) -> None:
    with pytest.raises(ValueError, match="joins two or more different lines"):
        Wire(lines)
