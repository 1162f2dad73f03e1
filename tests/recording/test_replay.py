"""Replays: the same inputs, the same outputs; and each thing that the program does differently is named."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from firmware_sim.replay import ReplayBoard, Script
from firmware_sim.trace import Trace
from hwloop import gpio, i2c, serial
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange, SerialData

BOARD = {
    "device": [
        {"type": "button", "line": 17, "press_every": 0.5, "bounce": 0.003, "hold": 0.1, "seed": 4},
        {"type": "led", "line": 27},
        {"type": "wire", "lines": [22, 24]},
        {"type": "gps", "port": "/dev/ttyAMA0"},
        {"type": "modbus-temperature", "port": "/dev/ttyUSB0", "reply_delay": 0.02},
        {"type": "bme280", "bus": 1},
    ]
}


def read_request():
    body = bytes([1, 4, 0, 0, 0, 1])
    crc = 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return body + struct.pack("<H", crc)


async def station(seconds=3.0):
    """Use everything that a board has; each output depends on inputs."""
    seen = []

    async def lamp():
        async with gpio.watch(17, pull="up") as door, gpio.output(27, initial=0, safe=0) as output:
            async for edge in door:
                output.set(1 - edge.value)
                seen.append((edge.value, edge.timestamp_ns))

    async def echo():
        async with gpio.output(22, initial=0) as trigger, gpio.watch(24) as wire:
            async for _ in hwloop.every(0.3):
                trigger.set(1)
                seen.append((await anext(wire)).value)
                trigger.set(0)
                seen.append((await anext(wire)).value)

    async def thermometer():
        async with serial.open("/dev/ttyUSB0", 19200, framing=serial.IdleGap()) as port:
            while True:
                port.write(read_request())
                seen.append((await anext(port)).data)
                await asyncio.sleep(0.2)

    async def position():
        async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps:
            async for line in gps:
                seen.append(line.data)

    async def climate():
        async with i2c.open(1) as bus:
            device = bus.device(0x76)
            async for _ in hwloop.every(0.25):
                seen.append(await device.read_block(0xF7, 8))
                if len(seen) % 5 == 0:
                    await device.write_register(0xF4, 0x25)
            await bus.device(0x50).read_register(0)

    async def absent():
        async with i2c.open(1) as bus:
            async for _ in hwloop.every(0.7):
                with pytest.raises(hwloop.HardwareError):
                    await bus.device(0x50).read_register(0)
                seen.append("absent")

    tasks = [asyncio.ensure_future(each()) for each in (lamp, echo, thermometer, position, climate, absent)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


def recorded(program, wiring=BOARD, seed=None):
    """Run a program in virtual time, and return its events, the board's state at the start, and its result."""
    trace = Trace()
    with SimBoard(wiring, clock=hwloop.VirtualClock()) as board:
        state, start_ns = board.snapshot(), board.clock.now_ns()
        board.tracer = trace
        result = hwloop.run(program, board=board, clock=board.clock, seed=seed)
    return list(trace), {"state": state, "start_ns": start_ns}, result


class Both:
    def __init__(self, *tracers):
        self.tracers = tracers

    def record(self, event):
        for tracer in self.tracers:
            tracer.record(event)


def replayed(program, events, about, seed=None, **options):
    trace = Trace()
    clock = hwloop.VirtualClock()
    options.setdefault("tolerance", 0.0)
    with ReplayBoard(Script(enumerate(events, 1), **about), clock=clock, **options) as board:
        board.tracer = Both(board.outputs, trace)
        result = hwloop.run(program, board=board, clock=clock, seed=seed)
        board.outputs.finish()
    return board, list(trace), result


def differences(program, events, about=None, **options):
    board, _, _ = replayed(program, events, about or {"start_ns": 1_000_000_000}, **options)
    return [(each.where, each.number, each.recorded, each.happened, each.further) for each in board.outputs.differences]


def of_port(events, port, direction):
    return [
        (event.when_ns, event.data)
        for event in events
        if isinstance(event, SerialData) and (event.port, event.direction) == (port, direction)
    ]


def assert_replays(times, seconds):
    events, about, seen = recorded(station(seconds), seed=7)
    assert {type(event) for event in events} >= {LineChange, SerialData, I2cTransfer}
    assert any(isinstance(event, I2cTransfer) and event.error for event in events)
    lines = [event for event in events if isinstance(event, LineChange)]
    for _ in range(times):
        board, again, seen_again = replayed(station(seconds), events, about, seed=7)
        assert board.outputs.differences == []
        assert seen_again == seen
        assert [event for event in again if isinstance(event, LineChange)] == lines
        for port in ("/dev/ttyAMA0", "/dev/ttyUSB0"):
            for direction in ("sent", "received"):
                assert of_port(again, port, direction) == of_port(events, port, direction)


