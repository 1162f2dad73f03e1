"""`SimFactory`: gpiozero's `MockFactory` on the lines of a simulated board.

A test written for gpiozero's mock pins drives them and asserts the result, all in one thread. Such a test runs here
unchanged, with every pin class of the mock. Below each pin is a line of `firmware_sim`, so wires, parts and virtual
time take part, and a program on a loop receives its events there.

`drive_high()` and the like act as a part that drives the line. Setting a pull, or turning the pin into an input, ends
that, as in the mock. While no loop runs, handlers are called before `drive_high()` returns, in the same thread, and
their exceptions come out of it. While a loop runs, it calls them before anything that is scheduled later: after
`await asyncio.sleep(0)` they have run.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any, Literal, cast

import gpiozero
from gpiozero.pins.mock import PinState

from firmware_sim.board import SimBoard
from firmware_sim.timeline import Event
from hwloop import board as boards
from hwloop.board import Edge
from hwloop.core.clock import REAL
from hwloop.errors import HardwareError
from hwloop.lines import Pull
from hwloop.pins.factory import LEVELS, PULLS, BoardFactory, BoardPin
from hwloop.pins.forks import inherited
from hwloop.pins.gpiozero_classes import MockFactory, MockPin, PiPin
from hwloop.pins.gpiozero_patch import install

_CONSUMER = "gpiozero"


class SimFactory(BoardFactory, MockFactory):
    """Mock pins on simulated lines.

    Parameters:
        revision: the Raspberry Pi to be, as a revision code in hexadecimal; by default GPIOZERO_MOCK_REVISION from the
            environment, or the revision of the board.
        pin_class: one of gpiozero's mock pin classes, as for `MockFactory`.
        board: the simulated board; by default the board in use if it is a simulated one, or else a new, empty board of
            the factory. The factory looks for its board when it first needs it, and again after `close()` or
            `reset()`.

    The line of a PWM pin shows only the average: it is high from a duty cycle of one half.
    """

    def __init__(
        self, revision: str | None = None, pin_class: type[MockPin] | None = None, *, board: SimBoard | None = None
    ) -> None:
        super().__init__(revision, pin_class)
        install(self)
        self._named = revision is not None or "GPIOZERO_MOCK_REVISION" in os.environ
        self._given = board
        self._own: SimBoard | None = None
        self._acting = threading.local()
        self._direct: collections.deque[tuple[SimPin, Edge]] = collections.deque()

    @property
    def board(self) -> SimBoard:
        """The board that has the lines."""
        return cast("SimBoard", super().board)

    def _find_board(self) -> SimBoard:
        board = self._given or self._in_use() or self._make_own()
        if board.forked:
            raise inherited(board.label)
        return board

    def _in_use(self) -> SimBoard | None:
        try:
            board = boards.current()
        except HardwareError:
            return None
        return board if isinstance(board, SimBoard) else None

    def _make_own(self) -> SimBoard:
        self._own = SimBoard(clock=getattr(asyncio._get_running_loop(), "clock", REAL))
        return self._own

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self._acting = threading.local()
        self._direct.clear()
        self._own = None

    def reset(self) -> None:
        """Forget all pins and reservations, as `MockFactory` does, and close the factory's own board."""
        pins = list(self.pins.values())
        super().reset()
        for pin in pins:
            pin.detach()
        self._direct.clear()
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def pin(self, name: object, pin_class: type[MockPin] | None = None, **kwargs: Any) -> SimPin:
        """Return the pin of that name, as `MockFactory` does. Any mock pin class can be used."""
        return cast("SimPin", super().pin(name, pin_class=_on_lines(cast(Any, pin_class or self.pin_class)), **kwargs))

    def ticks(self) -> float:
        """Return seconds of the board's clock."""
        return self.board.timeline.now_ns() / 1e9

    def _get_revision(self) -> int:
        return int(super()._get_revision()) if self.board.revision is None or self._named else self.board.revision

    # Events.

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """The program acts on lines in this block; the edges that result are delivered at its end."""
        depth = getattr(self._acting, "depth", 0)
        self._acting.depth = depth + 1
        try:
            yield
        finally:
            self._acting.depth = depth
        if depth == 0:
            self._deliver_direct()

    def happened(self, pin: SimPin, edge: Edge) -> None:
        """Deliver an edge to a pin with a handler. The timeline's lock is held."""
        acting = getattr(self._acting, "depth", 0) > 0
        if acting and self.delivery.loop is None:
            self._direct.append((pin, edge))
        else:
            self.delivery.post(pin, edge, soon=acting)

    def _deliver_direct(self) -> None:
        while self._direct:
            pin, edge = self._direct.popleft()
            with self.delivery.handlers.unguarded():
                pin.deliver(edge)


