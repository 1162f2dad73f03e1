"""GPIO outputs: lines that are driven, and that end at a safe level.

A line may keep its last level when the program that set it is gone, so an output is given its safe level beforehand.
`close()` drives it there; so does every other way out (`open_outputs`): the closing of the board, `make_safe()`, and
the end of the process. An output that is kept is left as it is instead, for the next program (`keeping`).

An output stays on the list of open ones until its line is at the safe level. So if anything interrupts `close()`, a
signal's exception included, the next attempt on the way out finds the output and closes it again.

Pulses, blinking and scheduled levels are timers of the loop: no thread, the precision of the loop's timers, and none
left when the output is closed.
"""

from __future__ import annotations

import asyncio
import errno
import time
import weakref
from collections.abc import Callable
from typing import Self

from hwloop import board as boards
from hwloop.board import Board, Drive, Edge, LineName, OutputLine, OutputRequest
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError, check_range
from hwloop.lines import Level
from hwloop.requests import check_level, check_line
from hwloop.sources.gpio import open_outputs
from hwloop.sources.gpio.keeping import Keeping
from hwloop.sources.gpio.pulses import Action, Driven, Plans
from hwloop.sources.gpio.single_wire import OutputEdges

SHORTEST, LONGEST = 1e-6, 1e9
"""Seconds: the limits of one level of a pulse or blink."""
PWM_FREQUENCIES = 0.1, 10_000
"""Hz; lgpio's limits."""
_TRIES, _PAUSE = 3, 0.001
"""Attempts to set a safe level, and the seconds between them: an I2C expander may recover."""


