"""A serial port: a kernel pseudo-terminal that the program opens, with a simulated device behind it.

The program's side is a real terminal, so pyserial's opening, locking and configuring and the loop's reading are the
code that runs on the Pi. This module adds the properties that a pseudo-terminal lacks: bytes arrive at the pace of the
wire and in the batches in which a UART hands them over; a program that does not read loses bytes, which are counted;
and the port can be unplugged.

A pseudo-terminal whose last user closes it reports EIO to the other side until somebody opens it again, and forgets
its settings. So the port keeps the program's side open too: the device works with or without a program.
"""

from __future__ import annotations

import array
import collections
import errno
import fcntl
import os
import termios
import tty
from typing import Protocol

from firmware_sim.errors import WiringError
from firmware_sim.libraries.serial import DTR, INPUTS, RTS, Terminal
from firmware_sim.timeline import Event, Timeline
from hwloop.errors import HardwareError
from hwloop.trace_events import Direction, SerialData, SerialSettings

RECEIVE_BUFFER = 4095
"""Bytes kept for a program that does not read: the size of the line discipline's buffer (N_TTY_BUF_SIZE - 1)."""

_BATCH = 8
"""Characters a UART collects before it hands them over: the PL011's receive FIFO of 16 triggers when half full."""
_BITS = 10
"""Bits a character takes on the wire: start, eight data, stop."""
_RETRY_SECONDS = 0.001


class Peer(Protocol):
    """A device at the other end of the wire."""

    def receive(self, data: bytes) -> None:
        """Take bytes that the program wrote. Called on the firmware thread, with the timeline's lock held."""

    # A peer that also has `modem_lines(dtr: bool, rts: bool)` is called after each change of these two lines, likewise.
    # As on Linux both rise when the port is opened, whatever the program asks for then, and fall when it is closed.


