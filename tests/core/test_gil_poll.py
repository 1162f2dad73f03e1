"""A busy loop beside other threads: its polls keep the interpreter lock, and find the same descriptors as epoll."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import threading

import hwloop
from hwloop.core.bases import CORE
from hwloop.core.gil_poll import GilPoll


def test_a_peek_finds_what_epoll_finds():
    pipes = [os.pipe() for _ in range(5)]
    with select.epoll() as epoll:
        for reader, _ in pipes:
            epoll.register(reader, select.EPOLLIN)
        epoll.register(pipes[0][1], select.EPOLLOUT)
        peek = GilPoll(epoll.fileno(), 16)
        assert peek() == epoll.poll(0) == [(pipes[0][1], select.EPOLLOUT)]
        for _, writer in pipes[1:4]:
            os.write(writer, b"!")
        os.close(pipes[4][1])  # a hang-up
        assert sorted(peek()) == sorted(epoll.poll(0))
        assert len(peek()) == 5
        assert len(GilPoll(epoll.fileno(), 2)()) == 2
    for reader, writer in pipes:
        os.close(reader)
        if writer != pipes[4][1]:
            os.close(writer)


def test_a_peek_at_a_closed_set_finds_nothing():
    epoll = select.epoll()
    peek = GilPoll(epoll.fileno(), 16)
    epoll.close()
    assert peek() == []


def busy_until(loop, done):
    def work():
        if not done():
            loop.call_soon(work)

    for _ in range(10):
        loop.call_soon(work)


def test_a_busy_loop_serves_descriptors_while_another_thread_takes_its_turns():
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        served = []
        loop.add_reader(reader, lambda: served.append(os.read(reader, 1)))

        def send():
            for _ in range(20):
                os.write(writer, b"!")
                threading.Event().wait(0.001)

        thread = threading.Thread(target=send)
        thread.start()
        finished = loop.create_future()
        busy_until(loop, lambda: len(served) == 20 and (finished.done() or finished.set_result(None) or True))
        await asyncio.wait_for(finished, 60)
        thread.join()
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)
        return loop._poller._gil_poll

    kind = type(None) if CORE == "compiled" else GilPoll  # its `poll` keeps the lock in any case
    assert isinstance(hwloop.run(main()), kind)


ALONE = """
import asyncio, threading
import hwloop

async def main():
    loop = asyncio.get_running_loop()
    left, used = 1000, []
    loop._poller._gil_poll = lambda: used.append("a look") or []

    def work():
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(work)

    loop.call_soon(work)
    await asyncio.sleep(0.001)
    return used

assert threading.active_count() == 1
assert hwloop.run(main()) == []
"""


def test_a_loop_without_other_threads_does_not_use_it():
    """In a process of its own, since the one that runs the tests may have threads."""
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=60)
