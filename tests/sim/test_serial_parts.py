"""Parts on serial ports: the frames of their manuals, byte by byte, and their failures."""

from __future__ import annotations

import re
from typing import Any

import pytest

from firmware_sim.devices.at_modem import AtModem
from firmware_sim.devices.dsmr_meter import crc16 as p1_crc
from firmware_sim.devices.modbus import crc16


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


# PMS5003: the commands of the manual's appendix, with their checksums.

PASSIVE, ACTIVE, READ = hexed("42 4D E1 00 00 01 70"), hexed("42 4D E1 00 01 01 71"), hexed("42 4D E2 00 00 01 71")
SLEEP, WAKE = hexed("42 4D E4 00 00 01 73"), hexed("42 4D E4 00 01 01 74")


def words(frame: bytes) -> list[int]:
    """The numbers of a PMS5003's frame, whose start, length and checksum are right."""
    assert frame[:4] == hexed("42 4D 00 1C")
    assert sum(frame[:30]) == int.from_bytes(frame[30:32], "big")
    return [int.from_bytes(frame[place : place + 2], "big") for place in range(4, 30, 2)]


def test_a_pms5003_sends_frames_in_active_mode(terminal: Any) -> None:
    sensor, port = terminal("pms5003", pm1=3, pm25=12, pm10=20)
    data = port.read(1.7)
    assert len(data) == 64
    assert words(data[:32])[:6] == [3, 12, 20, 3, 12, 20]
    assert sensor.frames == 2


def test_a_pms5003_answers_requests_in_passive_mode_and_sleeps(terminal: Any) -> None:
    sensor, port = terminal("pms5003", pm25=9)
    assert port.ask(PASSIVE, 5) == hexed("42 4D 00 04 E1 00 01 74")
    assert words(port.ask(READ))[1] == 9
    assert port.ask(SLEEP) == hexed("42 4D 00 04 E4 00 01 77")
    assert port.ask(READ) == b""
    assert port.ask(WAKE) == hexed("42 4D 00 04 E4 01 01 78")
    assert port.ask(ACTIVE, 1.7)[8:10] == b"\x42\x4d"
    assert sensor.ignored == 1  # the request while it slept


def test_a_pms5003_ignores_wrong_commands_and_finds_the_next_one(terminal: Any) -> None:
    sensor, port = terminal("pms5003")
    port.ask(PASSIVE)
    assert port.ask(READ[:-1] + b"\x00") == b""
    assert sensor.ignored
    assert len(port.ask(READ)) == 32
    assert port.ask(hexed("42 4D E9 00 00 01 78")) == b""


def test_the_lines_of_a_pms5003_reset_it_and_let_it_sleep(bench: Any, terminal: Any) -> None:
    sensor, port = terminal("pms5003", reset=27, enable=22)
    bench.output(27, 22, level=1)
    port.ask(PASSIVE)
    bench.set(27, 0, hold=0.1)
    assert port.ask(READ) == b""
    bench.set(27, 1)
    assert len(port.read(0.9)) == 32  # active again
    bench.set(22, 0)
    assert port.read(2) == b""
    bench.set(22, 1)
    assert port.read(0.9)
    assert sensor.active


@pytest.mark.parametrize(
    ("name", "keys", "request_", "good"),
    [
        ("pms5003", {}, b"", lambda frame: sum(frame[:30]) == int.from_bytes(frame[30:32], "big")),
        ("mh-z19", {}, hexed("FF 01 86 00 00 00 00 00 79"), lambda frame: -sum(frame[1:8]) & 0xFF == frame[8]),
        ("sds011", {}, b"", lambda frame: sum(frame[2:8]) & 0xFF == frame[8]),
        ("dsmr-meter", {}, b"", lambda frame: b"%04X\r\n" % p1_crc(frame[:-6]) == frame[-6:]),
        ("modbus-slave", {}, hexed("01 03 00 00 00 01 84 0A"), lambda frame: crc16(frame[:-2]) == frame[-2:]),
    ],
)
def test_a_part_sends_a_wrong_checksum_on_demand(
    terminal: Any, name: str, keys: dict[str, Any], request_: bytes, good: Any
) -> None:
    part, port = terminal(name, **keys)
    part.bad_checksums = 1
    assert not good(port.ask(request_, 1.1))
    assert good(port.ask(request_, 1.0))


# MH-Z19: the examples of the manual.


