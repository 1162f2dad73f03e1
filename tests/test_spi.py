"""SPI devices on the loop, on the simulated bus."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.spi import Mode, SpiBus
from firmware_sim.spi_device import SpiDevice
from hwloop import HardwareError
from hwloop import board as boards
from hwloop.board import SpiDev, SpiRequest
from hwloop.sources import Backoff, spi
from hwloop.sources.spi import BusTimeoutError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Chip(SpiDevice):
    """Answers 1, 2, 3, … to the bytes of each selection. Notes what was sent, and fails or holds the bus on demand."""

    max_speed = 10_000_000

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.answered = 0
        self.selections = 0
        self.fails: BaseException | None = None
        self.released: threading.Event | None = None

    def begin(self) -> None:
        self.selections += 1
        self.answered = 0

    def transfer(self, sent: bytes) -> bytes:
        if self.released is not None:
            assert self.released.wait(30)
        if self.fails is not None:
            raise self.fails
        self.sent.append(sent)
        self.answered += len(sent)
        return bytes(number % 256 for number in range(self.answered - len(sent) + 1, self.answered + 1))


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, boards.using(board):
        yield board


@pytest.fixture
def wire(board: SimBoard) -> SpiBus:
    return board.spi(0)


@pytest.fixture
def chip(wire: SpiBus) -> Chip:
    chip = Chip()
    wire.attach(0, chip)
    return chip


@pytest.fixture
def other(wire: SpiBus) -> Chip:
    chip = Chip()
    wire.attach(1, chip)
    return chip


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")


def bus_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("SPI bus")]


# Transfers.


def test_bytes_are_exchanged_written_and_read(run: Run, chip: Chip) -> None:
    async def main() -> None:
        async with spi.open(0, 0, speed=10_000_000) as device:
            assert await device.transfer(b"\x0a\x0b") == b"\x01\x02"
            assert await device.transfer([1, 2, 3]) == b"\x01\x02\x03"
            await device.write(bytearray(b"abc"))
            assert await device.read(4) == b"\x01\x02\x03\x04"
            assert chip.sent == [b"\x0a\x0b", b"\x01\x02\x03", b"abc", bytes(4)]

    run(main())


def test_parts_of_a_message_keep_the_device_selected(run: Run, chip: Chip) -> None:
    async def main() -> None:
        async with spi.open(0, speed=10_000_000) as device:
            assert await device.write_read(b"\x9f", 3) == b"\x02\x03\x04"
            assert await device.message(b"\x05", 1, b"ab", 2) == [b"\x01", b"\x02", b"\x03\x04", b"\x05\x06"]
            assert chip.sent == [b"\x9f\0\0\0", b"\x05\0ab\0\0"]
            assert chip.selections == 2

    run(main())


def test_a_longer_transfer_is_made_of_several_messages(run: Run, chip: Chip) -> None:
    sent = os.urandom(10_000)

    async def main() -> None:
        async with spi.open(0, speed=10_000_000) as device:
            answer = await device.transfer(sent)
            assert len(answer) == 10_000
            assert answer[4094:4098] == b"\xff\x00\x01\x02"
            assert b"".join(chip.sent) == sent
            assert [len(piece) for piece in chip.sent] == [4096, 4096, 1808]
            assert chip.selections == 3
            for call in (device.message(sent), device.write_read(bytes(4000), 97)):
                with pytest.raises(ValueError, match="a message has at most 4096 bytes, not"):
                    await call

    run(main())


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda it: it.transfer(b""), ValueError, "a transfer has at least one byte"),
        (lambda it: it.transfer(5), TypeError, r"a transfer takes bytes, such as b'\\x01\\x80', not 5"),
        (lambda it: it.write("text"), TypeError, "takes bytes"),
        (lambda it: it.message(b"\x01", "text"), TypeError, "takes bytes"),
        (lambda it: it.write([256]), ValueError, "range"),
        (lambda it: it.read(0), ValueError, "a read has at least one byte, not 0"),
        (lambda it: it.read(1.0), TypeError, "a count of bytes is a whole number, .* write 1"),
        (lambda it: it.message(), ValueError, "a message has at least one part"),
        (lambda it: it.message(b"\x01", True), TypeError, "a count of bytes is a whole number"),
    ],
)
def test_impossible_transfers_are_rejected(run: Run, chip: Chip, call: Any, kind: type, message: str) -> None:
    async def main() -> None:
        async with spi.open(0) as device:
            with pytest.raises(kind, match=message):
                await call(device)
        assert not chip.sent

    run(main())


# Settings.


def test_the_settings_reach_the_bus(run: Run, board: SimBoard, chip: Chip) -> None:
    async def main() -> None:
        chip.modes = (2,)
        chip.max_speed = 2_000_000
        chip.cs_high = True
        chip.lsb_first = True
        options = {"mode": 2, "speed": 2_000_000, "cs_high": True, "lsb_first": True}
        async with spi.open(0, 0, **options) as device:
            assert await device.transfer(b"\x01\x80") == b"\x01\x02"
            assert chip.sent == [b"\x01\x80"]
            node = board.nodes.get("/dev/spidev0.0")
            assert (node.settings, node.speed) == (2 | Mode.CS_HIGH, 2_000_000)
        async with spi.open(0, 0) as device:  # the kernel keeps them: they are set anew
            assert (node.settings, node.speed) == (0, 500_000)

    run(main())


def test_words_that_the_controller_does_not_have_are_rejected(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        with pytest.raises(HardwareError, match=r"/dev/spidev0.0: .* bits_per_word = 16 .* words of 8 bits only"):
            spi.open(0, bits=16).open()
        assert bus_threads() == []

    run(main())


@pytest.mark.parametrize(
    ("arguments", "place"),
    [((0,), (0, 0)), ((0, 1), (0, 1)), (("/dev/spidev1.2",), (1, 2)), (("spidev0.1", 1), (0, 1)), (("1", 0), (1, 0))],
)
def test_a_device_is_known_by_its_bus_and_select_line_or_its_path(arguments: Any, place: tuple[int, int]) -> None:
    device = spi.open(*arguments)
    assert (device.request.bus, device.request.select) == place
    assert device.name == f"spi:{place[0]}.{place[1]}"


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        (("/dev/ttyS0",), {}, ValueError, "an SPI bus is a number such as 0, or '/dev/spidev0.1'"),
        (("/dev/spidev0.1", 0), {}, ValueError, "/dev/spidev0.1 has the select line 1, not 0"),
        ((0.0,), {}, TypeError, "an SPI bus is a whole number, .* write 0"),
        ((-1,), {}, ValueError, "have numbers from 0, not -1 and 0"),
        ((0, True), {}, TypeError, "a select line is a whole number"),
        ((0,), {"speed": 0}, ValueError, "speed must be 1 to 500_000_000 Hz, not 0"),
        ((0,), {"speed": "fast"}, TypeError, "speed is a number of Hz, such as 1_000_000, not 'fast'"),
        ((0,), {"mode": 4}, ValueError, "mode must be 0, 1, 2 or 3, not 4"),
        ((0,), {"bits": 7}, ValueError, "bits must be 8 to 32, not 7"),
        ((0,), {"cs_high": 1}, TypeError, "cs_high must be True or False, not 1"),
        ((0,), {"lsb_first": 1}, TypeError, "lsb_first must be True or False, not 1"),
        ((0,), {"timeout": 0}, ValueError, "a timeout is a number of seconds, more than 0, not 0"),
    ],
)
def test_impossible_arguments_are_rejected(arguments: Any, options: Any, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        spi.open(*arguments, **options)


def test_a_missing_device_raises_and_leaves_nothing(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        with pytest.raises(HardwareError, match=r"/dev/spidev3.0: .* its SPI devices are: spidev0.0, spidev0.1"):
            spi.open(3).open()
        assert bus_threads() == []

    run(main())


def test_a_board_without_spi_says_so(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(HardwareError, match=r"SPI device 0\.1: the board in use, board, has no SPI buses"):
            spi.open(0, 1).open()

    with boards.using(boards.Board()):
        run(main())


# The thread.


def test_the_devices_of_a_bus_share_its_thread_and_its_order(run: Run, chip: Chip, other: Chip) -> None:
    async def main() -> None:
        first, second = spi.open(0, 0), spi.open(0, 1)
        assert bus_threads() == []
        async with first, second:
            (thread,) = bus_threads()
            order: list[bytes] = []
            chip.sent = other.sent = order
            calls = [(first if number % 3 else second).write([number]) for number in range(20)]
            await asyncio.gather(*calls)
            assert order == [bytes([number]) for number in range(20)]
            async with spi.open(0, 0) as third:
                await third.write([1])
                assert bus_threads() == [thread]
            second.close()
            await first.write([2])
            assert bus_threads() == [thread]
        assert bus_threads() == []
        async with spi.open(0, 1) as again:
            assert await again.transfer([1]) == b"\x01"
        assert bus_threads() == []

    run(main())


def test_a_driver_runs_on_the_thread(run: Run, chip: Chip) -> None:
    def driver(device: SpiDev, count: int) -> tuple[str, list[int]]:
        return threading.current_thread().name, list(device.xfer2([0] * count))

    async def main() -> None:
        async with spi.open(0) as device:
            assert await device.run(driver, 2) == ("SPI bus 0", [1, 2])
            with pytest.raises(RuntimeError, match="raised StopIteration"):
                await device.run(lambda _: next(iter(())))

    run(main())


# Failures.


def test_a_hung_transfer_times_out_and_the_answer_is_discarded(run: Run, wire: SpiBus, chip: Chip) -> None:
    async def main() -> None:
        async with spi.open(0, timeout=0.5, name="adc") as device:
            wire.block("the test")
            with pytest.raises(BusTimeoutError, match=r"SPI device 0\.0, transfer of 1 bytes: no answer within 0.5 s"):
                await device.transfer([1])
            assert device.suspect
            with pytest.raises(BusTimeoutError, match=r"not begun within 0.5 s: transfer of 1 bytes is under way"):
                await device.read(1)
            wire.unblock("the test")
            await until(lambda: device.statistics().lost == 1)
            assert await device.transfer([2]) == b"\x01"
            assert not device.suspect
            assert chip.sent == [b"\x01", b"\x02"]
            statistics = device.statistics()
            assert (statistics.name, statistics.errors, statistics.lost) == ("adc", 2, 1)

    run(main())


def test_a_device_that_hangs_holds_up_its_neighbour_and_is_named(
    run: Run, wire: SpiBus, chip: Chip, other: Chip
) -> None:
    async def main() -> None:
        async with spi.open(0, 0, timeout=30) as first, spi.open(0, 1, timeout=0.02) as second:
            wire.block("the test")
            task = asyncio.create_task(first.transfer([1]))
            await until(lambda: wire.transfers)
            with pytest.raises(BusTimeoutError, match=r"not begun within 0.02 s: transfer of 1 bytes is under way"):
                await second.transfer([2])
            assert (first.suspect, second.suspect) == (False, False)
            second.close()  # does not wait for the other's transfer
            wire.unblock("the test")
            assert await task == b"\x01"
            assert not other.sent

    run(main())


def test_a_cancelled_transfer_that_has_not_begun_is_never_made(run: Run, wire: SpiBus, chip: Chip) -> None:
    async def main() -> None:
        async with spi.open(0) as device:
            wire.block("the test")
            under_way = asyncio.create_task(device.write([1]))
            queued = asyncio.create_task(device.write([2]))
            await until(lambda: wire.transfers)
            queued.cancel()
            under_way.cancel()
            await asyncio.gather(queued, under_way, return_exceptions=True)
            wire.unblock("the test")
            await device.write([3])
            assert chip.sent == [b"\x01", b"\x03"]
            assert device.statistics().lost == 1

    run(main())


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ETIMEDOUT, BusTimeoutError, "the controller did not finish the transfer"),
        (errno.EMSGSIZE, HardwareError, "more bytes than the kernel takes at once .* spidev.bufsiz"),
        (errno.EINVAL, HardwareError, "does not accept these settings"),
        (errno.ESHUTDOWN, HardwareError, "the bus is gone"),
        (errno.EIO, HardwareError, "the transfer failed"),
        (errno.ENOSPC, OSError, "as asked"),
    ],
)
def test_the_kernels_errors_say_what_to_check(run: Run, chip: Chip, number: int, kind: type, message: str) -> None:
    async def main() -> None:
        async with spi.open(0) as device:
            chip.fails = OSError(number, "as asked")
            with pytest.raises(kind, match=message) as caught:
                await device.transfer([1])
            assert caught.value.errno == number

    run(main())


def test_a_device_that_fails_again_and_again_is_reopened(run: Run, board: SimBoard, chip: Chip) -> None:
    restored: list[spi.Device] = []

    async def main() -> None:
        async with spi.open(0, mode=3, on_reopen=restored.append, reopen=Backoff(0.001, 1, 0.001)) as device:
            chip.fails = OSError(errno.EIO, "as asked")
            for _ in range(5):
                with pytest.raises(HardwareError):
                    await device.transfer([1])
            chip.fails = None
            board.nodes.get("/dev/spidev0.0").settings = 0
            assert device.statistics().reopened == 0
            assert await device.transfer([1]) == b"\x01"
            assert board.nodes.get("/dev/spidev0.0").settings == 3
            assert device.statistics().reopened == 1
            await until(lambda: restored == [device])

    run(main())


def test_closing_a_hung_bus_wakes_waiting_tasks_and_blocks_nothing(run: Run, wire: SpiBus, chip: Chip) -> None:
    async def main() -> None:
        device = spi.open(0).open()
        wire.block("the test")
        tasks = [asyncio.create_task(device.write([number])) for number in (1, 2)]
        await until(lambda: wire.transfers)
        device.close()
        for task in tasks:
            with pytest.raises(HardwareError, match="closed before there was an answer"):
                await task
        (thread,) = bus_threads()
        wire.unblock("the test")
        thread.join()

    run(main())


def test_the_end_of_the_block_waits_for_the_transfer_under_way(run: Run, wire: SpiBus, chip: Chip) -> None:
    async def main() -> None:
        async with spi.open(0) as device:
            wire.block("the test")
            under_way = asyncio.create_task(device.transfer([1]))
            await until(lambda: wire.transfers)
            asyncio.get_running_loop().call_later(0.01, wire.unblock, "the test")
        assert await under_way == b"\x01"
        with pytest.raises(RuntimeError, match=r"spi:0.0 is closed"):
            await device.transfer([1])
        assert bus_threads() == []

    run(main())


# As a source.


def test_each_device_counts_and_logs_its_own_transfers(run: Run, chip: Chip, other: Chip) -> None:
    logged: list[spi.Transaction] = []

    async def main() -> None:
        async with spi.open(0, 0) as first, spi.open(0, 1) as second:
            second.add_callback(logged.append)
            await first.write([1])
            await first.write([2])
            await second.read(3)
            assert (first.statistics().received, second.statistics().received) == (2, 1)
            assert [entry.what for entry in logged] == ["read of 3 bytes"]
            assert logged[0].began_ns <= logged[0].ended_ns
            assert repr(first) == "<Device spi:0.0 open>"

    run(main())


def test_a_poll_reads_on_schedule_in_virtual_time() -> None:
    readings: list[tuple[bytes, int]] = []

    async def main() -> None:
        async with spi.open(0, speed=1_000_000) as device:
            start_ns = round(asyncio.get_running_loop().time() * 1e9)
            async for reading in device.poll(lambda: device.read(2), every=0.1):
                readings.append((reading.value, reading.timestamp_ns - start_ns))
                if len(readings) == 3:
                    break

    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board:
        board.spi(0).attach(0, Chip())
        hwloop.run(main(), board=board, clock=clock)
    assert readings == [(b"\x01\x02", number * 100_000_000) for number in range(3)]


def test_a_board_that_returns_something_else_is_named(run: Run, board: SimBoard) -> None:
    class Wrong(boards.Board):
        def open_spi(self, request: SpiRequest) -> Any:
            return object()

    async def main() -> None:
        with boards.using(Wrong()), pytest.raises(TypeError, match=r"open_spi.* it must return an object of the class"):
            spi.open(0).open()

    run(main())
