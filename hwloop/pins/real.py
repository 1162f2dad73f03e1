"""`LoopFactory`: gpiozero's pins on the lines of the board in use.

A pin claims its line when it gets a function and releases it when its device closes. Like gpiozero's own factory for
lgpio, it asks for edges only while something wants to know of changes: a line that is only read makes no interrupts.
Ticks are seconds of the kernel's timestamps, so `active_time` and holds count from the edge itself.
"""

from __future__ import annotations

import threading
from typing import Any

import gpiozero
from gpiozero.pins import local

from hwloop import board as boards
from hwloop.board import Board, Edge, EdgeRequest, EdgeStream, OutputLine, OutputRequest
from hwloop.errors import HardwareError
from hwloop.pins.construction import once_made
from hwloop.pins.factory import EDGES, LEVELS, PULLS, BoardFactory, BoardPin
from hwloop.pins.gpiozero_patch import install
from hwloop.pins.timed_steps import Steps, TimedSteps
from hwloop.requests import MAX_DEBOUNCE

MAX_TIMED_PWM = 1000.0
"""The highest frequency, in Hz, that a line without PWM gets from timers."""


class LoopFactory(BoardFactory):
    """Pins on a board's lines, whose events are delivered on the loop.

    Parameters:
        board: the board; by default the board in use (`hwloop.board.current()`) when the first pin is used.
        revision: the Raspberry Pi to be, as a revision code in hexadecimal ("c03111"), which decides the pins that
            exist. By default the board decides.

    A forked child may use the factory of its parent, as a new one; the devices stay with the parent.

    Closing the factory closes its pins and gives the lines back; the board stays open. Closing the board closes the
    factory first.
    """

    def __init__(self, board: Board | None = None, *, revision: str | None = None) -> None:
        super().__init__()
        install(self)
        self.pin_class = LoopPin
        self._given = board
        self._revision = None if revision is None else int(revision, base=16)

    def _find_board(self) -> Board:
        return self._given or boards.current()

    def ticks(self) -> float:
        """Return seconds of CLOCK_MONOTONIC, or of the virtual clock."""
        return self.delivery.time()

    def _get_revision(self) -> int:
        if self._revision is not None:
            return self._revision
        revision = self.board.revision
        return int(local.get_pi_revision()) if revision is None else revision

    def _get_spi_class(self, shared: bool, hardware: bool) -> type:
        # This machine may have a spidev of its own, whose devices are not those of a simulated board.
        if hardware and (self.board.revision is None or hasattr(local.SpiDev, "nodes")):
            return local.LocalPiHardwareSPIShared if shared else local.LocalPiHardwareSPI  # type: ignore[no-any-return]
        return local.LocalPiSoftwareSPIShared if shared else local.LocalPiSoftwareSPI  # type: ignore[no-any-return]


