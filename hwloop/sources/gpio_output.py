"""GPIO lines that we drive, and that end at a safe level.

A line goes on driving what it was last set to when the program that set it is gone, so an output says beforehand at
what level it is to be left. `close()` sees to that, the board's own closing for outputs that were left open, and
`make_safe()` for all that are open.

Pulses, blinking and what is scheduled are timers of the loop: no thread, as precise as the loop's timers, and gone
when the output is closed. A blink reckons each change from its beginning, so that lateness never adds up.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Self

from hwloop import board as boards
from hwloop import clock, guard
from hwloop.board import Board, Drive, LineName, OutputLine
from hwloop.errors import check_range
from hwloop.sources.gpio_checks import Level, check_bool, check_chip, check_choice, check_level, check_line

SHORTEST, LONGEST = 1e-6, 1e9
"""Seconds that a level of a pulse or blink may last."""
PWM_FREQUENCIES = 0.1, 10_000
"""Hz; lgpio's limits."""


class Action(asyncio.Future[bool]):
    """A pulse or a blink under way. Awaiting it gives True at its end, False if something else took the line over.

    Cancelling it, or the task that awaits it, ends it at once, at the level that it has between pulses. Where the line
    can't be driven any more it stops with that `HardwareError`, which is also reported to the loop.
    """

    def __init__(self, output: Output, on: float, off: float, times: int | None, value: Level) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop=loop)
        self._output = output
        self._on_ns = clock.to_ns(on)
        self._cycle_ns = self._on_ns + clock.to_ns(off)
        self._times = times
        self._value = value
        self._rest: Level = 0 if value else 1
        self._began_ns = clock.to_ns(loop.time())
        output._write(value)
        self._plan(self._began_ns + self._on_ns)

    def cancel(self, msg: object = None) -> bool:
        if self.done():
            return False
        self._timer.cancel()
        try:
            self._output._write(self._rest)
        finally:
            super().cancel(msg)
        return True

    def give_way(self) -> None:
        """Leave the line to something else."""
        self._timer.cancel()
        if not self.done() and not self.get_loop().is_closed():
            self.set_result(False)

    def _plan(self, due_ns: int) -> None:
        self._timer = self.get_loop().call_at(clock.from_ns(due_ns), self._change, due_ns)

    def _change(self, due_ns: int) -> None:
        """Drive what is to be driven now, which after a stall of the loop may be some changes further on."""
        since_ns = max(due_ns, clock.to_ns(self.get_loop().time())) - self._began_ns
        cycle, within_ns = divmod(since_ns, self._cycle_ns)
        ended = self._times is not None and cycle >= self._times
        on = within_ns < self._on_ns and not ended
        level = self._value if on else self._rest
        try:
            if level != self._output._level:
                self._output._write(level)
        except Exception as error:
            self.set_exception(error)
            self.exception()  # reported now, and not once more when nobody has asked for it
            message = f"{self._output.name} can't be driven; its pulses end here"
            self.get_loop().call_exception_handler({"message": message, "exception": error, "future": self})
            return
        if ended:
            self.set_result(True)
        else:
            self._plan(self._began_ns + cycle * self._cycle_ns + (self._on_ns if on else self._cycle_ns))


