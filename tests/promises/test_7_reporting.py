"""Promise 7 where the loop reports: names, handlers and logging are code of the program too, and may raise anything."""

from __future__ import annotations

import asyncio
import functools
import gc
import io
import logging
import sys
import time
import weakref

import pytest

import hwloop
from hwloop import Priority
from hwloop.core.naming import LONGEST


class Odd(BaseException):
    pass


ERRORS = [ValueError, asyncio.CancelledError, Odd, GeneratorExit, StopIteration, MemoryError]


def raises(error):
    def method(self, *args):
        raise error("no name for you")

    return method


def nameless(error, **members):
    """A callable whose every name raises."""
    return type(
        "Nameless",
        (),
        {
            "__repr__": raises(error),
            "__str__": raises(error),
            "name": property(raises(error)),
            "__qualname__": "Nameless",
            "__self__": property(raises(error)),
            "__wrapped__": property(raises(error)),
            "__call__": lambda self, *args: None,
            **members,
        },
    )()


@pytest.fixture
def reports(stage):
    seen = []
    stage.set_exception_handler(lambda loop, context: seen.append(context))
    return seen


@pytest.mark.parametrize("error", ERRORS)
def test_a_late_callback_that_cannot_be_named_is_counted_and_runs(stage, caplog, error):
    ran = []
    callback = nameless(error, __call__=lambda self, *args: ran.append(args))
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("long", took=5000))
    stage.call_deadline(1.001, callback, nameless(error))
    stage.call_deadline(1.001, functools.partial(callback, nameless(error)))
    stage.play()
    assert len(ran) == 2
    assert stage.statistics().deadline_misses["<Nameless object>"].count == 2
    assert caplog.records[-1].getMessage() == "<Nameless object> ran 4.000 ms after its deadline (reported once)"


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("error", ERRORS)
def test_a_slow_callback_that_cannot_be_named_is_counted(stage, caplog, error, debug):
    stage.set_debug(debug)
    stage.watch_slices(0.05)
    stage.measure_tasks()

    def slow(self, *args):
        stage.clock += 0.2

    stage.call_soon(nameless(error, __call__=slow), nameless(error))
    stage.call_soon(stage.work("next"))
    assert stage.play() == ["next"]
    assert stage.statistics().overruns["<Nameless object>"].count == 1
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("<Nameless object> blocked the loop for 199.9 ms (reported once)") for line in lines)
    assert debug == any(line.startswith("Executing <Nameless object>") for line in lines)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("error", ERRORS)
def test_a_failing_callback_that_cannot_be_named_is_reported_once_by_asyncios_own_handler(stage, caplog, error, debug):
    stage.set_debug(debug)
    stage.call_soon(nameless(error, __call__=raises(error)), nameless(error))
    stage.call_soon(stage.work("next"))
    assert stage.play() == ["next"]
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    (record,) = failed
    assert record.getMessage().startswith("Exception in callback <Nameless object>")
    assert isinstance(record.exc_info[1], error)


@pytest.mark.parametrize("error", ERRORS)
def test_a_task_that_cannot_be_named_is_counted_by_what_can(stage, error):
    class Task(asyncio.Task):
        get_name = raises(error)

    async def late():
        await asyncio.sleep(0)

    async def main():
        stage.set_task_factory(lambda loop, coro, **options: Task(coro, loop=loop, **options))
        task = hwloop.create_task(late(), deadline=0.001)
        stage.set_task_factory(None)
        stage.clock += 0.005
        await task

    stage.run_until_complete(main())
    ((name, misses),) = stage.statistics().deadline_misses.items()
    assert misses.count == 1
    assert len(name) <= LONGEST


@pytest.mark.parametrize("error", ERRORS)
def test_a_source_that_cannot_be_named_is_served_counted_and_closed(stage, reports, error):
    edge = stage.edge(stage.work("edge"))
    source = edge.__self__
    stage.unregister(source)
    source.close()
    Source = type("Source", (type(source),), {"name": property(raises(error)), "__repr__": raises(error)})
    source = Source(lambda: stage.trace.append("edge"), Priority.NORMAL)
    source.deadline = 0.001
    stage.register(source)
    source.happen()
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("first"))
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("second", took=3000))
    assert stage.play() == ["first", "second", "edge"]
    assert stage.statistics().deadline_misses["<Source object>"].count == 1
    source.callback = lambda: raises(error)(None)
    source.happen()
    stage.play()
    (report,) = reports
    assert report["message"] == "<Source object> failed and is closed"


@pytest.mark.parametrize("error", ERRORS)
def test_handlers_of_reports_that_raise_are_reported_by_name(stage, reports, error):
    def on_miss(loop, miss):
        raise error

    def on_overrun(loop, overrun):
        raise error

    stage.set_deadline_handler(on_miss)
    stage.watch_slices(0.05, handler=on_overrun)
    stage.call_soon_priority(Priority.INTERRUPT, stage.work("long", took=90_000))
    stage.call_deadline(1.001, stage.work("late"))
    stage.call_soon(stage.work("next"))
    assert stage.play() == ["long", "late", "next"]
    assert [report["message"].split()[0].rpartition(".")[2] for report in reports] == ["on_overrun", "on_miss"]
    assert [type(report["exception"]) for report in reports] == [error, error]


@pytest.mark.parametrize("error", ERRORS)
def test_an_exception_handler_that_raises_ends_nothing(stage, caplog, error):
    def handler(loop, context):
        raise error

    stage.set_exception_handler(handler)
    stage.call_soon(stage.work("a", then=lambda: 1 / 0))
    stage.call_soon(stage.work("b"))
    assert stage.play() == ["a", "b"]
    (record,) = caplog.records
    assert "Unhandled error in exception handler" in record.getMessage()


