"""The sources of hwloop under each fault: a program that watches a line, reads a port and polls a sensor.

Each fault begins 1.2 s after the start, amid a burst of the receiver, and lasts for 1 s, or is over at once. Whatever
it is: nothing is lost uncounted, the failure of one source is reported once and harms no other, each source is back
where the program asked for that, and the output ends at its safe level.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.faults import FAULTS
from firmware_sim.nmea import walk
from hwloop import Backoff, gpio, i2c, serial, spi

PORT = "/dev/ttyAMA0"
BEGIN, DURATION, END = 1.2, 1.0, 6.05
BOARD = {
    "device": [
        {"type": "button", "line": 17, "press_every": 0.25, "hold": 0.1},
        {"type": "bme280", "name": "climate"},
        {"type": "gps", "port": PORT},
        {"type": "mcp3008", "inputs": [1.65]},
    ]
}
SENTENCES = {sentence.rstrip() for sentence in walk()}


@dataclasses.dataclass
class Case:
    """A fault, and the signs of it in the program."""

    fields: dict[str, object] = dataclasses.field(default_factory=dict)
    momentary: bool = False
    reports: tuple[str, ...] = ()
    """The beginnings of the failures that are reported."""
    hidden: int = 0
    """How many edges may be lost without a sign, at most: lgpio hides an even number in a row (docs/gpio.md)."""
    wrong: int = 0
    """How many delivered frames are none that the receiver sent, at most: a framer without a check can't know."""


GPIO_FAILS = ("gpio:17 failed; it is reopened as soon as that works",)
PORT_FAILS = (f"{PORT} failed; it is reopened as soon as that works",)
ADC_FAILS = ("spi:0.0 poll: a reading failed",)
POLL_FAILS = ("i2c:1 poll: a reading failed",)

CASES: dict[str, Case] = {
    "blocked-loop": Case({"seconds": DURATION}, momentary=True),
    "chip-vanishes": Case(reports=GPIO_FAILS),
    "contact-bounce": Case({"line": 17}),
    "edge-flood": Case({"line": 17, "rate": 500}),
    "full-fifo": Case(hidden=20),
    "i2c-arbitration-loss": Case(reports=POLL_FAILS),
    "i2c-clock-stretch": Case({"seconds": 0.3}),
    "i2c-device-reset": Case(momentary=True),
    "i2c-hang": Case(reports=POLL_FAILS),
    "i2c-nack": Case({"address": "climate"}, reports=POLL_FAILS),
    "i2c-stuck-sda": Case(reports=POLL_FAILS),
    "i2c-wrong-answer": Case({"address": "climate"}),
    "kernel-overflow": Case({"events": 4}, hidden=20),
    "lost-wake-up": Case(hidden=20),
    "serial-framing-error": Case({"port": PORT, "probability": 0.05}, wrong=20),
    "serial-gap": Case({"port": PORT}),
    "serial-latency": Case({"port": PORT}),
    "serial-noise": Case({"port": PORT, "probability": 0.05}, wrong=20),
    "serial-overrun": Case({"port": PORT, "buffer": 4}, wrong=20),
    "serial-parity-error": Case({"port": PORT, "probability": 0.05}, wrong=20),
    "serial-slow-reader": Case({"port": PORT}),
    "serial-truncation": Case({"port": PORT}, wrong=5),
    "serial-unplug": Case({"port": PORT}, reports=PORT_FAILS),
    "spi-absent": Case(),
    "spi-device-reset": Case(momentary=True),
    "spi-hang": Case(reports=ADC_FAILS),
    "spi-timeout": Case({"select": 0}, reports=ADC_FAILS),
    "spi-wrong-answer": Case(),
    "stuck-line": Case({"line": 17}),
    "torn-record": Case({"seconds": 0.05}, momentary=True),
}


@dataclasses.dataclass
class Outcome:
    """The events that a program received, by source, each with the time at which it got them; and the statistics."""

    events: dict[str, list[tuple[float, Any]]]
    statistics: dict[str, Any]
    skipped: int
    changes: int
    reports: list[str]


def play(board: SimBoard, fault: str, case: Case, framing: serial.Framer) -> Outcome:
    reports: list[str] = []
    back = Backoff(0.1, maximum=0.5)

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
        start = loop.time()
        events: dict[str, list[tuple[float, Any]]] = {"watch": [], "port": [], "poll": [], "adc": []}

        async def take(name: str, source: AsyncIterator[Any]) -> None:
            async for event in source:
                events[name].append((loop.time() - start, event))

        async with (
            asyncio.TaskGroup() as tasks,
            gpio.output(27, initial=0, safe=0) as relay,
            gpio.watch(17, pull="up", reopen=back) as watch,
            serial.open(PORT, 9600, framing=framing, reopen=back) as port,
            i2c.open(1, timeout=0.5, reopen=back) as bus,
            bus.poll(lambda: bus.device(0x76).read_register(0xD0), every=0.2) as poll,
            spi.open(0, 0, timeout=0.5, reopen=back) as device,
            device.poll(lambda: device.transfer(b"\x01\x80\x00"), every=0.2) as adc,
        ):
            sources = {"watch": watch, "port": port, "poll": poll, "adc": adc}
            changes = board.line(17).changes
            for name, source in sources.items():
                tasks.create_task(take(name, source))
            relay.set(1)
            duration = None if case.momentary else DURATION
            board.faults.inject(fault, after=BEGIN, duration=duration, **case.fields)  # type: ignore[arg-type]
            await asyncio.sleep(END)
            changes = board.line(17).changes - changes
            statistics = {name: source.statistics() for name, source in sources.items()}
        return Outcome(events, statistics, framing.skipped, changes, reports)

    return hwloop.run(main(), board=board, clock=board.clock)  # type: ignore[arg-type]


