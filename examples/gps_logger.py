"""A logger of GPS positions as a service: it starts in steps, names what it can't do without, and ends in order.

    hwloop run examples/gps_logger.py --board examples/gps_logger.toml --grace 3 --metrics gps.prom

Under systemd, `systemctl status` shows each step and the program's figures. The watchdog is fed only while sentences
come and are written. `systemctl reload` (SIGHUP) reads the settings again.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import hwloop
from hwloop import gpio, serial, service

SETTINGS = Path("gps_logger.json")
"""For example {"sentence": "$GPGGA"}."""
LOG = Path("positions.txt")
LAMP = 27

settings = {"sentence": "$GPRMC"}


def read_settings() -> None:
    if SETTINGS.exists():
        settings.update(json.loads(SETTINGS.read_text(encoding="utf-8")))


async def write(positions: asyncio.Queue[str]) -> None:
    """Write positions in a thread: a memory card may take seconds."""
    written = 0
    while True:
        batch = [await positions.get()]
        while not positions.empty():
            batch.append(positions.get_nowait())
        text = "".join(f"{position}\n" for position in batch)
        await asyncio.to_thread(append, text)
        written += len(batch)
        service.status(f"{written} positions written")


def append(text: str) -> None:
    with LOG.open("a", encoding="utf-8") as log:
        log.write(text)


async def main() -> None:
    read_settings()
    positions: asyncio.Queue[str] = asyncio.Queue(1000)
    service.starting("waiting for the first sentence", within=30)
    async with (
        gpio.output(LAMP, safe=0) as lamp,
        serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines(), reopen=hwloop.Backoff()) as gps,
    ):
        await anext(gps)
        writer = asyncio.create_task(write(positions), name="writer")
        async with service.supervised():
            lamp.on()
            with (
                service.critical(gps, within=5),
                service.critical(writer, within=30),
                service.reloadable(read_settings),
            ):
                try:
                    async for sentence in gps:
                        text = sentence.data.decode(errors="replace")
                        if text.startswith(settings["sentence"]) and not positions.full():
                            positions.put_nowait(text)
                finally:
                    service.stopping(f"writing the last {positions.qsize()} positions", within=5)
                    async with asyncio.timeout(4):
                        while not positions.empty():
                            await asyncio.sleep(0.05)


if __name__ == "__main__":
    hwloop.run(main())
