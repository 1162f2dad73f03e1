"""Faults of the simulated board behave as the kernel and lgpio do: each is made on both, with the same result.

Faults of lgpio and of the chip happen to both. Faults of the wire happen on the simulated board, in virtual time; then
the same changes of the line, or the same pieces of data, are played at their times to gpio-sim, or to a plain
pseudo-terminal, and a program must receive the same. i2c-stub has no faults.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import struct
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import gpiod
import pytest
from conftest import LGPIO
from gpio_sim import GpioSim
from wires import at_their_times

import hwloop
from firmware_sim import SimBoard
from firmware_sim.trace import Trace
from hwloop import gpio, serial
from hwloop.boards.lgpio.module import load_lgpio
from hwloop.boards.linux import LinuxBoard
from hwloop.trace_events import LineChange, SerialData

LINE, OTHER = 17, 27
REPORT = struct.Struct("QBBBBI")
SETTLE = 0.1
"""Seconds in which lgpio reports an edge, also in an emulated machine."""
PAGE = 4096

needs_lgpio = pytest.mark.skipif(not LGPIO, reason="lgpio is not installed: PyPI has none")


class World(ABC):
    """A chip with lgpio, and a FIFO for its reports."""

    lgpio: Any
    number: int

    def __init__(self, directory: str) -> None:
        self.handle = self.lgpio.gpiochip_open(self.number)
        self.notify = self.lgpio.notify_open()
        self.fd = os.open(f"{directory}/.lgd-nfy{self.notify}", os.O_RDONLY | os.O_NONBLOCK)

    @abstractmethod
    def drive(self, line: int, level: int) -> None:
        """Put a line to an electrical level, and give lgpio the time to report it."""

    def watch(self) -> None:
        self.lgpio.gpio_claim_alert(self.handle, LINE, self.lgpio.BOTH_EDGES, notify_handle=self.notify)
        time.sleep(SETTLE)

    def toggle(self, count: int) -> None:
        for place in range(count):
            self.drive(LINE, 1 - place % 2)

    def read(self, count: int = 1 << 20) -> bytes:
        try:
            return os.read(self.fd, count)
        except BlockingIOError:
            return b""

    def levels(self) -> list[int]:
        return [report[3] for report in REPORT.iter_unpack(self.read())]

    def close(self) -> None:
        os.close(self.fd)
        self.lgpio.notify_close(self.notify)
        self.lgpio.gpiochip_close(self.handle)


class Real(World):
    def __init__(self, chip: GpioSim) -> None:
        self.chip = chip
        self.number = chip.number
        self.lgpio, directory = load_lgpio()
        super().__init__(directory)

    def drive(self, line: int, level: int) -> None:
        self.chip.drive(line, level)
        time.sleep(SETTLE)


class Simulated(World):
    number = 0

    def __init__(self, board: SimBoard) -> None:
        self.board = board
        self.lgpio = board.lgpio
        super().__init__(board.lgpio.directory)

    def drive(self, line: int, level: int) -> None:
        self.board.line(line).drive(level)


@pytest.fixture
def simulated() -> Iterator[Simulated]:
    with SimBoard() as board:
        world = Simulated(board)
        yield world
        world.close()


@pytest.fixture
def real(chip: GpioSim) -> Iterator[Real]:
    world = Real(chip)
    yield world
    world.close()


@needs_lgpio
def test_a_full_fifo_keeps_the_first_reports(real: Real, simulated: Simulated) -> None:
    fcntl.fcntl(real.fd, fcntl.F_SETPIPE_SZ, PAGE)
    simulated.board.faults.inject("full-fifo", capacity=PAGE // REPORT.size)
    for world in (real, simulated):
        world.watch()
        world.toggle(PAGE // REPORT.size + 5)
    kept = real.levels()
    assert kept == simulated.levels() == [1, 0] * (PAGE // REPORT.size // 2)


def test_a_full_buffer_of_the_kernel_keeps_the_newest_events(chip: GpioSim, simulated: Simulated) -> None:
    """lgpio asks for no larger buffer than this; here nobody reads, as while lgpio's thread gets no turn."""
    settings = gpiod.LineSettings(edge_detection=gpiod.line.Edge.BOTH)
    with gpiod.request_lines(chip.path, consumer="test", config={LINE: settings}) as request:
        for place in range(41):
            chip.drive(LINE, 1 - place % 2)
            time.sleep(SETTLE)
        events = request.read_edge_events()
    assert [event.line_seqno for event in events] == list(range(26, 42))
    simulated.watch()
    with simulated.board.faults.inject("kernel-overflow"):
        simulated.toggle(41)
    assert simulated.levels() == [int(event.event_type is event.Type.RISING_EDGE) for event in events]


