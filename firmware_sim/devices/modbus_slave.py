"""A Modbus RTU slave with a register map: an energy meter, an inverter, a PLC.

Functions 1 to 6, 15 and 16 of "MODBUS Application Protocol Specification" 1.1b3, with its exceptions: 1 for another
function, 2 for an address that is not in the map, 3 for a value or count that makes no sense.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.devices.modbus import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    READ_COILS,
    READ_DISCRETE,
    READ_HOLDING,
    READ_INPUT,
    WRITE_COIL,
    WRITE_COILS,
    WRITE_MULTIPLE,
    WRITE_SINGLE,
    Parity,
    Refusal,
    RtuLine,
    respond,
    unpacked,
)
from firmware_sim.limits import BAUD_RATES, within

_COIL_VALUES = {0x0000: 0, 0xFF00: 1}


@dataclass
class ModbusSlave(Device):
    """A Modbus RTU slave with a register map.

    Each table is a list of rows: an address, then the values from there on. `[[0, 215, 3], [100, 7]]` has the addresses
    0, 1 and 100.

    Parameters:
        port: the serial port it is on.
        unit: its address, 1 to 247.
        baudrate: bits a second.
        parity: "E", "O" or "N"; programs with other line settings get no answer. None answers all.
        reply_delay: seconds between the end of a request and the reply.
        holding_registers, input_registers: rows of 16-bit numbers, -32768 to 65535.
        coils, discrete_inputs: rows of 0 and 1.

    Attributes:
        holding, inputs, coil, discrete: the four tables by address; a test reads and changes them at any time.
        silent: whether it answers nothing, as without power.
        bad_checksums: how many of the next answers get a wrong CRC.
        answered: requests answered, with an exception or without.
        ignored: frames left unanswered.
    """

    port: str
    unit: int = within(1, 247, "as a unit", default=1)
    baudrate: int = within(*BAUD_RATES, "bits a second", default=19200)
    parity: Parity | None = None
    reply_delay: float = within(0, 3600, "seconds", default=0.005)
    holding_registers: list[list[int]] = field(default_factory=lambda: [[0, 0, 0, 0, 0]])
    input_registers: list[list[int]] = field(default_factory=list)
    coils: list[list[int]] = field(default_factory=list)
    discrete_inputs: list[list[int]] = field(default_factory=list)
    holding: dict[int, int] = field(default_factory=dict, init=False)
    inputs: dict[int, int] = field(default_factory=dict, init=False)
    coil: dict[int, int] = field(default_factory=dict, init=False)
    discrete: dict[int, int] = field(default_factory=dict, init=False)
    silent: bool = field(default=False, init=False)
    bad_checksums: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    ignored: int = field(default=0, init=False)

    fixed = "holding_registers, input_registers, coils, discrete_inputs"
    wiring = "A and B to an RS-485 adapter, 120 Ω between them at both ends of the line"
    example = 'minimalmodbus.Instrument("/dev/ttyUSB0", 1).read_register(0)'

    def __post_init__(self) -> None:
        if self.parity not in ("E", "O", "N", None):
            raise ValueError(f"parity must be 'E', 'O' or 'N', not {self.parity!r}")
        self.holding = _table("holding_registers", self.holding_registers, -32768, 65535)
        self.inputs = _table("input_registers", self.input_registers, -32768, 65535)
        self.coil = _table("coils", self.coils, 0, 1)
        self.discrete = _table("discrete_inputs", self.discrete_inputs, 0, 1)

    def attach(self, board: Connections) -> None:
        self._line = RtuLine(board.add_port(self.port), board.timeline, self)

    def respond(self, request: bytes) -> bytes:
        """Return the reply to a whole frame, CRC included; empty where there is none."""
        reply = b"" if self.silent else respond(request, self.unit, self._execute)
        if reply and self.bad_checksums:
            self.bad_checksums -= 1
            reply = reply[:-1] + bytes([reply[-1] ^ 0xFF])
        return reply

    def _execute(self, function: int, body: bytes) -> bytes:
        if function in (READ_HOLDING, READ_INPUT):
            values = _read(self.holding if function == READ_HOLDING else self.inputs, body, 125)
            return bytes([2 * len(values)]) + struct.pack(f">{len(values)}H", *(value & 0xFFFF for value in values))
        if function in (READ_COILS, READ_DISCRETE):
            values = _read(self.coil if function == READ_COILS else self.discrete, body, 2000)
            bits = sum(bool(value) << place for place, value in enumerate(values))
            size = (len(values) + 7) // 8
            return bytes([size]) + bits.to_bytes(size, "little")
        if function == WRITE_SINGLE:
            address, value = unpacked(">HH", body)
            _write(self.holding, address, [value])
            return body
        if function == WRITE_COIL:
            address, value = unpacked(">HH", body)
            if value not in _COIL_VALUES:
                raise Refusal(ILLEGAL_VALUE)
            _write(self.coil, address, [_COIL_VALUES[value]])
            return body
        if function in (WRITE_MULTIPLE, WRITE_COILS):
            registers = function == WRITE_MULTIPLE
            address, count, size = unpacked(">HHB", body[:5])
            least = 2 * count if registers else (count + 7) // 8
            if not 1 <= count <= (123 if registers else 1968) or size != least or len(body) != 5 + size:
                raise Refusal(ILLEGAL_VALUE)
            if registers:
                _write(self.holding, address, list(struct.unpack(f">{count}H", body[5:])))
            else:
                bits = int.from_bytes(body[5:], "little")
                _write(self.coil, address, [bits >> place & 1 for place in range(count)])
            return body[:4]
        raise Refusal(ILLEGAL_FUNCTION)


def _table(key: str, rows: list[list[int]], low: int, high: int) -> dict[int, int]:
    table: dict[int, int] = {}
    for row in rows:
        if len(row) < 2 or not 0 <= row[0] <= 0x10000 + 1 - len(row):
            raise ValueError(f"{key} must be rows of an address, 0 to 65535, and values from there on, not {row}")
        for address, value in enumerate(row[1:], row[0]):
            if not low <= value <= high:
                raise ValueError(f"{key} must have values from {low} to {high}, not {value} at address {address}")
            table[address] = value
    return table


def _read(table: dict[int, int], body: bytes, most: int) -> list[int]:
    address, count = unpacked(">HH", body)
    if not 1 <= count <= most:
        raise Refusal(ILLEGAL_VALUE)
    try:
        return [table[place] for place in range(address, address + count)]
    except KeyError:
        raise Refusal(ILLEGAL_ADDRESS) from None


def _write(table: dict[int, int], address: int, values: list[int]) -> None:
    """Write all values, or none."""
    if any(place not in table for place in range(address, address + len(values))):
        raise Refusal(ILLEGAL_ADDRESS)
    table.update(enumerate(values, address))
