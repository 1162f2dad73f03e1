"""Pulses and blinking: timers of the loop that drive a line.

A blink keeps to a grid that begins with it, so that lateness never adds up. A loop's timers in one thread and an
emergency stop in another may drive the line at the same time; the line's lock orders them, and a pulse that has ended
drives nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable

from hwloop.board import OutputLine
from hwloop.core import clock
from hwloop.lines import Level


class Driven:
    """The line of an output, as its pulses see it.

    Attributes:
        name: the output's.
        device: the board's; None before it is opened and after it is closed.
        closed: whether the line must not be driven any more.
        level: the logical level that was driven last; None if that is not known.
        lock: held while the line is driven.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.device: OutputLine | None = None
        self.closed = False
        self.level: Level | None = None
        self.lock: threading.RLock = threading.RLock()

    def opened(self) -> OutputLine:
        """Return the board's device. Raises RuntimeError if the output is not open."""
        if self.device is None or self.closed:
            state = "closed; make a new one" if self.closed else "not open; use 'async with', 'with' or open()"
            raise RuntimeError(f"{self.name} is {state}")
        return self.device

    def write(self, level: Level) -> None:
        """Drive the line to a logical level. Raises `HardwareError`, and RuntimeError as `opened` does."""
        with self.lock:
            self.opened().set(level)
            self.level = level


class Plans:
    """Levels to which a line is to be driven later.

    Parameters:
        line: the line.
        give_way: ends the pulse or blink that runs when a level is due.
    """

    def __init__(self, line: Driven, give_way: Callable[[], object]) -> None:
        self._line = line
        self._give_way = give_way
        self._numbers = itertools.count()
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def add(self, at: float, value: Level) -> asyncio.TimerHandle:
        """Drive the line to `value` at the time `at` (seconds, loop time). Return the timer."""
        number = next(self._numbers)
        timer = asyncio.get_running_loop().call_at(at, self._carry_out, number, value)
        self._timers[number] = timer
        return timer

    def cancel(self) -> None:
        """Forget all levels."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _carry_out(self, number: int, value: Level) -> None:
        with self._line.lock:
            if self._timers.pop(number, None) is not None:
                self._give_way()
                self._line.write(value)


class Action(asyncio.Future[bool]):
    """A pulse or a blink under way. Awaiting it returns True at its end, False if another call took the line over.

    Cancelling it, or the task that awaits it, ends it at once, at the level between pulses. If the line can't be driven
    any more, it ends with that `HardwareError`, which is also reported to the loop's exception handler.
    """

    def __init__(self, line: Driven, on: float, off: float, times: int | None, value: Level) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop=loop)
        self._line = line
        self._on_ns = clock.to_ns(on)
        self._cycle_ns = self._on_ns + clock.to_ns(off)
        self._times = times
        self._value = value
        self._rest: Level = 0 if value else 1
        self._began_ns = clock.to_ns(loop.time())
        line.write(value)
        self._plan(self._began_ns + self._on_ns)

    def cancel(self, msg: object = None) -> bool:
        if self.done():
            return False
        self._timer.cancel()
        try:
            self._line.write(self._rest)
        finally:
            super().cancel(msg)
        return True

    def rest(self) -> None:
        """Drive the level between pulses, unless it is over."""
        with self._line.lock:
            if not self.done() and self._line.device is not None:
                self._line.device.set(self._rest)
                self._line.level = self._rest

    def give_way(self) -> None:
        """Stop, and leave the line to another call."""
        self._timer.cancel()
        if not self.done() and not self.get_loop().is_closed():
            self.set_result(False)

    def _plan(self, due_ns: int) -> None:
        self._timer = self.get_loop().call_at(clock.from_ns(due_ns), self._change, due_ns)

    def _change(self, due_ns: int) -> None:
        """Drive the level that is due now; after a stall of the loop it may be some changes further on."""
        with self._line.lock:
            if not self.done():  # another thread may just have made the output safe
                self._drive_due(due_ns)

    def _drive_due(self, due_ns: int) -> None:
        since_ns = max(due_ns, clock.to_ns(self.get_loop().time())) - self._began_ns
        cycle, within_ns = divmod(since_ns, self._cycle_ns)
        ended = self._times is not None and cycle >= self._times
        on = within_ns < self._on_ns and not ended
        level = self._value if on else self._rest
        try:
            if level != self._line.level:
                self._line.write(level)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if isinstance(error, StopIteration | asyncio.CancelledError):  # a future rejects these
                error = as_failure(self._line.name, error)
            self.set_exception(error)
            self.exception()  # reported below, so asyncio need not report it as never retrieved
            message = f"{self._line.name} can't be driven; its pulses end here"
            self.get_loop().call_exception_handler({"message": message, "exception": error, "future": self})
            return
        if ended:
            self.set_result(True)
        else:
            self._plan(self._began_ns + cycle * self._cycle_ns + (self._on_ns if on else self._cycle_ns))


def as_failure(name: str, error: BaseException) -> Exception:
    """Return `error` as an exception that a future and an ExceptionGroup accept."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"{name}: driving the line raised {type(error).__name__}")
    failure.__cause__ = error
    return failure
