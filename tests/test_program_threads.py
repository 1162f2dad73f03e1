"""Threads beside the loop in virtual time: time stands still while they work, and none of them hangs the loop."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

import hwloop
from hwloop.virtual import clock as virtual
from hwloop.virtual import threads as beside

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
START = virtual.START_NS / 1e9
HOUR = 3600.0


def play(main: Coroutine[Any, Any, T], **options: Any) -> T:
    return hwloop.run(main, clock="virtual", **options)


def now() -> float:
    return asyncio.get_running_loop().time() - START


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads may take longer on a busy machine than time stands still for them."""
    monkeypatch.setattr(beside, "PATIENCE", 60.0)
    monkeypatch.setattr(beside, "BUSY_PATIENCE", 60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "PATIENCE", 0.05)
    monkeypatch.setattr(beside, "BUSY_PATIENCE", 0.1)


def compute(seconds: float = 0.1) -> str:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return "computed"


def pause(seconds: float = 0.1) -> str:
    time.sleep(seconds)
    return "slept"


def doze(seconds: float = 0.1) -> str:
    threading.Event().wait(seconds)
    return "dozed"


def ask_a_process() -> str:
    return subprocess.run([sys.executable, "-c", "print('answered', end='')"], capture_output=True, text=True).stdout


WORK: dict[str, Callable[[], str]] = {
    "computed": compute,
    "slept": pause,
    "dozed": doze,
    "answered": ask_a_process,
}


# Work holds time.


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("result", WORK)
def test_time_stands_still_while_a_thread_job_works(result: str) -> None:
    async def main() -> tuple[str, float]:
        async with asyncio.timeout(0.001):
            return await asyncio.to_thread(WORK[result]), now()

    assert play(main()) == (result, 0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("result", WORK)
def test_time_stands_still_for_work_submitted_to_an_executor_of_the_programs_own(result: str) -> None:
    async def main() -> tuple[str, float]:
        with ThreadPoolExecutor(2) as executor:
            await asyncio.get_running_loop().run_in_executor(executor, int)
            async with asyncio.timeout(0.001):
                return await asyncio.wrap_future(executor.submit(WORK[result])), now()

    assert play(main()) == (result, 0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("result", WORK)
def test_time_stands_still_for_a_thread_that_has_just_been_started(result: str) -> None:
    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, WORK[result]()))
        thread.start()
        async with asyncio.timeout(0.001):
            found = await done
        thread.join()
        return found, now()

    assert play(main()) == (result, 0)