def test_a_replay_makes_the_same_outputs_byte_for_byte():
    assert_replays(times=3, seconds=1.2)


@pytest.mark.slow
def test_a_replay_makes_the_same_outputs_fifty_times_in_a_row():
    assert_replays(times=50, seconds=3.0)


START = 1_000_000_000


def change(after, line, level, by="program"):
    return LineChange(START + round(after * 1e9), line, level, by)


def data(after, direction, content, port="/dev/ttyUSB0"):
    return SerialData(START + round(after * 1e9), port, direction, content)


def read_of(after, register, answer, error="", address=0x76):
    messages = (I2cMessage(address, "sent", bytes([register])), I2cMessage(address, "received", answer))
    start = START + round(after * 1e9)
    return I2cTransfer(start, start + 1_000_000, 1, messages, error)


async def blink(*steps):
    """Drive line 27: seconds to wait, and the level."""
    async with gpio.output(27, initial=0) as lamp:
        for pause, level in steps:
            await asyncio.sleep(pause)
            lamp.set(level)
        await asyncio.sleep(0.1)


BLINKED = [change(1, 27, 1), change(2, 27, 0), change(2.5, 27, 1)]


def test_a_level_that_differs_is_named_by_event_and_time():
    events = [change(0, 5, 1, "a part"), change(1, 27, 1), change(2, 27, 0)]
    board, _, _ = replayed(blink((1, 1), (0.5, 0), (0.5, 1)), events, {"start_ns": START}, tolerance=None)
    assert board.outputs.differences == []  # in the last second the program may be ahead
    events += [change(6, 5, 0, "a part")]
    [found] = differences(blink((1, 1), (0.5, 0), (0.5, 1), (3.5, 1)), events, tolerance=None)
    assert found == ("line 27", None, "", "the program drove it to 1", 0)
    program = blink((1, 1), (0.5, 1), (0.5, 0))
    assert differences(program, [change(1, 27, 1), change(2, 27, 0)]) == []


def test_a_time_that_differs_is_a_difference_beyond_the_tolerance():
    program = blink, (1, 1), (1.25, 0), (0.25, 1)
    found = ("line 27", 2, "the program drove it to 0", "the program did it 0.250000 s later", 1)
    assert differences(program[0](*program[1:]), BLINKED) == [found]
    assert differences(program[0](*program[1:]), BLINKED, tolerance=0.2) == [found]
    assert differences(program[0](*program[1:]), BLINKED, tolerance=0.3) == []
    assert differences(program[0](*program[1:]), BLINKED, tolerance=None) == []


def test_an_output_that_is_missing_is_named():
    found = ("line 27", 2, "the program drove it to 0", "the program did not do it", 1)
    assert differences(blink((1, 1)), BLINKED) == [found]


def test_an_output_that_was_not_recorded_is_named():
    [found] = differences(blink((1, 1), (1, 0), (0.5, 1), (0.1, 0)), BLINKED)
    assert found == ("line 27", None, "", "the program drove it to 0", 0)
    [found] = differences(blink((1, 1)), [])
    assert found == ("line 27", None, "", "the program drove it to 1", 0)


def test_the_pull_of_an_input_is_no_output():
    async def watch():
        async with gpio.watch(17, pull="up"):
            await asyncio.sleep(1)

    assert differences(watch(), []) == []


async def send(*pieces):
    async with serial.open("/dev/ttyUSB0", 19200) as port:
        for pause, piece in pieces:
            await asyncio.sleep(pause)
            port.write(piece)
            await port.drain()
        await asyncio.sleep(0.1)


def test_bytes_that_differ_are_named():
    events = [data(1, "sent", b"abc"), data(2, "sent", b"defg")]
    assert differences(send((1, b"abc"), (1, b"defg")), events) == []
    assert differences(send((1, b"ab"), (0.0, b"c"), (1, b"d"), (0, b"efg")), events) == []
    [found] = differences(send((1, b"abc"), (1, b"deXg")), events)
    assert found == ("/dev/ttyUSB0", 2, "the program sent 'defg'", "the program sent 'deXg'", 0)
    [found] = differences(send((1, b"abc"), (1, b"def")), events)
    assert found == ("/dev/ttyUSB0", 2, "the program sent 'defg'", "the program did not do it", 0)
    [found] = differences(send((1, b"abc"), (1, b"defgh")), events)
    assert found == ("/dev/ttyUSB0", None, "", "the program sent 'h'", 0)


