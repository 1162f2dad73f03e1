"""GPIO lines that we drive, and that end at a safe level.

A line goes on driving what it was last set to when the program that set it is gone, so an output says beforehand at
what level it is to be left. `close()` sees to that, the board's own closing for outputs that were left open,
`make_safe()` for all that are open, and the end of the process for whatever is left then.

An output stays on the list of open ones until its line is at the safe level, and is taken off only then. So whatever
breaks off a `close()`, a signal's exception included, the next one on the way out finds it and closes it again.

Pulses, blinking and what is scheduled are timers of the loop: no thread, as precise as the loop's timers, and gone
when the output is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import itertools
import logging
import time
import weakref
from collections.abc import Callable
from typing import Self

from hwloop import board as boards
from hwloop.board import Board, Drive, Edge, LineName, OutputLine, OutputRequest
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.errors import HardwareError, check_range
from hwloop.lines import Level
from hwloop.output_reports import OutputReport
from hwloop.requests import check_level, check_line
from hwloop.sources.gpio.pulses import Action, Driven, as_failure
from hwloop.sources.gpio.single_wire import OutputEdges

SHORTEST, LONGEST = 1e-6, 1e9
"""Seconds that a level of a pulse or blink may last."""
PWM_FREQUENCIES = 0.1, 10_000
"""Hz; lgpio's limits."""
_TRIES, _PAUSE = 3, 0.001
"""How often a safe level that the line refuses is set, and the seconds between: an I2C expander may recover."""

_LETTING_GO = 1.0
"""Seconds for which a line that is in use is tried again under a guardian."""
_BROKEN_OFF = 100
"""How often closing at exit begins anew: once for each signal that falls between two closings."""

logger: logging.Logger = logging.getLogger("hwloop")


