"""Faults of SPI: wrong bytes, a device that is absent, a controller that fails or hangs.

SPI has no acknowledgement and no check, so most of them show in the bytes only.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.errors import FaultError
from firmware_sim.faults.answers import Answer, WrongAnswers
from firmware_sim.faults.fault import Chance, Fault, FaultyBoard
from firmware_sim.faults.places import part_field
from firmware_sim.fields import listed
from firmware_sim.nodes import os_error
from firmware_sim.spi import Disturbance, SpiBus


@dataclass
class SpiBusFault(Fault):
    """A fault of a whole SPI bus.

    Parameters:
        bus: its number.
    """

    place: ClassVar[Sequence[str]] = ("bus",)
    bus: int = 0

    def target(self, board: FaultyBoard) -> str:
        return f"spi {self.find(board).number}"

    def find(self, board: FaultyBoard) -> SpiBus:
        """Return the bus. Raises `FaultError`."""
        if self.bus in board.spi_buses:
            return board.spi_buses[self.bus]
        there = listed(map(str, board.spi_buses))
        raise FaultError(f"fault {self.name}: no SPI bus {self.bus} on the board; there are: {there}")


@dataclass
class SpiFault(SpiBusFault):
    """A fault of transfers with one SPI device, or with all of a bus.

    Parameters:
        bus: the bus's number.
        select: the device's select line, or its name, which also says the bus; None for all transfers on the bus.
    """

    place: ClassVar[Sequence[str]] = ("bus", "select")
    occasion = "transfer"
    select: int | str | None = None

    def target(self, board: FaultyBoard) -> str:
        bus, select = self.find_device(board)
        return f"spi {bus.number}" + ("" if select is None else f".{select}")

    def find_device(self, board: FaultyBoard) -> tuple[SpiBus, int | None]:
        """Return the bus, and the device's select line. Raises `FaultError`."""
        select = self.select
        if isinstance(select, str):
            bus = board.spi_buses[part_field(board, self.name, select, "bus")]
            return bus, part_field(board, self.name, select, "select")
        bus = self.find(board)
        if select is not None:
            try:
                bus[select]
            except KeyError as error:
                raise FaultError(f"fault {self.name}: {error.args[0]}") from None
        return bus, select


class _Selective(Disturbance):
    """Disturbs transfers with one device, or with all."""

    def __init__(self, select: int | None, chance: Chance) -> None:
        self._select = select
        self._chance = chance

    def strikes(self, select: int) -> bool:
        return self._select in (None, select) and self._chance.strikes()


class _Absent(_Selective):
    def connected(self, select: int) -> bool:
        return not self.strikes(select)


@dataclass
class SpiAbsent(SpiFault):
    """A device whose select line has come loose: MISO has the level of its pull.

    Parameters:
        bus: the bus's number.
        select: the device's select line, or its name; None for all devices of the bus.
    """

    name = "spi-absent"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, select = self.find_device(board)
        return _disturb(bus, _Absent(select, chance))


class _Answers(_Selective):
    def __init__(self, select: int | None, chance: Chance, answer: Answer) -> None:
        super().__init__(select, chance)
        self._wrong = WrongAnswers(chance, answer)

    def answer(self, select: int, data: bytes) -> bytes:
        return self._wrong.spoil(select, data, strikes=self.strikes(select))


@dataclass
class SpiWrongAnswer(SpiFault):
    """Wrong bytes in what is read.

    Parameters:
        bus: the bus's number.
        select: the device's select line, or its name; None for all transfers on the bus.
        answer: "flipped" changes one bit, "ones" and "zeros" are a MISO line that is stuck, "stale" repeats the
            bytes of the transfer before.
    """

    name = "spi-wrong-answer"
    answer: Answer = "flipped"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, select = self.find_device(board)
        return _disturb(bus, _Answers(select, chance, self.answer))


class _Fails(_Selective):
    def start(self, select: int, sent: bytes) -> None:
        if self.strikes(select):
            raise os_error(errno.ETIMEDOUT)


@dataclass
class SpiTimeout(SpiFault):
    """A controller that does not finish a transfer, as with a lost interrupt or DMA: ETIMEDOUT.

    Parameters:
        bus: the bus's number.
        select: the device's select line, or its name; None for all transfers on the bus.
    """

    name = "spi-timeout"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, select = self.find_device(board)
        return _disturb(bus, _Fails(select, chance))


@dataclass
class SpiHang(SpiBusFault):
    """A controller that hangs: a transfer blocks until the fault ends.

    The thread that makes it can't be cancelled, so a program can only stop waiting for it.

    Parameters:
        bus: the bus's number.
    """

    name = "spi-hang"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, token = self.find(board), object()
        bus.block(token)
        return lambda: bus.unblock(token)


@dataclass
class SpiDeviceReset(SpiFault):
    """A device whose supply fails for a moment: it loses what the program has set.

    Parameters:
        bus: the bus's number.
        select: the device's select line, or its name; None for all devices on the bus.
    """

    name = "spi-device-reset"
    occasion = "beginning"
    momentary = True

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        bus, select = self.find_device(board)
        for device in bus.devices() if select is None else [bus[select]]:
            device.reset()


def _disturb(bus: SpiBus, disturbance: Disturbance) -> Callable[[], object]:
    """Put a disturbance on the wires, and return the function that takes it away."""
    bus.disturbances.append(disturbance)
    return lambda: bus.disturbances.remove(disturbance)