async def read_registers(*registers, pause=0.1, address=0x76):
    found = []
    async with i2c.open(1) as bus:
        for register in registers:
            await asyncio.sleep(pause)
            try:
                found.append(await bus.device(address).read_block(register, 2))
            except hwloop.HardwareError as error:
                found.append(error.errno)
    return found


READ = [read_of(0.1, 1, b"ab"), read_of(0.2, 2, b"", "EREMOTEIO"), read_of(0.3, 3, b"cd")]


def test_transfers_have_the_recorded_answers_and_errors():
    board, _, found = replayed(read_registers(1, 2, 3), READ, {"start_ns": START}, tolerance=None)
    assert board.outputs.differences == []
    assert found == [b"ab", 121, b"cd"]
    assert board.outputs.matched == 3


def test_a_transfer_that_was_not_recorded_is_not_acknowledged_and_named():
    events = [*READ, change(5, 5, 1, "a part")]
    board, _, found = replayed(read_registers(1, 9, 2, 3), events, {"start_ns": START}, tolerance=None)
    assert found == [b"ab", 121, 121, b"cd"]
    [difference] = board.outputs.differences
    assert (difference.where, difference.number) == ("i2c 1 0x76", 2)
    assert difference.recorded == "the program made i2c 1 0x76 w 02 r EREMOTEIO"
    assert difference.happened == "the program made i2c 1 0x76 w 09 r 2 bytes"


def test_transfers_that_the_program_leaves_out_are_named_and_the_rest_is_answered():
    board, _, found = replayed(read_registers(1, 3), READ, {"start_ns": START}, tolerance=None)
    assert found == [b"ab", b"cd"]
    [difference] = board.outputs.differences
    assert (difference.number, difference.happened) == (2, "the program did not do it")


def test_another_device_of_the_bus_may_be_earlier_or_later():
    async def both():
        return await asyncio.gather(read_registers(1, pause=0.2), read_registers(8, pause=0.1, address=0x40))

    events = [read_of(0.1, 1, b"ab"), read_of(0.2, 8, b"xy", address=0x40)]
    board, _, found = replayed(both(), events, {"start_ns": START}, tolerance=None)
    assert (found, board.outputs.differences) == ([[b"ab"], [b"xy"]], [])


def test_nothing_is_compared_on_request():
    events = [*READ, *BLINKED, data(3, "sent", b"abc")]

    async def program():
        await send((0.1, b"xyz"))
        await blink((0.1, 1), (0.1, 0))
        return await read_registers(1, 9)

    board, _, found = replayed(program(), events, {"start_ns": START}, compares=False)
    assert found == [b"ab", 121]
    assert board.outputs.differences == []


async def ask(after, questions=1):
    """Send questions, and return the answers that come within half a second."""
    answers = []
    async with serial.open("/dev/ttyUSB0", 19200) as port:
        await asyncio.sleep(after)
        for _ in range(questions):
            port.write(b"?")
            asked = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(0.5):
                    answers.append((await anext(port)).data)
            except TimeoutError:
                answers.append(None)
            answers.append(round(asyncio.get_running_loop().time() - asked, 6))
    return answers


ASKED = [data(1, "sent", b"?"), data(1.02, "received", b"!"), data(1.02, "sent", b"?"), data(1.05, "received", b"!!")]


@pytest.mark.parametrize("after", [0.2, 1.0, 1.7])
def test_an_answer_comes_after_its_question_whenever_the_program_asks(after):
    board, _, answers = replayed(ask(after, 2), ASKED, {"start_ns": START}, tolerance=None)
    assert answers == [b"!", 0.02, b"!!", 0.03]
    assert board.outputs.differences == []


def test_an_output_that_never_comes_is_waited_for_only_once():
    events = [change(1, 27, 1), change(1.1, 17, 1, "a part"), change(1.2, 27, 0), change(1.3, 17, 0, "a part")]

    async def watch():
        async with gpio.watch(17) as line:
            return [(await anext(line)).timestamp_ns - START for _ in range(2)]

    for tolerance, late in ((None, 1_000_000_000), (0.0, 1), (0.05, 50_000_001)):
        board, _, (first, second) = replayed(watch(), events, {"start_ns": START}, tolerance=tolerance)
        assert first == 1_100_000_000 + late
        assert second == 1_300_000_000 + (late if tolerance is None else 0)
        assert [each.number for each in board.outputs.differences] == [1]


