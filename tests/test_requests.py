"""Requests for lines: they check themselves when they are built, and can't be changed afterwards."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from hwloop.board import EdgeRequest, OutputRequest


def test_lines_are_normalized_and_kept_in_order() -> None:
    assert EdgeRequest(["17", " GPIO5 ", "J8:11", 4], consumer="door").lines == (17, "GPIO5", "J8:11", 4)
    assert OutputRequest("27", consumer="door").line == 27


@pytest.mark.parametrize("request_", [EdgeRequest([17], consumer="door"), OutputRequest(17, consumer="door")])
def test_a_request_is_frozen(request_: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        request_.active_low = True


@pytest.mark.parametrize(
    ("lines", "options", "error", "message"),
    [
        ([], {}, ValueError, "no line to watch; give a BCM number such as 17"),
        ([17, "17"], {}, ValueError, r"the same line twice in \(17, 17\)"),
        ([-1], {}, ValueError, "a line is a BCM number"),
        ([17], {"chip": 0}, TypeError, "never by a number, not 0"),
        ([17], {"chip": ""}, ValueError, "empty"),
        ([17], {"edges": "up"}, ValueError, "edges must be one of 'rising', 'falling', 'both', not 'up'"),
        ([17], {"pull": "as-is"}, ValueError, "pull must be one of 'up', 'down', 'none', not 'as-is'"),
        ([17], {"active_low": 1}, TypeError, "active_low must be True or False, not 1"),
        ([17], {"debounce": True}, TypeError, "debounce must be a number of seconds"),
        ([17], {"debounce": float("nan")}, ValueError, "debounce must be 0 to 5 seconds"),
    ],
)
def test_an_edge_request_that_no_board_could_meet_raises(
    lines: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EdgeRequest(lines, consumer="door", **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"initial": 2}, ValueError, "initial must be 0 or 1, not 2"),
        ({"drive": "strong"}, ValueError, "drive must be one of 'push-pull', 'open-drain', 'open-source'"),
        ({"active_low": None}, TypeError, "active_low must be True or False"),
    ],
)
def test_an_output_request_that_no_board_could_meet_raises(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        OutputRequest(17, consumer="door", **options)


@pytest.mark.parametrize(
    ("drive", "active_low", "level"),
    [
        ("push-pull", False, None),
        ("push-pull", True, None),
        ("open-drain", False, 1),
        ("open-drain", True, 0),
        ("open-source", False, 0),
        ("open-source", True, 1),
    ],
)
def test_an_output_releases_its_line_at_the_level_that_it_does_not_drive(
    drive: Any, active_low: bool, level: int | None
) -> None:
    assert OutputRequest(17, consumer="door", drive=drive, active_low=active_low).released_level == level
