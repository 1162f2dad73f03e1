"""Thermometers on a 1-Wire bus, read on the loop."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import HardwareError, onewire
from hwloop import board as boards
from hwloop.boards.linux import LinuxBoard
from hwloop.onewire_files import OneWireFiles, SysfsFiles
from hwloop.sources.onewire.reading import ChecksumError, Measurement, parse

FIRST, SECOND = "28-000000000001", "28-000000000002"
GOOD = "50 01 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 01 4b 46 7f ff 0c 10 1c t=21000\n"
POWER_ON = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n"
BAD = "50 01 4b 46 7f ff 0c 10 1c : crc=3d NO\n50 01 4b 46 7f ff 0c 10 1c t=21000\n"


class Files(OneWireFiles):
    """Files with these texts for the reads of `FIRST`, or these errors."""

    def __init__(self, *texts: str | OSError) -> None:
        self.texts = list(texts)
        self.released: threading.Event | None = None

    def names(self) -> list[str]:
        return ["w1_bus_master1", SECOND, FIRST, "3a-000000000001", "00-400000000000"]

    def read(self, device: str, file: str) -> str:
        if self.released is not None:
            assert self.released.wait(30)
        assert (device, file) == (FIRST, "w1_slave")
        text = self.texts.pop(0)
        if isinstance(text, OSError):
            raise text
        return text


class Bench(boards.Board):
    def __init__(self, *texts: str | OSError) -> None:
        super().__init__()
        self.files = Files(*texts)

    def open_onewire(self) -> OneWireFiles:
        return self.files


def on_bench(main: Callable[[onewire.Bus], Coroutine[Any, Any, Any]], *texts: str | OSError, **options: Any) -> Any:
    board = Bench(*texts)

    async def opened() -> Any:
        async with onewire.open(**options) as bus:
            return await main(bus)

    result = hwloop.run(opened(), board=board)
    assert not board.files.texts
    return result


def simulated(main: Callable[[SimBoard], Coroutine[Any, Any, Any]], *temperatures: float) -> Any:
    clock = hwloop.VirtualClock()
    parts = [
        {"type": "ds18b20", "name": f"sensor{number}", "serial": number, "temperature": temperature}
        for number, temperature in enumerate(temperatures, 1)
    ]
    with SimBoard({"device": parts}, clock=clock) as board:
        return hwloop.run(main(board), board=board, clock=clock)


# The text of the kernel.


@pytest.mark.parametrize(
    ("text", "measured"),
    [
        (GOOD, (21.0, False)),
        (POWER_ON, (85.0, True)),
        (POWER_ON.replace("ff 0c", "ff 10"), (85.0, False)),
        ("f8 ff 4b 46 7f ff 0c 10 1c : crc=1c YES\nf8 ff 4b 46 7f ff 0c 10 1c t=-500\n", (-0.5, False)),
    ],
)
def test_a_reading_is_taken_from_the_text_of_the_kernel(text: str, measured: tuple[float, bool]) -> None:
    assert parse(text) == Measurement(*measured)


def test_a_text_without_a_reading_is_an_error() -> None:
    with pytest.raises(ChecksumError, match="wrong checksum: 50 01"):
        parse(BAD)
    with pytest.raises(ChecksumError, match="no valid answer"):
        parse("\n")
    with pytest.raises(ValueError, match=r"unknown format: '21000"):
        parse("21000\n")


# Reading.


def test_sensors_are_found_and_read_on_the_simulated_board() -> None:
    async def main(board: SimBoard) -> None:
        loop = asyncio.get_running_loop()
        async with onewire.open() as bus:
            sensors = await bus.sensors()
            assert [sensor.name for sensor in sensors] == [FIRST, SECOND]
            before = loop.time()
            assert await sensors[0].read() == 21.5
            assert 0.75 < loop.time() - before < 0.8
            assert await asyncio.gather(*(sensor.read() for sensor in sensors)) == [21.5, -10.125]
            assert bus.sensor(SECOND) is sensors[1]
            assert repr(sensors[1]) == f"<Sensor {SECOND}>"
            assert sensors[0].statistics() == (2, 0, 0, 0)
            assert bus.statistics().received == 4

    simulated(main, 21.5, -10.125)


def test_a_poll_reads_on_schedule_while_the_loop_goes_on() -> None:
    async def main(board: SimBoard) -> None:
        loop = asyncio.get_running_loop()
        start, ticks, found = loop.time(), 0, list[tuple[float, float]]()

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        async with onewire.open() as bus, asyncio.timeout(100):
            ticking = asyncio.create_task(tick())
            async for reading in bus.sensor(FIRST).poll(every=10):
                found.append((reading.value, round(reading.timestamp_ns / 1e9 - start, 3)))
                board["sensor1"].temperature += 1
                if len(found) == 3:
                    break
            ticking.cancel()
        assert found == [(20.0, 0.0), (21.0, 10.0), (22.0, 20.0)]
        assert ticks > 2000

    simulated(main, 20.0)


def test_a_wrong_checksum_is_read_again_and_counted() -> None:
    async def main(bus: onewire.Bus) -> onewire.SensorStatistics:
        sensor = bus.sensor(FIRST)
        assert await sensor.read() == 21.0
        return sensor.statistics()

    assert on_bench(main, BAD, "", GOOD) == (1, 2, 0, 0)


def test_checksums_that_stay_wrong_are_an_error() -> None:
    async def main(bus: onewire.Bus) -> onewire.SensorStatistics:
        with pytest.raises(
            HardwareError, match=f"1-Wire, sensor {FIRST}: .* wrong checksum.*; check the 4.7 kΩ pull-up"
        ):
            await bus.sensor(FIRST).read()
        return bus.sensor(FIRST).statistics()

    assert on_bench(main, BAD, BAD, BAD) == (0, 3, 0, 1)


def test_the_value_of_power_on_is_read_again_and_counted() -> None:
    async def main(bus: onewire.Bus) -> onewire.SensorStatistics:
        sensor = bus.sensor(FIRST)
        assert await sensor.read() == 21.0
        with pytest.raises(HardwareError, match="85 °C of power-on; its supply fails during the conversion"):
            await sensor.read()
        return sensor.statistics()

    assert on_bench(main, POWER_ON, GOOD, *[POWER_ON] * 3) == (1, 0, 4, 1)


def test_a_measured_85_degrees_is_believed_where_the_reading_before_was_near() -> None:
    near = GOOD.replace("t=21000", "t=80000")

    async def main(bus: onewire.Bus) -> list[float]:
        return [await bus.sensor(FIRST).read() for _ in range(2)]

    assert on_bench(main, near, POWER_ON) == [80.0, 85.0]


def test_disturbed_answers_of_the_simulated_sensor_are_read_again() -> None:
    async def main(board: SimBoard) -> None:
        board.onewire(4).shows_bad_checksums = True
        async with onewire.open() as bus:
            board["sensor1"].bad_checksums = 5  # the kernel gives up after as many tries
            assert await bus.sensor(FIRST).read() == 21.5
            assert bus.sensor(FIRST).statistics() == (1, 1, 0, 0)

    simulated(main, 21.5)


# Failures.


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOENT, "it is not there .*; check wiring and pull-up; `await bus.sensors\\(\\)` lists those that are"),
        (errno.EIO, "the kernel could not read it .Input/output error.; check wiring, pull-up and supply"),
    ],
)
def test_the_kernels_errors_say_what_to_check(number: int, message: str) -> None:
    async def main(bus: onewire.Bus) -> None:
        with pytest.raises(HardwareError, match=f"1-Wire, sensor {FIRST}: {message}") as caught:
            await bus.sensor(FIRST).read()
        assert caught.value.errno == number

    on_bench(main, OSError(number, "as asked"))


def test_another_text_is_an_error() -> None:
    async def main(bus: onewire.Bus) -> None:
        with pytest.raises(HardwareError, match=r"unknown format.*; is its driver w1_therm\?"):
            await bus.sensor(FIRST).read()

    on_bench(main, "nothing\n")


def test_a_sensor_that_is_unplugged_fails_and_comes_back() -> None:
    async def main(board: SimBoard) -> None:
        async with onewire.open() as bus:
            sensor = bus.sensor(FIRST)
            board["sensor1"].unplug()
            with pytest.raises(HardwareError, match="no valid answer"):
                await sensor.read()
            await asyncio.sleep(200)  # the kernel has forgotten it
            with pytest.raises(HardwareError, match="it is not there"):
                await sensor.read()
            assert await bus.sensors() == []
            board["sensor1"].replug()
            assert await sensor.read() == 21.5

    simulated(main, 21.5)


def test_a_read_that_hangs_times_out() -> None:
    async def main(bus: onewire.Bus) -> None:
        board = boards.current()
        assert isinstance(board, Bench)
        board.files.released = threading.Event()
        with pytest.raises(onewire.BusTimeoutError, match=r"no answer within 0.5 s; increase timeout="):
            await bus.sensor(FIRST).read()
        assert bus.suspect
        board.files.released.set()
        assert await bus.sensor(FIRST).read(timeout=10) == 21.0

    on_bench(main, GOOD, GOOD, timeout=0.5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("28-1", ValueError), ("3a-000000000001", ValueError), ("w1_bus_master1", ValueError), (28, TypeError)],
)
def test_a_name_that_is_no_thermometer_is_rejected(name: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="has a name such as '28-0316a2794b1c', not"):
        onewire.open().sensor(name)


def test_a_board_without_a_bus_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        for board, message in (
            (SimBoard(), "1-Wire: the simulated board has no 1-Wire bus; a part such as ds18b20 brings one"),
            (boards.Board(), "1-Wire: the board in use, board, has no 1-Wire buses"),
            (LinuxBoard(), "1-Wire: the kernel has no 1-Wire bus; enable one with dtoverlay=w1-gpio"),
        ):
            with board, boards.using(board), pytest.raises(HardwareError, match=message):
                onewire.open().open()

    monkeypatch.setattr("hwloop.boards.linux.SysfsFiles", lambda: SysfsFiles(str(tmp_path / "w1")))
    asyncio.run(main())


def test_the_files_of_a_machine_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w1_bus_master1").mkdir()
    (tmp_path / FIRST).mkdir()
    (tmp_path / FIRST / "w1_slave").write_text(GOOD)
    monkeypatch.setattr("hwloop.boards.linux.SysfsFiles", lambda: SysfsFiles(str(tmp_path)))

    async def main() -> None:
        with boards.using(LinuxBoard()):
            async with onewire.open(name="cellar") as bus:
                (sensor,) = await bus.sensors()
                assert await sensor.read() == 21.0
                assert bus.name == "cellar"
                with pytest.raises(HardwareError, match="it is not there"):
                    await bus.sensor(SECOND).read()

    asyncio.run(main())
