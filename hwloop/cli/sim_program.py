"""A program beside a scenario: when both begin, and how the program ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from firmware_sim import SimBoard
from hwloop.cli import UsageError
from hwloop.core import registry
from hwloop.core.clock import REAL, Clock
from hwloop.testing.scenario.errors import ScenarioError
from hwloop.testing.scenario.player import Player
from hwloop.testing.scenario.scenario import Scenario
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.sleepers import NEVER_NS

GRACE = 10.0
"""Seconds within which the program must have ended after the scenario."""
LOOP_WITHIN = 20
"""Real seconds within which a program that is no script must have started a loop; until then virtual time stands."""
THREADS_WITHIN = 2.0
"""Real seconds within which the threads of a program must have ended after it."""


class NoLoop(KeyboardInterrupt):
    """Raised in a program that has started no loop, as Ctrl-C would be."""


class ProgramRun:
    """A program beside a scenario.

    Attributes:
        player: plays the scenario.
        sent: the signals sent to the program: by a step, by a fault, or because the scenario has ended.
        forced: whether a signal had to be repeated, because the program did not end.
        status: its exit status.
        error: the exception with which it failed; None for none.
        problem: why it could not be played; empty if it could.
        began_ns, ended_ns: when it began and ended (the board's clock).
        left: the names of the threads that it has left running, and that are no daemons.
    """

    def __init__(self, scenario: Scenario, board: SimBoard, clock: Clock) -> None:
        self.scenario = scenario
        self.board = board
        self.sent: set[int] = set()
        self.forced: bool = False
        self.status: int = 0
        self.error: BaseException | None = None
        self.began_ns: int = board.timeline.now_ns()
        self.problem: str = ""
        self.ended_ns: int | None = None
        self.left: list[str] = []
        board.signal_program = self.send_signal
        try:
            self.player: Player = Player(board, scenario, program=self, on_end=self._on_end)
        except ScenarioError as error:
            raise UsageError(str(error)) from error
        self._clock = clock
        self._over = threading.Event()
        self._runs = self._is_script = False
        self._threads = frozenset(threading.enumerate())
        self._handlers: dict[int, Any] = {}

    def fail(self, error: BaseException) -> None:
        """Note that the program has failed."""
        self.status, self.error = 1, error

    def begin(self, is_script: bool) -> None:
        """Begin, just before the program does; in real time a program with a loop begins when its loop does."""
        self._runs, self._is_script = True, is_script
        if is_script:
            self._handlers[signal.SIGURG] = signal.signal(signal.SIGURG, lambda number, frame: None)
            self.player.start()
            return
        self._handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._no_loop)
        signal.alarm(LOOP_WITHIN)
        registry.follow(self)
        if self._clock is not REAL:
            self.player.start()

    def loop_started(self, loop: Any) -> None:
        """Begin: called by `hwloop.core.registry`."""
        if threading.current_thread() is threading.main_thread():
            signal.alarm(0)
            registry.unfollow(self)
            if self._clock is REAL:
                self.player.start()

    def loop_ended(self, loop: Any) -> None:
        """Do nothing: called by `hwloop.core.registry`."""

    def send_signal(self, number: int) -> None:
        """Send a signal to the program, and a second one if it has not ended after a while."""
        if not self._runs:
            return
        self.sent.add(number)
        self._send(number)
        self.board.timeline.after(GRACE, lambda: self._force(number))
        if self._is_script:
            self._interrupt()

    def end(self, *, plays_on: bool) -> None:
        """Note that the program has ended, and play the rest of the scenario, or end it."""
        self._runs = False
        self.ended_ns = self.board.timeline.now_ns()
        registry.unfollow(self)
        signal.alarm(0)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if plays_on:
            self._play_on()
        self.player.stop()
        self.left = self._left_threads()

    def _left_threads(self) -> list[str]:
        """Wait for the threads of the program, for a moment, and return the names of those that do not end."""
        until = time.monotonic() + THREADS_WITHIN
        threads = [each for each in threading.enumerate() if not each.daemon and each not in self._threads]
        for each in threads:
            each.join(max(0.0, until - time.monotonic()))
        return sorted(each.name for each in threads if each.is_alive())

    def _play_on(self) -> None:
        if self.player.result.start_ns == 0:  # it never had a loop
            self.player.start()
        if isinstance(self._clock, VirtualClock):
            self._clock.limit = None
            self._clock.block_loop(NEVER_NS, lambda: self.player.ended)
        elif not self.player.ended:
            self._over.wait()

    def _on_end(self) -> None:
        self._over.set()
        if self._runs and not self.sent:
            self.send_signal(signal.SIGTERM)

    def _force(self, number: int) -> None:
        if self._runs:
            self.forced = True
            self._send(number)

    def _interrupt(self) -> None:
        """Interrupt the system call that the main thread of a script is in, until the script has ended.

        Python handles a signal between two instructions. One that comes just before `signal.pause()` is handled only
        when something else ends that call. SIGURG, which is ignored otherwise, does.
        """
        if self._runs:
            self._send(signal.SIGURG)
            self.board.timeline.after(0.1, self._interrupt)

    def _send(self, number: int) -> None:
        """Send a signal to the main thread, which ends a blocking call in it."""
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _no_loop(self, number: int, frame: FrameType | None) -> None:
        self.problem = (
            f"the program has started no event loop within {LOOP_WITHIN} s; if it has none, play the scenario in real "
            "time, with --realtime"
        )
        raise NoLoop
