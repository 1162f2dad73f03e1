"""The C library, for calls that Python does not offer: loaded here and nowhere else.

Each load leaves something behind in ctypes, so every user of the process shares these two.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes


@functools.cache
def c_library(*, keep_gil: bool) -> ctypes.CDLL:
    """Return the C library, whose functions set `ctypes.get_errno()`.

    With `keep_gil` other threads stand still during a call, which suits one that takes less time than releasing the
    global interpreter lock and taking it again.
    """
    import ctypes  # late: importing hwloop does not need it

    return (ctypes.PyDLL if keep_gil else ctypes.CDLL)(None, use_errno=True)
