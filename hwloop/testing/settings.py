"""The settings of a test with the fixture `board`: its mark, the command line, the ini file, the environment."""

from __future__ import annotations

import dataclasses
import datetime
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from hwloop.testing.places import is_of_project
from hwloop.testing.program_modules import KEPT
from hwloop.testing.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Settings:
    """The arguments of `@pytest.mark.hwloop(...)`, completed."""

    board: str | os.PathLike[str] | Mapping[str, object] | None = None
    seed: int | Literal["random"] | None = None
    clock: Literal["virtual", "real"] = "virtual"
    limit: float | None = None
    backend: Literal["auto", "lgpio"] = "auto"
    explore: int = 0
    """How many schedules of faults the test runs under."""
    faults: tuple[str, ...] | None = None
    """The names of the faults of these schedules; None for all that the board can have."""
    leftovers: bool = True
    """Whether the test fails if it leaves a thread, a descriptor, a process, a task or a claimed line behind."""
    date: str | None = None
    """The time of day at which the test begins, in ISO format, for programs without a loop; None for the real one."""
    directory: Path = Path()
    """The directory of the test, where the relative paths of its golden files begin."""
    update_golden: bool = False
    project: Path = Path()
    """The root of the project, whose modules find the board's time in `time`."""
    has_loop: bool = False
    """Whether the test, or a fixture that it uses, is async: then its program has a loop."""
    kept: frozenset[str] = frozenset()
    """Packages that keep the real time: pytest and its plugins."""


SCHEDULE = pytest.StashKey[Schedule]()
"""The schedule of faults of the present run of a test."""

PROBLEM = pytest.StashKey[str]()
"""A mistake in the arguments of a mark that only the board could show."""

_NOT_MARKED = {"directory", "update_golden", "project", "has_loop", "kept"}
FIELDS = {field.name for field in dataclasses.fields(Settings)} - _NOT_MARKED


def marked(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of a test's marks, those of the closest mark first. Raises UsageError."""
    found: dict[str, Any] = {}
    for mark in item.iter_markers("hwloop"):  # the closest first
        where = f"{item.nodeid}: @pytest.mark.hwloop"
        known = ", ".join(f"{name}=" for name in sorted(FIELDS))
        if mark.args:
            raise pytest.UsageError(f"{where} takes no positional arguments; name them: {known}")
        if unknown := mark.kwargs.keys() - FIELDS:
            raise pytest.UsageError(
                f"{where} has no argument {', '.join(f'{name}=' for name in sorted(unknown))}; there are: {known}"
            )
        found = {**mark.kwargs, **found}
    return found


def settings_of(item: pytest.Item) -> Settings:
    """Return the settings of a test. Raises UsageError for those that make no sense."""
    given = marked(item)
    where = f"{item.nodeid}: @pytest.mark.hwloop"
    seed = given.get("seed")
    if (isinstance(seed, bool) or not isinstance(seed, int)) and seed not in (None, "random"):
        raise pytest.UsageError(f"{where}: seed is a whole number or 'random', not {seed!r}")
    if (clock := given.get("clock", "virtual")) not in ("virtual", "real"):
        raise pytest.UsageError(f"{where}: clock is 'virtual' or 'real', not {clock!r}")
    if (backend := given.get("backend", "auto")) not in ("auto", "lgpio"):
        raise pytest.UsageError(
            f"{where}: backend is 'lgpio' or 'auto', not {backend!r}: the simulated board speaks lgpio's protocol"
        )
    limit = given.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0):
        raise pytest.UsageError(f"{where}: limit is a number of seconds above 0, not {limit!r}")
    if item.config.getoption("hwloop_realtime"):
        clock = "real"
    callspec = getattr(item, "callspec", None)
    seed = callspec.params.get("hwloop_seed", seed) if callspec is not None else seed
    if os.environ.get("HWLOOP_SEED"):
        seed = None  # which the loop replaces by that of the environment, as the report of a failure says
    if SCHEDULE in item.stash:
        seed = item.stash[SCHEDULE].seed
    if PROBLEM in item.stash:
        raise pytest.UsageError(f"{where}: {item.stash[PROBLEM]}")
    if given.get("explore") and clock == "real":
        raise pytest.UsageError(f"{where}: explore needs virtual time")
    leftovers = given.get("leftovers", True)
    if not isinstance(leftovers, bool):
        raise pytest.UsageError(f"{where}: leftovers is True or False, not {leftovers!r}")
    return Settings(
        _board(item, given),
        schedule.seed
        if (schedule := item.stash.get(SCHEDULE, None)) is not None
        else seed
        if clock == "virtual"
        else None,
        clock,
        limit,
        backend,
        *exploration_of(item),
        leftovers,
        _date(given.get("date"), where, clock),
        item.path.parent,
        bool(item.config.getoption("hwloop_update_golden")),
        item.config.rootpath,
        _has_loop(item),
        _kept(item.config),
    )


