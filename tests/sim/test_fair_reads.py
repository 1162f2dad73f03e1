"""A line changes when that was planned: a program that looks at the board finds all that is due, whoever is late.

The board's thread is starved on purpose: the program's thread holds the board's lock until long after the moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gpiozero
import pytest

import hwloop
from firmware_sim import SimBoard, imports
from firmware_sim.bus import RegisterDevice
from firmware_sim.devices.pin_parts import Button, Led
from firmware_sim.trace import Trace
from hwloop import gpio
from hwloop.pins import LoopFactory
from hwloop.requests import OutputRequest
from hwloop.trace_events import LineChange, SerialData

LATE = 0.003
"""Seconds for which the board's thread is kept from running."""

Look = Callable[[], int]


@contextlib.contextmanager
def starved(board: SimBoard) -> Iterator[None]:
    """Keep the board's thread from running in this block."""
    with board.timeline.lock:
        yield


def wait_past(board: SimBoard, when_ns: int) -> None:
    while board.timeline.now_ns() <= when_ns:
        time.sleep(0.0005)


# Each way of reading line 17. Each yields a function that returns the level.


@contextlib.contextmanager
def lgpio_gpio_read(board: SimBoard) -> Iterator[Look]:
    handle = board.lgpio.gpiochip_open(0)
    board.lgpio.gpio_claim_input(handle, 17)
    yield lambda: board.lgpio.gpio_read(handle, 17)


@contextlib.contextmanager
def lgpio_group_read(board: SimBoard) -> Iterator[Look]:
    handle = board.lgpio.gpiochip_open(0)
    board.lgpio.group_claim_input(handle, [4, 17])
    yield lambda: board.lgpio.group_read(handle, 4)[1] >> 1


@contextlib.contextmanager
def lgpio_read_of_an_alert(board: SimBoard) -> Iterator[Look]:
    handle = board.lgpio.gpiochip_open(0)
    board.lgpio.gpio_claim_alert(handle, 17, 3, notify_handle=board.lgpio.notify_open())
    yield lambda: board.lgpio.gpio_read(handle, 17)


@contextlib.contextmanager
def gpiozero_on_hwloop(board: SimBoard) -> Iterator[Look]:
    with LoopFactory(board) as factory, gpiozero.DigitalInputDevice(17, pin_factory=factory) as device:
        yield lambda: device.value


@contextlib.contextmanager
def gpiozero_on_lgpio(board: SimBoard) -> Iterator[Look]:
    module = "gpiozero.pins.lgpio"
    before = sys.modules.pop(module, None)
    try:
        with imports.led_to(board):
            from gpiozero.pins.lgpio import LGPIOFactory

            factory = LGPIOFactory(chip=0)
            with gpiozero.DigitalInputDevice(17, pin_factory=factory) as device:
                yield lambda: device.value
            factory.close()
    finally:
        del sys.modules[module]  # it has the lgpio of this board
        if before is not None:
            sys.modules[module] = before


@contextlib.contextmanager
def unclaimed(board: SimBoard) -> Iterator[Look]:
    # An output without an initial level goes on with the level that it finds.
    yield lambda: board.open_output(OutputRequest(17, consumer="test", initial=None)).get()


@contextlib.contextmanager
def line_of_the_board(board: SimBoard) -> Iterator[Look]:
    yield lambda: board.line(17).level


@contextlib.contextmanager
def led_of_the_board(board: SimBoard) -> Iterator[Look]:
    led = Led(17)
    led.attach(board)
    yield lambda: led.lit


