"""The loop in virtual time: when the clock jumps, when it waits, what is a deadlock, and what a seed decides."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

import hwloop
from hwloop.virtual import clock as virtual
from hwloop.virtual.poller import BUSY_CALLBACKS, IDLE_CALLBACKS

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
START = virtual.START_NS / 1e9


def play(main: Coroutine[Any, Any, T], seed: Any = None) -> T:
    return hwloop.run(main, clock="virtual", seed=seed)


@pytest.fixture(autouse=True)
def no_seed_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWLOOP_SEED", raising=False)


# When time passes.


def test_a_sleep_of_a_year_ends_at_its_time_and_takes_none() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    assert play(main()) == START + 365 * 86400


def test_time_stands_still_while_callbacks_run() -> None:
    async def main() -> set[float]:
        times = set()
        for _ in range(1000):
            times.add(asyncio.get_running_loop().time())
            await asyncio.sleep(0)
        return times

    assert play(main()) == {START}


def test_the_poller_has_no_more_attributes_than_python_looks_up_fast() -> None:
    with contextlib.closing(hwloop.SimLoop()) as loop:
        assert len(vars(loop._poller)) <= 30  # SHARED_KEYS_MAX_SIZE of CPython's dictionaries


def test_timers_run_in_the_order_of_their_times_and_equal_ones_as_they_came() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        ran: list[tuple[float, str]] = []
        for delay, name in ((2, "c"), (1, "a"), (2, "d"), (1, "b")):
            loop.call_later(delay, lambda name=name: ran.append((loop.time() - START, name)))
        await asyncio.sleep(3)
        return ran

    assert play(main()) == [(1, "a"), (1, "b"), (2, "c"), (2, "d")]


def test_a_tick_is_never_late() -> None:
    async def main() -> None:
        count = 0
        async for tick in hwloop.every(0.001):
            assert tick.lateness == 0
            assert tick.missed == 0
            count += 1
            if count == 500:
                return

    play(main())


def test_a_timeout_ends_what_takes_longer_and_spares_what_takes_less() -> None:
    async def main() -> float:
        async with asyncio.timeout(10):
            await asyncio.sleep(9.999)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10.001), 10)
        return asyncio.get_running_loop().time() - START

    assert play(main()) == pytest.approx(19.999, abs=1e-9)


def test_a_readable_descriptor_comes_before_a_jump() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            loop.call_later(5, there.send, b"later")
            there.send(b"now")
            assert await loop.sock_recv(here, 100) == b"now"
            assert loop.time() == START
            assert await loop.sock_recv(here, 100) == b"later"
            return loop.time() - START

    assert play(main()) == 5


def test_work_that_is_always_ready_does_not_hide_a_descriptor() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        found = asyncio.Event()
        loop.add_reader(reader, lambda: (os.read(reader, 1), found.set()))
        count = 0
        try:
            os.write(writer, b"!")
            while not found.is_set():
                count += 1
                await asyncio.sleep(0)
        finally:
            loop.remove_reader(reader)
            os.close(reader)
            os.close(writer)
        return count

    assert play(main()) <= 18


def test_work_that_is_always_ready_does_not_stop_the_clock() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        timer = asyncio.ensure_future(asyncio.sleep(0.001))
        count = 0
        while not timer.done():
            count += 1
            await asyncio.sleep(0)
        assert loop.time() == START + 0.001  # a timer on the way is not passed over
        until = loop.time() + 0.03
        while loop.time() < until:
            count += 1
            await asyncio.sleep(0)
        return count

    assert play(main()) <= 4 * BUSY_CALLBACKS


def test_a_tolerant_timer_that_is_always_due_does_not_stop_the_clock() -> None:
    async def main() -> int:
        loop: Any = asyncio.get_running_loop()
        until = loop.time() + 0.03
        count = 0

        def again() -> None:
            nonlocal count
            count += 1
            assert count <= 4 * BUSY_CALLBACKS
            if loop.time() < until:
                loop.call_tolerant(loop.time(), again, tolerance=0)
            else:
                done.set_result(None)

        done = loop.create_future()
        again()
        await done
        return count

    assert play(main()) <= 4 * BUSY_CALLBACKS


def test_idle_work_runs_before_time_passes() -> None:
    async def main() -> list[str]:
        loop: Any = asyncio.get_running_loop()
        ran: list[str] = []
        loop.call_later(1, ran.append, "timer")
        loop.call_soon_priority(hwloop.Priority.IDLE, ran.append, "idle")
        await asyncio.sleep(2)
        return ran

    assert play(main()) == ["idle", "timer"]


class _Unread:
    """A source that leaves its descriptor readable."""

    def __init__(self, sock: socket.socket, priority: hwloop.Priority) -> None:
        self.fileno = sock.fileno
        self.priority = priority

    def on_readable(self) -> None:
        pass


async def _housekeeping() -> None:
    while True:
        await asyncio.sleep(0)


@pytest.mark.parametrize("priority", [hwloop.Priority.LOW, hwloop.Priority.IDLE])
def test_a_task_that_is_always_ready_does_not_stop_the_clock(priority: hwloop.Priority) -> None:
    async def main() -> float:
        housekeeping = hwloop.create_task(_housekeeping(), priority=priority)
        await asyncio.sleep(0.1)
        housekeeping.cancel()
        return asyncio.get_running_loop().time() - START

    assert play(main()) == pytest.approx(0.1, abs=1e-9)


def test_a_callback_that_schedules_itself_does_not_stop_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        await asyncio.sleep(0.1)
        return loop.time() - START

    assert play(main()) == pytest.approx(0.1, abs=1e-9)


def test_idle_work_that_is_always_ready_lets_hours_pass_in_few_steps() -> None:
    async def main() -> float:
        housekeeping = hwloop.create_task(_housekeeping(), priority=hwloop.Priority.IDLE)
        await asyncio.sleep(3600)
        housekeeping.cancel()
        return asyncio.get_running_loop().time() - START

    assert play(main()) == 3600


def test_idle_work_runs_for_its_time_before_a_timer() -> None:
    async def main() -> int:
        steps = 0

        async def compact() -> None:
            nonlocal steps
            for _ in range(IDLE_CALLBACKS - 2):
                await asyncio.sleep(0)
                steps += 1

        hwloop.create_task(compact(), priority=hwloop.Priority.IDLE)
        await asyncio.sleep(1e-9)
        return steps

    assert play(main()) == IDLE_CALLBACKS - 2


@pytest.mark.parametrize("priority", list(hwloop.Priority))
@pytest.mark.parametrize("side", ["reader", "writer"])
def test_a_descriptor_that_is_always_ready_does_not_stop_the_clock(priority: hwloop.Priority, side: str) -> None:
    async def main() -> float:
        loop: Any = asyncio.get_running_loop()
        here, there = socket.socketpair()
        with here, there:
            there.send(b"!")
            if side == "reader":
                source = _Unread(here, priority)
                loop.register(source)
            else:
                with hwloop.scheduled(priority=priority):
                    loop.add_writer(here, int)
            await asyncio.sleep(0.01)
            loop.remove_writer(here)
            if side == "reader":
                loop.unregister(source)
        return float(loop.time() - START)

    assert play(main()) == pytest.approx(0.01, abs=1e-9)


def test_each_callback_is_followed_by_what_is_more_urgent() -> None:
    async def main() -> list[str]:
        loop: Any = asyncio.get_running_loop()
        ran: list[str] = []

        def first() -> None:
            ran.append("first")
            loop.call_soon_priority(hwloop.Priority.HIGH, ran.append, "urgent")

        loop.call_soon(first)
        loop.call_soon(ran.append, "second")
        await asyncio.sleep(1)
        return ran

    assert play(main()) == ["first", "urgent", "second"]


# Where the real world has a part.


def test_time_stands_still_during_a_thread_job() -> None:
    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        ticked = []
        loop.call_later(1e-6, ticked.append, True)
        result = await asyncio.to_thread(lambda: (time.sleep(0.01), 7)[1])
        assert not ticked
        return result, loop.time()

    assert play(main()) == (7, START)


def test_thread_jobs_end_in_the_order_in_which_they_came() -> None:
    async def main() -> list[int]:
        ended: list[int] = []

        async def job(number: int) -> None:
            await asyncio.to_thread(time.sleep, 0.002 * (3 - number))
            ended.append(number)

        await asyncio.gather(*(job(number) for number in range(4)))
        return ended

    assert play(main()) == [0, 1, 2, 3]


def test_a_thread_job_can_call_back_into_the_loop_and_wait_for_it() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()

        async def answer() -> str:
            return "from the loop"

        def job() -> str:
            return asyncio.run_coroutine_threadsafe(answer(), loop).result(5)

        return await asyncio.to_thread(job)

    assert play(main()) == "from the loop"


def test_calls_of_a_thread_come_in_at_rest_one_at_a_time() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        ran: list[str] = []

        def note(name: str, then: str) -> None:
            ran.append(name)
            loop.call_soon(ran.append, then)

        def send() -> None:
            loop.call_soon_threadsafe(note, "one", "from one")
            loop.call_soon_threadsafe(note, "two", "from two")

        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        loop.call_soon(note, "work", "more work")
        await asyncio.sleep(1)
        return ran

    assert play(main()) == ["work", "more work", "one", "from one", "two", "from two"]


def test_a_job_that_nobody_waits_for_any_more_is_waited_for_at_the_end() -> None:
    async def main() -> None:
        began = threading.Event()
        job = asyncio.get_running_loop().run_in_executor(None, lambda: (began.set(), time.sleep(0.05)))
        began.wait()
        job.cancel()

    play(main())  # Python 3.13 would warn after five minutes, virtual ones


def test_waiting_for_a_subprocess_is_no_deadlock() -> None:
    async def main() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hello')", stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return out, process.returncode

    assert play(main()) == (b"hello\n", 0)


def test_time_can_be_held_for_the_real_world() -> None:
    async def main() -> float:
        loop: Any = asyncio.get_running_loop()
        async with asyncio.timeout(0.001):
            with loop.hold():
                process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(0.05)")
                await process.wait()
        return loop.time()

    assert play(main()) == START


def test_waiting_for_a_signal_is_no_deadlock() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        with subprocess.Popen(["sh", "-c", f"sleep 0.05; kill -USR1 {os.getpid()}"]):
            await came.wait()

    play(main())


def test_waiting_for_a_thread_of_ones_own_is_no_deadlock() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        thread = threading.Timer(0.01, lambda: loop.call_soon_threadsafe(came.set))
        thread.start()
        await came.wait()
        thread.join()

    play(main())


def test_a_loop_in_another_thread_may_be_woken_by_the_main_one() -> None:
    loop = hwloop.SimLoop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(3600, "done"), loop).result(5) == "done"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_the_loops_own_thread_may_sleep_on_the_clock() -> None:
    async def main() -> float:
        loop: Any = asyncio.get_running_loop()
        loop.clock.sleep(2.5)
        return loop.time() - START

    assert play(main()) == 2.5


# Deadlocks.


async def _wait_for_nothing() -> None:
    await asyncio.Event().wait()


def test_a_deadlock_is_raised_at_once_and_names_each_task_and_where_it_waits() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_wait_for_nothing(), name="door")
            group.create_task(asyncio.sleep(5), name="window")

    with pytest.raises(hwloop.DeadlockError) as caught:
        play(main())
    text = str(caught.value)
    line = _wait_for_nothing.__code__.co_firstlineno + 1
    assert "virtual time 6.000000 s" in text
    assert "door waits at" in text
    assert f"{__file__}:{line} in _wait_for_nothing" in text
    assert f"{__file__}:{main.__code__.co_firstlineno + 1} in " in text
    assert "window" not in text


def test_sleeping_for_ever_is_a_deadlock() -> None:
    with pytest.raises(hwloop.DeadlockError):
        play(asyncio.sleep(float("inf")))


@pytest.mark.parametrize("seconds", [1e19, 1e300])
def test_a_timer_beyond_all_time_never_comes(seconds: float) -> None:
    with pytest.raises(hwloop.DeadlockError):
        play(asyncio.sleep(seconds))


def test_a_timer_that_never_comes_leaves_others_alone() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(float("inf"), pytest.fail)
        async with asyncio.timeout(1e300):
            await asyncio.sleep(5)
        return loop.time() - START

    assert play(main()) == 5


def test_a_timer_at_no_time_raises() -> None:
    for call in ("call_later", "call_at"):
        loop = hwloop.SimLoop()
        with pytest.raises(ValueError, match="not NaN"):
            getattr(loop, call)(float("nan"), int)
        loop.close()


def test_conditions_of_the_clock_take_any_timeout() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        condition = loop.clock.condition()
        with condition:
            assert not condition.wait(-1)
            assert loop.time() == START
            assert not condition.wait(1e9)
            assert loop.time() == START + 1e9
            with pytest.raises(ValueError, match="not NaN"):
                condition.wait(float("nan"))
            with pytest.raises(ValueError, match="not NaN"):
                condition.wait_for(int, float("nan"))
            for wait in (condition.wait, lambda timeout: condition.wait_for(int, timeout)):
                with pytest.raises(hwloop.DeadlockError):
                    wait(float("inf"))

    play(main())


def test_a_loop_with_nothing_to_do_is_a_deadlock() -> None:
    loop = hwloop.SimLoop()
    with pytest.raises(hwloop.DeadlockError, match="no task is left"):
        loop.run_forever()
    loop.close()


def test_threads_that_rest_after_their_job_do_not_hide_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.to_thread(int)
        await _wait_for_nothing()

    with pytest.raises(hwloop.DeadlockError):
        play(main())


def test_two_tasks_that_wait_for_each_other_are_a_deadlock() -> None:
    async def main() -> None:
        one, two = asyncio.Lock(), asyncio.Lock()

        async def take(first: asyncio.Lock, second: asyncio.Lock) -> None:
            async with first:
                await asyncio.sleep(0.1)
                async with second:
                    pass

        await asyncio.gather(take(one, two), take(two, one))

    with pytest.raises(hwloop.DeadlockError):
        play(main())


def test_the_loops_own_thread_that_waits_for_nothing_is_a_deadlock() -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        condition = loop.clock.condition()
        with condition:
            assert not condition.wait(3)  # a timeout is not
            assert loop.time() == START + 3
            condition.wait()

    with pytest.raises(hwloop.DeadlockError, match="the loop's own thread"):
        play(main())


# Seeds.


async def _race() -> list[int]:
    ran: list[int] = []

    async def runner(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            ran.append(number)
        await asyncio.sleep(1)
        ran.append(number)

    await asyncio.gather(*(runner(number) for number in range(4)))
    return ran


def test_without_a_seed_tasks_run_first_come_first_served() -> None:
    assert play(_race()) == [0, 1, 2, 3] * 4


def test_the_same_seed_gives_the_same_order_and_others_give_others() -> None:
    orders = [tuple(play(_race(), seed)) for seed in range(20)]
    assert orders == [tuple(play(_race(), seed)) for seed in range(20)]
    assert len(set(orders)) > 15


def test_a_seed_leaves_nobody_out() -> None:
    for seed in range(20):
        assert sorted(play(_race(), seed)) == sorted([0, 1, 2, 3] * 4)


def test_a_seed_keeps_the_order_of_plain_callbacks() -> None:
    async def main() -> list[int]:
        ran: list[int] = []
        for number in range(50):
            asyncio.get_running_loop().call_soon(ran.append, number)
        await asyncio.sleep(1)
        return ran

    for seed in range(5):
        assert play(main(), seed) == list(range(50))


def test_a_seed_shuffles_urgent_tasks_among_themselves() -> None:
    async def main() -> tuple[int, ...]:
        ran: list[int] = []

        async def runner(number: int) -> None:
            ran.append(number)

        async with asyncio.TaskGroup():
            tasks = [hwloop.create_task(runner(number), priority=hwloop.Priority.HIGH) for number in range(4)]
            await asyncio.gather(*tasks)
        return tuple(ran)

    orders = [play(main(), seed) for seed in range(20)]
    assert orders == [play(main(), seed) for seed in range(20)]
    assert len(set(orders)) > 5
    assert play(main()) == (0, 1, 2, 3)


def test_a_seed_shuffles_what_is_readable_together() -> None:
    async def main() -> tuple[int, ...]:
        loop = asyncio.get_running_loop()
        pipes = [os.pipe() for _ in range(4)]
        read: list[int] = []
        for number, (reader, writer) in enumerate(pipes):
            loop.add_reader(reader, lambda number=number, reader=reader: (read.append(number), os.read(reader, 1)))
            loop.call_later(1, os.write, writer, b"!")
        await asyncio.sleep(2)
        for reader, writer in pipes:
            loop.remove_reader(reader)
            os.close(reader)
            os.close(writer)
        return tuple(read)

    orders = [play(main(), seed) for seed in range(10)]
    assert orders == [play(main(), seed) for seed in range(10)]
    assert len(set(orders)) > 3


def test_cancelling_a_group_is_the_same_in_each_process() -> None:
    """A task group keeps its tasks in a set, whose order depends on their addresses."""
    script = """
