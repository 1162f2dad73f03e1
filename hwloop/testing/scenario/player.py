"""`Player`: plays a scenario on a board.

The board's own timeline drives it, not an event loop. So a scenario goes on while the program computes, it works with
programs that have no loop, and in virtual time each step begins exactly at its time.
"""

from __future__ import annotations

from collections.abc import Callable

from firmware_sim import SimBoard
from firmware_sim.timeline import Event
from hwloop.core.naming import error_text
from hwloop.testing.scenario.course import Course, Pause, StepFailed
from hwloop.testing.scenario.result import Result
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.step import Program, Stage, Step
from hwloop.testing.scenario.trail import Trail
from hwloop.trace_events import TraceEvent


class Player:
    """Plays one scenario once.

    Parameters:
        board: the simulated board.
        scenario: the scenario.
        program: the program, if the scenario may end it.
        on_end: called when the scenario has ended, with the board's lock held.

    Attributes:
        result: the result, complete when the scenario has ended.
        ended: whether it has.

    Raises `ScenarioError` if a step does not fit the board.
    """

    def __init__(
        self,
        board: SimBoard,
        scenario: Scenario,
        *,
        program: Program | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._trail = Trail(board)
        self.result: Result = Result(scenario, recent=self._trail.recent)
        self.ended: bool = False
        self._timeline = board.timeline
        self._on_end = on_end
        self._stage = Stage(board, self._trail, scenario.directory, program, failed=self._action_failed)
        self._course = Course(scenario, self._stage, self.result)
        self._steps = self._course.play()
        self._next: Event | None = None
        self._pause = Pause(0)

    def start(self) -> None:
        """Begin now."""
        with self._timeline.lock:
            self._trail.open(self._on_event)
            self.result.start_ns = self._timeline.moment_ns()
            self._plan(Pause(self.result.start_ns))

    def stop(self) -> None:
        """End the scenario where it is. Harmless when repeated."""
        with self._timeline.lock:
            if not self.ended:
                self._course.abandon()
            self._end()

    def _resume(self) -> None:
        """Play until the next pause."""
        self._next = None
        try:
            pause = next(self._steps)
        except (StopIteration, StepFailed):
            self._end()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            step = self._course.under_way
            assert step is not None, "only steps fail"
            self._action_failed(step, error)
        else:
            if not self.ended:  # by an action of a step
                self._plan(pause)

    def _plan(self, pause: Pause) -> None:
        self._pause = pause
        self._next = self._timeline.at(pause.until_ns, self._resume)

    def _on_event(self, event: TraceEvent) -> None:
        """Look at the board, once what happens now has happened: a part learns of an edge after the trace does."""
        if self._pause.for_change and self._next is not None:
            now_ns = self._timeline.now_ns()
            if self._next.when_ns > now_ns:
                self._next.cancel()
                self._next = self._timeline.at(now_ns, self._resume)

    def _action_failed(self, step: Step, error: BaseException) -> None:
        if not self.ended:
            self._course.fail(step, f"failed: {error_text(error)}")
            self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = self._stage.ended = True
        self.result.end_ns = self._timeline.moment_ns()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._trail.close()
        if self._on_end is not None:
            self._on_end()