@pytest.mark.usefixtures("patient")
def test_time_stands_still_for_a_job_that_waits_for_a_thread_that_works() -> None:
    def work() -> list[str]:
        with ThreadPoolExecutor(2) as executor:
            return list(executor.map(lambda each: each(), (compute, pause)))

    async def main() -> tuple[list[str], float]:
        async with asyncio.timeout(0.001):
            return await asyncio.to_thread(work), now()

    assert play(main()) == (["computed", "slept"], 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.slow
def test_time_stands_still_for_a_job_in_another_process() -> None:
    forking = multiprocessing.get_context("fork")  # other ways leave a server behind

    async def main() -> tuple[str, float]:
        with ProcessPoolExecutor(1, mp_context=forking) as executor:
            async with asyncio.timeout(0.001):
                return await asyncio.get_running_loop().run_in_executor(executor, pause), now()

    assert play(main()) == ("slept", 0)


class Parting:
    """A thread's local object, whose destruction takes time: `threading` has forgotten the thread by then."""

    def __init__(self, work: Callable[[], str]) -> None:
        self._work = work

    def __del__(self) -> None:
        self._work()


def end_slowly(work: Callable[[], str]) -> None:
    """Run a thread that works while it is ending, and join it."""
    local = threading.local()
    thread = threading.Thread(target=lambda: setattr(local, "last", Parting(work)))
    thread.start()
    thread.join()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("result", WORK)
def test_time_stands_still_for_a_job_that_joins_a_thread_until_it_has_ended(result: str) -> None:
    async def main() -> float:
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(end_slowly, WORK[result])
            return now()

    assert play(main()) == 0


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("result", WORK)
def test_an_ending_thread_that_is_joined_is_no_deadlock(result: str) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def join() -> None:
            end_slowly(WORK[result])
            loop.call_soon_threadsafe(done.set_result, "joined")

        threading.Thread(target=join).start()
        return await done  # type: ignore[no-any-return]

    assert play(main()) == "joined"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("result", WORK)
def test_the_default_executor_is_not_given_up_while_its_thread_is_ending(result: str) -> None:
    async def main() -> float:
        local = threading.local()
        await asyncio.to_thread(lambda: setattr(local, "last", Parting(WORK[result])))
        await asyncio.get_running_loop().shutdown_default_executor()
        return now()

    assert play(main()) == 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.slow
def test_the_default_executor_is_not_given_up_where_the_machine_takes_its_time_to_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutdown = ThreadPoolExecutor.shutdown

    def shut_down_late(self: ThreadPoolExecutor, **options: bool) -> None:
        time.sleep(0.3)  # longer than the loop's patience
        shutdown(self, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down_late)

    async def main() -> float:
        await asyncio.to_thread(int)
        await asyncio.get_running_loop().shutdown_default_executor()
        return now()

    assert play(main()) == 0


def test_time_stands_still_for_a_job_that_an_idle_thread_of_a_pool_has_yet_to_begin() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as executor:
            await loop.run_in_executor(executor, int)
            for _ in range(100):
                await asyncio.sleep(1)
                done = loop.create_future()
                executor.submit(loop.call_soon_threadsafe, done.set_result, None)
                async with asyncio.timeout(0.001):
                    await done
        return now()

    assert play(main()) == 100


def test_polling_for_the_end_of_a_job_is_the_same_each_time() -> None:
    async def main() -> tuple[int, float]:
        job = asyncio.ensure_future(asyncio.to_thread(pause, 0.02))
        polls = 0
        while not job.done():
            polls += 1
            await asyncio.sleep(0)
        return polls, now()

    assert play(main()) == play(main())


# Waiting for the loop does not.


def test_a_job_may_wait_for_a_coroutine_that_sleeps() -> None:
    async def main() -> tuple[list[str], float]:
        loop = asyncio.get_running_loop()

        def job() -> list[str]:
            return [
                asyncio.run_coroutine_threadsafe(asyncio.sleep(HOUR, "slept"), loop).result(limit)
                for limit in 10 * (5, None)
            ]

        return await asyncio.to_thread(job), now()

    assert play(main()) == (20 * ["slept"], 20 * HOUR)


def test_a_job_may_wait_for_an_event_that_a_timer_sets() -> None:
    async def main() -> tuple[bool, float]:
        event = threading.Event()
        asyncio.get_running_loop().call_later(HOUR, event.set)
        return await asyncio.to_thread(event.wait), now()

    assert play(main()) == (True, HOUR)


@pytest.mark.parametrize("make", [queue.Queue, queue.SimpleQueue])
def test_a_thread_may_be_fed_by_the_loop(make: Callable[[], Any]) -> None:
    async def main() -> tuple[list[tuple[int, float]], float]:
        loop = asyncio.get_running_loop()
        orders: Any = make()
        served: list[tuple[int, float]] = []

        def serve() -> None:
            while (order := orders.get()) is not None:
                time.sleep(0.002)
                loop.call_soon_threadsafe(lambda order=order: served.append((order, now())))

        thread = threading.Thread(target=serve)
        thread.start()
        for order in range(5):
            orders.put(order)
            await asyncio.sleep(HOUR)
        orders.put(None)
        thread.join()
        return served, now()

    assert play(main()) == ([(order, order * HOUR) for order in range(5)], 5 * HOUR)


@pytest.mark.usefixtures("impatient")
def test_a_job_may_wait_with_a_time_limit_for_what_a_timer_sends() -> None:
    async def main() -> str:
        orders: queue.Queue[str] = queue.Queue()

        def serve() -> str:
            while True:
                try:
                    return orders.get(timeout=0.01)
                except queue.Empty:
                    pass

        asyncio.get_running_loop().call_later(HOUR, orders.put, "order")
        order = await asyncio.to_thread(serve)
        assert now() >= HOUR
        return order

    assert play(main()) == "order"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("wait", [lambda: time.sleep(0.001), lambda: None], ids=["sleeping", "spinning"])
def test_a_job_may_look_again_and_again_for_what_a_timer_sets(wait: Callable[[], None]) -> None:
    async def main() -> float:
        found: list[bool] = []

        def look() -> None:
            while not found:
                wait()

        asyncio.get_running_loop().call_later(0.05, found.append, True)
        await asyncio.to_thread(look)
        return now()

    assert play(main()) >= 0.05


@pytest.mark.usefixtures("impatient")
def test_a_job_may_talk_to_a_server_in_the_loop() -> None:
    def ask(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address) as connection:
            connection.sendall(b"question\n")
            return connection.recv(100)

    async def main() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            question = await reader.readline()
            await asyncio.sleep(0.01)
            writer.write(question.upper())
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            return await asyncio.to_thread(ask, server.sockets[0].getsockname())

    assert play(main()) == b"QUESTION\n"


@pytest.mark.usefixtures("impatient")
def test_a_thread_that_goes_on_for_ever_does_not_stop_the_clock() -> None:
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            time.sleep(0.001)

    async def main() -> float:
        for _ in range(100):
            await asyncio.sleep(HOUR)
        return now()

    thread = threading.Thread(target=lambda: serve())
    try:

        async def begin() -> float:
            thread.start()
            return await main()

        assert play(begin()) == 100 * HOUR
    finally:
        ended.set()
        thread.join()


class OwnExecutor(concurrent.futures.Executor):
    """One with threads that Python's own executors know nothing of."""

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        threading.Thread(target=lambda: future.set_result(function(*args, **kwargs))).start()
        return future


def test_executors_of_another_kind_are_waited_for_and_may_wait_for_the_loop() -> None:
    async def main() -> tuple[str, float, bool, float]:
        loop = asyncio.get_running_loop()
        event = threading.Event()
        slept = await asyncio.wait_for(loop.run_in_executor(OwnExecutor(), pause), 0.001)
        after = now()
        loop.call_later(HOUR, event.set)
        return slept, after, await loop.run_in_executor(OwnExecutor(), event.wait), now()

    assert play(main()) == ("slept", 0, True, HOUR)


# Order.


def test_jobs_of_several_threads_end_in_the_order_in_which_they_were_given() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        ended: list[int] = []

        async def job(number: int) -> None:
            await loop.run_in_executor(executor, time.sleep, 0.003 * (4 - number % 4))
            ended.append(number)

        with ThreadPoolExecutor(4) as executor:
            await asyncio.gather(*(job(number) for number in range(8)))
        return ended

    assert play(main()) == list(range(8))


def test_calls_of_several_threads_come_in_by_the_age_of_the_thread() -> None:
    async def main() -> list[tuple[int, int]]:
        loop = asyncio.get_running_loop()
        came: list[tuple[int, int]] = []

        def send(number: int) -> None:
            for turn in range(3):
                time.sleep(0.001 * (12 - number))
                loop.call_soon_threadsafe(came.append, (number, turn))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(1)
        for thread in threads:
            thread.join()
        return came

    assert play(main()) == [(number, turn) for number in range(12) for turn in range(3)]


# Threads that wait for ever.


def in_a_process(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_job_that_waits_for_ever_is_a_deadlock_and_lets_the_process_end() -> None:
    done = in_a_process(
        """
import asyncio, threading, hwloop
async def main():
    await asyncio.to_thread(wait_for_nobody)
def wait_for_nobody():
    threading.Event().wait()
hwloop.run(main(), clock="virtual")
"""
    )
    assert done.returncode == 1
    assert "DeadlockError: nothing can ever wake this program" in done.stderr
    assert "Task-1 waits at" in done.stderr
    assert "thread asyncio_0 waits at <string>:6 in wait_for_nobody" in done.stderr


def test_a_job_that_is_given_up_lets_the_process_end() -> None:
    done = in_a_process(
        """
import asyncio, threading, hwloop
async def main():
    try:
        await asyncio.wait_for(asyncio.to_thread(threading.Event().wait), 5)
    except TimeoutError:
        print(asyncio.get_running_loop().time())
hwloop.run(main(), clock="virtual")
"""
    )
    assert (done.returncode, done.stdout) == (0, "6.0\n")
    assert "RuntimeWarning: a thread job has not ended and is given up" in done.stderr


def test_a_deadlock_of_a_thread_of_the_programs_own_names_its_place() -> None:
    release = threading.Event()

    async def main() -> None:
        threading.Thread(target=release.wait, name="pump").start()
        await asyncio.Event().wait()

    with pytest.raises(hwloop.DeadlockError, match="thread pump waits at"):
        play(main())
    release.set()


@pytest.mark.parametrize("makes_itself_known", [False, True])
def test_a_thread_that_python_did_not_know_before_the_loop_hides_no_deadlock(makes_itself_known: bool) -> None:
    # As the one of pytest-xdist's workers, which reads what they are to do.
    to_read, to_write = os.pipe()
    reading, ended, release = threading.Event(), threading.Event(), threading.Event()

    def read() -> None:
        reading.set()
        while os.read(to_read, 1) == b"k":
            threading.current_thread()  # `threading` lists it from now on
            reading.set()
        threading._active.pop(threading.get_ident(), None)  # type: ignore[attr-defined]  # Pythons before 3.13 leave it there
        ended.set()

    async def main() -> None:
        if makes_itself_known:
            reading.clear()
            os.write(to_write, b"k")
            reading.wait()
        threading.Thread(target=release.wait, name="pump").start()
        await asyncio.Event().wait()

    _thread.start_new_thread(read, ())
    reading.wait()
    try:
        with pytest.raises(hwloop.DeadlockError, match="thread pump waits at") as caught:
            play(main())
    finally:
        release.set()
        os.close(to_write)
        ended.wait()
        os.close(to_read)
    assert "Dummy" not in str(caught.value)


def test_a_thread_that_ends_without_a_word_leaves_a_deadlock() -> None:
    async def main() -> None:
        threading.Thread(target=pause, args=(0.05,)).start()
        await asyncio.Event().wait()

    with pytest.raises(hwloop.DeadlockError):
        play(main())


@pytest.mark.usefixtures("impatient")
def test_a_limit_ends_a_job_that_never_ends() -> None:
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.001):
            pass

    async def main() -> None:
        try:
            await asyncio.to_thread(serve)
        finally:
            ended.set()

    with pytest.raises(hwloop.TimeLimitError, match=r"the limit of 0\.2 s"):
        play(main(), limit=0.2)


# The loop itself.


def test_the_locals_of_a_job_are_freed_with_it_without_a_garbage_collection() -> None:
    class Local:
        pass

    async def main() -> list[weakref.ref[Any]]:
        made = []

        def job() -> None:
            local = Local()
            made.append(weakref.ref(local))
            pause(0.01)

        for _ in range(5):
            await asyncio.to_thread(job)
        return [each for each in made if each() is not None]

    gc.collect()
    gc.disable()
    try:
        assert play(main()) == []
    finally:
        gc.enable()


def test_a_closed_loop_is_freed_whatever_threads_did() -> None:
    async def main() -> weakref.ref[Any]:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(1), loop).result())
        with ThreadPoolExecutor(2) as executor:
            await asyncio.gather(*(loop.run_in_executor(executor, pause, 0.001) for _ in range(4)))
        return weakref.ref(loop)

    loop = play(main())
    gc.collect()
    assert loop() is None
