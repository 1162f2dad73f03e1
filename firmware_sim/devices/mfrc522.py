"""An MFRC522: NXP's reader of contactless cards, with or without a card in its field.

Source: NXP MFRC522 revision 3.9. The card is a MIFARE Classic 1K
(`firmware_sim.mifare`). Simulated are the registers, FIFO, commands, interrupt bits, checksum and timer that drivers
use; not the analogue part, the test registers, and more than one card at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.mifare import BLOCK, Answer, Card, crc_a
from firmware_sim.spi_device import ByteDevice
from firmware_sim.spi_part import SpiPart

_COMMAND, _COM_IRQ, _DIV_IRQ, _ERROR, _STATUS_1, _STATUS_2, _FIFO, _LEVEL = 1, 4, 5, 6, 7, 8, 9, 10
_CONTROL, _FRAMING, _MODE, _TX_CONTROL, _CRC_HIGH, _CRC_LOW = 0x0C, 0x0D, 0x11, 0x14, 0x21, 0x22
_T_MODE, _PRESCALER, _RELOAD_HIGH, _RELOAD_LOW, _VERSION = 0x2A, 0x2B, 0x2C, 0x2D, 0x37
_AT_RESET = {
    0x01: 0x20, 0x02: 0x80, 0x04: 0x14, 0x07: 0x21, 0x0B: 0x08, 0x0C: 0x10, 0x11: 0x3F, 0x14: 0x80, 0x16: 0x10,
    0x17: 0x84, 0x18: 0x84, 0x19: 0x4D, 0x1C: 0x62, 0x1F: 0xEB, 0x21: 0xFF, 0x22: 0xFF, 0x24: 0x26, 0x26: 0x48,
    0x27: 0x88, 0x28: 0x20, 0x29: 0x20, 0x36: 0x40, 0x37: 0x92,
}  # fmt: skip
_IDLE, _MEM, _RANDOM, _CALCULATE_CRC, _TRANSMIT, _NO_CHANGE, _TRANSCEIVE, _AUTHENTICATE, _SOFT_RESET = (
    0, 1, 2, 3, 4, 7, 12, 14, 15,
)  # fmt: skip
_TIMER_IRQ, _ERROR_IRQ, _IDLE_IRQ, _RX_IRQ, _TX_IRQ = 0x01, 0x02, 0x10, 0x20, 0x40
_CRC_IRQ = 0x04
_PRESETS = (0x0000, 0x6363, 0xA671, 0xFFFF)
_FIFO_SIZE = 64
_READ_ONLY = (_ERROR, _STATUS_1, _CRC_HIGH, _CRC_LOW, _VERSION)
_BIT_NS = 9_440
"""At 106 kbit/s."""
_PAUSE_NS = 90_000
"""From a frame to its answer (ISO/IEC 14443-3: at least 86 µs)."""


@dataclass(eq=False)
class Mfrc522(ByteDevice, SpiPart):
    """An MFRC522 on an SPI bus, with a MIFARE Classic 1K card.

    Parameters:
        bus, select: its place.
        line: a line that selects it instead of the bus's own.
        uid: the card's identifier, eight hexadecimal digits; empty while there is no card.
        text: the text in the card's blocks 8 to 10, where SimpleMFRC522 keeps it.
        key: the card's keys A and B, twelve hexadecimal digits.
        reset_line: the line of pin RST; low stops the reader.

    Attributes:
        card: the card in the field, or None. A test may assign another `Card`.
    """

    fixed: ClassVar[str] = "uid, text, key, reset_line"
    wiring: ClassVar[str] = (
        "3.3 V, GND; SCK to GPIO11, MOSI to GPIO10, MISO to GPIO9, SDA (its select pin) to GPIO8 (CE0), RST to GPIO25"
    )
    example: ClassVar[str] = "reader = mfrc522.SimpleMFRC522()\nprint(reader.read())"
    uid: str = "deadbeef"
    text: str = ""
    key: str = "ffffffffffff"
    reset_line: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("(?:[0-9a-fA-F]{8})?", self.uid):
            raise ValueError(f"uid must be eight hexadecimal digits, or empty without a card, not {self.uid!r}")
        if not re.fullmatch("[0-9a-fA-F]{12}", self.key):
            raise ValueError(f"key must be twelve hexadecimal digits, not {self.key!r}")
        data = self.text.encode("latin-1", "replace")
        if len(data) > 3 * BLOCK:
            raise ValueError(f"text must have at most {3 * BLOCK} characters, not {len(data)}")
        self.card: Card | None = None
        if self.uid:
            self.card = Card(bytes.fromhex(self.uid), bytes.fromhex(self.key))
            for number in range(3):
                self.card.blocks[8 + number] = data[number * BLOCK :].ljust(BLOCK)[:BLOCK]

    def attach(self, board: Connections) -> None:
        self.max_speed: float = 10_000_000
        super().attach(board)
        if self.reset_line is not None:
            board.use_line(self.reset_line, f"RST of the MFRC522 on line {self.reset_line}").observe(self._on_reset)

    def _on_reset(self, level: int, when_ns: int) -> None:
        self._stopped = not level
        self._reset_registers()

    def power_on(self) -> None:
        self._stopped = False
        self.begin()
        self._reset_registers()

    def _reset_registers(self) -> None:
        self._registers = bytearray(64)
        for register, value in _AT_RESET.items():
            self._registers[register] = value
        self._fifo = bytearray()
        self._ready_ns: int | None = None
        self._answer: Answer | None = None
        if self.card is not None:
            self.card.leave()

    # The bus: an address, and then bytes for it, or one address for each byte that is read.

    def begin(self) -> None:
        self._address: int | None = None
        self._reads = False

    def answer(self) -> int | None:
        if self._stopped or self._address is None or not self._reads:
            return None
        return self._read(self._address)

    def take(self, byte: int) -> None:
        if self._stopped:
            return
        if self._address is not None and not self._reads:
            self._write(self._address, byte)
            return
        self._address, self._reads = byte >> 1 & 0x3F, bool(byte & 0x80)

    # The registers (9).

    def _read(self, register: int) -> int:
        self._catch_up()
        if register == _FIFO:
            return self._fifo.pop(0) if self._fifo else 0
        if register == _LEVEL:
            return len(self._fifo)
        return self._registers[register]

    def _write(self, register: int, value: int) -> None:
        self._catch_up()
        registers = self._registers
        if register == _FIFO:
            if len(self._fifo) < _FIFO_SIZE:
                self._fifo.append(value)
            else:
                registers[_ERROR] |= 0x10
        elif register == _LEVEL:
            if value & 0x80:
                self._fifo.clear()
                registers[_ERROR] &= ~0x10
        elif register in (_COM_IRQ, _DIV_IRQ):  # the highest bit says whether the others are set or cleared
            registers[register] = registers[register] | value & 0x7F if value & 0x80 else registers[register] & ~value
        elif register == _STATUS_2:
            registers[register] = value & 0xC0 | registers[register] & value & 0x08
        elif register == _COMMAND:
            self._command(value & 0x0F, value)
        elif register not in _READ_ONLY:
            before, registers[register] = registers[register], value
            if register == _FRAMING and value & 0x80 and registers[_COMMAND] & 0x0F == _TRANSCEIVE:
                self._send()
            if register == _TX_CONTROL and before & 3 and not value & 3 and self.card is not None:
                self.card.leave()

    def _command(self, command: int, value: int) -> None:
        """Begin a command, which ends the one before."""
        registers = self._registers
        if command == _NO_CHANGE:
            return
        if command == _SOFT_RESET:
            self._reset_registers()
            return
        registers[_COMMAND] = value & 0x3F
        self._ready_ns = None
        if command == _CALCULATE_CRC:
            value = crc_a(bytes(self._fifo), _PRESETS[registers[_MODE] & 3])
            self._fifo.clear()
            registers[_CRC_HIGH], registers[_CRC_LOW] = value >> 8, value & 0xFF
            registers[_DIV_IRQ] |= _CRC_IRQ
        elif command == _AUTHENTICATE:
            self._authenticate()
        elif command in (_MEM, _RANDOM, _TRANSMIT):
            self._fifo.clear()
            self._go_idle()

    def _go_idle(self) -> None:
        self._registers[_COMMAND] &= 0xF0
        self._registers[_COM_IRQ] |= _IDLE_IRQ

    def _field(self) -> bool:
        return self._registers[_TX_CONTROL] & 3 != 0

    def _send(self) -> None:
        frame, bits = bytes(self._fifo), self._registers[_FRAMING] & 7
        self._fifo.clear()
        self._registers[_ERROR] = 0
        self._registers[_COM_IRQ] |= _TX_IRQ
        if frame and self.card is not None and self._field():
            self._answer = self.card.answer(frame, bits)
        else:
            self._answer = None
        self._expect(len(frame) * 9, self._answer)

    def _authenticate(self) -> None:
        frame = bytes(self._fifo)
        self._fifo.clear()
        known = len(frame) >= 12 and self.card is not None and self._field()
        if known and self.card is not None and self.card.authenticate(frame[0], frame[1], frame[2:8], frame[8:12]):
            self._answer = Answer(b"")
        else:
            self._answer = None
        self._expect(100, self._answer)

    def _expect(self, bits: int, answer: Answer | None) -> None:
        """Plan the end of an answer, or of the timer."""
        if answer is not None:
            after_ns = (bits + len(answer.data) * 9) * _BIT_NS + _PAUSE_NS
        elif self._registers[_T_MODE] & 0x80:
            prescaler = (self._registers[_T_MODE] & 0x0F) << 8 | self._registers[_PRESCALER]
            reload = self._registers[_RELOAD_HIGH] << 8 | self._registers[_RELOAD_LOW]
            after_ns = bits * _BIT_NS + round((2 * prescaler + 1) * (reload + 1) / 13.56e6 * 1e9)
        else:
            return
        self._ready_ns = self.now_ns() + after_ns

    def _catch_up(self) -> None:
        """Receive the answer, or let the timer run out, if that is due."""
        if self._ready_ns is None or self.now_ns() < self._ready_ns:
            return
        self._ready_ns = None
        registers, answer = self._registers, self._answer
        if answer is None:
            registers[_COM_IRQ] |= _TIMER_IRQ
        elif registers[_COMMAND] & 0x0F == _AUTHENTICATE:
            registers[_STATUS_2] |= 0x08
            self._go_idle()
        else:
            self._fifo[:] = answer.data
            registers[_CONTROL] = registers[_CONTROL] & ~7 | answer.last_bits
            registers[_COM_IRQ] |= _RX_IRQ
