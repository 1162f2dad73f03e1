"""The targets of faults on a board: a line, a port, a bus, a device, found by number or by the name of a part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from firmware_sim.bus import Bus
from firmware_sim.errors import FaultError
from firmware_sim.faults.fault import Fault, FaultyBoard
from firmware_sim.fields import listed
from firmware_sim.pins import Line
from firmware_sim.uart import Port

_HEXADECIMAL = re.compile("0[xX][0-9a-fA-F]+")


@dataclass
class LineFault(Fault):
    """A fault on one line.

    Parameters:
        line: its number, its name ("GPIO17"), or the name of the part on it.
    """

    place: ClassVar[Sequence[str]] = ("line",)
    line: int | str

    def target(self, board: FaultyBoard) -> str:
        return f"line {self.find(board).number}"

    def find(self, board: FaultyBoard) -> Line:
        """Return the line. Raises `FaultError`."""
        number = self.line
        if isinstance(number, str):
            named = next((each for each in map(board.chip.line, range(len(board.chip))) if each.name == number), None)
            number = named.number if named is not None else part_field(board, self.name, number, "line")
        try:
            return board.chip.line(number)
        except ValueError as error:
            raise FaultError(f"fault {self.name}: {error}") from None


@dataclass
class PortFault(Fault):
    """A fault on a serial port.

    Parameters:
        port: its name, or the name of the device on it.
    """

    place: ClassVar[Sequence[str]] = ("port",)
    port: str

    def target(self, board: FaultyBoard) -> str:
        return self.find(board).name

    def find(self, board: FaultyBoard) -> Port:
        """Return the port. Raises `FaultError`."""
        for path in (self.port, f"/dev/{self.port}"):
            if path in board.ports:
                return board.ports[path]
        if not self.port.startswith("/"):
            return board.ports[part_field(board, self.name, self.port, "port")]
        there = listed(board.ports) or "none"
        raise FaultError(f"fault {self.name}: no port {self.port!r} on the board; there are: {there}")


@dataclass
class BusFault(Fault):
    """A fault on a whole I2C bus.

    Parameters:
        bus: its number.
    """

    place: ClassVar[Sequence[str]] = ("bus",)
    bus: int = 1

    def target(self, board: FaultyBoard) -> str:
        return f"i2c {self.find(board).number}"

    def find(self, board: FaultyBoard) -> Bus:
        """Return the bus. Raises `FaultError`."""
        if self.bus in board.buses:
            return board.buses[self.bus]
        there = listed(map(str, board.buses))
        raise FaultError(f"fault {self.name}: no I2C bus {self.bus} on the board; there are: {there}")


@dataclass
class TransferFault(BusFault):
    """A fault of transfers with one I2C device, or with all of a bus.

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name, which also says the bus; None for all transfers on the bus.
    """

    place: ClassVar[Sequence[str]] = ("bus", "address")
    occasion = "transfer"
    address: int | str | None = None

    def target(self, board: FaultyBoard) -> str:
        bus, address = self.find_device(board)
        return f"i2c {bus.number}" + ("" if address is None else f" 0x{address:02x}")

    def find_device(self, board: FaultyBoard) -> tuple[Bus, int | None]:
        """Return the bus, and the device's address. Raises `FaultError`."""
        address = self.address
        if isinstance(address, str) and _HEXADECIMAL.fullmatch(address):
            address = int(address, 16)
        if isinstance(address, str):
            bus = board.buses[part_field(board, self.name, address, "bus")]
            return bus, part_field(board, self.name, address, "address")
        bus = self.find(board)
        if address is not None:
            try:
                bus[address]
            except KeyError as error:
                raise FaultError(f"fault {self.name}: {error.args[0]}") from None
        return bus, address


def part_field(board: FaultyBoard, fault: str, name: str, field: str) -> Any:
    """Return a field of the part called `name`, which says where it is. Raises `FaultError`."""
    try:
        part = board[name]
    except KeyError as error:
        raise FaultError(f"fault {fault}: {error.args[0]}") from None
    try:
        return getattr(part, field)
    except AttributeError:
        raise FaultError(f"fault {fault}: {name}, a {type(part).__name__}, has no {field}") from None
