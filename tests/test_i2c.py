"""I2C buses and devices on the loop, over smbus2's own SMBus on the simulated bus."""

from __future__ import annotations

import asyncio
import errno
import gc
import pathlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn

import pytest
import smbus2

from firmware_sim import SimBoard, i2c_dev
from firmware_sim.bus import Bus, RegisterDevice
from hwloop import HardwareError, Priority, create_task, new_event_loop
from hwloop import board as boards
from hwloop.sources import Backoff, i2c
from hwloop.sources.i2c import BusTimeoutError

ADDRESS = 0x40
ABSENT = 0x41
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Chip(RegisterDevice):
    """Register n holds n. Notes the registers that were asked for, and fails or holds the bus on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.registers[:] = bytes(range(256))
        self.asked: list[int] = []
        self.fails: int = 0
        self.released: threading.Event | None = None

    def write(self, data: bytes) -> None:
        if self.released is not None:
            assert self.released.wait(30)
        self.asked.append(data[0] if data else -1)
        if self.fails:
            raise OSError(self.fails, "as asked")
        super().write(data)


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board, boards.using(board):
        yield board


@pytest.fixture
def wire(board: SimBoard) -> Bus:
    wire = board.bus(1)
    wire.clock = 10_000_000
    return wire


@pytest.fixture
def chip(wire: Bus) -> Chip:
    chip = Chip()
    wire.attach(ADDRESS, chip)
    return chip


async def until(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")


def bus_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("I2C bus")]


# Devices.


def test_registers_blocks_and_words_are_read_and_written(run: Run, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            assert await device.read_register(0xD0) == 0xD0
            await device.write_register(0xD0, 7)
            assert chip.registers[0xD0] == 7
            assert await device.read_block(0x10, 3) == b"\x10\x11\x12"
            await device.write_block(0x20, b"abc")
            assert chip.registers[0x20:0x23] == b"abc"
            assert await device.read_word(0x10) == 0x1110
            assert await device.read_word(0x80, "big", signed=True) == 0x8081 - 0x10000
            await device.write_word(0x30, -2, "big", signed=True)
            assert chip.registers[0x30:0x32] == b"\xff\xfe"

    run(main())


def test_blocks_longer_than_smbus_allows_are_still_one_transfer(run: Run, wire: Bus, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            assert await device.read_block(0, 200) == bytes(range(200))
            await device.write_block(0x10, b"x" * 100)
        assert chip.registers[0x10:0x74] == b"x" * 100
        assert wire.transfers == 2

    run(main())


def test_bytes_go_out_and_come_in_without_a_register(run: Run, wire: Bus, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            await device.write(b"\x10")
            assert await device.read(2) == b"\x10\x11"
            before = wire.transfers
            assert await device.transfer(b"\x05", 2, b"\x20", 1) == [b"\x05\x06", b"\x20"]
            assert wire.transfers == before + 1

    run(main())


class Index:
    """A whole number of another kind, as numpy's are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def test_a_bus_and_an_address_may_be_given_as_they_are_written(run: Run, chip: Chip) -> None:
    async def main() -> None:
        for number in (1, "1", "i2c-1", "/dev/i2c-1", pathlib.Path("/dev/i2c-1"), Index(1)):
            async with i2c.open(number) as bus:  # type: ignore[arg-type]
                assert (bus.number, bus.name) == (1, "i2c:1")
                for address in (hex(ADDRESS), hex(ADDRESS).upper().replace("X", "x"), Index(ADDRESS)):
                    assert await bus.device(address).read_register(7) == 7  # type: ignore[arg-type]

    run(main())


