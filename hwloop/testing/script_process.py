"""The process that a script under test believes to be: its signals, its exit functions, its main thread.

A test runs a script in a thread, and Python allows signal handlers in the real main thread only. So a script registers
them here, and its main thread calls them where it waits, as Python does.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from hwloop.testing.places import is_of_project
from hwloop.virtual.locks import Event
from hwloop.virtual.program_waits import Waits


class ScriptProcess:
    """The surroundings of a script whose main thread is `thread`."""

    def __init__(self, thread: threading.Thread, waits: Waits) -> None:
        self._thread = thread
        self._waits = waits
        self._handlers: dict[int, Any] = {}
        self._exit_functions: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._paused: Event | None = None

    def main_thread(self) -> threading.Thread:
        return self._thread

    def pause(self) -> None:
        self._paused = Event()
        self._paused.wait()

    def signal(self, number: int, handler: Any) -> Any:
        if threading.current_thread() is not self._thread:
            raise ValueError("signal only works in main thread of the main interpreter")
        if not (callable(handler) or handler in (signal.SIG_DFL, signal.SIG_IGN)):
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        before = self.getsignal(number)
        self._handlers[number] = handler
        return before

    def getsignal(self, number: int) -> Any:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        return self._handlers.get(number, default)

    def send(self, number: int) -> None:
        """Let the main thread call its handler of a signal. Raises ValueError for one that would end the process."""
        handler = self.getsignal(number)
        if handler == signal.SIG_DFL:
            name = signal.Signals(number).name
            raise ValueError(f"the script has no handler for {name}, which would end its process at once")
        if callable(handler):
            self._waits.interrupt(self._thread.ident or 0, lambda: self._handle(handler, number))

    def _handle(self, handler: Callable[..., Any], number: int) -> None:
        handler(number, None)
        if self._paused is not None:
            self._paused.set()

    def register(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        import atexit

        if not is_of_project(sys._getframe(2).f_code.co_filename):
            return atexit.register(function, *arguments, **named)  # a library, which outlives the script
        self._exit_functions.append((function, arguments, named))
        return function

    def unregister(self, function: Callable[..., Any]) -> None:
        import atexit

        atexit.unregister(function)
        self._exit_functions = [each for each in self._exit_functions if each[0] != function]

    def run_exit_functions(self) -> None:
        """Call the exit functions, the newest first. Raises the first of their exceptions."""
        failure: BaseException | None = None
        while self._exit_functions:
            function, arguments, named = self._exit_functions.pop()
            try:
                function(*arguments, **named)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
