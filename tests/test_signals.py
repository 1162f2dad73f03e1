"""Signals, and the one wakeup descriptor that all loops of a process share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

import hwloop


def wakeup() -> int:
    current = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(current)
    return current


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    assert wakeup() == -1
    yield
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    left = signal.set_wakeup_fd(-1)
    assert left == -1


@pytest.fixture
def foreign() -> Iterator[tuple[int, socket.socket]]:
    """A wakeup descriptor that some library has set, and its other end."""
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.setblocking(False)
    signal.set_wakeup_fd(ours.fileno())
    yield ours.fileno(), other
    if wakeup() == ours.fileno():
        signal.set_wakeup_fd(-1)
    ours.close()
    other.close()


def run_briefly(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(asyncio.sleep(0.005))


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def received(pipe: socket.socket) -> bytes:
    try:
        return pipe.recv(100)
    except BlockingIOError:
        return b""


@contextlib.contextmanager
def nobody_runs() -> Iterator[None]:
    """For a loop within a loop, which asyncio does not allow and some programs do all the same."""
    outer = asyncio.events._get_running_loop()
    asyncio.events._set_running_loop(None)
    try:
        yield
    finally:
        asyncio.events._set_running_loop(outer)


def loop_with_handler(number: signal.Signals, seen: list[Any], word: str) -> hwloop.EventLoop:
    loop = hwloop.new_event_loop()

    async def setup() -> None:
        asyncio.get_running_loop().add_signal_handler(number, seen.append, word)

    loop.run_until_complete(setup())
    return loop


def test_a_handler_added_in_one_run_is_called_in_the_next() -> None:
    seen: list[str] = []
    with contextlib.closing(loop_with_handler(signal.SIGUSR1, seen, "usr1")) as loop:
        for _ in range(2):
            send(signal.SIGUSR1)
            run_briefly(loop)
    assert seen == ["usr1"] * 2


def test_a_handler_added_before_the_first_run_is_called_in_it() -> None:
    seen: list[str] = []
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "usr1")
        send(signal.SIGUSR1)
        run_briefly(loop)
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert wakeup() == -1
    assert seen == ["usr1"]


@pytest.mark.parametrize("inner_has_handlers", [False, True])
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("outer_runs", [False, True])
def test_another_loop_takes_no_signal_from_one_with_handlers(inner_has_handlers, closed, outer_runs):
    seen: list[str] = []
    outer, inner = hwloop.new_event_loop(), hwloop.new_event_loop()
    outer.add_signal_handler(signal.SIGUSR1, seen.append, "outer")

    def other_run() -> None:
        with nobody_runs():
            if inner_has_handlers:
                inner.add_signal_handler(signal.SIGUSR2, seen.append, "inner")
            inner.call_soon(send, signal.SIGUSR1)
            if inner_has_handlers:
                inner.call_soon(send, signal.SIGUSR2)
            run_briefly(inner)
            if closed:
                inner.close()
        send(signal.SIGUSR1)

    if outer_runs:
        outer.call_soon(other_run)
    else:
        other_run()
    run_briefly(outer)
    run_briefly(outer)
    assert seen.count("outer") == 2
    assert seen.count("inner") == inner_has_handlers
    if inner_has_handlers and not closed:
        send(signal.SIGUSR2)
        run_briefly(inner)
        assert seen.count("inner") == 2
    inner.close()
    send(signal.SIGUSR1)
    run_briefly(outer)
    assert seen.count("outer") == 3
    outer.close()


def test_an_asyncio_loop_with_handlers_keeps_its_signals_while_another_loop_runs() -> None:
    seen: list[str] = []
    outer, inner = asyncio.SelectorEventLoop(), hwloop.new_event_loop()
    outer.add_signal_handler(signal.SIGUSR1, seen.append, "outer")
    held = wakeup()
    inner.call_soon(send, signal.SIGUSR1)
    run_briefly(inner)
    assert wakeup() == held
    inner.close()
    run_briefly(outer)
    outer.close()
    assert seen == ["outer"]


def test_a_descriptor_that_a_library_has_set_stays_set(foreign) -> None:
    number, pipe = foreign
    signal.signal(signal.SIGUSR1, lambda *_: None)

    async def main() -> None:
        assert wakeup() == number
        send(signal.SIGUSR1)

    hwloop.run(main())
    assert wakeup() == number
    assert received(pipe) == bytes([signal.SIGUSR1])


def test_while_a_loop_with_handlers_has_it_other_signals_are_passed_on(foreign) -> None:
    number, pipe = foreign
    signal.signal(signal.SIGUSR2, lambda *_: None)
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "usr1")
        send(signal.SIGUSR1)
        send(signal.SIGUSR2)
        await asyncio.sleep(0.005)
        loop.remove_signal_handler(signal.SIGUSR1)

    hwloop.run(main())
    assert seen == ["usr1"]
    assert received(pipe) == bytes([signal.SIGUSR2])
    assert wakeup() == number


def test_a_wakeup_descriptor_that_the_program_sets_during_a_run_is_left() -> None:
    ours, other = socket.socketpair()
    ours.setblocking(False)
    hwloop_loop = hwloop.new_event_loop()
    hwloop_loop.call_soon(signal.set_wakeup_fd, ours.fileno())
    run_briefly(hwloop_loop)
    assert wakeup() == ours.fileno()
    hwloop_loop.close()
    assert signal.set_wakeup_fd(-1) == ours.fileno()
    ours.close()
    other.close()


def test_a_descriptor_whose_owner_has_closed_it_is_not_set_again() -> None:
    ours, other = socket.socketpair()
    ours.setblocking(False)
    signal.set_wakeup_fd(ours.fileno())
    number = ours.fileno()

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        ours.close()
        os.dup2(other.fileno(), number)  # the number is somebody else's

    other.setblocking(False)
    hwloop.run(main())
    assert wakeup() == -1
    os.close(number)
    other.close()


def test_a_handler_that_can_not_be_added_takes_nothing(foreign) -> None:
    number, _ = foreign
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)
        with pytest.raises(ValueError, match="invalid signal number"):
            loop.add_signal_handler(10_000, print)
        assert wakeup() == number


def test_a_loop_in_a_thread_leaves_it_alone(foreign) -> None:
    number, _ = foreign
    refused: list[BaseException] = []

    async def main() -> None:
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            refused.append(error)

    thread = threading.Thread(target=lambda: hwloop.run(main()))
    thread.start()
    thread.join()
    assert len(refused) == 1
    assert wakeup() == number


def test_a_loop_runs_with_a_self_pipe_that_is_no_real_one() -> None:
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        real, loop._csock = loop._csock, mock.Mock()
        run_briefly(loop)
        loop._csock = real
    assert wakeup() == -1


def test_a_plain_handler_runs_at_once_while_the_loop_sleeps() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        signal.signal(signal.SIGUSR1, lambda *_: done.set_result(None))
        threading.Timer(0.01, send, [signal.SIGUSR1]).start()
        async with asyncio.timeout(20):
            await done

    hwloop.run(main())


BUSY_IN_C = """
import os, signal, hwloop

def handler(*_):
    print("handled")
    os._exit(0)

signal.signal(signal.SIGALRM, handler)
loop = hwloop.new_event_loop()
loop.add_reader(os.eventfd(1), [].clear)  # always readable
loop.call_soon(signal.set_wakeup_fd, -1)  # no byte wakes the loop
signal.setitimer(signal.ITIMER_REAL, 0.1)
loop.run_forever()
"""


def test_a_handler_runs_while_all_callbacks_are_c_functions() -> None:
    """Compiled, no bytecode runs then, which is where Python calls handlers. In a process: the loop would never end."""
    done = subprocess.run([sys.executable, "-c", BUSY_IN_C], capture_output=True, text=True, timeout=60)
    assert done.stdout == "handled\n", done.stderr
