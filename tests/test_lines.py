"""Times at which lines are read again after their last report."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hwloop.lines import RECHECK_AFTER, RECHECKS, recheck_pause


def test_pauses_double_and_end_ten_seconds_after_the_last_report() -> None:
    pauses = [recheck_pause(done, doubtful=False) for done in range(RECHECKS)]
    assert [later / earlier for earlier, later in pairwise(pauses)] == [2.0] * (RECHECKS - 1)
    assert sum(pauses) == pytest.approx(10.22)


def test_a_line_in_doubt_is_read_again_soon() -> None:
    assert recheck_pause(8, doubtful=True) == RECHECK_AFTER
    assert recheck_pause(8, doubtful=True, shortest=0.5) == 0.5


def test_a_longest_pause_is_kept() -> None:
    assert recheck_pause(40, doubtful=False, longest=10.0) == 10.0
