"""`SimFactory`: gpiozero's `MockFactory` on the lines of a simulated board.

A test written for gpiozero's mock pins drives them and asserts what happened to them, all in one thread. That works
here as it is, with every pin class of the mock; and below each pin lies a line of `firmware_sim`, so that wires, parts
and virtual time take part, and a program on a loop gets its events there.

What a mock pin is told by `drive_high()` and its like is a part that drives the line; setting a pull, or turning the
pin to an input, lets go of that again, as it does in the mock. While no loop runs, handlers are called before
`drive_high()` returns, in the same thread, and what they raise comes out there. While one runs they are called on it,
before anything that is scheduled after: `await asyncio.sleep(0)` is enough to see it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any, Literal, cast

import gpiozero
from gpiozero.pins.mock import MockFactory, MockPin, PinState
from gpiozero.pins.pi import PiPin

from firmware_sim.board import SimBoard
from firmware_sim.timeline import Event
from hwloop import board as boards
from hwloop.board import Edge
from hwloop.core.clock import REAL
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.lines import Pull
from hwloop.pins.adoption import OnLoop, adopt
from hwloop.pins.dispatch import Dispatch, inherited

logger = logging.getLogger("hwloop")

_PULLS: dict[str, Pull] = {"up": "up", "down": "down", "floating": "none"}
_CONSUMER = "gpiozero"
_EDGES = {"both": (0, 1), "rising": (1,), "falling": (0,), "none": ()}


class SimFactory(OnLoop, MockFactory):  # type: ignore[misc]
    """Mock pins on simulated lines.

    Parameters:
        revision: the Raspberry Pi to be, as a revision code in hexadecimal; by default GPIOZERO_MOCK_REVISION from the
            environment, or what the board poses as.
        pin_class: as for `MockFactory`: one of gpiozero's mock pin classes.
        board: whose lines. By default the board in use, if that is a simulated one, or else one of its own with
            nothing on it. It is looked up when first used, again after `close()` or `reset()`.

    Of the line of a PWM pin only the average is seen: it is high from a duty cycle of one half.
    """

    def __init__(
        self, revision: str | None = None, pin_class: type[MockPin] | None = None, *, board: SimBoard | None = None
    ) -> None:
        super().__init__(revision, pin_class)
        adopt(self)
        self._named = revision is not None or "GPIOZERO_MOCK_REVISION" in os.environ
        self._given = board
        self._board: SimBoard | None = None
        self._own: SimBoard | None = None
        self._dispatch: Dispatch | None = None
        self._acting = threading.local()
        self._direct: collections.deque[tuple[SimPin, Edge]] = collections.deque()

    @property
    def board(self) -> SimBoard:
        """The board whose lines these are."""
        if self._board is None:
            board = self._given or self._in_use() or self._make_own()
            if board.forked:
                raise inherited(board.label)
            self._board = board
            self._board.before_closing.append(self.close)
        return self._board

    def _in_use(self) -> SimBoard | None:
        try:
            board = boards.current()
        except HardwareError:
            return None
        return board if isinstance(board, SimBoard) else None

    def _make_own(self) -> SimBoard:
        self._own = SimBoard(clock=getattr(asyncio._get_running_loop(), "clock", REAL))
        return self._own

    def end_jobs(self) -> None:
        if self._dispatch is not None:
            self._dispatch.end_jobs()

    @property
    def dispatch(self) -> Dispatch:
        if self._dispatch is None:
            self._dispatch = Dispatch(self.board.clock)
        return self._dispatch

    def leave_to_parent(self) -> None:
        self._res_lock = threading.RLock()
        self.pins.clear()
        self._reservations.clear()
        self._acting = threading.local()
        self._direct.clear()
        self._dispatch = self._board = self._own = None

    def close(self) -> None:
        """Close all pins, and the board if it is the factory's own. The factory can be used again."""
        if self._dispatch is not None:
            self._dispatch.close()
        for pin in list(self.pins.values()):
            try:
                pin.close()
            except Exception as error:
                logger.error("%s could not be closed", short_name(pin), exc_info=error)
        self.reset()

    def reset(self) -> None:
        """Forget all pins and reservations, as `MockFactory` does; a board of its own is closed."""
        pins = list(self.pins.values())
        super().reset()
        for pin in pins:
            pin.detach()
        self._direct.clear()
        if self._dispatch is not None:
            self._dispatch.close()
            self._dispatch = None
        board, self._board = self._board, None
        if board is not None:
            board.before_closing.remove(self.close)
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def pin(self, name: object, pin_class: type[MockPin] | None = None, **kwargs: Any) -> SimPin:
        """The pin of that name, as in `MockFactory`. Any mock pin class will do; it is put on the board."""
        return cast("SimPin", super().pin(name, pin_class=_on_lines(cast(Any, pin_class or self.pin_class)), **kwargs))

    def ticks(self) -> float:
        """Seconds of the board's clock."""
        return self.board.timeline.now_ns() / 1e9

    def ticks_diff(self, later: float, earlier: float) -> float:
        return later - earlier

    def _get_revision(self) -> int:
        return int(super()._get_revision()) if self.board.revision is None or self._named else self.board.revision

    # Events.

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """The program acts on lines in this block; what comes of that is delivered at its end."""
        depth = getattr(self._acting, "depth", 0)
        self._acting.depth = depth + 1
        try:
            yield
        finally:
            self._acting.depth = depth
        if depth == 0:
            self._deliver_direct()

    def happened(self, pin: SimPin, edge: Edge) -> None:
        """An edge that a pin's handler wants to hear of. The timeline's lock is held."""
        acting = getattr(self._acting, "depth", 0) > 0
        if acting and self.dispatch.loop is None:
            self._direct.append((pin, edge))
        else:
            self.dispatch.post(pin, edge, soon=acting)

    def _deliver_direct(self) -> None:
        while self._direct:
            pin, edge = self._direct.popleft()
            with self.dispatch.handlers.unguarded():
                pin.deliver(edge)


