"""An RDM6300: a reader of 125 kHz cards (EM4100), which sends the number of a card again and again while it is near.

A frame has a start byte, ten hexadecimal digits, the exclusive or of their five bytes in two digits, and an end byte
(Itead, "RDM6300 datasheet", "Data format").
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.timeline import Event, Timeline
from firmware_sim.uart import Port

_BAUDRATE = 9600
_REPEAT = 0.065
"""Seconds from one frame to the next while a card is near."""


@dataclass
class Rdm6300(Device):
    """An RDM6300 card reader.

    Parameters:
        port: the serial port it is on.
        hold: how long `card()` holds a card near.

    Attributes:
        frames: frames that it has sent.
        bad_checksums: how many of the next frames get a wrong checksum.
    """

    port: str
    hold: float = within(0, 3600, "seconds", default=0.5)
    frames: int = field(default=0, init=False)
    bad_checksums: int = field(default=0, init=False)

    wiring = "VCC to 5 V, GND to GND, TX over 1 kΩ to RXD (line 15) and 2 kΩ to GND, ANT to the coil"
    example = 'reader.card(0x1A004B3C5D)   # in a test; the program reads frames between b"\\x02" and b"\\x03"'

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._repetitions: list[Event] = []

    def card(self, number: int, hold: float | None = None) -> None:
        """Hold a card near the reader for `hold` seconds, by default the reader's. Raises ValueError for its number."""
        if not 0 <= number < 1 << 40:
            raise ValueError(f"a card has a number of 40 bits, not {number:#x}")
        frame = self.frame(number)
        with self._timeline.lock:
            self._timeline.catch_up()
            for event in self._repetitions:
                event.cancel()
            held = self.hold if hold is None else hold
            self._repetitions = [
                self._timeline.after(place * _REPEAT, lambda: self._send(frame))
                for place in range(int(held / _REPEAT) + 1)
            ]

    @staticmethod
    def frame(number: int) -> bytes:
        """Return the frame of a card."""
        data = number.to_bytes(5, "big")
        return b"\x02" + data.hex().upper().encode() + b"%02X\x03" % functools.reduce(operator.xor, data)

    def _send(self, frame: bytes) -> None:
        if self.bad_checksums:
            self.bad_checksums -= 1
            frame = frame[:11] + (b"00" if frame[11:13] != b"00" else b"FF") + frame[13:]
        self.frames += 1
        self._port.send(frame, _BAUDRATE)

    def receive(self, data: bytes) -> None:
        """Ignore it: the reader has no commands."""
