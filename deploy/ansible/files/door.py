"""A lamp on line 17 that is on while the door contact on line 2 is open."""

import hwloop
from hwloop import gpio, service


async def main() -> None:
    async with gpio.watch(2, pull="up") as door, gpio.output(17, safe=0) as lamp, service.supervised():
        lamp.set(door.value)
        async for edge in door:
            lamp.set(edge.value)
            service.status(f"door {'open' if edge.value else 'closed'}")


hwloop.run(main())
