"""Modbus RTU: the wire of a slave (frames by their silence, CRC, line settings, exceptions), and a thermometer on it.

By "MODBUS over Serial Line, Specification and Implementation Guide" 1.02 (frames, CRC, timing) and "MODBUS
Application Protocol Specification" 1.1b3 (functions, exceptions). RTU has no start mark: a frame ends where the line
was silent for 3.5 characters, and a frame with a wrong CRC, or for another unit, gets no answer.

The thermometer has these registers. Input registers (function 4), read only:
    0   temperature with the offset, in tenths of a degree Celsius, signed
    1   alarms: bit 0 too cold, bit 1 too hot
Holding registers (functions 3, 6, 16), in tenths of a degree, signed:
    0   offset added to the temperature, -100 to 100
    1   too cold below this
    2   too hot above this
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from firmware_sim.device import Connections, Device
from firmware_sim.limits import BAUD_RATES, within
from firmware_sim.timeline import Event, Timeline
from firmware_sim.uart import Port

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_SINGLE, WRITE_COILS, WRITE_MULTIPLE = 5, 6, 15, 16
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
BROADCAST = 0
LONGEST_FRAME = 256
Parity = Literal["E", "O", "N"]
_BITS = 11
"""Bits of a character on a Modbus line: start, eight data, parity or a second stop bit, stop."""


class Refusal(Exception):
    """A request that gets an exception code as its answer."""


class Slave(Protocol):
    """A slave, as far as the wire needs it."""

    baudrate: int
    reply_delay: float
    parity: Parity | None
    answered: int
    ignored: int

    def respond(self, request: bytes) -> bytes:
        """Return the reply to a whole frame, CRC included; empty where there is none."""


class RtuLine:
    """The wire between a port and a slave."""

    def __init__(self, port: Port, timeline: Timeline, slave: Slave) -> None:
        self._port = port
        self._timeline = timeline
        self._slave = slave
        self._request = bytearray()
        self._silence: Event | None = None
        port.attach(self)

    def receive(self, data: bytes) -> None:
        """Take part of a request. Writing takes the program no time, so the time on the wire is added here."""
        self._request += data
        del self._request[LONGEST_FRAME + 1 :]
        if self._silence is not None:
            self._silence.cancel()
        character = _BITS / self._slave.baudrate
        # Section 2.5.1.1: 3.5 characters, but 1.75 ms at least (above 19200 baud).
        gap = max(3.5 * character, 0.00175)
        self._silence = self._timeline.after(len(data) * character + gap, self._on_silence)

    def _on_silence(self) -> None:
        request = bytes(self._request)
        self._request.clear()
        self._silence = None
        response = self._slave.respond(request) if self._understands() else b""
        if response:
            self._slave.answered += 1
            self._timeline.after(self._slave.reply_delay, lambda: self._port.send(response, self._slave.baudrate))
        else:
            self._slave.ignored += 1

    def _understands(self) -> bool:
        line = self._port.settings
        if self._slave.parity is None or line is None:
            return True
        return (line.baudrate, line.bytesize, line.parity) == (self._slave.baudrate, 8, self._slave.parity)


def respond(request: bytes, unit: int, execute: Callable[[int, bytes], bytes]) -> bytes:
    """Return the reply of a unit to a whole frame, CRC included; empty where there is none.

    `execute(function, body)` returns the body of the reply, or raises `Refusal`.
    """
    if not 4 <= len(request) <= LONGEST_FRAME or crc16(request[:-2]) != request[-2:]:
        return b""
    addressed, function, body = request[0], request[1], request[2:-2]
    if addressed not in (unit, BROADCAST):
        return b""
    try:
        reply = bytes([unit, function]) + execute(function, body)
    except Refusal as refusal:
        reply = bytes([unit, function | 0x80, refusal.args[0]])
    return b"" if addressed == BROADCAST else reply + crc16(reply)


def crc16(data: bytes) -> bytes:
    """Return the CRC of a frame as its last two bytes, low byte first (serial line guide, section 6.2.2)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def unpacked(layout: str, body: bytes) -> tuple[int, ...]:
    """Return the numbers of a request's body. Raises `Refusal` if it has another length."""
    if len(body) != struct.calcsize(layout):
        raise Refusal(ILLEGAL_VALUE)
    return struct.unpack(layout, body)