@needs_lgpio
def test_a_report_in_two_parts_is_what_a_reader_gets_that_asks_for_less(real: Real, simulated: Simulated) -> None:
    real.watch()
    real.toggle(1)
    first = real.read(7)
    rest = real.read()
    simulated.board.faults.inject("torn-record", at=7, seconds=0.01)
    simulated.watch()
    simulated.toggle(1)
    parts = [simulated.read()]
    time.sleep(0.1)
    parts.append(simulated.read())
    assert [len(part) for part in parts] == [len(first), len(rest)] == [7, 9]
    assert REPORT.unpack(b"".join(parts))[2:4] == REPORT.unpack(first + rest)[2:4] == (LINE, 1)


@needs_lgpio
def test_lgpio_says_the_same_of_a_chip_that_has_vanished(real: Real, simulated: Simulated) -> None:
    def said(world: World) -> dict[str, object]:
        lgpio, handle = world.lgpio, world.handle
        calls: dict[str, Callable[[], object]] = {
            "open": lambda: lgpio.gpiochip_open(world.number),
            "read": lambda: lgpio.gpio_read(handle, OTHER),
            "write": lambda: lgpio.gpio_write(handle, OTHER, 0),
            "read an alert": lambda: lgpio.gpio_read(handle, LINE),
            "claim an output": lambda: lgpio.gpio_claim_output(handle, 22),
            "claim an input": lambda: lgpio.gpio_claim_input(handle, 22),
            "claim an alert": lambda: lgpio.gpio_claim_alert(handle, 22, lgpio.BOTH_EDGES),
            "chip": lambda: lgpio.gpio_get_chip_info(handle),
            "line": lambda: lgpio.gpio_get_line_info(handle, 22),
        }
        answers: dict[str, object] = {}
        for name, call in calls.items():
            try:
                answers[name] = call()
            except lgpio.error as error:
                answers[name] = str(error)
        return answers

    for world in (real, simulated):
        world.watch()
        world.lgpio.gpio_claim_output(world.handle, OTHER, 1)
    real.chip.unplug()
    simulated.board.faults.inject("chip-vanishes")
    assert said(simulated) == said(real)
    assert (simulated.read(), real.read()) == (b"", b"")


def test_an_output_whose_chip_has_come_back_can_be_closed(chip: GpioSim, board: LinuxBoard) -> None:
    with hwloop.board.using(board):
        output = gpio.output(OTHER, safe=0).open()
        output.set(1)
        chip.unplug()
        chip.plug_in()
        output.close()
    assert gpio.outputs() == []


Begin = Callable[[], threading.Thread | None]
"""Begin the actions of the world. Returns the thread that does them, or None where they are planned on a board."""


def on_simulated_board(
    board: SimBoard, play: Callable[[list[object], Begin], Coroutine[Any, Any, None]], act: Begin
) -> list[object]:
    """Return what a program receives that runs in virtual time beside the actions that `act` plans."""
    received: list[object] = []
    hwloop.run(play(received, act), board=board, clock=board.clock)  # type: ignore[arg-type]
    return received


async def finish(seconds: float, player: threading.Thread | None) -> None:
    """Let time pass, and until the last action in any case, and what it causes."""
    await asyncio.sleep(seconds)
    if player is not None:
        await asyncio.to_thread(player.join)
        await asyncio.sleep(1)