def test_lines_that_are_joined_are_joined_again():
    async def loop_back():
        async with gpio.output(22, initial=0) as output, gpio.watch(24) as line:
            output.set(1)
            return (await anext(line)).value

    wiring = {"device": [{"type": "wire", "lines": [22, 24]}]}
    events, about, _ = recorded(loop_back(), wiring)
    board, again, value = replayed(loop_back(), events, about)
    assert (board.outputs.differences, value) == ([], 1)
    assert again == events != []


def test_a_line_that_both_sides_drive_has_no_short_circuit():
    """As the one wire of a DHT22: the program pulls it low and lets go, and the sensor answers on it."""
    events = [
        change(0.1, 4, 0),
        change(0.2, 4, 1),
        change(0.21, 4, 0, "the sensor"),
        change(0.22, 4, 1, "the sensor"),
    ]

    async def ask_sensor():
        async with gpio.output(4, initial=1, drive="open-drain") as line:
            await asyncio.sleep(0.1)
            line.set(0)
            await asyncio.sleep(0.1)
            line.set(1)
            await asyncio.sleep(0.015)
            low = line.value
            await asyncio.sleep(0.1)
            return low, line.value

    board, again, levels = replayed(ask_sensor(), events, {"start_ns": START})
    assert (board.outputs.differences, levels, board.chip.short_circuits) == ([], (0, 1), 0)
    assert again == events


def test_a_recording_of_a_real_board_begins_with_its_first_use():
    """Its first events show the levels from before, and what it had is not known: any port, bus and chip opens."""
    hour = 3_600_000_000_000
    events = [
        LineChange(hour + 500_000_000, 17, 0, "outside"),
        LineChange(hour + 500_000_100, 27, 1, "program"),
        SerialData(hour + 600_000_000, "/dev/serial/by-id/gps", "received", b"$GPGGA\n"),
    ]

    async def main():
        await asyncio.sleep(30)
        async with (
            gpio.watch(17, pull="up", chip="pinctrl-rp1") as door,
            gpio.output(27, chip="pinctrl-rp1") as lamp,
            serial.open("/dev/serial/by-id/gps", framing=serial.Lines()) as gps,
            serial.open("/dev/ttyS7"),
            i2c.open(3),
        ):
            before = door.level(17)
            edge = await anext(door)
            lamp.set(1)
            return before, edge.value, edge.timestamp_ns - hour, (await anext(gps)).data

    clock = hwloop.VirtualClock()
    clock.jump(hour)
    with ReplayBoard(Script(enumerate(events, 1), start_ns=hour, simulated=False), clock=clock) as board:
        result = hwloop.run(main(), board=board, clock=clock)
        board.outputs.finish()
    assert result == (1, 0, 30_500_000_000, b"$GPGGA")
    assert board.outputs.differences == []


def test_a_port_that_a_simulated_board_lacked_is_still_missing():
    async def main():
        with pytest.raises(hwloop.HardwareError, match="no such port"):
            await send((0, b"x"))
        with pytest.raises(hwloop.HardwareError, match="no such bus"):
            await read_registers(1)

    replayed(main(), [], {"start_ns": START})


def test_a_reading_that_an_observer_of_the_bus_makes_is_replayed_on_a_thread():
    """A transfer is done in one step where nothing else happens meanwhile, and with the same effect where it does."""
    events = [read_of(0.1, 1, b"ab"), change(0.1005, 17, 1, "a part"), read_of(0.2, 2, b"cd")]

    async def main():
        async with gpio.watch(17) as line:
            found = await read_registers(1, 2)
            return found, (await anext(line)).timestamp_ns - START

    board, _, found = replayed(main(), events, {"start_ns": START}, tolerance=None)
    assert found == ([b"ab", b"cd"], 100_500_000)
    assert board.outputs.differences == []


def test_a_device_that_is_written_to_gets_what_was_recorded():
    class Recorded(RegisterDevice):
        pass

    async def main(value):
        async with i2c.open(1) as bus:
            with contextlib.suppress(hwloop.HardwareError):
                await bus.device(0x20).write_register(5, value)

    trace = Trace()
    with SimBoard(clock=hwloop.VirtualClock()) as board:
        board.bus(1).attach(0x20, Recorded())
        board.tracer = trace
        hwloop.run(main(7), board=board, clock=board.clock)
    assert differences(main(7), trace) == []
    [found] = differences(main(8), trace)
    assert found[:3] == ("i2c 1 0x20", 1, "the program made i2c 1 0x20 w 05 07")
    assert found[3] == "the program made i2c 1 0x20 w 05 08"