class Output:
    """A line that we drive. `hwloop.gpio.output` is this class.

    Parameters:
        line: BCM number, the kernel's name, or its position on the header.
        chip: label or device path of the chip that has the line; None for the header's.
        initial: the logical level to begin with; None keeps the level that the line has (docs/gpio.md).
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
        initial: Level | None = 0,
        safe: Level | None = None,
        drive: Drive = "push-pull",
        active_low: bool = False,
        name: str | None = None,
    ) -> None:
        self.line: LineName = check_line(line)
        self.name: str = name or f"gpio:{self.line}"
        self._request = OutputRequest(
            self.line, consumer=self.name, chip=chip, initial=initial, drive=drive, active_low=active_low
        )
        if safe is not None:
            check_level("safe", safe)
        self.safe = safe
        self._line = Driven(self.name)
        self._board: Board | None = None
        self._action: Action | None = None
        self._edges: OutputEdges | None = None
        self._plans: dict[int, asyncio.TimerHandle] = {}
        self._numbers = itertools.count()
        self._report = OutputReport()

    def open(self) -> Self:
        """Claim the line and drive it to its initial level."""
        if self._device is not None or self._line.closed:
            raise RuntimeError(f"{self.name} is {'closed; make a new one' if self._line.closed else 'open already'}")
        self._board = boards.current()
        try:
            with DeferredSignals():
                self._claim(self._board)
            if self._edges is not None:
                self._edges.open()
        except BaseException:
            self._release()  # a signal's handler has raised
            raise
        return self

    def close(self) -> None:
        """Set the safe level, if there is one, and give the line back. Harmless when repeated.

        Signal handlers run before or after it, never in between. Raises `HardwareError` where the line does not take
        its safe level; it is given back all the same, and remains a guardian's to drive, if there is one.

        In a forked child it does nothing to the line: that is its parent's.
        """
        self._line.closed = True
        with DeferredSignals():
            self._release()

    def set(self, value: Level) -> None:
        """Drive the line to a logical level."""
        check_level("a level", value)
        self._take_over()
        self._line.write(value)

    def on(self) -> None:
        """Drive the line to 1: `set(1)`."""
        self.set(1)

    def off(self) -> None:
        """Drive the line to 0: `set(0)`."""
        self.set(0)

    def toggle(self) -> None:
        """Drive the line to the other level than it was last set to."""
        self.set(0 if self._line.level else 1)

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
        self._line.opened().pwm(frequency, duty)
        self._line.level = 1 if duty else 0

    def schedule(self, at: float, value: Level) -> asyncio.TimerHandle:
        """Drive the line to `value` at the time `at` (seconds, loop time), or at once if that is past.

        Several may be outstanding. A pulse or blink that runs then ends. What is returned has `cancel()`.
        """
        check_range("at in seconds of loop time", at, 0, 1e18)
        check_level("a level", value)
        self._line.opened()
        number = next(self._numbers)
        plan = asyncio.get_running_loop().call_at(at, self._carry_out, number, value)
        self._plans[number] = plan
        return plan

    @property
    def value(self) -> int:
        """The line's logical level now. Another part of the circuit may hold it elsewhere than it was set.

        Setting it is the same as `set()`.
        """
        return self._line.opened().get()

    @value.setter
    def value(self, level: Level) -> None:
        self.set(level)

    @property
    def edges(self) -> OutputEdges:
        """The edges that other devices make on the line while it is let go of, as a source of `Edge`s.

        For outputs with drive="open-drain", let go of at 1, or "open-source", at 0, when they are open in a running
        loop. Opened with the output, or when it is first asked for. Raises ValueError for an output that drives both.
        """
        if self._edges is None:
            if self._request.drive == "push-pull":
                raise ValueError(
                    f"{self.name} drives both levels, and has no edges but its own; "
                    "an output with drive='open-drain' lets go of its line and can be watched, and so can gpio.watch"
                )
            self._edges = OutputEdges(self.name, self._line.opened)
            if self._device is not None:
                try:
                    self._edges.open()
                except BaseException:
                    self._edges = None
                    raise
        return self._edges

    def on_edge(self, callback: Callable[[Edge], object]) -> None:
        """Call `callback(edge)` for each of `edges`, straight from the reader. One that raises is reported."""
        self.edges.add_callback(callback)

    def make_safe(self) -> None:
        """Set the safe level, if there is one, and end what runs. In a forked child it does nothing."""
        device = self._device
        if device is None or device.forked or self.safe is None:
            return
        with self._line.lock:
            try:
                self._drive_safe(device, self.safe)
            finally:
                self._end_all()

    def _claim(self, board: Board) -> None:
        if self.safe is not None and board.shared:
            self._report.opening(self._request, self.safe, board.address)
        give_up = time.monotonic() + (_LETTING_GO if self._report.guarded else 0)
        while True:
            try:
                self._line.device = board.open_output(self._request)
                break
            except BaseException as error:
                # The guardian may hold it at its safe level, and lets go of it now that it has heard of us.
                busy = isinstance(error, HardwareError) and error.errno == errno.EBUSY
                if not busy or time.monotonic() >= give_up:
                    self._report.closed()
                    raise
            time.sleep(_PAUSE)
        self._line.level = self._request.initial
        loop = asyncio._get_running_loop()
        self._opened_on = None if loop is None else weakref.ref(loop)
        _open_outputs.append(self)
        board.before_closing.append(self.close)
        if self._request.initial is None:
            self._line.level = 1 if self._line.device.get() else 0

    def _release(self) -> None:
        """Drive first, give back afterwards, and only then forget: whatever breaks this off, it can be repeated."""
        device = self._device
        if device is None:
            return
        failure: BaseException | None = None
        if not device.forked:
            try:
                self.make_safe()
                if self.safe is None:
                    self._end_all()
                self._report.closed()
            except (SystemExit, KeyboardInterrupt):
                raise  # the line is ours and listed still, so that the next `close()` can drive it
            except BaseException as error:
                failure = error
        try:
            if self._edges is not None:
                self._edges.close()
        except Exception as error:
            failure = failure or error
        try:
            device.close()
        finally:
            self._line.device = None
            if self in _open_outputs:
                _open_outputs.remove(self)
            assert self._board is not None
            if self.close in self._board.before_closing:
                self._board.before_closing.remove(self.close)
        if failure is not None:
            raise failure

    def _drive_safe(self, device: OutputLine, safe: Level) -> None:
        for left in reversed(range(_TRIES)):
            try:
                device.set(safe)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                if not left:
                    raise
                time.sleep(_PAUSE)
            else:
                self._line.level = safe
                return

    def _begin(self, on: float, off: float, times: int | None, value: Level) -> Action:
        self._take_over()
        self._action = Action(self._line, on, off, times, value)
        return self._action

    def _carry_out(self, number: int, value: Level) -> None:
        with self._line.lock:
            if self._plans.pop(number, None) is not None:
                self._end_action()
                self._line.write(value)

    def _take_over(self) -> None:
        self._line.opened()
        self._report.driven()
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

    @property
    def _device(self) -> OutputLine | None:
        return self._line.device

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._device is not None else "closed" if self._line.closed else "new"
        return f"<Output {self.name} {state}>"


output = Output

_open_outputs: list[Output] = []


def opened_elsewhere(which: Output) -> bool:
    """Whether it was opened on a loop that still runs, in another thread."""
    opened_on = getattr(which, "_opened_on", None)
    loop = None if opened_on is None else opened_on()
    return loop is not None and loop.is_running()


def outputs() -> list[Output]:
    """The outputs that are open in this process, in the order in which they were opened."""
    return list(_open_outputs)


def make_safe() -> None:
    """Set every open output that has a safe level to it; each is tried, whatever becomes of the others.

    For the way out of a program, and for an emergency stop. Raises an ExceptionGroup of what failed.
    """
    failures: list[Exception] = []
    with DeferredSignals():
        for each in outputs():
            try:
                each.make_safe()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                failures.append(as_failure(each.name, error))
    if failures:
        raise ExceptionGroup("outputs that could not be set to their safe level", failures)


def _close_what_is_left() -> None:
    """The last of all ways out: what was broken off before is done again, as often as it is broken off."""
    for _ in range(_BROKEN_OFF):
        try:
            for each in outputs():
                try:
                    each.close()
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    logger.error("%s could not be left at its safe level: %s", each.name, error)
            return
        except (SystemExit, KeyboardInterrupt):
            continue


atexit.register(_close_what_is_left)