import asyncio, os, hwloop
async def main():
    ended = []
    async def wait(number):
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(number)
    async def fail():
        await asyncio.sleep(1)
        raise OSError
    try:
        async with asyncio.TaskGroup() as group:
            between = []  # what lies between tasks in memory, and differs from one process to another
            for number in range(8):
                between += [bytes(asyncio.Task.__basicsize__ - 32) for _ in range(os.urandom(1)[0] % 9)]
                group.create_task(wait(number))
            group.create_task(fail())
    except* OSError:
        pass
    print(ended)
hwloop.run(main(), clock="virtual", seed=3)
"""
    outputs = {
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT, text=True).stdout
        for _ in range(3)
    }
    assert len(outputs) == 1


async def _fail() -> None:
    raise LookupError("the bug")


def test_a_failure_tells_the_seed_and_the_line_that_runs_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_door.py::test_door (call)")
    monkeypatch.setenv("HWLOOP_SEED", "123")
    with pytest.raises(LookupError) as caught:
        play(_fail())
    (note,) = caught.value.__notes__
    assert note.endswith("HWLOOP_SEED=123 python -m pytest tests/test_door.py::test_door")


def test_a_random_seed_is_shown_too_and_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError) as caught:
        play(_fail(), "random")
    (note,) = caught.value.__notes__
    seed = note.partition("HWLOOP_SEED=")[2].split()[0]
    monkeypatch.setenv("HWLOOP_SEED", seed)
    loop = hwloop.SimLoop("random")
    assert loop.seed == int(seed)
    loop.close()


def test_a_seed_that_the_program_gives_is_shown_and_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_SEED", "99")
    with pytest.raises(LookupError) as caught:
        play(_fail(), 7)
    (note,) = caught.value.__notes__
    assert "seed=7" in note
    assert "99" not in note


def test_the_line_printed_runs_the_failure_again(tmp_path: Path) -> None:
    program = tmp_path / "race.py"
    program.write_text(
        """