def test_impossible_arguments_raise_before_anything_is_sent(run: Run, wire: Bus, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            for address in (0x02, 0x78, -1):
                with pytest.raises(ValueError, match="an I2C device has an address from 0x03 to 0x77, not"):
                    bus.device(address)
            for address in (118.0, None, True, b"0x76", [0x76]):
                with pytest.raises(TypeError, match=r"an I2C address is a whole number, such as 1 or 0x76, not"):
                    bus.device(address)  # type: ignore[arg-type]
            for text in ("76", "118", "", "GPIO2", "0x"):
                with pytest.raises(ValueError, match=r"an I2C address is a number such as 0x76, or '0x76' as text"):
                    bus.device(text)
            for register in ("0xF7", 1.0, None, True):
                with pytest.raises(TypeError, match=r"a register is a whole number, such as 1 or 0x76, not"):
                    await bus.device(ADDRESS).read_register(register)  # type: ignore[arg-type]
            device = bus.device(ADDRESS)
            for operation in (
                device.read_register(256),
                device.write_register(0, 256),
                device.write_register(-1, 0),
                device.read_block(0, 0),
                device.read_block(0, 8193),
                device.read_block(256, 1),
                device.write_block(0, bytes(8192)),
                device.write_word(0, 65536),
                device.write_word(0, -1),
                device.write_word(0, 0x8000, signed=True),
                device.read(0),
                device.write(b""),
                device.transfer(),
                device.transfer(*[1] * 43),
                bus.run(lambda smbus: None, timeout=0),
            ):
                with pytest.raises(
                    ValueError, match=r"0 to 255|0 to 65535|-32768 to 32767|1 to 8192|1 to 42|more than 0"
                ):
                    await operation
            for operation in (
                device.write("é"),  # type: ignore[arg-type]
                device.write(5),  # type: ignore[arg-type]
                device.write_block(0, "ab"),  # type: ignore[arg-type]
                device.transfer("ab", 2),  # type: ignore[arg-type]
            ):
                with pytest.raises(TypeError, match=r"a transfer takes bytes, such as b'\\x01\\x80', not ('é'|5|'ab')"):
                    await operation
        with pytest.raises(ValueError, match="timeout"):
            i2c.open(1, timeout=-1)
        with pytest.raises(ValueError, match="number from 0"):
            i2c.open(-1)
        for number in (1.0, None, True):
            with pytest.raises(TypeError, match=r"an I2C bus is a whole number, .* not"):
                i2c.open(number)  # type: ignore[arg-type]
        for text in ("", "-1", "/dev/ttyAMA0", "/dev/i2c-"):
            with pytest.raises(ValueError, match=r"an I2C bus is a number such as 1, or '/dev/i2c-1', not"):
                i2c.open(text)
        assert wire.transfers == 0

    run(main())


def test_a_scan_finds_the_devices_that_answer_and_asks_gently(run: Run, wire: Bus, chip: Chip) -> None:
    eeprom = Chip()
    wire.attach(0x50, eeprom)
    chip.fails = errno.EBUSY  # as the kernel says of an address that a driver of its own has

    async def main() -> None:
        async with i2c.open(1) as bus:
            assert await bus.scan() == [ADDRESS, 0x50]
            assert bus.statistics().reopened == 0

    run(main())
    assert chip.asked == [-1]
    assert eeprom.asked == []  # an EEPROM is read: a quick write could be the start of a real one


def test_a_scan_reads_where_the_adapter_has_no_quick_write(
    run: Run, chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2c_dev, "FUNCTIONS", i2c_dev.FUNCTIONS & ~smbus2.I2cFunc.SMBUS_QUICK)

    async def main() -> None:
        async with i2c.open(1) as bus:
            assert await bus.scan() == [ADDRESS]

    run(main())
    assert chip.asked == []


# Failures.


@pytest.mark.parametrize("number", [errno.EREMOTEIO, errno.ENXIO])
def test_no_answer_names_bus_and_address_and_says_what_to_check(run: Run, wire: Bus, number: int) -> None:
    wire.nack_errno = number

    async def main() -> None:
        async with i2c.open(1) as bus:
            with pytest.raises(HardwareError) as caught:
                await bus.device(ABSENT).read_register(0xD0)
            assert str(caught.value).startswith("I2C bus 1, address 0x41: no answer (")
            assert str(caught.value).endswith(
                "; check wiring and address; 'i2cdetect -y 1' lists the devices that answer"
            )
            assert caught.value.errno == number
            assert isinstance(caught.value.__cause__, OSError)
            assert bus.statistics().errors == 1

    run(main())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "in use by a kernel driver"),
        (errno.EAGAIN, "lost arbitration"),
        (errno.EIO, "the transfer failed"),
        (errno.ENODEV, "the bus is gone"),
        (errno.EPROTO, "broke the protocol"),
        (errno.EOPNOTSUPP, "the adapter can't do that"),
    ],
)
def test_the_kernels_error_is_put_in_words(run: Run, chip: Chip, number: int, words: str) -> None:
    chip.fails = number

    async def main() -> None:
        async with i2c.open(1) as bus:
            with pytest.raises(HardwareError, match=words) as caught:
                await bus.device(ADDRESS).read_register(1)
            assert caught.value.errno == number

    run(main())


