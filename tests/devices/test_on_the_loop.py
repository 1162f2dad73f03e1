"""I2C parts as programs on the loop use them: data-ready lines as triggers, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, i2c


def run(main: Any, *devices: dict[str, object]) -> Any:
    clock = hwloop.VirtualClock()
    with SimBoard({"device": [*devices]}, clock=clock) as board:
        return hwloop.run(main(board), board=board, clock=clock)


def test_a_poll_reads_an_mpu6050_whenever_its_interrupt_says_so() -> None:
    async def main(board: SimBoard) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        async with i2c.open(1) as bus, gpio.watch(22, edges="rising") as ready:
            chip = bus.device(0x68)
            for register, value in ((0x19, 99), (0x1A, 1), (0x37, 0x30), (0x38, 1), (0x6B, 0)):  # 10 Hz, latched
                await chip.write_register(register, value)

            async def read() -> float:
                return int.from_bytes(await chip.read_block(0x3B, 2), signed=True) / 16384

            began = asyncio.get_running_loop().time()
            async with bus.poll(read, trigger=ready) as readings:
                async for reading in readings:
                    found.append((round(reading.timestamp_ns / 1e9 - began, 2), reading.value))
                    board["imu"].acceleration = [len(found) / 4, 0.0, 1.0]
                    if len(found) == 4:
                        return found
        return found

    found = run(main, {"type": "mpu6050", "name": "imu", "interrupt": 22})
    # The poll reads once as it begins, before there is a sample.
    assert found == [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.3, 0.75)]


def test_a_conversion_of_an_ads1115_ends_with_an_edge() -> None:
    async def main(board: SimBoard) -> float:
        async with i2c.open(1) as bus, gpio.watch(24, edges="falling", pull="up") as ready:
            chip = bus.device(0x48)
            for register, word in ((3, b"\x80\0"), (2, b"\0\0"), (1, b"\xc3\x80")):
                await chip.write_block(register, word)
            edge = await anext(ready)
            raw = int.from_bytes(await chip.read_block(0, 2), signed=True)
            assert edge.value == 0
            return raw * 4.096 / 32768

    assert run(main, {"type": "ads1115", "inputs": [1.5], "interrupt": 24}) == 1.5


def test_a_sensor_that_holds_the_clock_occupies_the_bus() -> None:
    async def main(board: SimBoard) -> float:
        async with i2c.open(1) as bus:
            loop = asyncio.get_running_loop()
            began = loop.time()
            data = await bus.device(0x40).read_block(0xE3, 3)
            assert (int.from_bytes(data[:2]) & 0xFFFC) * 175.72 / 65536 - 46.85 - 21.5 < 0.01
            return loop.time() - began

    assert 0.044 < run(main, {"type": "htu21d"}) < 0.046
