"""Containment of exceptions raised by user code: callbacks, hooks, `read()` functions, custom sources.

A source calls code that it does not know, from the loop's reader, a timer or a task, and that code may raise anything:
the `CancelledError` of a task whose result it asked for, a `GeneratorExit`, an exception whose `str()` raises. The rule
is the one of asyncio for callbacks: SystemExit and KeyboardInterrupt pass, every other exception is reported once, with
the name of the source, and harms nothing else.

An outage of a device is expected in a program that runs for months; its report is one line of the log, and debug mode
adds the traceback. An exception handler set on the loop gets every report; `context["outage"]` is in those of devices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal

from hwloop.core.naming import error_text, named_place, short_name

logger: logging.Logger = logging.getLogger("hwloop")

EXITS = (SystemExit, KeyboardInterrupt)
"""The exceptions that pass."""


Outage = Literal["retried", "final"]
"""Whether a source that has failed tries again by itself, or is closed."""


def report(
    loop: asyncio.AbstractEventLoop | None,
    source: object,
    message: str,
    error: BaseException,
    *,
    outage: Outage | None = None,
) -> None:
    """Report `error` once: to the loop's exception handler, or to the log where there is no loop.

    An `outage` of a device is one line of the log where the program has no handler of its own and the loop is not in
    debug mode.
    """
    handler = None if loop is None else loop.get_exception_handler()
    if handler is None and (outage is not None or loop is None):
        log_outage(message, error, verbose=loop is None or loop.get_debug())
        return
    assert loop is not None
    if handler is None and not _has_repr(source):
        source = short_name(source)  # asyncio's default handler shows it by its repr
    context: dict[str, Any] = {"message": message, "exception": error, "source": source}
    if outage is not None:
        context["outage"] = outage
    loop.call_exception_handler(context)


def log_outage(message: str, error: BaseException, *, verbose: bool = False) -> None:
    """Log `error` in one line; `verbose` adds its traceback."""
    logger.error("%s: %s", message, error_text(error), exc_info=error if verbose else None)


def run_hooks(
    hooks: Iterable[Callable[[], object]], message: str, failed: Callable[[str, BaseException], object]
) -> None:
    """Call each of `hooks`. One that raises is handed to `failed(message, error)`, and the others still run."""
    for hook in tuple(hooks):
        try:
            hook()
        except EXITS:
            raise
        except BaseException as error:
            failed(f"{message} {named_place(hook)}", error)


def ends_task(loop: asyncio.AbstractEventLoop, error: BaseException) -> bool:
    """Return whether `error`, which awaited user code raised, is the end of the running task itself.

    That is its cancellation, or the closing of its coroutine after the loop has ended. A `CancelledError` or
    `GeneratorExit` that the code raises by itself is an error like any other.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task(loop)
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit) and not loop.is_running()


def as_failure(name: str, error: BaseException) -> Exception:
    """Return `error` as an exception that can be raised in a consumer: not one that would end its task or its loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    failure = RuntimeError(f"{name} failed with {error_text(error)}")
    failure.__cause__ = error
    return failure


def _has_repr(thing: object) -> bool:
    try:
        repr(thing)
    except EXITS:
        raise
    except BaseException:
        return False
    return True
