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
from collections.abc import Callable, Iterable, Iterator, Mapping
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


@contextlib.contextmanager
def replaced_in(changed: Iterable[ModuleType], replacing: Mapping[str, ModuleType]) -> Iterator[None]:
    """In this block, give modules that are imported already the names of others, which replace those of their names.

    Only the names that a replacing module has of its own are given, and the module itself.
    """
    by_identity: dict[int, Any] = {}
    for name, module in replacing.items():
        original = sys.modules[name]
        by_identity[id(original)] = module
        for each, value in vars(module).items():
            if not each.startswith("_") and hasattr(original, each):
                by_identity[id(getattr(original, each))] = value
    undo: list[tuple[ModuleType, str, Any]] = []
    for module in changed:
        for name, value in list(vars(module).items()):
            if id(value) in by_identity:
                undo.append((module, name, value))
                setattr(module, name, by_identity[id(value)])
    try:
        yield
    finally:
        for module, name, value in undo:
            if name in vars(module):
                setattr(module, name, value)


class ProgramTime:
    """The functions of the module `time` that programs under test call.

    Parameters:
        clock: the clock of the board.
        sleep: lets time pass, in the thread that calls it.
        pause: waits for a signal, which never comes; ends when the program is ended.
        looked: called whenever the program looks at the time: a program that waits for a moment in a loop without a
            pause lets time pass.
    """

    def __init__(
        self,
        clock: Clock,
        sleep: Callable[[float], None],
        pause: Callable[[], None],
        looked: Callable[[], object],
    ) -> None:
        began, began_ns = time.time_ns(), clock.now_ns()

        def now_ns() -> int:
            looked()
            return clock.now_ns()

        def date_ns() -> int:
            return began + now_ns() - began_ns

        def dated(function: Callable[..., Any]) -> Callable[..., Any]:
            """Return a function of a time of day (seconds) that is the present one by default."""

            def call(seconds: float | None = None, /) -> Any:
                return function(date_ns() / 1e9 if seconds is None else seconds)

            return call

        def sleep_checked(seconds: float) -> None:
            if seconds < 0:
                raise ValueError("sleep length must be non-negative")
            sleep(seconds)

        replaced: dict[str, Callable[..., Any]] = {
            "sleep": sleep_checked,
            "monotonic": lambda: now_ns() / 1e9,
            "monotonic_ns": now_ns,
            "perf_counter": lambda: now_ns() / 1e9,
            "perf_counter_ns": now_ns,
            "time": lambda: date_ns() / 1e9,
            "time_ns": date_ns,
            "localtime": dated(time.localtime),
            "gmtime": dated(time.gmtime),
            "ctime": dated(time.ctime),
            "asctime": lambda moment=None, /: time.asctime(
                time.localtime(date_ns() / 1e9) if moment is None else moment
            ),
            "strftime": lambda form, moment=None, /: time.strftime(
                form, time.localtime(date_ns() / 1e9) if moment is None else moment
            ),
        }
        # Like Python's own, they are no methods where a class keeps them as attributes.
        functions: dict[str, Any] = {name: staticmethod(function) for name, function in replaced.items()}
        self.modules: dict[str, ModuleType] = {
            "time": ProgramModule(time, functions),
            "signal": ProgramModule(signal, {"pause": pause}),
        }
        """By name, the modules that a program imports instead."""

    @contextlib.contextmanager
    def in_modules_of(self, directory: Path) -> Iterator[None]:
        """In this block, replace the names in the modules of a project that are imported already."""
        with replaced_in(_modules_of(directory), self.modules):
            yield


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
