"""A script in virtual time: `hwloop run --board sim --clock virtual blink.py`.

A script has no loop that could drive the clock, so its main thread does: whenever it sleeps or waits, everything
happens that is due until then, on the board and in the script's other threads, which take turns. For that, all modules
but Python's own and hwloop's get other versions of `time`, `threading`, `signal` and `select`, the ones of
`hwloop.testing` for scripts in tests among them. Python's `queue`, `logging` and `concurrent.futures` are built on
these modules and get them too.

A wait that can't be redirected would stop the clock for good, or let real time pass. Such calls raise, and say why.
"""

from __future__ import annotations

import builtins
import concurrent.futures.thread
import contextlib
import logging
import os
import queue
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NoReturn

from firmware_sim import SimBoard
from hwloop.cli import THREADS_WITHIN, UsageError
from hwloop.errors import HardwareError
from hwloop.testing.program_time import ProgramModule, ProgramTime, replaced_in
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.condition import NEVER_NS
from hwloop.virtual.locks import Locks
from hwloop.virtual.selector import any_real
from hwloop.virtual.time_limit import TimeLimit, chosen_limit

_KEPT = {"hwloop", "firmware_sim", "hwloop_bench", "pytest", "_pytest"}
"""Packages that keep the real time."""

_BUILT_ON_THEM = (queue, logging, concurrent.futures._base, concurrent.futures.thread)
"""Modules of Python's that wait or look at the time for the program."""

_REFUSED = {
    "alarm": "SIGALRM comes in real time; use threading.Timer",
    "setitimer": "SIGALRM comes in real time; use threading.Timer",
    "sigwait": "signals come in real time; use signal.pause()",
    "sigwaitinfo": "signals come in real time; use signal.pause()",
    "sigtimedwait": "signals come in real time; use time.sleep()",
}
"""Functions of `signal` that wait in real time."""


