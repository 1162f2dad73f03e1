"""Boards and devices from other packages: found by entry point, or by a path such as "package.module:Class".

A plugin is looked up and imported when a program names it, never before. It is somebody else's code, so everything that
can go wrong on the way becomes a `PluginError` that says which plugin failed, why, and what to do next.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hwloop.core.naming import error_text, short_name
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from pathlib import Path

BOARDS = "hwloop.boards"
DEVICES = "hwloop.devices"
"""Groups of entry points. Each entry point's value is the path of a class."""


class PluginError(ValueError):
    """A board or device of another package that can't be used."""


def installed(group: str) -> dict[str, str]:
    """Return the entry points of `group` that are installed: the path of each one's class, by name."""
    from importlib import metadata  # takes a while, and most programs need none

    return {point.name: point.value for point in metadata.entry_points(group=group)}


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
            import difflib

            close = difflib.get_close_matches(name, dir(found), 1)
            meant = f"; did you mean {close[0]}?" if close else "; correct the name, or install another version of it"
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
        return kind(**arguments)
    except (SystemExit, KeyboardInterrupt, HardwareError):
        raise
    except BaseException as error:
        given = f" with {', '.join(arguments)}" if arguments else " without arguments"
        raise PluginError(
            f"{path}: calling {kind.__name__}{given} failed: {error_text(error)}; "
            "its constructor is to blame, not hwloop"
        ) from error


def _import(path: str, module_name: str, beside: Path | None) -> Any:
    try:
        with _searching(beside):
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
