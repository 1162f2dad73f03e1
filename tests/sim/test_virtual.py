"""The simulated board in virtual time: everything at its exact moment, and the same each time."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim.board import SimBoard
from firmware_sim.bus import Nack, RegisterDevice
from firmware_sim.devices.bme280 import Bme280
from firmware_sim.devices.modbus import crc16
from hwloop import gpio, i2c, serial
from hwloop.board import current, using
from hwloop.virtual import clock as virtual

pytest.importorskip("serial", reason="pip install pyserial")
pytest.importorskip("smbus2", reason="pip install smbus2")

START = virtual.START_NS
EXAMPLES = Path(__file__).parents[2] / "examples"

Main = Callable[[SimBoard], Coroutine[Any, Any, Any]]


def play(wiring: Mapping[str, object] | None, main: Main, seed: int | None = None) -> Any:
    clock = hwloop.VirtualClock()
    with SimBoard(wiring, clock=clock) as board:
        return hwloop.run(main(board), board=board, clock=clock, seed=seed)


def since_start(timestamp_ns: int) -> float:
    return (timestamp_ns - START) / 1e9


BUTTON = {"device": [{"type": "button", "line": 17, "press_every": 60.0, "hold": 0.5}]}
SENSOR = {"device": [{"type": "bme280", "address": 0x76}]}
GPS = {"device": [{"type": "gps", "port": "/dev/ttyAMA0"}]}
MODBUS = {"device": [{"type": "modbus-temperature", "port": "/dev/ttyUSB0", "baudrate": 19200}]}


def test_a_button_is_pressed_at_its_time_and_the_edge_is_read_then() -> None:
    async def main(board: SimBoard) -> list[hwloop.board.Edge]:
        async with gpio.watch(17, pull="up") as switch:
            return [await anext(switch) for _ in range(4)]

    edges = play(BUTTON, main)
    assert [(since_start(edge.timestamp_ns), edge.value) for edge in edges] == [
        (60, 0),
        (60.5, 1),
        (120, 0),
        (120.5, 1),
    ]
    assert all(edge.received_ns == edge.timestamp_ns for edge in edges)


def test_a_debounced_edge_comes_when_the_debounce_time_is_over() -> None:
    async def main(board: SimBoard) -> int:
        async with gpio.watch(17, pull="up", debounce=0.02) as switch:
            return (await anext(switch)).received_ns

    assert since_start(play(BUTTON, main)) == 60.02


def test_a_transfer_takes_its_time_on_the_wire() -> None:
    async def main(board: SimBoard) -> float:
        async with i2c.open(1) as bus:
            assert await bus.device(0x76).read_register(0xD0) == 0x60
        return asyncio.get_running_loop().time()

    # Two addresses, a register number and a value: four bytes of nine bits at 100 kHz.
    assert play(SENSOR, main) == START / 1e9 + 4 * 9 / 100_000


def test_the_loop_goes_on_while_the_bus_is_busy() -> None:
    async def main(board: SimBoard) -> list[float]:
        ticks = []
        async with i2c.open(1) as bus:
            read = asyncio.ensure_future(bus.device(0x76).read_block(0x88, 24))
            async for tick in hwloop.every(0.001):
                ticks.append(tick.lateness)
                if read.done():
                    return ticks
        raise AssertionError

    ticks = play(SENSOR, main)
    assert len(ticks) == 3  # 27 bytes take 2.43 ms
    assert not any(ticks)


def test_actions_during_a_transfer_run_at_their_time() -> None:
    async def main(board: SimBoard) -> list[float]:
        async with gpio.watch(17, pull="up") as switch, i2c.open(1) as bus:
            received: list[int] = []
            switch.on_edge(lambda edge: received.append(edge.received_ns))
            await asyncio.sleep(59.999)
            await bus.device(0x76).read_block(0x88, 24)
            assert asyncio.get_running_loop().time() > START / 1e9 + 60.001
            return [since_start(when_ns) for when_ns in received]

    assert play({"device": BUTTON["device"] + SENSOR["device"]}, main) == [60]


def test_a_timer_with_a_tolerance_is_not_slept_through_by_a_bus_thread() -> None:
    async def main(board: SimBoard) -> list[float]:
        loop: Any = asyncio.get_running_loop()
        ran: list[float] = []
        async with i2c.open(1, timeout=float("inf")) as bus:
            loop.call_tolerant(loop.time() + 0.0005, lambda: ran.append(loop.time()), tolerance=0.0005)
            await bus.device(0x76).read_block(0x88, 24)
        return ran

    (ran,) = play(SENSOR, main)
    assert START / 1e9 + 0.0005 <= ran <= START / 1e9 + 0.001


def test_a_hung_bus_is_given_up_after_a_virtual_second() -> None:
    async def main(board: SimBoard) -> float:
        loop = asyncio.get_running_loop()
        board.bus(1).hang()
        async with i2c.open(1, timeout=5) as bus:
            with pytest.raises(i2c.BusTimeoutError):
                await bus.device(0x76).read_register(0xD0)
            failed = loop.time()
            loop.call_later(0.25, board.bus(1).release)
            await bus.device(0x76).read_register(0xD0)
            return loop.time() - failed

    assert play(SENSOR, main) == pytest.approx(0.25 + 4 * 9 / 100_000, abs=1e-8)


def test_a_callers_deadline_passes_while_the_bus_hangs() -> None:
    async def main(board: SimBoard) -> float:
        board.bus(1).hang()
        async with i2c.open(1, timeout=0.2) as bus:
            with pytest.raises(i2c.BusTimeoutError):
                await bus.device(0x76).read_register(0xD0)
            when = asyncio.get_running_loop().time()
            assert bus.suspect
            board.bus(1).release()
        return when - START / 1e9

    assert play(SENSOR, main) == pytest.approx(0.2, abs=1e-8)


def test_two_transfers_on_one_wire_wait_for_each_other() -> None:
    async def main(board: SimBoard) -> float:
        async with i2c.open(1) as one, i2c.open(1, name="other") as other:
            values = await asyncio.gather(one.device(0x76).read_register(0xD0), other.device(0x76).read_register(0xD0))
            assert values == [0x60, 0x60]
        return asyncio.get_running_loop().time() - START / 1e9

    assert play(SENSOR, main) == pytest.approx(2 * 4 * 9 / 100_000, abs=1e-8)


def test_a_blocking_transfer_on_the_loops_own_thread_takes_time_too() -> None:
    async def main(board: SimBoard) -> float:
        with board.open_bus(1) as smbus:
            assert smbus.read_byte_data(0x76, 0xD0) == 0x60
        return asyncio.get_running_loop().time() - START / 1e9

    assert play(SENSOR, main) == pytest.approx(4 * 9 / 100_000, abs=1e-8)


def test_a_bus_job_that_computes_for_long_stops_the_clock_and_not_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "PATIENCE", 0.01)

    async def main(board: SimBoard) -> float:
        loop = asyncio.get_running_loop()

        def job(smbus: object) -> str:
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "answer"), loop).result(5)

        async with i2c.open(1) as bus:
            assert await bus.run(job) == "answer"
        return loop.time()

    assert play(SENSOR, main) == START / 1e9


class Witness(RegisterDevice):
    """Notes which thread reads it, and when (seconds since the start)."""

    def __init__(self, board: SimBoard, *, passive: bool) -> None:
        super().__init__()
        self.passive = passive
        self.seen: list[tuple[int, float]] = []
        self._now_ns = board.timeline.now_ns
        board.bus(1).attach(0x20, self)

    def read(self, count: int) -> bytes:
        self.seen.append((threading.get_ident(), since_start(self._now_ns())))
        return super().read(count)


async def read_both(bus: i2c.Bus) -> list[int]:
    chip = bus.device(0x20)
    return list(await asyncio.gather(chip.read_register(1), chip.read_register(2)))


def test_a_transfer_that_nothing_interrupts_is_made_without_a_threads_turn() -> None:
    async def main(board: SimBoard) -> None:
        witness = Witness(board, passive=True)
        async with i2c.open(1) as bus:
            for _ in range(3):
                await read_both(bus)
                await asyncio.sleep(0.001)
        # The thread was there first; afterwards the loop does it. Two bytes have passed when one is read, of four.
        here = threading.get_ident()
        assert [thread == here for thread, _ in witness.seen] == [False, False, True, True, True, True]
        assert [when for _, when in witness.seen[:3]] == pytest.approx([0.00018, 0.00054, 0.00190])

    play(None, main)


@pytest.mark.parametrize("disturbance", ["a timer", "a button", "a device that is not passive", "another transfer"])
def test_a_transfer_that_something_interrupts_is_left_to_its_thread(disturbance: str) -> None:
    async def main(board: SimBoard) -> None:
        loop = asyncio.get_running_loop()
        witness = Witness(board, passive=disturbance != "a device that is not passive")
        async with i2c.open(1) as bus, i2c.open(1, name="other") as other:
            await bus.device(0x20).read_register(1)
            seen: list[float] = []
            board.chip.line(5).observe(lambda level, when_ns: seen.append(when_ns / 1e9))
            start = loop.time()
            if disturbance == "a timer":
                loop.call_later(0.0002, lambda: seen.append(loop.time()))
            elif disturbance == "a button":
                board.timeline.after(0.0002, lambda: board.chip.line(5).drive(0))
            elif disturbance == "another transfer":
                await asyncio.gather(other.device(0x20).read_register(3), bus.device(0x20).read_register(2))
            await bus.device(0x20).read_register(2)
            if disturbance in ("a timer", "a button"):
                assert seen == [pytest.approx(start + 0.0002)]
                assert loop.time() == pytest.approx(start + 0.00036)
                assert witness.seen[-1][0] != threading.get_ident()
            elif disturbance == "another transfer":
                assert [thread != threading.get_ident() for thread, _ in witness.seen] == [True, True, True, False]
            else:
                assert witness.seen[-1][0] != threading.get_ident()
        assert board.bus(1).transfers == len(witness.seen)  # what was begun anew is counted once

    play(None, main)


def test_a_job_that_fails_in_place_tells_the_same_as_on_a_thread() -> None:
    class Refusing(Witness):
        def read(self, count: int) -> bytes:
            super().read(count)
            raise Nack

    async def main(board: SimBoard) -> str:
        witness = Refusing(board, passive=True)
        async with i2c.open(1) as bus:
            told = []
            for _ in range(2):
                with pytest.raises(hwloop.HardwareError) as caught:
                    await bus.device(0x20).read_register(1)
                told.append(str(caught.value))
        assert [thread == threading.get_ident() for thread, _ in witness.seen] == [False, True]
        assert told[0] == told[1]
        return told[0]

    assert "no answer" in play(None, main)


@pytest.mark.parametrize("seed", [None, *range(5)])
def test_threads_turns_or_none_the_trace_is_the_same(seed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace() -> list[str]:
        told: list[str] = []

        async def main(board: SimBoard) -> None:
            async def poll(name: str, every: float) -> None:
                async with i2c.open(1, name=name) as bus:
                    async for reading in bus.poll(lambda: bus.device(0x76).read_block(0xF7, 8), every=every):
                        told.append(f"{name} {reading}")

            async def watch() -> None:
                async with gpio.watch(17, pull="up") as switch:
                    async for edge in switch:
                        told.append(f"door {edge}")

            polls = [asyncio.ensure_future(it) for it in (poll("a", 0.0031), poll("b", 0.0047), watch())]
            async for tick in hwloop.every(0.0005):
                told.append(f"{tick}")
                if tick.scheduled > START / 1e9 + 0.1:
                    break
            for task in polls:
                task.cancel()
            await asyncio.wait(polls)

        button = {"type": "button", "line": 17, "press_every": 0.0173, "hold": 0.005, "bounce": 0.002}
        play({"device": [button, *SENSOR["device"]]}, main, seed)
        return told

    by_both = trace()
    monkeypatch.setattr(Bme280, "passive", False)
    assert by_both == trace()


def test_a_bus_that_is_left_open_ends_with_the_loop() -> None:
    async def main(board: SimBoard) -> None:
        bus = i2c.open(1).open()
        reading = asyncio.ensure_future(bus.device(0x76).read_register(0xD0))
        await asyncio.sleep(0.0001)
        assert not reading.done()  # it is on the wire

    before = threading.active_count()
    play(SENSOR, main)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and "I2C" in thread.name:
            thread.join(2)
    assert threading.active_count() == before


def test_a_receivers_bytes_arrive_at_the_pace_of_the_wire() -> None:
    async def main(board: SimBoard) -> list[tuple[int, int]]:
        async with serial.open("/dev/ttyAMA0", 9600) as port:
            return [(len(frame.data), frame.received_ns) for frame in [await anext(port) for _ in range(20)]]

    chunks = play(GPS, main)
    assert {size for size, _ in chunks} == {8}
    first = START + 1_000_000_000
    assert [when for _, when in chunks] == [first + round(8 * (number + 1) * 1e10 / 9600) for number in range(20)]


def test_a_request_is_answered_after_its_time_on_the_wire_the_silence_and_the_delay() -> None:
    request = bytes([1, 4, 0, 0, 0, 1])
    request += crc16(request)

    async def main(board: SimBoard) -> tuple[bytes, float]:
        async with serial.open("/dev/ttyUSB0", 19200, framing=serial.IdleGap(0.002)) as port:
            await asyncio.sleep(0.5)
            port.write(request)
            frame = await anext(port)
            return frame.data, asyncio.get_running_loop().time() - START / 1e9 - 0.5

    reply, took = play(MODBUS, main)
    assert reply[:5] == bytes([1, 4, 2, 0, 215])
    # 8 characters of 11 bits, 3.5 of silence, 5 ms; back come 7 of 10 bits. The framer then waits for its own gap.
    answered = (8 + 3.5) * 11 / 19200 + 0.005 + 7 * 10 / 19200
    assert answered < took < answered + 0.003


def test_nobody_will_ever_press_a_button_that_is_not_there() -> None:
    async def main(board: SimBoard) -> None:
        async with gpio.watch(17) as line, i2c.open(1) as bus, serial.open("/dev/ttyUSB0", 19200) as port:
            await bus.scan()
            await asyncio.gather(anext(line), anext(port))

    with pytest.raises(hwloop.DeadlockError, match=r"Channel\.wait, called from"):
        play(MODBUS, main)


def test_the_programs_effect_on_the_board_is_seen_at_the_same_instant() -> None:
    wiring = {"device": [{"type": "wire", "lines": [5, 6]}, {"type": "led", "line": 27}]}

    async def main(board: SimBoard) -> tuple[int, list[tuple[int, bool]]]:
        led: Any = board.devices[1]
        async with gpio.output(5) as out, gpio.watch(6) as line, gpio.output(27) as lamp:
            await asyncio.sleep(1)
            out.set(1)
            edge = await anext(line)
            await asyncio.sleep(1)
            lamp.set(1)
        return edge.received_ns, led.history

    received_ns, history = play(wiring, main)
    assert since_start(received_ns) == 1
    assert (START + 2_000_000_000, True) in history


def test_run_opens_the_board_on_its_own_clock() -> None:
    async def main() -> tuple[bool, float]:
        loop: Any = asyncio.get_running_loop()
        async with gpio.watch(5):
            await asyncio.sleep(1)
        return current().clock is loop.clock, loop.time() - START / 1e9

    assert hwloop.run(main(), clock="virtual", board="sim") == (True, 1)
    assert hwloop.run(main(), clock="virtual") == (True, 1)  # there is no other


def test_a_board_on_another_clock_raises() -> None:
    async def main() -> None:
        async with gpio.watch(17):
            pass

    with SimBoard() as board:
        coroutine = main()
        with pytest.raises(ValueError, match="not on the clock of this run"):
            hwloop.run(coroutine, clock="virtual", board=board)
        with (
            using(board),
            asyncio.Runner(loop_factory=hwloop.SimLoop) as runner,
            pytest.raises(hwloop.HardwareError, match="different clocks"),
        ):
            runner.run(main())


def weather_station() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("weather_station", EXAMPLES / "weather_station.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("weather_station", module)
    spec.loader.exec_module(module)
    return module


def trace_of(seconds: float, seed: int | None) -> str:
    station = weather_station()
    trace: list[str] = []

    def report(part: str, event: object) -> None:
        trace.append(f"{asyncio.get_running_loop().time()!r} {part} {event}\n")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await station.main(report)

    hwloop.run(main(), clock="virtual", board=str(EXAMPLES / "weather_station.toml"), seed=seed)
    return "".join(trace)


@pytest.mark.slow
def test_the_weather_station_gives_the_same_trace_for_the_same_seed() -> None:
    traces = [trace_of(1.3, seed) for seed in range(4)]
    assert traces == [trace_of(1.3, seed) for seed in range(4)]
    assert len(set(traces)) > 1
    for part in ("door", "climate", "position", "control"):
        assert f" {part} " in traces[0]


def test_seeds_change_the_order_and_not_what_the_board_did() -> None:
    def edges(trace: str) -> list[str]:
        return [line for line in trace.splitlines() if " door " in line]

    first, *others = (edges(trace_of(1.3, seed)) for seed in (None, 1, 2))
    assert len(first) > 5
    assert all(other == first for other in others)


def test_the_board_stands_still_before_the_loop_runs() -> None:
    clock = hwloop.VirtualClock()
    with SimBoard(BUTTON, clock=clock) as board:
        threads = [thread.name for thread in threading.enumerate()]
        assert "firmware" not in threads
        assert board.timeline.next_ns() == START + 60_000_000_000
        assert clock.now_ns() == START


def test_seeds_shuffle_equal_instants_of_two_watches() -> None:
    wiring = {"device": [{"type": "wire", "lines": [5, 6, 7]}]}

    async def main(board: SimBoard) -> tuple[str, ...]:
        seen: list[str] = []
        async with gpio.watch(6) as one, gpio.watch(7) as other, gpio.output(5) as out:
            one.on_edge(lambda edge: seen.append("one"))
            other.on_edge(lambda edge: seen.append("other"))
            for level in itertools.islice(itertools.cycle((1, 0)), 6):
                out.set(level)  # type: ignore[arg-type]
                await asyncio.sleep(1)
        return tuple(seen)

    orders = {play(wiring, main, seed) for seed in range(8)}
    assert len(orders) > 2
    assert play(wiring, main, 5) == play(wiring, main, 5)
