"""The order of the jobs of a bus: priorities, rate limits, long transfers in pieces, and statistics by address."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Iterator
from typing import Any, NamedTuple

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from hwloop.board import using
from hwloop.core.urgency import Priority
from hwloop.errors import HardwareError
from hwloop.sources import RateLimit, i2c, spi
from hwloop.sources.bus_queue import AGEING, BusQueue

DISPLAY = {"type": "ssd1306", "name": "display"}
FRAME = bytes(range(256)) * 4


class Job(NamedTuple):
    name: str
    priority: Priority


def queue_of(*jobs: tuple[str, Priority]) -> BusQueue[Job]:
    queue = BusQueue[Job]()
    for job in jobs:
        queue.append(Job(*job))
    return queue


def names(queue: BusQueue[Job]) -> str:
    return "".join(queue.pop().name for _ in range(queue.length))


class Memory(RegisterDevice):
    """256 bytes, and the transfers that it has seen: the register and the number of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = bytearray(range(256))
        self.written: list[tuple[int, int]] = []

    def read_register(self, register: int) -> int:
        return self.bytes[register]

    def write_register(self, register: int, value: int) -> None:
        self.bytes[register] = value

    def write(self, data: bytes) -> None:
        self.written.append((data[0], len(data) - 1))
        super().write(data)


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard({"device": [DISPLAY]}, clock=hwloop.VirtualClock()) as board, using(board):
        board.bus(1).attach(0x48, Memory())
        yield board


def play(board: SimBoard, main: Coroutine[Any, Any, Any]) -> Any:
    return hwloop.run(main, board=board, clock=board.clock)


class TestTheQueue:
    def test_priority_decides_and_then_the_order_of_arrival(self) -> None:
        queue = queue_of(
            ("a", Priority.NORMAL),
            ("b", Priority.LOW),
            ("c", Priority.HIGH),
            ("d", Priority.NORMAL),
            ("e", Priority.HIGH),
        )
        assert queue.first().name == "c"
        assert names(queue) == "ceadb"

    def test_a_priority_that_was_passed_over_often_goes_next(self) -> None:
        urgent = [(letter, Priority.HIGH) for letter in "abcdefghijkl"]
        queue = queue_of(("L", Priority.LOW), ("N", Priority.NORMAL), *urgent)
        assert names(queue) == "abcdefgh"[:AGEING] + "LN" + "ijkl"

    def test_it_waits_as_long_again_for_its_next_turn(self) -> None:
        urgent = [("h", Priority.HIGH)] * 20
        assert names(queue_of(("L", Priority.LOW), ("L", Priority.LOW), *urgent)) == "hhhhhhhhLhhhhhhhhLhhhh"

    def test_idle_goes_only_when_nothing_else_waits(self) -> None:
        urgent = [(letter, Priority.HIGH) for letter in "abcdefghijklmnop"]
        assert names(queue_of(("I", Priority.IDLE), *urgent)) == "abcdefghijklmnopI"

    def test_jobs_can_be_removed(self) -> None:
        queue = queue_of(("a", Priority.NORMAL), ("b", Priority.LOW), ("c", Priority.HIGH))
        queue.remove(Job("b", Priority.LOW))
        with pytest.raises(ValueError, match="not in"):
            queue.remove(Job("b", Priority.LOW))
        assert [job.name for job in queue.take(lambda job: job.name == "c")] == ["c"]
        assert names(queue) == "a"


