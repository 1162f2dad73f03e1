"""The time of programs: a script, its threads, gpiozero's and those of its drivers, on the clock of the board.

A program sleeps, waits and measures with Python's modules `time`, `threading`, `select` and `signal`. While it runs on
a board in virtual time, it finds other versions of them, which wait on the clock of the board: all its threads take
turns. `hwloop run --clock virtual`, `hwloop sim`, `board.script()` and plain tests use this module; they differ in the
thread that drives the clock. Python's `queue`, `logging` and `concurrent.futures` are built on these modules and get
them too. Threads that belong to no program, such as those of pytest, keep the real time.

A wait that can't be redirected would stop the clock for good, or let real time pass. Such calls raise, and say why.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread
import contextlib
import functools
import logging
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, Protocol

from hwloop.errors import HardwareError
from hwloop.testing import program_dates
from hwloop.testing.gpiozero_holds import wait_without_polling
from hwloop.testing.places import is_of_project
from hwloop.testing.program_dates import asks_for_dates
from hwloop.testing.program_modules import KEPT, ProgramModule, Replacements, is_of_program, modules_of_program
from hwloop.virtual import locks
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.program_waits import STRANGERS, VirtualWaits, Waits, using, waits_here
from hwloop.virtual.selector import any_real
from hwloop.virtual.sleepers import NEVER_NS

_BUILT_ON_THEM = (queue, logging, concurrent.futures._base, concurrent.futures.thread)
"""Modules of Python's that wait or look at the time for the program."""

_STEP_NS = 1_000_000
"""Virtual time between two looks of a thread at a descriptor, while nothing is planned on the board."""

_REFUSED = {
    "alarm": "SIGALRM comes in real time; use threading.Timer",
    "setitimer": "SIGALRM comes in real time; use threading.Timer",
    "sigwait": "signals come in real time; use signal.pause()",
    "sigwaitinfo": "signals come in real time; use signal.pause()",
    "sigtimedwait": "signals come in real time; use time.sleep()",
}
"""Functions of `signal` that wait in real time."""


class Surroundings(Protocol):
    """The process in which a thread of a program believes to be.

    Attributes:
        pause: waits for a signal that the program handles.
        signal: sets the handler of a signal, and returns the previous one.
        getsignal: returns the handler of a signal.
        register: lets a function be called at the end of the process.
        unregister: undoes that.
        main_thread: returns the main thread.
    """

    @property
    def pause(self) -> Callable[[], None]: ...
    @property
    def signal(self) -> Callable[[int, Any], Any]: ...
    @property
    def getsignal(self) -> Callable[[int], Any]: ...
    @property
    def register(self) -> Callable[..., Any]: ...
    @property
    def unregister(self) -> Callable[[Callable[..., Any]], None]: ...
    @property
    def main_thread(self) -> Callable[[], threading.Thread]: ...


