"""Faults of a line: a level that is forced on it, and a contact that bounces."""

from __future__ import annotations

from collections.abc import Callable


class Hold:
    """A level that a fault forces on a line, whatever drives or pulls it. Of two that disagree, low wins.

    Attributes:
        level: 0 or 1; None lets the line go.
    """

    def __init__(self, holds: list[Hold], resolve: Callable[[], None]) -> None:
        self.level: int | None = None
        self._holds = holds
        self._resolve = resolve
        holds.append(self)

    def set(self, level: int | None) -> None:
        """Force another level, or let the line go. The timeline's lock is held."""
        self.level = level
        self._resolve()

    def end(self) -> None:
        """Let the line go for good. The timeline's lock is held."""
        self._holds.remove(self)
        self._resolve()


class Contact:
    """The contact between a part and its line, which a fault may open and close although the part stands still.

    Attributes:
        bouncing: whether `level` counts instead of what the part does.
        level: what it drives while it bounces: 0, 1, or None while it is open.
        moved: called as `moved(before, now)` when the part drives another level, just before the line has it.
    """

    def __init__(
        self,
        contacts: list[Contact],
        moved: Callable[[int | None, int | None], object],
        resolve: Callable[[], None],
    ) -> None:
        self.bouncing: bool = False
        self.level: int | None = None
        self.moved: Callable[[int | None, int | None], object] = moved
        self._contacts = contacts
        self._resolve = resolve
        contacts.append(self)

    def touch(self, level: int | None) -> None:
        """Drive a level as the part would, or open. The timeline's lock is held."""
        self.bouncing, self.level = True, level
        self._resolve()

    def rest(self) -> None:
        """Do what the part does. The timeline's lock is held."""
        self.bouncing = False
        self._resolve()

    def end(self) -> None:
        """Do what the part does, and bounce no more. The timeline's lock is held."""
        self._contacts.remove(self)
        self.rest()
