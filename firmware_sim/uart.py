"""A serial port: a kernel pseudo-terminal that the program opens, with a simulated device behind it.

The program opens a real terminal, so pyserial's opening, locking and configuring and the loop's reading are the code
that runs on the Pi. `port_ends` has its two ends, and the sockets that pass bytes on in virtual time. This module adds
the properties that a pseudo-terminal lacks: bytes arrive at the pace of the wire and in the batches in which a UART
hands them over; a program that does not read loses bytes, which are counted; and the port can be unplugged.
"""

from __future__ import annotations

import collections
import errno
import math
import termios
from collections.abc import Callable
from typing import Protocol

from firmware_sim.distortion import Batching, Distortion, collected, cut_out, delivered, marks_errors, pieces
from firmware_sim.errors import WiringError
from firmware_sim.libraries.serial import DTR, INPUTS, RTS, Terminal
from firmware_sim.libraries.serial_socket import TerminalSocket
from firmware_sim.limits import Limits
from firmware_sim.port_ends import PortEnds
from firmware_sim.timeline import Event, Referable, Timeline
from hwloop.errors import HardwareError
from hwloop.trace_events import Direction, SerialData, SerialSettings

RECEIVE_BUFFER = 4095
"""Bytes kept for a program that does not read: the size of the line discipline's buffer (N_TTY_BUF_SIZE - 1)."""

_BITS = 10
"""Bits a character takes on the wire: start, eight data, stop."""
_RETRY_SECONDS = 0.001
_SLOW_READ = 0.01
"""Seconds for which a device that reads slowly rests after each read."""
_BAUD_RATE = Limits(1, 1e9, "bits a second")
_LATENCY = Limits(0, 10, "seconds")


class Peer(Protocol):
    """A device at the other end of the wire."""

    def receive(self, data: bytes) -> None:
        """Take bytes that the program wrote. Called on the firmware thread, with the timeline's lock held."""

    # A peer that also has `modem_lines(dtr: bool, rts: bool)` is called after each change of these two lines, likewise.
    # As on Linux both rise when the port is opened, whatever the program asks for then, and fall when it is closed.


_Arrival = tuple[int, bytes, bool, bool]
"""Bytes that are still on the wire: when they arrive (ns), whether they can be lost, and whether this is one character
with a parity or framing error. A plain tuple: a burst of a GPS receiver has dozens, and this is their whole cost."""


