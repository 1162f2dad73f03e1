"""The simulated board plays by itself while the loop rests in virtual time, and what it does arrives at its time.

The button beside it moves about two thousand times a second, so the test would see a late event.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

import hwloop
from firmware_sim.board import SimBoard
from firmware_sim.trace import Trace
from hwloop import gpio, i2c, serial
from hwloop.core.clock import Clock
from hwloop.virtual.poller import VirtualPoller

pytest.importorskip("serial", reason="pip install pyserial")
pytest.importorskip("smbus2", reason="pip install smbus2")

BUSY = {"type": "button", "line": 5, "press_every": 0.001, "hold": 0.0005}
SENSOR = {"type": "bme280"}
GPS = {"type": "gps", "port": "/dev/ttyAMA0"}


class Stage:
    """A program that waits for one event of the board, planned for half a second after the start."""

    def __init__(self, board: SimBoard) -> None:
        self.board = board
        self.loop = asyncio.get_running_loop()
        self.came = asyncio.Event()
        self.pipe = os.pipe()

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        self.board.timeline.at(1_000_000_000 + round(seconds * 1e9), action)

    def call_soon(self) -> None:
        self.at(0.5, lambda: self.loop.call_soon(self.came.set))

    def threadsafe_call(self) -> None:
        self.at(0.5, lambda: self.loop.call_soon_threadsafe(self.came.set))

    def urgent_call(self) -> None:
        self.at(0.5, lambda: self.loop.call_soon_priority(hwloop.Priority.HIGH, self.came.set))  # type: ignore[attr-defined]

    def later_call(self) -> None:
        self.at(0.49, lambda: self.loop.call_later(0.01, self.came.set))

    def observed_line(self) -> None:
        self.board.line(6).observe(lambda level, when_ns: self.came.set())
        self.at(0.5, lambda: self.board.line(6).drive(0))

    def signal(self) -> None:
        self.loop.add_signal_handler(signal.SIGUSR1, self.came.set)
        self.at(0.5, lambda: os.kill(os.getpid(), signal.SIGUSR1))

    def pipe_of_the_real_world(self) -> None:
        self.loop.add_reader(self.pipe[0], self.came.set)
        self.at(0.5, lambda: os.write(self.pipe[1], b"x"))

    def claimed_pipe_that_nobody_announces(self) -> None:
        clock: Clock = self.board.clock
        clock.claim(self.pipe[0])
        self.pipe_of_the_real_world()

    def thread(self) -> None:
        def call() -> None:
            time.sleep(0.005)  # a computation
            self.loop.call_soon_threadsafe(self.came.set)

        self.at(0.5, lambda: threading.Thread(target=call).start())

    def close(self) -> None:
        self.loop.remove_signal_handler(signal.SIGUSR1)
        self.loop.remove_reader(self.pipe[0])
        for fd in self.pipe:
            self.board.clock.disclaim(fd)
            os.close(fd)


WAYS = [name for name, value in vars(Stage).items() if callable(value) and name not in ("__init__", "at", "close")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("timer", [True, False])
def test_an_event_of_the_board_reaches_a_resting_program_at_its_time(way: str, timer: bool) -> None:
    async def main(board: SimBoard) -> float:
        stage = Stage(board)
        try:
            getattr(stage, way)()
            async with asyncio.timeout(10 if timer else None):
                await stage.came.wait()
            return stage.loop.time()
        finally:
            stage.close()

    clock = hwloop.VirtualClock()
    with SimBoard({"device": [BUSY]}, clock=clock) as board:
        assert hwloop.run(main(board), board=board, clock=clock) == 1.5


def test_a_bus_thread_goes_on_when_the_board_releases_the_bus() -> None:
    async def main(board: SimBoard) -> float:
        board.bus(1).block("test")
        board.timeline.at(1_250_000_000, lambda: board.bus(1).unblock("test"))
        async with i2c.open(1) as bus:
            await bus.device(0x76).read_register(0xD0)
        return asyncio.get_running_loop().time()

    clock = hwloop.VirtualClock()
    with SimBoard({"device": [BUSY, SENSOR]}, clock=clock) as board:
        assert hwloop.run(main(board), board=board, clock=clock) == pytest.approx(1.25 + 4 * 9 / 100_000, abs=1e-9)


def test_a_resting_loop_polls_no_descriptor_for_events_that_do_not_concern_it(monkeypatch: pytest.MonkeyPatch) -> None:
    polls = 0

    async def main(board: SimBoard) -> int:
        nonlocal polls
        async with gpio.watch(17), serial.open("/dev/ttyAMA0", 9600):
            poller = asyncio.get_running_loop()._poller  # type: ignore[attr-defined]
            ready_now = poller._ready_now

            def counted() -> object:
                nonlocal polls
                polls += 1
                return ready_now()

            monkeypatch.setattr(poller, "_ready_now", counted)
            changes = board.line(5).changes
            await asyncio.sleep(0.9)  # before the receiver's first burst
            return board.line(5).changes - changes

    clock = hwloop.VirtualClock()
    with SimBoard({"device": [BUSY, GPS, {"type": "button", "line": 17}]}, clock=clock) as board:
        moved = hwloop.run(main(board), board=board, clock=clock)
    assert moved > 1700
    assert polls < moved / 20


async def station(board: SimBoard, note: Callable[[object], object]) -> None:
    """Watch a line, drive another one, and read a sensor and a receiver."""

    async def edges() -> None:
        async with gpio.watch(5) as button, gpio.output(6) as lamp:
            async for edge in button:
                lamp.set(edge.value)  # type: ignore[arg-type]
                note(edge)

    async def readings() -> None:
        async with i2c.open(1) as bus:
            async for reading in bus.poll(lambda: bus.device(0x76).read_block(0xF7, 8), every=0.05):
                note(reading)

    async def sentences() -> None:
        async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as port:
            async for sentence in port:
                note(sentence)

    async with asyncio.timeout(3):
        await asyncio.gather(edges(), readings(), sentences())


@pytest.mark.parametrize("seed", [None, 1])
def test_the_shorter_way_of_a_rest_gives_the_trace_of_the_longer_one(
    seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [{"type": "button", "line": 5, "press_every": 0.31, "hold": 0.1, "bounce": 0.005}, SENSOR, GPS]

    def play() -> list[str]:
        trace, clock, notes = Trace(), hwloop.VirtualClock(), list[str]()
        with SimBoard({"device": devices}, clock=clock, tracer=trace) as board, pytest.raises(TimeoutError):
            hwloop.run(station(board, lambda event: notes.append(repr(event))), board=board, clock=clock, seed=seed)
        return [*notes, *map(repr, trace)]

    class LongerWay(VirtualPoller):
        def _rest_with_board(self, timer: float) -> None:
            pass

    short = play()
    monkeypatch.setattr("hwloop.virtual.loop.VirtualPoller", LongerWay)
    assert play() == short
    assert len(short) > 300


def test_a_writer_goes_on_as_soon_as_a_slow_device_makes_room() -> None:
    async def main(board: SimBoard) -> float:
        board.serial("/dev/ttyAMA0").read_slowly(40_000)
        async with serial.open("/dev/ttyAMA0", 9600) as port:
            port.write(bytes(100_000))
            await port.flush()
            return asyncio.get_running_loop().time() - 1

    clock = hwloop.VirtualClock()
    with SimBoard({"device": [BUSY, {**GPS, "interval": 3600.0}]}, clock=clock) as board:
        took = hwloop.run(main(board), board=board, clock=clock, limit=60)
    assert 1.8 < took < 2.8  # 2.5 s, and the terminal takes some kilobytes at once


def test_jobs_that_the_loop_does_itself_are_counted_and_logged_as_others() -> None:
    async def main(board: SimBoard) -> tuple[int, int, list[str]]:
        async with i2c.open(1) as bus:
            chip = bus.device(0x76)
            for _ in range(3):
                await chip.read_register(0xD0)
            with pytest.raises(hwloop.HardwareError):
                await bus.device(0x50).read_register(0)
            before = bus.statistics()
            log: list[str] = []
            bus.add_callback(lambda job: log.append(f"{job.what} {job.ended_ns - job.began_ns}"))
            await chip.read_register(0xD0)
            return before.received, before.errors, log

    clock = hwloop.VirtualClock()
    with SimBoard({"device": [SENSOR]}, clock=clock) as board:
        assert hwloop.run(main(board), board=board, clock=clock) == (4, 1, ["address 0x76 360000"])


def test_a_job_whose_caller_gives_up_before_it_begins_is_never_done() -> None:
    async def main(board: SimBoard) -> int:
        async with i2c.open(1) as bus:
            await bus.device(0x76).read_register(0xD0)
            before = board.bus(1).transfers
            reading = asyncio.ensure_future(bus.device(0x76).read_register(0xD0))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.sleep(1)
            return board.bus(1).transfers - before

    trace, clock = Trace(), hwloop.VirtualClock()
    with SimBoard({"device": [SENSOR]}, clock=clock, tracer=trace) as board:
        assert hwloop.run(main(board), board=board, clock=clock) == 0


def test_a_job_that_waits_for_the_wire_is_given_up_at_its_time() -> None:
    async def main(board: SimBoard) -> list[float]:
        loop = asyncio.get_running_loop()
        times = []
        async with i2c.open(1, timeout=0.2) as bus:
            chip = bus.device(0x76)
            await chip.read_register(0xD0)  # the thread waits from now on
            board.bus(1).hang()
            for _ in range(2):
                began = loop.time()
                with pytest.raises(i2c.BusTimeoutError):
                    await chip.read_register(0xD0)
                times.append(loop.time() - began)
            board.bus(1).release()
        return times

    clock = hwloop.VirtualClock()
    with SimBoard({"device": [SENSOR]}, clock=clock) as board:
        assert hwloop.run(main(board), board=board, clock=clock) == pytest.approx([0.2, 0.2], abs=1e-9)
