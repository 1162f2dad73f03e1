"""The time of programs under test: `time.sleep`, `time.monotonic` and their like, on the clock of the board.

A script sleeps and measures with the module `time`. In a test, the modules of the project find the board's time there:
sleeping lets the board go on, and takes no real time in virtual time. Only the modules of the project are changed, and
only while the test runs: the libraries, pytest and other threads keep the real time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hwloop.core.clock import Clock
from hwloop.testing.places import is_of_project


class ProgramModule(ModuleType):
    """A module with some names replaced."""

    def __init__(self, original: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(names)
        self.__dict__["_original"] = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


class ProgramTime:
    """The functions of the module `time` that programs under test call.

    Parameters:
        clock: the clock of the board.
        sleep: lets time pass, in the thread that calls it.
        pause: waits for a signal, which never comes; ends when the program is ended.
    """

    def __init__(self, clock: Clock, sleep: Callable[[float], None], pause: Callable[[], None]) -> None:
        began, began_ns = time.time_ns(), clock.now_ns()
        now_ns = clock.now_ns

        def sleep_checked(seconds: float) -> None:
            if seconds < 0:
                raise ValueError("sleep length must be non-negative")
            sleep(seconds)

        replaced = {
            "sleep": sleep_checked,
            "monotonic": lambda: now_ns() / 1e9,
            "monotonic_ns": lambda: now_ns(),
            "perf_counter": lambda: now_ns() / 1e9,
            "perf_counter_ns": lambda: now_ns(),
            "time": lambda: (began + now_ns() - began_ns) / 1e9,
            "time_ns": lambda: began + now_ns() - began_ns,
        }
        self.modules: dict[str, ModuleType] = {
            "time": ProgramModule(time, replaced),
            "signal": ProgramModule(signal, {"pause": pause}),
        }
        """By name, the modules that a program imports instead."""
        self._by_identity: dict[int, Any] = {id(getattr(time, name)): value for name, value in replaced.items()}
        self._by_identity[id(time)] = self.modules["time"]
        self._by_identity[id(signal)] = self.modules["signal"]
        self._by_identity[id(signal.pause)] = pause

    @contextlib.contextmanager
    def in_modules_of(self, directory: Path) -> Iterator[None]:
        """In this block, replace the names in the modules of a project that are imported already."""
        changed: list[tuple[dict[str, Any], str, Any]] = []
        for module in _modules_of(directory):
            names = module.__dict__
            for name, value in list(names.items()):
                if id(value) in self._by_identity:
                    changed.append((names, name, value))
                    names[name] = self._by_identity[id(value)]
        try:
            yield
        finally:
            for names, name, value in changed:
                if name in names:
                    names[name] = value


_found: dict[str, tuple[object, list[ModuleType]]] = {}
"""By directory: the state of `sys.modules`, and the modules of the project in it."""


def _modules_of(directory: Path) -> list[ModuleType]:
    """Return the modules of a project that are imported by now."""
    inside = f"{directory}{os.sep}"
    state = (len(sys.modules), next(reversed(sys.modules)))
    known = _found.get(inside)
    if known is None or known[0] != state:
        known = _found[inside] = state, list(_find_modules(inside))
    return known[1]


def _find_modules(inside: str) -> Iterator[ModuleType]:
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str):
            continue
        if path.startswith(inside) and is_of_project(path):
            yield module