@pytest.mark.parametrize(
    ("co2", "answer"),
    [
        (600, "FF 86 02 58 3F 00 00 00 E1"),
        (410, "FF 86 01 9A 3F 00 00 00 A0"),
        (9000, "FF 86 13 88 3F 00 00 00 A0"),  # more than its range of 5000 ppm
    ],
)
def test_an_mhz19_answers_a_request(terminal: Any, co2: float, answer: str) -> None:
    _, port = terminal("mh-z19", co2=co2)
    assert port.ask(hexed("FF 01 86 00 00 00 00 00 79")) == hexed(answer)


def test_an_mhz19_takes_settings_and_ignores_wrong_checksums(terminal: Any) -> None:
    sensor, port = terminal("mh-z19", co2=3000)
    assert port.ask(hexed("FF 01 79 00 00 00 00 00 86")) == b""
    assert not sensor.self_calibration
    port.ask(hexed("FF 01 79 A0 00 00 00 00 E6"))
    assert sensor.self_calibration
    port.ask(hexed("FF 01 99 00 00 00 07 D0 8F"))
    assert sensor.range == 2000
    assert port.ask(hexed("FF 01 86 00 00 00 00 00 79"))[2:4] == hexed("07 D0")
    assert port.ask(hexed("FF 01 86 00 00 00 00 00 78")) == b""
    assert sensor.ignored
    port.ask(hexed("FF 01 87 00 00 00 00 00 78"))
    assert len(port.ask(hexed("FF 01 86 00 00 00 00 00 79"))) == 9


# SDS011: the examples of the protocol, for the device 0xA160.


def sds(*data: int, device: str = "FF FF") -> bytes:
    body = bytes([*data, *[0] * (13 - len(data))]) + hexed(device)
    return b"\xaa\xb4" + body + bytes([sum(body) & 0xFF, 0xAB])


def test_an_sds011_reports_each_second(terminal: Any) -> None:
    _, port = terminal("sds011", pm25=123.6, pm10=258.4)
    assert port.read(1.1) == hexed("AA C0 D4 04 18 0A A1 60 FB AB")


def test_an_sds011_answers_queries_and_commands(terminal: Any) -> None:
    sensor, port = terminal("sds011", pm25=123.6, pm10=258.4)
    assert port.ask(sds(2, 1, 1)) == hexed("AA C5 02 01 01 00 A1 60 05 AB")
    assert port.read(5) == b""
    assert port.ask(sds(4)) == hexed("AA C0 D4 04 18 0A A1 60 FB AB")
    assert port.ask(sds(4, device="A1 60"))
    assert port.ask(sds(4, device="A1 61")) == b""
    assert port.ask(sds(6, 1, 0)) == hexed("AA C5 06 01 00 00 A1 60 08 AB")
    assert port.ask(sds(4)) == b""  # asleep
    assert port.ask(sds(6, 1, 1)) == hexed("AA C5 06 01 01 00 A1 60 09 AB")
    assert port.ask(sds(7)) == hexed("AA C5 07 12 0B 10 A1 60 35 AB")
    assert port.ask(sds(8, 1, 2)) == hexed("AA C5 08 01 02 00 A1 60 0C AB")
    assert sensor.period == 2
    assert port.ask(sds(2, 1, 0))
    assert port.read(121)[:2] == b"\xaa\xc0"
    assert port.ask(b"\x00\xaa" + sds(5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34)) == hexed(
        "AA C5 05 00 00 00 12 34 4B AB"
    )
    assert (sensor.device_id, sensor.ignored) == (0x1234, 2)
    wrong = bytearray(sds(4))
    wrong[17] ^= 1
    assert port.ask(bytes(wrong)) == b""
    assert sensor.ignored == 3
    with pytest.raises(ValueError, match="device_id must be 0 to 0xFFFE, not 0x10000"):
        terminal("sds011", device_id=0x10000)


def test_a_card_is_sent_while_it_is_near(terminal: Any) -> None:
    reader, port = terminal("rdm6300")
    reader.card(0x62E3086CED, hold=0.2)
    frame = b"\x0262E3086CED08\x03"  # the datasheet's example
    assert port.read(1) == frame * 4
    reader.bad_checksums = 1
    reader.card(0x0000000000, hold=0)
    assert port.read(1) == b"\x020000000000FF\x03"
    assert reader.frames == 5
    with pytest.raises(ValueError, match="a card has a number of 40 bits, not 0x10000000000"):
        reader.card(1 << 40)


def test_a_meter_sends_a_telegram_each_second_and_counts_on(terminal: Any) -> None:
    meter, port = terminal("dsmr-meter", power=3.6, energy_normal=100.0)
    first = port.read(1.5)
    assert first.startswith(b"/ISK5\\2M550T-1012\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(260101120001W)\r\n")
    assert b"1-0:1.7.0(03.600*kW)" in first
    body, end, checksum = first.partition(b"!")
    assert checksum == b"%04X\r\n" % p1_crc(body + end)
    port.read(99)
    assert b"1-0:1.8.2(000100.100*kWh)" in port.read(0.01) + meter.telegram()
    meter.power = -1.8
    port.read(100)
    assert meter.delivered == pytest.approx(0.05)
    assert b"1-0:2.7.0(01.800*kW)" in meter.telegram()
    meter.tariff, meter.power = 1, 3.6
    port.read(100)
    assert meter.energy_low == pytest.approx(1234.667)


