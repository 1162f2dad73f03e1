"""Serial ports for programs written for asyncio's streams and protocols, under pyserial-asyncio's names.

    reader, writer = await serial.open_serial_connection(url="/dev/ttyUSB0", baudrate=115200)

A protocol is asyncio's: a `Protocol`, which gets bytes, or a `BufferedProtocol`, which provides a buffer. One that
raises while it receives bytes loses the connection, as with asyncio's own transports: the bytes can't be delivered
again.

Beyond pyserial-asyncio, these transports guarantee: `connection_lost` is called once, and after the port is closed, so
that a program may open it again right there; an unplugged port is a lost connection, never a spin; a wakeup reads all
bytes that are there; and `close()` sends the written bytes without holding up the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, TypeVar, Unpack, cast

from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.sources.serial.device import SerialDevice, logger
from hwloop.sources.serial.hang_up import HangUpWatch
from hwloop.sources.serial.opening import open_device
from hwloop.sources.serial.options import Parity, PortName, SerialOptions, checked_options, checked_port
from hwloop.sources.serial.write_buffer import LONGEST_STALL, WriteBuffer

if TYPE_CHECKING:
    import serial
    from serial.rs485 import RS485Settings

T = TypeVar("T")
P = TypeVar("P", bound=asyncio.BaseProtocol)


class SerialTransport(asyncio.Transport):
    """A port as an asyncio transport. `get_extra_info("serial")` is pyserial's object.

    Parameters:
        device: the open port. The transport closes it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, device: SerialDevice) -> None:
        super().__init__({"serial": device.serial})
        self._loop = loop
        self.set_protocol(protocol)
        self._device = device
        self._output = WriteBuffer(loop, device, self._close, self._on_sent)
        self._hang_up = HangUpWatch(loop, device, self._on_hang_up)
        self._protocol_paused = False
        self._reading = False
        self._paused = False
        self._closing = False
        self._lost = False
        self._dropped = False
        self._stall_timer: asyncio.TimerHandle | None = None
        loop.call_soon(protocol.connection_made, self)
        # Only after `connection_made`.
        loop.call_soon(self._start_reading)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop it runs on."""
        return self._loop

    @property
    def serial(self) -> serial.SerialBase:
        """pyserial's object: `transport.serial.rts = False`."""
        return self._device.serial

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {self._device.name} {state}>"

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Switch to another protocol, of either kind."""
        self._protocol = protocol
        self._receive = self._receive_into if isinstance(protocol, asyncio.BufferedProtocol) else self._receive_bytes

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Call no `data_received` until `resume_reading()`. Harmless when repeated."""
        self._paused = True
        self._stop_reading()
        if not self._lost:
            self._hang_up.turn_on()

    def resume_reading(self) -> None:
        """Undo `pause_reading()`. Harmless when repeated."""
        self._paused = False
        self._start_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` without blocking. Data written after `close()` or a failure is dropped, with a warning."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        if self._closing:
            if not self._dropped:
                logger.warning("%s: written to after it was closed; dropped", self._device.name)
            self._dropped = True
            return
        self._output.write(data)
        if self._output.full and not self._protocol_paused:
            self._protocol_paused = True
            self._call(self._protocol.pause_writing)

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("a serial line has no end of file")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._output.set_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._output.low, self._output.high

    def get_write_buffer_size(self) -> int:
        return len(self._output)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send the written bytes, then close the port and call `connection_lost`.

        If the device takes no byte for 30 seconds, the rest is dropped, and `connection_lost` gets a `HardwareError`.
        """
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if not self._output:
            self._loop.call_soon(self._finish)
        self._await_progress(self._output.unsent())

    def abort(self) -> None:
        """Close the port without sending the remaining bytes, and call `connection_lost`."""
        self._close(None)

    def _start_reading(self) -> None:
        if not (self._reading or self._paused or self._closing):
            self._reading = True
            self._hang_up.turn_off()
            self._loop.add_reader(self._device.fileno(), self._on_readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._device.fileno())

    def _on_hang_up(self) -> None:
        """The port is gone while the protocol has paused."""
        self._close(self._device.hung_up())

    def _on_readable(self) -> None:
        # Looked up each time: a protocol may switch to another kind while it receives bytes.
        self._receive()

    def _receive_bytes(self) -> None:
        try:
            data = self._device.read()
        except HardwareError as error:
            self._close(error)
            return
        if data:
            try:
                cast(asyncio.Protocol, self._protocol).data_received(data)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fail("data_received", error)

    def _receive_into(self) -> None:
        protocol = cast(asyncio.BufferedProtocol, self._protocol)
        try:
            buffer = protocol.get_buffer(-1)
            if not len(cast(Sized, buffer)):
                raise RuntimeError("get_buffer() returned an empty buffer")
            # The protocol may have closed the port meanwhile.
            count = self._device.read_into(buffer) if self._reading else 0
        except HardwareError as error:
            self._close(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail("get_buffer", error)
        else:
            if count:
                self._updated(protocol, count)

    def _updated(self, protocol: asyncio.BufferedProtocol, count: int) -> None:
        try:
            protocol.buffer_updated(count)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail("buffer_updated", error)

    def _fail(self, name: str, error: BaseException) -> None:
        """Report that the protocol failed to receive bytes, and close the port."""
        self._report(f"{name} raised; the port is closed", error)
        self._close(error)

    def _on_sent(self) -> None:
        if self._protocol_paused and not self._output.full:
            self._protocol_paused = False
            self._call(self._protocol.resume_writing)
        if self._closing and not self._output:
            self._finish()

    def _finish(self) -> None:
        """Close when the kernel has sent its bytes: closing sooner would block the loop until it has."""
        if self._lost:
            return
        if waiting := self._device.out_waiting():
            self._loop.call_later(waiting * self._device.character_time, self._finish)
        else:
            self._close(None)

    def _await_progress(self, left: int) -> None:
        """Look in a while whether the device has taken any of the `left` bytes that are unsent now."""
        if left:
            self._stall_timer = self._loop.call_later(LONGEST_STALL, self._look_for_progress, left)

    def _look_for_progress(self, before: int) -> None:
        left = self._output.unsent()
        if left < before:
            self._await_progress(left)
        else:
            self._close(self._output.stall(left))

    def _close(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._stop_reading()
        self._hang_up.close()
        self._output.close()
        try:
            self._device.close()
        except OSError as second:
            error = error or second
        self._loop.call_soon(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        # The present protocol may be another one than when the port was closed.
        self._protocol.connection_lost(cast(Exception | None, error))

    def _call(self, method: Callable[[], object]) -> None:
        """Call `pause_writing` or `resume_writing`. One that raises is reported, and the transport goes on."""
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(f"{short_name(method)} raised", error)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": f"{self._device.name}: {message}",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )


async def create_serial_connection(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], P],
    url: PortName,
    baudrate: int = 9600,
    bytesize: int = 8,
    parity: Parity = "N",
    stopbits: float = 1,
    timeout: float | None = None,
    xonxoff: bool = False,
    rtscts: bool = False,
    write_timeout: float | None = None,
    dsrdtr: bool = False,
    inter_byte_timeout: float | None = None,
    exclusive: bool | None = None,
    *,
    dtr: bool | None = None,
    rts: bool | None = None,
    low_latency: bool = False,
    rs485: bool | RS485Settings | None = None,
) -> tuple[SerialTransport, P]:
    """Open a port of the board in use as a transport and a protocol.

    `url` is its name, or one of pyserial's URLs for a port of this machine (`hwgrep://`). For a serial server on the
    network (`socket://`) use `loop.create_connection`: pyserial would hold up the loop while it connects and closes.

    The arguments after `protocol_factory` are those of pyserial's `Serial`, in its order; the timeouts are for
    pyserial's own blocking calls and have no effect here. `dtr`, `rts`, `low_latency` and `rs485` are those of
    `serial.open`. Opening is quick, but a system call that may block.

    Raises ValueError or TypeError for settings that make no sense, `HardwareError` if the port can't be opened.
    """
    options = SerialOptions(
        baudrate=baudrate,
        bytesize=bytesize,
        parity=parity,
        stopbits=stopbits,
        timeout=timeout,
        xonxoff=xonxoff,
        rtscts=rtscts,
        write_timeout=write_timeout,
        dsrdtr=dsrdtr,
        inter_byte_timeout=inter_byte_timeout,
        exclusive=exclusive,
        dtr=dtr,
        rts=rts,
        low_latency=low_latency,
        rs485=rs485,
    )
    port = checked_port(url)
    options = checked_options(port, options)
    return await _connected(loop, protocol_factory(), open_device(port, options))


async def connection_for_serial(
    loop: asyncio.AbstractEventLoop, protocol_factory: Callable[[], P], serial_instance: serial.SerialBase
) -> tuple[SerialTransport, P]:
    """Return a transport and a protocol for a port that pyserial has opened. The transport closes it."""
    return await _connected(loop, protocol_factory(), SerialDevice(str(serial_instance.port), serial_instance))


async def open_serial_connection(
    *,
    url: PortName,
    loop: asyncio.AbstractEventLoop | None = None,
    limit: int = 65536,
    **options: Unpack[SerialOptions],
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a port as a stream reader and writer, with flow control both ways.

    `limit` is the reader's, in bytes. Options and errors are those of `create_serial_connection`.
    """
    loop = loop or asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_serial_connection(loop, lambda: protocol, url, **options)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _connected(loop: asyncio.AbstractEventLoop, protocol: P, device: SerialDevice) -> tuple[SerialTransport, P]:
    transport = SerialTransport(loop, protocol, device)
    try:
        await asyncio.sleep(0)  # behind `connection_made`, which was scheduled just before
    except BaseException:
        transport.abort()
        raise
    return transport, protocol
