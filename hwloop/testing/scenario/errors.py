"""The errors of scenarios, and the places that they name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


class ScenarioError(ValueError):
    """A scenario that can't be played. The message names the file, the line and the key."""


class ScenarioFailure(AssertionError):
    """An expectation of a scenario was not met, or a step could not be made. The message is the report."""


@dataclass(frozen=True)
class Place:
    """The place of a step in a scenario file.

    Attributes:
        file: the file's name.
        line: the line on which the step begins.
        keys: the lines of its keys.
    """

    file: str
    line: int
    keys: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def error(self, key: str, message: str) -> ScenarioError:
        """Return an error about a key of the step, or with an empty key about the step."""
        line = self.keys.get(key, self.line)
        return ScenarioError(f"{self.file}:{line}: {key}: {message}" if key else f"{self.file}:{line}: {message}")


class KeyProblem(ValueError):
    """A value that makes no sense, with the name of its key."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


def meant(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for a misspelt name; empty if no known one is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
