"""The files of devices that a script has left open, and the objects that have them.

The end of a process closes its descriptors, and no object of the process closes one afterwards. A script under test
ends, and its process goes on: an object that closed its descriptor later, when Python deletes it, would close whatever
has that number then. So the objects close them: pyserial's and smbus2's, and Python's own files.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
from collections.abc import Collection

from firmware_sim.descriptors import descriptors


def close_left(numbers: Collection[int]) -> None:
    """Close these descriptors of simulated devices."""
    if not numbers:
        return
    bus = getattr(sys.modules.get("smbus2"), "SMBus", io.IOBase)
    # A file is a stack of objects, and the upper ones write what they still have.
    for kinds in ((io.TextIOBase, io.BufferedIOBase), (io.IOBase, bus)):
        for each in gc.get_objects():
            if issubclass(type(each), kinds) and _number_of(each) in numbers:
                with contextlib.suppress(Exception):
                    each.close()
    for number in descriptors.numbers().intersection(numbers):
        descriptors.close(number)


def _number_of(file: object) -> int | None:
    """Return the descriptor of an open file or bus."""
    if not isinstance(file, io.IOBase):
        return getattr(file, "fd", None)
    try:
        return file.fileno()
    except Exception:  # closed, without one, or half made: it is anybody's
        return None
