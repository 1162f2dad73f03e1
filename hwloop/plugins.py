"""Boards and devices from other packages: found by entry point, or by a path such as "package.module:Class".

A plugin is looked up and imported when a program names it, never before. It is somebody else's code, so everything that
can go wrong on the way becomes a `PluginError` that says which plugin failed, why, and what to do next.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hwloop.core.naming import error_text, short_name
from hwloop.errors import HardwareError, suggestion

if TYPE_CHECKING:
    from importlib import metadata
    from pathlib import Path

logger: logging.Logger = logging.getLogger("hwloop")

BOARDS = "hwloop.boards"
DEVICES = "hwloop.devices"
"""Groups of entry points. Each entry point's value is the path of a class."""


class PluginError(ValueError):
    """A board or device of another package that can't be used."""


_warned: set[str] = set()


def installed(group: str, built_in: Collection[str]) -> dict[str, str]:
    """Return the entry points of `group` that are installed: the path of each one's class, by name.

    A name in `built_in` stays hwloop's own, and among packages the first one in `sys.path` has the name. Logs, once,
    the packages whose entry points have no effect.
    """
    from importlib import metadata  # takes a while, and most programs need none

    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=group):
        first = found.setdefault(point.name, point)
        if point.name in built_in:
            del found[point.name]
            owner = "hwloop itself has one of this name"
        elif first.value != point.value:
            owner = f"the one of the package {_package(first)} has this name"
        else:
            continue
        text = (
            f"package {_package(point)}: the entry point {point.name!r} in {group} has no effect, because {owner}; "
            "give it another name"
        )
        if text not in _warned:
            _warned.add(text)
            logger.warning("%s", text)
    return {name: point.value for name, point in found.items()}


def _package(point: metadata.EntryPoint) -> str:
    return point.value.partition(":")[0] if point.dist is None else point.dist.name


def load_class(path: str, *, beside: Path | None = None) -> type[Any]:
    """Import the class at `path`. With `beside`, modules in that directory are found too. Raises `PluginError`."""
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise PluginError(f"{path!r} does not name a class; write package.module:Class")
    found = _import(path, module_name, beside)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            meant = suggestion(name, dir(found)) or "; correct the name, or install another version of it"
            raise PluginError(f"{path}: {module_name} has no {name}{meant}") from None
    if not isinstance(found, type):
        raise PluginError(f"{path}: {short_name(found)} is not a class; name the class itself")
    return found


def has_parameter(kind: type[Any], name: str) -> bool:
    """Return whether a plugin's class can be called with an argument `name`."""
    import inspect

    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def make(kind: type[Any], path: str, arguments: Mapping[str, Any]) -> Any:
    """Call a plugin's class. Raises `PluginError`, or the `HardwareError` that the class raised."""
    try:
        with exits_logged(f"{path}: calling {kind.__name__}"):
            return kind(**arguments)
    except (SystemExit, KeyboardInterrupt, HardwareError):
        raise
    except BaseException as error:
        given = f" with {', '.join(arguments)}" if arguments else " without arguments"
        raise PluginError(
            f"{path}: calling {kind.__name__}{given} failed: {error_text(error)}; "
            "its constructor is to blame, not hwloop; 'hwloop run --debug' shows where"
        ) from error


@contextlib.contextmanager
def exits_logged(call: str) -> Iterator[None]:
    """Log a sys.exit() in this block, which `call` describes: else the program would end without a word."""
    try:
        yield
    except SystemExit as exit:
        logger.error(
            "%s called sys.exit(%s), which ends the program; let it raise an error instead", call, short_name(exit.code)
        )
        raise


def _import(path: str, module_name: str, beside: Path | None) -> Any:
    try:
        with _searching(beside), exits_logged(f"{path}: importing {module_name}"):
            return importlib.import_module(module_name)
    except (SystemExit, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise PluginError(
                f"{path}: {module_name} needs the module {error.name}, which is not installed; install it"
            ) from error
        raise PluginError(
            f"{path}: there is no module {error.name}; install its package, or add its directory to PYTHONPATH"
        ) from error
    except BaseException as error:
        raise PluginError(
            f"{path}: importing {module_name} failed: {error_text(error)}; "
            f"'python -c \"import {module_name}\"' shows where"
        ) from error


@contextlib.contextmanager
def _searching(directory: Path | None) -> Iterator[None]:
    """Find modules in `directory` as well for this block, after those that are installed."""
    entry = "" if directory is None else str(directory.resolve())
    if not entry or entry in sys.path:
        yield
        return
    sys.path.append(entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