class RealProcess:
    """The real process, for programs that have one of their own. `pause` waits for a signal."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self.pause: Callable[[], None] = pause
        self.signal: Callable[[int, Any], Any] = signal.signal
        self.getsignal: Callable[[int], Any] = signal.getsignal
        self.register: Callable[..., Any] = atexit.register
        self.unregister: Callable[[Callable[..., Any]], None] = atexit.unregister
        self.main_thread: Callable[[], threading.Thread] = threading.main_thread


_REAL = RealProcess(signal.pause)


class ProgramTime:
    """The time of one program on a board.

    Parameters:
        waits: the waits of the program's threads.
        surroundings: returns the process in which the calling thread believes to be.
        advice: how to run the program in real time, for errors.
    """

    def __init__(self, waits: Waits, surroundings: Callable[[], Surroundings], advice: str) -> None:
        self.waits = waits
        self.surroundings = surroundings
        self.advice = advice

    @contextlib.contextmanager
    def installed(self, kept: frozenset[str] = KEPT) -> Iterator[None]:
        """In this block, let the program and its libraries find this time: all modules but those that are `kept`."""
        if (signals := sys.modules.get("hwloop.pins.signals")) is not None:
            _REPLACEMENTS.add(signals.Signal, functools.partial(_made_signal, signals.Signal))
        followed = {"gpiozero.mixins": wait_without_polling} if self.waits.is_virtual else {}
        ours = modules_of_program(kept)
        asking = [each for each in ours if asks_for_dates(each.__name__, getattr(each, "__file__", None))]
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._in_use())
            stack.enter_context(_REPLACEMENTS.in_modules([*ours, *_BUILT_ON_THEM]))
            stack.enter_context(_DATES.in_modules(asking))
            stack.enter_context(_DATES.in_imports(asks_for_dates, {}))
            stack.enter_context(_REPLACEMENTS.in_imports(lambda name, path: is_of_program(name, kept), followed))
            yield

    @contextlib.contextmanager
    def installed_in(self, directory: Path) -> Iterator[None]:
        """In this block, let the modules of a project that are imported already find this `time`, and no more.

        For programs with a loop, whose threads are those of the loop.
        """
        inside = f"{directory}/"
        paths = ((module, getattr(module, "__file__", None)) for module in modules_of_program(KEPT))
        ours = [
            each for each, path in paths if isinstance(path, str) and path.startswith(inside) and is_of_project(path)
        ]
        with self._in_use(), _TIME_ONLY.in_modules(ours):
            yield

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        _in_use.append(self)
        try:
            with using(self.waits):
                yield
        finally:
            _in_use.remove(self)

    def select(
        self, reading: Sequence[Any], writing: Sequence[Any], failing: Sequence[Any], timeout: float | None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """As `select.select`, in virtual time."""
        waits = self.waits
        assert isinstance(waits, VirtualWaits)
        clock = waits.clock
        until_ns = clock.after_ns(timeout)
        found = select.select(reading, writing, failing, 0)

        def look() -> bool:
            nonlocal found
            found = select.select(reading, writing, failing, 0)
            return any(found)

        if any(found) or until_ns <= clock.now_ns():
            waits.looked()
            return found
        if threading.get_ident() == clock.driver:
            if until_ns == NEVER_NS and clock.next_ns() is None and _waits_for_world(reading, clock):
                return select.select(reading, writing, failing)
            waits.block(until_ns, look)
            return found
        settled = False  # whether everything that happens at this time has happened
        while not look() and (now_ns := clock.now_ns()) < until_ns:
            until = now_ns + 1
            if settled:
                next_ns = clock.next_ns()
                until = now_ns + _STEP_NS if next_ns is None else max(next_ns, until)
            clock.sleep((min(until, until_ns) - now_ns) / 1e9)
            settled = not settled
        return found


def _waits_for_world(reading: Sequence[Any], clock: VirtualClock) -> bool:
    return any_real((each if isinstance(each, int) else each.fileno() for each in reading), clock.claimed)


_in_use: list[ProgramTime] = []


def _program_here() -> ProgramTime | None:
    """Return the program of the calling thread; None if it belongs to none."""
    return _in_use[-1] if _in_use and waits_here() is _in_use[-1].waits else None


# The functions that programs find. They stay in the libraries that a program imports, so they know no program.


def _sleep(seconds: float) -> None:
    __tracebackhide__ = True
    waits = waits_here()
    if waits is STRANGERS:
        time.sleep(seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    waits.sleep(seconds)


def _elapsed(real_ns: Callable[[], int]) -> tuple[Callable[[], float], Callable[[], int]]:
    """Return the functions of a clock that counts from any moment: in seconds, and in nanoseconds."""

    def now_ns() -> int:
        waits = waits_here()
        if not waits.is_virtual:
            return real_ns()
        waits.looked()
        return waits.now_ns()

    return lambda: now_ns() / 1e9, now_ns


def _date_ns() -> int:
    waits = waits_here()
    if not waits.is_virtual:
        return time.time_ns()
    waits.looked()
    return waits.date_ns()


def _dated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a time of day (seconds) that is the present one by default."""

    def call(seconds: float | None = None, /) -> Any:
        return function(_date_ns() / 1e9 if seconds is None else seconds)

    return call


