"""The step that replays a recording: the edges and bytes that a program once got, on a real or a simulated board."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from hwloop.recording import RecordingError, Run, read
from hwloop.testing.scenario import targets
from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.step import Act, Begin, Stage
from hwloop.trace_events import LineChange, SerialData

Input = tuple[float, Callable[[], object]]
"""An input of a recording: seconds since it began, and the function that gives it to the board."""


@dataclass(frozen=True)
class Replay(Act):
    """Replay the inputs of a recording: the edges that the program did not make itself, and the bytes that it received.

    The lines are driven from outside, and keep their last level until `release`. I2C transfers are not replayed: the
    devices of the board answer.

    Parameters:
        recording: the recording, relative to the scenario. Of a ring the last run is replayed.
        only: the lines and ports that are replayed, by default all.
        speed: how many of its seconds pass in one second.
    """

    verb: ClassVar[str] = "replay"
    recording: str
    only: list[str] = field(default_factory=list, kw_only=True)
    speed: float = field(default=1.0, kw_only=True)

    def check(self) -> None:
        if not self.speed > 0:
            raise KeyProblem("speed", f"must be more than 0, not {self.speed!r}")

    def describe(self) -> str:
        return f"replay {self.recording}" + (f" ({', '.join(self.only)})" if self.only else "")

    def prepare(self, stage: Stage) -> Begin:
        lines, ports = self._chosen(stage)
        path = stage.directory / self.recording
        try:
            run = read(path)[-1]
            inputs = list(self._inputs(stage, run, lines, ports))
        except (RecordingError, IndexError) as error:
            raise KeyProblem("replay", str(error) or f"{path}: there is no run in it") from error
        if run.ending == "damaged":
            raise KeyProblem("replay", f"{path}: the recording is damaged; see hwloop log {path}")
        if not inputs:
            raise KeyProblem("replay", f"{path}: no inputs are recorded in it that the board has")

        def begin() -> float:
            start_ns = stage.board.timeline.moment_ns()

            def give(number: int) -> None:
                inputs[number][1]()
                if number + 1 < len(inputs):
                    plan(number + 1)

            def plan(number: int) -> None:
                stage.at(self, start_ns + round(inputs[number][0] * 1e9), functools.partial(give, number))

            plan(0)
            return inputs[-1][0]

        return begin

    def _chosen(self, stage: Stage) -> tuple[set[int], set[str]]:
        """Return the lines and ports that are replayed; none of both means all."""
        lines, ports = set[int](), set[str]()
        for target in self.only:
            try:
                if target.startswith("/") or isinstance(getattr(stage.board.names.get(target), "port", None), str):
                    ports.add(targets.find_port(stage.board, target).name)
                else:
                    lines.add(targets.find_line(stage.board, target).number)
            except ValueError as error:
                raise KeyProblem("only", str(error)) from error
        return lines, ports

    def _inputs(self, stage: Stage, run: Run, lines: set[int], ports: set[str]) -> Iterator[Input]:
        board, everything = stage.board, not self.only
        for event in run:
            action: Callable[[], object] | None = None
            if isinstance(event, LineChange):
                is_input = event.by != "program" and event.line < len(board.chip)
                if is_input and (everything or event.line in lines):
                    action = functools.partial(board.line(event.line).drive, event.level)
            elif isinstance(event, SerialData):
                is_input = event.direction == "received" and event.port in board.ports
                if is_input and (everything or event.port in ports):
                    action = functools.partial(board.ports[event.port].send, event.data)
            if action is not None:
                yield max(0, event.when_ns - run.header.start_ns) / 1e9 / self.speed, action
