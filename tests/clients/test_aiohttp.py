"""aiohttp, unchanged: an HTTP and WebSocket server and its clients, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
from aiohttp import web  # noqa: E402

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def measurement(request: web.Request) -> web.Response:
    return web.json_response({"sensor": request.match_info["sensor"], "value": 21.5})


async def history(request: web.Request) -> web.StreamResponse:
    """A body that comes in pieces, with pauses."""
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(5):
        await response.write(b"%d\n" % number)
        await asyncio.sleep(0.001)
    await response.write_eof()
    return response


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("not reached")


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data.upper())
    return socket


async def with_server(program: Callable[[aiohttp.ClientSession, str], Coroutine[Any, Any, Any]]) -> Any:
    app = web.Application()
    app.add_routes(
        [
            web.get("/sensors/{sensor}", measurement),
            web.get("/history", history),
            web.get("/never", never),
            web.get("/echo", echo),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            return await program(session, f"http://{host}:{port}")
    finally:
        await runner.cleanup()


def test_twenty_requests_at_once_are_answered(run: Run) -> None:
    async def program(session: aiohttp.ClientSession, url: str) -> list[Any]:
        async def get(sensor: str) -> Any:
            async with session.get(f"{url}/sensors/{sensor}") as response:
                return await response.json()

        return await asyncio.gather(*(get(f"s{number}") for number in range(20)))

    answers = run(with_server(program))
    assert answers == [{"sensor": f"s{number}", "value": 21.5} for number in range(20)]


def test_a_body_in_pieces_arrives_whole(run: Run) -> None:
    async def program(session: aiohttp.ClientSession, url: str) -> list[bytes]:
        async with session.get(f"{url}/history") as response:
            return [line async for line in response.content]

    assert run(with_server(program)) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]


def test_a_request_without_an_answer_times_out(run: Run) -> None:
    async def program(session: aiohttp.ClientSession, url: str) -> None:
        timeout = aiohttp.ClientTimeout(total=0.05)
        with pytest.raises(TimeoutError):
            async with session.get(f"{url}/never", timeout=timeout):
                pass

    run(with_server(program))


def test_a_websocket_echoes(run: Run) -> None:
    async def program(session: aiohttp.ClientSession, url: str) -> list[str]:
        answers = []
        async with session.ws_connect(f"{url}/echo") as socket:
            for text in ("one", "two", "three"):
                await socket.send_str(text)
                answers.append(await socket.receive_str())
        return answers

    assert run(with_server(program)) == ["ONE", "TWO", "THREE"]