WIRES = [
    ("contact-bounce", {"seconds": 0.1, "bounces": 3}, 0.4),
    ("contact-bounce", {"seconds": 0.9, "bounces": 2, "profile": "worn"}, 0.0),
    ("edge-flood", {"rate": 8.0}, 0.0),
    ("stuck-line", {"level": 1}, 0.0),
]


@pytest.mark.parametrize(("fault", "fields", "debounce"), WIRES)
def test_a_program_receives_the_same_from_a_faulty_line(
    chip: GpioSim, board: LinuxBoard, fault: str, fields: dict[str, Any], debounce: float
) -> None:
    async def play(received: list[object], begin: Begin) -> None:
        async with gpio.watch(LINE, debounce=debounce) as watch:
            watch.on_edge(lambda edge: received.append((edge.value, edge.lost)))
            await finish(5, begin())

    trace = Trace()
    with SimBoard(clock=hwloop.VirtualClock(), tracer=trace) as simulated:
        line, start_ns = simulated.line(LINE), simulated.clock.now_ns()

        def act() -> None:
            simulated.faults.inject(fault, line=LINE, after=0.5, duration=2.0, seed=7, **fields)
            for seconds, level in [(1.0, 1), (3.0, 0), (4.0, 1)]:
                simulated.timeline.after(seconds, functools.partial(line.drive, level))

        expected = on_simulated_board(simulated, play, act)
    changes = [change for change in trace.of(LineChange) if change.line == LINE]
    assert len(expected) >= 2
    received: list[object] = []

    def drive(level: int) -> None:
        before = len(received)
        chip.drive(LINE, level)
        give_up = time.monotonic() + 10
        while not debounce and len(received) == before and time.monotonic() < give_up:
            time.sleep(0.01)  # two changes are two edges only if the kernel has noticed the first before the second

    def begin() -> threading.Thread:
        return at_their_times([(it.when_ns - start_ns, functools.partial(drive, it.level)) for it in changes])

    hwloop.run(play(received, begin), board=board)
    assert received == expected


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("serial-noise", {"probability": 0.02}),
        ("serial-truncation", {}),
        ("serial-gap", {"seconds": 0.3}),
        ("serial-latency", {}),
    ],
)
def test_a_program_receives_the_same_from_a_faulty_wire(fault: str, fields: dict[str, Any]) -> None:
    port = "/dev/ttyAMA0"

    def play(path: str) -> Callable[[list[object], Begin], Coroutine[Any, Any, None]]:
        async def main(received: list[object], begin: Begin) -> None:
            framing = serial.IdleGap(0.15)
            async with serial.open(path, 9600, framing=framing) as source:
                source.add_callback(lambda frame: received.append((frame.data, frame.lost)))
                await finish(3, begin())

        return main

    trace = Trace()
    devices = {"device": [{"type": "gps", "port": port}]}
    with SimBoard(devices, clock=hwloop.VirtualClock(), tracer=trace) as simulated:
        start_ns = simulated.clock.now_ns()

        def inject() -> None:
            simulated.faults.inject(fault, port=port, seed=3, **fields)

        expected = on_simulated_board(simulated, play(port), inject)
    data = [it for it in trace.of(SerialData) if it.when_ns < start_ns + 3e9]
    assert len(expected) >= 2
    master, slave = os.openpty()
    tty.setraw(slave)
    received: list[object] = []

    # Pieces that follow at once are written together: a slow machine would make a gap of the time between two writes.
    bursts: list[tuple[int, bytes]] = []
    before_ns = 0
    for it in data:
        if it.when_ns < before_ns + 50_000_000:
            when_ns, burst = bursts.pop()
            bursts.append((when_ns, burst + it.data))
        else:
            bursts.append((it.when_ns - start_ns, it.data))
        before_ns = it.when_ns

    def begin() -> threading.Thread:
        return at_their_times([(when_ns, functools.partial(os.write, master, burst)) for when_ns, burst in bursts])

    with LinuxBoard() as board:
        hwloop.run(play(os.ttyname(slave))(received, begin), board=board)
    os.close(master)
    os.close(slave)
    assert received == expected
