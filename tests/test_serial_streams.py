"""Serial ports as asyncio streams and transports: asyncio's contract, on the simulated board's terminals."""

from __future__ import annotations

import asyncio
import gc
import random
from array import array
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import serial as pyserial

from firmware_sim import SimBoard
from firmware_sim.uart import Port
from hwloop.board import using
from hwloop.errors import HardwareError
from hwloop.sources import serial
from hwloop.sources.serial import device as serial_device

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "/dev/ttyUSB0"


class Echo:
    """A device that sends back what it hears."""

    def __init__(self, port: Port) -> None:
        self.heard = bytearray()
        self._port = port
        port.attach(self)

    def receive(self, data: bytes) -> None:
        self.heard += data
        self._port.send(data)


class Trace(asyncio.Protocol):
    """A protocol that notes the calls of its methods."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.data = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.open_when_lost: bool | None = None
        self.transport: serial.SerialTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, serial.SerialTransport)
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        assert self.transport is not None
        self.open_when_lost = self.transport.serial.is_open
        self.lost.set_result(exc)


class Buffered(asyncio.BufferedProtocol, Trace):
    """One that brings its own buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: Any = bytearray(64)
        self.hints: list[int] = []

    def get_buffer(self, sizehint: int) -> Any:
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += bytes(memoryview(self.buffer).cast("B")[:nbytes])


class Spoilt(BaseException):
    """An exception that few programs expect."""


def raising(error: type[BaseException]) -> Callable[..., Any]:
    def raises(*_: object) -> Any:
        raise error

    return raises


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, using(board):
        yield board


@pytest.fixture
def port(board: SimBoard) -> Port:
    return board.add_port(NAME)