def test_each_fault_of_the_hardware_has_a_case() -> None:
    assert set(CASES) == set(FAULTS) - {"program-signal"}


@pytest.mark.parametrize("fault", CASES)
def test_a_program_under_a_fault(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    case = CASES[fault]
    with SimBoard(BOARD, clock=hwloop.VirtualClock()) as board:
        outcome = play(board, fault, case, serial.Lines())
        assert board.line(27).level == 0
        assert next(iter(board.faults)).begun == 1
    # Nothing is lost uncounted.
    for name, events in outcome.events.items():
        statistics = outcome.statistics[name]
        assert statistics.received == statistics.delivered + statistics.dropped
        assert sum(event.lost for _, event in events) == statistics.lost + statistics.dropped
        assert len(events) == statistics.delivered - statistics.queued
    edges = outcome.statistics["watch"]
    away = outcome.statistics["watch"].reopened * 20  # edges while there was no chip
    hidden = outcome.changes - edges.received - edges.lost
    assert 0 <= hidden <= case.hidden + away
    for name in ("poll", "adc"):
        readings = outcome.statistics[name]
        assert readings.received + readings.lost == 31
    # Frames are the receiver's, whole, but where a fault has changed them.
    frames = [event.data for _, event in outcome.events["port"]]
    assert sum(frame not in SENTENCES for frame in frames) <= case.wrong
    # A failure is reported once, and harms no other source.
    assert len(outcome.reports) == len(case.reports)
    for report, expected in zip(outcome.reports, case.reports, strict=True):
        assert report.startswith(expected)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    # All sources are back.
    recovered = BEGIN + DURATION + 1.5
    for name, least in {"watch": 16, "port": 11, "poll": 10, "adc": 10}.items():
        assert sum(when > recovered for when, _ in outcome.events[name]) >= least, name


def test_a_watch_notices_at_once_that_its_chip_has_vanished(board: SimBoard) -> None:
    """Also when the line was quiet for so long that nothing reads it any more."""

    async def main() -> float:
        async with gpio.watch(5) as watch:
            board.faults.inject("chip-vanishes", after=100)
            with pytest.raises(hwloop.HardwareError, match="is gone"):
                await anext(watch)
            return asyncio.get_running_loop().time()

    assert hwloop.run(main(), board=board, clock=board.clock) == 101  # type: ignore[arg-type]


@pytest.mark.parametrize(("fault", "ends"), [("i2c-clock-stretch", 0.3), ("i2c-hang", 2.0), ("i2c-stuck-sda", 1.0)])
def test_the_loop_goes_on_while_a_transfer_takes_its_time(board: SimBoard, fault: str, ends: float) -> None:
    async def main() -> list[float]:
        loop, ticks = asyncio.get_running_loop(), list[float]()
        async with i2c.open(1, timeout=5) as bus:
            fields = {"seconds": 0.3} if fault == "i2c-clock-stretch" else {}
            await bus.device(0x76).read_register(0xD0)
            board.faults.inject(fault, duration=2, **fields)  # type: ignore[arg-type]
            start = loop.time()
            reading = asyncio.create_task(bus.device(0x76).read_register(0xD0))
            while not reading.done():
                await asyncio.sleep(0.01)
                ticks.append(loop.time() - start)
            await asyncio.gather(reading, return_exceptions=True)
        return ticks

    ticks = hwloop.run(main(), board=board, clock=board.clock)  # type: ignore[arg-type]
    assert ticks == [pytest.approx(0.01 * count) for count in range(1, len(ticks) + 1)]
    assert ticks[-1] == pytest.approx(ends, abs=0.011)


def test_a_checksum_finds_the_frames_that_noise_has_changed() -> None:
    def intact(frame: bytes) -> bool:
        body, _, checksum = frame[1:].partition(b"*")
        value = 0
        for byte in body:
            value ^= byte
        return frame[:1] == b"$" and checksum == b"%02X" % value

    framing = serial.Lines(check=intact)
    with SimBoard(BOARD, clock=hwloop.VirtualClock()) as board:
        outcome = play(board, "serial-noise", Case({"port": PORT, "probability": 0.02}), framing)
        [noise] = board.faults
        assert noise.hits >= 2
        sent = board.serial(PORT).bytes_out
    frames = [event.data for _, event in outcome.events["port"]]
    assert set(frames) <= SENTENCES
    assert outcome.statistics["port"].lost == sum(event.lost for _, event in outcome.events["port"]) >= 2
    assert sum(len(frame) + 2 for frame in frames) + outcome.skipped <= sent
