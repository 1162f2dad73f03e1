"""A fork: loops made before it work in both processes, and a child takes and changes nothing of its parent's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import select
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hwloop
from hwloop.core import realtime
from hwloop.core.stack_sampler import Sampler

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def loop() -> Iterator[hwloop.EventLoop]:
    with contextlib.closing(hwloop.new_event_loop()) as loop:
        yield loop


def start_child(work: Callable[[], object]) -> int:
    """Fork; the child ends with 0 if `work` returns something true, and with 2 if it hangs or raises."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(2))
            signal.alarm(20)
            os._exit(0 if work() else 1)
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(2)
    return child


def ended_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def in_child(work: Callable[[], object]) -> bool:
    return ended_well(start_child(work))


def wakeup() -> int:
    current = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(current)
    return current


async def all_that_a_loop_does() -> bool:
    """Timers, sockets, threads, an executor and signals."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    seen: list[Any] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
    async with asyncio.timeout(15):
        began = loop.time()
        await asyncio.sleep(0.003)
        assert loop.time() - began >= 0.003
        theirs.send(b"!")
        assert await loop.sock_recv(ours, 10) == b"!"
        assert await asyncio.to_thread(lambda: 5) == 5
        woken = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
        thread.start()
        await woken.wait()
        thread.join()
        os.kill(os.getpid(), signal.SIGUSR1)
        while not seen:
            await asyncio.sleep(0.001)
    loop.remove_signal_handler(signal.SIGUSR1)
    ours.close()
    theirs.close()
    return True


def test_a_loop_made_before_a_fork_works_in_both_processes(loop) -> None:
    loop.run_until_complete(all_that_a_loop_does())  # so that it has an executor, among others
    child = start_child(lambda: loop.run_until_complete(all_that_a_loop_does()))
    assert loop.run_until_complete(all_that_a_loop_does())
    assert ended_well(child)
    assert in_child(lambda: loop.run_until_complete(all_that_a_loop_does()))
    loop.run_until_complete(loop.shutdown_default_executor())


def test_sources_registered_before_a_fork_are_served_in_both_processes(loop) -> None:
    ours, theirs = socket.socketpair()
    ran: list[str] = []

    def once() -> bool:
        loop.call_later(0.002, ran.append, "timer")
        loop.call_later(0.003, loop.stop)
        loop.run_forever()
        return "reader" in ran and "timer" in ran

    loop.add_reader(ours, ran.append, "reader")
    theirs.send(b"!")
    assert in_child(once)
    assert ran == []
    assert once()
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("clean_up", ["close", "remove", "modify"])
def test_a_child_that_clears_its_copy_does_not_affect_the_parent(loop, clean_up) -> None:
    ours, theirs = socket.socketpair()
    ran: list[str] = []
    loop.add_reader(ours, ran.append, "reader")

    def work() -> bool:
        if clean_up == "close":
            loop.close()
        elif clean_up == "remove":
            loop.remove_reader(ours)
        else:
            loop.add_writer(ours, print)
            loop.remove_reader(ours)
        return True

    assert in_child(work)
    theirs.send(b"!")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert ran
    loop.remove_reader(ours)
    ours.close()
    theirs.close()


def test_a_child_forked_by_a_running_loop_starts_without_one_and_may_run_a_new_loop(loop) -> None:
    loop.schedule_gc("idle")

    def work() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            return False
        return (
            asyncio.events._get_running_loop() is None
            and wakeup() == -1
            and gc.isenabled()
            and hwloop.run(all_that_a_loop_does())
            and asyncio.run(all_that_a_loop_does())
            and wakeup() == -1
        )

    async def main() -> bool:
        child = start_child(work)
        for _ in range(20):  # the alarm is this process's
            await asyncio.sleep(0.002)
        return await asyncio.to_thread(ended_well, child)

    assert loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_child_forked_by_a_thread_may_run_and_close_the_loop_of_another(loop) -> None:
    def work() -> bool:
        return not loop.is_running() and loop.run_until_complete(all_that_a_loop_does()) and (loop.close() is None)

    async def main() -> bool:
        return await asyncio.to_thread(in_child, work)

    assert loop.run_until_complete(main())
    assert loop.run_until_complete(asyncio.to_thread(lambda: True))
    loop.run_until_complete(loop.shutdown_default_executor())


def _target(number: int) -> None:
    async def main() -> int:
        await asyncio.sleep(0.001)
        return number

    sys.exit(hwloop.run(main()))


def test_processes_of_multiprocessing_started_by_a_coroutine_run_loops_of_their_own(loop) -> None:
    async def main() -> list[int | None]:
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=_target, args=(number,)) for number in (3, 4)]
        for process in processes:
            process.start()
        for process in processes:
            await asyncio.to_thread(process.join)
        return [process.exitcode for process in processes]

    assert loop.run_until_complete(main()) == [3, 4]
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_signal_to_a_child_does_not_reach_its_parent(loop) -> None:
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")

    def work() -> bool:
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        return True

    async def main() -> None:
        assert await asyncio.to_thread(in_child, work)
        assert in_child(lambda: os.kill(os.getpid(), signal.SIGUSR1) is None)
        await asyncio.sleep(0.003)

    loop.run_until_complete(main())
    assert seen == []
    loop.run_until_complete(loop.shutdown_default_executor())


def test_a_waiting_child_takes_no_wakeup_from_a_waiting_parent(loop) -> None:
    """A timerfd in a shared, edge-triggered set wakes one of the two."""

    def work() -> bool:
        loop.call_later(0.2, loop.stop)
        loop.run_forever()
        return True

    child = start_child(work)
    for _ in range(50):
        loop.call_later(0.001, loop.stop)
        loop.call_later(10, pytest.fail)
        loop.run_forever()
    assert ended_well(child)


@pytest.mark.parametrize("selector", ["PollSelector", "SelectSelector", "derived"])
def test_loops_with_other_selectors_fork_too(selector) -> None:
    own = type("Own", (selectors.EpollSelector,), {})
    make: Any = own if selector == "derived" else getattr(selectors, selector)
    with contextlib.closing(hwloop.EventLoop(make())) as loop:
        child = start_child(lambda: loop.run_until_complete(all_that_a_loop_does()))
        assert loop.run_until_complete(all_that_a_loop_does())
        assert ended_well(child)
        loop.run_until_complete(loop.shutdown_default_executor())


def test_descriptors_keep_their_priority_in_the_child_and_in_the_parent(loop) -> None:
    class Source:
        priority = hwloop.Priority.INTERRUPT

        def __init__(self) -> None:
            self.reader, self.writer = os.pipe()

        def fileno(self) -> int:
            return self.reader

        def on_readable(self) -> None:
            os.read(self.reader, 1)

    source = Source()
    loop.register(source)

    def work() -> bool:
        loop.unregister(source)
        loop.register(source)
        loop.unregister(source)
        return loop._poller.descriptors.urgent.poll(0) == []

    os.write(source.writer, b"!")
    assert in_child(work)
    assert loop._poller.descriptors.urgent.poll(0) == [(source.reader, select.EPOLLIN)]
    loop.unregister(source)
    os.close(source.reader)
    os.close(source.writer)


def test_a_child_does_not_change_the_real_time_scheduling_of_its_parent(loop, monkeypatch) -> None:
    calls: list[Any] = []
    for name in ("sched_setscheduler", "sched_setaffinity"):
        monkeypatch.setattr(os, name, lambda *args, name=name: calls.append((name, *args)))
    monkeypatch.setattr(realtime, "_call_c", lambda *args: calls.append(args))
    loop.set_realtime(hwloop.RealTime(cpus=os.sched_getaffinity(0)))
    assert calls

    def work() -> bool:
        calls.clear()
        loop.set_realtime(None)
        loop.close()
        return not calls and loop.statistics().realtime is None

    assert in_child(work)
    before = len(calls)
    loop.set_realtime(None)
    assert len(calls) > before


def test_a_child_can_stop_and_restart_the_sampling_of_the_loop(loop) -> None:
    loop.watch_slices(0.05, locate=True)

    def work() -> bool:
        loop.run_until_complete(asyncio.sleep(0))
        found: list[Sampler] = [loop._monitor.sampler]  # type: ignore[list-item]
        running = [thread for thread in threading.enumerate() if thread.name == "hwloop-sampler"]
        loop.watch_slices(None)
        return len(running) == 1 and found[0]._thread is None

    assert in_child(work)
    assert in_child(lambda: loop.close() is None)
    loop.watch_slices(None)