@dataclass
class ModbusTemperature(Device):
    """A Modbus RTU slave with a thermometer.

    Parameters:
        port: the serial port it is on.
        unit: its address, 1 to 247.
        baudrate: bits a second.
        temperature: degrees Celsius; may be changed at any time.
        reply_delay: seconds between the end of a request and the reply.
        parity: "E", "O" or "N". A program that has set another parity, other than 8 data bits or another baud rate
            gets no answer. None answers all.

    Attributes:
        holding: the holding registers.
        answered: requests answered, with an exception or without.
        ignored: frames left unanswered: too short or long, wrong CRC, for another unit, broadcast, or garbled by other
            line settings.
        wire: the wire between its port and it.
    """

    port: str
    unit: int = within(1, 247, "as a unit", default=1)
    baudrate: int = within(*BAUD_RATES, "bits a second", default=19200)
    temperature: float = within(-3276.8, 3276.7, "°C", default=21.5)
    reply_delay: float = within(0, 3600, "seconds", default=0.005)
    parity: Parity | None = None
    holding: list[int] = field(default_factory=lambda: [0, 0, 400], init=False)
    answered: int = field(default=0, init=False)
    ignored: int = field(default=0, init=False)

    wiring = "A and B to an RS-485 adapter, 120 Ω between them at both ends of the line; supply as the sensor says"
    example = 'minimalmodbus.Instrument("/dev/ttyUSB0", 1).read_register(0, 1, functioncode=4, signed=True)'

    def __post_init__(self) -> None:
        if self.parity not in ("E", "O", "N", None):
            raise ValueError(f"parity must be 'E', 'O' or 'N', not {self.parity!r}")

    def attach(self, board: Connections) -> None:
        self.wire: RtuLine = RtuLine(board.add_port(self.port), board.timeline, self)

    def respond(self, request: bytes) -> bytes:
        """Return the reply to a whole frame, CRC included; empty where there is none."""
        return respond(request, self.unit, self._execute)

    def _execute(self, function: int, body: bytes) -> bytes:
        if function in (READ_HOLDING, READ_INPUT):
            registers = self.holding if function == READ_HOLDING else self._inputs()
            address, count = unpacked(">HH", body)
            if not 1 <= count <= 125:
                raise Refusal(ILLEGAL_VALUE)
            if address + count > len(registers):
                raise Refusal(ILLEGAL_ADDRESS)
            return bytes([2 * count]) + struct.pack(f">{count}h", *registers[address : address + count])
        if function == WRITE_SINGLE:
            address, value = unpacked(">Hh", body)
            self._write(address, [value])
            return body
        if function == WRITE_MULTIPLE:
            address, count, size = unpacked(">HHB", body[:5])
            if not 1 <= count <= 123 or size != 2 * count or len(body) != 5 + size:
                raise Refusal(ILLEGAL_VALUE)
            self._write(address, list(struct.unpack(f">{count}h", body[5:])))
            return body[:4]
        raise Refusal(ILLEGAL_FUNCTION)

    def _inputs(self) -> list[int]:
        tenths = max(-32768, min(32767, round(self.temperature * 10) + self.holding[0]))
        return [tenths, (tenths < self.holding[1]) + 2 * (tenths > self.holding[2])]

    def _write(self, address: int, values: list[int]) -> None:
        """Write all values, or none."""
        if address + len(values) > len(self.holding):
            raise Refusal(ILLEGAL_ADDRESS)
        if address == 0 and not -100 <= values[0] <= 100:
            raise Refusal(ILLEGAL_VALUE)
        self.holding[address : address + len(values)] = values