class TestPriority:
    def test_an_urgent_device_goes_before_those_that_wait(self, board: SimBoard) -> None:
        async def main() -> None:
            order = []
            async with i2c.open(1) as bus:
                devices = {
                    name: bus.device(0x48, priority=priority)
                    for name, priority in (("plain", None), ("low", Priority.LOW), ("high", Priority.HIGH))
                }

                async def read(name: str) -> None:
                    await devices[name].read_block(0, 8)
                    order.append(name)

                async with asyncio.TaskGroup() as group:
                    for name in ("low", "plain", "low", "plain", "high", "plain", "high"):
                        group.create_task(read(name))
            assert order == ["high", "high", "plain", "plain", "plain", "low", "low"]

        play(board, main())

    def test_a_transfer_that_was_overtaken_still_has_its_answer_in_time(self, board: SimBoard) -> None:
        """In virtual time the loop was to make it at once, and so had set no timer for it."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with i2c.open(1, timeout=1) as bus:
                await bus.device(0x48).read_register(0)
                await asyncio.sleep(0.1)  # the thread of the bus sleeps
                began = loop.time()
                overtaken = asyncio.create_task(bus.device(0x48).read_register(0))
                sleeping = asyncio.create_task(
                    bus.run(lambda smbus: board.clock.sleep(3), timeout=5, priority=Priority.HIGH)
                )
                with pytest.raises(i2c.BusTimeoutError, match="not begun within 1 s"):
                    await overtaken
                assert loop.time() - began == pytest.approx(1, abs=0.01)
                await sleeping

        play(board, main())

    def test_run_and_the_bus_itself_have_priorities_too(self, board: SimBoard) -> None:
        async def main() -> None:
            order: list[str] = []
            async with i2c.open(1, priority=Priority.LOW) as bus:
                async with asyncio.TaskGroup() as group:
                    for name, priority in (("a", None), ("b", None), ("c", Priority.HIGH), ("d", Priority.NORMAL)):
                        group.create_task(bus.run(lambda smbus, name: order.append(name), name, priority=priority))
                with pytest.raises(ValueError, match="unknown priority 9"):
                    await bus.run(print, priority=9)  # type: ignore[arg-type]
            assert order.index("c") < order.index("d") < order.index("b")

        play(board, main())

    def test_devices_of_one_spi_bus_compete_by_their_priority(self) -> None:
        devices = [{"type": "mcp3008", "name": "slow"}, {"type": "mcp3008", "name": "fast", "select": 1}]

        async def main() -> None:
            order = []
            async with spi.open(0, 0, priority=Priority.LOW) as slow, spi.open(0, 1, priority=Priority.HIGH) as fast:

                async def transfer(name: str, device: spi.Device) -> None:
                    await device.transfer(b"\1\x80\0")
                    order.append(name)

                async with asyncio.TaskGroup() as group:
                    for name, device in (("s1", slow), ("s2", slow), ("f1", fast), ("f2", fast)):
                        group.create_task(transfer(name, device))
                assert slow.statistics().longest_wait > fast.statistics().longest_wait
                assert fast.statistics().busy == pytest.approx(2 * 24 / 500_000, rel=0.2)
            assert order == ["f1", "f2", "s1", "s2"]

        with SimBoard({"device": devices}, clock=hwloop.VirtualClock()) as board:
            play(board, main())


class TestLongTransfers:
    async def sensor_beside_display(self, **options: Any) -> float:
        """Read a sensor every 10 ms while frames are sent. Return how late its worst reading was, in seconds."""
        async with i2c.open(1) as bus:
            sensor, display = bus.device(0x48, priority=Priority.HIGH), bus.device(0x3C, **options)
            worst, loop = 0.0, asyncio.get_running_loop()

            async def show() -> None:
                await display.write_block(0x00, bytes([0x20, 0x00, 0x8D, 0x14, 0xAF]))  # by rows, and switched on
                while True:
                    await display.write_block(0x40, FRAME)

            frames = asyncio.create_task(show())
            async with bus.poll(lambda: sensor.read_block(0, 2), every=0.01) as readings:
                async for reading in readings:
                    worst = max(worst, (reading.received_ns - reading.timestamp_ns) / 1e9)
                    if reading.timestamp_ns / 1e9 > 2:
                        break
            assert loop.time() > 2
            frames.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await frames
            return worst

    def test_a_frame_in_pieces_does_not_hold_off_a_sensor(self) -> None:
        """A piece of 32 bytes takes 34 bytes' time, 3.06 ms; the sensor's own transfer 0.45 ms."""
        worst, pictures = [], []
        for options in ({}, {"split": 32, "advance": False}):
            with SimBoard({"device": [DISPLAY]}, clock=hwloop.VirtualClock()) as board:
                board.bus(1).attach(0x48, Memory())
                worst.append(play(board, self.sensor_beside_display(**options)))
                pictures.append(board["display"].text())
        assert worst[0] > 0.05
        assert worst[1] < 0.0031 + 0.0005
        assert pictures[0] == pictures[1]
        assert pictures[0].strip("⠀ \n")

    def test_pieces_go_to_the_registers_that_follow_or_to_the_same(self, board: SimBoard) -> None:
        async def main() -> None:
            memory = board.bus(1)[0x48]
            assert isinstance(memory, Memory)
            async with i2c.open(1) as bus:
                chip = bus.device(0x48, split=100)
                assert await chip.read_block(0, 256) == bytes(range(256))
                assert memory.written == [(0, 0), (100, 0), (200, 0)]
                memory.written.clear()
                await chip.write_block(10, bytes(210))
                assert memory.written == [(10, 100), (110, 100), (210, 10)]
                assert bytes(memory.bytes) == bytes(range(10)) + bytes(210) + bytes(range(220, 256))
                memory.written.clear()
                await bus.device(0x48, split=4, advance=False).write_block(7, b"123456789")
                assert memory.written == [(7, 4), (7, 4), (7, 1)]
                with pytest.raises(
                    ValueError, match="a block of 400 bytes from register 0x10 on ends behind register 0xff"
                ):
                    await chip.write_block(0x10, bytes(400))
                await chip.write_block(0, b"x" * 100)
                assert memory.written[-1] == (0, 100)

        play(board, main())

    @pytest.mark.parametrize("split", [0, -1, 2.5, True])
    def test_an_impossible_size_raises_at_once(self, board: SimBoard, split: Any) -> None:
        with pytest.raises((TypeError, ValueError), match="split is a"):
            i2c.open(1).device(0x48, split=split)


class TestRate:
    def test_operations_over_the_limit_wait_and_do_not_time_out(self, board: SimBoard) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with i2c.open(1, timeout=0.1) as bus:
                slow = bus.device(0x48, max_rate=2, split=10)
                began = loop.time()
                for _ in range(4):
                    await slow.read_block(0, 30)  # three transfers, one operation
                assert loop.time() - began == pytest.approx(1.5, abs=0.01)
                assert bus.statistics().addresses[0x48].transfers == 12
                burst = bus.device(0x48, max_rate=RateLimit(1, 3))
                began = loop.time()
                for _ in range(4):
                    await burst.read_register(0)
                assert loop.time() - began == pytest.approx(1, abs=0.01)
                with pytest.raises(ValueError, match="rate"):
                    bus.device(0x48, max_rate=0)

        play(board, main())


class TestTheLoop:
    def test_a_bus_that_hangs_at_random_delays_no_tick(self, board: SimBoard) -> None:
        """In virtual time a loop that waited for the bus would be late; its own work takes no time."""

        async def main() -> None:
            loop, ticks, late, failed = asyncio.get_running_loop(), 0, 0.0, 0
            chance = random.Random(3)
            async with i2c.open(1, timeout=0.5) as bus:
                chip = bus.device(0x48)

                async def read() -> None:
                    nonlocal failed
                    while True:
                        try:
                            await chip.read_block(0, 8)
                        except i2c.BusTimeoutError:
                            failed += 1
                        await asyncio.sleep(0.02)

                def hang() -> None:
                    board.bus(1).hang()
                    loop.call_later(1.0, board.bus(1).release)
                    loop.call_later(1.0 + chance.random(), hang)

                reading = asyncio.create_task(read())
                hang()
                began: float | None = None
                async for _ in hwloop.every(0.001):
                    began = loop.time() if began is None else began
                    late = max(late, abs(loop.time() - began - ticks * 0.001))
                    ticks += 1
                    if ticks == 4000:
                        break
                reading.cancel()
                assert bus.statistics().received > 50
            assert failed >= 2
            assert late < 1e-6

        play(board, main())


class TestStatistics:
    def test_each_address_has_its_own(self, board: SimBoard) -> None:
        async def main() -> None:
            async with i2c.open(1) as bus:
                chip, absent = bus.device(0x48), bus.device(0x50)
                await chip.read_block(0, 8)
                await chip.write_register(1, 2)
                await chip.transfer(b"\0", 4)
                with pytest.raises(HardwareError):
                    await absent.read_register(0)
                found = bus.statistics()
                assert list(found.addresses) == [0x48, 0x50]
                known, unknown = found.addresses[0x48], found.addresses[0x50]
                assert (known.transfers, known.errors, known.bytes) == (3, 0, 9 + 2 + 5)
                assert (unknown.transfers, unknown.errors, unknown.bytes) == (1, 1, 0)
                on_wire = (3 + 8) + 3 + (3 + 4)
                assert known.busy == pytest.approx(on_wire * 9 / 100_000, rel=0.05)
                assert known.longest < known.busy
                assert found.busy == pytest.approx(known.busy + unknown.busy)

        play(board, main())

    def test_a_late_answer_counts_for_its_address(self, board: SimBoard) -> None:
        async def main() -> None:
            async with i2c.open(1, timeout=0.1) as bus:
                chip = bus.device(0x48)
                board.bus(1).hang()
                with pytest.raises(i2c.BusTimeoutError):
                    await chip.read_register(0)
                board.bus(1).release()
                await asyncio.sleep(0.1)
                assert bus.statistics().addresses[0x48].transfers == 1
                assert bus.statistics().addresses[0x48].longest >= 0.1

        play(board, main())
