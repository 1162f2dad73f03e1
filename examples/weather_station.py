"""A weather station: a door switch, an air sensor, a GPS receiver and a control loop, all served by one event loop.

    hwloop run weather_station.py                                 on a Raspberry Pi
    hwloop run weather_station.py --board weather_station.toml    on the simulated board
    hwloop demo                                                   the same, watched and counted

Wiring: a switch between GPIO 17 and ground, closed while the door is; a lamp on GPIO 27; a BME280 on I2C bus 1; a GPS
receiver on the UART. It runs on any asyncio loop, but later: on hwloop, tasks of priority HIGH precede the others.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

import hwloop
from hwloop import Priority, gpio, i2c, serial

Report = Callable[[str, object], None]
"""Called for each event with the part of the station that it comes from, and an Edge, Reading, Frame or Tick."""


async def door(report: Report) -> None:
    """Switch the lamp on while the door is open; it is off whenever this program does not run."""
    with hwloop.scheduled(priority=Priority.HIGH):
        async with gpio.watch(17, pull="up") as switch, gpio.output(27, initial=0, safe=0) as lamp:
            async for edge in switch:
                lamp.set(1 if edge.value else 0)
                report("door", edge)


async def climate(report: Report) -> None:
    """Read the air sensor ten times a second; the bus is busy in a thread of its own."""
    async with i2c.open(1) as bus:
        sensor = await Bme280.start(bus.device(0x76))
        async for reading in bus.poll(sensor.measure, every=0.1, priority=Priority.HIGH):
            report("climate", reading)


async def position(report: Report) -> None:
    """Report the receiver's sentences as they come; sentences with a wrong checksum are skipped and counted."""
    async with serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines(check=serial.nmea_checksum)) as gps:
        async for sentence in gps:
            report("position", sentence)


async def control(report: Report) -> None:
    """Make a thousand steps a second, on a grid that does not drift."""
    with hwloop.scheduled(priority=Priority.HIGH):
        async for tick in hwloop.every(0.001):
            report("control", tick)


async def load(callbacks: int = 200, each: float = 50e-6) -> None:
    """Keep `callbacks` callbacks ready at all times, each busy for `each` seconds, until this is cancelled."""
    loop = asyncio.get_running_loop()
    working = True

    def work() -> None:
        until = time.perf_counter() + each
        while time.perf_counter() < until:
            pass
        if working:
            loop.call_soon(work)

    for _ in range(callbacks):
        loop.call_soon(work)
    try:
        await loop.create_future()
    finally:
        working = False


def show(part: str, event: object) -> None:
    """Print every event but the ticks; used when the station runs by itself."""
    if not isinstance(event, hwloop.Tick):
        print(f"{part:8}", event, flush=True)


async def main(report: Report = show) -> None:
    async with asyncio.TaskGroup() as station:
        for part in (door, climate, position, control):
            station.create_task(part(report), name=part.__name__)


class Climate(NamedTuple):
    temperature: float
    """°C"""
    humidity: float
    """%RH"""
    pressure: float
    """hPa"""


class Bme280:
    """Bosch's sensor, as its datasheet describes it (BST-BME280-DS002)."""

    def __init__(self, chip: i2c.Device, t: tuple[int, ...], p: tuple[int, ...], h: tuple[int, ...]) -> None:
        self.chip = chip
        self.t, self.p, self.h = t, p, h

    @classmethod
    async def start(cls, chip: i2c.Device) -> Bme280:
        """Read the calibration values that were burnt into the chip (section 4.2.2)."""
        if (found := await chip.read_register(0xD0)) != 0x60:
            raise hwloop.HardwareError("BME280", f"chip id {found:#04x} instead of 0x60", "is it a BMP280 (0x58)?")
        tp = struct.unpack("<Hhh Hhhhhhhhh", await chip.read_block(0x88, 24))
        h1 = await chip.read_register(0xA1)
        h2, h3, e4, e5, e6, h6 = struct.unpack("<hBbBbb", await chip.read_block(0xE1, 7))
        await chip.write_register(0xF2, 0b001)  # humidity: one sample
        return cls(chip, tp[:3], tp[3:], (h1, h2, h3, e4 << 4 | e5 & 0x0F, e6 << 4 | e5 >> 4, h6))

    async def measure(self) -> Climate:
        """Make one forced measurement with one sample of each (sections 5.4.5 and 9.1: at most 9.3 ms)."""
        await self.chip.write_register(0xF4, 0b001_001_01)
        await asyncio.sleep(0.010)
        data = await self.chip.read_block(0xF7, 8)
        return self.compensate(
            int.from_bytes(data[3:6]) >> 4, int.from_bytes(data[6:8]), int.from_bytes(data[0:3]) >> 4
        )

    def compensate(self, raw_t: int, raw_h: int, raw_p: int) -> Climate:
        """Compute the climate by the datasheet's formulas (section 8.1)."""
        t1, t2, t3 = self.t
        x = raw_t / 16384 - t1 / 1024
        fine = x * t2 + (x / 8) ** 2 * t3

        p1, p2, p3, p4, p5, p6, p7, p8, p9 = self.p
        x = fine / 2 - 64000
        offset = (x * x * p6 / 32768 + x * p5 * 2) / 4 + p4 * 65536
        scale = (1 + (p3 * x * x / 524288 + p2 * x) / 524288 / 32768) * p1
        p = (1048576 - raw_p - offset / 4096) * 6250 / scale
        p += (p9 * p * p / 2147483648 + p * p8 / 32768 + p7) / 16

        h1, h2, h3, h4, h5, h6 = self.h
        x = fine - 76800
        h = (raw_h - (h4 * 64 + h5 / 16384 * x)) * h2 / 65536 * (1 + h6 / 67108864 * x * (1 + h3 / 67108864 * x))
        h *= 1 - h1 * h / 524288
        return Climate(fine / 5120, min(max(h, 0.0), 100.0), p / 100)


if __name__ == "__main__":
    hwloop.run(main())
