"""A PMS5003: Plantower's sensor of particles in the air.

In active mode it sends a frame of 32 bytes again and again; in passive mode one for each request. Commands have seven
bytes and a checksum, the sum of all bytes before it (Plantower PMS5003 series data manual, appendix I and II).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import LEAST_PERIOD, state, within
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline
from firmware_sim.uart import Port

_START = b"\x42\x4d"
_MODE, _READ, _SLEEP = 0xE1, 0xE2, 0xE4
_BAUDRATE = 9600


@dataclass
class Pms5003(Device):
    """A PMS5003 particle sensor.

    Parameters:
        port: the serial port it is on.
        pm1, pm25, pm10: the mass of particles up to 1, 2.5 and 10 µm. Assign new values at any time.
        interval: from one frame to the next in active mode.
        reset: the line of RESET, low to reset it; None: not connected.
        enable: the line of SET, low to let it sleep; None: not connected.

    Attributes:
        active: whether it sends frames without a request.
        asleep: whether it sleeps by command.
        frames: frames that it has sent.
        ignored: commands with a wrong checksum, unknown ones, and requests in active mode or while it sleeps.
        bad_checksums: how many of the next frames get a wrong checksum.
    """

    port: str
    pm1: float = within(0, 1000, "µg/m³", default=5.0)
    pm25: float = within(0, 1000, "µg/m³", default=8.0)
    pm10: float = within(0, 1000, "µg/m³", default=10.0)
    interval: float = within(LEAST_PERIOD, 60, "seconds", default=0.8)
    reset: int | None = None
    enable: int | None = None
    active: bool = field(default=state(True, changed="_plan"), init=False)
    asleep: bool = field(default=state(False, changed="_plan"), init=False)
    frames: int = field(default=0, init=False)
    ignored: int = field(default=0, init=False)
    bad_checksums: int = field(default=0, init=False)

    fixed = "reset, enable"
    wiring = "VCC to 5 V, GND to GND, TXD to RXD (line 15), RXD to TXD (line 14), SET and RESET to lines or to 3.3 V"
    example = 'sensor = pms5003.PMS5003(device="/dev/ttyUSB0"); sensor.read().pm_ug_per_m3(2.5)'

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._received = b""
        self._next: Event | None = None
        self._inputs = [
            self._input(board, number, name) for number, name in ((self.reset, "RESET"), (self.enable, "SET")) if number
        ]
        self._plan()

    def _input(self, board: Connections, number: int, name: str) -> Line:
        line = board.use_line(number, f"{name} of the PMS5003 on line {number}")
        line.pull("up")
        line.observe(lambda level, when_ns: self._restart(level))
        return line

    def _restart(self, level: int) -> None:
        if level:
            self.active, self.asleep = True, False
        self._plan()

    @property
    def _running(self) -> bool:
        return not self.asleep and all(line.level for line in self._inputs)

    def _plan(self) -> None:
        if self._next is not None:
            self._next.cancel()
        if self.active and self._running:
            self._next = self._timeline.after(self.interval, self._send_next)

    def _send_next(self) -> None:
        self._port.send(self.frame(), _BAUDRATE)
        self._plan()

    def frame(self) -> bytes:
        """Return the frame of the present values, and count it."""
        mass = [round(value) for value in (self.pm1, self.pm25, self.pm10)]
        # The numbers of particles in 0.1 l larger than 0.3, 0.5, 1, 2.5, 5 and 10 µm, in a plausible relation.
        counts = [min(0xFFFF, round(factor * self.pm25)) for factor in (180, 54, 9, 1, 0.3, 0.1)]
        self.frames += 1
        wrong = 1 if self.bad_checksums else 0
        self.bad_checksums -= wrong
        return _framed(struct.pack(">13H", *mass, *mass, *counts, 0x9700), wrong)

    def receive(self, data: bytes) -> None:
        """Take part of a command."""
        self._received += data
        while len(self._received) >= 7:
            command, self._received = self._received[:7], self._received[7:]
            if command[:2] != _START or sum(command[:5]) != int.from_bytes(command[5:], "big"):
                self.ignored += 1
                self._received = (command + self._received)[1:]
            elif all(line.level for line in self._inputs):
                self._execute(command[2], command[4])

    def _execute(self, code: int, value: int) -> None:
        if code == _READ and not self.active and self._running:
            self._port.send(self.frame(), _BAUDRATE)
            return
        if code == _MODE:
            self.active = bool(value)
        elif code == _SLEEP:
            self.asleep = not value
        else:
            self.ignored += 1
            return
        self._port.send(_framed(bytes([code, value])), _BAUDRATE)
        self._plan()


def _framed(payload: bytes, wrong: int = 0) -> bytes:
    frame = _START + (len(payload) + 2).to_bytes(2, "big") + payload
    return frame + (sum(frame) + wrong & 0xFFFF).to_bytes(2, "big")
