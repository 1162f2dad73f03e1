"""Event loops with a fault each, for test_run.py: the conformance run must find it.

The fault shows in CPython's test of `asyncio.to_thread` with a keyword argument, and in no other.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any


class Faulty(asyncio.SelectorEventLoop):
    """Calls `fault()` when a thread is to be given keyword arguments; `fault` then stands for the function."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if isinstance(func, partial) and func.keywords:
            func = self.fault(func)
        return super().run_in_executor(executor, func, *args)

    def fault(self, func: partial[Any]) -> partial[Any]:
        raise NotImplementedError


class Forgetful(Faulty):
    """Drops the keyword arguments."""

    def fault(self, func: partial[Any]) -> partial[Any]:
        return partial(func.func, *func.args)


class Hanging(Faulty):
    """Does not come back."""

    def fault(self, func: partial[Any]) -> partial[Any]:
        time.sleep(1000)
        return func


class Crashing(Faulty):
    """Takes the process with it."""

    def fault(self, func: partial[Any]) -> partial[Any]:
        os._exit(3)


class Once(Faulty):
    """Drops the keyword arguments the first time only; a file remembers that it has."""

    def fault(self, func: partial[Any]) -> partial[Any]:
        try:
            os.close(os.open(os.environ["FAULTY_LOOP_MARK"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return func
        return partial(func.func, *func.args)


class Evaded(Faulty):
    """Has a stock loop made beside it."""

    def fault(self, func: partial[Any]) -> partial[Any]:
        Faulty.__mro__[1]().close()
        return func
