"""Protocols of the objects that `Delivery` drives: timed steps and holds import it, and it imports only these."""

from __future__ import annotations

from typing import Protocol

from hwloop.core.event_loop import EventLoop


class DrivenSteps(Protocol):
    """Steps that are handed over when a loop starts or ends."""

    def carry_on(self, loop: EventLoop | None) -> None:
        """Take the remaining steps on `loop`, or in a thread for None."""

    def end(self) -> None:
        """Take no further step, without waiting for a step in progress."""

    def stop(self, timeout: float = 10) -> None:
        """Take no further step, and wait up to `timeout` seconds for a step in progress."""

    def describe(self) -> str:
        """Return what the steps do, and to which device."""
        ...

    def leave_to_parent(self) -> None:
        """End in a forked child."""


class FollowedHold(Protocol):
    """A hold that catches up before each edge is delivered."""

    def due_ns(self) -> int:
        """Return the time of the next `when_held`, in nanoseconds of the factory's clock."""
        ...

    def catch_up(self, until_ns: int) -> None:
        """Call `when_held` as often as it was due by then."""
