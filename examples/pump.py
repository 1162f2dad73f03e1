"""A pump that drains a sump: it starts with the float switch, and stops when no water flows.

    hwloop sim examples/pump.py --scenario examples/pump_drains.toml examples/pump_runs_dry.toml

The scenarios beside it show what it must do when the sump is drained, and when the pump runs dry.
"""

from __future__ import annotations

import asyncio

import hwloop
from hwloop import gpio

FLOAT, FLOW, PUMP = 17, 23, 27
"""The float switch, the pulses of the flow meter, and the relay of the pump."""
DRY_AFTER = 3.0
"""Seconds without a pulse after which the pump runs dry."""


async def drain(float_switch: gpio.Watch, flow: gpio.Watch, pump: gpio.Output) -> None:
    """Pump until the float switch opens, or no water flows."""
    pump.on()
    print("pumping", flush=True)
    try:
        while float_switch.level(FLOAT):
            async with asyncio.timeout(DRY_AFTER):
                await anext(flow)
        print("drained", flush=True)
    except TimeoutError:
        print("alarm: no water flows", flush=True)
    finally:
        pump.off()


async def main() -> None:
    async with (
        gpio.watch(FLOAT, pull="up", active_low=True, debounce=0.05) as float_switch,
        gpio.watch(FLOW, edges="rising", pull="down") as flow,
        gpio.output(PUMP, safe=0) as pump,
    ):
        async for edge in float_switch:
            if edge.value:
                await drain(float_switch, flow, pump)


if __name__ == "__main__":
    hwloop.run(main())