def _asctime(moment: Any = None, /) -> str:
    return time.asctime(time.localtime(_date_ns() / 1e9) if moment is None else moment)


def _strftime(form: str, moment: Any = None, /) -> str:
    return time.strftime(form, time.localtime(_date_ns() / 1e9) if moment is None else moment)


def _select(
    reading: Sequence[Any], writing: Sequence[Any], failing: Sequence[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    program = _program_here()
    if program is None or not program.waits.is_virtual:
        return select.select(reading, writing, failing, timeout)
    return program.select(reading, writing, failing, timeout)


def _surroundings() -> Surroundings:
    program = _program_here()
    return _REAL if program is None else program.surroundings()


def _refused(module: ModuleType, name: str, reason: str) -> Callable[..., Any]:
    """Return a function that raises in virtual time, where it would wait in real time."""
    real = getattr(module, name)

    def call(*arguments: Any, **named: Any) -> Any:
        program = _program_here()
        if program is None or not program.waits.is_virtual:
            return real(*arguments, **named)
        return _refuse(f"{module.__name__}.{name}", f"{reason}, or {program.advice}")

    return call


def _refuse(name: str, advice: str) -> NoReturn:
    raise HardwareError(f"{name}()", "a script in virtual time can't wait in it", advice)


def _made_signal(signal: type[threading.Event]) -> threading.Event:
    """Return the event of a device, for devices that hwloop's pin factories may serve as well."""
    made = signal()
    locks.renew(made)
    return made


_monotonic, _monotonic_ns = _elapsed(time.monotonic_ns)
_counter, _counter_ns = _elapsed(time.perf_counter_ns)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sleep": _sleep,
    "monotonic": _monotonic,
    "monotonic_ns": _monotonic_ns,
    "perf_counter": _counter,
    "perf_counter_ns": _counter_ns,
    "time": lambda: _date_ns() / 1e9,
    "time_ns": _date_ns,
    "localtime": _dated(time.localtime),
    "gmtime": _dated(time.gmtime),
    "ctime": _dated(time.ctime),
    "asctime": _asctime,
    "strftime": _strftime,
}
for _name, _function in _FUNCTIONS.items():
    _function.__name__ = _function.__qualname__ = _name
# Like Python's own, they are no methods where a class keeps them as attributes.
_TIME = ProgramModule(time, {name: staticmethod(function) for name, function in _FUNCTIONS.items()})
_SIGNALS: dict[str, Callable[..., Any]] = {
    "pause": lambda: _surroundings().pause(),
    "signal": lambda number, handler, /: _surroundings().signal(number, handler),
    "getsignal": lambda number, /: _surroundings().getsignal(number),
}
_MODULES: dict[str, ModuleType] = {
    "time": _TIME,
    "threading": ProgramModule(threading, {**locks.NAMES, "main_thread": lambda: _surroundings().main_thread()}),
    "signal": ProgramModule(
        signal, _SIGNALS | {name: _refused(signal, name, reason) for name, reason in _REFUSED.items()}
    ),
    "select": ProgramModule(select, {"select": _select, "poll": _refused(select, "poll", "use select.select")}),
    "atexit": ProgramModule(
        atexit,
        {
            "register": lambda function, *arguments, **named: _surroundings().register(function, *arguments, **named),
            "unregister": lambda function: _surroundings().unregister(function),
        },
    ),
}
_REPLACEMENTS = Replacements(_MODULES)
_REPLACEMENTS.add(queue.SimpleQueue, queue._PySimpleQueue)  # type: ignore[attr-defined]
_TIME_ONLY = Replacements({"time": _TIME})
_DATES = Replacements(program_dates.MODULES)
