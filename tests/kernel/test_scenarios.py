"""The same scenario gives the same trace on the simulated board and on a real kernel.

A scenario is played on the simulated board, in virtual time, with a program that follows a door, an encoder, a serial
port and a sensor. Then all that came from outside, from parts and faults, is played at its times to gpio-sim, a
pseudo-terminal and i2c-stub. The program must notice the same there, and do the same: its outputs and all that it
sends. Times are compared only by their order, and the steps are so far apart that a slow machine keeps that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
import tty
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gpio_sim import GpioSim
from station import DOOR, KNOB, LAMP, PORT, SENSOR, station
from wires import at_their_times, linked, stub_bus

import hwloop
from firmware_sim import Device, SimBoard
from firmware_sim.device import Connections
from firmware_sim.trace import Trace
from hwloop.boards.linux import LinuxBoard
from hwloop.testing.scenario import (
    Click,
    Expect,
    Fault,
    Press,
    Pulses,
    Release,
    Repeat,
    Scenario,
    Send,
    Turn,
    Wait,
    parse,
    play,
)
from hwloop.trace_events import LineChange, SerialData

BOARD = {
    "device": [
        {"type": "button", "name": "door", "line": DOOR, "bounce": 0.0},
        {"type": "led", "name": "lamp", "line": LAMP},
        {"type": "lm75", "name": "air", "address": SENSOR},
        {"type": f"{__name__}:Meter", "name": "meter", "port": PORT},
    ]
}


@dataclass
class Meter(Device):
    """A device on a serial port that says only what a scenario sends."""

    port: str

    def attach(self, board: Connections) -> None:
        board.add_port(self.port).attach(self)

    def receive(self, data: bytes) -> None:
        """Take what the program sends, and do nothing."""


@contextlib.asynccontextmanager
async def running(program: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a program beside the block; its failure fails the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(program)
        yield
        task.cancel()


APART = 0.3
"""Seconds between two steps: the time of an emulated machine for an edge, a line or a reading."""

SCENARIOS = {
    "door": (
        0.0,
        Scenario(
            [
                Press("door", at=1.0),
                Expect("lamp.lit", within=0.1),
                Release("door", after=APART),
                Expect("lamp.lit", equals=False, within=0.1),
                Repeat(3, steps=[Wait(APART), Click("door", hold=APART), Wait(APART)]),
                Pulses("door", count=3, period=2 * APART, level=0, after=APART),
                Wait(2),
            ]
        ),
    ),
    "all parts, from a file": (
        0.0,
        parse(
            """
            steps = [
              { at = "1s", press = "door" },
              { expect_edges = "lamp", edge = "rising" },
              { after = "300ms", send = "meter", text = "hello", frame = "line" },
              { expect_sent = "meter", text = "ack hello" },
              { after = "300ms", set = "air.temperature", to = -5.5 },
              { after = "600ms", turn = ["line 5", "line 6"], steps = 2, period = "400ms" },
              { after = "1200ms", release = "door" },
              { expect = "lamp.lit", equals = false },
              { after = "300ms", set = "air.temperature", to = 100.5 },
              { after = "600ms", send = "meter", text = "in two pieces", frame = "line", baudrate = 9600 },
              { wait = "1s" },
            ]
            """
        ),
    ),
    "turning back": (
        0.0,
        Scenario(
            [
                Turn(["line 5", "line 6"], steps=2, period=0.4, at=1.0),
                Turn(["line 5", "line 6"], steps=-3, period=0.4, at=2.5),
                Wait(2),
            ]
        ),
    ),
    "faults of lines": (
        0.25,
        Scenario(
            [
                Fault("contact-bounce", {"line": "door", "seconds": 0.05, "bounces": 3}, at=0.5),
                Press("door", at=1.0),
                Expect("lamp.lit", within=0.5),
                Fault("stuck-line", {"line": "door", "level": 1}, at=2.0, duration=1.0),
                Release("door", at=4.0),
                Wait(1),
            ]
        ),
    ),
    "faults of ports": (
        0.0,
        Scenario(
            [
                Fault("serial-noise", {"port": "meter"}, at=0.5, probability=0.1, seed=4),
                *(Send("meter", text=f"line {number}", frame="line", at=1.0 + APART * number) for number in range(5)),
                Fault("serial-gap", {"port": "meter", "seconds": 0.5}, at=3.0),
                Send("meter", text="a line with a gap", frame="line", at=3.3),
                Wait(2),
            ]
        ),
    ),
}


class Played:
    """A run of the station: what it has noticed, its outputs, and what it has sent."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.noticed: list[tuple[object, ...]] = []

    def notice(self, *what: object) -> None:
        self.noticed.append(what)

    def lamp(self) -> list[int]:
        changes = (each.level for each in self.trace.of(LineChange) if each.line == LAMP and each.by == "program")
        return list(changes)

    def sent(self) -> bytes:
        return b"".join(each.data for each in self.trace.of(SerialData) if each.direction == "sent")


