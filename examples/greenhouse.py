"""A greenhouse: each minute it reads the air and the soil, and waters dry soil until it is moist.

    hwloop run examples/greenhouse.py --board examples/greenhouse.toml
    hwloop sim examples/greenhouse.py --scenario examples/greenhouse_waters.toml examples/greenhouse_tank_empty.toml

The pump never runs for longer than twenty seconds: then the tank is empty, or a hose is off.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import hwloop
from hwloop import gpio, i2c

DHT, PUMP = 4, 27
ADC = 0x48
EVERY = 60.0
"""Seconds between two readings."""
DRY, MOIST = 0.4, 0.6
"""Moisture of the soil at which watering begins and ends: 0 in air, 1 in water."""
LONGEST = 20.0
"""Seconds for which the pump runs at most."""


async def moisture(adc: i2c.Device) -> float:
    """Return the moisture of the soil, from the voltage of the probe on input 0 of the ADS1115."""
    await adc.write_block(1, b"\xc3\x83")  # convert input 0 once, up to 4.096 V
    await asyncio.sleep(0.01)
    volts = await adc.read_word(0, "big", signed=True) * 4.096 / 32768
    return (2.8 - volts) / (2.8 - 1.2)


async def air(wire: gpio.Output) -> tuple[float, float] | None:
    """Return temperature (°C) and humidity (%) of the DHT22; None for an answer that is broken."""
    edges: list[gpio.Edge] = []
    wire.on_edge(edges.append)
    await wire.pulse(0.002, value=0)
    await asyncio.sleep(0.01)
    data = bytes_of(edges[-83:])
    if len(data) != 5 or sum(data[:4]) & 0xFF != data[4]:
        return None
    tenths = int.from_bytes(data[2:4], "big")
    return (tenths & 0x7FFF) / (-10 if tenths & 0x8000 else 10), int.from_bytes(data[:2], "big") / 10


def bytes_of(edges: Sequence[gpio.Edge]) -> bytes:
    """Return the bytes of an answer: high for 26 µs is a 0, for 70 µs a 1."""
    highs = [
        end.timestamp_ns - begin.timestamp_ns for begin, end in itertools.pairwise(edges) if begin.value > end.value
    ][-40:]
    bits = "".join("1" if width > 48_000 else "0" for width in highs)
    return bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))


async def water(adc: i2c.Device, pump: gpio.Output) -> None:
    """Run the pump until the soil is moist, or for as long as it may."""
    pump.on()
    print("watering", flush=True)
    try:
        async with asyncio.timeout(LONGEST):
            while await moisture(adc) < MOIST:
                await asyncio.sleep(0.5)
        print("moist", flush=True)
    except TimeoutError:
        print("alarm: the soil stays dry", flush=True)
    finally:
        pump.off()


async def main() -> None:
    async with (
        i2c.open(1) as bus,
        gpio.output(DHT, initial=1, drive="open-drain") as wire,
        gpio.output(PUMP, safe=0) as pump,
    ):
        adc = bus.device(ADC)
        async for _ in hwloop.every(EVERY):
            reading = await air(wire)
            soil = await moisture(adc)
            shown = "air unknown" if reading is None else f"{reading[0]:.1f} °C, {reading[1]:.1f} %"
            print(f"{shown}, soil {soil:.0%}", flush=True)
            if soil < DRY:
                await water(adc, pump)


if __name__ == "__main__":
    hwloop.run(main())
