"""The core: the event loop, its queues, timers, poller and monitor. It knows no hardware and no source.

Where it has been compiled, HWLOOP_PURE=1 in the environment runs the sources all the same.
"""

import os
import sys
from collections.abc import Iterable
from importlib.machinery import SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, PathFinder, SourceFileLoader


def choose_sources(folders: Iterable[str]) -> None:
    """Load the modules in these folders from their sources, even compiled ones, if HWLOOP_PURE=1."""
    if os.environ.get("HWLOOP_PURE", "") not in ("", "0"):
        for folder in folders:
            sys.path_importer_cache[folder] = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))


choose_sources(__path__)


def core_kind() -> str:
    """Return "compiled" or "pure", as `loop.statistics().core` does, without importing the loop."""
    found = PathFinder.find_spec(f"{__name__}.dispatch", __path__)
    return "compiled" if found is not None and isinstance(found.loader, ExtensionFileLoader) else "pure"