class LoopPin(BoardPin):
    """One line. See `gpiozero.Pin` for the meaning of the properties."""

    factory: LoopFactory

    def __init__(self, factory: LoopFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._function = "input"
        self._pull = info.pull or "floating"
        self._bounce: float | None = None
        self._edges = "both"
        self.lost: int = 0
        """Edges that are known to be lost, the sum of `hwloop.Edge.lost`."""
        self._last_value: int | None = None
        self._detecting = False
        self._pwm: tuple[float, float] | None = None  # frequency in Hz, duty from 0 to 1
        self._pulses: TimedSteps | None = None
        # Held while a line is used or given back: lgpio claims a line anew that another thread has just given back.
        self._lock = threading.RLock()
        self._stream: EdgeStream | None = None
        self._output: OutputLine | None = None

    def close(self) -> None:
        """Leave the line as a free, floating input. In a forked child, leave it to the parent."""
        if self.inherited():
            return
        self.closed: bool = True
        self._set_when_changed(None)
        self._set_frequency(None)
        was_free = self._output is None and self._pull == (self.info.pull or "floating")
        self._release()
        if not was_free:
            self._function, self._pull, self._bounce = "input", self.info.pull or "floating", None
            self._open_edges().close()

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
        initial = self.state if value == "output" else False  # the level that the line has
        self._function = value
        self._claim(initial=initial)

    def _get_state(self) -> float:
        self.check_process()
        with self._lock:
            if self._pwm is not None:
                return self._pwm[1]
            if self._output is not None:
                return bool(self._output.get())
            if self._stream is None:
                if self.closed:
                    raise gpiozero.DeviceClosed(f"pin {self.info.name} is closed")
                self._claim()
            assert self._stream is not None
            return bool(self._stream.level(self._number))

    def _set_state(self, value: float) -> None:
        self.check_process()
        with self._lock:
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
        if value not in PULLS:
            raise gpiozero.PinInvalidPull(f"pull must be up, down or floating, not {value!r}, for pin {self!r}")
        if self.info.pull not in (value, ""):
            raise gpiozero.PinFixedPull(f"{self!r} has a physical pull-{self.info.pull} resistor")

    def _get_frequency(self) -> float | None:
        return None if self._pwm is None else self._pwm[0]

    def _set_frequency(self, value: float | None) -> None:
        self.check_process()
        with self._lock:
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
                output.pwm(frequency, duty)  # which raises and says why
        except HardwareError as error:
            raise gpiozero.PinPWMUnsupported(f"pin {self!r}: {error}") from error
        self._pwm = (frequency, duty)

    def _send_timed_pwm(self, output: OutputLine, duty: float) -> None:
        """Make pulses with timers, on a line without PWM; set a constant level for a duty cycle of 0 or 1."""
        if 0 < duty < 1:
            if self._pulses is None:
                delivery = self.factory.delivery
                self._pulses = TimedSteps(delivery, lambda: self._pulse(output), f"PWM of {self.info.name}")
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
        if value not in LEVELS:
            raise gpiozero.PinInvalidEdges(f"edges must be both, rising, falling or none, not {value!r}")
        if value != self._edges:
            self._edges = value
            if self._detecting and self._stream is not None:
                self._claim()

    def _enable_event_detect(self) -> None:
        self.check_process()
        self._detecting = True
        if self._function == "input":
            self._claim()

    def _disable_event_detect(self) -> None:
        self._detecting = False
        if self._stream is not None and not self.closed and not self.inherited():
            self._claim()

    def deliver(self, edge: Edge) -> None:
        """Pass an edge to `when_changed`."""
        self.lost += edge.lost
        if edge.lost % 2 and edge.value == self._last_value:
            self._call(1 - edge.value, edge)  # the report of an edge in between was lost: the level did change
        self._last_value = edge.value
        self._call(edge.value, edge)

    def held_off(self) -> bool:
        """Return whether a part holds the line off the level of its pull, as a pressed button does."""
        return self._last_value == {"up": 0, "down": 1}.get(self._pull, -1)

    def _call(self, value: int, edge: Edge) -> None:
        if self._when_changed is not None and value in LEVELS[self._edges]:
            self._call_when_changed(edge.timestamp_ns / 1e9, value)

    def _claim(self, *, initial: bool = False) -> None:
        """Claim the line anew with the present function, pull and bounce time."""
        self.check_process()
        with self._lock:
            self._release()
            if self._function == "output":
                request = OutputRequest(self._number, consumer=self._consumer(), initial=1 if initial else 0)
                self._output = boards.checked_call(self.factory.board.open_output, request, OutputLine)
            else:
                self._stream = stream = self._open_edges()
                if self._detecting:
                    once_made(lambda: self._watch(stream))
            self.closed = False

    def _watch(self, stream: EdgeStream) -> None:
        with self._lock:
            if self._stream is stream:
                self.factory.delivery.watch(stream, self)

    def _open_edges(self) -> EdgeStream:
        request = EdgeRequest(
            [self._number],
            consumer=self._consumer(),
            edges=EDGES[self._edges] if self._detecting else "none",
            pull=PULLS[self._pull],
            debounce=self._bounce or 0.0,
        )
        return boards.checked_call(self.factory.board.open_edges, request, EdgeStream)

    def _consumer(self) -> str:
        return f"gpiozero {self.info.name}"

    def _release(self) -> None:
        with self._lock:
            self._pwm = None
            self._end_pulses()
            stream, self._stream = self._stream, None
            output, self._output = self._output, None
            if stream is not None:
                self.factory.delivery.unwatch(stream)
                stream.close()
            if output is not None:
                output.close()
