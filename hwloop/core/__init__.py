"""The core: the event loop, its queues, timers, poller and monitor. It knows no hardware and no source.

Where it has been compiled, HWLOOP_PURE=1 in the environment runs the sources all the same.
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, PathFinder, SourceFileLoader

if os.environ.get("HWLOOP_PURE", "") not in ("", "0"):
    for _folder in __path__:
        sys.path_importer_cache[_folder] = FileFinder(_folder, (SourceFileLoader, SOURCE_SUFFIXES))


def core_kind() -> str:
    """Return "compiled" or "pure", as `loop.statistics().core` does, without importing the loop."""
    found = PathFinder.find_spec(f"{__name__}.dispatch", __path__)
    return "compiled" if found is not None and isinstance(found.loader, ExtensionFileLoader) else "pure"
