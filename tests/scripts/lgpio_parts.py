"""Parts that lgpio's examples are written for, for their board files: a radio, and the author's test board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_sim import Connections, Device
from firmware_sim.i2c_device import I2cDevice
from firmware_sim.spi_device import ByteDevice, SpiDevice
from firmware_sim.spi_part import SpiPart

_READ_WIDTH, _READ_PAYLOAD, _WRITE_PAYLOAD, _FLUSH_TX, _FLUSH_RX = 0x60, 0x61, 0xA0, 0xE1, 0xE2
_CONFIG, _STATUS, _FIFO_STATUS = 0x00, 0x07, 0x17
_RECEIVED, _SENT = 0x40, 0x20


@dataclass(eq=False)
class Radio(ByteDevice, SpiPart):
    """The registers and the FIFOs of an nRF24L01+, whose transmissions always succeed."""

    def power_on(self) -> None:
        reset = {0: 0x08, 1: 0x3F, 2: 3, 3: 3, 4: 3, 5: 2, 6: 0x0E, 12: 0xC3, 13: 0xC4, 14: 0xC5, 15: 0xC6}
        self._registers = {number: bytearray([reset.get(number, 0)]) for number in range(0x1E)}
        self._registers |= {0x0A: bytearray(b"\xe7" * 5), 0x0B: bytearray(b"\xc2" * 5), 0x10: bytearray(b"\xe7" * 5)}
        self._flags = 0
        self._heard: list[bytes] = []
        self.sent = 0
        self.begin()

    def hear(self, text: str) -> None:
        """Receive a payload."""
        self._heard.append(text.encode())
        self._flags |= _RECEIVED

    def begin(self) -> None:
        self._taken = bytearray()
        self._answer = b""

    def answer(self) -> int:
        place = len(self._taken)
        if place == 0:
            return self._flags | 0x0E * (not self._heard)
        return self._answer[place - 1] if place <= len(self._answer) else 0

    def take(self, byte: int) -> None:
        self._taken.append(byte)
        if len(self._taken) > 1:
            return
        if byte == _FIFO_STATUS:
            self._answer = bytes([0x10 | (not self._heard)])
        elif byte < 0x1E:
            self._answer = bytes(self._registers[byte])
        elif byte == _READ_WIDTH and self._heard:
            self._answer = bytes([len(self._heard[0])])
        elif byte == _READ_PAYLOAD and self._heard:
            self._answer = self._heard.pop(0)

    def end(self) -> None:
        command, data = self._taken[0], self._taken[1:]
        if command & 0xE0 == 0x20:
            number = command & 0x1F
            if number == _STATUS:
                self._flags &= ~data[0]
            else:
                self._registers[number][: len(data)] = data
        elif command == _WRITE_PAYLOAD:
            self.sent += 1
            self._flags |= _SENT
        elif command == _FLUSH_RX:
            self._heard.clear()


@dataclass
class Nano(Device):
    """The Arduino of the test board: its serial port echoes, and says what its I2C and SPI interfaces have received."""

    def attach(self, board: Connections) -> None:
        self._port = board.add_port("/dev/ttyAMA0")
        self._port.attach(self)
        board.bus(1).attach(0x2C, _NanoOnI2c(self.receive))
        line = board.use_line(24, "SS of the Nano on line 24")
        board.spi_bus(0).attach_to_line(line, _NanoOnSpi(self.receive))

    def receive(self, data: bytes) -> None:
        self._port.send(data, 115200)


class _NanoOnI2c(I2cDevice):
    def __init__(self, received: Callable[[bytes], object]) -> None:
        self._received = received

    def write(self, data: bytes) -> None:
        self._received(b"I2C: " + data)


class _NanoOnSpi(SpiDevice):
    def __init__(self, received: Callable[[bytes], object]) -> None:
        self._received = received

    def transfer(self, sent: bytes) -> bytes:
        self._received(b"SPI: " + sent)
        return bytes(len(sent))