class SimPin(MockPin):  # type: ignore[misc]
    """A mock pin on a simulated line. gpiozero's kinds of mock pins are put in front of it, see `_on_lines`."""

    factory: SimFactory

    def __init__(self, factory: SimFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._process = os.getpid()
        self._line = factory.board.chip.line(self._number)
        self._bounce: float | None = None
        self.closed = False
        """Whether `close()` has begun, and the pin has not been given a function since."""
        self._cause: Literal["part", "pull", "program"] = "program"
        self._settled: Event | None = None
        # Where nothing acts on it, it begins low, as a mock pin does.
        self._claim("down")
        self._claim(_PULLS[self._pull])
        self._state: float = bool(self._line.level)
        self.clear_states()
        self._line.observe(self._on_change)

    def detach(self) -> None:
        """Leave the line, for good; in a forked child, leave it to the parent."""
        if os.getpid() != self._process:
            return
        self._line.forget(self._on_change)
        self._line.drive(None)
        self._line.release()

    def close(self) -> None:
        if os.getpid() == self._process:
            self.closed = True
            super().close()
            self._line.release()

    def input_with_pull(self, pull: str) -> None:
        self.closed = False
        super().input_with_pull(pull)

    def check_process(self) -> None:
        """Raise `HardwareError` in a forked child of the process that made the pin."""
        if os.getpid() != self._process:
            raise inherited(f"pin {self.info.name}")

    def _get_state(self) -> float:
        self.check_process()
        return cast("float", super()._get_state())

    def drive_high(self) -> None:
        """A part drives the line high."""
        self._drive(True)

    def drive_low(self) -> None:
        """A part drives the line low."""
        self._drive(False)

    def drive_floating(self) -> None:
        """No part drives the line: it goes where pull and wires take it."""
        self.check_process()
        assert self._function == "input"
        with self.factory.acting():
            self._line.drive(None)

    def clear_states(self) -> None:
        self._last_change = self.factory.ticks()
        self.states = [PinState(0.0, self._state)]

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
        if value not in _PULLS:
            raise gpiozero.PinInvalidPull("pull must be floating, up, or down")
        self._pull = value
        if value == "floating":
            with self.factory.acting():
                self._let_go()
        else:
            self._change_input(value == "up", "pull")

    def _change_state(self, value: float) -> bool:
        """Bring the line to a state: as an output, by the pull or by a part. A program moves no input."""
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
        """What drove the line drives it no more, and the pull is as set."""
        self._claim(_PULLS[self._pull])
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

    # What comes from the line; the timeline's lock is held.

    def _on_change(self, level: int, when_ns: int) -> None:
        if self._function == "output":
            if not isinstance(self._state, float):
                self._note(bool(level), when_ns)
            return
        self._note(bool(level), when_ns)
        if self._settled is None:
            self._tell(level, when_ns)

    def _tell(self, level: int, when_ns: int) -> None:
        if self._when_changed is not None and level in _EDGES[self._edges]:
            self.factory.happened(self, Edge(self._number, level, when_ns, when_ns, 0))
        if self._bounce:
            self._settled = self.factory.board.timeline.after(self._bounce, functools.partial(self._settle, level))

    def _settle(self, told: int) -> None:
        """The bounce time is over: a change that was not told of is told now."""
        self._settled = None
        if self._function == "input" and self._line.level != told:
            self._tell(self._line.level, self.factory.board.timeline.now_ns())

    def _set_bounce(self, value: float | None) -> None:
        super()._set_bounce(value)
        if self._bounce is not None and not self._bounce >= 0:
            self._bounce = None
            raise gpiozero.PinInvalidBounce("bounce must be 0 or greater")

    def held_off(self) -> bool:
        return False  # no report of a mock pin is lost

    def deliver(self, edge: Edge) -> None:
        """Hand an edge to whoever set `when_changed`."""
        if self._when_changed is not None:
            PiPin._call_when_changed(self, edge.timestamp_ns / 1e9, edge.value)


@functools.cache
def _on_lines(pin_class: Any) -> type[SimPin]:
    """A kind of mock pin, on a simulated line: what it leaves to `MockPin` goes to `SimPin` first."""
    if issubclass(SimPin, pin_class):
        return SimPin
    if issubclass(pin_class, SimPin):
        return cast("type[SimPin]", pin_class)
    return type(f"Sim{pin_class.__name__.removeprefix('Mock')}", (pin_class, SimPin), {})
