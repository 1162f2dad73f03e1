"""An MH-Z19: Winsen's infrared sensor of carbon dioxide.

Requests and answers have nine bytes; the last one is the sum of bytes 1 to 7, inverted, plus one (Winsen MH-Z19B user's
manual, version 1.6, "Serial port protocol").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.uart import Port

_READ, _SELF_CALIBRATION, _ZERO, _SPAN, _RANGE = 0x86, 0x79, 0x87, 0x88, 0x99
_BAUDRATE = 9600


@dataclass
class MhZ19(Device):
    """An MH-Z19 carbon dioxide sensor.

    Parameters:
        port: the serial port it is on.
        co2: the concentration. Assign new values at any time.
        temperature: of the sensor, which sends it in whole degrees.

    Attributes:
        range: the largest concentration that it reports, which a command sets.
        answers: readings that it has sent.
        ignored: requests with a wrong checksum, or that it does not know.
        bad_checksums: how many of the next answers get a wrong checksum.
    """

    port: str
    co2: float = within(0, 10_000, "ppm", default=600.0)
    temperature: float = within(-40, 85, "°C", default=23.0)
    range: int = field(default=5000, init=False)
    answers: int = field(default=0, init=False)
    ignored: int = field(default=0, init=False)
    bad_checksums: int = field(default=0, init=False)
    _self_calibration: bool = field(default=True, init=False, repr=False)

    wiring = "Vin to 5 V, GND to GND, Tx to RXD (line 15), Rx to TXD (line 14)"
    example = 'mh_z19.set_serialdevice("/dev/ttyUSB0"); mh_z19.read()["co2"]'

    def attach(self, board: Connections) -> None:
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._received = b""

    @property
    def self_calibration(self) -> bool:
        """Whether it calibrates itself each day, which a command sets."""
        return self._self_calibration

    def receive(self, data: bytes) -> None:
        """Take part of a request."""
        self._received += data
        while len(self._received) >= 9:
            request, self._received = self._received[:9], self._received[9:]
            if request[:2] != b"\xff\x01" or checksum(request) != request[8]:
                self.ignored += 1
                self._received = (request + self._received)[1:]
            else:
                self._execute(request[2], request[3:8])

    def _execute(self, code: int, values: bytes) -> None:
        if code == _READ:
            self._answer()
        elif code == _SELF_CALIBRATION:
            self._self_calibration = values[0] == 0xA0
        elif code == _RANGE:
            self.range = int.from_bytes(values[3:5], "big") or int.from_bytes(values[1:3], "big")
        elif code not in (_ZERO, _SPAN):
            self.ignored += 1

    def _answer(self) -> None:
        self.answers += 1
        ppm = min(round(self.co2), self.range)
        body = bytes([0xFF, _READ, ppm >> 8, ppm & 0xFF, round(self.temperature) + 40, 0, 0, 0])
        wrong = 1 if self.bad_checksums else 0
        self.bad_checksums -= wrong
        self._port.send(body + bytes([checksum(body) ^ wrong]), _BAUDRATE)


def checksum(frame: bytes) -> int:
    """Return the checksum of a frame, of its bytes 1 to 7."""
    return -sum(frame[1:8]) & 0xFF