class ScriptTime:
    """The virtual time of one script on `board`, which its main thread drives.

    Parameters:
        limit: the longest run in virtual seconds; None for no limit.
    """

    def __init__(self, board: SimBoard, limit: float | None) -> None:
        clock = board.clock
        assert isinstance(clock, VirtualClock), "a script in real time needs none of this"
        self._clock = clock
        self._timeline = board.timeline
        clock.waiter = "the script"
        clock.limit = TimeLimit(clock, chosen_limit(limit))
        clock.limit.begin_run()
        looked = board.timeline.count_read
        locks = Locks(clock, looked)
        self._threads = set(threading.enumerate())
        self._modules = {
            **ProgramTime(clock, clock.sleep, self._pause, looked).modules,
            "threading": ProgramModule(threading, locks.names),
            "select": ProgramModule(
                select, {"select": self._select, "poll": _refuse("select.poll", "use select.select")}
            ),
        }
        vars(self._modules["signal"]).update(
            {name: _refuse(f"signal.{name}", reason) for name, reason in _REFUSED.items()}
        )

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let the program, and the libraries that it uses, find virtual time in this block."""
        if os.environ.get("GPIOZERO_PIN_FACTORY", "").startswith("hwloop"):
            raise UsageError(
                "GPIOZERO_PIN_FACTORY: hwloop's pin factories need a loop, and a script in virtual time has none; "
                "unset it"
            )
        real_import, simple_queue = builtins.__import__, queue.SimpleQueue

        def import_module(name: str, names: Any = None, *arguments: Any, **named: Any) -> ModuleType:
            if name in self._modules and _is_of_program(str((names or {}).get("__name__", "__main__"))):
                return self._modules[name]
            return real_import(name, names, *arguments, **named)

        before = [module for name, module in list(sys.modules.items()) if _is_of_program(name)]
        with contextlib.ExitStack() as undo:
            undo.enter_context(replaced_in([*before, *_BUILT_ON_THEM], self._modules))
            undo.callback(setattr, builtins, "__import__", real_import)
            undo.callback(setattr, queue, "SimpleQueue", simple_queue)
            builtins.__import__ = import_module  # type: ignore[assignment]
            queue.SimpleQueue = queue._PySimpleQueue  # type: ignore[attr-defined,misc]
            for library in ("serial.serialutil",):
                _renew_class_attributes(sys.modules.get(library), self._modules["time"])
            yield

    @contextlib.contextmanager
    def passing(self, grace: float | None) -> Iterator[None]:
        """Run the script in this block; then let time pass until its threads have ended, as Python waits for them.

        They may go on for `grace` seconds at most, or without that until the limit, which begins anew; after a signal,
        for `THREADS_WITHIN` seconds. Then no limit keeps libraries from cleaning up.
        """
        try:
            yield
        except KeyboardInterrupt:
            self._finish(THREADS_WITHIN)
            raise
        except BaseException:
            self._finish(grace)
            raise
        self._finish(grace)

    def _finish(self, grace: float | None) -> None:
        assert self._clock.limit is not None
        self._clock.limit.begin_run()
        try:
            self._clock.block_loop(self._clock.after_ns(grace), lambda: not any(self._left()))
        finally:
            self._clock.limit = None

    def _left(self) -> Iterator[threading.Thread]:
        for thread in threading.enumerate():
            if thread not in self._threads and not thread.daemon and thread is not threading.current_thread():
                yield thread

    def _pause(self) -> None:
        """Wait for a signal that the program handles."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            self._clock.block_loop(NEVER_NS, lambda: bool(select.select([reading], [], [], 0)[0]))
        finally:
            signal.set_wakeup_fd(before)
            os.close(reading)
            os.close(writing)

    def _select(
        self, reading: Sequence[Any], writing: Sequence[Any], failing: Sequence[Any], timeout: float | None = None, /
    ) -> tuple[list[Any], list[Any], list[Any]]:
        clock = self._clock
        until_ns = clock.after_ns(timeout)
        found = select.select(reading, writing, failing, 0)

        def look() -> bool:
            nonlocal found
            found = select.select(reading, writing, failing, 0)
            return any(found)

        if any(found) or until_ns <= clock.now_ns():
            self._timeline.count_read()
            return found
        if threading.get_ident() == clock.driver:
            if until_ns == NEVER_NS and clock.next_ns() is None and self._waits_for_world(reading):
                return select.select(reading, writing, failing)
            clock.block_loop(until_ns, look)
            return found
        while not look() and (now_ns := clock.now_ns()) < until_ns:
            next_ns = self._timeline.next_ns()
            clock.sleep(
                min(until_ns, now_ns + _STEP_NS if next_ns is None else max(next_ns, now_ns + 1)) / 1e9 - now_ns / 1e9
            )
        return found

    def _waits_for_world(self, reading: Sequence[Any]) -> bool:
        return any_real((each if isinstance(each, int) else each.fileno() for each in reading), self._clock.claimed)


_STEP_NS = 1_000_000
"""Virtual time between two looks of a thread at a descriptor, while nothing is planned on the board."""


def _is_of_program(module: str) -> bool:
    root = module.partition(".")[0]
    return root not in _KEPT and (root not in sys.stdlib_module_names or root == "__main__")


def _refuse(name: str, advice: str) -> Callable[..., NoReturn]:
    def call(*arguments: object, **named: object) -> NoReturn:
        raise HardwareError(
            f"{name}()", "a script in virtual time can't wait in it", f"{advice}, or run it without --clock virtual"
        )

    return call


def _renew_class_attributes(module: ModuleType | None, time: ModuleType) -> None:
    """Renew what the classes of a library have kept of the module `time`."""
    import time as real

    kept = {id(getattr(real, name)): value for name, value in vars(time).items() if hasattr(real, name)}
    for each in vars(module).values() if module is not None else ():
        if isinstance(each, type):
            for name, value in list(vars(each).items()):
                if id(value) in kept:
                    setattr(each, name, kept[id(value)])