def test_a_missing_bus_raises_and_leaves_nothing(run: Run, board: SimBoard) -> None:
    async def main() -> None:
        with pytest.raises(HardwareError, match=r"/dev/i2c-7: no such bus on the simulated board; its buses are: 1"):
            async with i2c.open(7):
                pass
        assert bus_threads() == []

    run(main())


def test_without_smbus2_the_error_names_the_package(run: Run, board: SimBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbus2", None)

    async def main() -> None:
        with pytest.raises(HardwareError, match="smbus2 is not installed"):
            i2c.open(1).open()

    run(main())


def test_a_thread_that_can_not_be_started_leaves_nothing_open(
    run: Run, board: SimBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="can't start"):
            i2c.open(1).open()

    run(main())


def test_it_can_be_used_only_while_open_once_and_on_its_own_loop(run: Run, chip: Chip) -> None:
    async def main() -> None:
        bus = i2c.open(1)
        with pytest.raises(RuntimeError, match="i2c:1 is not open; use 'async with'"):
            await bus.device(ADDRESS).read_register(1)
        with pytest.raises(RuntimeError, match="not open"):
            bus.poll(bus.scan, every=1).open()
        bus.open()
        with pytest.raises(RuntimeError, match="open already"):
            bus.open()
        coroutine = bus.device(ADDRESS).read_register(1)
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, coroutine)
        bus.close()
        bus.close()
        with pytest.raises(RuntimeError, match="i2c:1 is closed"):
            await bus.device(ADDRESS).read_register(1)
        with pytest.raises(RuntimeError, match="make a new one"):
            bus.open()
        assert bus_threads() == []

    run(main())


