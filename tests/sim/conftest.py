"""Simulated time that a test moves by hand, so that debounce and pulses take no real time and no thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from firmware_sim.timeline import Timeline


class HandTimeline(Timeline):
    """A timeline that stands still until `advance()`, and runs what is due in the caller's thread."""

    def __init__(self) -> None:
        self.time_ns = 0
        super().__init__()
        self.now_ns = lambda: self.time_ns

    def _wake(self) -> None:
        pass  # no thread: a test advances it

    def advance(self, seconds: float) -> None:
        """Move on, stopping at each event on the way."""
        end_ns = self.time_ns + round(seconds * 1e9)
        while (next_ns := self.next_ns()) is not None and next_ns <= end_ns:
            self.time_ns = max(self.time_ns, next_ns)
            self.run_due()
        self.time_ns = end_ns


@pytest.fixture
def timeline() -> Iterator[HandTimeline]:
    """A timeline moved by `timeline.advance(seconds)`."""
    hand = HandTimeline()
    yield hand
    hand.stop()