def _date(date: object, where: str, clock: str) -> str | None:
    """Return the setting `date`. Raises UsageError for one that is no date, and in real time."""
    if date is None:
        return None
    try:
        datetime.datetime.fromisoformat(str(date))
    except ValueError:
        raise pytest.UsageError(f"{where}: date is like '2026-12-24 18:00', not {date!r}") from None
    if clock == "real":
        raise pytest.UsageError(f"{where}: date needs virtual time")
    return str(date)


def _has_loop(item: pytest.Item) -> bool:
    """Return whether a test or one of its fixtures is async."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = (each.func for name in item.fixturenames for each in item._fixtureinfo.name2fixturedefs.get(name, ()))
    functions = (item.obj, *fixtures)
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in functions)


_KEPT = pytest.StashKey[frozenset[str]]()


def _kept(config: pytest.Config) -> frozenset[str]:
    """Return the packages of pytest's plugins, and others that must keep the real time."""
    if _KEPT not in config.stash:
        names = {getattr(each, "__name__", type(each).__module__) for each in config.pluginmanager.get_plugins()}
        modules = {name: sys.modules.get(name) for name in names}
        found = {
            name.partition(".")[0]
            for name, module in modules.items()
            if module is not None and not is_of_project(getattr(module, "__file__", None) or "<")
        }
        config.stash[_KEPT] = KEPT | found
    return config.stash[_KEPT]


def exploration_of(item: pytest.Item) -> tuple[int, tuple[str, ...] | None]:
    """Return the number of schedules and the names of faults in a test's marks. Raises UsageError."""
    given = marked(item)
    where = f"{item.nodeid}: @pytest.mark.hwloop"
    runs, faults = given.get("explore", 0), given.get("faults")
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 0:
        raise pytest.UsageError(f"{where}: explore is a number of schedules, not {runs!r}")
    if faults is not None and (isinstance(faults, str) or not all(isinstance(name, str) for name in faults)):
        raise pytest.UsageError(f"{where}: faults is a list of names of faults, not {faults!r}")
    return runs, None if faults is None else tuple(faults)


def _board(item: pytest.Item, given: dict[str, Any]) -> str | Path | Mapping[str, object] | None:
    """Return the board of a test: that of its mark, else of the ini file, else a file beside the test, else none."""
    beside = item.path.parent
    if "board" in given:
        board = given["board"]
        if board is None or isinstance(board, Mapping):
            return board
        if not isinstance(board, str | os.PathLike):
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.hwloop: board is a board file, 'sim', or a mapping like a board file, "
                f"not {board!r}"
            )
        if board == "sim":
            return "sim"
        return _file(item, os.fspath(board), [beside, item.config.rootpath], "@pytest.mark.hwloop(board=...)")
    if ini := item.config.getini("hwloop_board"):
        assert isinstance(ini, str)
        directory = item.config.inipath.parent if item.config.inipath is not None else item.config.rootpath
        return "sim" if ini == "sim" else _file(item, ini, [directory], "hwloop_board in the ini file")
    path = beside / "board.toml"
    return path if path.is_file() else None


def _file(item: pytest.Item, name: str, directories: list[Path], where: str) -> Path:
    for directory in directories:
        if (path := directory / name).is_file():
            return path
    tried = " or ".join(str(directory / name) for directory in dict.fromkeys(directories))
    raise pytest.UsageError(f"{item.nodeid}: {where}: no board file {tried}")
