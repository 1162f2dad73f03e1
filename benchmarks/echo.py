"""The cost of a loop's sockets: echo through streams and through protocols, and bulk transfer both ways.

    python benchmarks/echo.py [--only echo-protocol ...] [--loops asyncio uvloop rloop hwloop] [--quick]

The loop serves; the client is another process with plain blocking sockets. Echo: five connections ("many": twenty),
each with one message of 100 bytes on its way at all times. Bulk: one connection at full speed. The main figure is the
work of the server per second of its CPU time; the figures per second of the clock include the client.

Exchange: what rloop's own benchmark measures, one connection over TCP with messages of 1 or 64 KiB, echoed through
`loop.sock_recv` and `sock_sendall`, line by line through streams, and through a protocol. Its figure is messages per
second of the clock.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import script

from hwloop_bench.processes import Case, Taken, new_loop

BLOCK = bytes(64 * 1024)

Client = Callable[[list[socket.socket], float, bytes], int]
"""Sends the message on the connections for `seconds`, or receives, and returns the amount of its work."""


def send_at_once(sock: Any) -> None:
    """Set TCP_NODELAY: not every loop does by itself."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self.transport = transport
        send_at_once(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Sink(Echo):
    def data_received(self, data: bytes) -> None:
        pass


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    send_at_once(writer.get_extra_info("socket"))
    while line := await reader.readline():
        writer.write(line)


async def echo_raw(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    sock, _ = await loop.sock_accept(listener)
    send_at_once(sock)
    while data := await loop.sock_recv(sock, 102400):
        await loop.sock_sendall(sock, data)


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(BLOCK)
        await writer.drain()


def converse(sockets: list[socket.socket], seconds: float, message: bytes) -> int:
    """Answer each echo with the next message, so that every connection always has one on its way."""
    done = 0
    for sock in sockets:
        sock.sendall(message)
    end = time.perf_counter() + seconds
    while True:
        last = time.perf_counter() >= end
        for sock in sockets:
            missing = len(message)
            while missing:
                missing -= len(sock.recv(missing))
            if not last:
                sock.sendall(message)
        done += len(sockets)
        if last:
            return done


def send(sockets: list[socket.socket], seconds: float, message: bytes) -> int:
    done = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        done += sockets[0].send(message)
    return done


def receive(sockets: list[socket.socket], seconds: float, message: bytes) -> int:
    buffer = bytearray(1024 * 1024)
    done = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        done += sockets[0].recv_into(buffer)
    return done


class Job(NamedTuple):
    """A server, its client, and the amount of their work."""

    server: object
    """A protocol, a function for streams, or `echo_raw`."""
    client: Client
    connections: int
    size: int
    """Bytes of a message."""
    unit: str = "messages"
    scale: float = 1.0


BULK = {"size": len(BLOCK), "unit": "MB", "scale": 1e-6}
JOBS = {
    "echo-stream": Job(echo, converse, 5, 100),
    "echo-protocol": Job(Echo, converse, 5, 100),
    "echo-stream-many": Job(echo, converse, 20, 100),
    "echo-protocol-many": Job(Echo, converse, 20, 100),
    "bulk-stream": Job(sink, send, 1, **BULK),
    "bulk-protocol": Job(Sink, send, 1, **BULK),
    "bulk-out": Job(source, receive, 1, **BULK),
}
EXCHANGES = {
    f"exchange-{name}-{size}k": Job(server, converse, 1, size * 1024)
    for name, server in (("raw", echo_raw), ("stream", echo_lines), ("protocol", Echo))
    for size in (1, 64)
}


def transfer(loop: str, seconds: float, job: str, tcp: bool) -> Taken:
    server, client, connections, size, unit, scale = (JOBS | EXCHANGES)[job]
    message = bytes(size - 1) + b"\n"
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
                send_at_once(sock)
            client(sockets, seconds / 10, message)
            question.send(b"begin")
            done = client(sockets, seconds, message)
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
        limit = 2**20 if server is echo_lines else 2**16
        start = functools.partial(asyncio.start_unix_server if unix else asyncio.start_server, limit=limit)
    listening = asyncio.create_task(echo_raw(listener)) if server is echo_raw else await start(server, sock=listener)
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
] + [Case(job, job.replace("-", ", "), transfer, {"job": job, "tcp": True}, seconds=0.5) for job in EXCHANGES]

if __name__ == "__main__":
    script.main(CASES)
