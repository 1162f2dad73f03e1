"""A room heater with a thermostat: it switches off when the sensor does not answer for five seconds.

    hwloop sim examples/heater.py --scenario examples/heater_sensor_fails.toml
    hwloop run examples/heater.py --board examples/heater.toml

A heater that stays on because no reading comes is the failure that matters. The poll goes on by itself while the
sensor is away; the program notices the silence by a timeout around the wait for the next reading, which loses none.
"""

from __future__ import annotations

import asyncio

import hwloop
from hwloop import gpio, i2c

LM75, HEATER = 0x48, 27
WANTED, HYSTERESIS = 20.0, 0.5
"""Degrees Celsius: the heater is on below WANTED - HYSTERESIS, and off above WANTED."""
SILENCE = 5.0
"""Seconds without a reading after which the heater is off."""


async def temperature(sensor: i2c.Device) -> float:
    """Return the temperature of an LM75 in °C."""
    return await sensor.read_word(0, "big", signed=True) / 256


async def main() -> None:
    async with (
        i2c.open(1) as bus,
        gpio.output(HEATER, safe=0) as heater,
        bus.poll(lambda: temperature(bus.device(LM75)), every=1.0) as readings,
    ):
        silent = False
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    degrees = (await anext(readings)).value
            except TimeoutError:
                heater.off()
                if not silent:
                    print("alarm: no reading, the heater is off", flush=True)
                silent = True
                continue
            if silent:
                print(f"reading again: {degrees:.1f} °C", flush=True)
            silent = False
            if degrees < WANTED - HYSTERESIS:
                heater.on()
            elif degrees > WANTED:
                heater.off()


if __name__ == "__main__":
    hwloop.run(main())