class SimPin(BoardPin, MockPin):
    """A mock pin on a simulated line. `_on_lines` derives the other kinds of gpiozero's mock pins from it."""

    factory: SimFactory

    def __init__(self, factory: SimFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._line = factory.board.chip.line(self._number)
        self._bounce: float | None = None
        self._cause: Literal["part", "pull", "program"] = "program"
        self._settled: Event | None = None
        # A line on which nothing acts begins low, as a mock pin does.
        self._claim("down")
        self._claim(PULLS[self._pull])
        self._state: float = bool(self._line.level)
        self.clear_states()
        self._line.observe(self._on_change)

    def detach(self) -> None:
        """Leave the line for good. In a forked child, leave it to the parent."""
        if self.inherited():
            return
        self._line.forget(self._on_change)
        self._line.drive(None)
        self._line.release()

    def close(self) -> None:
        if not self.inherited():
            self.closed: bool = True
            super().close()
            self._line.release()

    def input_with_pull(self, pull: str) -> None:
        self.closed = False
        super().input_with_pull(pull)

    def _get_state(self) -> float:
        self.check_process()
        return cast("float", super()._get_state())

    def drive_high(self) -> None:
        """Drive the line high, as a part."""
        self._drive(True)

    def drive_low(self) -> None:
        """Drive the line low, as a part."""
        self._drive(False)

    def drive_floating(self) -> None:
        """Stop driving the line: pull and wires decide its level."""
        self.check_process()
        assert self._function == "input"
        with self.factory.acting():
            self._line.drive(None)

    def clear_states(self) -> None:
        self._last_change = self.factory.ticks()
        self.states: list[PinState] = [PinState(0.0, self._state)]

    def _drive(self, level: bool) -> None:
        assert self._function == "input"
        self._change_input(level, "part")

    def _change_input(self, level: bool, cause: Literal["part", "pull"]) -> None:
        self.check_process()
        with self.factory.acting():
            self._cause = cause
            try:
                self._change_state(level)  # which a connected pin follows
            finally:
                self._cause = "program"

    def _set_function(self, value: str) -> None:
        self.check_process()
        with self.factory.acting():
            super()._set_function(value)
            if value == "output":
                self.closed = False
                self._claim(output=int(self._line.level))
                self._line.drive(None)

    def _set_pull(self, value: str) -> None:
        self.check_process()
        if self._function != "input":
            raise gpiozero.PinFixedPull(f"cannot set pull on non-input pin {self!r}")
        if self.info.pull and value != self.info.pull:
            raise gpiozero.PinFixedPull(f"{self!r} has a fixed pull resistor")
        if value not in PULLS:
            raise gpiozero.PinInvalidPull("pull must be floating, up, or down")
        self._pull = value
        if value == "floating":
            with self.factory.acting():
                self._let_go()
        else:
            self._change_input(value == "up", "pull")

    def _change_state(self, value: float) -> bool:
        """Set the level of the line: as an output, by the pull or as a part. A program can't set an input."""
        self.check_process()
        before = self._state
        with self.factory.acting():
            if self._function == "output":
                if isinstance(value, float):
                    self._note(value, self.factory.board.timeline.now_ns())  # a duty cycle
                self._line.set_output(int(value >= 0.5))
            elif self._cause == "pull":
                self._let_go()
            elif self._cause == "part":
                self._line.drive(int(value))
        return bool(self._state != before)

    def _let_go(self) -> None:
        """Stop driving the line and apply the pull that is set."""
        self._claim(PULLS[self._pull])
        self._line.drive(None)

    def _claim(self, bias: Pull | None = None, output: int | None = None) -> None:
        if self._line.consumer not in (None, _CONSUMER):
            raise HardwareError(f"line {self._number}", f"in use already, by {self._line.consumer}", "close that first")
        self._line.claim(_CONSUMER, output=output, bias=bias)

    def _note(self, state: float, when_ns: int) -> None:
        if state != self._state:
            ticks = when_ns / 1e9
            self._state = state
            self.states.append(PinState(ticks - self._last_change, state))
            self._last_change = ticks

    # Called by the line, with the timeline's lock held.

    def _on_change(self, level: int, when_ns: int) -> None:
        if self._function == "output":
            if not isinstance(self._state, float):
                self._note(bool(level), when_ns)
            return
        self._note(bool(level), when_ns)
        if self._settled is None:
            self._report(level, when_ns)

    def _report(self, level: int, when_ns: int) -> None:
        if self._when_changed is not None and level in LEVELS[self._edges]:
            self.factory.happened(self, Edge(self._number, level, when_ns, when_ns, 0))
        if self._bounce:
            self._settled = self.factory.board.timeline.after(self._bounce, functools.partial(self._settle, level))

    def _settle(self, reported: int) -> None:
        """Report, after the bounce time, a level that was not reported."""
        self._settled = None
        if self._function == "input" and self._line.level != reported:
            self._report(self._line.level, self.factory.board.timeline.now_ns())

    def _set_bounce(self, value: float | None) -> None:
        super()._set_bounce(value)
        if self._bounce is not None and not self._bounce >= 0:
            self._bounce = None
            raise gpiozero.PinInvalidBounce("bounce must be 0 or greater")

    def held_off(self) -> bool:
        return False  # no report of a mock pin is lost

    def deliver(self, edge: Edge) -> None:
        """Pass an edge to `when_changed`."""
        if self._when_changed is not None:
            PiPin._call_when_changed(self, edge.timestamp_ns / 1e9, edge.value)


@functools.cache
def _on_lines(pin_class: Any) -> type[SimPin]:
    """Derive a kind of mock pin on a simulated line: calls that it leaves to `MockPin` reach `SimPin` first."""
    if issubclass(SimPin, pin_class):
        return SimPin
    if issubclass(pin_class, SimPin):
        return cast("type[SimPin]", pin_class)
    return type(f"Sim{pin_class.__name__.removeprefix('Mock')}", (pin_class, SimPin), {})
