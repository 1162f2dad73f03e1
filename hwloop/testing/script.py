"""A script that runs beside a test, in a thread of its own, as `python lamp.py` would run it.

Scripts never end: they loop around `sleep`, or wait in `signal.pause()`. Here both wait on the clock of the board. In
virtual time the thread takes turns with everything else on that clock, so a test of a script is as repeatable as one of
an async program.
"""

from __future__ import annotations

import builtins
import ctypes
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

from firmware_sim.descriptors import descriptors
from hwloop.core.clock import Clock
from hwloop.virtual.clock import VirtualClock
from hwloop.virtual.condition import VirtualCondition

PATIENCE = 10.0
"""Real seconds for which a block waits until its script first waits, and at the end until it has ended."""


FORCE_AFTER = 0.5
"""Real seconds after which a script that does not wait is interrupted between two of its instructions."""


class ScriptClock(VirtualClock):
    """A virtual clock on which the waits of a script can be interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._conditions: weakref.WeakSet[threading.Condition] = weakref.WeakSet()
        self._interrupted: threading.Thread | None = None
        self.on_wait: Callable[[], None] | None = None
        """Called before and after each wait."""

    def sleep(self, seconds: float) -> None:
        self.check()
        super().sleep(seconds)
        self.check()

    def condition(self) -> threading.Condition:
        made = ScriptCondition(self)
        self._conditions.add(made)
        return made

    def interrupt(self, thread: threading.Thread) -> None:
        """Interrupt whatever `thread` waits for, and each later wait."""
        self._interrupted = thread
        for condition in list(self._conditions):
            with condition:
                condition.notify_all()

    def check(self) -> None:
        """Note that the calling thread waits. Raises KeyboardInterrupt if it is interrupted."""
        if self.on_wait is not None:
            self.on_wait()
        if threading.current_thread() is self._interrupted:
            raise KeyboardInterrupt


class ScriptCondition(VirtualCondition):
    """A condition on which a wait can be interrupted."""

    def __init__(self, clock: ScriptClock) -> None:
        super().__init__(clock)
        self._check = clock.check

    def wait(self, timeout: float | None = None) -> bool:
        self._check()
        woken = super().wait(timeout)
        self._check()
        return woken


class Driver(Protocol):
    """Lets time pass while a script runs: the fixture."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def interrupt(self, failure: BaseException) -> None:
        """End the test: the script has failed. Called from any thread."""


class ScriptRun:
    """A script under test: `with board.script("lamp.py") as script:`.

    It begins with the block, which goes on when the script first sleeps or waits. At the end of the block the script is
    interrupted, as Ctrl-C would do. If it fails, the test fails with its exception.

    Attributes:
        names: the global names of the script: `script.names["button"]`.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Clock, driver: Driver) -> None:
        self.path: str = os.fspath(path)
        with open(self.path, "rb") as file:
            self._code = compile(file.read(), self.path, "exec")
        self.names: dict[str, Any] = {"__name__": "__main__", "__file__": self.path, "__builtins__": builtins}
        self._clock = clock
        self._driver = driver
        self._condition = clock.condition()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._surroundings: tuple[list[str], list[str], set[int]] = (sys.argv, sys.path[:], set())
        self._failure: BaseException | None = None
        self._ident = 0
        self._has_waited = threading.Event()
        self._ended = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the script has ended by itself or failed."""
        return self._ended.is_set()

    def use_modules(self, modules: Mapping[str, ModuleType]) -> None:
        """Let the script import these modules instead of those of the same names."""
        find = builtins.__import__

        def import_module(name: str, *arguments: Any, **named: Any) -> ModuleType:
            return modules[name] if name in modules else find(name, *arguments, **named)

        self.names["__builtins__"] = {**vars(builtins), "__import__": import_module}

    def is_current(self) -> bool:
        """Return whether the calling thread is that of the script."""
        return threading.get_ident() == self._ident

    def sleep(self, seconds: float | None) -> None:
        """Wait, in the thread of the script. Raises KeyboardInterrupt when the script is to end."""
        self._note_wait()
        with self._condition:
            self._condition.wait_for(lambda: self._ending, seconds)
        if self._ending:
            raise KeyboardInterrupt

    def _note_wait(self) -> None:
        if self.is_current():
            self._has_waited.set()

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError(f"{self.path} has run already in this block; call board.script() again")
        if isinstance(self._clock, ScriptClock):
            self._clock.on_wait = self._note_wait
        self._surroundings = sys.argv, sys.path[:], descriptors.numbers()
        sys.argv = [self.path]
        sys.path.insert(0, os.path.dirname(os.path.abspath(self.path)))
        self._thread = self._clock.start(self._main, f"script {os.path.basename(self.path)}")
        began = time.monotonic()
        self._driver.advance(0)
        while not (self._has_waited.is_set() or self._ended.is_set()) and time.monotonic() - began < PATIENCE:
            self._has_waited.wait(0.01)
            self._driver.advance(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        failure, self._failure = self._failure, None
        try:
            self._end()
        finally:
            sys.argv, sys.path[:], before = self._surroundings
            for fd in descriptors.numbers() - before:
                descriptors.close(fd)  # as the end of its process would
        failure = failure or self._failure
        if failure is not None and error is None:
            raise failure
        if failure is not None and error is not failure:
            assert error is not None
            error.add_note(f"the script also failed, with {type(failure).__name__}: {failure}")

    def __del__(self) -> None:
        if getattr(self, "_thread", self) is None:
            message = f"board.script({self.path!r}) has run nothing: write 'with board.script({self.path!r}):'"
            warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)

    def _end(self) -> None:
        """Interrupt the script, again and again if it catches that, and wait until it has ended."""
        thread, self._ending = self._thread, True
        assert thread is not None
        assert thread.ident is not None
        began = time.monotonic()
        force_at = began + FORCE_AFTER
        while thread.is_alive():
            if isinstance(self._clock, ScriptClock):
                self._clock.interrupt(thread)
            with self._condition:
                self._condition.notify_all()
            self._driver.advance(0.0001)  # it may be in the middle of a read
            thread.join(0.005)
            now = time.monotonic()
            if now > force_at and not self._ended.is_set():
                force_at = now + FORCE_AFTER
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
                )
            if now > began + PATIENCE:
                raise AssertionError(
                    f"{self.path} does not end: it catches KeyboardInterrupt, or waits for something that is not on "
                    "the board"
                )

    def _main(self) -> None:
        self._ident = threading.get_ident()
        try:
            exec(self._code, self.names)
        except SystemExit as exit:
            if exit.code not in (None, 0):
                self._fail(AssertionError(f"{self.path} exited with status {exit.code}"))
        except KeyboardInterrupt as error:
            if not self._ending:
                self._fail(error)
        except BaseException as error:
            self._fail(error)
        finally:
            self._ended.set()

    def _fail(self, failure: BaseException) -> None:
        self._failure = failure
        if not self._ending:
            self._driver.interrupt(failure)
