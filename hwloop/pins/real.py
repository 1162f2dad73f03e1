"""`LoopFactory`: gpiozero's pins on the lines of the board in use.

A pin is claimed when it is given a function and given back when its device closes. An input is always claimed with its
edges, so that setting a handler or taking it off changes nothing on the line; the edges nobody asked for are thrown
away. Ticks are seconds of the kernel's time stamps, so `active_time` and holds count from the edge itself.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import gpiozero
from gpiozero.pins import local
from gpiozero.pins.pi import PiFactory, PiPin

from hwloop import board as boards
from hwloop.board import Board, Edge, EdgeRequest, EdgeStream, OutputLine, OutputRequest, Pull
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.pins.adoption import OnLoop, adopt
from hwloop.pins.dispatch import Dispatch, inherited
from hwloop.pins.jobs import Job, Steps
from hwloop.requests import MAX_DEBOUNCE

logger = logging.getLogger("hwloop")

_PULLS: dict[str, Pull] = {"up": "up", "down": "down", "floating": "none"}
_EDGES = {"both": (0, 1), "rising": (1,), "falling": (0,), "none": ()}

MAX_TIMED_PWM = 1000.0
"""Hz: up to this, a line without PWM gets it from timers."""


class LoopFactory(OnLoop, PiFactory):  # type: ignore[misc]
    """Pins on a board's lines, whose events are delivered on the loop.

    Parameters:
        board: whose lines; by default the board in use (`hwloop.board.current()`) when the first pin is used.
        revision: the Raspberry Pi to be, as a revision code in hexadecimal ("c03111"): it says which pins there are.
            By default what the board says that it is.

    A forked child that finds the factory of its parent may use it as a new one; the parent's devices are not its own.

    Closing the factory closes its pins and gives the lines back; the board stays open. Closing the board closes the
    factory first.
    """

    def __init__(self, board: Board | None = None, *, revision: str | None = None) -> None:
        super().__init__()
        adopt(self)
        self.pin_class = LoopPin
        self._given = board
        self._board: Board | None = None
        self._dispatch: Dispatch | None = None
        self._revision = None if revision is None else int(revision, base=16)

    @property
    def board(self) -> Board:
        """The board whose lines these are."""
        if self._board is None:
            self._board = self._given or boards.current()
            self._board.before_closing.append(self.close)
        return self._board

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
        self._dispatch = self._board = None

    def close(self) -> None:
        """Close all pins and give the lines back. The factory can be used again, with what is the board in use then."""
        dispatch = self._dispatch
        if dispatch is not None:
            dispatch.close()
        for pin in list(self.pins.values()):
            try:
                pin.close()
            except Exception as error:  # a chip that is gone, say: the other pins are closed all the same
                logger.error("%s could not be closed", short_name(pin), exc_info=error)
        self.pins.clear()
        self._reservations.clear()
        self._dispatch = None
        board, self._board = self._board, None
        if board is not None:
            board.before_closing.remove(self.close)

    def ticks(self) -> float:
        """Seconds, CLOCK_MONOTONIC; on a virtual board the virtual clock's."""
        return self.dispatch.time()

    def ticks_diff(self, later: float, earlier: float) -> float:
        return later - earlier

    def _get_revision(self) -> int:
        if self._revision is not None:
            return self._revision
        revision = self.board.revision
        return int(local.get_pi_revision()) if revision is None else revision

    def _get_spi_class(self, shared: bool, hardware: bool) -> type:
        # A simulated board has no /dev/spidev; this machine may well have one.
        if hardware and self.board.revision is None:
            return local.LocalPiHardwareSPIShared if shared else local.LocalPiHardwareSPI  # type: ignore[no-any-return]
        return local.LocalPiSoftwareSPIShared if shared else local.LocalPiSoftwareSPI  # type: ignore[no-any-return]