class Port:
    """A serial port of the simulated board.

    Attributes:
        name: its name for programs ("/dev/ttyAMA0").
        latency: seconds for which arriving bytes are collected before the program sees them: 1 ms at least, as the
            kernel's own batching; 0.016 is an FTDI adapter as it comes.
        bytes_in: bytes the program has written.
        bytes_out: bytes handed to the program's side.
        dropped: bytes from the device that the program never gets: its buffer was full, or the port unplugged.
    """

    def __init__(self, name: str, timeline: Timeline) -> None:
        self.name = name
        self.latency: float = 0.001
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self.dropped: int = 0
        self._timeline = timeline
        self._terminal = Terminal(timeline.lock, self._on_outputs)
        self._peer: Peer | None = None
        self._master = self._slave = -1
        # Bytes that are still on the wire: when they arrive (ns, the timeline's clock), and whether they can be lost.
        self._wire: collections.deque[tuple[int, bytes, bool]] = collections.deque()
        self._wire_free_ns = 0
        self._waiting = array.array("i", [0])
        self._event: Event | None = None
        self._closed = False
        self._plug_in()

    @property
    def path(self) -> str:
        """The path to open. Each `replug()` changes it. Raises `HardwareError` while the port is unplugged."""
        with self._timeline.lock:
            if self._slave < 0:
                raise HardwareError(
                    self.name, "the simulated port is unplugged", "replug() brings it back", errno=errno.ENOENT
                )
            return self._terminal.expose()

    @property
    def plugged(self) -> bool:
        """Whether the port is plugged in."""
        return self._slave >= 0

    @property
    def settings(self) -> SerialSettings | None:
        """Baud rate, data bits, parity and stop bits as the program has set them; None while it has the port closed.

        Only pyserial's settings are seen completely. Bytes pass at any settings: a device that would receive garbage at
        other settings than its own must compare them.
        """
        return self._terminal.settings

    @property
    def dtr(self) -> bool:
        """Whether the program asserts DTR (data terminal ready)."""
        return bool(self._terminal.outputs & DTR)

    @property
    def rts(self) -> bool:
        """Whether the program asserts RTS (request to send)."""
        return bool(self._terminal.outputs & RTS)

    def set_modem_lines(self, **levels: bool) -> None:
        """Drive the lines that the program reads: `cts`, `dsr`, `cd`, `ri`. They start at False."""
        for name, level in levels.items():
            if name not in INPUTS:
                raise TypeError(f"port {self.name} has no input {name!r}; its inputs are {', '.join(INPUTS)}")
            with self._timeline.lock:
                inputs = self._terminal.inputs
                self._terminal.inputs = inputs | INPUTS[name] if level else inputs & ~INPUTS[name]

    def attach(self, peer: Peer) -> None:
        """Put `peer` at the other end of the wire. Raises `WiringError` if there is one already."""
        with self._timeline.lock:
            if self._peer is not None:
                raise WiringError(f"port {self.name} has a device already: {self._peer!r}")
            self._peer = peer
            if self._master >= 0:
                self._timeline.add_reader(self._master, self._on_written)

    def send(self, data: bytes, baudrate: int | None = None) -> None:
        """Send `data` to the program, after the bytes that are still on the wire.

        With `baudrate` the bytes arrive at the pace of the wire, and those that find the program's buffer full are
        lost, as on a UART. Without, they arrive at once, and wait for room where there is none.
        """
        with self._timeline.lock:
            if self._master < 0:
                self.dropped += len(data)
                return
            when_ns = max(self._timeline.moment_ns(), self._wire_free_ns)
            if baudrate is None:
                self._wire.append((when_ns, data, False))
            else:
                character_ns = _BITS * 1_000_000_000 / baudrate
                size = max(_BATCH, int(self.latency * 1e9 / character_ns))
                for start in range(0, len(data), size):
                    chunk = data[start : start + size]
                    self._wire.append((when_ns + round((start + len(chunk)) * character_ns), chunk, True))
                self._wire_free_ns = when_ns + round(len(data) * character_ns)
            if self._event is None:
                self._arrive()

    def unplug(self) -> None:
        """Unplug the port: the program's reads end, its writes fail, and bytes on the wire are lost."""
        with self._timeline.lock:
            self._pull()

    def replug(self) -> None:
        """Plug the port in again, with a new path. Harmless if it is plugged in."""
        with self._timeline.lock:
            if self._closed:
                raise RuntimeError(f"port {self.name} is closed")
            if self._master < 0:
                self._plug_in()

    def close(self) -> None:
        """Remove the port for good. Harmless when repeated."""
        with self._timeline.lock:
            self._closed = True
            self._pull()

    def _plug_in(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._terminal.plug_in(self._slave)
        self._timeline.clock.claim(self._slave)
        os.set_blocking(self._master, False)
        if self._peer is not None:
            self._timeline.add_reader(self._master, self._on_written)

    def _pull(self) -> None:
        if self._master < 0:
            return
        self._timeline.remove_reader(self._master)
        if self._event is not None:
            self._event.cancel()
            self._event = None
        self.dropped += sum(len(chunk) for _, chunk, _ in self._wire)
        self._wire.clear()
        self._wire_free_ns = 0
        self._terminal.unplug()
        self._timeline.clock.disclaim(self._slave)
        # Closing the master hangs the terminal up, as a USB adapter's driver does when it is pulled out.
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def _on_written(self) -> None:
        """Hand the bytes that the program wrote to the peer."""
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        self.bytes_in += len(data)
        self._trace("sent", data)
        assert self._peer is not None
        self._peer.receive(data)

    def _on_outputs(self, dtr: bool, rts: bool) -> None:
        heard = getattr(self._peer, "modem_lines", None)
        if heard is not None:
            self._timeline.at(self._timeline.now_ns(), lambda: heard(dtr, rts))

    def _arrive(self) -> None:
        """Hand over the bytes that have arrived by now, and plan the arrival of the rest."""
        self._event = None
        now_ns = self._timeline.now_ns()
        while self._wire and self._wire[0][0] <= now_ns:
            when_ns, chunk, can_be_lost = self._wire.popleft()
            taken = self._hand_over(chunk[: self._room()] if can_be_lost else chunk)
            if can_be_lost:
                self.dropped += len(chunk) - taken
            elif taken < len(chunk):
                self._wire.appendleft((when_ns, chunk[taken:], False))
                self._event = self._timeline.after(_RETRY_SECONDS, self._arrive)
                return
        if self._wire:
            self._event = self._timeline.at(self._wire[0][0], self._arrive)

    def _hand_over(self, chunk: bytes) -> int:
        try:
            taken = os.write(self._master, chunk) if chunk else 0
        except BlockingIOError:
            return 0
        self.bytes_out += taken
        if taken:
            self._trace("received", chunk[:taken])
        return taken

    def _trace(self, direction: Direction, data: bytes) -> None:
        if (tracer := self._timeline.tracer) is not None:
            tracer.record(SerialData(self._timeline.now_ns(), self.name, direction, data, self.settings))

    def _room(self) -> int:
        """Return how many bytes still fit into the program's buffer.

        The pseudo-terminal itself would take some kilobytes more, which the program's flush at opening would not reach:
        it would then read bytes that a real port had lost long before.
        """
        fcntl.ioctl(self._slave, termios.FIONREAD, self._waiting)
        return max(0, RECEIVE_BUFFER - self._waiting[0])
