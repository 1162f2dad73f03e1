"""Contacts that bounce, lines that are stuck, floods of edges."""

from __future__ import annotations

import itertools

import pytest

from firmware_sim import SimBoard
from firmware_sim.errors import FaultError
from firmware_sim.trace import Trace
from hwloop.trace_events import LineChange

START = 1_000_000_000


def seen(trace: Trace, line: int) -> list[tuple[int, int, str]]:
    """Return the changes of a line: nanoseconds since the start, the level, the cause."""
    return [(it.when_ns - START, it.level, it.by) for it in trace.of(LineChange) if it.line == line]


def test_a_stuck_line_ignores_its_part_and_the_program_and_counts_a_short_circuit(board: SimBoard) -> None:
    with board.faults.inject("stuck-line", line="lamp", level=0):
        board.line(27).claim("test", output=1)
        assert (board.line(27).level, board["lamp"].lit, board.chip.short_circuits) == (0, False, 1)
    assert (board.line(27).level, board["lamp"].lit) == (1, True)


def test_a_stuck_line_holds_what_is_wired_to_it(board: SimBoard) -> None:
    board.chip.wire(5, 6)
    with board.faults.inject("stuck-line", line=5, level=0):
        assert (board.line(5).level, board.line(6).level) == (0, 0)
    assert (board.line(5).level, board.line(6).level) == (1, 1)


@pytest.mark.parametrize(("profile", "longest_ns", "most"), [("crisp", 500_000, 2), ("ordinary", 6_200_000, 6)])
def test_a_contact_bounces_after_each_move_and_ends_where_it_was_moved_to(
    board: SimBoard, trace: Trace, profile: str, longest_ns: int, most: int
) -> None:
    injection = board.faults.inject("contact-bounce", line="door", profile=profile)
    board["door"].press()
    board.clock.sleep(0.5)
    pressed = seen(trace, 17)[1:]
    assert pressed[0] == (0, 0, "the button on line 17")
    assert 2 <= len(pressed[1:]) <= 2 * most
    assert len(pressed) % 2 == 1
    assert [level for _, level, _ in pressed] == [place % 2 for place in range(len(pressed))]
    assert {by for _, _, by in pressed[1:]} == {"contact-bounce"}
    assert pressed[-1][0] <= longest_ns
    board["door"].release()
    board.clock.sleep(0.5)
    assert board.line(17).level == 1
    assert injection.hits == 2
    injection.end()
    changes = board.line(17).changes
    board["door"].press()
    board.clock.sleep(0.5)
    assert board.line(17).changes == changes + 1


def test_an_end_amid_bounces_leaves_the_line_where_the_part_is(board: SimBoard) -> None:
    injection = board.faults.inject("contact-bounce", line=17, seconds=1, bounces=50)
    board["door"].press()
    while board.line(17).level == 0:
        board.clock.sleep(0.0001)
    injection.end()
    assert board.line(17).level == 0
    changes = board.line(17).changes
    board.clock.sleep(2)
    assert board.line(17).changes == changes


def test_a_part_that_moves_again_while_it_bounces_begins_anew(board: SimBoard) -> None:
    board.faults.inject("contact-bounce", line=17, seconds=0.01, bounces=20)
    for _ in range(9):
        board["door"].press()
        board.clock.sleep(0.002)
        board["door"].release()
        board.clock.sleep(0.002)
    board["door"].press()
    board.clock.sleep(0.1)
    assert board.line(17).level == 0


def test_a_contact_is_where_the_part_is_right_after_it_moves(board: SimBoard) -> None:
    board.faults.inject("contact-bounce", line=17, seconds=1, bounces=50)
    board["door"].press()
    while board.line(17).level == 0:
        board.clock.sleep(0.0001)
    board["door"].release()
    board["door"].press()
    assert board.line(17).level == 0


def test_each_bounce_is_two_changes(board: SimBoard) -> None:
    board.faults.inject("contact-bounce", line=17, bounces=40, seed=1)
    changes = board.line(17).changes
    board["door"].press()
    board.clock.sleep(1)
    assert board.line(17).changes - changes == 1 + 2 * 5


def test_a_flood_toggles_the_line_at_its_rate_and_ends_at_the_level_that_was_there(
    board: SimBoard, trace: Trace
) -> None:
    board.faults.inject("edge-flood", line=17, rate=5000, after=1, duration=0.1)
    board.clock.sleep(3)
    flood = seen(trace, 17)[1:]
    assert len(flood) in (500, 501, 502)
    assert {later[0] - earlier[0] for earlier, later in itertools.pairwise(flood[:-1])} == {200_000}
    assert board.line(17).level == 1


def test_a_flood_on_a_line_that_is_stuck_changes_nothing(board: SimBoard) -> None:
    board.faults.inject("stuck-line", line=17, level=0)
    changes = board.line(17).changes
    with board.faults.inject("edge-flood", line=17):
        board.clock.sleep(1)
    assert board.line(17).changes == changes


@pytest.mark.parametrize("fields", [{"seconds": 0}, {"bounces": 0}, {"profile": "wobbly"}])
def test_a_bounce_that_makes_no_sense_raises(board: SimBoard, fields: dict[str, object]) -> None:
    with pytest.raises(FaultError, match=f"fault contact-bounce: .*{next(iter(fields))}"):
        board.faults.inject("contact-bounce", line=17, **fields)  # type: ignore[arg-type]
