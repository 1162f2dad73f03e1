"""A PCA9685: NXP's PWM controller with sixteen channels of 12 bits, for LEDs and servos.

It sleeps after power-on, takes a new frequency only while it sleeps, and needs 0.5 ms to wake up. Source: NXP, PCA9685
product data sheet, rev. 4; sections are named where they are kept. Not simulated: the addresses for several devices at
once (All Call, subaddresses), and an external clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.i2c_part import RegisterPart

CHANNELS = 16
_MODE1, _MODE2, _SUBADDRESS, _CHANNEL_0, _ALL, _PRESCALE = 0x00, 0x01, 0x02, 0x06, 0xFA, 0xFE
_RESTART, _INCREMENT, _SLEEP = 0x80, 0x20, 0x10
_FULL = 0x1000
_OSCILLATOR = 25e6
_WAKE_UP_NS = 500_000


@dataclass(eq=False)
class Pca9685(RegisterPart):
    """A PCA9685 PWM controller for sixteen LEDs or servos.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x40 to 0x77 without 0x70 (pins A0 to A5).
    """

    wiring: ClassVar[str] = "VCC 3.3 V, V+ the supply of the servos, GND; SDA to GPIO2, SCL to GPIO3; OE to GND"
    example: ClassVar[str] = 'board["servos"].pulse_width(0)  # seconds; .duty_cycle(0) from 0 to 1; .frequency in Hz'
    reset_by_general_call: ClassVar[bool] = True
    addresses: ClassVar[Sequence[int]] = (*range(0x40, 0x70), *range(0x71, 0x78))
    address: int = 0x40

    def power_on(self) -> None:
        self.registers[_MODE1 : _MODE1 + 6] = bytes([0x11, 0x04, 0xE2, 0xE4, 0xE8, 0xE0])
        for channel in range(CHANNELS):
            self.registers[_CHANNEL_0 + 4 * channel + 3] = _FULL >> 8
        self.registers[_PRESCALE] = 0x1E
        self._runs = False
        self._awake_ns = 0

    @property
    def frequency(self) -> float:
        """The frequency of all channels, in Hz (7.3.5)."""
        return _OSCILLATOR / 4096 / (self.registers[_PRESCALE] + 1)

    def duty_cycle(self, channel: int) -> float:
        """Return how much of the time a channel is on, from 0 to 1; 0 while the controller sleeps.

        Raises IndexError for a channel that does not exist.
        """
        if not 0 <= channel < CHANNELS:
            raise IndexError(f"there is no channel {channel}; the channels are 0 to {CHANNELS - 1}")
        start = _CHANNEL_0 + 4 * channel
        on, off = (int.from_bytes(self.registers[start + at : start + at + 2], "little") & 0x1FFF for at in (0, 2))
        if off & _FULL:
            return 0.0
        if on & _FULL:
            return 1.0
        return (off - on) % 4096 / 4096 if self._runs else 0.0

    def pulse_width(self, channel: int) -> float:
        """Return the seconds for which a channel is on in each period. Raises IndexError for no channel."""
        return self.duty_cycle(channel) / self.frequency

    def write(self, data: bytes) -> None:
        # The pointer moves only with AI set, and from the last channel back to MODE1 (7.3.1).
        if data:
            self.pointer: int = data[0]
        for value in data[1:]:
            self.write_register(self.pointer, value)
            self._advance()

    def read(self, count: int) -> bytes:
        values = []
        for _ in range(count):
            values.append(self.read_register(self.pointer))
            self._advance()
        return bytes(values)

    def _advance(self) -> None:
        if self.registers[_MODE1] & _INCREMENT:
            self.pointer = 0 if self.pointer == _CHANNEL_0 + 4 * CHANNELS - 1 else (self.pointer + 1) % 256

    def read_register(self, register: int) -> int:
        return 0 if _ALL <= register < _PRESCALE else self.registers[register]  # ALL_LED is for writing only

    def write_register(self, register: int, value: int) -> None:
        if register == _MODE1:
            self._set_mode(value)
        elif register == _PRESCALE:
            if self.registers[_MODE1] & _SLEEP:
                self.registers[register] = max(value, 3)
        elif _ALL <= register < _PRESCALE:
            for channel in range(CHANNELS):
                self.write_register(_CHANNEL_0 + 4 * channel + register - _ALL, value)
        elif register == _MODE2 or _SUBADDRESS <= register < _CHANNEL_0:
            self.registers[register] = value
        elif register < _CHANNEL_0 + 4 * CHANNELS:
            self.registers[register] = value & (0x1F if register & 1 else 0xFF)
            self._run()

    def _set_mode(self, value: int) -> None:
        """Sleep or wake up; channels go on after a restart, which the oscillator must have had time for (7.3.1.1)."""
        before = self.registers[_MODE1]
        restart = before & _RESTART
        if value & _SLEEP and not before & _SLEEP:
            restart = _RESTART if self._runs else 0
            self._runs = False
        elif before & _SLEEP and not value & _SLEEP:
            self._awake_ns = self.now_ns() + _WAKE_UP_NS
        if value & restart and not value & _SLEEP and self.now_ns() >= self._awake_ns:
            restart = 0
            self._runs = True
        self.registers[_MODE1] = value & 0x7F | restart

    def _run(self) -> None:
        if not self.registers[_MODE1] & _SLEEP:
            self._runs = True
            self.registers[_MODE1] &= ~_RESTART