class Port(Referable):
    """A serial port of the simulated board.

    Attributes:
        name: its name for programs ("/dev/ttyAMA0").
        terminal: what its driver keeps of it: settings, modem lines, the count of users.
        bytes_in: bytes the program has written.
        bytes_out: bytes handed to the program's side.
        dropped: bytes from the device that the program never gets: its buffer was full, or the port unplugged.
        distortions: the faults on its wire, in the order in which they began.
        batchings: the batches that faults impose on arriving bytes; the last one counts.
        buffers: the sizes that faults give the program's buffer, in bytes; the smallest one counts.
    """

    def __init__(self, name: str, timeline: Timeline) -> None:
        self.name = name
        self._latency = 0.001
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self.dropped: int = 0
        self.distortions: list[Distortion] = []
        self.batchings: list[Batching] = []
        self.buffers: list[int] = []
        self._timeline = timeline
        self.terminal: Terminal = Terminal(
            timeline.lock, self._on_outputs, self._on_way if timeline.is_driven else None
        )
        self._peer: Peer | None = None
        self._ends: PortEnds | None = None
        self._wire: collections.deque[_Arrival] = collections.deque()
        self._wire_free_ns = 0
        self._exposed = False  # whether a program knows the path of the terminal
        self._event: Event | None = None
        self._reading_rates: list[float] = []
        self._resting: Event | None = None
        self._unplugged_by: set[object] = set()
        self._closed = False
        if name.startswith(("/dev/ttyAMA", "/dev/ttyS")):
            self.terminal.rs485 = bytes(32)  # the PL011's driver has that mode, those of adapters don't
        self.terminal.fixed_flags = name.startswith("/dev/ttyACM")
        self._plug_in()

    @property
    def latency(self) -> float:
        """Seconds for which arriving bytes are collected before the program sees them: 1 ms by default, as the kernel's
        own batching; 0.016 is an FTDI adapter as it comes."""
        return self._latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        _LATENCY.check("latency", seconds)
        self._latency = seconds

    @property
    def path(self) -> str:
        """The path to open. Each `replug()` changes it. Raises `HardwareError` while the port is unplugged."""
        with self._timeline.lock:
            if self._ends is None:
                raise HardwareError(
                    self.name, "the simulated port is unplugged", "replug() brings it back", errno=errno.ENOENT
                )
            if not self._exposed:
                self._timeline.add_reader(self._ends.ours, self._on_written)
            self._exposed = True
            return self.terminal.expose()

    @property
    def plugged(self) -> bool:
        """Whether the port is plugged in."""
        return self._ends is not None

    @property
    def settings(self) -> SerialSettings | None:
        """Baud rate, data bits, parity and stop bits as the program has set them; None while it has the port closed.

        Only pyserial's settings are seen completely. Bytes pass at any settings: a device that would receive garbage at
        other settings than its own must compare them.
        """
        return self.terminal.settings

    @property
    def dtr(self) -> bool:
        """Whether the program asserts DTR (data terminal ready)."""
        return bool(self.terminal.outputs & DTR)

    @property
    def rts(self) -> bool:
        """Whether the program asserts RTS (request to send)."""
        return bool(self.terminal.outputs & RTS)

    def set_modem_lines(self, **levels: bool) -> None:
        """Drive the lines that the program reads: `cts`, `dsr`, `cd`, `ri`. They start at False."""
        for name, level in levels.items():
            if name not in INPUTS:
                raise TypeError(f"port {self.name} has no input {name!r}; its inputs are {', '.join(INPUTS)}")
            with self._timeline.lock:
                inputs = self.terminal.inputs
                self.terminal.set_inputs(inputs | INPUTS[name] if level else inputs & ~INPUTS[name])

    def attach(self, peer: Peer) -> None:
        """Put `peer` at the other end of the wire. Raises `WiringError` if there is one already."""
        with self._timeline.lock:
            if self._peer is not None:
                raise WiringError(f"port {self.name} has a device already: {self._peer!r}")
            if self._exposed and self._ends is not None and self._resting is None:
                self._on_written(at_once=True)  # these bytes were sent before there was a device
            self._peer = peer

    def send(self, data: bytes, baudrate: int | None = None) -> None:
        """Send `data` to the program, after the bytes that are still on the wire.

        With `baudrate` the bytes arrive at the pace of the wire, and those that find the program's buffer full are
        lost, as on a UART. Without, they arrive at once, and wait for room where there is none. Raises ValueError for a
        baud rate that no port has.
        """
        if baudrate is not None:
            _BAUD_RATE.check("baudrate", baudrate)
        with self._timeline.lock:
            if self._ends is None:
                self.dropped += len(data)
                return
            for pause, piece in pieces(data, self.distortions):
                self._put_on_wire(piece, pause, baudrate)
            if self._event is None:
                self._arrive()

    def _put_on_wire(self, data: bytes, pause: float, baudrate: int | None) -> None:
        bad = set[int]()
        for distortion in self.distortions:
            data, places = distortion.received(data)
            bad.update(places)
        when_ns = max(self._timeline.moment_ns(), self._wire_free_ns) + round(pause * 1e9)
        self._wire_free_ns = when_ns
        character_ns = 0.0 if baudrate is None else _BITS * 1_000_000_000 / baudrate
        if self.batchings:
            batches = list(self.batchings[-1].split(data, when_ns + round(character_ns), character_ns))
        elif baudrate is None:
            batches = [(when_ns, data)]
        else:
            batches = collected(data, when_ns, character_ns, self._latency)
        self._wire_free_ns = when_ns + round(len(data) * character_ns)
        can_be_lost = baudrate is not None
        if not bad:
            self._wire += [(arrival_ns, chunk, can_be_lost, False) for arrival_ns, chunk in batches]
        else:
            self._wire += [(when, piece, can_be_lost, is_bad) for when, piece, is_bad in cut_out(batches, bad)]

    def unplug(self, by: object = None) -> None:
        """Unplug the port: the program's reads end, its writes fail, and bytes on the wire are lost.

        Each `unplug` needs its `replug`, with the same `by`.
        """
        with self._timeline.lock:
            self._unplugged_by.add(by)
            self._pull()

    def replug(self, by: object = None) -> None:
        """Plug the port in again, with a new path. Harmless if it is plugged in."""
        with self._timeline.lock:
            if self._closed:
                raise RuntimeError(f"port {self.name} is closed")
            self._unplugged_by.discard(by)
            if self._ends is None and not self._unplugged_by:
                self._plug_in()

    def send_break(self) -> None:
        """Let the device hold the line for longer than a character. The program's UART counts it."""
        with self._timeline.lock:
            if self._ends is not None:
                self.terminal.counts["breaks"] += 1

    def read_slowly(self, rate: float) -> Callable[[], None]:
        """Let the device read at most `rate` bytes a second, and return the function that ends this."""
        with self._timeline.lock:
            self._reading_rates.append(rate)

        def end() -> None:
            with self._timeline.lock:
                self._reading_rates.remove(rate)
                if self._resting is not None:
                    self._resting.cancel()
                    self._read_on()

        return end

    def close(self) -> None:
        """Remove the port for good. Harmless when repeated."""
        with self._timeline.lock:
            self._closed = True
            self._pull()

    def _plug_in(self) -> None:
        self._ends = PortEnds(self._timeline.clock)
        self._room_left = RECEIVE_BUFFER  # in the program's buffer, at least: it may have read since
        self.terminal.plug_in(self._ends.terminal)

    def _pull(self) -> None:
        if self._ends is None:
            return
        self._timeline.remove_reader(self._ends.ours)
        for event in (self._event, self._resting):
            if event is not None:
                event.cancel()
        self._event = self._resting = None
        self.dropped += sum(len(data) for _, data, _, _ in self._wire)
        self._wire.clear()
        self._wire_free_ns = 0
        self._exposed = False
        self.terminal.unplug()
        self._ends.hang_up()
        self._ends = None

    def _on_way(self, pair: TerminalSocket | None) -> None:
        """Let the bytes take another way, after all that the program has written until now."""
        ends = self._ends
        assert ends is not None
        self._on_written(at_once=True)
        self._timeline.remove_reader(ends.ours)
        if pair is not None:
            ends.take_socket(pair)
        else:
            ends.take_terminal()
        if self._resting is None:
            self._timeline.add_reader(ends.ours, self._on_written)

    def _on_written(self, *, at_once: bool = False) -> None:
        """Hand the program's bytes to the peer, all `at_once` or as fast as it reads. Without a peer they are lost."""
        ends = self._ends
        assert ends is not None
        rate = 0.0 if at_once else min(self._reading_rates, default=0.0)
        count = math.ceil(rate * _SLOW_READ) if rate else 65536
        data = b""
        try:
            data = ends.read(count)
            # The kernel hands bytes over in the background, and only a read that finds nothing waits for the rest:
            # without one, the pieces would differ from run to run.
            while not rate and len(data) < count:
                data += ends.read(count)
        except BlockingIOError:
            pass
        if not data:
            return
        if rate:
            self._timeline.remove_reader(ends.ours)
            self._resting = self._timeline.after(len(data) / rate, self._read_on)
        self.bytes_in += len(data)
        self.terminal.counts["sent"] += len(data)
        self._trace("sent", data)
        for distortion in self.distortions:
            data = distortion.sent(data)
        if data and self._peer is not None:
            self._peer.receive(data)

    def _read_on(self) -> None:
        self._resting = None
        assert self._ends is not None
        self._timeline.add_reader(self._ends.ours, self._on_written)
        self._on_written()

    def _on_outputs(self, dtr: bool, rts: bool) -> None:
        heard = getattr(self._peer, "modem_lines", None)
        if heard is not None:
            self._timeline.at(self._timeline.now_ns(), lambda: heard(dtr, rts))

    def _arrive(self) -> None:
        """Hand over the bytes that have arrived by now, and plan the arrival of the rest."""
        self._event = None
        wire, moment_ns, ends = self._wire, self._timeline.moment_ns(), self._ends
        assert ends is not None
        while wire and wire[0][0] <= moment_ns:
            when_ns, chunk, can_be_lost, bad = wire.popleft()
            if bad:
                self._deliver_bad(chunk, ends)
                continue
            fits = len(chunk) <= self._room_left and not self.buffers
            if not can_be_lost and not ends.is_socket:
                fits = True  # the terminal says itself what it takes
            left = len(chunk) - self._hand_over(chunk if fits else chunk[: self._room()])
            if not left:
                continue
            if not can_be_lost:
                wire.appendleft((when_ns, chunk[-left:], False, False))
                self._event = self._timeline.after(_RETRY_SECONDS, self._arrive)
                return
            self.dropped += left
            self.terminal.counts["buffer_overruns"] += left
        if wire:
            self._event = self._timeline.at(wire[0][0], self._arrive)

    def _hand_over(self, chunk: bytes) -> int:
        """Write bytes to the program's buffer. Return how many it has taken."""
        ends = self._ends
        if not chunk or ends is None:
            return 0
        exact = self.buffers or (self.distortions and marks_errors(ends.terminal))
        before = ends.in_waiting() if exact else 0
        try:
            taken = ends.write(chunk)
        except BlockingIOError:
            return 0
        self.bytes_out += taken
        self.terminal.counts["received"] += taken
        self._room_left -= taken
        timeline = self._timeline
        timeline.clock.announce()
        if timeline.tracer is not None:
            self._trace("received", chunk[:taken])
        if exact:
            ends.await_change(before)
        return taken

    def _deliver_bad(self, character: bytes, ends: PortEnds) -> None:
        """Hand over what the line discipline makes of a character with an error; it is lost where there is no room."""
        data, is_mark = delivered(ends.terminal, character)
        self.terminal.counts["parity"] += 1
        if len(data) > self._room():
            self.dropped += 1
            self.terminal.counts["buffer_overruns"] += 1
        elif not is_mark:
            self._hand_over(data)
        else:
            # A terminal with PARMRK doubles each 0xFF that it gets, and so would double that of the mark.
            attributes = termios.tcgetattr(ends.terminal)
            termios.tcsetattr(ends.terminal, termios.TCSANOW, [attributes[0] & ~termios.PARMRK, *attributes[1:]])
            before = ends.in_waiting()
            self._hand_over(data)
            ends.await_change(before)
            termios.tcsetattr(ends.terminal, termios.TCSANOW, attributes)

    def _trace(self, direction: Direction, data: bytes) -> None:
        if (tracer := self._timeline.tracer) is not None:
            tracer.record(SerialData(self._timeline.moment_ns(), self.name, direction, data, self.settings))

    def _room(self) -> int:
        """Return how many bytes still fit into the program's buffer.

        The pseudo-terminal itself would take some kilobytes more, which the program's flush at opening would not reach:
        it would then read bytes that a real port had lost long before.
        """
        if self._ends is not None and (self._room_left > 0 or self._exposed or self.buffers):
            # else it is full, and nobody can have read
            self._room_left = max(0, min(self.buffers, default=RECEIVE_BUFFER) - self._ends.in_waiting())
        return self._room_left
