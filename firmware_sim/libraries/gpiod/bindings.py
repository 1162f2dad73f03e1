"""The package gpiod on simulated chips: under its own name, as programs import it, or as a copy for one board.

The package is taken as it is installed, but for its extension module. A program that has imported it already has its
classes, and they find the extension through their modules: so it is exchanged there, and put back afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from types import ModuleType
from typing import Any

from firmware_sim.descriptors import descriptors
from firmware_sim.gpio_device import ChipHandle, RequestHandle
from firmware_sim.libraries.gpiod.extension import Extension
from firmware_sim.nodes import Nodes

_NAME = "gpiod"
_EXTENSION = "_ext"
_HOW_TO_GET = "pip install 'gpiod>=2.2', or on Debian 13 and later apt install python3-libgpiod"

_copies = itertools.count(1)


@contextlib.contextmanager
def redirected(nodes: Nodes) -> Iterator[None]:
    """Lead the package, imported before or in this block, to simulated devices."""
    extension = Extension(f"{_NAME}.{_EXTENSION}", nodes)
    finder = _Finder(extension)
    before = _loaded()
    users = [module for module in before.values() if hasattr(module, _EXTENSION)]
    replaced = [(module, _EXTENSION, getattr(module, _EXTENSION)) for module in users]
    if users:
        extension.package = before[_NAME]
        sys.modules[extension.__name__] = extension
        for module in users:
            setattr(module, _EXTENSION, extension)
        replaced += _wait_on_the_clock(extension.package)
    else:  # none, or the bindings of libgpiod 1, which are of no use here
        for name in before:
            del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for module, attribute, its_own in replaced:
            setattr(module, attribute, its_own)
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(before)


def load_copy(nodes: Nodes) -> ModuleType:
    """Return the package on simulated devices, in a copy that no program sees. Raises ImportError."""
    name = f"{__name__}.copy{next(_copies)}"
    found = _find()
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location(
        name, found.origin, submodule_search_locations=list(found.submodule_search_locations or ())
    )
    assert spec is not None
    assert spec.loader is not None
    extension = Extension(f"{name}.{_EXTENSION}", nodes)
    package = importlib.util.module_from_spec(spec)
    sys.modules.update({name: package, extension.__name__: extension})
    try:
        spec.loader.exec_module(package)
    finally:
        for module in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[module]
    extension.package = package
    _wait_on_the_clock(package)
    return package


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the package as it is installed, and another extension module in it."""

    def __init__(self, extension: Extension) -> None:
        self._extension = extension

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == self._extension.__name__:
            return importlib.machinery.ModuleSpec(name, self)
        if name != _NAME:
            return None
        spec = _find()
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            self._extension.package = module
            load(module)
            _wait_on_the_clock(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._extension

    def exec_module(self, module: ModuleType) -> None:
        pass


def _wait_on_the_clock(package: Any) -> list[tuple[ModuleType, str, Any]]:
    """Have the package wait for events in virtual time where that is the board's; return what this has replaced.

    Its one function that waits is imported by two of its modules.
    """
    replaced: list[tuple[ModuleType, str, Any]] = []
    for module in (package.chip, package.line_request):
        replaced.append((module, "poll_fd", module.poll_fd))
        module.poll_fd = functools.partial(_poll_fd, module.poll_fd)
    return replaced


def _poll_fd(real: Callable[..., bool], fd: int, timeout: timedelta | float | None = None) -> bool:
    """Wait until `fd` is readable, for `timeout` at most; return whether it is."""
    handle = descriptors.handle(fd)
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if not isinstance(handle, ChipHandle | RequestHandle) or not handle.events.virtual or (seconds or 0) < 0:
        return real(fd, timeout)
    return handle.poll(seconds)


def _find() -> importlib.machinery.ModuleSpec:
    """Return where the package is installed. Raises ImportError where it is not, or is of libgpiod 1."""
    spec = importlib.machinery.PathFinder.find_spec(_NAME)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(
            f"No module named {_NAME!r}: the simulated board runs the package's own Python code, and it is not "
            f"installed; {_HOW_TO_GET}",
            name=_NAME,
        )
    locations = spec.submodule_search_locations or ()
    if importlib.machinery.PathFinder.find_spec(f"{_NAME}.line_settings", list(locations)) is None:
        raise ImportError(
            f"{spec.origin} is of libgpiod 1, whose bindings the simulated board does not run; {_HOW_TO_GET}",
            name=_NAME,
        )
    return spec


def _loaded() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name == _NAME or name.startswith(f"{_NAME}.")}
