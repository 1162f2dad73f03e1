"""Serial ports: frames from a device, and bytes to it.

    async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps:
        async for frame in gps:
            print(frame.data.decode("ascii"))

A wakeup reads all that is there, not a byte, and hands it to a framer (`framing`) that cuts it into messages. Writing
never blocks. A port that is unplugged fails its source, or with `reopen=` is opened again as soon as it is back. Where
asyncio's streams or a protocol class are wanted, see `open_serial_connection` and `create_serial_connection`.

A serial line has no flow control unless both ends agree on one, and a byte missing from the middle spoils what comes
after it. So the source pauses when its queue is full, and the kernel's buffer (4095 bytes and the driver's) takes up
the slack, where other sources drop the oldest.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Never

from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources.channel import WhenFull
from hwloop.sources.containment import EXITS
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook
from hwloop.sources.serial.checked_framer import Framing
from hwloop.sources.serial.device import Output, SerialDevice, open_device
from hwloop.sources.serial.framing import Frame, Framer
from hwloop.sources.serial.options import (
    Parity,
    PortName,
    SerialOptions,
    checked_framing,
    checked_options,
    checked_port,
    misplaced,
)
from hwloop.sources.serial.requests import Claim, Match, Requests, check_request
from hwloop.sources.source import Source

if TYPE_CHECKING:
    import serial

_DISCARD_AT_MOST = 1 << 16
"""Bytes that `discard` frames and counts; a device that sends on and on must not hold it up."""


class SerialPort(Source[Frame]):
    """A serial port as a source of frames. `hwloop.serial.open` is this class.

    Parameters:
        port: its name: "/dev/ttyAMA0", "/dev/serial/by-id/...", a path object, or one of the simulated board's.
        baudrate: bits a second.
        framing: where a message ends; a framer of its own for each port, or a framer's class. None: what each read
            brings.
        bytesize: data bits, 5 to 8.
        parity: "N", "E", "O", "M" or "S", or the word ("even").
        stopbits: 1, 1.5 or 2.
        rtscts: hardware flow control.
        xonxoff: flow control by the characters XON and XOFF.
        exclusive: lock the port, so that a second program that locks it too is refused.
        low_latency: ask the driver not to collect bytes before it hands them over (FTDI: 1 ms in place of 16).
            A driver that has no such mode is left as it is.
        dtr, rts: levels of these modem lines when the port is opened, and at each reopening: True asserts a line, False
            does not (many boards are reset by DTR), None leaves it to the kernel, which asserts both. The kernel
            asserts both for a moment in any case: docs/serial.md says how to prevent that.
        reopen: as for every `Source`. Settings that the program has made through `port.serial` are kept.
        queue_size, when_full, priority, name, on_reopen, rate_limit: as for every `Source`.

    Raises `ValueError` or `TypeError` for settings that make no sense. `open()` and `async with` raise `HardwareError`
    when the port is missing, busy, not ours to open, no serial port, or refuses the settings. Opening is quick, but a
    call of the kernel that may block.
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
        port = checked_port(port)
        super().__init__(
            name=name or port,
            priority=priority,
            queue_size=queue_size,
            when_full=when_full,
            reopen=reopen,
            on_reopen=on_reopen,
            rate_limit=rate_limit,
        )
        self.port = port
        self.framing: Framer = checked_framing(self.name, framing)
        self._framing = Framing(self.name, self.framing, self.count_lost, self.report_failure)
        options = SerialOptions(
            baudrate=baudrate,
            bytesize=bytesize,
            parity=parity,
            stopbits=stopbits,
            rtscts=rtscts,
            xonxoff=xonxoff,
            exclusive=exclusive or None,
            dtr=dtr,
            rts=rts,
        )
        self._options = checked_options(self.name, options)
        self._low_latency = low_latency
        self._device: SerialDevice | None = None
        self._output: Output | None = None
        self._unsent = 0
        self._writers: collections.deque[asyncio.Future[None]] = collections.deque()
        self._gap: asyncio.TimerHandle | None = None
        self._requests: Requests | None = None
        self._kept: serial.SerialBase | None = None  # pyserial's object before an outage, for its settings

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, in order, without blocking: what the kernel does not take at once is kept and follows.

        Raises `HardwareError` while the port is not open. A failure of the port itself is the source's.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"{self.name}: data must be bytes, not {type(data).__name__}")
        self._connected()[1].write(data)

    async def request(
        self,
        data: bytes | bytearray | memoryview,
        *,
        timeout: float | None = 1.0,
        late: float | None = None,
        match: Match | None = None,
    ) -> Frame:
        """Send `data` and return the frame that answers it. Requests of several tasks are sent one after the other.

        What came before is discarded. The answer goes to the request alone, not to callbacks or `async for`; these get
        what `match` does not accept.

        Parameters:
            data: the request.
            timeout: seconds from the moment at which the request is on the wire until the whole answer is there; None
                for no limit. Waiting for other requests is not counted.
            late: seconds after the timeout, or after this task was cancelled, for which the answer may still come. The
                next request is sent when it has come, and was dropped, or after that. Default: `timeout`, at least 0.5.
            match: says whether a frame is the answer, by its bytes: for devices that also speak unasked, or adapters
                that echo. Default: the next frame is.

        Raises `TimeoutError` when no answer comes, and `HardwareError` when the port is not open, or fails meanwhile.
        """
        check_request(self.name, timeout, late, match)
        self._connected()
        if self._requests is None:
            self._requests = Requests(self.name, self._make_ready, self._send, self._catch_up, self._channel.take_back)
        return await self._requests.ask(data, timeout, late, match)

    def discard(self) -> None:
        """Drop everything that has arrived: queued frames, the one under way, and what waits in the kernel.

        Dropped frames are counted, and the next frame's `lost` tells of them. Opening a port does this too.
        `port.serial.reset_input_buffer()` is the same.
        """
        device, _ = self._connected()
        try:
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
        """Wait, if more than 64 KiB are waiting to be sent, until at most 16 are. Raises as `flush` does."""
        output = self._connected()[1]
        while output.full:
            await self._progress()

    async def flush(self) -> None:
        """Wait until all that was written is on the wire. Raises `HardwareError` if it can't be sent any more."""
        device, output = self._connected()
        while output:
            await self._progress()
        while waiting := device.out_waiting():
            await asyncio.sleep(waiting * device.character_time)
            self._still(output)

    async def send_break(self, seconds: float = 0.25) -> None:
        """Hold the line in its active state for `seconds`: a break (attention, start of a DMX or LIN frame)."""
        device, _ = self._connected()
        device.serial.break_condition = True
        try:
            await asyncio.sleep(seconds)
        finally:
            if device is self._device:
                device.serial.break_condition = False

    @property
    def serial(self) -> serial.SerialBase:
        """pyserial's object, for the modem lines (`port.serial.rts = True`). Raises `HardwareError` when not open."""
        return self._connected()[0].serial

    @property
    def unsent(self) -> int:
        """Bytes taken by `write()` that were dropped when the port failed or was closed."""
        return self._unsent

    async def __aexit__(self, *exc_info: object) -> None:
        """Close; where the block ended well, after sending what was written."""
        try:
            if exc_info[0] is None and self._device is not None:
                await self.flush()
        finally:
            self.close()

    # What the base asks for.

    def connect(self) -> int:
        loop = asyncio.get_running_loop()
        self._framing.check_free(self)
        device = open_device(self.port, self._options, low_latency=self._low_latency, like=self._kept)
        vars(device.serial)["reset_input_buffer"] = self.discard  # what programs know from pyserial
        self._device = device
        self._output = Output(loop, device, self._wake_writers, self.fail)
        try:
            self._framing.begin(self, device.character_time)
        except BaseException:
            self.disconnect()
            raise
        return device.fileno()

    def receive(self) -> Iterable[Frame]:
        assert self._device is not None
        data = self._device.read()
        if not data:
            return []
        frames = self._framing.feed(data, self._now_ns())
        self._watch_gap()
        requests = self._requests
        return frames if requests is None or not requests.expecting else self._unclaimed(frames, requests)

    def _unclaimed(self, frames: Iterable[Frame], requests: Requests) -> Iterator[Frame]:
        """The frames that are no answers, one after the other; answers go to their requests, and late ones nowhere."""
        channel = self._channel
        for frame in frames:
            claim, wrong = requests.claim(frame, self._now_ns() / 1e9)
            if wrong is not None:
                self.report_failure("exception in a request's match", wrong)
            if claim is Claim.UNSOLICITED:
                yield frame
                if requests.waiting:
                    self._keep_reading()
                continue
            if claim is Claim.LATE:
                channel.discard(frame)
            else:
                requests.resolve(channel.bypass(frame))

    def disconnect(self) -> None:
        device, output = self._device, self._output
        assert device is not None
        assert output is not None
        self._device = self._output = None
        self._kept = device.serial
        if self._gap is not None:
            self._gap.cancel()
            self._gap = None
        self._unsent += output.close()
        try:
            self._unsent += device.close()
        finally:
            self._wake_writers()
            if self._requests is not None:
                self._requests.fail(HardwareError(self.name, "the port went away before the answer came", "ask again"))
            self._framing.end()

    # How it runs.

    def _start_reading(self) -> None:
        super()._start_reading()
        self._watch_gap()

    def _forget_frame(self) -> None:
        """Drop the frame under way."""
        self._framing.reset()
        if self._gap is not None:
            self._gap.cancel()
            self._gap = None

    def _make_ready(self, match: Match | None) -> None:
        """Before a request: nothing that has come by now may be taken for its answer."""
        device, _ = self._connected()
        if not self._channel.wanted and (match is None or self._channel.full):
            self.discard()
            return
        if device.in_waiting():
            self.on_readable()
        if match is None and self._device is not None:
            self._forget_frame()
        self._keep_reading()

    def _keep_reading(self) -> None:
        """Read although the queue is full: an answer is on its way behind what fills it."""
        if self._fd >= 0 and not self._reading and not (self._limit is not None and self._limit.off):
            self._start_reading()

    def _send(self, data: bytes | bytearray | memoryview) -> float:
        """Write a request, and return the seconds until all of it is on the wire."""
        device, output = self._connected()
        self.write(data)
        if device is not self._device:  # the port failed, and the request with it
            return 0.0
        return (len(output) + device.out_waiting()) * device.character_time

    def _catch_up(self) -> None:
        """Read what waits in the kernel: it came in time, only the program is late."""
        if self._device is not None and self._reading and self._device.in_waiting():
            self.on_readable()

    def _watch_gap(self) -> None:
        """See to it that the frame under way ends when the line has been silent long enough."""
        deadline_ns = self.framing.deadline_ns
        if deadline_ns is not None and self._gap is None:
            assert self._loop is not None
            self._gap = self._loop.call_at(deadline_ns / 1e9, self._on_gap)

    def _on_gap(self) -> None:
        self._gap = None
        assert self._device is not None
        if not self._reading or self._device.in_waiting():
            # The loop is late, or the port paused: what waits in the kernel belongs to the frame. Once it is read, or
            # reading goes on, the watch begins anew.
            return
        try:
            self._end_frame()
        except EXITS:
            raise
        except BaseException as error:
            self.fail(error)

    def _end_frame(self) -> None:
        """The line has been silent long enough."""
        now_ns = self._now_ns()
        frames = self._framing.flush(now_ns)
        requests = self._requests
        for frame in frames if requests is None else self._unclaimed(frames, requests):
            self.deliver(frame)
        if self._device is None:
            return
        deadline_ns = self.framing.deadline_ns
        # A framer that leaves its deadline in the past and ends nothing would have this repeated without end.
        if frames or (deadline_ns is not None and deadline_ns > now_ns):
            self._watch_gap()

    def _connected(self) -> tuple[SerialDevice, Output]:
        if self._device is None or self._output is None:
            if self.failure is not None:
                raise self.failure
            reason = "it is closed" if self._closed else "it is away" if self._away else "it is not open"
            raise HardwareError(self.name, reason, "" if self._closed else "open it, or wait for it to come back")
        return self._device, self._output

    async def _progress(self) -> None:
        """Wait until something was written. Raises `HardwareError` if the port is gone."""
        assert self._loop is not None
        output = self._connected()[1]
        waiter = self._loop.create_future()
        self._writers.append(waiter)
        await waiter
        self._still(output)

    def _still(self, output: Output) -> None:
        """Raise `HardwareError` if the port is gone, or was meanwhile."""
        if self._connected()[1] is not output:
            raise HardwareError(self.name, "the port was away, and what waited to be written is lost", "write it again")

    def _wake_writers(self) -> None:
        while self._writers:
            waiter = self._writers.popleft()
            if not waiter.done():
                waiter.set_result(None)


open = SerialPort
