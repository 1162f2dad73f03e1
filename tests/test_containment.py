"""Whatever user code raises in a source is reported once, with the source's name, and harms nobody else."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterable

import pytest

import hwloop
from hwloop.sources import Backoff, Source
from hwloop.sources.containment import as_failure


class Own(BaseException):
    """An exception that no `except Exception` catches."""


class Unspeakable(BaseException):
    def __str__(self) -> str:
        raise Own

    __repr__ = __str__


HARMLESS = [
    asyncio.CancelledError(),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    Own("own"),
    Unspeakable(),
    ExceptionGroup("several", [ValueError(1)]),
    BaseExceptionGroup("several", [asyncio.CancelledError(), Own()]),
    TimeoutError(),
    BlockingIOError(),
]
harmless = pytest.mark.parametrize("error", HARMLESS, ids=lambda error: type(error).__name__)
exits = pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])


class Device(Source[int]):
    """Yields a byte for each byte of a pipe, one by one; `faults` says where to raise what, each once."""

    def __init__(self, **options):
        super().__init__(name="device", **options)
        self.faults: dict[str, BaseException] = {}
        self.connected = self.disconnected = 0

    def strike(self, where: str) -> None:
        if where in self.faults:
            raise self.faults.pop(where)

    def connect(self) -> int:
        self.strike("connect")
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.connected += 1
        return self.reader

    def receive(self) -> Iterable[int]:
        for byte in os.read(self.reader, 4096):
            self.strike("receive")
            yield byte

    def disconnect(self) -> None:
        self.disconnected += 1
        os.close(self.reader)
        os.close(self.writer)
        self.strike("disconnect")

    def with_lost(self, event: int, lost: int) -> int:
        self.strike("with_lost")
        return event

    def send(self, *values: int) -> None:
        os.write(self.writer, bytes(values))


def reported():
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    return reports


async def settle():
    await asyncio.sleep(0.005)


@harmless
def test_a_callback_that_raises_anything_costs_one_report(run, error):
    async def main():
        reports, seen, iterated = reported(), [], []

        def raises(event):
            raise error

        async def iterate():
            async for event in device:
                iterated.append(event)

        async with Device() as device:
            device.add_callback(raises)
            device.add_callback(seen.append)
            task = asyncio.create_task(iterate())
            await settle()
            for value in (1, 2):
                device.send(value)
                await settle()
            assert not device.closed
        await task
        assert seen == iterated == [1, 2]
        assert [report["exception"] for report in reports] == [error, error]
        assert reports[0]["source"] is device
        assert "device: exception in callback" in reports[0]["message"]
        assert "test_containment.py:" in reports[0]["message"]
        assert device.statistics().errors == 2

    run(main())


@exits
def test_an_exit_in_a_callback_passes_and_the_account_still_adds_up(run, error):
    kept = []

    async def main():
        device = Device().open()
        kept.append(device)

        def leave(event):
            raise error

        device.add_callback(leave)
        device.send(1)
        await asyncio.sleep(1)

    with pytest.raises(type(error)):
        run(main())
    statistics = kept[0].statistics()
    assert (statistics.received, statistics.delivered) == (1, 1)
    kept[0].close()


@pytest.mark.parametrize("where", ["receive", "connect", "disconnect"])
@harmless
def test_a_device_that_raises_anything_is_reopened_once_and_reported_once(run, error, where):
    if where == "receive" and isinstance(error, BlockingIOError):
        return  # that is how a device says that there was nothing after all

    async def main():
        reports = reported()
        async with Device(reopen=Backoff(0.001)) as device:
            device.faults = {"receive": OSError("gone"), where: error}
            device.send(1)
            while not device.statistics().reopened:
                await settle()
            device.send(7)
            assert await asyncio.wait_for(anext(device), 5) == 7
            assert not device.faults
            assert len(reports) == 1
            assert device.connected == 2
        assert device.disconnected == 2

    run(main())


@harmless
def test_a_consumer_gets_a_failure_that_does_not_end_its_task_or_its_loop(run, error):
    if isinstance(error, BlockingIOError):
        return

    async def main():
        reports = reported()
        device = Device().open()
        device.faults = {"receive": error}
        waiting = asyncio.create_task(anext(device))
        await settle()
        device.send(1)
        with pytest.raises(Exception) as info:  # noqa: PT011
            await waiting
        assert info.value is error or info.value.__cause__ is error
        assert not isinstance(info.value, StopAsyncIteration)
        assert device.closed
        assert device.failure is info.value
        assert reports == []
        device.close()

    run(main())


@harmless
def test_closing_completes_whatever_the_device_raises(run, error):
    async def main():
        reports, ended = reported(), []

        def ends_badly():
            raise Own

        device = Device().open()
        device.at_end += [ends_badly, lambda: ended.append(True)]
        waiting = asyncio.create_task(anext(device, "ended"))
        await settle()
        device.faults = {"disconnect": error}
        if isinstance(error, Exception):
            with pytest.raises(type(error)):
                device.close()
        else:
            device.close()
            assert [report["message"] for report in reports][1:] == ["device: closing it failed"]
        assert "exception in at_end function" in reports[0]["message"]
        assert ended == [True]
        assert await waiting == "ended"
        assert device.fileno() == -1
        device.close()

    run(main())


@harmless
def test_with_lost_that_raises_costs_a_report_and_no_event(run, error):
    async def main():
        reports = reported()
        async with Device(queue_size=1) as device:
            device.faults = {"with_lost": error}
            device.send(1, 2)
            await settle()
            assert await anext(device) == 2
            assert "no event carries its count of 1 lost events" in reports[0]["message"]
            assert len(reports) == 1

    run(main())


def test_a_failure_that_a_callback_and_the_reader_notice_is_one(run):
    async def main():
        reports = reported()
        device = Device(reopen=Backoff(0.001)).open()

        def fail_twice(event):
            device.fail(OSError("a write failed"))
            device.fail(OSError("and the reader noticed it"))

        device.add_callback(fail_twice)
        for number in range(1, 4):
            device.send(1, 2)  # the second would be read through a descriptor that is closed
            while device.statistics().reopened < number:
                await settle()
            assert (device.connected, device.disconnected) == (number + 1, number)
        assert [str(report["exception"]) for report in reports] == ["a write failed"] * 3
        device.close()
        await settle()
        assert device.connected == device.disconnected == 4

    run(main())


@pytest.mark.parametrize("closing", [False, True], ids=["fails", "is closed"])
@pytest.mark.parametrize("stage", ["opening", "reopening"])
def test_a_source_that_ends_while_it_is_opened_leaves_nothing_open(run, stage, closing):
    class Hasty(Device):
        hasty = stage == "opening"

        def connect(self) -> int:
            fd = super().connect()
            if self.hasty:
                self.hasty = False
                if closing:
                    self.close()
                else:
                    self.fail(OSError("hasty"))
            return fd

    async def main():
        reported()
        device = Hasty(reopen=Backoff(0.001))
        if stage == "opening":
            with pytest.raises(RuntimeError if closing else OSError):
                device.open()
        else:
            device.open()
            device.hasty = True
            device.fail(OSError("gone"))
            await settle()
            while not (device.closed or device.statistics().reopened):
                await settle()
            if not closing:
                assert device.statistics().errors == 2
        device.close()
        await settle()
        assert device.connected == device.disconnected > 0

    run(main())


def test_a_device_that_fails_or_closes_again_while_it_is_let_go_is_let_go_once(run):
    class Clinging(Device):
        def disconnect(self) -> None:
            self.fail(OSError("again"))
            super().disconnect()
            self.close()

    async def main():
        reports = reported()
        for reopen in (None, Backoff(0.001)):
            device = Clinging(reopen=reopen).open()
            device.fail(OSError("once"))
            await settle()
            assert device.closed
            assert device.connected == device.disconnected == 1
        assert [str(report["exception"]) for report in reports] == ["once", "once"]

    run(main())


class Nameless(Device):
    """A source whose name and repr raise."""

    spoilt = False

    @property
    def name(self):
        if self.spoilt:
            raise Own
        return "nameless"

    @name.setter
    def name(self, name):
        pass

    def __repr__(self):
        raise Own


def test_a_source_whose_name_and_repr_raise_is_reported_all_the_same(run, caplog):
    async def main():
        async with Nameless(reopen=Backoff(0.001)) as device:
            device.spoilt = True

            def raises(event):
                raise ValueError("a callback")

            device.add_callback(raises)
            device.send(1)
            await settle()
            device.fail(OSError("gone"))
            while not device.statistics().reopened:
                await settle()
            assert device.statistics().name == "<Nameless object>"

    run(main())
    assert "exception in callback" in caplog.text
    assert "gone" in caplog.text
    assert "<Nameless object> is back" in caplog.text
    assert "default exception handler" not in caplog.text


def test_a_source_whose_statistics_raise_leaves_the_loops_and_the_others_alone():
    class Secretive(Device):
        def statistics(self):
            raise Own

    async def main():
        reports = reported()
        async with Secretive(), Device():
            statistics = asyncio.get_running_loop().statistics()
        assert [source.name for source in statistics.sources] == ["device"]
        assert [type(report["exception"]) for report in reports] == [Own]
        assert "statistics of device" in reports[0]["message"]

    hwloop.run(main(), board="sim")


def test_without_a_loop_a_failure_goes_to_the_log(caplog):
    device = Device()
    device.fail(Own("early"))
    assert device.closed
    assert "device failed and is closed: Own: early" in caplog.text


def test_an_outage_and_its_end_are_a_line_each_and_debug_mode_brings_the_traceback(run, caplog):
    async def main(debug):
        asyncio.get_running_loop().set_debug(debug)
        async with Device(reopen=Backoff(0.001)) as device:
            device.fail(OSError("gone\nfor good"))
            while not device.statistics().reopened:
                await settle()

    for debug in (False, True):
        caplog.clear()
        run(main(debug))
        messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert messages[0] == "device failed; it is reopened as soon as that works: gone for good"
        assert re.fullmatch(r"device is back after [0-9.e-]+ s, at attempt 1", messages[1])
        assert [bool(record.exc_info) for record in caplog.records if "gone" in record.getMessage()] == [debug]


def test_the_pauses_grow_while_a_device_comes_back_and_does_not_work(leap):
    class Flapping(Device):
        works = False

        def connect(self) -> int:
            fd = super().connect()
            asyncio.get_running_loop().call_soon(self.send, 1)
            return fd

        def receive(self) -> Iterable[int]:
            os.read(self.reader, 4096)
            if self.works:
                yield 1
            raise OSError("gone")

    async def main():
        reported()
        async with Flapping(reopen=Backoff(0.1, 2, 10, jitter=0)) as device:
            await asyncio.sleep(60)
            assert device.connected == 12  # after 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, then each 10 s
            device.works = True
            await asyncio.sleep(10)
            before = device.connected
            await asyncio.sleep(1)
            assert device.connected == before + 10

    leap(main())


@pytest.mark.parametrize("how", ["function", "coroutine function", "awaitable"])
def test_a_hook_runs_after_each_reopening(run, how):
    async def main():
        seen = []

        async def later(source):
            await asyncio.sleep(0)
            seen.append(source)

        hooks = {"function": seen.append, "coroutine function": later, "awaitable": lambda source: later(source)}
        async with Device(reopen=Backoff(0.001), on_reopen=hooks[how]) as device:
            await settle()
            assert seen == []
            for number in (1, 2):
                device.fail(OSError("gone"))
                while len(seen) < number:
                    await settle()
            assert seen == [device, device]

    run(main())


@pytest.mark.parametrize("late", [False, True], ids=["function", "coroutine function"])
@harmless
def test_a_hook_that_raises_anything_costs_one_report(run, error, late):
    async def main():
        reports = reported()

        def hook(source):
            raise error

        async def late_hook(source):
            await asyncio.sleep(0)
            raise error

        async with Device(reopen=Backoff(0.001), on_reopen=late_hook if late else hook) as device:
            device.fail(OSError("gone"))
            while len(reports) < 2:
                await settle()
            device.send(7)
            assert await anext(device) == 7
            await settle()
        assert len(reports) == 2
        assert "device: exception in on_reopen hook" in reports[1]["message"]
        raised = reports[1]["exception"]
        assert raised is error or (late and isinstance(raised, RuntimeError | asyncio.CancelledError))

    run(main())


def test_a_new_outage_and_the_end_cancel_a_hook_that_still_runs(run):
    async def main():
        reported()
        begun, cancelled = [], []

        async def hook(source):
            begun.append(source)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancelled.append(source)
                raise

        async with Device(reopen=Backoff(0.001), on_reopen=hook) as device:
            for number in (1, 2):
                device.fail(OSError("gone"))
                while len(begun) < number:
                    await settle()
                assert len(cancelled) == number - 1
        await settle()
        assert len(cancelled) == 2

    run(main())


def test_a_hook_may_close_its_source(run):
    async def main():
        reports, ended = reported(), []

        async def hook(source):
            source.close()
            await asyncio.sleep(0)
            ended.append(True)

        device = Device(reopen=Backoff(0.001), on_reopen=hook).open()
        device.fail(OSError("gone"))
        while not ended:
            await settle()
        assert len(reports) == 1
        assert device.connected == device.disconnected == 2

    run(main())


def test_a_hook_must_be_callable():
    with pytest.raises(TypeError, match="on_reopen must be a function of the source, not 3"):
        Device(reopen=Backoff(), on_reopen=3)


def test_a_name_must_be_text():
    class Named(Device):
        def __init__(self, name):
            Source.__init__(self, name=name)

    with pytest.raises(TypeError, match="a source's name must be text"):
        Named(Unspeakable())


def test_a_failure_that_can_be_raised_stays_as_it_is():
    error = OSError("gone")
    assert as_failure("device", error) is error
