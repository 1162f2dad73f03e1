"""A MIFARE Classic 1K card: what it answers to the frames of a reader, without the encryption.

Source: NXP MF1S50YYX_V1, revision 3.2, and ISO/IEC 14443-3. The reader's side of the authentication knows the key, so
the encrypted exchange is one question: whether the key is that of the sector.
"""

from __future__ import annotations

from enum import Enum, auto

BLOCK = 16
BLOCKS = 64
_REQUEST, _WAKE_UP, _SELECT, _READ, _WRITE, _HALT = 0x26, 0x52, 0x93, 0x30, 0xA0, 0x50
_ATQA, _SAK = b"\x04\x00", 0x08
_ACCESS = bytes.fromhex("ff078069")
ACKNOWLEDGED = 0x0A
"""A 4-bit answer."""


class State(Enum):
    """The states of a card (ISO/IEC 14443-3)."""

    IDLE = auto()
    READY = auto()
    ACTIVE = auto()
    HALTED = auto()


class Answer:
    """An answer: `data`, and how many bits of its last byte count (0: all)."""

    def __init__(self, data: bytes, last_bits: int = 0) -> None:
        self.data: bytes = data
        self.last_bits: int = last_bits


class Card:
    """A card.

    Parameters:
        uid: its identifier, four bytes.
        key: the keys A and B of all sectors, six bytes.

    Attributes:
        blocks: its 64 blocks.
    """

    def __init__(self, uid: bytes, key: bytes) -> None:
        self.uid: bytes = uid
        check = uid[0] ^ uid[1] ^ uid[2] ^ uid[3]
        self.blocks: list[bytes] = [bytes(BLOCK)] * BLOCKS
        self.blocks[0] = uid + bytes([check, _SAK]) + _ATQA + bytes(8)
        self.blocks[3::4] = [key + _ACCESS + key] * (BLOCKS // 4)
        self.state: State = State.IDLE
        self._sector: int | None = None
        self._writing: int | None = None

    def answer(self, frame: bytes, bits: int) -> Answer | None:
        """Return the answer to a frame whose last byte has `bits` bits (0: all); None for silence."""
        if bits == 7:  # a short frame
            return self._wake_up(frame)
        if self.state is State.READY and frame[:2] == bytes([_SELECT, 0x20]):
            return Answer(self.uid + self.blocks[0][4:5])
        if self.state is State.READY and frame[:7] == bytes([_SELECT, 0x70]) + self.uid + self.blocks[0][4:5]:
            if is_checked(frame):
                self.state = State.ACTIVE
                return Answer(checked(bytes([_SAK])))
        elif self.state is State.ACTIVE and is_checked(frame):
            return self._command(frame[:-2])
        self._give_up()
        return None

    def authenticate(self, command: int, block: int, key: bytes, uid: bytes) -> bool:
        """Return whether a key opens the sector of a block. With a wrong one the card falls silent."""
        trailer = self.blocks[block | 3] if block < BLOCKS else b""
        wanted = trailer[:6] if command & 1 == 0 else trailer[10:]
        if self.state is not State.ACTIVE or uid != self.uid or key != wanted:
            self._give_up()
            return False
        self._sector = block // 4
        return True

    def leave(self) -> None:
        """Lose the field: it begins anew when it comes back."""
        self.state, self._sector, self._writing = State.IDLE, None, None

    def _wake_up(self, frame: bytes) -> Answer | None:
        command = frame[0] & 0x7F
        if self.state is State.IDLE or (self.state is State.HALTED and command == _WAKE_UP):
            if command in (_REQUEST, _WAKE_UP):
                self.state, self._sector = State.READY, None
                return Answer(_ATQA)
            return None
        self._give_up()
        return None

    def _give_up(self) -> None:
        if self.state is not State.HALTED:
            self.leave()

    def _command(self, frame: bytes) -> Answer | None:
        if self._writing is not None:
            block, self._writing = self._writing, None
            if len(frame) != BLOCK:
                self._give_up()
                return None
            self.blocks[block] = frame
            return Answer(bytes([ACKNOWLEDGED]), 4)
        if frame[0] == _HALT:
            self.state, self._sector = State.HALTED, None
            return None
        if len(frame) != 2 or frame[1] >= BLOCKS or frame[1] // 4 != self._sector:
            self._give_up()
            return None
        block = frame[1]
        if frame[0] == _READ:
            data = self.blocks[block]
            return Answer(checked(bytes(6) + data[6:] if block & 3 == 3 else data))  # key A is never shown
        if frame[0] == _WRITE and block > 0:
            self._writing = block
            return Answer(bytes([ACKNOWLEDGED]), 4)
        self._give_up()
        return None


def crc_a(data: bytes, preset: int = 0x6363) -> int:
    """Return the checksum of ISO/IEC 14443-3, annex B: CRC_A."""
    value = preset
    for byte in data:
        byte ^= value & 0xFF
        byte = (byte ^ byte << 4) & 0xFF
        value = value >> 8 ^ byte << 8 ^ byte << 3 ^ byte >> 4
    return value


def checked(frame: bytes) -> bytes:
    """Return a frame with its checksum."""
    return frame + crc_a(frame).to_bytes(2, "little")


def is_checked(frame: bytes) -> bool:
    """Return whether a frame has the right checksum."""
    return len(frame) > 2 and checked(frame[:-2]) == frame
