"""A GPS receiver on a serial port: bursts of NMEA 0183 sentences from a log, at the pace of the wire.

A receiver sends everything about a fix in one burst, then is silent until the next. At 9600 baud a burst takes 0.4 s of
the second, and a sentence reaches the program in pieces, with which a reader must cope.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from firmware_sim.device import Connections, Device
from firmware_sim.errors import WiringError
from firmware_sim.limits import BAUD_RATES, LEAST_PERIOD, LONGEST, within
from firmware_sim.uart import Port


@dataclass
class Gps(Device):
    """A GPS receiver.

    Parameters:
        port: the serial port it is on.
        log: a file of NMEA sentences, one on each line, relative to the board file. It is sent unchanged, wrong
            checksums included, and again from the beginning at its end. A burst starts with each sentence of the
            same kind as the log's first. None: `walk()`.
        baudrate: bits a second.
        interval: seconds from one burst to the next.

    Attributes:
        sentences_sent: sentences put on the wire so far.
    """

    port: str
    log: str | None = None
    baudrate: int = within(*BAUD_RATES, "bits a second", default=9600)
    interval: float = within(LEAST_PERIOD, LONGEST, "seconds", default=1.0)
    sentences_sent: int = field(default=0, init=False)

    wiring = "TX to RXD (line 15), RX to TXD (line 14), VCC to 3.3 V or 5 V, GND to GND"
    example = 'async with hwloop.serial.open("/dev/ttyUSB0", 9600, framing=hwloop.serial.Lines()) as gps: ...'

    def attach(self, board: Connections) -> None:
        self._bursts = _bursts(list(walk()) if self.log is None else _read_log(board.directory / self.log))
        longest = max(sum(map(len, burst)) for burst in self._bursts) * 10 / self.baudrate
        if longest > self.interval:
            raise WiringError(
                f"gps on {self.port}: a burst takes {longest:.2f} s at {self.baudrate} baud, "
                f"more than the interval of {self.interval} s"
            )
        self._port: Port = board.add_port(self.port)
        self._timeline = board.timeline
        self._port.attach(self)
        self._next = 0
        self._when_ns = self._timeline.now_ns()
        self._schedule()

    def receive(self, data: bytes) -> None:
        """Ignore settings that the program sends."""

    def stop(self) -> None:
        """Send nothing more. Bytes that are on the wire still arrive."""
        with self._timeline.lock:
            self._next_burst.cancel()

    def _schedule(self) -> None:
        self._when_ns += round(self.interval * 1e9)
        self._next_burst = self._timeline.at(self._when_ns, self._send_burst)

    def _send_burst(self) -> None:
        burst = self._bursts[self._next]
        self._next = (self._next + 1) % len(self._bursts)
        self._port.send(b"".join(burst), self.baudrate)
        self.sentences_sent += len(burst)
        self._schedule()


def sentence(body: str) -> bytes:
    """Return an NMEA sentence with this body, its checksum (the XOR of the body) and line end."""
    checksum = 0
    for byte in body.encode("ascii"):
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n".encode("ascii")


def walk(fixes: int = 120, radius: float = 30.0) -> Iterator[bytes]:
    """Yield the log of a receiver carried once around a circle (of `radius` metres, near Munich): one fix a second.

    Sentences RMC, VTG, GGA, GSA and GSV as a u-blox sends them, from noon of 2026-01-01.
    """
    metres_per_degree = 111_195.0  # of latitude; a sphere of 6371 km
    latitude_0, longitude_0, altitude = 48.1173, 11.5167, 545.4
    knots = 2 * math.pi * radius / fixes / 0.514444
    satellites = [(4, 63, 100, 41), (5, 21, 310, 33), (9, 48, 212, 44), (12, 35, 74, 38)]
    satellites += [(17, 11, 158, 29), (19, 72, 265, 46), (24, 27, 40, 35), (25, 54, 332, 42)]
    for fix in range(fixes):
        angle = 2 * math.pi * fix / fixes
        latitude = latitude_0 + radius * math.cos(angle) / metres_per_degree
        longitude = longitude_0 + radius * math.sin(angle) / metres_per_degree / math.cos(math.radians(latitude_0))
        course = (math.degrees(angle) + 90) % 360
        time = f"12{fix // 60 % 60:02d}{fix % 60:02d}.00"
        place = f"{_degrees(latitude, 2)},N,{_degrees(longitude, 3)},E"
        yield sentence(f"GPRMC,{time},A,{place},{knots:.2f},{course:.2f},010126,,,A")
        yield sentence(f"GPVTG,{course:.2f},T,,M,{knots:.2f},N,{knots * 1.852:.2f},K,A")
        yield sentence(f"GPGGA,{time},{place},1,08,0.9,{altitude + 3 * math.sin(angle):.1f},M,46.9,M,,")
        yield sentence(f"GPGSA,A,3,{','.join(f'{number:02d}' for number, *_ in satellites)},,,,,1.6,0.9,1.3")
        for part in (0, 1):
            seen = ",".join("{:02d},{:02d},{:03d},{:02d}".format(*it) for it in satellites[4 * part : 4 * part + 4])
            yield sentence(f"GPGSV,2,{part + 1},{len(satellites):02d},{seen}")


def _degrees(value: float, width: int) -> str:
    """Return degrees as NMEA writes them: dddmm.mmmmm."""
    degrees, minutes = divmod(round(value * 60, 5), 60)
    return f"{int(degrees):0{width}d}{minutes:08.5f}"


def _read_log(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise WiringError(f"gps log {path}: {error.strerror}") from error
    sentences = [line.strip() + b"\r\n" for line in lines if line.lstrip().startswith((b"$", b"!"))]
    if not sentences:
        raise WiringError(f"gps log {path}: no NMEA sentence in it (a line that starts with '$')")
    return sentences


def _bursts(sentences: list[bytes]) -> list[list[bytes]]:
    """Group sentences by fix: each burst starts with the kind ("RMC") of the log's first sentence."""
    first = sentences[0][3:6]
    bursts: list[list[bytes]] = []
    for line in sentences:
        if line[3:6] == first:
            bursts.append([])
        bursts[-1].append(line)
    return bursts
