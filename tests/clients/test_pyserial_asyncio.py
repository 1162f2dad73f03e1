"""pyserial-asyncio, unchanged: its streams and its transport, over a pseudo-terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard

serial_asyncio = pytest.importorskip("serial_asyncio", reason="pip install pyserial-asyncio")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Echo:
    """A device that answers what it is sent, in capitals."""

    def __init__(self, board: SimBoard) -> None:
        self._port = board.add_port("/dev/ttyUSB0")
        self._port.attach(self)

    def receive(self, data: bytes) -> None:
        self._port.send(data.upper())


@pytest.fixture
def port() -> Iterator[str]:
    with SimBoard() as board:
        Echo(board)
        yield board.serial_port("/dev/ttyUSB0")


def test_streams_read_and_write_lines(run: Run, port: str) -> None:
    async def main() -> list[bytes]:
        reader, writer = await serial_asyncio.open_serial_connection(url=port, baudrate=115200)
        answers = []
        for line in (b"one\n", b"two\n", b"three\n"):
            writer.write(line)
            await writer.drain()
            answers.append(await reader.readline())
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0)  # it reports the end before it closes the port
        return answers

    assert run(main()) == [b"ONE\n", b"TWO\n", b"THREE\n"]


def test_a_long_write_is_finished_by_the_writer(run: Run, port: str) -> None:
    text = b"0123456789abcdef" * 1024

    async def main() -> bytes:
        reader, writer = await serial_asyncio.open_serial_connection(url=port, baudrate=921600)
        writer.write(text)
        answer = await reader.readexactly(len(text))
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0)
        return answer

    assert run(main()) == text.upper()


def test_a_protocol_receives_connection_data_and_disconnection(run: Run, port: str) -> None:
    class Noting(asyncio.Protocol):
        def __init__(self) -> None:
            self.data = b""
            self.answered = asyncio.Event()
            self.ended = asyncio.Event()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"hello")  # type: ignore[attr-defined]

        def data_received(self, data: bytes) -> None:
            self.data += data
            if len(self.data) == 5:
                self.answered.set()

        def connection_lost(self, error: Exception | None) -> None:
            assert error is None
            self.ended.set()

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        transport, protocol = await serial_asyncio.create_serial_connection(loop, Noting, port, baudrate=9600)
        await protocol.answered.wait()
        transport.close()
        await protocol.ended.wait()
        await asyncio.sleep(0)
        return protocol.data

    assert run(main()) == b"HELLO"
