"""A door with a code: the right one opens the lock for five seconds; a door that opens without it sounds an alarm.

hwloop run examples/door.py --board examples/door.toml
hwloop sim examples/door.py --scenario examples/door_code.toml examples/door_forced.toml
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import hwloop
from hwloop import gpio

ROWS, COLUMNS, KEYS = (5, 6, 13, 19), (12, 16, 20, 21), "123A456B789C*0#D"
DOOR, LOCK, BUZZER = 17, 27, 18
CODE = "2580#"
OPEN_FOR = 5.0
"""Seconds for which the lock is open."""


async def presses(rows: gpio.Watch, columns: list[gpio.Output]) -> AsyncIterator[str]:
    """Yield each key that is pressed: 50 times a second, drive one column low at a time, and read the rows."""
    before: set[str] = set()
    async for _ in hwloop.every(0.02):
        pressed = set()
        for place, column in enumerate(columns):
            column.off()
            pressed |= {KEYS[number * len(COLUMNS) + place] for number, row in enumerate(ROWS) if rows.level(row) == 0}
            column.on()
        for key in sorted(pressed - before):
            yield key
        before = pressed


class Door:
    """The lock and the buzzer of the door, and whether it may be open."""

    def __init__(self, lock: gpio.Output, buzzer: gpio.Output) -> None:
        self.lock = lock
        self.buzzer = buzzer
        self.allowed = False

    async def open_for_a_while(self) -> None:
        """Open the lock, and lock it again after a while."""
        print("open", flush=True)
        self.allowed = True
        self.lock.on()
        await asyncio.sleep(OPEN_FOR)
        self.lock.off()
        self.allowed = False
        print("locked", flush=True)

    async def sound(self, frequency: float, seconds: float) -> None:
        """Sound a tone."""
        self.buzzer.pwm(0.5, frequency)
        await asyncio.sleep(seconds)
        self.buzzer.off()


async def read_codes(door: Door, rows: gpio.Watch, columns: list[gpio.Output]) -> None:
    typed = ""
    async for key in presses(rows, columns):
        typed = (typed + key)[-len(CODE) :]
        if typed == CODE:
            await door.open_for_a_while()
            typed = ""
        elif key == "#":
            print("wrong code", flush=True)
            await door.sound(220, 0.3)


async def guard(door: Door, contact: gpio.Watch) -> None:
    async for edge in contact:
        if edge.value and not door.allowed:
            print("alarm: the door was forced", flush=True)
            await door.sound(880, 2.0)


async def main() -> None:
    async with contextlib.AsyncExitStack() as opened:
        rows = await opened.enter_async_context(gpio.watch(ROWS, pull="up"))
        contact = await opened.enter_async_context(gpio.watch(DOOR, pull="up", debounce=0.02))
        columns = [
            await opened.enter_async_context(gpio.output(column, initial=1, drive="open-drain")) for column in COLUMNS
        ]
        lock = await opened.enter_async_context(gpio.output(LOCK, safe=0))
        buzzer = await opened.enter_async_context(gpio.output(BUZZER, safe=0))
        door = Door(lock, buzzer)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_codes(door, rows, columns))
            tasks.create_task(guard(door, contact))


if __name__ == "__main__":
    hwloop.run(main())
