"""Errors of hardware: what was attempted, what the system reported, what to do next. Hints, and checks of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

_INTERNAL = frozenset({"hwloop", "firmware_sim", "asyncio"})
"""Packages with frames that say nothing about a device."""


class HardwareError(OSError):
    """A device could not be opened, read or written.

    `str()` reads "<what was tried>: <what the system said>; <what to do next>". It is an `OSError`, so code written
    for bare file descriptors handles it too; `errno` is kept where the system gave one.
    """

    def __init__(self, tried: str, reason: str, hint: str = "", *, errno: int | None = None) -> None:
        super().__init__(f"{tried}: {reason}" + (f"; {hint}" if hint else ""))
        self.tried = tried
        self.reason = reason
        self.hint = hint
        self.errno = errno


def shorten_tracebacks(error: BaseException) -> None:
    """Reduce the tracebacks of hardware errors to the program's own frames, also of those in an exception group.

    The messages of these errors say everything; frames of hwloop and asyncio would only hide the line of the program.
    """
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            shorten_tracebacks(part)
        if error.split(HardwareError)[1] is not None:
            return
    elif not isinstance(error, HardwareError):
        return
    error.__traceback__ = program_frames(error.__traceback__)


def program_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of hwloop and asyncio, or with all frames if there are no others."""
    kept = []
    part = traceback
    while part is not None:
        if part.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _INTERNAL:
            kept.append(part)
        part = part.tb_next
    shortened = None
    for part in reversed(kept):
        shortened = TracebackType(shortened, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return shortened or traceback


def permission_hint(path: str, otherwise: str) -> str:
    """Return what to do where a device node may not be opened: join its group, or `otherwise` if it may not either."""
    import grp
    import os

    try:
        found = os.stat(path)
        group = grp.getgrgid(found.st_gid).gr_name
    except (OSError, KeyError):
        return f"add the user to the group of {path} and log in again"
    if found.st_mode & 0o060 != 0o060:
        return f"group {group} may not use it; {otherwise}"
    return f"add the user to group {group} (sudo usermod -aG {group} USER) and log in again"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" for a misspelt word, or "" where no known one is close."""
    import difflib  # for messages only

    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def check_range(what: str, value: float, least: float, most: float) -> float:
    """`value`, if it is a number from `least` to `most`. Else ValueError (NaN too) or TypeError, with `what` in it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be from {least:g} to {most:g}, not {value!r}")
    return value
