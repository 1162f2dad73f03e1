"""The core: the event loop, its queues, timers, poller and monitor. It knows no hardware and no source.

Where it has been compiled (`make compiled`), HWLOOP_PURE=1 in the environment runs the sources all the same.
"""

import os

if os.environ.get("HWLOOP_PURE", "") not in ("", "0"):
    import sys
    from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

    for _folder in __path__:
        sys.path_importer_cache[_folder] = FileFinder(_folder, (SourceFileLoader, SOURCE_SUFFIXES))
