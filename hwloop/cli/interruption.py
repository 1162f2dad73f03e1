"""Exceptions that Python or a package makes of the interrupt of a signal."""

from __future__ import annotations


def interruption(error: BaseException | None, *, at_start: bool = False) -> KeyboardInterrupt | None:
    """Return the interrupt of a signal from which an exception was made; None for any other exception.

    A signal may come while a class is made, where Python 3.11 raises a RuntimeError from what `__set_name__` raises, or
    in a package that raises an ImportError from whatever keeps it from being imported. With `at_start`, before the
    program has begun, any exception counts; later, others are the program's own, such as one of its clean-up.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        if not (at_start or isinstance(error, ImportError | RuntimeError | SystemError)):
            return None
        error = error.__cause__ or (error.__context__ if at_start or isinstance(error, ImportError) else None)
    return error
