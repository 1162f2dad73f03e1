"""The exceptions that the bindings make of a system call's error number (bindings/python/gpiod/ext/common.c)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator


def failure(number: int, *details: str) -> Exception:
    """Return the exception for an error number; EINVAL is a ValueError. `details` are those of OSError."""
    kind = {errno.EINVAL: ValueError, errno.EOPNOTSUPP: NotImplementedError}.get(number, OSError)
    return kind(number, *(details or (os.strerror(number),)))


@contextlib.contextmanager
def as_the_bindings_raise() -> Iterator[None]:
    """Raise what the bindings make of an OSError in this block."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            raise failure(error.errno) from None
        raise
