"""A Dutch or Belgian smart meter: telegrams of its P1 port, each second (DSMR 5) or each ten seconds (DSMR 4).

A telegram ends with the CRC16 (x¹⁶+x¹⁵+x²+1, least significant bit first) of all from "/" to "!" (Netbeheer Nederland,
"P1 companion standard" 5.0.2). The meter counts on with its power, so its readings rise in time.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.timeline import Timeline
from firmware_sim.uart import Port

_BAUDRATE = 115_200
_START = datetime.datetime(2026, 1, 1, 12)
_EVERY = {"50": 1.0, "42": 10.0}


@dataclass
class DsmrMeter(Device):
    """A smart meter with a P1 port.

    Parameters:
        port: the serial port that its cable is on.
        power: that the house takes; negative: that it delivers. Assign another at any time.
        energy_low, energy_normal: the readings of both tariffs at the start.
        gas: the reading of the gas meter.
        voltage: of phase 1.
        tariff: 1 for low, 2 for normal.
        version: "50" sends each second, "42" each ten seconds.

    Attributes:
        delivered: kilowatt-hours that the house has delivered.
        telegrams: telegrams that it has sent.
        bad_checksums: how many of the next telegrams get a wrong checksum.
    """

    port: str
    power: float = within(-100, 100, "kW", default=0.5)
    energy_low: float = within(0, 999_999, "kWh", default=1234.567)
    energy_normal: float = within(0, 999_999, "kWh", default=2345.678)
    gas: float = within(0, 99_999, "m³", default=987.654)
    voltage: float = within(0, 300, "volts", default=230.0)
    tariff: Literal[1, 2] = 2
    version: Literal["50", "42"] = "50"
    delivered: float = field(default=0.0, init=False)
    telegrams: int = field(default=0, init=False)
    bad_checksums: int = field(default=0, init=False)

    wiring = (
        "RJ12: pin 2 (request) to 5 V, pin 3 to GND, pin 5 (data, inverted) over an inverter to RXD, or a P1 USB cable"
    )
    example = 'for telegram in SerialReader("/dev/ttyUSB0", SERIAL_SETTINGS_V5, V5).read(): ...   # dsmr_parser'

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._start_ns = board.timeline.now_ns()
        self._plan()

    def _plan(self) -> None:
        self._timeline.after(_EVERY[self.version], self._send)

    def _send(self) -> None:
        energy = self.power * _EVERY[self.version] / 3600
        if energy < 0:
            self.delivered -= energy
        elif self.tariff == 1:
            self.energy_low += energy
        else:
            self.energy_normal += energy
        telegram = self.telegram()
        if self.bad_checksums:
            self.bad_checksums -= 1
            telegram = telegram[:-6] + (b"0000" if telegram[-6:-2] != b"0000" else b"FFFF") + b"\r\n"
        self.telegrams += 1
        self._port.send(telegram, _BAUDRATE)
        self._plan()

    def telegram(self) -> bytes:
        """Return the telegram of the present readings."""
        body = "\r\n".join(["/ISK5\\2M550T-1012", "", *self._objects(), "!"]).encode()
        return body + b"%04X\r\n" % crc16(body)

    def _objects(self) -> Iterator[str]:
        passed = datetime.timedelta(seconds=(self._timeline.moment_ns() - self._start_ns) // 10**9)
        now = f"{_START + passed:%y%m%d%H%M%S}W"
        taken, given = max(self.power, 0.0), max(-self.power, 0.0)
        yield f"1-3:0.2.8({self.version})"
        yield f"0-0:1.0.0({now})"
        yield "0-0:96.1.1(4530303434303037313331363530363137)"
        yield f"1-0:1.8.1({self.energy_low:010.3f}*kWh)"
        yield f"1-0:1.8.2({self.energy_normal:010.3f}*kWh)"
        yield "1-0:2.8.1(000000.000*kWh)"
        yield f"1-0:2.8.2({self.delivered:010.3f}*kWh)"
        yield f"0-0:96.14.0({self.tariff:04d})"
        yield f"1-0:1.7.0({taken:06.3f}*kW)"
        yield f"1-0:2.7.0({given:06.3f}*kW)"
        yield "0-0:96.7.21(00006)"
        yield "0-0:96.7.9(00003)"
        yield "1-0:99.97.0(0)(0-0:96.7.19)"
        yield "1-0:32.32.0(00002)"
        yield "1-0:32.36.0(00000)"
        yield "0-0:96.13.0()"
        yield f"1-0:32.7.0({self.voltage:05.1f}*V)"
        yield f"1-0:31.7.0({abs(self.power) * 1000 / self.voltage if self.voltage else 0:03.0f}*A)"
        yield f"1-0:21.7.0({taken:06.3f}*kW)"
        yield f"1-0:22.7.0({given:06.3f}*kW)"
        yield "0-1:24.1.0(003)"
        yield "0-1:96.1.0(4730303738353635353934373134303230)"
        yield f"0-1:24.2.1({now})({self.gas:09.3f}*m3)"

    def receive(self, data: bytes) -> None:
        """Ignore it: the meter only sends."""


def _crc_of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]


def crc16(data: bytes) -> int:
    """Return the CRC of a telegram."""
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc
