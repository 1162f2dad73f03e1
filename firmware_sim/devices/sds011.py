"""An SDS011: Nova Fitness' sensor of particles in the air.

In active mode it sends a frame of ten bytes each second; in query mode one for each query. A command has 19 bytes. The
checksum is the sum of the data bytes (Nova, "Laser dust sensor control protocol V1.3").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import state, within
from firmware_sim.timeline import Event, Timeline
from firmware_sim.uart import Port

_REPORTING, _QUERY, _ID, _SLEEP, _FIRMWARE, _PERIOD = 2, 4, 5, 6, 7, 8
_ANYONE = b"\xff\xff"
_BAUDRATE = 9600


@dataclass
class Sds011(Device):
    """An SDS011 particle sensor.

    Parameters:
        port: the serial port it is on.
        pm25, pm10: the mass of particles up to 2.5 and 10 µm. Assign new values at any time.
        device_id: its number, to which commands may be addressed.

    Attributes:
        active: whether it sends a frame each second, rather than for each query.
        asleep: whether its laser and fan are off.
        period: minutes from one measurement to the next; 0 for one each second.
        ignored: commands for another device, with a wrong checksum, or while it sleeps.
        bad_checksums: how many of the next frames get a wrong checksum.
    """

    port: str
    pm25: float = within(0, 999.9, "µg/m³", default=8.0)
    pm10: float = within(0, 1999.9, "µg/m³", default=12.0)
    device_id: int = 0xA160
    active: bool = field(default=state(True, changed="_plan"), init=False)
    asleep: bool = field(default=state(False, changed="_plan"), init=False)
    period: int = field(default=state(0, changed="_plan"), init=False)
    ignored: int = field(default=0, init=False)
    bad_checksums: int = field(default=0, init=False)

    wiring = "5V to 5 V, GND to GND, TXD to RXD (line 15), RXD to TXD (line 14), or its USB adapter"
    example = 'sensor = sds011.SDS011("/dev/ttyUSB0"); pm25, pm10 = sensor.query()'

    def __post_init__(self) -> None:
        if not 0 <= self.device_id < 0xFFFF:
            raise ValueError(f"device_id must be 0 to 0xFFFE, not {self.device_id:#x}")

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._received = b""
        self._next: Event | None = None
        self._plan()

    def _plan(self) -> None:
        if self._next is not None:
            self._next.cancel()
        if self.active and not self.asleep:
            self._next = self._timeline.after(60 * self.period or 1.0, self._report)

    def _report(self) -> None:
        self._measure()
        self._plan()

    def _measure(self) -> None:
        fine, coarse = round(self.pm25 * 10), round(self.pm10 * 10)
        self._send(0xC0, fine.to_bytes(2, "little") + coarse.to_bytes(2, "little"))

    def _send(self, kind: int, values: bytes) -> None:
        body = values + self.device_id.to_bytes(2, "big")
        wrong = 1 if self.bad_checksums else 0
        self.bad_checksums -= wrong
        self._port.send(bytes([0xAA, kind]) + body + bytes([sum(body) + wrong & 0xFF, 0xAB]), _BAUDRATE)

    def receive(self, data: bytes) -> None:
        """Take part of a command."""
        self._received += data
        while len(self._received) >= 19:
            command = self._received[:19]
            if command[:2] != b"\xaa\xb4" or command[18] != 0xAB:
                self._received = self._received[1:]
                continue
            self._received = self._received[19:]
            body = command[2:17]
            addressed = body[13:] in (_ANYONE, self.device_id.to_bytes(2, "big"))
            # Asleep, it answers only the command that wakes it.
            if not addressed or sum(body) & 0xFF != command[17] or (self.asleep and body[0] != _SLEEP):
                self.ignored += 1
            else:
                self._execute(body[0], bool(body[1]), body[2], body[11:13])

    def _execute(self, code: int, sets: bool, value: int, new_id: bytes) -> None:
        if code == _QUERY:
            self._measure()
            return
        if code == _FIRMWARE:
            self._send(0xC5, bytes([code, 18, 11, 16]))  # of 2018-11-16
            return
        if code == _REPORTING:
            self.active = not value if sets else self.active
            value = not self.active
        elif code == _SLEEP:
            self.asleep = not value if sets else self.asleep
            value = not self.asleep
        elif code == _PERIOD:
            self.period = min(value, 30) if sets else self.period
            value = self.period
        elif code == _ID:
            self.device_id = int.from_bytes(new_id, "big")
            sets, value = False, 0
        else:
            self.ignored += 1
            return
        self._send(0xC5, bytes([code, sets, value, 0]))
        self._plan()
