"""A script that runs beside a test, in threads of its own, as `python lamp.py` would run it.

The main thread of the script is one of the threads that take turns on the clock of the board. The others are those that
it starts, gpiozero's, and the one in which lgpio calls handlers. So a handler that sleeps holds up nothing but the next
handler, as on the Pi, and a test of a script is as repeatable as one of an async program.

A script ends as its process would: by itself, once its threads have ended as well, or with the block, as by Ctrl-C.
Then its exit functions run, gpiozero closes its devices, and threads that are left end where they wait.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from firmware_sim.descriptors import descriptors
from firmware_sim.libraries.lgpio.module import LgpioModule
from hwloop.testing.left_files import close_left
from hwloop.testing.places import is_of_project
from hwloop.testing.script_process import ScriptProcess
from hwloop.testing.thread_report import thread_waits
from hwloop.virtual.locks import Event
from hwloop.virtual.program_waits import Waits

PATIENCE = 10.0
"""Real seconds for which a block waits until its script first waits, and at the end until it has ended."""

CLEAN_UP = 10.0
"""Seconds, on the clock of the board, that a script has after an interrupt before it is interrupted again."""

FORCE_AFTER = 0.5
"""Real seconds after which a thread that does not wait is interrupted between two of its instructions."""

_STEP = 0.001
"""Seconds, on the clock of the board, in which threads end that were ended."""


class ProgramEnded(SystemExit):
    """Ends a thread whose program has ended."""


class Driver(Protocol):
    """Lets time pass while a script runs: the fixture."""

    def run_until(self, check: Callable[[], object], within: float) -> bool:
        """Let time pass until `check()` is true. Return whether it is, after `within` seconds at most."""

    def interrupt(self, failure: BaseException) -> None:
        """End the test: the script has failed. Called from any thread."""

    def end_handlers(self, end: Callable[[int], object]) -> None:
        """Let no handler begin any more, and call `end(thread)` for the thread in which one runs."""

    def close_devices(self) -> None:
        """Close the devices of the program, as its libraries do at the end of a process."""


def end_thread() -> None:
    """Raise `ProgramEnded`, in a thread that is to end."""
    raise ProgramEnded


class ScriptRun:
    """A script under test: `with board.script("lamp.py") as script:`.

    It begins with the block, which goes on when the script first sleeps or waits. At the end of the block the script is
    interrupted, as Ctrl-C would do. If it fails, the test fails with its exception.

    Attributes:
        names: the global names of the script: `script.names["button"]`.
        process: its signal handlers and exit functions.
    """

    def __init__(self, path: str | os.PathLike[str], waits: Waits, driver: Driver) -> None:
        self.path: str = os.fspath(path)
        with open(self.path, "rb") as file:
            self._code = compile(file.read(), self.path, "exec")
        self.names: dict[str, Any] = {"__name__": "__main__", "__file__": self.path, "__builtins__": builtins}
        self._waits = waits
        self._driver = driver
        self._thread = threading.Thread(name=f"script {os.path.basename(self.path)}", daemon=True)
        self.process: ScriptProcess = ScriptProcess(self._thread, waits)
        self._begun = self._ending = self._left = False
        self._surroundings: tuple[list[str], list[str], set[int], set[str]]
        self._failure: BaseException | None = None
        self._force_at = 0.0  # real seconds: when threads that do not wait are interrupted all the same
        self._may_exit = Event()
        self._ended = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the script has ended by itself or failed, with all its threads."""
        return self._ended.is_set()

    @property
    def running(self) -> bool:
        """Whether its block has begun, and not all of it has ended."""
        return self._thread.is_alive()

    def send_signal(self, number: int) -> None:
        """Send the script a signal that it handles. Raises ValueError for one that would end its process at once."""
        self.process.send(number)

    def waits(self) -> list[str]:
        """Return a line for each thread of the script, with the place at which it waits."""
        return thread_waits(self._waits.threads())

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        if self._begun:
            raise RuntimeError(f"{self.path} has run already in this block; call board.script() again")
        self._begun = True
        self._surroundings = sys.argv, sys.path[:], descriptors.numbers(), set(sys.modules)
        sys.argv = [self.path]
        sys.path.insert(0, os.path.dirname(os.path.abspath(self.path)))
        self._waits.adopt(self._thread, self._main, self._thread.start)
        began = time.monotonic()
        try:
            while not self._driver.run_until(self._has_begun, 0) and time.monotonic() - began < PATIENCE:
                time.sleep(_STEP)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _has_begun(self) -> bool:
        return self._ended.is_set() or self._waits.is_waiting(self._thread.ident or 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        failure, self._failure = self._failure, None
        try:
            self._end()
        finally:
            sys.argv, sys.path[:], before, modules = self._surroundings
            close_left(descriptors.numbers() - before)
            for name in set(sys.modules) - modules:
                if _is_of_run(name):
                    del sys.modules[name]  # the next run of the script begins afresh
        failure = failure or self._failure
        if failure is not None and error is None:
            raise failure
        if failure is not None and error is not failure:
            assert error is not None
            error.add_note(f"the script also failed, with {type(failure).__name__}: {failure}")

    def __del__(self) -> None:
        if not getattr(self, "_begun", True):
            message = f"board.script({self.path!r}) has run nothing: write 'with board.script({self.path!r}):'"
            warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)

    # The main thread of the script.

    def _main(self) -> None:
        here: Any = self._thread
        here._daemonic = False  # what the threads of the script inherit; it was a daemon as it started
        try:
            exec(self._code, self.names)
        except SystemExit as exit:
            if exit.code not in (None, 0):
                status = exit.code if isinstance(exit.code, int) else f"1: {exit.code}"
                self._fail(AssertionError(f"{self.path} exited with status {status}"))
        except KeyboardInterrupt as error:
            if not self._ending:
                self._fail(error)
        except BaseException as error:
            self._fail(error)
        self._left = True
        try:
            self._exit()
        except (SystemExit, KeyboardInterrupt):
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            self._ended.set()

    def _exit(self) -> None:
        """Do what Python does at the end of a process, once all threads have ended but those that end with it."""
        while not self._ending and (threads := [each for each in self._others() if not each.daemon]):
            with contextlib.suppress(KeyboardInterrupt):
                threads[0].join()
        if self._ending:
            self._may_exit.wait()  # for the end of all threads
        try:
            self.process.run_exit_functions()
        finally:
            self._driver.end_handlers(self._end_wait)
            self._driver.close_devices()
            for thread in self._others():
                self._end_wait(thread.ident or 0)

    def _others(self) -> list[threading.Thread]:
        return [each for each in self._waits.threads() if each is not self._thread]

    def _end_wait(self, ident: int) -> None:
        self._waits.interrupt(ident, end_thread)

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        if not self._ending:
            self._driver.interrupt(failure)

    # The thread of the test.

    def _end(self) -> None:
        """Interrupt the script, again and again if it catches that, and wait until it has ended with its threads."""
        self._ending = True
        until = time.monotonic() + PATIENCE
        main = self._thread
        interrupts = 0
        self._force_at = time.monotonic() + FORCE_AFTER
        while not self._left:
            if interrupts == 0 and callable(self.process.getsignal(_SIGINT)):
                self.process.send(_SIGINT)
            else:
                self._waits.interrupt(main.ident or 0, _interrupt if interrupts < _MANNERLY else end_thread)
            interrupts += 1
            self._let([main], lambda: self._left, CLEAN_UP, until, KeyboardInterrupt)
        try:
            self._end_threads(until)
        finally:
            self._may_exit.set()
        self._force_at = time.monotonic() + FORCE_AFTER
        while main in self._waits.threads():
            self._let([main], lambda: main not in self._waits.threads(), CLEAN_UP, until, ProgramEnded)
            if main in self._waits.threads():
                self._end_wait(main.ident or 0)

    def _end_threads(self, until: float) -> None:
        """End all threads of the script but the main one."""
        logger = logging.getLogger("concurrent.futures")
        logger.disabled = True  # it would log the end of each thread of a pool
        self._force_at = time.monotonic() + FORCE_AFTER
        try:
            while others := self._others():
                for thread in others:
                    self._end_wait(thread.ident or 0)
                self._let(others, lambda: not self._others(), _STEP, until, ProgramEnded)
        finally:
            logger.disabled = False
            self._driver.end_handlers(self._end_wait)

    def _let(
        self,
        threads: Iterable[threading.Thread],
        check: Callable[[], object],
        within: float,
        until: float,
        force: type[BaseException],
    ) -> None:
        """Let time pass until `check()`. Raise `force` in threads that do not wait, AssertionError at last."""
        now = time.monotonic()
        if now > until:
            waits = "".join(f"\n{line}" for line in self.waits())
            raise AssertionError(
                f"{self.path} does not end: it catches what ends it, or waits for something that is not on the "
                f"board{waits}"
            )
        try:
            self._driver.run_until(lambda: check() or time.monotonic() > self._force_at, within)
        except Exception as error:
            self._failure = self._failure or error
        if check() or time.monotonic() <= self._force_at:
            return
        self._force_at = time.monotonic() + FORCE_AFTER
        for thread in threads:
            if thread.is_alive() and not self._waits.is_waiting(thread.ident or 0):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(force))


def _is_of_run(name: str) -> bool:
    """Return whether a module keeps what a run of a script has made: one of the project, or a library on lgpio."""
    module = sys.modules[name]
    if is_of_project(getattr(module, "__file__", None) or "<"):
        return True
    uses_lgpio = any(isinstance(value, LgpioModule) for value in vars(module).values())
    return uses_lgpio and not name.startswith("gpiozero.")  # whose factory is closed


_MANNERLY = 5
"""Interrupts that a script may catch."""
_SIGINT = 2


def _interrupt() -> None:
    raise KeyboardInterrupt
