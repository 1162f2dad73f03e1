"""A GPS receiver with a position: its messages follow it, and a program configures it as it does a u-blox."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from firmware_sim import ubx
from firmware_sim.devices.gps import Gps
from firmware_sim.nmea import sentence

PLACE = {"latitude": 48.1173, "longitude": 11.516667}


def fields(data: bytes, kind: str) -> list[str]:
    """The fields of the last sentence of a kind."""
    lines = [line for line in data.decode("latin-1").split("\r\n") if line.startswith(f"$GP{kind},")]
    assert sentence(lines[-1][1:-3]) == lines[-1].encode() + b"\r\n"
    return lines[-1][:-3].split(",")


def ubx_of(data: bytes) -> list[ubx.Frame]:
    return [message for message in ubx.Scanner().feed(data) if isinstance(message, ubx.Frame)]


def pvt(payload: bytes) -> tuple[Any, ...]:
    """Fix type, satellites, longitude and latitude of NAV-PVT."""
    assert len(payload) == 92
    return (payload[20], payload[23], *struct.unpack_from("<ii", payload, 24))


def test_sentences_have_the_position(terminal: Any) -> None:
    _, port = terminal("gps", **PLACE, speed=10, course=90)
    data = port.read(1.9)
    rmc = fields(data, "RMC")
    assert rmc[1:3] == ["120001.00", "A"]
    assert rmc[3:7] == ["4807.03800", "N", "01131.00810", "E"]  # ten metres to the east in a second
    assert (rmc[7], rmc[8], rmc[9]) == ("19.438", "90.00", "010126")
    assert fields(data, "GGA")[6:10] == ["1", "08", "0.9", "545.4"]
    assert fields(data, "GSA")[1:6] == ["A", "3", "01", "02", "03"]
    assert len(fields(data, "GSA")) == 18
    assert fields(data, "GSV")[1:4] == ["2", "2", "08"]
    assert fields(data, "VTG")[1:9:2] == ["90.00", "", "19.438", "36.000"]


def test_without_a_fix_there_is_no_position(terminal: Any) -> None:
    gps, port = terminal("gps", **PLACE)
    gps.fix = "none"
    data = port.read(1.9)
    assert fields(data, "RMC")[2:7] == ["V", "", "", "", ""]
    assert fields(data, "GGA")[2:8] == ["", "", "", "", "0", "00"]
    assert fields(data, "GSA")[2] == "1"
    assert len(fields(data, "RMC")) == 13
    assert len(fields(data, "GGA")) == 15
    gps.fix, gps.latitude = "3d", None
    assert fields(port.read(1), "RMC")[2] == "V"
    gps.fix, gps.latitude = "2d", -33.5
    data = port.read(1)
    assert fields(data, "RMC")[3:5] == ["3330.00000", "S"]
    assert fields(data, "GSA")[2] == "2"


def test_a_ublox_sends_nav_pvt_and_acknowledges(terminal: Any) -> None:
    gps, port = terminal("gps", **PLACE, protocol="ubx", fix="3d", satellites=9)
    [message] = ubx_of(port.read(1.9))
    assert message.kind == ubx.NAV_PVT
    assert pvt(message.payload) == (3, 9, 115166670, 481173000)
    answer = port.ask(bytes.fromhex("B5 62 06 08 06 00 C8 00 01 00 01 00 DE 6A"), 0.05)  # CFG-RATE: 200 ms
    assert answer == bytes.fromhex("B5 62 05 01 02 00 06 08 16 3F")  # ACK-ACK
    port.read(1)
    messages = ubx_of(port.read(1))
    assert [struct.unpack_from("<i", payload, 16)[0] // 1_000_000 for _, payload in messages] == [0, 200, 400, 600, 800]
    assert (gps.interval, gps.acknowledged) == (0.2, 1)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ((ubx.CFG_RATE, "05 00 01 00 01 00"), ubx.NAK),  # 5 ms is too fast
        ((ubx.CFG_RATE, "05"), ubx.NAK),
        ((ubx.CFG_MSG, "01 07 01"), ubx.ACK),
        ((ubx.CFG_VALSET, "00 01 00 00 01 00 21 30 F4 01"), ubx.ACK),  # CFG-RATE-MEAS: 500 ms
        ((ubx.CFG_VALSET, "00 01 00 00 01 00 21 30 F4"), ubx.NAK),
        ((ubx.CFG_VALSET, "00 01 00 00 01 00 21 30 01 00"), ubx.NAK),
        (((0x06, 0x09), "00 00 00 00 FF FF 00 00 00 00 00 00"), ubx.ACK),  # save
        (((0x06, 0x77), "00"), ubx.NAK),
    ],
)
def test_settings_are_accepted_or_rejected(terminal: Any, request_: Any, answer: tuple[int, int]) -> None:
    gps, port = terminal("gps", **PLACE)
    kind, payload = request_
    assert port.ask(ubx.framed(kind, bytes.fromhex(payload)), 0.1) == ubx.framed(answer, bytes(kind))
    assert (gps.acknowledged, gps.rejected) == ((1, 0) if answer == ubx.ACK else (0, 1))


def test_a_program_chooses_protocols_and_the_baud_rate(terminal: Any) -> None:
    gps, port = terminal("gps", **PLACE)
    port.ask(ubx.framed(ubx.CFG_MSG, bytes([1, 7, 0, 1, 0, 0, 0, 0])))
    assert [message.kind for message in ubx_of(port.read(0.9))] == [ubx.NAV_PVT]
    uart = struct.pack("<BxHIIHHHH", 1, 0, 0x8D0, 115200, 7, 1, 0, 0)
    port.ask(ubx.framed(ubx.CFG_PRT, uart), 0.1)
    port.read(1.9)
    assert b"$GP" not in port.read(1.9)
    assert gps.baudrate == 115200
    keys = struct.pack("<4xIBIB", ubx.KEY_NMEA_OUT, 1, ubx.KEY_UBX_OUT, 0)
    port.ask(ubx.framed(ubx.CFG_VALSET, keys), 0.5)
    data = port.read(1.9)
    assert fields(data, "RMC")
    assert not ubx_of(data)


def test_a_poll_is_answered_and_a_wrong_checksum_is_not(terminal: Any) -> None:
    _, port = terminal("gps", **PLACE)
    [message] = ubx_of(port.ask(ubx.framed(ubx.NAV_PVT), 0.5))
    assert pvt(message.payload)[2:] == (115166670, 481173000)
    [message] = ubx_of(port.ask(b"noise" + ubx.framed(ubx.MON_VER), 0.2))
    assert message.payload.startswith(b"EXT CORE")
    assert port.ask(ubx.framed(ubx.NAV_PVT)[:-1] + b"\0", 0.1) == b""
    assert port.ask(ubx.framed((0x01, 0x02)), 0.1) == b""


@pytest.mark.parametrize(
    ("command", "answer"),
    [("PMTK220,500", "PMTK001,220,3"), ("PMTK999", "PMTK001,999,1"), ("PMTK314,0,1", "PMTK001,314,3")],
)
def test_commands_of_mediatek_are_acknowledged(terminal: Any, command: str, answer: str) -> None:
    gps, port = terminal("gps", **PLACE)
    assert port.ask(sentence(command), 0.1) == sentence(answer)
    assert gps.interval == (0.5 if "220" in command else 1.0)
    assert port.ask(b"$PMTK220,200*00\r\n", 0.1) == b""
    assert port.ask(b"$GPGGA*00\r\n", 0.1) == b""


def test_messages_in_pieces_are_whole(terminal: Any) -> None:
    _, port = terminal("gps", **PLACE)
    frame = ubx.framed(ubx.CFG_MSG, b"\x01\x07\x01")
    for place in range(len(frame) - 1):
        assert port.ask(frame[place : place + 1], 0.001) == b""
    assert port.ask(frame[-1:], 0.1) == ubx.framed(ubx.ACK, bytes(ubx.CFG_MSG))


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"latitude": 48}, "latitude and longitude belong together"),
        ({**PLACE, "log": "x.nmea"}, "a log has positions of its own"),
        ({"protocol": "ubx"}, "the protocol 'ubx' needs a position"),
        ({**PLACE, "satellites": 25}, "satellites must be 0 to 24, not 25"),
    ],
)
def test_keys_that_do_not_fit_together_are_rejected(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Gps("x", **keys)
