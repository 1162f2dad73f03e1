"""A recording of a real board is replayed on the simulated one. The real board has stand-ins for its libraries."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import tty

import pytest

import hwloop
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.pins import Chip
from firmware_sim.replay import ReplayBoard, Script
from firmware_sim.timeline import Timeline
from hwloop import gpio, recording, serial
from hwloop.boards import chip_discovery, linux
from hwloop.boards.chip_discovery import ChipInfo
from hwloop.boards.linux import LinuxBoard
from hwloop.cli import main as command
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange


@pytest.fixture
def chip(monkeypatch):
    """The lines of a machine whose only chip is a simulated one, below lgpio."""
    chip = Chip(Timeline(), label="pinctrl-bcm2711", lines=58)
    lgpio = Lgpio(chip)
    monkeypatch.setattr(chip_discovery, "list_chips", lambda: [ChipInfo("/dev/gpiochip0", 0, "pinctrl-bcm2711", 58)])
    monkeypatch.setattr(linux, "load_lgpio", lambda: (lgpio, lgpio.directory))
    yield chip
    lgpio.close()
    chip.timeline.stop()


def replayed(program, path):
    [run] = recording.read(path)
    assert not run.header.simulated
    events = [(n, e) for n, e in enumerate(run, 1) if not isinstance(e, recording.Ended)]
    clock = hwloop.VirtualClock()
    clock.jump(run.header.start_ns)
    script = Script(events, label=run.header.board, start_ns=run.header.start_ns, simulated=False)
    with ReplayBoard(script, clock=clock) as board:
        result = hwloop.run(program, board=board, clock=clock)
        board.outputs.finish()
    return board.outputs, result


async def station(port, ready):
    """Follow a door, count the rising edges of a debounced line, and answer questions on a port."""
    seen = []
    async with (
        gpio.watch(17, pull="up", chip="pinctrl-bcm2711") as door,
        gpio.watch(5, edges="rising", debounce=0.005) as pulses,
        gpio.output(27, initial=0, safe=0) as lamp,
        gpio.output(26, initial=1) as pump,
        serial.open(port, 19200, framing=serial.Lines()) as meter,
    ):
        ready()

        async def count():
            async for edge in pulses:
                seen.append(("pulse", edge.value))
                lamp.toggle()

        async def follow():
            async for edge in door:
                seen.append(("door", edge.value))
                pump.set(edge.value)

        async def answer():
            async for line in meter:
                seen.append(("line", line.data))
                meter.write(line.data[::-1] + b"\n")

        tasks = [asyncio.ensure_future(count()), asyncio.ensure_future(follow()), asyncio.ensure_future(answer())]
        while len(seen) < 9:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(map(str, seen))


def test_a_recording_of_a_real_board_is_replayed_in_virtual_time(chip, tmp_path):
    master, slave = os.openpty()
    tty.setraw(slave)
    port, path = os.ttyname(slave), tmp_path / "real.ring"
    chip.line(17).pull("up")
    chip.line(26).drive(1)  # what another program has left
    started = threading.Event()

    def act():
        """Do what happens outside: each action waits for the effect of the last one, so that none is early."""
        started.wait(20)
        for number in range(2):
            for level in (0, 1):
                chip.line(17).drive(level)
                if not number:
                    chip.line(5).drive(level)
                os.write(master, b"level %d\n" % level)
                answer = b""
                while not answer.endswith(b"\n"):
                    answer += os.read(master, 100)
                if not number:
                    time.sleep(0.03)  # for the debouncing

    outside = threading.Thread(target=act)
    outside.start()
    try:
        with LinuxBoard("lgpio") as board:
            result = hwloop.run(station(port, started.set), board=board, recorder=str(path))
    finally:
        started.set()
        os.close(slave)
        outside.join(20)
        os.close(master)
    changes = [event for event in recording.read(path)[0] if isinstance(event, LineChange)]
    assert {change.line for change in changes} >= {17, 27}
    for _ in range(3):
        outputs, again = replayed(station(port, lambda: None), path)
        assert outputs.differences == []
        assert again == result


def test_rising_edges_alone_are_replayed_as_pulses():
    events = [(n, LineChange(1_000_000_000 + n * 10_000_000, 5, 1, "outside")) for n in range(1, 4)]

    async def count():
        async with gpio.watch(5, edges="rising") as pulses:
            return [(await anext(pulses)).timestamp_ns for _ in range(3)]

    clock = hwloop.VirtualClock()
    with ReplayBoard(Script(events, start_ns=1_000_000_000, simulated=False), clock=clock) as board:
        assert hwloop.run(count(), board=board, clock=clock) == [1_010_000_000, 1_020_000_000, 1_030_000_000]


def test_a_line_that_had_its_level_before_is_no_difference_when_it_is_opened():
    async def main():
        async with gpio.output(26, initial=1) as pump:
            pump.set(1)
            await asyncio.sleep(3)
            pump.set(0)

    clock = hwloop.VirtualClock()
    events = [(1, LineChange(60_000_000_000, 17, 0, "outside"))]
    with ReplayBoard(Script(events, start_ns=1_000_000_000, simulated=False), clock=clock) as board:
        hwloop.run(main(), board=board, clock=clock)
        [found] = board.outputs.differences
    assert (found.where, found.happened) == ("line 26", "the program drove it to 0")


def test_a_failed_transfer_of_a_real_bus_is_recorded_with_its_first_message_only(tmp_path):
    """The kernel does not report how far it got."""
    from hwloop import i2c

    failed = I2cTransfer(1_100_000_000, 1_101_000_000, 1, (I2cMessage(0x76, "sent", b""),), "ETIMEDOUT")

    async def main():
        async with i2c.open(1) as bus:
            await asyncio.sleep(0.1)
            try:
                await bus.device(0x76).read_block(0xF7, 8)
            except hwloop.HardwareError as error:
                return error.errno

    clock = hwloop.VirtualClock()
    with ReplayBoard(Script([(1, failed)], start_ns=1_000_000_000, simulated=False), clock=clock) as board:
        assert hwloop.run(main(), board=board, clock=clock) == 110
        board.outputs.finish()
    assert board.outputs.differences == []


def test_hwloop_record_records_a_real_board(chip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWLOOP_GPIO", "lgpio")
    (tmp_path / "program.py").write_text(
        "from hwloop import gpio\n"
        "async def main():\n"
        "    async with gpio.output(27, initial=1, safe=0) as lamp:\n"
        "        lamp.set(0)\n"
        "        lamp.set(1)\n"
    )
    assert command(["record", "--out", "run.hwlog", "--board", "linux", "program.py"]) == 0
    [run] = recording.read("run.hwlog")
    assert [(e.line, e.level) for e in run if isinstance(e, LineChange)] == [(27, 1), (27, 0), (27, 1), (27, 0)]
    capsys.readouterr()
    assert command(["replay", "run.hwlog"]) == 0
    assert capsys.readouterr().err == "hwloop replay: run.hwlog: 4 outputs, all as recorded\n"
