"""The core: the event loop, its queues, timers, poller and monitor. It knows no hardware and no source.

Where it has been compiled, HWLOOP_PURE=1 in the environment runs the sources all the same.
"""

import os
import sys
from collections.abc import Iterable
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Any

LIBRARY = f"_compiled{EXTENSION_SUFFIXES[0]}"
"""The file with the compiled modules of a package. One file for all is loaded faster than one for each."""


class _Finder(FileFinder):
    """Finds the modules of a folder: some in its library, the others as sources, or as bytecode alone."""

    def __init__(self, folder: str, compiled: Iterable[str]) -> None:
        super().__init__(folder, (SourceFileLoader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES))
        self._compiled = frozenset(compiled)
        self._library = os.path.join(folder, LIBRARY)

    def find_spec(self, fullname: str, target: Any = None) -> ModuleSpec | None:
        if fullname.rpartition(".")[2] not in self._compiled:
            return super().find_spec(fullname, target)
        spec = ModuleSpec(fullname, ExtensionFileLoader(fullname, self._library), origin=self._library)
        spec.has_location = True
        return spec


_found: dict[str, Iterable[str]] = {}
"""The compiled modules by folder."""


def _finder(folder: str) -> _Finder:
    """Find the modules of a folder again after a program has emptied Python's cache of finders (`sys.path_hooks`)."""
    if folder not in _found:
        raise ImportError(f"{folder} has no compiled modules", path=folder)
    return _Finder(folder, _found[folder])


sys.path_hooks.insert(0, _finder)


def is_chosen_pure() -> bool:
    """Return whether HWLOOP_PURE asks for the sources."""
    return os.environ.get("HWLOOP_PURE", "") not in ("", "0")


def find_compiled(folder: str, modules: Iterable[str]) -> None:
    """Load these modules of a folder from its library, if it has one; from their sources if HWLOOP_PURE=1."""
    pure = is_chosen_pure()
    if os.path.exists(os.path.join(folder, LIBRARY)) or (pure and os.path.isdir(folder)):  # no zip archive
        _found[folder] = () if pure else modules
        sys.path_importer_cache[folder] = _finder(folder)


find_compiled(
    __path__[0],
    [
        "bases",
        "calls",
        "clock",
        "counters",
        "descriptors",
        "dispatch",
        "gc_schedule",
        "handles",
        "loop_clock",
        "monitor",
        "poller",
        "priority_queues",
        "run_queue",
        "timer_queue",
        "transports",
        "urgency",
    ],
)


def core_kind() -> str:
    """Return "compiled" or "pure", as `loop.statistics().core` does, without importing the loop."""
    found = PathFinder.find_spec(f"{__name__}.dispatch", __path__)
    return "compiled" if found is not None and isinstance(found.loader, ExtensionFileLoader) else "pure"