class LoopPin(PiPin):  # type: ignore[misc]
    """One line. See `gpiozero.Pin` for what the properties mean."""

    factory: LoopFactory

    def __init__(self, factory: LoopFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._process = os.getpid()
        self._function = "input"
        self._pull = info.pull or "floating"
        self._bounce: float | None = None
        self._edges = "both"
        self.closed = False
        """Whether `close()` has begun, and the pin has not been given a function since."""
        self.lost = 0
        """Edges that are known to be lost, as `hwloop.Edge.lost` has it."""
        self._last_value: int | None = None
        self._detecting = False
        self._pwm: tuple[float, float] | None = None  # frequency in Hz, duty from 0 to 1
        self._pulses: Job | None = None
        self._stream: EdgeStream | None = None
        self._output: OutputLine | None = None

    def close(self) -> None:
        """Leave the line a floating input that nobody has; in a forked child, leave it to the parent."""
        if os.getpid() != self._process:
            return
        self.closed = True
        self.when_changed = None
        self.frequency = None
        was_output = self._output is not None
        self._release()
        if was_output:
            self._function, self._pull = "input", self.info.pull or "floating"
            self._open_edges().close()

    def check_process(self) -> None:
        """Raise `HardwareError` in a forked child of the process that made the pin."""
        if os.getpid() != self._process:
            raise inherited(f"pin {self.info.name}")

    def output_with_state(self, state: float) -> None:
        self._function = "output"
        self._claim(initial=bool(state))

    def input_with_pull(self, pull: str) -> None:
        self._check_pull(pull)
        self._function, self._pull = "input", pull
        self._claim()

    def _get_function(self) -> str:
        return self._function

    def _set_function(self, value: str) -> None:
        self.check_process()
        if value not in ("input", "output"):
            raise gpiozero.PinInvalidFunction(f"function must be input or output, not {value!r}, for pin {self!r}")
        self.closed = False
        initial = self.state if value == "output" else False  # as it is found
        self._function = value
        self._claim(initial=initial)

    def _get_state(self) -> float:
        self.check_process()
        if self._pwm is not None:
            return self._pwm[1]
        output, stream = self._output, self._stream  # which another thread that closes the pin sets to None
        if output is not None:
            return bool(output.get())
        if stream is None:
            if self.closed:
                raise gpiozero.DeviceClosed(f"pin {self.info.name} is closed")
            self._claim()
            stream = self._stream
            assert stream is not None
        return bool(stream.level(self._number))

    def _set_state(self, value: float) -> None:
        self.check_process()
        if self._output is None:
            raise gpiozero.PinSetInput(f"cannot set state of pin {self!r}")
        if self._pwm is None:
            self._output.set(int(bool(value)))
        elif 0 <= value <= 1:
            self._send_pwm(self._output, self._pwm[0], value)
        else:
            raise gpiozero.PinInvalidState(f"a duty cycle is 0 to 1, not {value!r}, for pin {self!r}")

    def _get_pull(self) -> str:
        return str(self._pull)

    def _set_pull(self, value: str) -> None:
        if self._function != "input":
            raise gpiozero.PinFixedPull(f"cannot set pull on non-input pin {self!r}")
        self._check_pull(value)
        self._pull = value
        self._claim()

    def _check_pull(self, value: str) -> None:
        if value not in _PULLS:
            raise gpiozero.PinInvalidPull(f"pull must be up, down or floating, not {value!r}, for pin {self!r}")
        if self.info.pull not in (value, ""):
            raise gpiozero.PinFixedPull(f"{self!r} has a physical pull-{self.info.pull} resistor")

    def _get_frequency(self) -> float | None:
        return None if self._pwm is None else self._pwm[0]

    def _set_frequency(self, value: float | None) -> None:
        self.check_process()
        if value:
            if self._output is None:
                raise gpiozero.PinPWMFixedValue(f"cannot start PWM on pin {self!r}, which is an input")
            self._send_pwm(self._output, value, 0.0 if self._pwm is None else self._pwm[1])
        elif self._pwm is not None:
            self._pwm = None
            self._end_pulses()
            if self._output is not None:
                self._output.set(0)

    def _send_pwm(self, output: OutputLine, frequency: float, duty: float) -> None:
        try:
            if type(output).pwm is not OutputLine.pwm:
                output.pwm(frequency, duty)
            elif frequency <= MAX_TIMED_PWM:
                self._send_timed_pwm(output, duty)
            else:
                output.pwm(frequency, duty)  # which says why not
        except HardwareError as error:
            raise gpiozero.PinPWMUnsupported(f"pin {self!r}: {error}") from error
        self._pwm = (frequency, duty)

    def _send_timed_pwm(self, output: OutputLine, duty: float) -> None:
        """Pulses by a job, on a line that has no PWM; steady where nothing changes."""
        if 0 < duty < 1:
            if self._pulses is None:
                self._pulses = Job(self.factory.dispatch, lambda: self._pulse(output), f"PWM of {self.info.name}")
                self._pulses.start()
        else:
            self._end_pulses()
            output.set(int(duty))

    def _pulse(self, output: OutputLine) -> Steps:
        while self._pwm is not None:
            frequency, duty = self._pwm
            output.set(1)
            yield duty / frequency
            output.set(0)
            yield (1 - duty) / frequency

    def _end_pulses(self) -> None:
        pulses, self._pulses = self._pulses, None
        if pulses is not None:
            pulses.stop()

    def _get_bounce(self) -> float | None:
        return self._bounce

    def _set_bounce(self, value: float | None) -> None:
        if value is not None and not 0 <= value <= MAX_DEBOUNCE:
            raise gpiozero.PinInvalidBounce(f"bounce must be 0 to {MAX_DEBOUNCE:g} seconds, not {value!r}")
        if (value or None) != self._bounce:
            self._bounce = value or None
            if self._stream is not None:
                self._claim()

    def _get_edges(self) -> str:
        return self._edges

    def _set_edges(self, value: str) -> None:
        if value not in _EDGES:
            raise gpiozero.PinInvalidEdges(f"edges must be both, rising, falling or none, not {value!r}")
        self._edges = value

    def _enable_event_detect(self) -> None:
        self.check_process()
        self._detecting = True
        if self._stream is not None:
            self.factory.dispatch.watch(self._stream, self)
        elif self._function == "input":
            self._claim()

    def _disable_event_detect(self) -> None:
        self._detecting = False
        if self._stream is not None and os.getpid() == self._process:
            self.factory.dispatch.unwatch(self._stream)

    def deliver(self, edge: Edge) -> None:
        """Hand an edge to whoever set `when_changed`."""
        self.lost += edge.lost
        if edge.lost % 2 and edge.value == self._last_value:
            self._tell(1 - edge.value, edge)  # an edge between left no report: the level did change
        self._last_value = edge.value
        self._tell(edge.value, edge)

    def held_off(self) -> bool:
        """Whether a part holds the line off the level to which its pull takes it: a pressed button."""
        return self._last_value == {"up": 0, "down": 1}.get(self._pull, -1)

    def _tell(self, value: int, edge: Edge) -> None:
        if self._when_changed is not None and value in _EDGES[self._edges]:
            self._call_when_changed(edge.timestamp_ns / 1e9, value)

    def _claim(self, *, initial: bool = False) -> None:
        """Have the line as function, pull and bounce say."""
        self.check_process()
        self._release()
        if self._function == "output":
            self._output = self.factory.board.open_output(
                OutputRequest(self._number, consumer=self._consumer(), initial=1 if initial else 0)
            )
        else:
            self._stream = self._open_edges()
            if self._detecting:
                self.factory.dispatch.watch(self._stream, self)
        self.closed = False

    def _open_edges(self) -> EdgeStream:
        return self.factory.board.open_edges(
            EdgeRequest(
                [self._number],
                consumer=self._consumer(),
                pull=_PULLS[self._pull],
                debounce=self._bounce or 0.0,
            )
        )

    def _consumer(self) -> str:
        return f"gpiozero {self.info.name}"

    def _release(self) -> None:
        self._pwm = None
        self._end_pulses()
        stream, self._stream = self._stream, None
        output, self._output = self._output, None
        if stream is not None:
            self.factory.dispatch.unwatch(stream)
            stream.close()
        if output is not None:
            output.close()
