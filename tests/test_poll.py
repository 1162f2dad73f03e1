"""Readings on a schedule or on a trigger, through a bus of the simulated board."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import smbus2

from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from hwloop import HardwareError, Priority
from hwloop import board as boards
from hwloop.board import Edge
from hwloop.core.urgency import URGENCY
from hwloop.sources import gpio, i2c
from hwloop.sources.i2c import Poll, Reading

ADDRESS = 0x40
READY = 5
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, boards.using(board):
        board.bus(1).clock = 10_000_000
        yield board


@pytest.fixture
def chip(board: SimBoard) -> RegisterDevice:
    chip = RegisterDevice()
    chip.registers[1] = 42
    board.bus(1).attach(ADDRESS, chip)
    return chip


def reported() -> list[dict[str, Any]]:
    """The reports to the running loop's exception handler from now on."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


async def take(poll: Poll[Any], count: int) -> list[Reading[Any]]:
    return [await anext(poll) for _ in range(count)]


class Gate:
    """A read function that can be held up. Counts how many readings are under way at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun = 0
        self.under_way = 0
        self.most = 0

    async def read(self) -> int:
        self.begun += 1
        number = self.begun
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        return number


# A schedule.


def test_a_register_is_read_at_once_and_then_every_so_often(run: Run, chip: RegisterDevice) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            before_ns = time.monotonic_ns()
            async with bus.poll(lambda: device.read_register(1), every=0.003) as poll:
                readings = await take(poll, 4)
            due = 0
            for reading in readings:
                due += reading.lost
                assert reading.value == 42
                assert before_ns + due * 3_000_000 - 1000 <= reading.timestamp_ns <= reading.received_ns
                due += 1
            assert poll.statistics().received >= 4

    run(main())


def test_the_shortest_form_opens_itself_and_ends_with_the_bus(run: Run, chip: RegisterDevice) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device, values = bus.device(ADDRESS), list[int]()
            async for reading in bus.poll(lambda: device.read_register(1), every=0.001):
                values.append(reading.value)
                if len(values) == 3:
                    bus.close()
            assert set(values) == {42}

    run(main())


def test_a_blocking_driver_is_polled_through_run(run: Run, chip: RegisterDevice) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            driver = functools.partial(smbus2.SMBus.read_byte_data, i2c_addr=ADDRESS, register=1)
            async with bus.poll(lambda: bus.run(driver), every=10) as poll:
                assert (await anext(poll)).value == 42

    run(main())


def test_a_bus_slower_than_the_schedule_skips_and_counts(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        gate = Gate()
        async with i2c.open(1) as bus, bus.poll(gate.read, every=0.002) as poll:
            while poll.statistics().lost < 4:
                await asyncio.sleep(0.002)
            assert gate.begun == 1
            gate.open.set()
            first, second, third = await take(poll, 3)
            assert first.lost == 0
            assert second.lost >= 4  # while the first one was under way
            assert second.lost + third.lost <= poll.statistics().lost
            assert (first.value, second.value, third.value) == (1, 2, 3)
            assert gate.most == 1

    run(main())


def test_when_the_loop_was_held_up_the_schedule_is_kept_and_what_it_missed_is_counted(
    run: Run, board: SimBoard
) -> None:
    async def read() -> int:
        return 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with i2c.open(1) as bus:
            started = loop.time()
            async with bus.poll(read, every=0.004) as poll:
                await anext(poll)
                time.sleep(0.018)
                readings = await take(poll, 2)
                lasted = loop.time() - started
        due = 3 + sum(reading.lost for reading in readings)
        assert readings[0].lost >= 3
        assert due <= lasted / 0.004 + 1

    run(main())


def test_an_outage_is_reported_once_counted_and_survived(run: Run, board: SimBoard, chip: RegisterDevice) -> None:
    async def main() -> None:
        contexts = reported()
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            board.bus(1).detach(ADDRESS)
            async with bus.poll(lambda: device.read_register(1), every=0.001, name="sensor") as poll:
                while poll.statistics().errors < 3:
                    await asyncio.sleep(0.001)
                assert len(contexts) == 1
                message = contexts[0]["message"]
                assert message.startswith("sensor: a reading failed (test_poll.py:")
                assert message.endswith("); it is tried again each time one is due")
                assert isinstance(contexts[0]["exception"], HardwareError)
                assert contexts[0]["source"] is poll
                board.bus(1).attach(ADDRESS, chip)
                reading = await anext(poll)
                assert reading.value == 42
                assert reading.lost >= 3
                board.bus(1).detach(ADDRESS)
                errors = poll.statistics().errors
                while poll.statistics().errors == errors:
                    await asyncio.sleep(0.001)
                assert len(contexts) == 2

    run(main())


def test_a_read_function_that_raises_or_returns_no_awaitable_is_reported_like_any_failure(
    run: Run, board: SimBoard
) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("in the read function")

    async def main() -> None:
        contexts = reported()
        async with i2c.open(1) as bus:
            for read, error in ((broken, ZeroDivisionError), (lambda: 3, TypeError)):
                async with bus.poll(read, every=0.001) as poll:  # type: ignore[arg-type]
                    while poll.statistics().errors < 2:
                        await asyncio.sleep(0.001)
                assert isinstance(contexts.pop()["exception"], error)
                assert contexts == []

    run(main())


class Own(BaseException):
    pass


HARMLESS = [
    asyncio.CancelledError(),
    GeneratorExit(),
    StopAsyncIteration(),
    Own("own"),
    BaseExceptionGroup("g", [Own()]),
]


@pytest.mark.parametrize("error", HARMLESS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["read function", "coroutine", "bus thread"])
def test_a_reading_that_raises_anything_is_a_failed_reading(
    run: Run, board: SimBoard, error: BaseException, where: str
) -> None:
    async def main() -> None:
        contexts = reported()
        faulty = [True]

        async def value() -> int:
            await asyncio.sleep(0)
            return 1

        async def fails() -> int:
            await asyncio.sleep(0)
            raise error

        def on_the_thread(_: object) -> int:
            raise error

        def read() -> Any:
            if not faulty:
                return value()
            faulty.clear()
            if where == "read function":
                raise error
            return fails() if where == "coroutine" else bus.run(on_the_thread)

        async with i2c.open(1) as bus, bus.poll(read, every=0.001) as poll:
            reading = await asyncio.wait_for(anext(poll), 5)
            assert reading.value == 1
            assert reading.lost >= 1
            assert poll.statistics().errors == 1
            assert await bus.run(lambda _: 5) == 5  # the thread lives
        assert [type(context["exception"]) for context in contexts] == [type(error)]
        assert contexts[0]["source"] is poll

    run(main())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
def test_an_exit_on_the_bus_thread_goes_to_whoever_waits_and_the_thread_lives(
    run: Run, board: SimBoard, error: BaseException
) -> None:
    def leave(_: object) -> None:
        raise error

    async def main() -> None:
        async with i2c.open(1) as bus:
            try:
                await bus.run(leave)
            except type(error):
                assert await bus.run(lambda _: 5) == 5
                raise

    with pytest.raises(type(error)):
        run(main())


def test_an_outage_is_one_line_with_the_programs_line_and_its_end_another(
    run: Run, board: SimBoard, chip: RegisterDevice, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(make_read: Callable[[i2c.Device], Any], debug: bool) -> None:
        asyncio.get_running_loop().set_debug(debug)
        async with i2c.open(1) as bus:
            board.bus(1).detach(ADDRESS)
            async with bus.poll(make_read(bus.device(ADDRESS)), every=0.001, name="sensor") as poll:
                while poll.statistics().errors < 3:
                    await asyncio.sleep(0.001)
                board.bus(1).attach(ADDRESS, chip)
                assert (await anext(poll)).value == 42

    for make_read in (
        lambda device: lambda: device.read_register(1),
        lambda device: functools.partial(device.read_register, 1),  # of no line of the program's: that of the poll
    ):
        for debug in (False, True):
            caplog.clear()
            run(main(make_read, debug))
            begins, ends = (record for record in caplog.records if record.name == "hwloop")
            message = begins.getMessage()
            assert message.startswith("sensor: a reading failed (test_poll.py:")
            assert "address 0x40: no answer" in message
            assert "\n" not in message
            assert bool(begins.exc_info) == debug
            assert ends.getMessage().startswith("sensor: readings succeed again, after ")


def test_a_reading_cancelled_from_outside_is_no_failure(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        contexts = reported()
        gate = Gate()
        async with i2c.open(1) as bus, bus.poll(gate.read, every=0.001, name="sensor") as poll:
            while not gate.under_way:
                await asyncio.sleep(0)
            (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "sensor")
            task.cancel()
            gate.open.set()
            assert (await anext(poll)).lost >= 1
            assert poll.statistics().errors == 0
        assert contexts == []

    run(main())


def test_a_callback_that_raises_is_reported_and_the_rest_goes_on(run: Run, board: SimBoard) -> None:
    async def read() -> str:
        return "value"

    async def main() -> None:
        contexts = reported()
        seen: list[Reading[str]] = []
        async with i2c.open(1) as bus, bus.poll(read, every=0.001) as poll:
            poll.add_callback(lambda reading: [][1])
            poll.add_callback(seen.append)
            while len(seen) < 3:
                await asyncio.sleep(0.001)
            assert isinstance(contexts[0]["exception"], IndexError)
            assert len(contexts) >= 3
            assert poll.statistics().queued == 0

    run(main())


def test_a_full_queue_can_pause_the_poll_and_what_was_not_read_is_counted(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        gate = Gate()
        gate.open.set()
        async with (
            i2c.open(1) as bus,
            bus.poll(gate.read, every=0.001, queue_size=2, when_full="pause") as poll,
        ):
            while gate.begun < 3:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert gate.begun == 3
            readings = await take(poll, 4)
            assert [reading.value for reading in readings] == [1, 2, 3, 4]
            assert readings[3].lost >= 5

    run(main())


def test_the_next_reading_carries_the_drops_of_a_full_queue(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        gate = Gate()
        gate.open.set()
        async with i2c.open(1) as bus, bus.poll(gate.read, every=0.001, queue_size=1) as poll:
            while gate.begun < 4:
                await asyncio.sleep(0.001)
            reading = await anext(poll)
            assert reading.value == 1 + poll.statistics().dropped
            assert reading.lost >= poll.statistics().dropped

    run(main())


# A trigger.


def edge(timestamp_ns: int) -> Edge:
    return Edge(READY, 1, timestamp_ns, timestamp_ns, 0)


def test_a_data_ready_line_triggers_a_reading_with_the_edges_own_time(
    run: Run, board: SimBoard, chip: RegisterDevice
) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus, gpio.watch(READY, edges="rising", pull="down") as ready:
            device = bus.device(ADDRESS)
            async with bus.poll(lambda: device.read_register(1), trigger=ready) as poll:
                assert (await anext(poll)).value == 42  # at once: the line may have been active before
                before_ns = time.monotonic_ns()
                board.chip.line(READY).drive(1)
                reading = await anext(poll)
                assert before_ns <= reading.timestamp_ns <= reading.received_ns
                assert reading.lost == 0
            board.chip.line(READY).drive(None)

    run(main())


def test_edges_during_a_reading_make_one_more_of_the_last_and_the_others_count_as_lost(
    run: Run, board: SimBoard
) -> None:
    async def main() -> None:
        gate = Gate()
        async with i2c.open(1) as bus, gpio.watch(READY, pull="down") as ready:
            async with bus.poll(gate.read, trigger=ready) as poll:
                while not gate.begun:
                    await asyncio.sleep(0)
                for number in (100, 200, 300):
                    ready.deliver(edge(number))
                gate.open.set()
                first, second = await take(poll, 2)
                assert (first.value, first.lost) == (1, 0)
                assert (second.value, second.timestamp_ns, second.lost) == (2, 300, 2)
                await asyncio.sleep(0.005)
                assert gate.begun == 2
                ready.deliver(edge(400))
                assert (await anext(poll)).timestamp_ns == 400
                assert poll.statistics().lost == 2
            ready.deliver(edge(500))
            await asyncio.sleep(0.005)
            assert gate.begun == 3
            assert ready.statistics().queued == 1  # for others again

    run(main())


def test_edges_while_the_poll_is_paused_are_read_once_there_is_room(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        gate = Gate()
        gate.open.set()
        async with (
            i2c.open(1) as bus,
            gpio.watch(READY, pull="down") as ready,
            bus.poll(gate.read, trigger=ready, queue_size=1, when_full="pause") as poll,
        ):
            while poll.statistics().received < 1:
                await asyncio.sleep(0)
            gate.open.clear()
            ready.deliver(edge(100))
            while gate.begun < 2:
                await asyncio.sleep(0)
            ready.deliver(edge(200))
            gate.open.set()
            while poll.statistics().received < 2:
                await asyncio.sleep(0)
            await asyncio.sleep(0.005)
            ready.deliver(edge(300))
            await asyncio.sleep(0.005)
            assert gate.begun == 2
            readings = await take(poll, 3)
            assert [reading.timestamp_ns for reading in readings[1:]] == [100, 300]
            assert [reading.lost for reading in readings] == [0, 0, 1]

    run(main())


# Its life.


def test_the_reading_under_way_is_cancelled_when_the_poll_ends(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        gate = Gate()
        async with i2c.open(1) as bus:
            async with bus.poll(gate.read, every=10) as poll:
                while not gate.under_way:
                    await asyncio.sleep(0)
            while gate.under_way:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert poll.statistics().lost == 0
            assert [reading async for reading in poll] == []
            poll.close()
            assert gate.begun == 1

    run(main())


def test_a_reading_that_outlives_its_poll_is_neither_delivered_nor_reported(run: Run, board: SimBoard) -> None:
    begun, ended = [], []

    async def stubborn() -> int:
        begun.append(1)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("a value")
        return 1

    async def furious() -> int:
        begun.append(2)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("an error")
        raise ValueError("cancelled, of all things")

    async def main() -> None:
        contexts = reported()
        async with i2c.open(1) as bus:
            for number, read in ((1, stubborn), (2, furious)):
                async with bus.poll(read, every=10) as poll:
                    while len(begun) < number:
                        await asyncio.sleep(0)
                while len(ended) < number:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert poll.statistics().received == poll.statistics().errors == poll.statistics().lost == 0
        assert ended == ["a value", "an error"]
        assert contexts == []

    run(main())


def test_closing_the_bus_ends_its_polls_and_wakes_waiting_tasks(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        gate = Gate()
        contexts = reported()
        bus = i2c.open(1).open()
        poll = bus.poll(gate.read, every=0.001).open()
        waiter = asyncio.create_task(anext(poll, None))
        await asyncio.sleep(0.002)
        bus.close()
        assert await waiter is None
        assert poll.closed
        assert contexts == []

    run(main())


def test_readings_run_with_the_priority_of_the_poll(run: Run, board: SimBoard) -> None:
    async def read() -> Priority:
        return URGENCY.get().priority

    async def main() -> None:
        async with i2c.open(1) as bus:
            async with bus.poll(read, every=0.001, priority=Priority.HIGH) as poll:
                assert [reading.value for reading in await take(poll, 2)] == [Priority.HIGH] * 2
            async with (
                gpio.watch(READY, pull="down") as ready,
                bus.poll(read, trigger=ready, priority=Priority.LOW) as poll,
            ):
                assert (await anext(poll)).value == Priority.LOW
                ready.deliver(edge(1))
                assert (await anext(poll)).value == Priority.LOW
        assert URGENCY.get().priority == Priority.NORMAL

    run(main())


def test_impossible_arguments_raise(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus, gpio.watch(READY, pull="down") as ready:
            with pytest.raises(ValueError, match=r"give either every= .* or trigger="):
                bus.poll(bus.scan)
            with pytest.raises(ValueError, match=r"give either every= .* or trigger="):
                bus.poll(bus.scan, every=1, trigger=ready)
            for every in (0, -1, float("inf"), float("nan")):
                with pytest.raises(ValueError, match="a period in seconds must be from"):
                    bus.poll(bus.scan, every=every)
            with pytest.raises(TypeError, match="returns an awaitable, not 3"):
                bus.poll(3, every=1)  # type: ignore[arg-type]
            poll = bus.poll(bus.scan, every=1)
            poll.open()
            with pytest.raises(RuntimeError, match="open already"):
                poll.open()
            poll.close()
            with pytest.raises(RuntimeError, match="closed"):
                poll.open()

    run(main())
