"""The program of test_scenarios.py: a door, a lamp, a knob, a serial port, and a thermometer on an I2C bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hwloop
from hwloop import gpio, i2c, serial

DOOR, LAMP, KNOB, SENSOR, PORT = 17, 27, (5, 6), 0x48, "/dev/ttyAMA0"


def degrees(data: bytes) -> float:
    """Return the temperature in the register of an LM75: the upper nine bits, in half degrees (SNIS153D, 7.6.2)."""
    return (int.from_bytes(data, signed=True) >> 7) / 2


async def station(notice: Callable[..., None], port: str, *, debounce: float = 0.0, every: float | None = None) -> None:
    """Switch a lamp by a door, count a knob's turns, answer each line, and read the air's temperature.

    The temperature is read every `every` seconds; without it, once for each line.
    """

    async def follow() -> None:
        async for edge in door:
            lamp.set(edge.value)
            notice("door", edge.value, edge.lost)

    async def answer() -> None:
        async for line in meter:
            notice("line", line.data, line.lost)
            if every is None:
                notice("air", degrees(await sensor.read_block(0, 2)))
            meter.write(b"ack " + line.data + b"\n")

    async def measure() -> None:
        if every is None:
            return
        last = None
        async for reading in bus.poll(lambda: sensor.read_block(0, 2), every=every):
            if reading.value != last:
                last = reading.value
                notice("air", degrees(last))

    async with (
        gpio.output(LAMP, initial=0, safe=0) as lamp,
        gpio.watch(DOOR, pull="up", active_low=True, debounce=debounce) as door,
        gpio.encoder(*KNOB, pull="up") as knob,
        serial.open(port, 9600, framing=serial.Lines()) as meter,
        i2c.open(1) as bus,
        asyncio.TaskGroup() as tasks,
    ):
        sensor = bus.device(SENSOR)
        knob.add_callback(lambda position: notice("knob", position))
        for part in (follow, answer, measure):
            tasks.create_task(part())
        notice("ready")


def show(*what: object) -> None:
    print(*what, flush=True)


async def main() -> None:
    await station(show, PORT)


if __name__ == "__main__":
    hwloop.run(main())
