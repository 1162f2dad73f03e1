"""A machine for tests of installations: directories below a test's own, and a systemd that does as the test says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hwloop.deployment import devices
from hwloop.deployment.environment import RECORD, Plan
from hwloop.deployment.files import make_directory
from hwloop.deployment.installation import Services
from hwloop.deployment.interpreter import Interpreter
from hwloop.deployment.layout import Layout
from hwloop.deployment.order import Order
from hwloop.deployment.own_wheel import Wheel
from hwloop.deployment.program import find_program
from hwloop.deployment.starting import Starter
from hwloop.deployment.systemctl import OfflineSystemctl, State

PYTHON = Interpreter("/usr/bin/python3.11", (3, 11, 2), "/usr/lib/python3.11", "cpython-311 linux")
UP = State(active="active", sub="running", result="success")
FAILED = State(active="failed", result="exit-code", code="1", status=1)


@dataclass
class FakeSystemctl:
    """A systemd that notes what it is asked, and starts units as `outcomes` say; in the end each one is up."""

    layout: Layout
    running: bool = True
    calls: list[str] = field(default_factory=list)
    outcomes: list[State | BaseException] = field(default_factory=list)
    later: State | None = None
    """The state in which a unit is found some time after it was ready."""
    lines: list[str] = field(default_factory=lambda: ["Traceback …", "ValueError: no sensor"])
    now: State = field(default_factory=lambda: State(active="inactive", result="success"))

    def reload(self) -> None:
        self.calls.append("reload")

    def enable(self, unit: str) -> None:
        self.calls.append(f"enable {unit}")
        OfflineSystemctl(self.layout).enable(unit)

    def disable(self, unit: str) -> None:
        self.calls.append(f"disable {unit}")
        OfflineSystemctl(self.layout).disable(unit)

    def restart(self, unit: str) -> bool:
        self.calls.append(f"restart {unit}")
        outcome = self.outcomes.pop(0) if self.outcomes else UP
        if isinstance(outcome, BaseException):
            raise outcome
        self.now = outcome
        return outcome.active in ("active", "inactive")

    def restart_running(self, unit: str) -> None:
        self.calls.append(f"restart_running {unit}")

    def stop(self, unit: str) -> None:
        self.calls.append(f"stop {unit}")
        self.now = State(active="inactive", result="success")

    def state(self, unit: str) -> State:
        return self.now

    def log(self, unit: str, lines: int, since: float = 0.0) -> list[str]:
        return self.lines

    def show_log(self, unit: str, lines: int, *, follow: bool) -> int:
        self.calls.append(f"log {unit} {lines} {follow}")
        return 0

    def settle(self, seconds: float) -> None:
        if self.later is not None:
            self.now, self.later = self.later, None


@dataclass
class FakeAccounts:
    """Accounts that were asked for."""

    present: list[str] = field(default_factory=list)

    def add(self, user: str, groups: Iterable[str]) -> list[str]:
        wanted = [*(f"group {group}" for group in groups), *([f"user {user}"] if user else [])]
        added = [each for each in wanted if each not in self.present]
        self.present += added
        return added

    def remove_added(self) -> list[str]:
        removed, self.present = self.present, []
        return removed


@dataclass
class FakeBuilder:
    """Makes directories that look like environments."""

    root: Path
    built: list[Plan] = field(default_factory=list)
    fails: BaseException | None = None
    packages: list[str] = field(default_factory=list)

    def build(self, plan: Plan, directory: Path) -> str:
        self.built.append(plan)
        make_directory(directory / "bin", root=self.root)
        if self.fails is not None:
            raise self.fails
        (directory / "bin/python").symlink_to(plan.python.executable)
        (directory / RECORD).write_text(json.dumps({"packages": self.packages}))
        return "fake"


class Machine:
    """A machine below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root)
        self.systemctl = FakeSystemctl(self.layout)
        self.accounts = FakeAccounts()
        self.builder = FakeBuilder(root)
        self.said: list[str] = []
        starter = Starter(self.systemctl, self.said.append, self.systemctl.settle)
        self.services = Services(self.layout, self.systemctl, self.accounts, self.builder, self.said.append, starter)

    def order(
        self, program: Path, *, requirements: tuple[str, ...] = (), hwloop: bytes = b"1", **changes: object
    ) -> Order:
        """Return the order of a service `door` for a program in a file."""
        values: dict[str, object] = {
            "name": "door",
            "program": find_program(str(program)),
            "plan": Plan(PYTHON, Wheel("hwloop-1-py3-none-any.whl", "1", hwloop), requirements),
            "options": _no_options,
            "extra": {},
            "devices": devices.named(["gpio"]),
            "user": "hwloop",
            "realtime": 0,
            "start_timeout": 30.0,
        }
        return Order(**(values | changes))  # type: ignore[arg-type]

    def files(self) -> list[str]:
        """Return all files, links and directories, without those that were there before."""
        return sorted(
            str(Path(path, name).relative_to(self.root))
            for path, folders, names in os.walk(self.root)
            for name in (*folders, *names)
        )

    def unit(self, name: str = "door") -> str:
        """Return the text of the unit that systemd has."""
        return self.layout.service(name).unit.read_text()


def _no_options(files: str) -> tuple[str, ...]:
    return ()
