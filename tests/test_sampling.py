"""The sampler notes where a loop is only if that is still the turn it saw before, and tells it for that turn only."""

from __future__ import annotations

import threading

from hwloop.sampling import Sampler


class Busy:
    """A loop that is looked at while this thread runs it."""

    def __init__(self, same_turn, sleeping=False):
        self.turn = 1.0
        self.same_turn = same_turn
        self.looks = threading.Semaphore(0)
        self._sleeping = sleeping
        self._thread_id = threading.get_ident()

    def turn_began(self):
        if threading.get_ident() != self._thread_id:
            self.looks.release()
            if not self.same_turn:
                self.turn += 1
        return self.turn


def sampled(loop):
    sampler = Sampler(loop, 0.001)
    for _ in range(4):
        assert loop.looks.acquire(timeout=5)
    sampler.stop()
    return sampler


def test_a_turn_that_lasts_is_seen_with_the_line_that_runs():
    sampler = sampled(loop := Busy(same_turn=True))
    assert "in sampled" in sampler.found()
    loop.turn += 1
    assert sampler.found() == ""


def test_turns_that_change_are_not_and_nor_is_sleep():
    assert sampled(Busy(same_turn=False))._seen == (0.0, "")
    assert sampled(Busy(same_turn=True, sleeping=True))._seen == (0.0, "")