def test_a_meter_of_dsmr_4_sends_each_ten_seconds(terminal: Any) -> None:
    meter, port = terminal("dsmr-meter", version="42")
    assert b"1-3:0.2.8(42)" in port.read(10.5)
    assert meter.telegrams == 1


def test_the_checksum_of_a_telegram_is_crc_16_arc() -> None:
    assert p1_crc(b"123456789") == 0xBB3D  # the check value of CRC-16/ARC


# The modem.


def said(port: Any, command: str, seconds: float = 1.0) -> list[str]:
    return [line for line in port.ask(command.encode() + b"\r", seconds).decode("latin-1").split("\r\n") if line]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("AT", ["OK"]),
        ("at", ["OK"]),
        ("ATI", ["SIM800 R14.18", "OK"]),
        ("AT+CSQ", ["+CSQ: 20,0", "OK"]),
        ("AT+CREG?", ["+CREG: 0,1", "OK"]),
        ("AT+CGREG?", ["+CGREG: 0,1", "OK"]),
        ("AT+COPS?", ['+COPS: 0,0,"hwloop mobile"', "OK"]),
        ("AT+CPIN?", ["+CPIN: READY", "OK"]),
        ("AT+CMGF?", ["+CMGF: 0", "OK"]),
        ("AT+CGMM", ["SIMCOM_SIM800L", "OK"]),
        ("AT+CNMI=2,1,0,0,0", ["OK"]),
        ("AT+CMGR=1", ["OK"]),
        ("AT+CMGD=1", ["OK"]),
        ("AT+GMR", ["Revision:1418B05SIM800L24", "OK"]),
        ("AT+CIPSTART", ["ERROR"]),
        ("AT+FLY", ["ERROR"]),
        ('AT+CMGS="+491234"', ["ERROR"]),  # not in text mode
        ("", []),
    ],
)
def test_a_modem_answers_commands(terminal: Any, command: str, answer: list[str]) -> None:
    _, port = terminal("at-modem", answers=[["AT+GMR", "Revision:1418B05SIM800L24"], ["AT+CIPSTART", "ERROR"]])
    assert said(port, "ATE0") == ["ATE0\r", "OK"]
    assert said(port, command) == answer


def test_a_modem_sends_text_messages(terminal: Any) -> None:
    modem, port = terminal("at-modem")
    assert said(port, "AT+CMGF=1") == ["AT+CMGF=1\r", "OK"]
    assert port.ask(b'AT+CMGS="+491234"\r').endswith(b"\r\n> ")
    assert port.ask(b"the pump\ris dry\x1a").endswith(b"\r\n+CMGS: 1\r\n\r\nOK\r\n")
    assert modem.sent == [("+491234", "the pump\ris dry")]
    port.ask(b'AT+CMGS="+491234"\r')
    assert port.ask(b"no\x1b").endswith(b"\r\nOK\r\n")
    assert len(modem.sent) == 1


def test_a_modem_receives_text_messages_and_calls(terminal: Any) -> None:
    modem, port = terminal("at-modem")
    said(port, "ATE0")
    said(port, "AT+CMGF=1")
    modem.sms("+495678", "status?")
    modem.sms("+495678", "again")
    assert port.read() == b'\r\n+CMTI: "SM",1\r\n\r\n+CMTI: "SM",2\r\n'
    assert said(port, "AT+CMGR=1") == ['+CMGR: "REC UNREAD","+495678","","26/01/01,12:00:00+00"', "status?", "OK"]
    assert said(port, "AT+CMGR=1")[0].startswith('+CMGR: "REC READ"')
    assert [line[:8] for line in said(port, 'AT+CMGL="REC UNREAD"')] == ["+CMGL: 2", "again", "OK"]
    assert [line[:8] for line in said(port, 'AT+CMGL="ALL"')] == ["+CMGL: 1", "status?", "+CMGL: 2", "again", "OK"]
    assert said(port, "AT+CMGD=1") == ["OK"]
    assert list(modem.messages) == [2]
    modem.sms("+495678", "third")
    assert list(modem.messages) == [2, 1]
    assert said(port, "AT+CMGD=1,1")[-1] == "OK"  # those that were read
    assert list(modem.messages) == [1]
    said(port, "AT+CMGD=1,4")
    modem.ring("+495678")
    assert b"CLIP" not in port.read()
    said(port, "AT+CLIP=1")
    modem.ring("+495678")
    assert port.read() == b'\r\nRING\r\n\r\n+CLIP: "+495678",145\r\n'
    assert modem.messages == {}


