"""A robot: it drives until an obstacle is near, then backs off, and looks to both sides for the way that is free.

hwloop run examples/robot.py --board examples/robot.toml
hwloop sim examples/robot.py --scenario examples/robot_turns.toml
"""

from __future__ import annotations

import asyncio

import hwloop
from hwloop import gpio

FORWARD, BACKWARD, NECK, TRIGGER, ECHO = 5, 6, 18, 23, 24
NEAR = 0.3
"""Metres at which it stops."""


class Robot:
    """The motor, the neck and the eye of the robot."""

    def __init__(
        self,
        forward: gpio.Output,
        backward: gpio.Output,
        neck: gpio.Output,
        trigger: gpio.Output,
        echo: gpio.PulseWidth,
    ) -> None:
        self.forward, self.backward, self.neck = forward, backward, neck
        self.trigger, self.echo = trigger, echo

    def drive(self, speed: float) -> None:
        """Drive with a speed from -1 to 1; 0 stops."""
        self.forward.pwm(max(speed, 0.0))
        self.backward.pwm(max(-speed, 0.0))

    async def look(self, angle: float) -> None:
        """Turn the neck, 0 to 180 degrees, and wait until it is there."""
        self.neck.pwm((0.0005 + 0.0019 * angle / 180) * 50, 50)
        await asyncio.sleep(0.4)

    async def distance(self) -> float:
        """Return the metres to the obstacle in front of the eye."""
        self.trigger.pulse(20e-6)
        return (await anext(self.echo)).seconds * 343 / 2

    async def find_way(self) -> str:
        """Back off, look to both sides, and return the one that is free."""
        self.drive(-0.5)
        await asyncio.sleep(0.5)
        self.drive(0)
        free = {}
        for side, angle in (("left", 180), ("right", 0)):
            await self.look(angle)
            free[side] = await self.distance()
        await self.look(90)
        return max(free, key=lambda side: free[side])


async def main() -> None:
    async with (
        gpio.output(FORWARD, safe=0) as forward,
        gpio.output(BACKWARD, safe=0) as backward,
        gpio.output(NECK, safe=0) as neck,
        gpio.output(TRIGGER, safe=0) as trigger,
        gpio.pulse_width(ECHO) as echo,
    ):
        robot = Robot(forward, backward, neck, trigger, echo)
        await robot.look(90)
        robot.drive(0.8)
        print("driving", flush=True)
        async for _ in hwloop.every(0.1):
            if await robot.distance() < NEAR:
                print(f"turning {await robot.find_way()}", flush=True)
                robot.drive(0.8)


if __name__ == "__main__":
    hwloop.run(main())
