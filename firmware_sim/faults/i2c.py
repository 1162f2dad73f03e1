"""Faults of I2C: the errors of fault-codes.rst (kernel documentation) as the Pi's adapters report them, and wrong data.

The Pi 1 to 4 have one kind of adapter (i2c-bcm2835.c in the kernel), the Pi 5 another (i2c-designware).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_sim.bus import Bus, Disturbance
from firmware_sim.faults.answers import Answer, WrongAnswers
from firmware_sim.faults.fault import Chance, FaultyBoard
from firmware_sim.faults.places import BusFault, TransferFault
from firmware_sim.i2c_dev import Message
from firmware_sim.nodes import os_error


class _Selective(Disturbance):
    """Disturbs transfers with one device, or with all."""

    def __init__(self, address: int | None, chance: Chance) -> None:
        self._address = address
        self._chance = chance

    def concerns(self, message: Message) -> bool:
        return self._address in (None, message.address)

    def strikes(self, messages: Sequence[Message]) -> bool:
        return any(self.concerns(message) for message in messages) and self._chance.strikes()


class _Nacks(_Selective):
    def acknowledges(self, message: Message) -> bool:
        return not self.strikes([message])


@dataclass
class I2cNack(TransferFault):
    """A device that does not acknowledge its address: EREMOTEIO from the Pi's adapters up to the Pi 4.

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name; None for all transfers on the bus.
    """

    name = "i2c-nack"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, address = self.find_device(board)
        return _disturb(bus, _Nacks(address, chance))


class _LosesArbitration(_Selective):
    def start(self, messages: Sequence[Message]) -> None:
        if self.strikes(messages):
            raise os_error(errno.EAGAIN)


@dataclass
class I2cArbitrationLoss(TransferFault):
    """Another master that wins the bus: EAGAIN, once the kernel has tried as often as the adapter asks for.

    (fault-codes.rst; __i2c_transfer() in i2c-core-base.c repeats a transfer after EAGAIN.)

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name; None for all transfers on the bus.
    """

    name = "i2c-arbitration-loss"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, address = self.find_device(board)
        return _disturb(bus, _LosesArbitration(address, chance))


@dataclass
class I2cStuckSda(BusFault):
    """A device that holds the data line low, as after a transfer that was cut off: ETIMEDOUT after the adapter's 1 s.

    A transfer that waits when the fault ends is made.

    Parameters:
        bus: the bus's number.
    """

    name = "i2c-stuck-sda"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, token = self.find(board), object()
        bus.hang(token)
        return lambda: bus.release(token)


@dataclass
class I2cHang(BusFault):
    """An adapter that hangs: a transfer blocks until the fault ends, beyond any timeout of the kernel's.

    The thread that makes it can't be cancelled, so a program can only stop waiting for it.

    Parameters:
        bus: the bus's number.
    """

    name = "i2c-hang"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, token = self.find(board), object()
        bus.block(token)
        return lambda: bus.unblock(token)


class _Stretches(_Selective):
    def __init__(self, address: int | None, chance: Chance, seconds: float) -> None:
        super().__init__(address, chance)
        self._seconds = seconds
        self._left = 0.0

    def start(self, messages: Sequence[Message]) -> None:
        self._left = self._seconds if self.strikes(messages) else 0.0

    def stretch(self, message: Message) -> float:
        if not self.concerns(message):
            return 0.0
        seconds, self._left = self._left, 0.0
        return seconds


@dataclass
class I2cClockStretch(TransferFault):
    """A device that holds the clock low before its first message: the transfer takes longer by that.

    From the adapter's timeout of 1 s on the transfer fails with ETIMEDOUT.

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name; None for all transfers on the bus.
        seconds: for how long it holds the clock.
    """

    name = "i2c-clock-stretch"
    seconds: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 1000:
            raise ValueError(f"seconds must be more than 0 and at most 1000, not {self.seconds!r}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, address = self.find_device(board)
        return _disturb(bus, _Stretches(address, chance, self.seconds))


class _Answers(_Selective):
    def __init__(self, address: int | None, chance: Chance, answer: Answer) -> None:
        super().__init__(address, chance)
        self._wrong = WrongAnswers(chance, answer)

    def answer(self, message: Message, data: bytes) -> bytes:
        return self._wrong.spoil(message.address, data, strikes=bool(data) and self.strikes([message]))


@dataclass
class I2cWrongAnswer(TransferFault):
    """Wrong bytes in what is read; I2C has no check of its own, so the transfer succeeds.

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name; None for all transfers on the bus.
        answer: "flipped" changes one bit, "ones" reads 0xFF as from a device that lets the line go, "zeros" reads 0x00
            as from one that holds it, "stale" repeats the bytes of the read before.
    """

    name = "i2c-wrong-answer"
    occasion = "read"
    answer: Answer = "flipped"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        bus, address = self.find_device(board)
        return _disturb(bus, _Answers(address, chance, self.answer))


@dataclass
class I2cDeviceReset(TransferFault):
    """A device whose supply fails for a moment: it loses what the program has set.

    Parameters:
        bus: the bus's number.
        address: the device's address, or its name; None for all devices on the bus.
    """

    name = "i2c-device-reset"
    occasion = "beginning"
    momentary = True

    def begin(self, board: FaultyBoard, chance: Chance) -> None:
        bus, address = self.find_device(board)
        for device in bus.devices() if address is None else [bus[address]]:
            device.reset()


def _disturb(bus: Bus, disturbance: Disturbance) -> Callable[[], object]:
    """Put a disturbance on the wire, and return the function that takes it away."""
    bus.disturbances.append(disturbance)
    return lambda: bus.disturbances.remove(disturbance)
