"""The keyboard, as programs read it from /dev/input/eventN."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard, imports
from firmware_sim.errors import WiringError

EVENT = struct.Struct("@llHHi")
KEY_A, KEY_B = 30, 48
CLOCK_ID, GRAB = 0x400445A0, 0x40044590


class Rig:
    def __init__(self) -> None:
        self.clock = hwloop.VirtualClock()
        device = {"type": "keyboard", "name": "keys", "number": 3, "label": "remote", "keys": [KEY_A, KEY_B]}
        self.board = SimBoard({"device": [device]}, clock=self.clock)
        self.keys: Any = self.board["keys"]

    def open(self) -> int:
        return os.open("/dev/input/event3", os.O_RDONLY | os.O_NONBLOCK)

    def read(self, fd: int) -> list[tuple[int, int, int]]:
        try:
            return [tuple(event[2:]) for event in EVENT.iter_unpack(os.read(fd, EVENT.size * 64))]  # type: ignore[misc]
        except BlockingIOError:
            return []


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    with rig.board, imports.led_to(rig.board):
        yield rig


def test_a_click_is_a_press_and_a_release_each_with_its_report(rig: Rig) -> None:
    fd = rig.open()
    rig.keys.click(KEY_A)
    assert select.select([fd], [], [], 0)[0] == [fd]
    assert rig.read(fd) == [(1, KEY_A, 1), (0, 0, 0)]
    rig.clock.sleep(0.05)
    assert rig.read(fd) == [(1, KEY_A, 0), (0, 0, 0)]
    rig.keys.press(KEY_B)
    rig.keys.press(KEY_B)
    rig.keys.release(KEY_A)
    assert rig.read(fd) == [(1, KEY_B, 1), (0, 0, 0)]
    os.close(fd)
    with pytest.raises(ValueError, match="remote has no key 1"):
        rig.keys.press(1)


def test_the_ioctls_describe_the_device(rig: Rig) -> None:
    fd = rig.open()

    def get(number: int, size: int) -> bytes:
        buffer = bytearray(size)
        fcntl.ioctl(fd, 2 << 30 | size << 16 | ord("E") << 8 | number, buffer)
        return bytes(buffer)

    assert get(0x06, 64).rstrip(b"\0") == b"remote"
    assert get(0x06, 4) == b"remo"
    assert struct.unpack("4H", get(0x02, 8))[0] == 0x19
    assert int.from_bytes(get(0x20, 4), "little") == 0b11
    assert int.from_bytes(get(0x21, 96), "little") == 1 << KEY_A | 1 << KEY_B
    rig.keys.press(KEY_B)
    assert int.from_bytes(get(0x18, 96), "little") == 1 << KEY_B
    for request in (2 << 30 | 4 << 16 | ord("E") << 8 | 0x40, 0x80044501 & ~0xFF00 | 0x4600):
        with pytest.raises(OSError, match=r"Invalid argument|Inappropriate ioctl"):
            fcntl.ioctl(fd, request, bytearray(4))
    os.close(fd)


def test_times_are_of_the_clock_that_the_program_chooses(rig: Rig) -> None:
    fd = rig.open()
    rig.keys.press(KEY_A)
    real = EVENT.unpack(os.read(fd, EVENT.size * 2)[: EVENT.size])
    assert abs(real[0] - time.time()) < 100
    fcntl.ioctl(fd, CLOCK_ID, struct.pack("I", time.CLOCK_MONOTONIC))
    rig.clock.sleep(1)
    rig.keys.release(KEY_A)
    virtual = EVENT.unpack(os.read(fd, EVENT.size * 2)[: EVENT.size])
    assert virtual[0] * 1_000_000 + virtual[1] == rig.clock.now_ns() // 1000
    with pytest.raises(OSError, match="Invalid argument"):
        fcntl.ioctl(fd, CLOCK_ID, struct.pack("I", 99))
    os.close(fd)


def test_a_file_that_has_grabbed_the_device_gets_its_events_alone(rig: Rig) -> None:
    first, second = rig.open(), rig.open()
    fcntl.ioctl(first, GRAB, 1)
    with pytest.raises(OSError, match="busy"):
        fcntl.ioctl(second, GRAB, 1)
    rig.keys.press(KEY_A)
    assert (len(rig.read(first)), rig.read(second)) == (2, [])
    fcntl.ioctl(first, GRAB, 0)
    rig.keys.release(KEY_A)
    assert len(rig.read(first)) == len(rig.read(second)) == 2
    os.close(first)
    os.close(second)


def test_events_that_find_the_buffer_full_are_lost_and_the_next_one_says_so(rig: Rig) -> None:
    fd = rig.open()
    for _ in range(1000):
        rig.keys.press(KEY_A)
        rig.keys.release(KEY_A)
    count = 0
    while events := rig.read(fd):
        count += len(events)
    assert count < 4000
    rig.keys.press(KEY_A)
    assert rig.read(fd) == [(0, 3, 0), (1, KEY_A, 1), (0, 0, 0)]
    os.close(fd)


def test_wrong_keys_are_errors_of_the_board_file() -> None:
    for keys, message in (
        ({"keys": [768]}, "keys must be codes from 0 to 767"),
        ({"number": 32}, "number must be 0 to 31"),
    ):
        with pytest.raises(WiringError, match=message):
            SimBoard({"device": [{"type": "keyboard", **keys}]})
    with pytest.raises(WiringError, match="/dev/input/event0 is used already"):
        SimBoard({"device": [{"type": "keyboard"}, {"type": "keyboard"}]})
