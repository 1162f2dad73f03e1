"""Lines as a circuit."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from firmware_sim.pins import Chip


@pytest.fixture
def chip(timeline: Any) -> Chip:
    return Chip(timeline, label="test", lines=28)


def test_at_reset_lines_are_pulled_as_on_the_soc(chip: Chip) -> None:
    assert [chip.line(number).level for number in (0, 8, 9, 27)] == [1, 1, 0, 0]


def test_a_line_that_is_not_there_is_named_with_those_that_are(chip: Chip) -> None:
    for number in (-1, 28):
        with pytest.raises(ValueError, match=f"no line {number} on chip test: lines are 0 to 27"):
            chip.line(number)


def test_a_part_that_drives_beats_every_resistor(chip: Chip) -> None:
    line = chip.line(17)
    line.claim("x", bias="up")
    line.pull("up")
    line.drive(0)
    assert line.level == 0
    line.drive(None)
    assert line.level == 1


def test_a_resistor_of_a_part_beats_the_chips_own(chip: Chip) -> None:
    line = chip.line(17)
    line.claim("x", bias="down")
    line.pull("up")
    assert line.level == 1
    line.pull("none")
    assert line.level == 0


def test_a_floating_line_keeps_its_level(chip: Chip) -> None:
    line = chip.line(17)
    line.claim("x", bias="none")
    for level in (1, 0, 1):
        line.drive(level)
        line.drive(None)
        assert line.level == level


def test_a_part_can_only_drive_levels(chip: Chip) -> None:
    with pytest.raises(ValueError, match="drives 0, 1 or None, not 2"):
        chip.line(17).drive(2)


@pytest.mark.parametrize(
    ("drive", "asked", "pull", "level"),
    [
        ("push-pull", 0, "up", 0),
        ("push-pull", 1, "down", 1),
        ("open-drain", 0, "up", 0),
        ("open-drain", 1, "up", 1),
        ("open-drain", 1, "down", 0),
        ("open-source", 1, "down", 1),
        ("open-source", 0, "down", 0),
        ("open-source", 0, "up", 1),
    ],
)
def test_each_kind_of_output_drives_only_what_it_can(chip: Chip, drive: Any, asked: int, pull: Any, level: int) -> None:
    line = chip.line(17)
    line.claim("x", output=asked, drive=drive)
    line.pull(pull)
    assert line.level == level


def test_an_output_goes_on_driving_when_it_is_released(chip: Chip) -> None:
    line = chip.line(17)
    line.claim("x", output=1)
    line.release()
    assert (line.level, line.consumer) == (1, None)
    line.claim("y")
    assert line.level == 0


def test_a_wire_makes_one_net(chip: Chip) -> None:
    chip.wire(22, 23)
    chip.wire(23, 24)
    chip.line(22).claim("x", output=1)
    assert [chip.line(number).level for number in (22, 23, 24)] == [1, 1, 1]
    chip.line(24).drive(0)
    assert [chip.line(number).level for number in (22, 23, 24)] == [0, 0, 0]


def test_joining_lines_notifies_those_whose_level_changes(chip: Chip) -> None:
    seen: list[tuple[int, int]] = []
    for number in (22, 23):
        chip.line(number).observe(lambda level, when_ns, number=number: seen.append((number, level)))
    chip.line(22).drive(1)
    seen.clear()
    chip.wire(22, 23)
    chip.wire(23, 22)
    assert seen == [(23, 1)]


def test_opposing_pulls_on_a_net_cancel_out(chip: Chip) -> None:
    chip.wire(22, 23)
    chip.line(22).pull("up")
    chip.line(23).pull("down")
    chip.line(22).drive(1)
    chip.line(22).drive(None)
    # The resistors of parts say nothing, so the chip's own decide: both are pulled down at reset.
    assert chip.line(23).level == 0


def test_a_short_circuit_reads_low_is_counted_each_time_and_logged_once(
    chip: Chip, caplog: pytest.LogCaptureFixture
) -> None:
    line = chip.line(17)
    line.claim("x", output=1)
    with caplog.at_level(logging.WARNING, "firmware_sim"):
        for _ in range(3):
            line.drive(0)
            assert line.level == 0
            line.set_output(1)  # still the same short circuit
            line.drive(None)
            assert line.level == 1
    assert chip.short_circuits == 3
    assert [record.getMessage() for record in caplog.records] == [
        "short circuit: line 17 is driven low by a part on line 17 and high by the program's output 17; "
        "make the program's line an input or open-drain, or put a resistor between them"
    ]


def test_changes_are_counted_and_reported_with_their_time(chip: Chip, timeline: Any) -> None:
    seen: list[tuple[int, int]] = []
    observer = lambda level, when_ns: seen.append((level, when_ns))  # noqa: E731
    line = chip.line(17)
    line.observe(observer)
    timeline.advance(0.5)
    line.drive(1)
    line.drive(1)
    timeline.advance(0.5)
    line.drive(0)
    line.forget(observer)
    line.forget(observer)
    line.drive(1)
    assert seen == [(1, 500_000_000), (0, 1_000_000_000)]
    assert line.changes == 3


def test_changes_made_by_an_observer_are_reported_after_its_own(chip: Chip) -> None:
    order: list[tuple[str, int]] = []
    line, other = chip.line(17), chip.line(18)

    def invert(level: int, when_ns: int) -> None:
        order.append(("first", level))
        if level == 1:
            line.drive(0)
        other.drive(1 - level)

    line.observe(invert)
    line.observe(lambda level, when_ns: order.append(("second", level)))
    line.drive(1)
    assert order == [("first", 1), ("second", 1), ("first", 0), ("second", 0)]
    assert (line.level, other.level) == (0, 1)


def test_an_observer_that_fails_does_not_stop_the_others(chip: Chip, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    chip.line(17).observe(lambda level, when_ns: 1 // 0)
    chip.line(17).observe(lambda level, when_ns: seen.append(level))
    chip.line(17).drive(1)
    assert seen == [1]
    assert "simulated device failed" in caplog.text


class TestStamps:
    """A change carries the time for which it was planned, however late it runs."""

    @staticmethod
    def pulses(chip: Chip, timeline: Any, *moments: int) -> list[int]:
        """Change line 17 at these times; return the stamps that its observer is given."""
        stamps: list[int] = []
        line = chip.line(17)
        line.observe(lambda level, when_ns: stamps.append(when_ns))
        for number, moment in enumerate(moments):
            timeline.at(moment, lambda level=1 - number % 2: line.drive(level))
        return stamps

    def test_late_changes_keep_the_times_for_which_they_were_planned(self, chip: Chip, timeline: Any) -> None:
        stamps = self.pulses(chip, timeline, 1000, 1050, 1120, 1170)
        timeline.time_ns = 1_000_000
        timeline.run_due()
        assert stamps == [1000, 1050, 1120, 1170]

    def test_changes_of_all_lines_are_reported_in_the_order_of_their_stamps(self, chip: Chip, timeline: Any) -> None:
        stamps: list[tuple[int, int]] = []
        for number in (4, 17):
            chip.line(number).observe(lambda level, when_ns, number=number: stamps.append((number, when_ns)))
        timeline.at(1000, lambda: chip.line(17).drive(1))
        timeline.time_ns = 2000
        chip.line(4).drive(0)  # by another thread: what is due comes first
        assert stamps == [(17, 1000), (4, 2000)]

    def test_a_part_that_a_test_pulls_or_looks_at_is_up_to_date(self, chip: Chip, timeline: Any) -> None:
        stamps = self.pulses(chip, timeline, 1000, 2000)
        timeline.time_ns = 1500
        assert chip.line(17).level == 1
        timeline.time_ns = 2500
        chip.line(17).pull("up")
        assert stamps == [1000, 2000]

    def test_late_changes_of_several_lines_keep_their_order_after_one_that_was_reported(
        self, chip: Chip, timeline: Any
    ) -> None:
        """But for those that were planned for one moment, which have no order."""
        stamps: list[tuple[int, int]] = []
        for number in (17, 22):
            chip.line(number).observe(lambda level, when_ns, number=number: stamps.append((number, when_ns)))
        for when_ns, number, level in ((2000, 17, 1), (2000, 22, 1), (3000, 17, 0), (4000, 22, 0), (9000, 17, 1)):
            timeline.at(when_ns, lambda number=number, level=level: chip.line(number).drive(level))
        timeline.time_ns = 8000
        chip.line(4).claim("chip", output=0)  # by another thread, which has not looked at what is due
        timeline.time_ns = 10_000
        timeline.run_due()
        assert stamps == [(17, 8001), (22, 8001), (17, 8002), (22, 8003), (17, 9000)]