@pytest.fixture
def run(run: Run) -> Run:
    """As everywhere, but a coroutine that hangs fails."""

    async def bounded(main: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(20):
            await main

    return lambda main: run(bounded(main))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def connect(**options: Any) -> tuple[serial.SerialTransport, Trace]:
    return await serial.create_serial_connection(asyncio.get_running_loop(), Trace, NAME, **options)


async def buffered() -> tuple[serial.SerialTransport, Buffered]:
    return await serial.create_serial_connection(asyncio.get_running_loop(), Buffered, NAME)


def reports() -> list[dict[str, Any]]:
    """The reports to the running loop's exception handler from now on."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    return told


class TestStreams:
    def test_lines_go_out_and_come_back(self, run: Run, port: Port) -> None:
        Echo(port)

        async def main() -> None:
            reader, writer = await serial.open_serial_connection(url=NAME, baudrate=115200)
            writer.write(b"one\ntwo\n")
            await writer.drain()
            assert [await reader.readline(), await reader.readuntil(b"o")] == [b"one\n", b"two"]
            assert writer.get_extra_info("serial").baudrate == 115200
            writer.close()
            await writer.wait_closed()

        run(main())

    def test_half_a_megabyte_passes_both_ways_with_flow_control(self, run: Run, port: Port) -> None:
        Echo(port)
        data = random.Random(4).randbytes(500_000)

        async def main() -> None:
            reader, writer = await serial.open_serial_connection(url=NAME, baudrate=921600, limit=4096)

            async def send() -> None:
                for start in range(0, len(data), 10_000):
                    writer.write(data[start : start + 10_000])
                    await writer.drain()

            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(send())
                got = await reader.readexactly(len(data))
            assert got == data
            writer.close()
            await writer.wait_closed()

        run(main())

    def test_a_reader_learns_that_the_port_was_unplugged(self, run: Run, port: Port) -> None:
        async def main() -> None:
            reader, writer = await serial.open_serial_connection(url=NAME)
            port.send(b"half a li")
            reading = asyncio.create_task(reader.readline())
            await asyncio.sleep(0.005)
            port.unplug()
            with pytest.raises(HardwareError, match="reading failed"):
                await reading
            writer.close()
            with pytest.raises(HardwareError):
                await writer.wait_closed()

        run(main())

    def test_the_positions_of_pyserials_arguments_are_kept(self, run: Run, port: Port) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, _ = await serial.create_serial_connection(loop, Trace, NAME, 38400, 7, "E", 2)
            settings = transport.serial.get_settings()
            assert [settings[key] for key in ("baudrate", "bytesize", "parity", "stopbits")] == [38400, 7, "E", 2]
            transport.abort()

        run(main())

    def test_a_port_that_pyserial_opened_is_taken_over(self, run: Run, port: Port) -> None:
        async def main() -> None:
            instance = pyserial.Serial(port.path, 57600)
            loop = asyncio.get_running_loop()
            transport, protocol = await serial.connection_for_serial(loop, Trace, instance)
            assert transport.serial is instance
            port.send(b"hello")
            await until(lambda: protocol.data == b"hello")
            transport.close()
            await protocol.lost
            assert not instance.is_open

        run(main())

    @pytest.mark.parametrize("url", ["loop://", "socket://127.0.0.1:9", "rfc2217://127.0.0.1:9"])
    def test_a_url_that_leads_to_no_port_raises(self, run: Run, port: Port, url: str) -> None:
        async def main() -> None:
            with pytest.raises(HardwareError, match=r"not a serial port of this machine; .* asyncio\.open_connection"):
                await serial.open_serial_connection(url=url)

        run(main())

    def test_a_url_that_wraps_a_port_is_taken(self, run: Run, port: Port) -> None:
        async def main() -> None:
            reader, writer = await serial.open_serial_connection(url=f"alt://{port.path}?class=PosixPollSerial")
            port.send(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
            await writer.wait_closed()

        run(main())


class TestTransport:
    def test_connection_made_is_called_before_anything_is_read(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, protocol = await connect()
            assert protocol.calls == ["made"]
            assert transport.is_reading()
            assert not transport.is_closing()
            assert not transport.can_write_eof()
            assert transport.get_extra_info("serial") is transport.serial
            assert transport.get_protocol() is protocol
            transport.abort()

        run(main())

    def test_closing_sends_what_was_written_and_then_tells_once(self, run: Run, board: SimBoard, port: Port) -> None:
        echo = Echo(port)

        async def main() -> None:
            transport, protocol = await connect()
            with board.timeline.lock:  # the device is not reading
                transport.write(bytes(200_000))
                transport.close()
                transport.close()
                await asyncio.sleep(0.002)
                assert transport.is_closing()
                assert not protocol.lost.done()
            assert await protocol.lost is None
            await until(lambda: len(echo.heard) == 200_000)
            transport.close()
            transport.abort()
            await asyncio.sleep(0)
            assert protocol.calls == ["made", "pause", "resume", "lost"]
            assert protocol.data == b""  # a closing transport reads no more

        run(main())

    def test_the_port_is_closed_when_the_protocol_hears_of_it(self, run: Run, port: Port) -> None:
        """So that it can be opened again right there, even exclusively."""

        async def main() -> None:
            for way in ("close", "abort", "unplug"):
                transport, protocol = await connect(exclusive=True)
                port.unplug() if way == "unplug" else getattr(transport, way)()
                await protocol.lost
                assert protocol.open_when_lost is False

        run(main())

    def test_aborting_drops_what_is_waiting(self, run: Run, board: SimBoard, port: Port) -> None:
        echo = Echo(port)

        async def main() -> None:
            transport, protocol = await connect()
            with board.timeline.lock:
                transport.write(bytes(200_000))
                transport.abort()
                assert await protocol.lost is None
            assert transport.get_write_buffer_size() == 0
            assert len(echo.heard) < 200_000

        run(main())

    def test_closing_waits_for_the_kernel_without_holding_up_the_loop(
        self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pseudo-terminal has no send buffer, so the answer is made up: 10 bytes when it is closed, then none."""
        left = [10, 10]
        monkeypatch.setattr(serial_device.SerialDevice, "out_waiting", lambda self: left.pop(0) if left else 0)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            transport, protocol = await connect(baudrate=9600)
            before = loop.time()
            transport.close()
            await protocol.lost
            assert loop.time() - before >= 10 * 10 / 9600

        run(main())

    def test_aborting_ends_that_wait_too(self, run: Run, port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.setattr(serial_device.SerialDevice, "out_waiting", lambda self: asked.append(self) or 1)

        async def main() -> None:
            transport, protocol = await connect(baudrate=115200)
            transport.close()
            await until(lambda: asked)
            transport.abort()
            await protocol.lost
            asked.clear()
            await asyncio.sleep(0.002)
            assert not asked  # the port is closed, and its descriptor may be another's

        run(main())

    def test_unplugging_loses_the_connection_once_and_does_not_spin(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, protocol = await connect()
            port.unplug()
            error = await protocol.lost
            assert isinstance(error, HardwareError)
            assert error.tried == NAME
            transport.close()
            await asyncio.sleep(0.002)
            assert protocol.calls == ["made", "lost"]

        run(main())

    def test_unplugging_in_mid_write_loses_the_connection(self, run: Run, board: SimBoard, port: Port) -> None:
        Echo(port)

        async def main() -> None:
            transport, protocol = await connect()
            transport.pause_reading()  # so that only the writer can notice
            with board.timeline.lock:
                transport.write(bytes(200_000))
                port.unplug()
                error = await protocol.lost
            assert "writing failed" in str(error)
            assert protocol.calls == ["made", "pause", "lost"]

        run(main())

    def test_a_write_that_finds_the_port_gone_loses_the_connection(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, protocol = await connect()
            port.unplug()
            transport.write(b"x")
            assert "writing failed" in str(await protocol.lost)

        run(main())

    def test_a_late_write_is_dropped_with_one_warning(
        self, run: Run, port: Port, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            transport, protocol = await connect()
            transport.close()
            transport.write(b"late")
            transport.write(b"later")
            await protocol.lost
            await asyncio.sleep(0.002)

        caplog.clear()
        run(main())
        assert [record.message for record in caplog.records] == [f"{NAME}: written to after it was closed; dropped"]
        assert port.bytes_in == 0

    def test_reading_pauses_and_resumes(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, protocol = await connect()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            port.send(b"held back")
            await asyncio.sleep(0.005)
            assert protocol.data == b""
            transport.resume_reading()
            transport.resume_reading()
            await until(lambda: protocol.data == b"held back")
            transport.abort()
            transport.resume_reading()  # a closed port is not watched again
            assert not transport.is_reading()

        run(main())

    def test_pausing_in_connection_made_holds(self, run: Run, port: Port) -> None:
        class Paused(Trace):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                assert self.transport is not None
                self.transport.pause_reading()

        async def main() -> None:
            transport, protocol = await serial.create_serial_connection(asyncio.get_running_loop(), Paused, NAME)
            port.send(b"x")
            await asyncio.sleep(0.005)
            assert protocol.data == b""
            transport.abort()

        run(main())

    def test_write_limits_are_asyncios(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, _ = await connect()
            assert transport.get_write_buffer_limits() == (16384, 65536)
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=10)
            assert transport.get_write_buffer_limits() == (10, 40)
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(high=1, low=2)
            with pytest.raises(TypeError, match="bytes, not str"):
                transport.write("text")  # type: ignore[arg-type]
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            transport.abort()

        run(main())

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, Spoilt])
    @pytest.mark.parametrize("method", ["data_received", "get_buffer", "buffer_updated"])
    def test_a_protocol_that_raises_while_it_takes_bytes_is_closed_and_reported(
        self, run: Run, board: SimBoard, port: Port, method: str, error: type[BaseException]
    ) -> None:
        other = board.add_port("/dev/ttyUSB1")

        async def main() -> None:
            told = reports()
            loop = asyncio.get_running_loop()
            _, beside = await serial.create_serial_connection(loop, Trace, "/dev/ttyUSB1")
            kind = Trace if method == "data_received" else Buffered
            _, protocol = await serial.create_serial_connection(loop, kind, NAME)
            setattr(protocol, method, raising(error))
            port.send(b"x")
            assert isinstance(await protocol.lost, error)
            assert protocol.open_when_lost is False
            assert [type(context["exception"]) for context in told] == [error]
            assert told[0]["message"] == f"{NAME}: {method} raised; the port is closed"
            other.send(b"y")
            await until(lambda: beside.data == b"y")
            assert beside.transport is not None
            beside.transport.abort()
            await beside.lost

        run(main())

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, Spoilt])
    @pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
    def test_a_protocol_that_raises_at_the_beginning_or_the_end_is_reported_and_the_port_closed_all_the_same(
        self, run: Run, port: Port, method: str, error: type[BaseException]
    ) -> None:
        async def main() -> None:
            told = reports()

            class Faulty(Trace):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    super().connection_made(transport)
                    if method == "connection_made":
                        raise error

                def connection_lost(self, exc: Exception | None) -> None:
                    super().connection_lost(exc)
                    if method == "connection_lost":
                        raise error

            transport, protocol = await serial.create_serial_connection(asyncio.get_running_loop(), Faulty, NAME)
            port.send(b"x")
            await until(lambda: protocol.data == b"x")
            transport.close()
            await protocol.lost
            assert protocol.open_when_lost is False
            assert protocol.calls == ["made", "lost"]
            assert [type(context["exception"]) for context in told] == [error]

        run(main())

    @pytest.mark.parametrize("leaving", [SystemExit, KeyboardInterrupt])
    def test_an_exit_passes(self, port: Port, leaving: type[BaseException]) -> None:
        async def main() -> None:
            _, protocol = await serial.create_serial_connection(asyncio.get_running_loop(), Trace, NAME)
            protocol.data_received = raising(leaving)  # type: ignore[method-assign]
            port.send(b"x")
            await asyncio.sleep(5)

        with asyncio.Runner() as runner, pytest.raises(leaving):
            runner.run(main())
        gc.collect()

    @pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, Spoilt])
    def test_a_protocol_that_raises_in_pause_writing_is_reported_and_goes_on(
        self, run: Run, board: SimBoard, port: Port, error: type[BaseException]
    ) -> None:
        echo = Echo(port)

        class Faulty(Trace):
            def pause_writing(self) -> None:
                raise error

        async def main() -> None:
            told = reports()
            transport, protocol = await serial.create_serial_connection(asyncio.get_running_loop(), Faulty, NAME)
            with board.timeline.lock:
                transport.write(bytes(200_000))
            await until(lambda: len(echo.heard) == 200_000)
            assert protocol.calls == ["made", "resume"]
            assert [type(context["exception"]) for context in told] == [error]
            transport.abort()

        run(main())

    def test_a_protocol_can_be_replaced(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, first = await connect()
            second = Trace()
            second.transport = transport
            transport.set_protocol(second)
            port.send(b"x")
            await until(lambda: second.data == b"x")
            transport.close()
            await second.lost
            assert first.calls == ["made"]

        run(main())


class TestBufferedProtocol:
    def test_bytes_arrive_in_the_buffer_it_brings(self, run: Run, port: Port) -> None:
        data = random.Random(2).randbytes(20_000)

        async def main() -> None:
            transport, protocol = await buffered()
            port.send(data)
            await until(lambda: len(protocol.data) == len(data))
            assert protocol.data == data
            assert set(protocol.hints) == {-1}
            transport.close()
            assert await protocol.lost is None
            assert protocol.calls == ["made", "lost"]

        run(main())

    @pytest.mark.parametrize("buffer", [bytearray(), b"", None, 5, bytes(10), memoryview(b"read-only"), array("i")])
    def test_a_buffer_that_takes_nothing_loses_the_connection(self, run: Run, port: Port, buffer: Any) -> None:
        async def main() -> None:
            told = reports()
            _, protocol = await buffered()
            protocol.buffer = buffer
            port.send(b"x")
            assert isinstance(await protocol.lost, RuntimeError | TypeError | BufferError)
            assert [context["message"] for context in told] == [f"{NAME}: get_buffer raised; the port is closed"]

        run(main())

    @pytest.mark.parametrize("size", [1, 3, 100_000])
    def test_any_size_and_kind_of_buffer_will_do(self, run: Run, port: Port, size: int) -> None:
        async def main() -> None:
            transport, protocol = await buffered()
            protocol.buffer = memoryview(bytearray(size))
            port.send(b"telegram")
            await until(lambda: protocol.data == b"telegram")
            protocol.buffer = array("H", [0] * size)
            port.send(b"telegram")
            await until(lambda: protocol.data == b"telegram" * 2)
            transport.abort()

        run(main())

    def test_pausing_holds(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, protocol = await buffered()
            transport.pause_reading()
            port.send(b"x")
            await asyncio.sleep(0.01)
            assert not protocol.hints
            transport.resume_reading()
            await until(lambda: protocol.data == b"x")
            transport.abort()

        run(main())

    @pytest.mark.parametrize("act", ["pause_reading", "close", "abort"])
    @pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
    def test_the_protocol_may_act_on_the_transport_in_each_call(
        self, run: Run, port: Port, method: str, act: str
    ) -> None:
        async def main() -> None:
            told = reports()
            transport, protocol = await buffered()
            plain = getattr(protocol, method)

            def acting(*arguments: Any) -> Any:
                getattr(transport, act)()
                return plain(*arguments)

            setattr(protocol, method, acting)
            port.send(b"x")
            if act == "pause_reading":
                await until(lambda: not transport.is_reading())
                await asyncio.sleep(0.005)
                assert len(protocol.hints) == 1
                transport.abort()
            assert await protocol.lost is None
            assert protocol.data == (b"" if method == "get_buffer" else b"x")
            assert told == []

        run(main())

    def test_the_kind_of_protocol_may_change_while_bytes_arrive(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, first = await connect()
            second, third = Buffered(), Trace()
            second.transport = third.transport = transport

            def switch(data: bytes) -> None:
                first.data += data
                transport.set_protocol(second)

            first.data_received = switch  # type: ignore[method-assign]
            port.send(b"one")
            await until(lambda: first.data == b"one")
            port.send(b"two")
            await until(lambda: second.data == b"two")
            transport.set_protocol(third)
            port.send(b"three")
            await until(lambda: third.data == b"three")
            transport.close()
            await third.lost
            assert not second.lost.done()

        run(main())

    def test_unplugging_loses_the_connection_once(self, run: Run, port: Port) -> None:
        async def main() -> None:
            transport, protocol = await buffered()
            port.unplug()
            assert isinstance(await protocol.lost, HardwareError)
            assert transport.is_closing()
            assert protocol.calls == ["made", "lost"]

        run(main())


class TestOpening:
    def test_a_port_that_cannot_be_opened_is_a_clear_error_and_leaves_nothing(self, run: Run, port: Port) -> None:
        async def main() -> None:
            with pytest.raises(HardwareError, match="no such port on the simulated board"):
                await serial.open_serial_connection(url="/dev/ttyS9")
            with pytest.raises(ValueError, match="baudrate"):
                await serial.open_serial_connection(url=NAME, baudrate=-1)
            transport, _ = await connect(exclusive=True)
            with pytest.raises(HardwareError, match="busy"):
                await connect(exclusive=True)
            transport.abort()

        run(main())

    def test_cancelled_while_it_opens_the_port_is_closed(self, run: Run, port: Port) -> None:
        async def main() -> None:
            opening = asyncio.create_task(connect(exclusive=True))
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            transport, _ = await connect(exclusive=True)
            transport.abort()

        run(main())