def on_simulated_board(debounce: float, scenario: Scenario) -> tuple[Played, list[tuple[int, object]]]:
    """Play a scenario, and return the run and what has come from outside, with its time."""
    trace, clock = Trace(), hwloop.VirtualClock()
    with SimBoard(BOARD, clock=clock, tracer=trace) as board:
        run, start_ns = Played(trace), clock.now_ns()
        temperatures: list[tuple[int, object]] = []

        async def main() -> None:
            async with running(station(run.notice, PORT, debounce=debounce, every=0.05)):
                await asyncio.sleep(0)
                await play(board, scenario)

        def sample() -> None:
            if not temperatures or temperatures[-1][1] != board["air"].temperature:
                temperatures.append((clock.now_ns() - start_ns, board["air"].temperature))
            board.timeline.after(0.01, sample)

        sample()
        hwloop.run(main(), board=board, clock=clock)
    outside: list[tuple[int, object]] = list(temperatures)
    for event in trace:
        from_outside = isinstance(event, LineChange) and event.by != "program" and event.line != LAMP
        if from_outside or (isinstance(event, SerialData) and event.direction == "received"):
            outside.append((event.when_ns - start_ns, event))
    return run, sorted(outside, key=lambda entry: entry[0])


def on_real_kernel(
    chip: GpioSim, board: LinuxBoard, debounce: float, outside: list[tuple[int, object]], seconds: float
) -> Played:
    run = Played(Trace())
    board.tracer = run.trace
    master, slave = os.openpty()
    tty.setraw(slave)
    with linked(PORT, os.ttyname(slave)), stub_bus(SENSOR) as write:

        def act(event: object) -> None:
            if isinstance(event, LineChange):
                chip.drive(event.line, event.level)
            elif isinstance(event, SerialData):
                os.write(master, event.data)
            else:
                assert isinstance(event, int | float)
                write(0, (round(event * 2) << 7 & 0xFFFF).to_bytes(2))

        for when_ns, event in outside:
            if not when_ns:
                act(event)

        async def main() -> None:
            async with running(station(run.notice, PORT, debounce=debounce, every=0.05)):
                await asyncio.sleep(0.5)  # all is open, also on a slow machine
                player = at_their_times([(when, functools.partial(act, event)) for when, event in outside if when])
                await asyncio.sleep(seconds)
                await asyncio.to_thread(player.join)
                await asyncio.sleep(0.5)

        for line in (DOOR, *KNOB):
            chip.drive(line, 1)
        hwloop.run(main(), board=board)
    os.close(master)
    os.close(slave)
    return run


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_gives_the_same_trace_on_the_kernel(name: str, chip: GpioSim, board: LinuxBoard) -> None:
    debounce, scenario = SCENARIOS[name]
    simulated, outside = on_simulated_board(debounce, scenario)
    real = on_real_kernel(chip, board, debounce, outside, outside[-1][0] / 1e9)
    assert len(simulated.noticed) >= 4
    assert real.noticed == simulated.noticed
    assert real.lamp() == simulated.lamp()
    assert real.sent() == simulated.sent()


@pytest.fixture
def wires() -> Iterator[tuple[int, Callable[[int, bytes], None]]]:
    """The far end of the serial port, and the registers of the sensor."""
    master, slave = os.openpty()
    tty.setraw(slave)
    with linked(PORT, os.ttyname(slave)), stub_bus(SENSOR) as write:
        write(0, b"\x15\x80")
        yield master, write
    os.close(master)
    os.close(slave)


def hwloop_command(*words: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hwloop", *map(str, words)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_recording_of_real_lines_is_replayed_on_the_simulated_board(
    chip: GpioSim, backend: str, wires: tuple[int, Callable[[int, bytes], None]], tmp_path: Path
) -> None:
    program, recording = Path(__file__).with_name("station.py"), tmp_path / "run.hwlog"
    master, write = wires
    for line in (DOOR, *KNOB):
        chip.drive(line, 1)
    recorded = hwloop_command("record", "--out", recording, program, HWLOOP_GPIO=backend)
    assert recorded.stdout is not None
    assert recorded.stdout.readline() == "ready\n"
    expected = ["ready"]

    def expect(line: str) -> None:
        assert recorded.stdout is not None
        assert recorded.stdout.readline() == f"{line}\n"
        expected.append(line)

    for level in (0, 1, 0):
        chip.drive(DOOR, level)
        expect(f"door {1 - level} 0")
    for line, position in zip((5, 6, 5, 6), (1, 2, 3, 4), strict=True):
        chip.drive(line, 1 - chip.level(line))
        expect(f"knob {position}")
    for temperature in (21.5, -5.5):
        write(0, (round(temperature * 2) << 7 & 0xFFFF).to_bytes(2))
        os.write(master, b"hello\n")
        expect("line b'hello' 0")
        expect(f"air {temperature}")
        assert os.read(master, 100) == b"ack hello\n"
    time.sleep(0.5)
    recorded.send_signal(signal.SIGTERM)
    _, said = recorded.communicate(timeout=60)
    assert recorded.returncode == -signal.SIGTERM
    assert said.endswith("bytes\n")

    replayed = hwloop_command("replay", recording, program)
    printed, said = replayed.communicate(timeout=60)
    assert (replayed.returncode, printed.splitlines()) == (0, expected), said
    assert "outputs, all as recorded" in said

    changed = tmp_path / "changed.py"
    changed.write_text(program.read_text().replace("lamp.set(edge.value)", "lamp.set(1 - edge.value)"))
    replayed = hwloop_command("replay", recording, changed)
    _, said = replayed.communicate(timeout=60)
    assert replayed.returncode == 1
    assert f"line {LAMP}, event " in said
