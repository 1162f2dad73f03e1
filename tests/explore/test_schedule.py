"""Schedules as text, and the faults that are drawn for a board."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies

import hwloop
from firmware_sim import SimBoard
from firmware_sim.faults import FAULTS, FaultError
from firmware_sim.trace import Trace
from hwloop.testing.drawing import schedules
from hwloop.testing.explore import explore
from hwloop.testing.fault_names import all_but, chosen_faults
from hwloop.testing.schedule import PlannedFault, Schedule, ScheduleError, parse
from hwloop.testing.targets import Targets
from hwloop.trace_events import LineChange

BOARD = {
    "device": [
        {"type": "button", "line": 17},
        {"type": "bme280"},
        {"type": "modbus-temperature", "port": "/dev/ttyUSB0"},
    ]
}
TARGETS = Targets([17], ["/dev/ttyUSB0"], [1], [(1, 0x76)], 10.0)


@given(schedules(TARGETS))
@settings(max_examples=100, deadline=None)
def test_every_schedule_that_is_drawn_can_be_written_read_and_injected(schedule):
    assert parse(str(schedule)) == schedule
    with SimBoard(BOARD, clock=hwloop.VirtualClock()) as board:
        schedule.inject(board.faults)
        assert len(list(board.faults)) == len(schedule.faults)


def test_a_schedule_is_one_line():
    fault = PlannedFault("serial-unplug", 1.5, 0.2, (("port", "/dev/ttyUSB0"), ("back_as", "a b")))
    text = 'seed=3; serial-unplug after=1.5 duration=0.2 port=/dev/ttyUSB0 back_as="a b"'
    assert str(Schedule(3, (fault,))) == text
    assert parse(text) == Schedule(3, (fault,))
    assert (
        str(PlannedFault("i2c-nack", 0.0, 1.0, (("address", 0x76),))) == "i2c-nack after=0.0 duration=1.0 address=0x76"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stuck-line line=17", "a schedule begins with its seed, as in 'seed=3; stuck-line after=1.0 line=17'"),
        ("seed=x", "a schedule begins with its seed"),
        ("seed=1; stuck-line line 17", "fault stuck-line: write key=value, separated by spaces, not 'line 17'"),
        ("seed=1; stuck-line after=soon line=17", "fault stuck-line: after is a number of seconds, not 'soon'"),
    ],
)
def test_a_schedule_that_cannot_be_read_raises_an_error_that_says_why(text, message):
    with pytest.raises(ScheduleError, match=f"^{message}"):
        parse(text)


def test_only_faults_that_the_board_can_have_are_drawn():
    seen = set()

    def play(schedule):
        seen.update(fault.name for fault in schedule.faults)

    assert explore(play, schedules(Targets([], [], [1], [], 1.0)), runs=200) is None
    assert not [name for name in seen if name.startswith(("i2c-", "serial-", "stuck-"))]
    assert "program-signal" not in seen
    assert "lost-wake-up" in seen


def test_unknown_and_impossible_faults_raise_an_error():
    with pytest.raises(FaultError, match="unknown fault 'i2c-nak'; did you mean i2c-nack"):
        schedules(TARGETS, ["i2c-nak"])
    with pytest.raises(FaultError, match="unknown fault 'gremlin'; known are blocked-loop, chip-vanishes"):
        schedules(TARGETS, ["-gremlin"])
    with pytest.raises(FaultError, match="name at least one fault"):
        schedules(TARGETS, [])
    with pytest.raises(FaultError, match="this board can have none of these faults: serial-gap"):
        schedules(Targets([17], [], [1], [], 1.0), ["serial-gap"])


def test_faults_that_are_named_with_a_minus_are_left_out_and_all_others_drawn():
    assert chosen_faults(["-chip-vanishes", "-stuck-line"]) == [
        name for name in sorted(FAULTS) if name not in ("chip-vanishes", "stuck-line", "program-signal")
    ]
    assert chosen_faults([]) == sorted({*FAULTS} - {"program-signal"})
    with pytest.raises(FaultError, match=r"those that are not \(-stuck-line\), but not both"):
        chosen_faults(["-stuck-line", "i2c-nack"])
    vanished = Schedule(0, tuple(PlannedFault("chip-vanishes", after, 0.01, ()) for after in (0.0, 1.0)))
    assert all_but(vanished, None) == ["-chip-vanishes"]
    assert all_but(vanished, ["-stuck-line"]) == ["-stuck-line", "-chip-vanishes"]
    assert all_but(vanished, ["chip-vanishes", "stuck-line"]) == []
    assert all_but(Schedule(3), ["-stuck-line"]) == []


def test_the_smallest_schedule_of_a_failure_is_found():
    def play(schedule):
        if any(fault.name == "i2c-hang" for fault in schedule.faults):
            raise ValueError

    found = explore(play, schedules(TARGETS), runs=500)
    assert [fault.name for fault in found.schedule.faults] == ["i2c-hang"]
    assert (found.schedule.seed, found.schedule.faults[0].after) == (0, 0.0)
    assert isinstance(found.error, ValueError)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_draws_the_same_schedules(seed):
    def drawn(seed=seed):
        seen = []
        explore(lambda schedule: seen.append(str(schedule)), schedules(TARGETS), runs=20, seed=seed)
        return seen

    assert drawn() == drawn()
    assert drawn() != drawn(seed + 1)


def test_a_fault_that_is_not_needed_is_left_out():
    nack = PlannedFault("i2c-nack", 0.0, 1.0, (("address", 0x76),))
    later = PlannedFault("i2c-nack", 1.0, 1.0, (("address", 0x76),))

    def play(schedule):
        assert nack not in schedule.faults

    # Hypothesis can't shrink what it has not put together.
    found = explore(play, strategies.just(Schedule(4, (nack, later))), runs=5)
    assert found.schedule == Schedule(4, (nack,))


def test_the_seed_of_a_schedule_decides_the_chances_of_its_faults():
    def bounces(seed):
        trace, clock = Trace(), hwloop.VirtualClock()
        with SimBoard(BOARD, clock=clock, tracer=trace) as board:
            fault = PlannedFault("contact-bounce", 0.0, 2.0, (("line", 17), ("profile", "worn")))
            Schedule(seed, (fault,)).inject(board.faults)
            board.line(17).pull("up")
            board.devices[0].press()
            clock.sleep(1)
        return [event for event in trace if isinstance(event, LineChange)]

    assert bounces(3) == bounces(3)
    assert bounces(3) != bounces(4)


def test_ctrl_c_ends_the_exploration():
    def play(schedule):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(play, schedules(TARGETS), runs=5)