WAYS = [
    lgpio_gpio_read,
    lgpio_group_read,
    lgpio_read_of_an_alert,
    gpiozero_on_hwloop,
    gpiozero_on_lgpio,
    unclaimed,
    line_of_the_board,
    led_of_the_board,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_read_finds_all_that_is_due(way: Any) -> None:
    with SimBoard() as board, way(board) as look:
        line = board.line(17)
        line.drive(0)
        if way is not unclaimed:  # it drives the line from its first look on
            assert look() == 0
        with starved(board):
            due_ns = board.timeline.now_ns() + round(LATE * 1e9)
            board.timeline.at(due_ns, lambda: line.drive(1))
            board.timeline.at(due_ns + 1000, lambda: line.drive(0))
            board.timeline.at(due_ns + 2000, lambda: line.drive(1))
            wait_past(board, due_ns + 2000)
            assert look() == 1
        assert line.changes == 3


def test_a_read_of_the_bus_finds_all_that_is_due() -> None:
    with SimBoard() as board:
        chip = RegisterDevice()
        board.bus(1).attach(0x40, chip)
        bus = board.open_bus(1)
        with starved(board):
            due_ns = board.timeline.now_ns() + round(LATE * 1e9)
            board.timeline.at(due_ns, lambda: chip.write_register(5, 99))
            wait_past(board, due_ns)
            assert bus.read_byte_data(0x40, 5) == 99
        bus.close()


def test_a_press_comes_after_a_release_that_was_due() -> None:
    with SimBoard({"device": [{"type": "button", "line": 17, "hold": 0.001, "resistor": True}]}) as board:
        [button] = board.devices
        assert isinstance(button, Button)
        with starved(board):
            before = board.line(17).changes
            button.click()
            wait_past(board, board.timeline.now_ns() + 2_000_000)
            button.press()  # the release of the click was due before
            assert button.pressed
        assert board.line(17).changes == before + 3


def test_edges_and_serial_data_carry_the_time_for_which_they_were_planned() -> None:
    trace = Trace()
    with SimBoard({"device": [{"type": "gps", "port": "gps"}]}, tracer=trace) as board:
        port, line = board.serial("gps"), board.line(17)
        with starved(board):
            begin_ns = board.timeline.now_ns()
            for number in range(4):
                level = number % 2
                board.timeline.at(begin_ns + 1_000_000 + 100_000 * number, lambda level=level: line.drive(level))
            board.timeline.at(begin_ns + 500_000, lambda: port.send(bytes(24), 115200))
            wait_past(board, begin_ns + 8_000_000)
            board.timeline.catch_up()
    edges = [(change.when_ns - begin_ns, change.level) for change in trace.of(LineChange)]
    assert edges == [(1_100_000, 1), (1_200_000, 0), (1_300_000, 1)]
    sent = [(data.when_ns - begin_ns, len(data.data)) for data in trace.of(SerialData)]
    character = 10e9 / 115200
    assert sent == [(500_000 + round(end * character), size) for end, size in ((11, 11), (22, 11), (24, 2))]
    ordered = [event.when_ns for event in trace if isinstance(event, LineChange | SerialData)]
    assert ordered == sorted(ordered)


# A sensor on one wire, beside a busy process.


class Dht22:
    """Answers on its line with 40 bits once the line has been low for a millisecond (Aosong, AM2302 data sheet)."""

    def __init__(self, board: SimBoard, number: int, bits: str) -> None:
        self._timeline, self._line, self._bits = board.timeline, board.line(number), bits
        self._fell_ns: int | None = None
        self._answering = False
        self._line.pull("up")
        self._line.observe(self._on_level)

    def _on_level(self, level: int, when_ns: int) -> None:
        if self._answering:
            return
        if not level:
            self._fell_ns = when_ns
        elif self._fell_ns is not None and when_ns - self._fell_ns > 800_000:
            self._answering = True
            at_ns = when_ns + 30_000
            for low, high in [(80, 80), *((50, 70 if bit == "1" else 26) for bit in self._bits)]:
                self._timeline.at(at_ns, lambda: self._line.drive(0))
                self._timeline.at(at_ns + low * 1000, lambda: self._line.drive(None))
                at_ns += (low + high) * 1000
            self._timeline.at(at_ns, lambda: self._line.drive(0))
            self._timeline.at(at_ns + 50_000, self._end)

    def _end(self) -> None:
        self._line.drive(None)
        self._answering, self._fell_ns = False, None


BITS = "0000001010001100000000010101111111101110"


def decoded(edges: list[Any]) -> str:
    """The 40 bits: how long the line was high between the first pulse's end and each falling edge."""
    highs = [
        after.timestamp_ns - before.timestamp_ns
        for before, after in itertools.pairwise(edges)
        if before.value and not after.value
    ]
    return "".join("1" if width > 48_000 else "0" for width in highs[-40:])


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two processes that compute, and a thread of this one."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    stopping = threading.Event()

    def compute() -> None:
        while not stopping.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    stopping.set()
    thread.join()
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy_machine")
def test_every_reading_of_a_sensor_with_short_pulses_is_right_on_a_busy_machine() -> None:
    async def read() -> str:
        async with gpio.output(4, initial=1, drive="open-drain") as wire:
            edges: list[Any] = []
            wire.edges.on_edge(edges.append)
            wire.set(0)
            await asyncio.sleep(0.002)
            wire.set(1)
            until = asyncio.get_running_loop().time() + 5
            while len(edges) < 84 and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(0.005)
            return decoded(edges)

    with SimBoard() as board:
        Dht22(board, 4, BITS)
        assert [hwloop.run(read(), board=board) for _ in range(5)] == [BITS] * 5


# In virtual time.


def polled(board: SimBoard, clock: hwloop.VirtualClock) -> float:
    """Measure an echo as scripts do that know no better: read the line until it changes."""
    lgpio, line = board.lgpio, board.line(24)
    handle = lgpio.gpiochip_open(0)
    lgpio.gpio_claim_input(handle, 24)
    line.drive(0)
    board.timeline.after(0.0005, lambda: line.drive(1))
    board.timeline.after(0.0034, lambda: line.drive(0))
    while not lgpio.gpio_read(handle, 24):
        pass
    began = clock.seconds
    while lgpio.gpio_read(handle, 24):
        pass
    lgpio.gpiochip_close(handle)
    return clock.seconds - began


@pytest.mark.parametrize("where", ["plain", "on the loop", "in a thread"])
def test_polling_a_line_lets_virtual_time_pass(where: str) -> None:
    async def main() -> float:
        if where == "in a thread":
            return await asyncio.to_thread(polled, board, clock)
        return polled(board, clock)

    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board:
        length = polled(board, clock) if where == "plain" else hwloop.run(main(), board=board, clock=clock)
    assert length == pytest.approx(0.0029, abs=2e-6)


def test_polling_for_long_misses_no_short_pulse_and_takes_few_reads() -> None:
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board:
        lgpio, line = board.lgpio, board.line(24)
        handle = lgpio.gpiochip_open(0)
        lgpio.gpio_claim_input(handle, 24)
        line.drive(0)
        began_ns = clock.now_ns()
        board.timeline.at(began_ns + 5_000_000_000, lambda: line.drive(1))
        board.timeline.at(began_ns + 5_000_001_000, lambda: line.drive(0))
        reads = 1
        while not lgpio.gpio_read(handle, 24):
            reads += 1
        assert clock.now_ns() == began_ns + 5_000_000_000
        assert reads < 2000


def test_the_lengths_of_short_pulses_can_be_counted_in_reads() -> None:
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board:
        handle = board.lgpio.gpiochip_open(0)
        board.lgpio.gpio_claim_input(handle, 24)
        line, when_ns = board.line(24), clock.now_ns()
        line.drive(1)
        for micros, level in (
            (0, 1),
            (80, 0),
            (80, 1),
            *(((50, 0), (26, 1)) * 20),
            *(((50, 0), (70, 1)) * 20),
            (50, 0),
        ):
            when_ns += micros * 1000
            board.timeline.at(when_ns, lambda level=level: line.drive(level))  # type: ignore[misc]
        levels = [board.lgpio.gpio_read(handle, 24) for _ in range(3000)]
    counts = [len(list(group)) for _, group in itertools.groupby(levels)]
    assert counts[0] < 100  # after 100 reads without a change, drivers take the pulses to be over
    assert counts[1:3] == [40, 25]
    assert counts[3:43:2] == [13] * 20
    assert counts[43:82:2] == [35] * 20


def test_a_callback_that_reads_a_few_hundred_times_takes_no_virtual_time() -> None:
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board:
        handle = board.lgpio.gpiochip_open(0)
        board.lgpio.gpio_claim_input(handle, 24)
        before = clock.now_ns()
        for _ in range(1000):
            board.lgpio.gpio_read(handle, 24)
        assert clock.now_ns() == before
        for _ in range(5):
            board.lgpio.gpio_read(handle, 24)
        assert clock.now_ns() == before + 10_000


def test_a_poll_that_never_ends_ends_at_the_limit() -> None:
    async def main() -> None:
        handle = board.lgpio.gpiochip_open(0)
        board.lgpio.gpio_claim_input(handle, 24)
        while not board.lgpio.gpio_read(handle, 24):
            pass

    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board, pytest.raises(hwloop.TimeLimitError, match=r"the limit of 0.1 s"):
        hwloop.run(main(), board=board, clock=clock, limit=0.1)
