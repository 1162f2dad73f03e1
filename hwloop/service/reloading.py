"""Reloading: SIGHUP has a service read its configuration again, without an interruption of its work.

`systemctl reload` of a unit with `Type=notify-reload`, or with `ExecReload=kill -HUP $MAINPID`, sends it. systemd then
expects RELOADING=1 with the time of CLOCK_MONOTONIC, and READY=1 when it is done (sd_notify(3)).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hwloop.core.naming import error_text, short_name
from hwloop.service import lifecycle
from hwloop.service.messages import notify, status

logger: logging.Logger = logging.getLogger("hwloop.service")


@contextlib.contextmanager
def reloadable(hook: Callable[[], object]) -> Iterator[None]:
    """In this block, have SIGHUP call `hook()`, a function or a coroutine function, on the running loop.

        with service.reloadable(read_configuration):
            await work()

    systemd sees when that begins and ends. A signal that comes meanwhile causes one more call afterwards. A hook that
    raises is reported, and the service goes on as it was. Without the block, SIGHUP ends a program that `hwloop run`
    runs. Raises TypeError for a hook that can't be called, and RuntimeError outside of the main thread, where Python
    handles no signal.
    """
    if not callable(hook):
        raise TypeError(f"reloadable() takes a function without parameters, not {short_name(hook)}")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals arrive in the main thread: use reloadable() in the program's main coroutine")
    reloader = _Reloader(hook, asyncio.get_running_loop())
    before = signal.signal(signal.SIGHUP, reloader.on_signal)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGHUP) == reloader.on_signal:
            signal.signal(signal.SIGHUP, before)
        reloader.end()


class _Reloader:
    """Calls a hook for each signal, one call at a time."""

    def __init__(self, hook: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        self._hook = hook
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._again = self._ended = False

    def on_signal(self, number: int, frame: Any) -> None:
        if not self._ended:
            self._loop.call_soon_threadsafe(self._begin)  # the loop may be asleep

    def end(self) -> None:
        self._ended = True
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        if self._ended or lifecycle.is_stopping():
            return
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = self._loop.create_task(self._reload(), name="reload")

    async def _reload(self) -> None:
        while True:
            self._again = False
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                result = self._hook()
                if inspect.isawaitable(result):
                    await result
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and self._ended:
                    raise
                logger.exception("reloading failed: %s; the service goes on as it was", error_text(error))
                status(f"reloading failed: {error_text(error)}")
            lifecycle.ready()
            if not self._again:
                return