@pytest.mark.parametrize("error", ERRORS)
def test_logging_that_raises_ends_nothing_and_stderr_has_it(stage, monkeypatch, error):
    class Handler(logging.Handler):
        def handle(self, record):
            raise error("the log is full")

    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    handler = Handler()
    loggers = [logging.getLogger(name) for name in ("hwloop", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        stage.watch_slices(0.05)
        stage.call_soon_priority(Priority.INTERRUPT, stage.work("long", took=90_000))
        stage.call_deadline(1.001, stage.work("late", then=lambda: 1 / 0))
        stage.call_soon(stage.work("next"))
        assert stage.play() == ["long", "late", "next"]
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert "the log is full" in sys.__stderr__.getvalue()


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_name_that_ends_the_program_ends_it(stage, end):
    stage.call_soon(nameless(end, __call__=raises(ValueError)))
    with pytest.raises(end):
        stage.play()


def test_a_report_keeps_a_name_and_no_data(stage, reports):
    """A thousand late and failing partials, each with its own data: the tables keep one name, and no data lives on."""

    class Data:
        def __repr__(self):
            return "x" * 1000

    alive = weakref.WeakSet()

    def work(data):
        stage.clock += 0.06

    stage.watch_slices(0.05)
    for _ in range(50):
        data = Data()
        alive.add(data)
        stage.call_soon_priority(Priority.INTERRUPT, stage.work("first", took=10))
        stage.call_deadline(stage.time() + 1e-6, functools.partial(work, data))
        del data
        stage.play()
    gc.collect()
    assert not alive
    seen = stage.statistics()
    for table in (seen.overruns, seen.deadline_misses):
        assert [one.count for name, one in table.items() if "work" in name] == [50]
        assert all(len(name) <= LONGEST for name in table)


def test_a_value_that_is_too_long_to_show_is_named_in_the_log(stage, caplog):
    class Long:
        def __repr__(self):
            return "x" * 1_000_000

    stage.call_exception_handler({"message": "a report", "thing": Long(), "other": [1, 2]})
    (record,) = caplog.records
    assert "other: [1, 2]" in record.getMessage()
    assert len(record.getMessage()) < 500


# A report names the line of the program, on one line.


def test_a_periodic_callback_is_named_by_its_function_with_its_place(stage, caplog):
    def blink():
        stage.clock += 0.06

    stage.watch_slices(0.05)
    stage.call_every(0.1, blink)
    stage.play(450_000)
    ((name, seen),) = stage.statistics().overruns.items()
    assert name.endswith("blink")
    assert seen.count == 4
    place = f"(test_7_reporting.py:{blink.__code__.co_firstlineno})"
    assert f"blink {place} blocked the loop for 59.9 ms (reported once)" in caplog.records[0].getMessage()


def test_a_source_is_named_with_its_callbacks(stage, caplog):
    edge = stage.edge(stage.work("edge", took=60_000))
    source = edge.__self__
    source.name = "gpio:17"
    source.callbacks = (test_a_periodic_callback_is_named_by_its_function_with_its_place, print)
    edge()
    stage.watch_slices(0.05)
    stage.play()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "gpio:17: test_a_periodic_callback_is_named_by_its_function_with_its_place (test_7_reporting"
    )
    assert " or print blocked the loop for 59.9 ms" in line


def test_a_protocol_is_named_instead_of_its_transport(caplog):
    class Slow(asyncio.Protocol):
        def data_received(self, data):
            time.sleep(0.03)
            done.set_result(None)

    async def main():
        nonlocal done
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.watch_slices(0.02)
        server = await loop.create_server(Slow, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await done
        await asyncio.sleep(0)
        writer.close()
        server.close()
        await server.wait_closed()

    done = None
    hwloop.run(main())
    assert any("data_received (test_7_reporting.py:" in record.getMessage() for record in caplog.records)


def test_debug_mode_says_where_a_slow_callback_was_scheduled(stage, caplog):
    def schedule():
        stage.call_soon(stage.work("slow", took=60_000))

    stage.set_debug(True)
    stage.watch_slices(0.05)
    schedule()
    stage.play()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "hwloop"]
    assert "in schedule\n" in line


@pytest.mark.parametrize("error", ERRORS)
def test_attributes_that_raise_do_not_matter_to_urgency_either(stage, error):
    """With urgency that comes from outside a task, the loop asks each handle which task it serves."""
    ran = []
    callback = nameless(error, __call__=lambda self, *args: ran.append(args), __class__=property(raises(error)))

    async def rest():
        await asyncio.sleep(0.001)

    async def main():
        task = asyncio.create_task(rest())
        await asyncio.sleep(0)
        hwloop.reschedule(task, priority=Priority.HIGH)
        assert stage._urgencies._overrides
        stage.call_soon(callback, callback)
        stage.call_soon_threadsafe(callback, callback)
        stage.call_later(0.0005, callback, callback)
        await task

    stage.run_until_complete(main())
    assert len(ran) == 3


def test_an_invalid_context_is_reported_and_ends_nothing(stage, reports):
    stage.urgency.enable()
    stage.call_later(0.001, print, context=5)
    stage.call_soon(print, context=5)
    stage.call_soon_threadsafe(print, context=5)
    stage.play(2000)
    assert [type(report["exception"]) for report in reports] == [AttributeError] * 3
