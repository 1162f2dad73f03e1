"""An ended loop leaves nothing behind that keeps it alive, and no more cyclic garbage than asyncio's loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

import hwloop
from hwloop import Priority

Program = Callable[[], Coroutine[Any, Any, object]]


async def nothing() -> None:
    pass


async def timers_and_tasks() -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(asyncio.sleep(0.001))
    asyncio.get_running_loop().call_later(1000, print)


async def threads() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(int)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(int,))
    thread.start()
    while thread.is_alive():  # looks beside another thread
        await asyncio.sleep(0)
    thread.join()


async def signal_handlers() -> None:
    loop = asyncio.get_running_loop()
    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await seen.wait()


async def streams() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def replaced_time() -> None:
    loop = asyncio.get_running_loop()
    with mock.patch.object(loop, "time", lambda: 5.0):  # noqa: PT008  # a mock remembers its calls
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)


async def failing_callbacks() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)


async def hwloops_own() -> None:
    loop: Any = asyncio.get_running_loop()

    class Source:
        priority = Priority.INTERRUPT

        def __init__(self) -> None:
            self.reader, self.writer = os.pipe()

        def fileno(self) -> int:
            return self.reader

        def on_readable(self) -> None:
            os.read(self.reader, 1)

        def close(self) -> None:
            os.close(self.reader)
            os.close(self.writer)

    source = Source()
    loop.register(source)
    os.write(source.writer, b"!")
    loop.call_deadline(loop.time() + 1, int)
    loop.call_soon_priority(Priority.LOW, int)
    loop.call_tolerant(loop.time() + 100, print, tolerance=1)
    loop.set_deadline_handler(print)
    loop.watch_slices(10, locate=True)
    loop.measure_tasks()
    loop.schedule_gc("idle")
    loop.statistics()
    await hwloop.create_task(asyncio.sleep(0.001), priority=Priority.HIGH)
    loop.schedule_gc("auto")
    ticks = hwloop.every(0.001)
    await anext(ticks)


COMMON: list[Program] = [
    nothing,
    timers_and_tasks,
    threads,
    signal_handlers,
    streams,
    replaced_time,
    failing_callbacks,
]
ALL = [*COMMON, hwloops_own]


def run_and_close(loop: asyncio.AbstractEventLoop, program: Program) -> None:
    try:
        loop.run_until_complete(program())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@contextlib.contextmanager
def no_automatic_collection() -> Any:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("program", ALL)
def test_a_closed_loop_is_freed_at_once_without_the_garbage_collector(program: Program) -> None:
    with no_automatic_collection():
        loop = hwloop.new_event_loop()
        alive = weakref.ref(loop)
        run_and_close(loop, program)
        del loop
        assert alive() is None


def garbage_of(factory: Callable[[], asyncio.AbstractEventLoop], program: Program) -> list[str]:
    """The kinds of the cyclic garbage that a run leaves; an earlier run has left its own before."""
    for _ in range(2):
        run_and_close(factory(), program)
    with no_automatic_collection():
        run_and_close(factory(), program)
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return sorted(type(thing).__name__ for thing in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


@pytest.mark.parametrize("program", COMMON)
@pytest.mark.slow
def test_a_run_leaves_no_more_cyclic_garbage_than_asyncios_loop(program: Program) -> None:
    ours, stock = garbage_of(hwloop.new_event_loop, program), garbage_of(asyncio.SelectorEventLoop, program)
    assert len(ours) <= len(stock), ours


def test_calls_that_asyncio_lacks_leave_no_loop_in_a_reference_cycle() -> None:
    assert "EventLoop" not in garbage_of(hwloop.new_event_loop, hwloops_own)


class Failure(Exception):
    pass


async def failing() -> None:
    local = asyncio.get_running_loop()
    assert local
    raise Failure


@pytest.mark.parametrize("program", [*ALL, failing])
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("in_thread", [False, True])
def test_the_loop_of_a_run_is_freed(program: Program, debug: bool, in_thread: bool) -> None:
    """As anyio's tests ask: gone after one collection, whatever it did, wherever it ran and however it ended."""
    if in_thread and program is signal_handlers:
        return  # asyncio allows them in the main thread alone
    alive: list[weakref.ref[Any]] = []

    async def main() -> None:
        alive.append(weakref.ref(asyncio.get_running_loop()))
        await program()

    def run() -> None:
        with contextlib.suppress(Failure):
            hwloop.run(main(), debug=debug)

    logging.getLogger("asyncio").disabled = True
    try:
        if in_thread:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        else:
            run()
    finally:
        logging.getLogger("asyncio").disabled = False
    gc.collect()
    assert alive[0]() is None


def test_a_loop_in_virtual_time_is_freed() -> None:
    loop = hwloop.SimLoop(seed=1)
    alive = weakref.ref(loop)
    run_and_close(loop, timers_and_tasks)
    del loop
    gc.collect()
    assert alive() is None