class Output:
    """A GPIO line that the program drives. `hwloop.gpio.output` is this class.

    Use it with `async with` or, as it needs no loop, `with`; or call `open()` and `close()`. `set`, `toggle`, `pulse`,
    `blink` and `pwm` each take the line over: a running pulse ends, and scheduled levels are cancelled. Each raises
    `HardwareError` if the line can't be driven. Pulses, blinking and schedules need a running loop.

    Parameters:
        line: BCM number (27), the kernel's name ("GPIO27"), or its position on the header ("J8:13").
        chip: label or device path of the chip that has the line; None for the chip of the header.
        initial: the logical level to begin with; None keeps the level that the line has (docs/gpio.md).
        safe: the logical level at which it ends, on every way out; None leaves it at its last level.
        drive: "push-pull", "open-drain" (drives low only) or "open-source" (drives high only).
        active_low: whether 1 is electrically low.
        name: for messages; "gpio:27" if not given.
        keep: whether the line outlives the program under a guardian: the next start takes it over at its level, and
            `initial` does not apply. See docs/kept-outputs.md.
        within: seconds within which the next start must take a kept line over; otherwise it goes to its safe level.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `with` raise `HardwareError` if the
    line does not exist, is in use, or the program may not use it.

    Example:

        async with gpio.output(27, initial=0, safe=0) as relay:
            relay.set(1)

    Source: the kernel's GPIO character device, include/uapi/linux/gpio.h.
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
        keep: bool = False,
        within: float = 30.0,
    ) -> None:
        self.line: LineName = check_line(line)
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"an output's name must be text, not {short_name(name)}")
        self.name: str = name or f"gpio:{self.line}"
        self._request = OutputRequest(
            self.line, consumer=self.name, chip=chip, initial=initial, drive=drive, active_low=active_low, keep=keep
        )
        if safe is not None:
            check_level("safe", safe)
        self.safe = safe
        self._keeping = Keeping(self.name, self._request, safe, check_range("within in seconds", within, 0, 1e6))
        self._report = self._keeping.report
        self._line = Driven(self.name)
        self._board: Board | None = None
        self._action: Action | None = None
        self._edges: OutputEdges | None = None
        self._plans = Plans(self._line, self._end_action)
        self._opened_on: weakref.ref[asyncio.AbstractEventLoop] | None = None

    def open(self) -> Self:
        """Claim the line and drive it to its initial level. Raises `HardwareError`, or RuntimeError if it was open."""
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

    def close(self, *, keep: bool = True) -> None:
        """Set the safe level, if there is one, and release the line. Harmless when repeated.

        A kept line is left to the guardian as it is, once a pulse or blink under way has ended. With `keep=False` it
        ends like the line of any other output.

        Signal handlers run before or after it, never in between. Raises `HardwareError` if the line can't be set to its
        safe level; the line is released even so, and a guardian, if there is one, drives it.

        In a forked child it leaves the line alone, which belongs to the parent.
        """
        self._line.closed = True
        with DeferredSignals():
            self._release(keep=keep)

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
        """Drive the line to the opposite of its last level."""
        self.set(0 if self._line.level else 1)

    def pulse(self, seconds: float, value: Level = 1) -> Action:
        """Drive the line to `value` now, and to the opposite level `seconds` later."""
        check_range("a pulse in seconds", seconds, SHORTEST, LONGEST)
        check_level("a level", value)
        return self._begin(seconds, 0.0, 1, value)

    def blink(self, on: float = 0.5, off: float = 0.5, n: int | None = None) -> Action:
        """Drive the line to 1 for `on` seconds and to 0 for `off` seconds, `n` times; None repeats without an end.

        The changes keep to a grid that begins now. After a stall of the loop they continue on that grid.
        """
        check_range("on in seconds", on, SHORTEST, LONGEST)
        check_range("off in seconds", off, SHORTEST, LONGEST)
        if n is not None and (isinstance(n, bool) or not isinstance(n, int)):
            raise TypeError(f"n must be a whole number or None, not {n!r}")
        if n is not None and n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        return self._begin(on, off, n, 1)

    def pwm(self, duty: float, frequency: float = 100.0) -> None:
        """Send pulses without an end, which cost the loop no time: at 1 for the fraction `duty` (0 to 1) of each cycle.

        `frequency` in Hz, 0.1 to 10,000. Raises `HardwareError` if the board has no PWM; see docs/gpio.md.
        """
        check_range("duty", duty, 0, 1)
        check_range("frequency in Hz", frequency, *PWM_FREQUENCIES)
        self._take_over()
        self._line.opened().pwm(frequency, duty)
        self._line.level = 1 if duty else 0

    def schedule(self, at: float, value: Level) -> asyncio.TimerHandle:
        """Drive the line to `value` at the time `at` (seconds, loop time), or at once if that is past.

        Return its timer, which has `cancel()`. Several may be outstanding. A pulse or blink that runs at that time
        ends.
        """
        check_range("at in seconds of loop time", at, 0, 1e18)
        check_level("a level", value)
        self._line.opened()
        return self._plans.add(at, value)

    @property
    def value(self) -> int:
        """The line's logical level now, which another part of the circuit may hold at another level than was set.

        Setting it is the same as `set()`.
        """
        return self._line.opened().get()

    @value.setter
    def value(self, level: Level) -> None:
        self.set(level)

    @property
    def edges(self) -> OutputEdges:
        """The edges that other devices make on the line while it is released, as a source of `Edge`s.

        For outputs with drive="open-drain", released at 1, or "open-source", released at 0, which are open in a running
        loop. Opened with the output, or on first access. Raises ValueError for an output that drives both levels.
        """
        if self._edges is None:
            if self._request.drive == "push-pull":
                raise ValueError(
                    f"{self.name} drives both levels and sees no edges of others; use drive='open-drain', "
                    "which releases the line, or gpio.watch"
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

    @property
    def kept(self) -> bool:
        """Whether the line outlives the program: with `keep=True`, while a guardian holds it."""
        return self._keeping.kept

    @property
    def adopted(self) -> bool:
        """Whether the line was taken over from an earlier program, at the level that it had."""
        return self._keeping.adopted

    def statistics(self) -> dict[str, object]:
        """Return its state as plain data: the `level` that was driven last, `kept` and `adopted`."""
        return {"level": self._line.level, "kept": self.kept, "adopted": self.adopted}

    @property
    def opened_elsewhere(self) -> bool:
        """Whether it was opened on a loop that still runs, in another thread."""
        loop = None if self._opened_on is None else self._opened_on()
        return loop is not None and loop.is_running()

    def make_safe(self) -> None:
        """Set the safe level, if there is one, and end pulses and schedules. In a forked child it does nothing."""
        device = self._device
        if device is None or device.forked or self.safe is None:
            return
        with self._line.lock:
            try:
                self._drive_safe(device, self.safe)
            finally:
                self._end_all()

    def _claim(self, board: Board) -> None:
        self._line.device = device = self._keeping.open(board)
        loop = asyncio._get_running_loop()
        self._opened_on = None if loop is None else weakref.ref(loop)
        open_outputs.listed.append(self)
        board.before_closing.append(self.close)
        self._keeping.begin(board, device)
        initial = None if self._keeping.adopted else self._request.initial
        self._line.level = (1 if device.get() else 0) if initial is None else initial

    def _release(self, *, keep: bool = True) -> None:
        """Drive first, release afterwards, and forget last: if anything interrupts this, it can be repeated."""
        device = self._device
        if device is None:
            return
        failure: BaseException | None = None
        if not device.forked:
            try:
                if not (keep and self._left()):
                    self.make_safe()
                    if self.safe is None:
                        self._end_all()
                    self._report.closed()
            except (SystemExit, KeyboardInterrupt):
                raise  # the line is still claimed and listed, so that the next `close()` can drive it
            except BaseException as error:
                failure = error
        try:
            if self._edges is not None:
                self._edges.close()
        except Exception as error:
            failure = failure or error
        try:
            (self._device or device).close()
        finally:
            self._line.device = None
            if self in open_outputs.listed:
                open_outputs.listed.remove(self)
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
            except BaseException as error:
                if isinstance(error, HardwareError) and error.errno == errno.ENODEV and self._claim_again(safe):
                    return
                if not left:
                    raise
                time.sleep(_PAUSE)
            else:
                self._line.level = safe
                return

    def _claim_again(self, safe: Level) -> bool:
        """Claim the line at its safe level, because its chip vanished. Return whether the chip is back."""
        assert self._board is not None
        device = self._keeping.claim_at(self._board, safe)
        if device is None:
            return False
        gone, self._line.device = self._line.device, device
        self._line.level = safe
        if gone is not None:
            gone.close()
        return True

    def _begin(self, on: float, off: float, times: int | None, value: Level) -> Action:
        self._take_over()
        self._action = Action(self._line, on, off, times, value)
        return self._action

    def _take_over(self) -> None:
        self._line.opened()
        self._report.driven()
        self._end_all()

    def _end_all(self) -> None:
        self._end_action()
        self._plans.cancel()

    def _left(self) -> bool:
        """Leave a kept line to the guardian, at the level between pulses: no timer ends them. Return whether it did."""
        if not self.kept:
            return False
        try:
            if self._action is not None:
                self._action.rest()
        except Exception:
            return False  # the guardian can do no better: let the safe level fail, and be reported
        self._end_all()
        return self._keeping.leave()

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


def outputs() -> list[Output]:
    """Return the outputs that are open in this process, in the order in which they were opened."""
    return [each for each in open_outputs.listed if isinstance(each, Output)]
