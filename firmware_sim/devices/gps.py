"""A GPS receiver on a serial port: bursts of messages at the pace of the wire, from a log or from a position.

A receiver sends everything about a fix in one burst, then is silent until the next. At 9600 baud a burst of NMEA
sentences takes 0.4 s of the second, and a sentence reaches the program in pieces, with which a reader must cope.

With a position it is a u-blox receiver that a program configures, in UBX (CFG-MSG, CFG-RATE, CFG-PRT, CFG-VALSET, each
answered with ACK-ACK or ACK-NAK), or with the commands of MediaTek ($PMTK220, answered with $PMTK001).
"""

from __future__ import annotations

import datetime
import functools
import operator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from firmware_sim import ubx
from firmware_sim.device import Connections, Device
from firmware_sim.errors import WiringError
from firmware_sim.gps_fix import Fix, FixType
from firmware_sim.limits import BAUD_RATES, LEAST_PERIOD, LONGEST, state, within
from firmware_sim.nmea import sentence, walk
from firmware_sim.uart import Port

_START = datetime.datetime(2026, 1, 1, 12)
_UBX, _NMEA = 0x01, 0x02
"""Bits of the output protocols in CFG-PRT."""


@dataclass
class Gps(Device):
    """A GPS receiver.

    Parameters:
        port: the serial port it is on.
        log: a file of NMEA sentences, one on each line, relative to the board file. It is sent unchanged, wrong
            checksums included, and again from the beginning at its end. A burst starts with each sentence of the
            same kind as the log's first. None, without a position: a walk in a circle.
        baudrate: bits a second.
        interval: seconds from one burst to the next.
        latitude, longitude: its position, instead of a log. It moves on with `speed` and `course`. Assign others at
            any time.
        altitude: above the sea.
        speed, course: how fast it moves, and where; 0 degrees is north.
        fix: "none" as indoors, "2d" or "3d". May be changed at any time.
        satellites: how many it uses, up to 24.
        protocol: "nmea", "ubx" (NAV-PVT) or "both"; a program changes it by CFG-PRT, CFG-MSG or CFG-VALSET.

    Attributes:
        sentences_sent: sentences put on the wire so far.
        acknowledged: configuration messages that it has accepted.
        rejected: those that it has answered with ACK-NAK.
    """

    port: str
    log: str | None = None
    baudrate: int = within(*BAUD_RATES, "bits a second", default=9600)
    interval: float = within(LEAST_PERIOD, LONGEST, "seconds", default=1.0)
    latitude: float | None = within(-90, 90, "degrees", default=None, changed="_check_live")
    longitude: float | None = within(-180, 180, "degrees", default=None, changed="_check_live")
    altitude: float = within(-1000, 50_000, "metres", default=545.4, changed="_check_live")
    speed: float = within(0, 1000, "metres a second", default=0.0, changed="_check_live")
    course: float = within(0, 360, "degrees", default=0.0, changed="_check_live")
    fix: FixType = state("3d", changed="_check_live")
    satellites: int = state(8, changed="_check_live")
    protocol: Literal["nmea", "ubx", "both"] = "nmea"
    sentences_sent: int = field(default=0, init=False)
    acknowledged: int = field(default=0, init=False)
    rejected: int = field(default=0, init=False)

    fixed = "log, protocol"
    wiring = "TX to RXD (line 15), RX to TXD (line 14), VCC to 3.3 V or 5 V, GND to GND"
    example = 'async with hwloop.serial.open("/dev/ttyUSB0", 9600, framing=hwloop.serial.Lines()) as gps: ...'

    def __post_init__(self) -> None:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together; give both")
        if self.latitude is not None and self.log is not None:
            raise ValueError("a log has positions of its own; give either log, or latitude and longitude")
        if self.latitude is None and self.protocol != "nmea":
            raise ValueError(f"the protocol {self.protocol!r} needs a position; give latitude and longitude")
        if not 0 <= self.satellites <= 24:
            raise ValueError(f"satellites must be 0 to 24, not {self.satellites}")

    def attach(self, board: Connections) -> None:
        self._live = self.latitude is not None
        self._sends_nmea, self._sends_ubx = self.protocol != "ubx", self.protocol != "nmea"
        self._timeline = board.timeline
        self._when_ns = self._begun_ns = self._placed_ns = self._timeline.now_ns()
        self._scanner = ubx.Scanner()
        if self._live:
            self._bursts: list[list[bytes]] = [list(self._burst())]
        else:
            self._bursts = _bursts(list(walk()) if self.log is None else _read_log(board.directory / self.log))
        longest = max(sum(map(len, burst)) for burst in self._bursts) * 10 / self.baudrate
        if longest > self.interval:
            raise WiringError(
                f"gps on {self.port}: a burst takes {longest:.2f} s at {self.baudrate} baud, "
                f"more than the interval of {self.interval} s"
            )
        self._port: Port = board.add_port(self.port)
        self._port.attach(self)
        self._next = 0
        self._schedule()

    def _check_live(self) -> None:
        if not self._live:
            raise ValueError(
                f"the receiver on {self.port} sends a log, or its walk, unchanged; give latitude and longitude in the "
                "board file, and its position and fix can be assigned"
            )

    def receive(self, data: bytes) -> None:
        """Take what the program writes: a receiver with a position takes settings, one with a log ignores them."""
        if not self._live:
            return
        for message in self._scanner.feed(data):
            answers = self._command(message) if isinstance(message, bytes) else self._configure(message)
            if answers:
                self._port.send(answers, self.baudrate)
            if isinstance(message, ubx.Frame) and message.kind == ubx.CFG_PRT and len(message.payload) == 20:
                # The answer still has the old baud rate.
                self.baudrate = int.from_bytes(message.payload[8:12], "little") or self.baudrate

    def stop(self) -> None:
        """Send nothing more. Bytes that are on the wire still arrive."""
        with self._timeline.lock:
            self._next_burst.cancel()

    def _schedule(self) -> None:
        self._when_ns += round(self.interval * 1e9)
        self._next_burst = self._timeline.at(self._when_ns, self._send_burst)

    def _send_burst(self) -> None:
        if self._live:
            self._move()
            burst = list(self._burst())
        else:
            burst = self._bursts[self._next]
            self._next = (self._next + 1) % len(self._bursts)
        self._port.send(b"".join(burst), self.baudrate)
        self.sentences_sent += sum(message.startswith((b"$", b"!")) for message in burst)
        self._schedule()

    def _state(self) -> Fix:
        utc = _START + datetime.timedelta(microseconds=(self._timeline.moment_ns() - self._begun_ns) // 1000)
        known = self.latitude is not None and self.longitude is not None
        place = (self.latitude or 0.0, self.longitude or 0.0, self.altitude, self.speed, self.course)
        return Fix(utc, *place, self.fix if known else "none", self.satellites)

    def _move(self) -> None:
        now_ns = self._timeline.moment_ns()
        if self.latitude is not None and self.longitude is not None:
            self.latitude, self.longitude = self._state().moved((now_ns - self._placed_ns) / 1e9)
        self._placed_ns = now_ns

    def _burst(self) -> list[bytes]:
        state = self._state()
        messages = list(state.nmea()) if self._sends_nmea else []
        return [*messages, ubx.framed(ubx.NAV_PVT, state.pvt())] if self._sends_ubx else messages

    # Commands; each returns the answer.

    def _command(self, line: bytes) -> bytes:
        body, star, given = line[1:].partition(b"*")
        name, *values = body.decode("ascii", "replace").split(",")
        if not star or not name.startswith("PMTK") or b"%02X" % functools.reduce(operator.xor, body) != given.upper():
            return b""
        code = name.removeprefix("PMTK")
        if code == "220" and values and values[0].isdecimal():
            self._set_interval(int(values[0]))
        return sentence(f"PMTK001,{code},{3 if code in ('220', '251', '300', '313', '314', '301') else 1}")

    def _configure(self, message: ubx.Frame) -> bytes:
        kind, payload = message
        if kind == ubx.NAV_PVT:
            return ubx.framed(kind, self._state().pvt())
        if kind == ubx.MON_VER:
            return ubx.framed(kind, b"EXT CORE 3.01 (111141)".ljust(30, b"\0") + b"00080000".ljust(10, b"\0"))
        if kind[0] != 0x06:
            return b""
        try:
            accepted = ubx.known(kind) and bool(payload) and self._set(kind, payload)
        except (ValueError, IndexError):
            accepted = False
        self.acknowledged += accepted
        self.rejected += not accepted
        return ubx.framed(ubx.ACK if accepted else ubx.NAK, bytes(kind))

    def _set(self, kind: tuple[int, int], payload: bytes) -> bool:
        if kind == ubx.CFG_RATE:
            return len(payload) == 6 and self._set_interval(int.from_bytes(payload[:2], "little"))
        if kind == ubx.CFG_PRT and len(payload) == 20:
            self._set_protocols(int.from_bytes(payload[14:16], "little"))
        elif kind == ubx.CFG_MSG and tuple(payload[:2]) == ubx.NAV_PVT:
            self._sends_ubx = bool(payload[3] if len(payload) == 8 else payload[2])
        elif kind == ubx.CFG_VALSET:
            for key, value in ubx.values(payload):
                if key == ubx.KEY_RATE and not self._set_interval(value):
                    return False
                if key in (ubx.KEY_PVT, ubx.KEY_UBX_OUT):
                    self._sends_ubx = bool(value)
                elif key == ubx.KEY_NMEA_OUT:
                    self._sends_nmea = bool(value)
        return True

    def _set_protocols(self, mask: int) -> None:
        self._sends_nmea = bool(mask & _NMEA)
        self._sends_ubx = self._sends_ubx and bool(mask & _UBX)

    def _set_interval(self, milliseconds: int) -> bool:
        """Set the time between two bursts, and return whether a receiver can: 25 ms at least."""
        if not 25 <= milliseconds <= 65535:
            return False
        self.interval = milliseconds / 1000
        return True


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
