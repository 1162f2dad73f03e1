"""Places in the program: which files belong to the project, and where in them something was created."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from types import FrameType

_HERE = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_INSTALLED = tuple(
    {
        *sysconfig.get_paths().values(),
        *site.getsitepackages(),
        site.getusersitepackages(),
        os.path.dirname(os.__file__),
        os.path.join(_HERE, "hwloop", ""),
        os.path.join(_HERE, "firmware_sim", ""),
    }
    - {"", "/", sys.prefix}
)
_cache: dict[str, bool] = {}


def is_of_project(path: str) -> bool:
    """Return whether a file is part of the project, and not of Python, hwloop or another installed package."""
    known = _cache.get(path)
    if known is None:
        known = _cache[path] = not path.startswith((*_INSTALLED, "<"))
    return known


def place_of_caller(depth: int = 1) -> str:
    """Return the innermost line of the project that has led here, `depth` frames up; empty if there is none."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        if is_of_project(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return ""
