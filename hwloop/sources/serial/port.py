"""A serial port as a source of frames.

A wakeup reads all bytes that are there, not just one, and a framer (`framing`) cuts them into messages. Writing never
blocks. A port that is unplugged fails its source, or with `reopen=` is opened again as soon as it is back.

A serial line has no flow control unless both ends agree on one, and a missing byte spoils the bytes that follow it. So
this source pauses when its queue is full, and the kernel's buffer (4095 bytes and the driver's) takes up the slack,
where other sources drop the oldest events.

A byte takes these steps: `Source.on_readable` calls `SerialPort.receive`, which reads the descriptor and feeds the
framer; a completed frame goes to the request that it answers, or into the channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Never

from hwloop.core.statistics import SerialStatistics
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources.containment import EXITS
from hwloop.sources.intake import WhenFull
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.serial.checked_framer import CheckedFramer
from hwloop.sources.serial.connection import Connection
from hwloop.sources.serial.error_counts import ErrorCounts
from hwloop.sources.serial.finding import PortMatch
from hwloop.sources.serial.framing import Frame, Framer
from hwloop.sources.serial.modem_lines import ModemLines
from hwloop.sources.serial.opening import open_device
from hwloop.sources.serial.options import (
    Parity,
    PortName,
    SerialOptions,
    checked_framing,
    checked_options,
    checked_port,
    misplaced,
)
from hwloop.sources.serial.requests import Match, Requests, check_request
from hwloop.sources.serial.silence import Silence
from hwloop.sources.source import Source

if TYPE_CHECKING:
    import serial
    from serial.rs485 import RS485Settings

_DISCARD_AT_MOST = 1 << 16
"""Bytes that `discard` frames and counts, at most; a device that keeps sending must not hold it up."""


class SerialPort(Source[Frame]):
    """A serial port. `hwloop.serial.open` is this class.

    As a source it yields each `Frame`, one message of the device.

    Parameters:
        port: "/dev/ttyAMA0", "/dev/serial/by-id/...", a path object, a port of the simulated board, or
            `serial.find(...)`, which is searched each time the port is opened.
        baudrate: bits a second.
        framing: where a message ends: a framer, one for each port, or a framer's class. None yields the bytes of each
            read.
        bytesize: data bits, 5 to 8.
        parity: "N", "E", "O", "M" or "S", or the word ("even").
        stopbits: 1, 1.5 or 2.
        rtscts: hardware flow control.
        xonxoff: flow control by the characters XON and XOFF.
        exclusive: keep other programs from opening the port (TIOCEXCL), and fail if one has locked it (flock(2), as
            pyserial does with the same argument).
        low_latency: ask the driver not to collect bytes before it delivers them (FTDI: 1 ms instead of 16). A driver
            without such a mode is left as it is; `statistics().low_latency` shows that.
        rs485: let the driver switch the transmitter of an RS-485 line by RTS: True, or pyserial's settings
            (`serial.RS485Settings(rts_level_for_tx=False, delay_before_rx=0.001)`).
        dtr, rts: levels of these modem lines when the port is opened, and at each reopening: True asserts a line, False
            does not (many boards are reset by DTR), None leaves it to the kernel, which asserts both. The kernel
            asserts both for a moment in any case: docs/serial.md says how to prevent that.
        reopen: as for every `Source`. Settings that the program has made through `port.serial` are kept.
        queue_size, when_full, priority, on_reopen, rate_limit, name: as for every `Source`; `port` is the default name.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `async with` raise `HardwareError` if
    the port is missing or busy, is not a serial port, rejects the settings, or the program may not use it. Opening is
    quick, but a system call that may block.

    Example:

        async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps:
            async for frame in gps:
                print(frame.data.decode("ascii"))

    Source: termios(3) and ioctl_tty(2); pyserial opens and configures the port.
    """

    def __init__(
        self,
        port: PortName,
        baudrate: int = 9600,
        *,
        framing: Framer | type[Framer] | None = None,
        bytesize: int = 8,
        parity: Parity = "N",
        stopbits: float = 1,
        rtscts: bool = False,
        xonxoff: bool = False,
        exclusive: bool = True,
        low_latency: bool = False,
        rs485: bool | RS485Settings | None = None,
        dtr: bool | None = None,
        rts: bool | None = None,
        queue_size: int = 1024,
        when_full: WhenFull = "pause",
        priority: Priority = Priority.NORMAL,
        name: str | None = None,
        reopen: Backoff | None = None,
        on_reopen: ReopenHook | None = None,
        rate_limit: RateLimit | float | None = None,
        **others: Never,
    ) -> None:
        if others:
            raise misplaced(port, others)
        where = port if isinstance(port, PortMatch) else checked_port(port)
        super().__init__(
            name=name or str(where),
            priority=priority,
            queue_size=queue_size,
            when_full=when_full,
            reopen=reopen,
            on_reopen=on_reopen,
            rate_limit=rate_limit,
        )
        self.port: str = str(where)
        self._where = where
        self.framing: Framer = checked_framing(self.name, framing)
        self._framing = CheckedFramer(self.name, self.framing, self.count_lost, self.report_failure)
        options = SerialOptions(
            baudrate=baudrate,
            bytesize=bytesize,
            parity=parity,
            stopbits=stopbits,
            rtscts=rtscts,
            xonxoff=xonxoff,
            exclusive=exclusive or None,
            low_latency=low_latency,
            rs485=rs485,
            dtr=dtr,
            rts=rts,
        )
        self._options = checked_options(self.name, options)
        self._connection: Connection | None = None
        self._unsent = 0
        self._counts = ErrorCounts()
        self._silence = Silence(self.framing, self._has_read_all, self._end_frame, self.fail)
        self._requests: Requests | None = None
        self._kept: serial.SerialBase | None = None  # pyserial's object before an outage, for its settings

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, in order, without blocking: bytes that the kernel does not take at once are kept and follow.

        Raises `HardwareError` while the port is not open. A failure of the port itself fails the source.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"{self.name}: data must be bytes, not {type(data).__name__}")
        self._connected().output.write(data)

    async def request(
        self,
        data: bytes | bytearray | memoryview,
        *,
        timeout: float | None = 1.0,
        late: float | None = None,
        match: Match | None = None,
    ) -> Frame:
        """Send `data` and return the frame that answers it. Requests of several tasks are sent one after the other.

        Bytes that arrived before are discarded. The answer goes to the request alone, not to callbacks or `async for`;
        these get the frames that `match` does not accept.

        Parameters:
            data: the request.
            timeout: seconds from the moment at which the request is on the wire until the whole answer is there; None
                for no limit. Waiting for other requests is not counted.
            late: seconds after the timeout, or after this task was cancelled, for which the answer may still arrive.
                The next request is sent when it has arrived and was dropped, or when that time is over. Default:
                `timeout`, at least 0.5.
            match: returns whether a frame is the answer, by its bytes: for devices that also send unsolicited frames,
                or adapters that echo. Default: the next frame is the answer.

        Raises TimeoutError if no answer arrives, and `HardwareError` if the port is not open, or fails meanwhile.
        """
        check_request(self.name, timeout, late, match)
        self._connected()
        if self._requests is None:
            self._requests = Requests(
                self.name,
                self._channel,
                prepare=self._make_ready,
                send=self._send,
                catch_up=self._catch_up,
                keep_reading=self._keep_reading,
                failed=self.report_failure,
            )
        return await self._requests.ask(data, timeout, late, match)

    def discard(self) -> None:
        """Drop everything that has arrived: queued frames, the incomplete one, and the bytes in the kernel.

        Dropped frames are counted, and the next frame's `lost` includes them. Opening a port does this too.
        `port.serial.reset_input_buffer()` is the same.
        """
        device = self._connected().device
        try:
            self._drop_undelivered()
            taken = 0
            while taken < _DISCARD_AT_MOST and (data := device.read()):
                taken += len(data)
                for frame in self._framing.feed(data, self._now_ns()):
                    self._channel.discard(frame)
            device.flush_input()
            self._forget_frame()
        except EXITS:
            raise
        except BaseException as error:
            self.fail(error)
            return
        self._channel.clear()
        self.resume_reading()

    async def drain(self) -> None:
        """Wait, if more than 64 KiB are unsent, until at most 16 KiB are. Raises as `flush` does."""
        connection = self._connected()
        await connection.drain()
        self._check_same(connection)

    async def flush(self) -> None:
        """Wait until all written bytes are on the wire. Raises `HardwareError` if they can't be sent any more."""
        connection = self._connected()
        await connection.flush()
        self._check_same(connection)

    async def send_break(self, seconds: float = 0.25) -> None:
        """Hold the line in its active state for `seconds`: a break (attention, start of a DMX or LIN frame)."""
        await self._connected().send_break(seconds)

    def modem_lines(self, *, every: float = 0.02) -> ModemLines:
        """Return a stream of the changes of CTS, DSR, CD and RI, which are looked at every `every` seconds."""
        return ModemLines(self, lambda: self._connected().device, every=every)

    @property
    def serial(self) -> serial.SerialBase:
        """pyserial's object, to set RTS and DTR (`port.serial.rts = True`). Raises `HardwareError` when not open."""
        return self._connected().device.serial

    def statistics(self) -> SerialStatistics:
        """Return the counters so far, those of the port's driver included."""
        connection = self._connection
        return SerialStatistics(
            **vars(super().statistics()),
            **self._counts.now(None if connection is None else connection.device),
            unsent=self._unsent,
            low_latency=connection is not None and connection.has_low_latency,
        )

    @property
    def unsent(self) -> int:
        """Bytes accepted by `write()` that were dropped when the port failed or was closed."""
        return self._unsent

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the port; if the block did not raise, send the written bytes first, as far as the device takes them."""
        try:
            if exc_info[0] is None and (connection := self._connection) is not None:
                await connection.flush_last()
                self._check_same(connection)
        finally:
            self.close()

    # For the base class.

    def connect(self) -> int:
        loop = asyncio.get_running_loop()
        self._framing.check_free(self)
        device = open_device(self._where, self._options, like=self._kept)
        vars(device.serial)["reset_input_buffer"] = self.discard  # programs know it from pyserial
        self._connection = Connection(loop, device, self.fail, self._on_hang_up)
        self._counts.begin(device)
        try:
            self._framing.begin(self, device)
        except BaseException:
            self.disconnect()
            raise
        return device.fileno()

    def receive(self) -> Iterable[Frame]:
        assert self._connection is not None
        data = self._connection.device.read()
        if not data:
            return []
        frames = self._framing.feed(data, self._now_ns())
        assert self._loop is not None
        self._silence.watch(self._loop)
        requests = self._requests
        return frames if requests is None or not requests.expecting else requests.unclaimed(frames)

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        self._kept = connection.device.serial
        self._silence.cancel()
        self._counts.end(connection.device)
        try:
            self._unsent += connection.close()
        finally:
            if self._requests is not None:
                self._requests.fail(HardwareError(self.name, "the port went away before the answer came", "ask again"))
            self._framing.end()

    # Framing, requests and the kernel's buffers.

    def pause_reading(self) -> None:
        super().pause_reading()
        if self._connection is not None and not self._dropping:
            self._connection.hang_up.turn_on()

    def _start_reading(self) -> None:
        if self._connection is not None:
            self._connection.hang_up.turn_off()
        super()._start_reading()
        assert self._loop is not None
        self._silence.watch(self._loop)

    def _on_hang_up(self) -> None:
        """The port is gone while nothing reads it. The kernel has dropped the bytes that were left."""
        if self._connection is not None:
            self.fail(self._connection.device.hung_up())

    def _forget_frame(self) -> None:
        """Drop the incomplete frame."""
        self._framing.reset()
        self._silence.cancel()

    def _make_ready(self, match: Match | None) -> None:
        """Before a request: discard every byte that could be mistaken for its answer."""
        device = self._connected().device
        if not self._channel.wanted and (match is None or self._channel.full):
            self.discard()
            return
        if device.in_waiting():
            self.read_now()
        if match is None and self._connection is not None:
            self._forget_frame()
        self._keep_reading()

    def _keep_reading(self) -> None:
        """Read although the queue is full: the answer follows the frames that fill it."""
        if self._fd >= 0 and not self._reading and not (self._limit is not None and self._limit.off):
            self._start_reading()

    def _send(self, data: bytes | bytearray | memoryview) -> float:
        """Write a request, and return the seconds until all of it is on the wire."""
        connection = self._connected()
        self.write(data)
        return 0.0 if connection.closed else connection.seconds_to_send()  # else the request has failed with it

    def _catch_up(self) -> None:
        """Read the bytes in the kernel's buffer: the program is late, not the device."""
        if self._connection is not None and self._reading and self._connection.device.in_waiting():
            self.read_now()

    def _has_read_all(self) -> bool:
        """Return whether no bytes of the incomplete frame wait in the kernel's buffer."""
        return self._reading and self._connection is not None and not self._connection.device.in_waiting()

    def _end_frame(self) -> bool:
        """End the incomplete frame. Return whether it was one, and the port is still open."""
        frames = self._framing.flush(self._now_ns())
        requests = self._requests
        for frame in frames if requests is None else requests.unclaimed(frames):
            self.deliver(frame)
        return bool(frames) and self._connection is not None

    def _connected(self) -> Connection:
        if self._connection is None:
            if self.failure is not None:
                raise self.failure
            reason = "it is closed" if self._closed else "it is away" if self._away else "it is not open"
            raise HardwareError(self.name, reason, "" if self._closed else "open it, or wait for it to come back")
        return self._connection

    def _check_same(self, connection: Connection) -> None:
        """Raise `HardwareError` if the port is gone, or was away meanwhile."""
        if self._connected() is not connection:
            raise HardwareError(self.name, "the port was away, and unsent bytes are lost", "write them again")


open = SerialPort
