"""websockets, unchanged: a server and its clients, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

pytest.importorskip("websockets", reason="pip install websockets")
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "fail":
            await connection.close(1011, "as requested")
        else:
            await connection.send(message)


async def with_client(program: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None) as connection:
            return await program(connection)


def test_messages_come_back_in_order(run: Run) -> None:
    async def program(connection: Any) -> list[str]:
        async def send() -> None:
            for number in range(100):
                await connection.send(str(number))

        sending = asyncio.create_task(send())
        answers = [await connection.recv() for _ in range(100)]
        await sending
        return answers

    assert run(with_client(program)) == [str(number) for number in range(100)]


def test_a_large_message_passes_flow_control(run: Run) -> None:
    message = bytes(range(256)) * 2048

    async def program(connection: Any) -> Any:
        await connection.send(message)
        return await connection.recv()

    assert run(with_client(program)) == message


def test_a_ping_is_answered(run: Run) -> None:
    async def program(connection: Any) -> Any:
        return await asyncio.wait_for(await connection.ping(), 5)

    assert run(with_client(program)) >= 0


def test_a_close_by_the_server_reaches_the_client(run: Run) -> None:
    async def program(connection: Any) -> None:
        await connection.send("fail")
        with pytest.raises(ConnectionClosedError, match="as requested"):
            await connection.recv()

    run(with_client(program))
