"""Reports of open outputs to a guardian, before they are driven: the seam between outputs and `hwloop.service.guard`.

Outputs must be reported, and know nothing of services; a service knows how to report, and is not needed by most
programs. So an output holds an `OutputReport`, and `hwloop.runner`, which is imported with hwloop, sets the function
that finds the reporter of this process. That import must not load the requests, which a program without lines never
needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hwloop.lines import Level
    from hwloop.requests import OutputRequest


class KeptLine:
    """A line that a guardian has held since another program left it.

    Attributes:
        descriptor: the descriptor of its request, which belongs to the caller; -1 for a simulated line.
        kept: whether it still is at the level at which that program left it, and not at its safe level.
    """

    __slots__ = ("descriptor", "kept")  # a named tuple takes as long to define as a module to load

    def __init__(self, descriptor: int, kept: bool) -> None:
        self.descriptor: int = descriptor
        self.kept: bool = kept


class OutputReporter(Protocol):
    """Reports the open outputs of this process. No call raises: a failed report must not fail the program."""

    @property
    def guarded(self) -> bool:
        """Whether a guardian listens, as far as is known."""

    def opened(self, request: OutputRequest, safe: Level | None, board: str, within: float | None) -> int:
        """Report an output that is about to be driven, and return its key.

        `board` is the board's address, as `hwloop.board.reached` takes it; `within` is as for `OutputReport.opening`.
        """

    def take(self, key: int) -> KeptLine | None:
        """Return the line of an output that was reported, if the guardian holds it."""

    def hand_over(self, key: int, fd: int) -> bool:
        """Let the guardian hold the line of an output too; return whether it does."""

    def holds(self, key: int) -> bool:
        """Return whether the guardian holds the line of an output."""

    def left(self, key: int) -> bool:
        """Leave the line of an output to the guardian, as it is; return whether that holds it."""

    def driven(self, key: int) -> None:
        """The program drives the output now, from the running loop, if there is one."""

    def closed(self, key: int) -> None:
        """Report an output that is closed and at its safe level."""


def _no_reporter() -> OutputReporter | None:
    return None


_find: Callable[[], OutputReporter | None] = _no_reporter


def find_reporter_with(find: Callable[[], OutputReporter | None]) -> None:
    """Set the function that returns the reporter of this process, or None where no guardian asks for reports."""
    global _find
    _find = find


class OutputReport:
    """The report of one output: nothing, where no guardian asks for reports."""

    def __init__(self) -> None:
        self._reporter: OutputReporter | None = None
        self._key = 0

    @property
    def guarded(self) -> bool:
        """Whether a guardian knows of the output."""
        return self._reporter is not None and self._reporter.guarded

    def opening(self, request: OutputRequest, safe: Level | None, board: str, within: float | None = None) -> None:
        """Report the output before it is driven, so that it can be made safe if this process no longer can.

        `within` are the seconds within which another program must take over a line that is kept; None for others.
        """
        reporter = _find()
        if reporter is not None:
            self._reporter, self._key = reporter, reporter.opened(request, safe, board, within)

    def take(self) -> KeptLine | None:
        """Return the line of the output, if a guardian has held it since another program left it."""
        return None if self._reporter is None else self._reporter.take(self._key)

    def hand_over(self, fd: int) -> bool:
        """Let the guardian hold the line too; return whether it does. `fd` is its descriptor, -1 if simulated."""
        return self._reporter is not None and self._reporter.hand_over(self._key, fd)

    @property
    def held(self) -> bool:
        """Whether a guardian holds the line."""
        return self._reporter is not None and self._reporter.holds(self._key)

    def left(self) -> bool:
        """Leave the line to the guardian, as it is; return whether that holds it. Nothing is reported afterwards."""
        reporter, self._reporter = self._reporter, None
        return reporter is not None and reporter is _find() and reporter.left(self._key)

    def driven(self) -> None:
        """Note that the running loop drives the output, so that the guardian watches that loop."""
        if self._reporter is not None:
            self._reporter.driven(self._key)

    def closed(self) -> None:
        """Report that the output is at its safe level. In a forked child the report remains its parent's."""
        reporter, self._reporter = self._reporter, None
        if reporter is not None and reporter is _find():
            reporter.closed(self._key)
