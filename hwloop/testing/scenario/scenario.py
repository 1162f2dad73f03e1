"""`Scenario`: a timeline of steps, made in Python or read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hwloop.testing.scenario.errors import ScenarioError
from hwloop.testing.scenario.step import Step

WITHIN = 1.0
"""Seconds that an expectation leaves for it to be met, unless it or its scenario says otherwise."""


@dataclass(frozen=True)
class Scenario:
    """A timeline of what happens on a board, and what a program should do.

    Parameters:
        steps: the steps.
        name: a title for reports.
        board: the board file, relative to the scenario's file; for `hwloop sim`, unless its option --board says
            otherwise.
        seed: the seed, unless the option --seed says otherwise.
        within: seconds that an expectation leaves for it to be met, unless it has its own `within`.
        file: the file that it was read from.
    """

    steps: Sequence[Step]
    name: str = field(default="", kw_only=True)
    board: str | None = field(default=None, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)
    within: float = field(default=WITHIN, kw_only=True)
    file: str = field(default="", kw_only=True, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise ScenarioError(f"{self.file or 'scenario'}: there are no steps")

    @property
    def title(self) -> str:
        """Its name, or else that of its file."""
        return self.name or Path(self.file).name or "scenario"

    @property
    def directory(self) -> Path:
        """The directory in which its relative paths begin."""
        return Path(self.file).parent
