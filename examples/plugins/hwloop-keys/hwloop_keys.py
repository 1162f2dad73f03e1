"""A source of the keys of a keyboard or remote control, from the kernel's input layer: /dev/input/event0 and others."""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hwloop.sources import Source

INPUT_EVENT = struct.Struct("@llHHi")  # struct input_event of linux/input.h
EV_KEY = 1


class Key(NamedTuple):
    code: int
    pressed: bool


class Keys(Source[Key]):
    def __init__(self, path: str) -> None:
        super().__init__(name=f"keys on {path}")
        self.path = path

    def connect(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def receive(self) -> Iterator[Key]:
        data = os.read(self.fileno(), INPUT_EVENT.size * 64)
        for _, _, kind, code, value in INPUT_EVENT.iter_unpack(data):
            if kind == EV_KEY:
                yield Key(code, value == 1)

    def disconnect(self) -> None:
        os.close(self.fileno())