def test_two_buses_on_one_number_are_independent(run: Run, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as first, i2c.open(1, name="other") as second:
            values = await asyncio.gather(*(bus.device(ADDRESS).read_register(9) for bus in (first, second) * 5))
            assert values == [9] * 10
            assert len(bus_threads()) == 2

    run(main())


# The thread.


def test_no_thread_runs_before_open_or_after_the_end(run: Run, chip: Chip) -> None:
    async def main() -> None:
        bus = i2c.open(1)
        assert bus_threads() == []
        async with bus:
            assert [thread.daemon for thread in bus_threads()] == [True]
        assert bus_threads() == []

    run(main())


def test_jobs_run_in_order_on_one_thread_with_the_real_smbus(run: Run, chip: Chip) -> None:
    seen = []

    def driver(smbus: smbus2.SMBus, number: int, factor: int) -> int:
        seen.append((number, threading.current_thread(), type(smbus)))
        return smbus.read_byte_data(ADDRESS, number) * factor

    async def main() -> None:
        async with i2c.open(1) as bus:
            (thread,) = bus_threads()
            answers = await asyncio.gather(*(bus.run(driver, number, 2) for number in range(20)))
            assert answers == [number * 2 for number in range(20)]
            assert seen == [(number, thread, smbus2.SMBus) for number in range(20)]

    run(main())


def test_an_exception_of_a_driver_is_raised_where_it_is_awaited(run: Run, chip: Chip) -> None:
    def fail(smbus: smbus2.SMBus, error: BaseException) -> None:
        raise error

    async def main() -> None:
        async with i2c.open(1) as bus:
            for error in (
                ValueError("chip not found"),
                FileNotFoundError(2, "no calibration file"),
                HardwareError("a", "b"),
            ):
                with pytest.raises(type(error)) as caught:
                    await bus.run(fail, error)
                assert caught.value is error
            with pytest.raises(RuntimeError, match="raised StopIteration"):
                await bus.run(fail, StopIteration())
            with pytest.raises(HardwareError, match=r"I2C bus 1, .*fail: no answer"):
                await bus.run(fail, OSError(errno.EREMOTEIO, "Remote I/O error"))
            assert await bus.run(lambda smbus: "still here") == "still here"

    run(main())


def test_while_a_device_holds_the_bus_the_loop_goes_on(run: Run, chip: Chip) -> None:
    chip.released = threading.Event()
    ticks = 0

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 30:
                assert chip.released is not None
                chip.released.set()
            else:
                loop.call_later(0.001, tick)

        async with i2c.open(1, timeout=30) as bus:
            tick()
            assert await bus.device(ADDRESS).read_register(3) == 3
            assert ticks == 30

    run(main())


def test_a_hung_bus_hangs_neither_the_loop_nor_waiting_tasks(run: Run, wire: Bus, chip: Chip) -> None:
    wire.adapter_timeout = 30

    async def main() -> None:
        async with i2c.open(1, timeout=0.5) as bus:
            device = bus.device(ADDRESS)
            wire.hang()
            with pytest.raises(BusTimeoutError, match=r"address 0x40: no answer within 0.5 s; .*power-cycle") as caught:
                await device.read_register(1)
            assert isinstance(caught.value, TimeoutError)
            assert isinstance(caught.value, HardwareError)
            assert caught.value.errno == errno.ETIMEDOUT
            assert bus.suspect
            with pytest.raises(BusTimeoutError, match=r"not begun within 0\.5 s: address 0x40 is under way"):
                await device.read_register(2)
            wire.release()
            bus.timeout = 10
            await until(lambda: bus.statistics().lost)
            assert await device.read_register(3) == 3
            assert not bus.suspect
            assert chip.asked == [1, 3]
            statistics = bus.statistics()
            assert (statistics.errors, statistics.lost) == (2, 1)

    run(main())


def test_the_kernels_own_timeout_is_a_bus_timeout(run: Run, wire: Bus, chip: Chip) -> None:
    wire.adapter_timeout = 0.01
    wire.hang()

    async def main() -> None:
        async with i2c.open(1) as bus:
            with pytest.raises(BusTimeoutError, match="the kernel gave up on the transfer"):
                await bus.device(ADDRESS).read_register(1)

    run(main())


def test_a_timeout_can_be_set_for_each_run_and_turned_off(run: Run, board: SimBoard) -> None:
    over = threading.Event()

    def work(smbus: smbus2.SMBus) -> str:
        time.sleep(0.03)
        return "done"

    def hang(smbus: smbus2.SMBus) -> None:
        over.wait(30)  # longer than the loop may be late: an answer that came before it looked would be in time

    async def main() -> None:
        async with i2c.open(1, timeout=0.01) as bus:
            assert await bus.run(work, timeout=10) == "done"
            assert await bus.run(work, timeout=float("inf")) == "done"
            try:
                with pytest.raises(TimeoutError):
                    await bus.run(hang)
            finally:
                over.set()

    run(main())


def test_an_answer_that_came_while_the_loop_was_held_up_is_not_too_late(run: Run, chip: Chip) -> None:
    async def hold_up(bus: i2c.Bus) -> None:
        task = create_task(bus.device(ADDRESS).read_register(1), priority=Priority.INTERRUPT)
        await asyncio.sleep(0)  # as urgent as this one, it has begun
        time.sleep(0.012)
        while not chip.asked or (bus._access and bus._access.under_way):
            time.sleep(0.001)
        assert await task == 1
        assert not bus.suspect

    async def main() -> None:
        async with i2c.open(1, timeout=0.01) as bus:
            # A task so urgent that its timer goes before the bus's answers, where the loop knows priorities.
            await create_task(hold_up(bus), priority=Priority.INTERRUPT)

    run(main())


def test_a_job_cancelled_before_it_begins_is_never_done(run: Run, wire: Bus, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            wire.hang()
            first, second, third = (asyncio.create_task(device.read_register(number)) for number in (1, 2, 3))
            await until(lambda: wire.transfers)
            second.cancel()
            await asyncio.sleep(0)
            wire.release()
            assert await first == 1
            assert await third == 3
            assert second.cancelled()
            assert chip.asked == [1, 3]
            assert bus.statistics().lost == 0

    run(main())


def test_the_answer_to_a_job_cancelled_under_way_is_discarded(run: Run, wire: Bus, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            wire.hang()
            task = asyncio.create_task(device.read_register(1))
            await until(lambda: wire.transfers)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            wire.release()
            assert await device.read_register(2) == 2
            assert bus.statistics().lost == 1

    run(main())


def test_after_five_failures_in_a_row_the_bus_is_reopened(run: Run, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1, reopen=Backoff(1e-9, 1, 1e-9)) as bus:
            absent, device = bus.device(ABSENT), bus.device(ADDRESS)
            for _ in range(4):
                with pytest.raises(HardwareError):
                    await absent.read_register(0)
            await device.read_register(0)  # an answer ends the row
            for _ in range(5):
                with pytest.raises(HardwareError):
                    await absent.read_register(0)
            assert bus.statistics().reopened == 0
            for _ in range(5):
                with pytest.raises(HardwareError):
                    await absent.read_register(0)
            assert bus.statistics().reopened == 1
            await device.read_register(0)
            assert bus.statistics().reopened == 2

    run(main())


def test_a_drivers_own_errors_do_not_reopen_the_bus(run: Run, board: SimBoard) -> None:
    def fail(smbus: smbus2.SMBus) -> None:
        raise ValueError("the measurement makes no sense")

    async def main() -> None:
        async with i2c.open(1) as bus:
            for _ in range(6):
                with pytest.raises(ValueError, match="makes no sense"):
                    await bus.run(fail)
            assert bus.statistics().reopened == 0

    run(main())


class Unplugged(boards.Board):
    """A board whose bus can be opened as long as it is there."""

    label = "unplugged"
    open_edges = open_output = serial_port = None  # type: ignore[assignment]

    def __init__(self, inner: SimBoard) -> None:
        self.inner = inner
        self.there = True
        self.opened = 0

    def open_bus(self, bus: int) -> smbus2.SMBus:
        self.opened += 1
        if not self.there:
            raise HardwareError("/dev/i2c-1", "no such bus", errno=errno.ENOENT)
        return self.inner.open_bus(bus)


async def fail_five_times(bus: i2c.Bus) -> None:
    for _ in range(5):
        with pytest.raises(HardwareError, match="no answer"):
            await bus.device(ABSENT).read_register(0)


def test_between_two_attempts_to_reopen_the_bus_fails_at_once(run: Run, board: SimBoard, chip: Chip) -> None:
    async def main() -> None:
        outer = Unplugged(board)
        with boards.using(outer):
            bus = i2c.open(1, reopen=Backoff(30, 1, 30, jitter=0)).open()
        await fail_five_times(bus)
        outer.there = False
        with pytest.raises(HardwareError, match=r"^/dev/i2c-1: no such bus$"):
            await bus.device(ADDRESS).read_register(0)
        with pytest.raises(
            HardwareError, match=r"^I2C bus 1: it could not be reopened: .*; next attempt in 30.0 s"
        ) as caught:
            await bus.device(ADDRESS).read_register(0)
        assert caught.value.errno == errno.ENOENT
        assert outer.opened == 2
        bus.close()

    run(main())


def test_a_bus_that_comes_back_is_reopened(run: Run, board: SimBoard, chip: Chip) -> None:
    async def main() -> None:
        outer = Unplugged(board)
        with boards.using(outer):
            bus = i2c.open(1, reopen=Backoff(0.001, 1, 0.001)).open()
        await fail_five_times(bus)
        outer.there = False
        for _ in range(3):
            with pytest.raises(HardwareError, match="no such bus"):
                await bus.device(ADDRESS).read_register(0)
            await asyncio.sleep(0.002)
        assert outer.opened == 4
        outer.there = True
        assert await bus.device(ADDRESS).read_register(7) == 7
        assert bus.statistics().reopened == 1
        bus.close()

    run(main())


def test_a_hook_runs_once_the_bus_was_reopened_and_a_job_has_succeeded(run: Run, board: SimBoard, chip: Chip) -> None:
    async def main() -> None:
        seen = []

        async def set_up(bus: i2c.Bus) -> None:
            seen.append(await bus.device(ADDRESS).read_register(7))

        outer = Unplugged(board)
        with boards.using(outer):
            bus = i2c.open(1, reopen=Backoff(0.001, 1, 0.001), on_reopen=set_up).open()
        await fail_five_times(bus)
        outer.there = False
        with pytest.raises(HardwareError, match="no such bus"):
            await bus.device(ADDRESS).read_register(0)
        outer.there = True
        await asyncio.sleep(0.002)
        assert seen == []
        assert await bus.device(ADDRESS).read_register(7) == 7
        while not seen:
            await asyncio.sleep(0)
        assert await bus.device(ADDRESS).read_register(7) == 7
        assert seen == [7]
        bus.close()

    run(main())


@pytest.mark.parametrize("error", [ValueError("odd"), asyncio.CancelledError()], ids=["ValueError", "CancelledError"])
def test_a_bus_that_cannot_be_reopened_for_any_reason_says_so(
    run: Run, board: SimBoard, chip: Chip, error: BaseException
) -> None:
    async def main() -> None:
        outer = Unplugged(board)
        with boards.using(outer):
            bus = i2c.open(1, reopen=Backoff(30, 1, 30, jitter=0)).open()
        await fail_five_times(bus)
        outer.open_bus = lambda bus: (_ for _ in ()).throw(error)  # type: ignore[method-assign, assignment]
        with pytest.raises(type(error)):
            await bus.device(ADDRESS).read_register(0)
        with pytest.raises(HardwareError, match=f"could not be reopened: {type(error).__name__}"):
            await bus.device(ADDRESS).read_register(0)
        bus.close()

    run(main())


# The end.


def test_the_end_of_the_block_waits_for_the_transfer_under_way(run: Run, chip: Chip) -> None:
    chip.stretch = 0.05

    async def main() -> None:
        async with i2c.open(1) as bus:
            under_way = asyncio.create_task(bus.device(ADDRESS).read_register(1))
            queued = asyncio.create_task(bus.device(ADDRESS).read_register(2))
            await until(lambda: bus._access and bus._access.under_way)
            late = asyncio.create_task(bus.device(ADDRESS).read_register(3))  # begins when the block has ended
        assert bus_threads() == []
        with pytest.raises(RuntimeError, match="i2c:1 is closed"):
            await late
        assert await under_way == 1
        with pytest.raises(HardwareError, match="address 0x40: the bus was closed before there was an answer"):
            await queued
        assert chip.asked == [1]

    run(main())


def test_closing_a_hung_bus_wakes_waiting_tasks_and_blocks_nothing(run: Run, wire: Bus, chip: Chip) -> None:
    wire.adapter_timeout = 30

    async def main() -> None:
        bus = i2c.open(1).open()
        wire.hang()
        tasks = [asyncio.create_task(bus.device(ADDRESS).read_register(number)) for number in (1, 2)]
        await until(lambda: wire.transfers)
        bus.close()
        for task in tasks:
            with pytest.raises(HardwareError, match="closed before there was an answer"):
                await task
        (thread,) = bus_threads()  # the kernel has it; it ends by itself
        wire.release()
        thread.join()

    run(main())


def test_leaving_the_block_of_a_hung_bus_takes_no_longer_than_its_timeout(run: Run, wire: Bus, chip: Chip) -> None:
    wire.adapter_timeout = 30

    async def main() -> None:
        async with asyncio.timeout(10), i2c.open(1, timeout=0.5) as bus:
            wire.hang()
            with pytest.raises(BusTimeoutError):
                await bus.device(ADDRESS).read_register(1)
        (thread,) = bus_threads()
        wire.release()
        thread.join()

    run(main())


def test_a_cancelled_block_still_closes_its_bus(run: Run, wire: Bus, chip: Chip) -> None:
    async def body() -> None:
        async with i2c.open(1) as bus:
            wire.hang()
            await bus.device(ADDRESS).read_register(1)

    async def main() -> None:
        task = asyncio.create_task(body())
        await until(lambda: wire.transfers)
        task.cancel()
        await asyncio.sleep(0.001)
        task.cancel()  # while it waits for the transfer under way
        with pytest.raises(asyncio.CancelledError):
            await task
        threads = bus_threads()
        wire.release()
        for thread in threads:
            thread.join()

    run(main())


def test_a_bus_left_open_is_closed_with_its_loop(chip: Chip, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> i2c.Bus:
        bus = i2c.open(1).open()
        await bus.device(ADDRESS).read_register(1)
        return bus

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        bus = runner.run(main())
    assert bus.closed
    assert bus_threads() == []
    assert caplog.records == []


def test_nothing_is_kept_of_a_job_that_is_done(run: Run, board: SimBoard) -> None:
    class Driver:
        def sample(self, smbus: smbus2.SMBus) -> None:
            raise ValueError("with a traceback")

    async def main() -> None:
        async with i2c.open(1, timeout=60) as bus:
            driver = Driver()
            kept = weakref.ref(driver)
            with pytest.raises(ValueError, match="with a traceback"):
                await bus.run(driver.sample)
            del driver
            await until(lambda: gc.collect() >= 0 and kept() is None)

    run(main())


# As a source.


def test_the_bus_as_a_source_is_a_log_of_what_was_done(run: Run, chip: Chip) -> None:
    logged = []

    async def main() -> None:
        async with i2c.open(1) as bus:
            device = bus.device(ADDRESS)
            await device.read_register(1)
            assert bus.statistics().queued == 0  # nobody asked
            bus.add_callback(logged.append)
            await device.read_register(1)
            with pytest.raises(HardwareError):
                await bus.device(ABSENT).read_register(1)
            statistics = bus.statistics()
            assert (statistics.received, statistics.delivered, statistics.errors) == (3, 3, 1)
            assert [(entry.what, type(entry.error)) for entry in logged] == [
                ("address 0x40", type(None)),
                ("address 0x41", OSError),
            ]
            assert all(entry.began_ns <= entry.ended_ns for entry in logged)

    run(main())


def test_it_is_registered_with_its_name_and_priority(run: Run, chip: Chip) -> None:
    async def main() -> None:
        async with i2c.open(1, name="sensors", priority=Priority.HIGH) as bus:
            loop = asyncio.get_running_loop()
            if hasattr(loop, "sources"):
                assert loop.sources() == [bus]
            assert (bus.name, bus.priority, bus.statistics().name) == ("sensors", Priority.HIGH, "sensors")
            assert repr(bus) == "<Bus sensors open>"
            assert repr(bus.device(ADDRESS)) == "<I2C device 0x40 on sensors>"

    run(main())
