"""The timer that ends a frame when the line has been silent long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hwloop.sources.containment import EXITS
from hwloop.sources.serial.framing import Framer


class Silence:
    """Waits for the deadline that a framer sets for the incomplete frame.

    Parameters:
        framer: the port's; its `deadline_ns` says when the frame ends unless more bytes come.
        may_end: returns whether the frame can be ended now. It can't while bytes are waiting to be read, for these
            belong to it: the loop is late, or the port paused.
        end_frame: ends the frame, and returns whether that has yielded one.
        failed: called with the exception of `end_frame`.
    """

    def __init__(
        self,
        framer: Framer,
        may_end: Callable[[], bool],
        end_frame: Callable[[], bool],
        failed: Callable[[BaseException], object],
    ) -> None:
        self._framer = framer
        self._may_end = may_end
        self._end_frame = end_frame
        self._failed = failed
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the timer if the framer has a deadline. Call it after each read."""
        deadline_ns = self._framer.deadline_ns
        if deadline_ns is not None and self._timer is None:
            self._timer = loop.call_at(deadline_ns / 1e9, self._on_time, loop)

    def cancel(self) -> None:
        """Forget the incomplete frame."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._may_end():
            return  # the timer is set again after the next read
        now_ns = round(loop.time() * 1e9)
        try:
            ended = self._end_frame()
            deadline_ns = self._framer.deadline_ns
        except EXITS:
            raise
        except BaseException as error:
            self._failed(error)
            return
        # A framer that leaves its deadline in the past and ends no frame must not cause an endless repetition.
        if ended or (deadline_ns is not None and deadline_ns > now_ns):
            self.watch(loop)
