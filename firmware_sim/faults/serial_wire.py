"""Faults of the wire of a serial port: noise, characters with errors, messages with gaps or without an end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from firmware_sim.distortion import Distortion
from firmware_sim.faults.fault import Chance, FaultyBoard
from firmware_sim.faults.places import PortFault
from firmware_sim.uart import Port

Way = Literal["received", "sent", "both"]


class _Flips(Distortion):
    """Flips bits of single characters."""

    def __init__(self, way: Way, bits: int, chance: Chance, *, noticed: bool) -> None:
        self._way = way
        self._bits = bits
        self._chance = chance
        self._noticed = noticed

    def received(self, data: bytes) -> tuple[bytes, Collection[int]]:
        if self._way == "sent":
            return data, ()
        flipped, places = self._flip(data)
        return flipped, places if self._noticed else ()

    def sent(self, data: bytes) -> bytes:
        return data if self._way == "received" else self._flip(data)[0]

    def _flip(self, data: bytes) -> tuple[bytes, list[int]]:
        characters, places = bytearray(data), []
        for place in range(len(data)):
            if self._chance.strikes():
                places.append(place)
                for bit in self._chance.random.sample(range(8), self._bits):
                    characters[place] ^= 1 << bit
        return bytes(characters), places


@dataclass
class SerialNoise(PortFault):
    """Noise that flips bits, which the UART does not notice.

    Parameters:
        port: its name, or the name of the device on it.
        bits: how many bits of a character it flips, 1 to 8.
        way: of characters that the program has "received", has "sent", or "both".
    """

    name = "serial-noise"
    occasion = "character"
    bits: int = 1
    way: Way = "received"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits must be 1 to 8, not {self.bits}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        return _distort(self.find(board), _Flips(self.way, self.bits, chance, noticed=False))


@dataclass
class SerialParityError(PortFault):
    """Characters with a flipped bit, which the UART reports as a parity error if the program checks parity.

    The line discipline delivers such a character as the program's flags say (termios(3)): with INPCK and IGNPAR not at
    all, with INPCK and PARMRK as 0xFF 0x00 and the character, with INPCK alone as 0x00. Without INPCK the driver checks
    nothing and delivers the character as it came; pyserial, and so hwloop, leave it unset.

    Parameters:
        port: its name, or the name of the device on it.
    """

    name = "serial-parity-error"
    occasion = "character"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        return _distort(self.find(board), _Flips("received", 1, chance, noticed=True))


@dataclass
class SerialFramingError(PortFault):
    """Characters without a stop bit, as at a wrong baud rate: their bits are garbage.

    The line discipline treats a framing error as it does a parity error (`SerialParityError`; the drivers report
    neither without INPCK).

    Parameters:
        port: its name, or the name of the device on it.
    """

    name = "serial-framing-error"
    occasion = "character"

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        return _distort(self.find(board), _Flips("received", 4, chance, noticed=True))


class _Cuts(Distortion):
    def __init__(self, keep: int | None, chance: Chance) -> None:
        self._keep = keep
        self._chance = chance

    def message(self, data: bytes) -> Sequence[tuple[float, bytes]]:
        if not data or not self._chance.strikes():
            return [(0.0, data)]
        keep = self._chance.random.randrange(len(data)) if self._keep is None else self._keep
        return [(0.0, data[:keep])]


@dataclass
class SerialTruncation(PortFault):
    """Messages of the device that end too early: a connector with a loose contact, a device that resets.

    Parameters:
        port: its name, or the name of the device on it.
        keep: how many characters of a message are left; None draws the number for each.
    """

    name = "serial-truncation"
    occasion = "message"
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.keep is not None and self.keep < 0:
            raise ValueError(f"keep must be 0 or more, not {self.keep}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        return _distort(self.find(board), _Cuts(self.keep, chance))


class _Pauses(Distortion):
    def __init__(self, seconds: float, at: int | None, chance: Chance) -> None:
        self._seconds = seconds
        self._at = at
        self._chance = chance

    def message(self, data: bytes) -> Sequence[tuple[float, bytes]]:
        if len(data) < 2 or not self._chance.strikes():
            return [(0.0, data)]
        at = self._chance.random.randrange(1, len(data)) if self._at is None else self._at
        return [(0.0, data[:at]), (self._seconds, data[at:])]


@dataclass
class SerialGap(PortFault):
    """Silence within a message of the device, which ends a frame that is delimited by silence (Modbus: 3.5 characters).

    Parameters:
        port: its name, or the name of the device on it.
        seconds: how long it is silent.
        at: after how many characters; None draws the place for each message.
    """

    name = "serial-gap"
    occasion = "message"
    seconds: float = 0.05
    at: int | None = None

    def __post_init__(self) -> None:
        if self.seconds <= 0 or (self.at is not None and self.at < 1):
            raise ValueError(f"seconds must be more than 0 and at 1 or more, not {self.seconds} and {self.at}")

    def begin(self, board: FaultyBoard, chance: Chance) -> Callable[[], object]:
        return _distort(self.find(board), _Pauses(self.seconds, self.at, chance))


def _distort(port: Port, distortion: Distortion) -> Callable[[], object]:
    """Put a distortion on the wire, and return the function that takes it away."""
    port.distortions.append(distortion)
    return lambda: port.distortions.remove(distortion)