class Output:
    """A line that we drive. `hwloop.gpio.output` is this class.

    Parameters:
        line: BCM number, the kernel's name, or its position on the header.
        chip: label or device path of the chip that has the line; None for the header's.
        initial: the logical level to begin with.
        safe: the level to leave it at when it is closed, however that comes about; None leaves it as it was set.
        drive: "push-pull", "open-drain" (drives low only) or "open-source" (drives high only).
        active_low: whether 1 is electrically low.
        name: for messages.

    Use it with `async with` or `with`, or call `open()` and `close()`. Opening raises `HardwareError`.

    `set`, `toggle`, `pulse`, `blink` and `pwm` each take the line over: what ran before ends, and what was scheduled
    is forgotten. Each raises `HardwareError` where the line can't be driven.
    """

    def __init__(
        self,
        line: LineName,
        *,
        chip: str | None = None,
        initial: Level = 0,
        safe: Level | None = None,
        drive: Drive = "push-pull",
        active_low: bool = False,
        name: str | None = None,
    ) -> None:
        check_line(line)
        check_chip(chip)
        check_level("initial", initial)
        if safe is not None:
            check_level("safe", safe)
        check_choice("drive", drive, Drive)
        check_bool("active_low", active_low)
        self.line = line
        self.name = name or f"gpio:{line}"
        self.safe = safe
        self._level = initial
        self._chip = chip
        self._drive: Drive = drive
        self._active_low = active_low
        self._board: Board | None = None
        self._device: OutputLine | None = None
        self._closed = False
        self._action: Action | None = None
        self._plans: dict[int, asyncio.TimerHandle] = {}
        self._numbers = itertools.count()
        self._reported_as: str | None = None

    def open(self) -> Self:
        """Claim the line and drive it to its initial level."""
        if self._device is not None or self._closed:
            raise RuntimeError(f"{self.name} is {'closed; make a new one' if self._closed else 'open already'}")
        self._board = boards.current()
        self._report_opening()
        try:
            self._device = self._board.open_output(
                self.line,
                initial=self._level,
                drive=self._drive,
                active_low=self._active_low,
                consumer=self.name,
                chip=self._chip,
            )
        except BaseException:
            self._report_closed()
            raise
        _open_outputs.append(self)
        self._board.before_closing.append(self.close)
        return self

    def close(self) -> None:
        """Set the safe level, if there is one, and give the line back. Harmless when repeated.

        In a forked child it does nothing to the line: that is its parent's.
        """
        self._closed = True
        if self._device is None:
            return
        assert self._board is not None
        ours = not self._device.forked
        if ours:
            self._end_all()
        device, self._device = self._device, None
        _open_outputs.remove(self)
        self._board.before_closing.remove(self.close)
        try:
            if self.safe is not None and ours:
                device.set(self.safe)
            self._report_closed()
        finally:
            device.close()

    def set(self, value: Level) -> None:
        """Drive the line to a logical level."""
        check_level("a level", value)
        self._take_over()
        self._write(value)

    def toggle(self) -> None:
        """Drive the line to the other level than it was last set to."""
        self.set(0 if self._level else 1)

    def pulse(self, seconds: float, value: Level = 1) -> Action:
        """Drive the line to `value` now, and to the other level `seconds` later."""
        check_range("a pulse in seconds", seconds, SHORTEST, LONGEST)
        check_level("a level", value)
        return self._begin(seconds, 0.0, 1, value)

    def blink(self, on: float = 0.5, off: float = 0.5, *, n: int | None = None) -> Action:
        """Drive the line to 1 for `on` seconds and to 0 for `off` seconds, `n` times; with None without an end.

        The changes keep to a grid that begins now. After a stall of the loop it goes on where it would be without.
        """
        check_range("on in seconds", on, SHORTEST, LONGEST)
        check_range("off in seconds", off, SHORTEST, LONGEST)
        if n is not None and (isinstance(n, bool) or not isinstance(n, int)):
            raise TypeError(f"n must be a whole number or None, not {n!r}")
        if n is not None and n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        return self._begin(on, off, n, 1)

    def pwm(self, duty: float, frequency: float = 100.0) -> None:
        """Pulses without an end that take no part of the loop's time: at 1 for the part `duty` (0 to 1) of each cycle.

        `frequency` in Hz, 0.1 to 10,000. Raises `HardwareError` where the board has none; see docs/gpio.md.
        """
        check_range("duty", duty, 0, 1)
        check_range("frequency in Hz", frequency, *PWM_FREQUENCIES)
        self._take_over()
        self._opened().pwm(frequency, duty)
        self._level = 1 if duty else 0

    def schedule(self, at: float, value: Level) -> asyncio.TimerHandle:
        """Drive the line to `value` at the time `at` (seconds, loop time), or at once if that is past.

        Several may be outstanding. A pulse or blink that runs then ends. What is returned has `cancel()`.
        """
        check_range("at in seconds of loop time", at, 0, 1e18)
        check_level("a level", value)
        self._opened()
        number = next(self._numbers)
        plan = asyncio.get_running_loop().call_at(at, self._carry_out, number, value)
        self._plans[number] = plan
        return plan

    @property
    def value(self) -> int:
        """The line's logical level now. Another part of the circuit may hold it elsewhere than it was set."""
        return self._opened().get()

    def _report_opening(self) -> None:
        """Tell whoever sees to the outputs of this process when it can't, before the line is driven."""
        assert self._board is not None
        reporter = guard.reporter()
        if reporter is not None and self.safe is not None and self._board.shared:
            self._reported_as = f"{os.getpid()}:{id(self)}"
            reporter.opened(
                self._reported_as, guard.Charge(self.line, self.safe, self._drive, self._active_low, self._chip)
            )

    def _report_closed(self) -> None:
        reporter = guard.reporter()
        if reporter is not None and self._reported_as is not None:
            reporter.closed(self._reported_as)
            self._reported_as = None

    def _begin(self, on: float, off: float, times: int | None, value: Level) -> Action:
        self._take_over()
        self._action = Action(self, on, off, times, value)
        return self._action

    def _carry_out(self, number: int, value: Level) -> None:
        del self._plans[number]
        self._end_action()
        self._write(value)

    def _write(self, value: Level) -> None:
        self._opened().set(value)
        self._level = value

    def _take_over(self) -> None:
        self._opened()
        self._end_all()

    def _end_all(self) -> None:
        self._end_action()
        for plan in self._plans.values():
            plan.cancel()
        self._plans.clear()

    def _end_action(self) -> None:
        if self._action is not None:
            self._action.give_way()
            self._action = None

    def _opened(self) -> OutputLine:
        if self._device is None:
            raise RuntimeError(f"{self.name} is not open; use 'async with', 'with' or open()")
        return self._device

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._device is not None else "closed" if self._closed else "new"
        return f"<Output {self.name} {state}>"


_open_outputs: list[Output] = []


def outputs() -> list[Output]:
    """The outputs that are open in this process, in the order in which they were opened."""
    return list(_open_outputs)


def make_safe() -> None:
    """Set every open output that has a safe level to it; each is tried, whatever becomes of the others.

    For the way out of a program, and for an emergency stop. Raises an ExceptionGroup of what failed.
    """
    failures = []
    for each in outputs():
        try:
            if each.safe is not None and not each._opened().forked:
                each.set(each.safe)
        except Exception as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("outputs that could not be set to their safe level", failures)