import asyncio, hwloop
async def main():
    order = []
    async def step(number):
        order.append(number)
    await asyncio.gather(*(step(number) for number in range(6)))
    raise SystemError(order)
hwloop.run(main(), clock="virtual", seed="random")
"""
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTEST_CURRENT_TEST", None)
    first = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=env)
    line = first.stderr.strip().splitlines()[-1].partition("to run it again: ")[2]
    again = subprocess.run(
        line.replace(" python ", f" {sys.executable} ", 1), shell=True, capture_output=True, text=True, env=env
    )
    assert "SystemError: [" in first.stderr
    assert again.stderr == first.stderr


# Wrong use.


@pytest.mark.parametrize("seed", [1.5, "yes", b"1", True])
def test_an_invalid_seed_raises(seed: Any) -> None:
    with pytest.raises(TypeError, match="seed"):
        hwloop.SimLoop(seed)


def test_a_seed_in_the_environment_that_is_no_number_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_SEED", "many")
    with pytest.raises(ValueError, match="HWLOOP_SEED must be a whole number, not 'many'"):
        hwloop.SimLoop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 3}, "a seed needs clock='virtual'"),
        ({"clock": "fast"}, "clock must be"),
        ({"clock": "virtual", "board": "linux"}, "real hardware knows real time only"),
    ],
)
def test_options_that_make_no_sense_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hwloop.run(asyncio.sleep(0), **options)


def test_an_invalid_clock_raises() -> None:
    with pytest.raises(TypeError, match="VirtualClock"):
        hwloop.SimLoop(clock="virtual")  # type: ignore[arg-type]


def test_a_clock_ends_with_its_loop() -> None:
    clock = hwloop.VirtualClock()
    hwloop.SimLoop(clock=clock).close()
    with pytest.raises(ValueError, match="this clock has ended"):
        hwloop.SimLoop(clock=clock)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_the_clock_sleeps_for_no_negative_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="0 seconds or more"):
        hwloop.VirtualClock().sleep(seconds)


# Programs that know only asyncio.


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("debug", [False, True])
def test_streams_servers_and_queues_work(seed: int | None, debug: bool) -> None:
    async def main() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.readline():
                await asyncio.sleep(0.5)
                writer.write(data.upper())
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with _held():
                writer.write(b"one\ntwo\n")
                writer.write_eof()
                first = asyncio.ensure_future(reader.readline())
                await asyncio.sleep(0)
            answer = await first + await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer

    assert hwloop.run(main(), clock="virtual", seed=seed, debug=debug) == b"ONE\nTWO\n"


def _held() -> Any:
    loop: Any = asyncio.get_running_loop()
    return loop.hold()


@pytest.mark.parametrize("make", [hwloop.SimLoop, hwloop.EventLoop])
def test_descriptors_that_epoll_rejects_are_rejected_in_virtual_time_too(make: Any, tmp_path: Path) -> None:
    loop = make()
    try:
        with (tmp_path / "file").open("w") as file:
            with pytest.raises(PermissionError):
                loop.add_reader(file, print)
            number = file.fileno()
        with pytest.raises(OSError, match="Bad file descriptor"):
            loop.add_reader(number, print)
    finally:
        loop.close()
