"""The loop as a user of asyncio meets it: a drop-in, with sources on top."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import fractions
import functools
import os
import selectors
import signal
import sys
import threading

import pytest

import hwloop


def test_the_loop_is_a_genuine_asyncio_selector_loop():
    loop = hwloop.new_event_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert isinstance(loop, hwloop.EventLoop)
    loop.close()
    loop.close()  # harmless


def test_run_returns_the_result_and_passes_exceptions_on():
    async def good():
        return 42

    async def bad():
        raise KeyError("no")

    assert hwloop.run(good()) == 42
    with pytest.raises(KeyError):
        hwloop.run(bad())


def test_run_refuses_what_is_no_coroutine_and_says_what_to_do():
    async def main():
        pass

    with pytest.raises(ValueError, match=r"call it: hwloop\.run\(main\(\)\)"):
        hwloop.run(main)
    with pytest.raises(ValueError, match="a coroutine was expected, got 5"):
        hwloop.run(5)


def test_run_inside_a_running_loop_raises_and_leaves_no_coroutine_unawaited(run):
    async def inner():
        pass

    async def main():
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            hwloop.run(inner())

    run(main())


def test_a_runner_takes_the_loop_factory():
    async def main():
        return type(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=hwloop.new_event_loop) as runner:
        assert runner.run(main()) is hwloop.EventLoop


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_policy_makes_our_loops():
    async def main():
        return type(asyncio.get_running_loop())

    asyncio.set_event_loop_policy(hwloop.EventLoopPolicy())
    try:
        assert asyncio.run(main()) is hwloop.EventLoop
    finally:
        asyncio.set_event_loop_policy(None)


def test_the_package_has_no_other_attributes():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hwloop.nonsense


def test_call_soon_threadsafe_from_many_threads_loses_nothing_and_keeps_each_threads_order():
    async def main():
        loop = asyncio.get_running_loop()
        seen: list[tuple[int, int]] = []
        done = loop.create_future()

        def flood(thread: int) -> None:
            for number in range(2000):
                loop.call_soon_threadsafe(seen.append, (thread, number))

        def wait() -> None:
            for thread in threads:
                thread.join()
            loop.call_soon_threadsafe(done.set_result, None)

        threads = [threading.Thread(target=flood, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        waiter = threading.Thread(target=wait)
        waiter.start()
        await done
        waiter.join()
        for thread in range(4):
            assert [number for which, number in seen if which == thread] == list(range(2000))

    hwloop.run(main())


def test_a_thread_wakes_a_sleeping_loop():
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(200):
            future = loop.create_future()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, None))
            thread.start()
            await asyncio.wait_for(future, 10)
            thread.join()

    hwloop.run(main())


def test_only_the_first_thread_to_wake_a_loop_writes_to_asyncios_socket():
    async def main():
        loop = asyncio.get_running_loop()
        written = []
        write = loop._write_to_self
        loop._write_to_self = lambda: (written.append("socket"), write())
        for _ in range(3):
            future = loop.create_future()
            thread = threading.Timer(0.01, loop.call_soon_threadsafe, (future.set_result, None))
            thread.start()
            await asyncio.wait_for(future, 10)
            thread.join()
        return written

    assert hwloop.run(main()) == ["socket"]


def test_signals_reach_a_sleeping_loop():
    async def main():
        loop = asyncio.get_running_loop()
        seen = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, seen.set_result, "got it")
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert await asyncio.wait_for(seen, 10) == "got it"
        loop.remove_signal_handler(signal.SIGUSR1)

    hwloop.run(main())


def test_while_it_runs_every_signal_writes_to_what_wakes_the_loop():
    async def main():
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd)
        return fd == asyncio.get_running_loop()._csock.fileno()

    assert hwloop.run(main())
    assert signal.set_wakeup_fd(-1) == -1


def test_ctrl_c_cancels_main_and_comes_out_as_keyboard_interrupt():
    cleaned = []

    async def main():
        try:
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
            await asyncio.sleep(10)
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        hwloop.run(main())
    assert cleaned == [True]


def test_subprocesses_and_executors_work():
    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out, await asyncio.get_running_loop().run_in_executor(None, lambda: 5)

    assert hwloop.run(main()) == (b"42\n", 5)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_work():
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def five():
            return 5

        task = asyncio.create_task(five())
        assert task.done()
        return await task

    assert hwloop.run(main()) == 5


def test_readers_and_writers_take_numbers_and_objects():
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        with open(reader, "rb", buffering=0) as source, open(writer, "wb", buffering=0) as sink:
            got = loop.create_future()
            can_write = loop.create_future()
            loop.add_reader(source, lambda: got.done() or got.set_result(source.read(1)))
            loop.add_writer(sink.fileno(), lambda: can_write.done() or can_write.set_result(True))
            await can_write
            sink.write(b"!")
            assert await got == b"!"
            assert loop.remove_reader(source.fileno())
            assert loop.remove_writer(sink)
            assert not loop.remove_reader(source)
            assert not loop.remove_writer(sink)

    hwloop.run(main())


def test_a_second_reader_replaces_the_first():
    async def main():
        loop = asyncio.get_running_loop()
        reader, writer = os.pipe()
        seen = []
        os.write(writer, b"!")
        loop.add_reader(reader, seen.append, "first")
        loop.add_reader(reader, lambda: (os.read(reader, 1), seen.append("second")))
        await asyncio.sleep(0.01)
        loop.remove_reader(reader)
        os.close(reader)
        os.close(writer)
        return seen

    assert hwloop.run(main()) == ["second"]


@pytest.mark.parametrize("bad", [-1, object(), "name"])
def test_an_invalid_descriptor_raises_as_in_asyncio(bad):
    loop = hwloop.new_event_loop()
    with pytest.raises(ValueError, match="Invalid file"):
        loop.add_reader(bad, print)
    loop.close()


def test_a_loop_whose_socket_was_collected_first_can_be_closed():
    """The garbage collector finalizes the objects of a cycle in any order."""
    loop = hwloop.new_event_loop()
    loop._ssock.close()
    loop.close()
    assert loop.is_closed()


@pytest.mark.parametrize("number", [1, 4096, 10_000])
def test_all_wakeups_that_have_come_are_read_at_once_and_signals_among_them_handled(number):
    loop = hwloop.new_event_loop()
    handled = []
    loop._handle_signal = handled.append
    loop._csock.setblocking(True)
    loop._csock.sendall(bytes(number - 1) + bytes([signal.SIGUSR1]))
    loop._read_from_self()
    assert handled == [signal.SIGUSR1]
    with pytest.raises(BlockingIOError):
        loop._ssock.recv(1)
    loop._read_from_self()  # nothing: no harm
    loop.close()


def test_a_closed_loop_refuses_work():
    loop = hwloop.new_event_loop()
    loop.close()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_later(0, print),
        lambda: loop.call_at(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_deadline(1, print),
        lambda: loop.call_soon_priority(hwloop.Priority.HIGH, print),
        loop.run_forever,
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    assert not loop.remove_reader(0)


def test_odd_times_raise():
    loop = hwloop.new_event_loop()
    with pytest.raises(TypeError):
        loop.call_later(None, print)
    with pytest.raises(TypeError):
        loop.call_at(None, print)
    with pytest.raises(ValueError, match="NaN"):
        loop.call_later(float("nan"), print)
    with pytest.raises(ValueError, match="NaN"):
        loop.call_at(float("nan"), print)
    loop.close()


@pytest.mark.parametrize("debug", [False, True])
def test_a_time_that_no_clock_can_reach_raises_at_once_and_the_loop_runs(debug):
    """In a queue it would end each run of the loop."""
    loop = hwloop.new_event_loop()
    loop.set_debug(debug)
    far = decimal.Decimal(10**6)
    for when, error in [(far, TypeError), ("soon", TypeError), (1j, TypeError), (10**400, OverflowError)]:
        for call in (loop.call_at, loop.call_deadline, functools.partial(loop.call_tolerant, tolerance=0.1)):
            with pytest.raises((error, ValueError) if when == 10**400 else error):
                call(when, print)
    with pytest.raises(TypeError):
        loop.call_tolerant(1.0, print, tolerance=decimal.Decimal(1))
    ran = []
    soon = loop.time() + 0.001
    for when in (fractions.Fraction(soon), int(soon), loop.time() > 0):
        loop.call_at(when, ran.append, when)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert len(ran) == 3
    loop.close()


class TestDebugMode:
    def test_slow_callbacks_are_named(self, caplog):
        async def main():
            loop = asyncio.get_running_loop()
            loop.slow_callback_duration = 0
            loop.call_soon(print, "")
            loop.call_soon_threadsafe(sorted, "")
            await asyncio.sleep(0)

        hwloop.run(main(), debug=True)
        messages = [record.getMessage() for record in caplog.records]
        assert any("Executing <Handle print" in message for message in messages)
        assert any("Handle sorted" in message for message in messages)

    def test_handles_know_where_they_were_made(self):
        loop = hwloop.new_event_loop()
        loop.set_debug(True)
        soon = loop.call_soon(print)
        handles = [soon, loop.call_later(1, print), loop.call_later(0, print), loop.call_at(1, print)]
        handles += [loop.call_soon_threadsafe(print), loop.call_deadline(1, print)]
        handles.append(loop.call_soon_priority(hwloop.Priority.LOW, print))
        for handle in handles:
            assert handle._source_traceback[-1].name == "test_handles_know_where_they_were_made"
            handle.cancel()
            assert "print" in repr(handle)
        assert loop.create_future()._source_traceback[-1].name == "test_handles_know_where_they_were_made"
        watcher = loop._add_reader(loop._ssock, print)
        assert watcher._source_traceback[-1].name == "_add_watcher"  # the loop's method, as in asyncio
        loop.close()

    def test_coroutines_as_callbacks_and_calls_from_other_threads_raise(self):
        async def coroutine():
            pass

        async def main():
            loop = asyncio.get_running_loop()
            with pytest.raises(TypeError, match="coroutines cannot be used"):
                loop.call_soon(coroutine)
            with pytest.raises(TypeError, match="callable"):
                loop.call_later(1, "text")
            with pytest.raises(RuntimeError, match="Non-thread-safe"):
                await loop.run_in_executor(None, loop.call_soon, print)

        hwloop.run(main(), debug=True)

    def test_debug_can_be_switched_while_handles_wait(self):
        loop = hwloop.new_event_loop()
        handle, timer = loop.call_soon(print), loop.call_later(1, print)
        loop.set_debug(True)
        handle.cancel()
        timer.cancel()
        loop.set_debug(False)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()


def test_handles_are_asyncios_and_show_themselves():
    loop = hwloop.new_event_loop()
    handle, timer = loop.call_soon(print, 1), loop.call_at(5, print)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(timer, asyncio.TimerHandle)
    assert repr(handle).startswith("<Handle print(")
    assert "when=5" in repr(timer)
    assert timer.when() == 5
    handle.cancel()
    assert handle.cancelled()
    assert "cancelled" in repr(handle)
    loop.close()


def test_callbacks_run_in_the_context_given_or_a_copy_of_the_callers():
    variable = contextvars.ContextVar("variable", default=0)

    async def main():
        loop = asyncio.get_running_loop()
        variable.set(1)
        own = contextvars.copy_context()
        seen = []
        loop.call_soon(lambda: (seen.append(variable.get()), variable.set(2)), context=own)
        loop.call_soon(lambda: seen.append(variable.get()))
        loop.call_later(0.001, lambda: seen.append(variable.get()), context=own)
        await asyncio.sleep(0.01)
        return seen

    assert hwloop.run(main()) == [1, 1, 2]


def test_an_unreferenced_callback_is_not_kept_by_an_idle_loop():
    import weakref

    class Thing:
        def method(self):
            pass

    async def main():
        loop = asyncio.get_running_loop()
        thing = Thing()
        alive = weakref.ref(thing)
        loop.call_soon(thing.method)
        del thing
        return await loop.run_in_executor(None, lambda: (threading.Event().wait(0.05), alive())[1])

    assert hwloop.run(main()) is None


class TestSelectors:
    """`selector=` is as for asyncio's loop; ours then waits through it."""

    @pytest.mark.parametrize("make", [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector])
    def test_any_selector_serves_descriptors_timers_and_threads(self, make):
        async def main():
            loop = asyncio.get_running_loop()
            server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            server.close()
            assert await loop.run_in_executor(None, lambda: 5) == 5
            await asyncio.sleep(0.001)

        with asyncio.Runner(loop_factory=lambda: hwloop.EventLoop(make())) as runner:
            runner.run(main())

    def test_more_descriptors_than_one_look_takes_are_all_served(self):
        loop = hwloop.new_event_loop()
        pipes = [os.pipe() for _ in range(300)]
        served = set()
        for reader, writer in pipes:
            os.write(writer, b"!")
            loop.add_reader(reader, lambda fd: (os.read(fd, 1), served.add(fd)), reader)
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        for reader, writer in pipes:
            loop.remove_reader(reader)
            os.close(reader)
            os.close(writer)
        loop.close()
        assert len(served) == 300


