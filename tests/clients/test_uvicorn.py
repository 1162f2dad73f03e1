"""uvicorn, unchanged: an ASGI application behind a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import hwloop

uvicorn = pytest.importorskip("uvicorn", reason="pip install uvicorn")

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """Answers with the request's path, and notes the events that it received, and on which loop."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.loop = asyncio.get_running_loop()
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{stage}"
                self.events.append(stage)
                await send({"type": f"lifespan.{stage}.complete"})
        elif scope["type"] == "http":
            answer = scope["path"].encode() + b" " + (await receive())["body"]
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})


class Server(uvicorn.Server):
    """uvicorn's server; asks itself something as soon as it has started, and ends."""

    answers: tuple[str, ...] = ()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.client = asyncio.create_task(self.ask())

    async def ask(self) -> None:
        try:
            port = self.servers[0].sockets[0].getsockname()[1]
            self.answers = await asyncio.gather(*(request(port, f"/{number}") for number in range(5)))
        finally:
            self.should_exit = True


async def request(port: int, path: str) -> str:
    """The body of the answer to a POST."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
        writer.write(head.encode() + b"body")
        answer = (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    status, _, rest = answer.partition("\r\n")
    assert status == "HTTP/1.1 200 OK"
    return rest.partition("\r\n\r\n")[2]


def config(app: Application, **options: Any) -> Any:
    return uvicorn.Config(app, host="127.0.0.1", port=0, ws="none", log_config=None, **options)


EXPECTED = [f"/{number} body" for number in range(5)]


def test_an_application_is_started_asked_and_shut_down(run: Run) -> None:
    app = Application()
    server = Server(config(app))
    run(server.serve())
    assert list(server.answers) == EXPECTED
    assert app.events == ["startup", "shutdown"]


def test_uvicorn_takes_the_loop_by_name() -> None:
    app = Application()
    server = Server(config(app, loop="hwloop:new_event_loop"))
    server.run()
    assert list(server.answers) == EXPECTED
    assert type(app.loop) is hwloop.EventLoop
