"""A custom source: key events of the kernel's input layer, here from a pipe in place of /dev/input/event0.

hwloop run examples/own_source.py
"""

import asyncio
import os
import struct
import tempfile
import time
from typing import NamedTuple

from hwloop.sources import Source

INPUT_EVENT = struct.Struct("@llHHi")  # struct input_event of linux/input.h


class Key(NamedTuple):
    code: int
    pressed: bool


class Keys(Source[Key]):
    def __init__(self, path):
        super().__init__(name=f"keys on {path}")
        self.path = path

    def connect(self):
        return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def receive(self):
        data = os.read(self.fileno(), INPUT_EVENT.size * 64)
        for _, _, kind, code, value in INPUT_EVENT.iter_unpack(data):
            if kind == 1:  # EV_KEY
                yield Key(code, value == 1)

    def disconnect(self):
        os.close(self.fileno())


async def main():
    directory = tempfile.mkdtemp()
    path = os.path.join(directory, "event0")
    os.mkfifo(path)
    async with Keys(path) as keys:
        keyboard = asyncio.create_task(asyncio.to_thread(type_keys, path))
        async for key in keys:
            print(f"key {key.code} {'pressed' if key.pressed else 'released'}")
            if key == Key(48, pressed=False):
                break
        await keyboard
        print(keys.statistics())
    os.remove(path)
    os.rmdir(directory)


def type_keys(path):
    """Type as the keyboard would: H, W and B go down and up."""
    with open(path, "wb", buffering=0) as pipe:
        for code in (35, 17, 48):
            for value in (1, 0):
                time.sleep(0.05)
                pipe.write(INPUT_EVENT.pack(int(time.time()), 0, 1, code, value) + INPUT_EVENT.pack(0, 0, 0, 0, 0))
