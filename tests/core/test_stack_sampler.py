"""The stack sampler notes where a loop is only if the slice is the one seen before, and only for that slice."""

from __future__ import annotations

import threading
import time

from hwloop.core.stack_sampler import Sampler


class Busy:
    """A loop that is looked at while this thread runs it."""

    def __init__(self, same_turn, sleeping=False):
        self.slice = 1.0
        self.same_turn = same_turn
        self.looks = 0
        self.is_sleeping = sleeping
        self._thread_id = threading.get_ident()

    def get_debug(self):
        return False

    @property
    def slice_began(self):
        if threading.get_ident() != self._thread_id:
            self.looks += 1
            if not self.same_turn:
                self.slice += 1
        return self.slice


def sampled(loop):
    """Return the samples of a time when this function was busy, and of the slice after that."""
    sampler = Sampler(loop, loop, loop, 0.001)
    give_up = time.monotonic() + 5
    while loop.looks < 4:
        assert time.monotonic() < give_up
    found = sampler.found()
    sampler.stop()
    loop.slice += 1
    return found, sampler.found()


def test_a_turn_that_lasts_is_seen_with_the_line_that_runs():
    found, later = sampled(Busy(same_turn=True))
    assert "in sampled" in found
    assert later == ""


def test_turns_that_change_are_not_and_nor_is_sleep():
    assert sampled(Busy(same_turn=False)) == ("", "")
    assert sampled(Busy(same_turn=True, sleeping=True)) == ("", "")
