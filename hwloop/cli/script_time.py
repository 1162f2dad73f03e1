"""A script in virtual time: `hwloop run --board sim --clock virtual blink.py`.

A script has no loop that could drive the clock, so its main thread does: whenever it sleeps or waits, everything
happens that is due until then, on the board and in the script's other threads, which take turns.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator

from firmware_sim import SimBoard
from hwloop.cli import THREADS_WITHIN, UsageError
from hwloop.errors import program_frames
from hwloop.testing.program_time import ProgramTime, RealProcess
from hwloop.testing.thread_report import thread_waits
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.errors import DeadlockError
from hwloop.virtual.program_waits import VirtualWaits
from hwloop.virtual.sleepers import NEVER_NS
from hwloop.virtual.time_limit import TimeLimit, chosen_limit


class ScriptTime:
    """The virtual time of one script on `board`, which its main thread drives.

    Parameters:
        limit: the longest run in virtual seconds; None for no limit.
    """

    def __init__(self, board: SimBoard, limit: float | None) -> None:
        clock = board.clock
        assert isinstance(clock, VirtualClock), "a script in real time needs none of this"
        self._clock = clock
        clock.waiter = "the script"
        clock.limit = TimeLimit(clock, chosen_limit(limit))
        clock.limit.begin_run()
        self._board = board
        self._threads = set(threading.enumerate())
        self._waits = VirtualWaits(clock, board.timeline.count_read, clock.block_loop, clock.sleep)
        process = RealProcess(self._pause)
        self._time = ProgramTime(self._waits, lambda: process, "run it without --clock virtual")

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let the program, and the libraries that it uses, find virtual time in this block."""
        if os.environ.get("GPIOZERO_PIN_FACTORY", "").startswith("hwloop"):
            raise UsageError(
                "GPIOZERO_PIN_FACTORY: hwloop's pin factories need a loop, and a script in virtual time has none; "
                "unset it"
            )
        with self._time.installed():
            yield

    @contextlib.contextmanager
    def passing(self, grace: float | None) -> Iterator[None]:
        """Run the script in this block; then let time pass until its threads have ended, as Python waits for them.

        They may go on for `grace` seconds at most, or without that until the limit, which begins anew; after a signal,
        for `THREADS_WITHIN` seconds. Then no limit keeps libraries from cleaning up.
        """
        try:
            yield
        except KeyboardInterrupt:
            self._finish(THREADS_WITHIN)
            raise
        except BaseException:
            self._finish(grace)
            raise
        self._finish(grace)

    def explains(self, error: BaseException, path: str) -> bool:
        """Print why a script that waits for ever was ended, and where each thread waits. Return False if it was not."""
        if not isinstance(error, DeadlockError):
            return False
        threads = list(self._waits.threads())
        if (handler := self._board.lgpio.calling_thread()) is not None:
            threads.append(handler)
        places = traceback.extract_tb(program_frames(error.__traceback__))
        main = [place for place in places if place.filename == path][-1:] or places[-1:]
        reason = str(error).removeprefix(f"{self._clock.waiter} waits: ")
        lines = [f"hwloop: {path}: {reason}"]
        lines += [f"  the script waits at {place.filename}:{place.lineno} in {place.name}" for place in main]
        print("\n".join([*lines, *thread_waits(threads)]), file=sys.stderr)
        return True

    def _finish(self, grace: float | None) -> None:
        assert self._clock.limit is not None
        self._clock.limit.begin_run()
        try:
            self._clock.block_loop(self._clock.after_ns(grace), lambda: not any(self._left()))
        finally:
            self._clock.limit = None

    def _left(self) -> Iterator[threading.Thread]:
        self._waits.threads()  # waits for those that are about to end
        for thread in threading.enumerate():
            if thread not in self._threads and not thread.daemon and thread is not threading.current_thread():
                yield thread

    def _pause(self) -> None:
        """Wait for a signal that the program handles."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            self._clock.block_loop(NEVER_NS, lambda: bool(select.select([reading], [], [], 0)[0]))
        finally:
            signal.set_wakeup_fd(before)
            os.close(reading)
            os.close(writing)
