"""The order of a service: everything that an installation is asked for, in one object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hwloop.deployment.devices import Devices
from hwloop.deployment.environment import Plan
from hwloop.deployment.program import Program


@dataclass(frozen=True)
class Order:
    """A service to install.

    Attributes:
        name: its name.
        program: its program.
        plan: its environment.
        options: returns further words for `hwloop run` and the program, given the directory of the release's files.
        extra: files of the release besides those of the program: a board file.
        devices: the devices that it may open; None for those that its text shows.
        user: the user to run as; "" for a dynamic one.
        realtime: the highest priority; 0 without real time.
        start_timeout: seconds until it must be ready.
        has_loop: whether it has an event loop, which feeds the watchdog.
        network: whether it gets the network; None if its text decides.
        guarded: whether a guardian holds its kept outputs, even if its text shows none.
        start: whether to start it.
    """

    name: str
    program: Program
    plan: Plan
    options: Callable[[str], tuple[str, ...]]
    extra: dict[str, bytes]
    devices: Devices | None
    user: str
    realtime: int
    start_timeout: float
    has_loop: bool = True
    network: bool | None = None
    guarded: bool = False
    start: bool = True