def test_a_modem_needs_its_pin_and_a_field(terminal: Any) -> None:
    _, port = terminal("at-modem", pin="1234")
    said(port, "ATE0")
    assert said(port, "AT+CPIN?")[0] == "+CPIN: SIM PIN"
    assert said(port, "AT+CREG?")[0] == "+CREG: 0,2"
    assert said(port, "AT+CPIN=0000") == ["ERROR"]
    assert said(port, 'AT+CPIN="1234"') == ["OK"]
    assert said(port, "AT+CREG?")[0] == "+CREG: 0,1"
    lost, port = terminal("at-modem", signal=99)
    said(port, "ATE0")
    assert said(port, "AT+COPS?")[0] == "+COPS: 0"
    for keys, text in (({"signal": 40}, "signal must be 0 to 31"), ({"answers": [["x"]]}, "answers must be a list")):
        with pytest.raises(ValueError, match=text):
            AtModem("x", **keys)
    assert lost.commands == ["ATE0", "AT+COPS?"]


# Modbus: the examples of the specification, section 6, with unit 1.

ROWS: dict[str, Any] = {
    "holding_registers": [[0, *[0] * 10], [107, 0x022B, 0, 0x64]],
    "input_registers": [[8, 10]],
    "coils": [[19, *(int(bit) for bit in "1011001111010110101" + "0" * 18)], [172, 0]],
    "discrete_inputs": [[196, *(int(bit) for bit in "0011010111011011101011")]],
}


def modbus(text: str) -> bytes:
    return (data := b"\x01" + hexed(text)) + crc16(data)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("01 0013 0013", "01 03 CD 6B 05"),  # 6.1: coils 20 to 38
        ("02 00C4 0016", "02 03 AC DB 35"),  # 6.2: inputs 197 to 218
        ("03 006B 0003", "03 06 02 2B 00 00 00 64"),  # 6.3
        ("04 0008 0001", "04 02 00 0A"),  # 6.4
        ("05 00AC FF00", "05 00AC FF00"),  # 6.5
        ("06 0001 0003", "06 0001 0003"),  # 6.6
        ("0F 0013 000A 02 CD 01", "0F 0013 000A"),  # 6.11
        ("10 0001 0002 04 000A 0102", "10 0001 0002"),  # 6.12
        ("03 006B 0004", "83 02"),
        ("01 0000 0001", "81 02"),
        ("05 0013 1234", "85 03"),
        ("05 0000 FF00", "85 02"),
        ("0F 0013 000A 01 CD", "8F 03"),
        ("10 0001 0002 04 000A", "90 03"),
        ("03 0000 0000", "83 03"),
        ("03 0000 007E", "83 03"),
        ("01 0013 07D1", "81 03"),
        ("17 0000 0000", "97 01"),
    ],
)
def test_a_slave_answers_as_the_specification_says(terminal: Any, request_: str, reply: str) -> None:
    _, port = terminal("modbus-slave", **ROWS)
    assert port.ask(modbus(request_)) == modbus(reply)


def test_a_program_writes_registers_and_coils_that_a_test_reads(terminal: Any) -> None:
    slave, port = terminal("modbus-slave", **ROWS)
    port.ask(modbus("10 0001 0002 04 000A FFFE"))
    port.ask(modbus("0F 0013 000A 02 CD 01"))
    assert (slave.holding[1], slave.holding[2]) == (10, 0xFFFE)
    assert [slave.coil[place] for place in range(19, 29)] == [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    slave.inputs[8] = -5
    assert port.ask(modbus("04 0008 0001")) == modbus("04 02 FFFB")
    slave.silent = True
    assert port.ask(modbus("04 0008 0001")) == b""
    assert (slave.answered, slave.ignored) == (3, 1)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"holding_registers": [[0]]}, "holding_registers must be rows of an address, 0 to 65535, and values"),
        ({"coils": [[65535, 1, 1]]}, "coils must be rows of an address"),
        ({"coils": [[0, 2]]}, "coils must have values from 0 to 1, not 2 at address 0"),
        ({"input_registers": [[5, 1, 70000]]}, "must have values from -32768 to 65535, not 70000 at address 6"),
        ({"parity": "X"}, "parity must be"),
    ],
)
def test_a_register_map_that_makes_no_sense_is_rejected(terminal: Any, keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        terminal("modbus-slave", **keys)
