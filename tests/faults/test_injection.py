"""The injection of faults: names, checks, schedules, and the record of each beginning and end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.errors import FaultError
from firmware_sim.faults import FAULTS, Chance, Fault, FaultyBoard
from firmware_sim.faults.lines import StuckLine
from firmware_sim.trace import Trace
from hwloop import plugins
from hwloop.trace_events import FaultChange


def pass_time(board: SimBoard, seconds: float) -> None:
    board.clock.sleep(seconds)


def changes(board: SimBoard) -> list[tuple[float, str, bool]]:
    """Return the recorded beginnings and ends: seconds since the start, the target, whether it begins."""
    assert isinstance(board.tracer, Trace)
    recorded = board.tracer.of(FaultChange)
    return [((it.when_ns - 1_000_000_000) / 1e9, it.target, it.begins) for it in recorded]


def test_each_name_is_that_of_its_class() -> None:
    for name, path in FAULTS.items():
        kind = plugins.load_class(path)
        assert issubclass(kind, Fault)
        assert kind.name == name


def test_a_fault_begins_at_once_and_ends_when_it_is_ended(board: SimBoard) -> None:
    injection = board.faults.inject("stuck-line", line=17, level=0)
    assert (board.line(17).level, injection.active, injection.begun) == (0, True, 1)
    pass_time(board, 2)
    injection.end()
    assert (board.line(17).level, injection.active) == (1, False)
    injection.end()
    assert changes(board) == [(0, "line 17", True), (2, "line 17", False)]
    assert isinstance(board.tracer, Trace)
    assert board.tracer.of(FaultChange)[0] == FaultChange(1_000_000_000, "stuck-line", "line 17", True, "level=0")


def test_a_schedule_repeats_the_fault_until_it_is_ended(board: SimBoard) -> None:
    injection = board.faults.inject("stuck-line", line=17, after=1, duration=0.5, every=2)
    pass_time(board, 3.25)
    assert board.line(17).level == 0
    injection.end()
    pass_time(board, 10)
    assert changes(board) == [
        (1, "line 17", True),
        (1.5, "line 17", False),
        (3, "line 17", True),
        (3.25, "line 17", False),
    ]


@pytest.mark.parametrize("fault", ["stuck-line", "edge-flood"])
def test_nothing_is_planned_any_more_once_a_fault_is_ended(fault: str) -> None:
    with SimBoard({}, clock=hwloop.VirtualClock()) as board:
        with board.faults.inject(fault, line=17, duration=5, every=10):
            pass_time(board, 1)
        assert board.timeline.next_ns() is None


def test_a_fault_that_ends_after_its_board_changes_nothing(board: SimBoard) -> None:
    with board.faults.inject("serial-unplug", port="gps"):
        board.close()


def test_a_fault_that_has_not_begun_can_be_ended(board: SimBoard) -> None:
    with board.faults.inject("stuck-line", line=17, after=1):
        pass_time(board, 0.5)
    pass_time(board, 5)
    assert changes(board) == []


def test_overlapping_faults_end_one_by_one(board: SimBoard) -> None:
    line = board.line(17)
    high, low, again = (board.faults.inject("stuck-line", line=17, level=level) for level in (1, 0, 0))
    board["door"].press()
    assert line.level == 0
    low.end()
    assert line.level == 0
    again.end()
    assert line.level == 1
    high.end()
    assert line.level == 0
    board["door"].release()
    assert line.level == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_probability_is_seeded(seed: int) -> None:
    def begun(seed: int | None, faults_seed: int = 0) -> list[float]:
        with SimBoard({}, clock=hwloop.VirtualClock(), tracer=Trace()) as board:
            board.faults.seed = faults_seed
            board.faults.inject("stuck-line", line=17, duration=0.5, every=1, probability=0.3, seed=seed)
            pass_time(board, 50)
            return [when for when, _, begins in changes(board) if begins]

    assert begun(seed) == begun(seed)
    assert begun(seed) != begun(seed + 2)
    assert 5 <= len(begun(seed)) <= 25
    assert begun(None) == begun(None) != begun(None, 7)


def test_two_injections_draw_differently(board: SimBoard) -> None:
    first, second = (board.faults.inject("i2c-nack", address=0x76, probability=0.5) for _ in range(2))
    bus = board.i2c(1).open()
    results = []
    for _ in range(40):
        before = first.hits, second.hits
        with contextlib.suppress(OSError):
            bus.read_byte_data(0x76, 0xD0)
        results.append((first.hits - before[0], second.hits - before[1]))
    assert len(set(results)) > 2
    bus.close()


def test_a_part_is_named_in_place_of_its_line_or_address(board: SimBoard) -> None:
    assert board.faults.inject("stuck-line", line="lamp").target == "line 27"
    assert board.faults.inject("i2c-nack", address="climate").target == "i2c 1 0x76"
    assert board.faults.inject("i2c-nack").target == "i2c 1"
    assert board.faults.inject("stuck-line", line="GPIO17").target == "line 17"
    assert board.faults.inject("i2c-nack", address="0x76").target == "i2c 1 0x76"
    assert board.faults.inject("serial-noise", port="ttyAMA0").target == "/dev/ttyAMA0"
    assert [it.name for it in board.faults][:3] == ["stuck-line", "i2c-nack", "i2c-nack"]
    board.faults.end()
    assert not any(it.active for it in board.faults)


class Undecorated(Fault):
    """A fault that is no dataclass."""

    def target(self, board: FaultyBoard) -> str:
        return "board"

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        pass


MISTAKES: list[tuple[Callable[[SimBoard], object], str]] = [
    (lambda b: b.faults.inject("stuck"), "unknown fault 'stuck'; did you mean stuck-line? Known are blocked-loop, "),
    (lambda b: b.faults.inject("earthquake"), "unknown fault 'earthquake'; known are blocked-loop, chip-vanishes"),
    (lambda b: b.faults.inject("stuck-line"), "fault stuck-line: missing key line"),
    (
        lambda b: b.faults.inject("stuck-line", line=17, lvel=1),
        "fault stuck-line: unknown key lvel; known are after, duration, every, level, line, probability, seed",
    ),
    (lambda b: b.faults.inject("stuck-line", line=17, level=2), "fault stuck-line: level must be one of 0, 1, not 2"),
    (lambda b: b.faults.inject("stuck-line", line=99), "fault stuck-line: no line 99 on chip pinctrl-bcm2711"),
    (
        lambda b: b.faults.inject("stuck-line", line="door-bell"),
        "fault stuck-line: no device 'door-bell' on simulated board; there are: climate, door, gps, heater, lamp",
    ),
    (lambda b: b.faults.inject("stuck-line", line="gps"), "fault stuck-line: gps, a Gps, has no line"),
    (lambda b: b.faults.inject("i2c-nack", bus=7), "fault i2c-nack: no I2C bus 7 on the board; there are: 1"),
    (lambda b: b.faults.inject("i2c-nack", address=0x20), "fault i2c-nack: no device at 0x20 on I2C bus 1"),
    (lambda b: b.faults.inject("edge-flood", line=17, rate=float("nan")), "fault edge-flood: rate must be a number"),
    (lambda b: b.faults.inject("edge-flood", line=17, rate=-1), "fault edge-flood: rate must be more than 0"),
    (lambda b: b.faults.inject("stuck-line", line=17, after=float("inf")), "fault stuck-line: after must be a number"),
    (lambda b: b.faults.inject("stuck-line", line=17, after="1"), "fault stuck-line: after must be a number, not '1'"),
    (lambda b: b.faults.inject("stuck-line", line=17, after=-1), "fault stuck-line: after must be 0 or more"),
    (lambda b: b.faults.inject("stuck-line", line=17, duration=0), "duration and every more than 0"),
    (lambda b: b.faults.inject("stuck-line", line=17, probability=1.5), "probability must be 0 to 1, not 1.5"),
    (lambda b: b.faults.inject("stuck-line", line=17, every=1), "with every = 1 it needs a duration shorter than that"),
    (lambda b: b.faults.inject("stuck-line", line=17, every=1, duration=1), "it needs a duration shorter than that"),
    (lambda b: b.faults.inject("no.such:Thing"), "fault no.such:Thing: no.such:Thing: there is no module no"),
    (lambda b: b.faults.inject("pathlib:Path"), "pathlib:Path is not a dataclass that is derived from"),
    (lambda b: b.faults.inject(None), "a fault is a name such as 'stuck-line', or an object of a fault, not None"),  # type: ignore[arg-type]
    (
        lambda b: b.faults.inject(StuckLine),
        "or an object of a fault, not <class 'firmware_sim.faults.lines.StuckLine'>",
    ),  # type: ignore[arg-type]
    (lambda b: b.faults.inject(StuckLine(17, level=7)), "fault stuck-line: level must be one of 0, 1, not 7"),  # type: ignore[arg-type]
    (lambda b: b.faults.inject(Undecorated()), "a fault is a dataclass; decorate its class with"),
    (lambda b: b.faults.inject("stuck-line", line=17, seed=1.5), "seed must be a whole number or None, not 1.5"),  # type: ignore[arg-type]
    (lambda b: b.faults.inject(Pulse(), volts=3), "Pulse(): a fault that is made already takes no field volts"),
    (lambda b: b.faults.inject(Pulse(), duration=1), "it is over as soon as it has happened; leave out duration"),
]


@pytest.mark.parametrize(("attempt", "message"), MISTAKES)
def test_a_mistake_raises_and_injects_nothing(
    board: SimBoard, attempt: Callable[[SimBoard], object], message: str
) -> None:
    with pytest.raises(FaultError) as caught:
        attempt(board)
    assert message in str(caught.value)
    assert list(board.faults) == []
    assert changes(board) == []


@dataclasses.dataclass
class Pulse(Fault):
    """A fault of a program's own, which is over at once."""

    momentary = True

    def target(self, board: FaultyBoard) -> str:
        return "line 5"

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        board.chip.line(5).drive(0)
        board.chip.line(5).drive(None)


def test_a_fault_of_ones_own_is_injected_by_object_or_by_class(board: SimBoard) -> None:
    board.faults.inject(Pulse())
    board.faults.inject(f"{__name__}:Pulse", after=1, every=1)
    pass_time(board, 2.5)
    assert board.line(5).changes == 6
    assert [it.name for it in board.faults] == ["Pulse", "Pulse"]
    assert changes(board) == [(0, "line 5", True), (1, "line 5", True), (2, "line 5", True)]
