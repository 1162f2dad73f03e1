"""The cost of a loop's sockets: echo through streams and through protocols, and bulk transfer both ways.

    python benchmarks/echo.py [--only echo-protocol ...] [--quick]

The loop serves; the client is another process with plain blocking sockets. Echo: five connections ("many": twenty),
each with one message of 100 bytes on its way at all times. Bulk: one connection at full speed. The main figure is the
work of the server per second of its CPU time; the figures per second of the clock include the client.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any

import script

from hwloop_bench.processes import Case, Taken, new_loop

MESSAGE = bytes(100)
BLOCK = bytes(64 * 1024)

Client = Callable[[list[socket.socket], float], int]
"""Uses the connections for `seconds` and returns the amount of its work."""


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Sink(Echo):
    def data_received(self, data: bytes) -> None:
        pass


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(BLOCK)
        await writer.drain()


def converse(sockets: list[socket.socket], seconds: float) -> int:
    """Answer each echo with the next message, so that every connection always has one on its way."""
    done = 0
    for sock in sockets:
        sock.sendall(MESSAGE)
    end = time.perf_counter() + seconds
    while True:
        last = time.perf_counter() >= end
        for sock in sockets:
            missing = len(MESSAGE)
            while missing:
                missing -= len(sock.recv(missing))
            if not last:
                sock.sendall(MESSAGE)
        done += len(sockets)
        if last:
            return done


def send(sockets: list[socket.socket], seconds: float) -> int:
    done = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        done += sockets[0].send(BLOCK)
    return done


def receive(sockets: list[socket.socket], seconds: float) -> int:
    buffer = bytearray(1024 * 1024)
    done = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        done += sockets[0].recv_into(buffer)
    return done


JOBS: dict[str, tuple[object, Client, int, str, float]] = {
    "echo-stream": (echo, converse, 5, "messages", 1),
    "echo-protocol": (Echo, converse, 5, "messages", 1),
    "echo-stream-many": (echo, converse, 20, "messages", 1),
    "echo-protocol-many": (Echo, converse, 20, "messages", 1),
    "bulk-stream": (sink, send, 1, "MB", 1e-6),
    "bulk-protocol": (Sink, send, 1, "MB", 1e-6),
    "bulk-out": (source, receive, 1, "MB", 1e-6),
}
"""By name: the server, the client, the number of connections, and the unit."""


def transfer(loop: str, seconds: float, job: str, tcp: bool) -> Taken:
    server, client, connections, unit, scale = JOBS[job]
    with tempfile.TemporaryDirectory() as directory:
        listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        listener.bind(("127.0.0.1", 0) if tcp else os.path.join(directory, "socket"))
        listener.listen(connections)
        address = listener.getsockname()
        # Each message arrives by itself, however late the reader is.
        answer, question = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not os.fork():
            sockets = [socket.socket(listener.family) for _ in range(connections)]
            for sock in sockets:
                sock.connect(address)
                if tcp:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client(sockets, seconds / 10)
            question.send(b"begin")
            done = client(sockets, seconds)
            question.send(str(done).encode())
            os._exit(0)
        question.close()
        return new_loop(loop).run_until_complete(_serve(server, listener, answer, unit, scale))


async def _serve(server: object, listener: socket.socket, answer: socket.socket, unit: str, scale: float) -> Taken:
    loop = asyncio.get_running_loop()
    unix = listener.family == socket.AF_UNIX
    start: Any
    if isinstance(server, type):
        start = loop.create_unix_server if unix else loop.create_server
    else:
        start = asyncio.start_unix_server if unix else asyncio.start_server
    listening = await start(server, sock=listener)
    answer.setblocking(False)
    await loop.sock_recv(answer, 100)
    cpu, clock = time.process_time(), time.perf_counter()
    done = scale * int(await loop.sock_recv(answer, 100))
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    del listening  # uvloop's would have ended with its last reference
    return Taken({f"{unit}/CPU s": done / cpu, f"{unit}/s": done / clock})


CASES = [
    Case(
        f"{job}{'-tcp' if tcp else ''}",
        f"{job.replace('-', ', ')}, {'TCP' if tcp else 'UNIX socket'}",
        transfer,
        {"job": job, "tcp": tcp},
    )
    for tcp in (False, True)
    for job in JOBS
]

if __name__ == "__main__":
    script.main(CASES)
