"""What hardware says when it fails: one exception type that names what was tried, what is wrong and what to do."""

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
