"""Errors of hardware: what was attempted, what the system reported, what to do next; and checks of numbers."""

from __future__ import annotations


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


def check_range(what: str, value: float, least: float, most: float) -> float:
    """`value`, if it is a number from `least` to `most`. Else ValueError (NaN too) or TypeError, with `what` in it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{what} must be from {least:g} to {most:g}, not {value!r}")
    return value