class Pipe:
    """The least that can be registered."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.read = []
        self.closed = 0

    def fileno(self):
        return self.reader

    def on_readable(self):
        self.read.append(os.read(self.reader, 100))

    def close(self):
        self.closed += 1
        os.close(self.reader)
        os.close(self.writer)


class TestRegister:
    def test_anything_with_fileno_and_on_readable_can_be_registered(self):
        async def main():
            loop = asyncio.get_running_loop()
            pipe = Pipe()
            loop.register(pipe)
            assert loop.sources() == [pipe]
            os.write(pipe.writer, b"one")
            await asyncio.sleep(0.005)
            loop.unregister(pipe)
            assert loop.sources() == []
            os.write(pipe.writer, b"two")
            await asyncio.sleep(0.005)
            pipe.close()
            return pipe.read

        assert hwloop.run(main()) == [b"one"]

    def test_registering_twice_or_a_watched_descriptor_raises(self):
        async def main():
            loop = asyncio.get_running_loop()
            pipe = Pipe()
            loop.register(pipe)
            with pytest.raises(ValueError, match="registered already"):
                loop.register(pipe)
            loop.unregister(pipe)
            with pytest.raises(KeyError):
                loop.unregister(pipe)
            loop.add_reader(pipe.reader, print)
            with pytest.raises(ValueError, match="watched already"):
                loop.register(pipe)
            loop.remove_reader(pipe.reader)
            pipe.close()

        hwloop.run(main())

    def test_closing_the_loop_closes_the_sources_that_are_left(self):
        loop = hwloop.new_event_loop()
        pipe = Pipe()
        loop.register(pipe)
        loop.close()
        assert pipe.closed == 1
        assert loop.sources() == []

    def test_the_more_urgent_source_is_served_first(self):
        loop = hwloop.new_event_loop()
        order = []
        pipes = []
        for priority in (hwloop.Priority.LOW, hwloop.Priority.NORMAL, hwloop.Priority.INTERRUPT):
            pipe = Pipe()
            pipe.priority = priority
            pipe.on_readable = lambda pipe=pipe: (os.read(pipe.reader, 1), order.append(pipe.priority.name))
            os.write(pipe.writer, b"!")
            pipes.append(pipe)
            loop.register(pipe)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        loop.close()
        assert order == ["INTERRUPT", "NORMAL", "LOW"]
        assert all(pipe.closed for pipe in pipes)
