"""The lines that outlive their program: a guardian holds the descriptor of each, and so the kernel changes no level.

A program hands the descriptor over when it has claimed the line. From then on the line lives as long as either of the
two: nothing has to happen when the program is killed. The next program is given the descriptor, and the guardian keeps
its own. If none comes within the time that the program has set, or none will come any more, the line goes to its safe
level, through the same descriptor.

A simulated line has no descriptor that another process could use. Its level is in a file (HWLOOP_SIM_LINES), so it
goes on without one, and is claimed like any other abandoned output when its time is over.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hwloop.boards.line_request import SYSTEM, Calls, LineRequest
from hwloop.service.abandoned_outputs import AbandonedOutputs, say
from hwloop.service.guard_records import GuardedOutput

Place = tuple[str, str | None, int | str]


class Owner(Protocol):
    """A process, as far as its lines need it. Owners compare by identity."""

    gone: bool
    """Whether it has ended."""


@dataclass
class _Kept:
    output: GuardedOutput
    line: LineRequest | None
    """None for a simulated line."""
    owner: Owner | None
    """The process that drives it; None while none does."""
    due: float | None = None
    """When it goes to its safe level: seconds, CLOCK_MONOTONIC; None for never."""
    kept: bool = True
    """Whether it is at the level at which its program left it."""


class KeptLines:
    """The lines that a guardian holds for their programs.

    Parameters:
        abandoned: drives the lines without a descriptor.
        calls: the system calls on descriptors.

    Attributes:
        failed: the number of lines that could not be driven.
    """

    def __init__(self, abandoned: AbandonedOutputs, calls: Calls = SYSTEM) -> None:
        self.failed: int = 0
        self._abandoned = abandoned
        self._calls = calls
        self._kept: dict[Place, _Kept] = {}
        self._said: list[str] = []

    @property
    def due(self) -> float | None:
        """When the next line goes to its safe level: seconds, CLOCK_MONOTONIC; None if none does."""
        return min((kept.due for kept in self._kept.values() if kept.due is not None), default=None)

    @property
    def held(self) -> bool:
        """Whether it holds the descriptor of a line."""
        return any(kept.line is not None for kept in self._kept.values())

    def hand_over(self, owner: Owner, output: GuardedOutput, descriptors: Sequence[int]) -> None:
        """Hold the line of an output, by its descriptor unless it is simulated."""
        before = self._kept.pop(output.place, None)
        if before is not None and before.line is not None:
            before.line.close()
        for fd in descriptors[1:]:
            os.close(fd)
        line = LineRequest(descriptors[0], self._calls) if descriptors else None
        self._kept[output.place] = _Kept(output, line, owner)

    def take(self, owner: Owner, output: GuardedOutput) -> tuple[bool, list[int]]:
        """Give the line of an output to a process: whether it is at the level at which it was left, and a descriptor.

        The descriptor, if there is one, stays the guardian's.
        """
        found = self._kept.get(output.place)
        if found is None or not (found.owner in (None, owner) or found.owner.gone):
            return False, []  # a running program drives it: the kernel refuses it to others
        kept = found.kept
        found.output, found.owner, found.due, found.kept = output, owner, None, True
        return kept, [] if found.line is None else [found.line.fd]

    def update(self, owner: Owner, outputs: Iterable[GuardedOutput]) -> None:
        """Follow the state of a process: it has left some of its lines, and is done with those it does not name."""
        reported = {output.place: output for output in outputs if output.kept}
        for place, found in tuple(self._kept.items()):
            if found.owner is owner:
                if place not in reported:  # closed at its safe level
                    self._forget(place)
                elif reported[place].left:
                    self._leave(found)

    def let_go(self, outputs: Iterable[GuardedOutput]) -> None:
        """Release the lines that no process has, and that a program is about to open as ordinary outputs."""
        if any(kept.owner is None for kept in self._kept.values()):
            for output in outputs:
                found = self._kept.get(self._abandoned.resolved(output).place)
                if found is not None and found.owner is None:
                    self._forget(found.output.place)

    def ended(self, owner: Owner, outputs: Iterable[GuardedOutput]) -> list[GuardedOutput]:
        """Keep the lines of a process that has ended, and return the outputs that it has not handed over."""
        lost = []
        for output in outputs:
            found = self._kept.get(output.place)
            if found is not None and found.owner is owner:
                self._leave(found)
            elif found is None and output.safe is not None and not output.left:
                lost.append(output)
        return lost

    def drive_due(self) -> None:
        """Drive the lines whose time is over to their safe level."""
        now = time.monotonic()
        self._drive([kept for kept in self._kept.values() if kept.due is not None and kept.due <= now])

    def drive_left(self) -> None:
        """Drive the lines that no process has to their safe level: none will come back."""
        left = [kept for kept in self._kept.values() if kept.owner is None]
        self._drive([kept for kept in left if kept.kept])
        for kept in left:
            if kept.output.safe is None:
                self._forget(kept.output.place)

    def report(self) -> None:
        """Print the messages since the last report."""
        said, self._said = self._said, []
        for text in said:
            say(text)

    def close(self) -> None:
        """Close the descriptors, and print the remaining messages. A line that no process has is released."""
        self.report()
        for place in tuple(self._kept):
            self._forget(place)

    def _drive(self, due: Iterable[_Kept]) -> None:
        for kept in due:
            kept.due = None
            output = kept.output
            if output.safe is None:
                continue
            if kept.line is None:
                del self._kept[output.place]
                self._abandoned.take([output])
                continue
            kept.kept = False
            try:
                kept.line.set(output.safe)
            except OSError as error:
                if error.errno == errno.ENODEV:  # the chip vanished, and may be back
                    self._forget(output.place)
                    self._abandoned.take([output])
                    continue
                self.failed += 1
                self._said.append(f"line {output.line} could NOT be driven to its safe level {output.safe}: {error}")
            else:
                self._said.append(f"line {output.line} is at its safe level {output.safe}")

    def _leave(self, found: _Kept) -> None:
        output, found.owner = found.output, None
        assert output.within is not None
        end = ""
        if output.safe is not None:
            found.due = time.monotonic() + output.within
            end = f"; unless a program takes it over within {output.within:g} s, it goes to {output.safe}"
        self._said.append(f"line {output.line} is kept at its level{end}")

    def _forget(self, place: Place) -> None:
        found = self._kept.pop(place)
        if found.line is not None:
            found.line.close()
