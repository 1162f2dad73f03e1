"""The simulated SHT31, SCD40, HTU21D and AHT20: humidity, temperature, CO₂, each against its datasheet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from firmware_sim.sensirion import crc8

Make = Callable[..., Any]


def words(data: bytes) -> list[int]:
    """Check the checksums of words, and return the words."""
    found = []
    for index in range(0, len(data), 3):
        assert crc8(data[index : index + 2]) == data[index + 2]
        found.append(int.from_bytes(data[index : index + 2]))
    return found


def with_checksum(word: int) -> bytes:
    return word.to_bytes(2) + bytes([crc8(word.to_bytes(2))])


@pytest.mark.parametrize(
    ("data", "initial", "checksum"),
    [
        ("beef", 0xFF, 0x92),  # SHT3x-DIS, table 20
        ("01f4", 0xFF, 0x33),  # SCD4x, 3.5.2
        ("6667", 0xFF, 0xA2),
        ("5eb9", 0xFF, 0x3C),
        ("dc", 0, 0x79),  # HTU21D, "CRC-8 checksum using I2C protocol"
        ("683a", 0, 0x7C),
        ("4e85", 0, 0x6B),
    ],
)
def test_checksums_of_the_datasheets(data: str, initial: int, checksum: int) -> None:
    assert crc8(bytes.fromhex(data), initial) == checksum


# SHT31


@pytest.mark.parametrize(
    ("command", "seconds"), [((0x24, 0x00), 0.0125), ((0x24, 0x0B), 0.0045), ((0x24, 0x16), 0.0025)]
)
def test_an_sht31_does_not_acknowledge_until_it_has_measured(
    make: Make, command: tuple[int, int], seconds: float
) -> None:
    rig = make("sht31", temperature=25.0, humidity=60.0)
    rig.write(*command)
    rig.wait(seconds - 0.0005)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(6)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.write(0x24, 0x00)
    rig.wait(0.0005)
    temperature, humidity = words(rig.read(6))
    assert temperature * 175 / 65535 - 45 == pytest.approx(25.0, abs=0.002)
    assert humidity * 100 / 65535 == pytest.approx(60.0, abs=0.001)
    with pytest.raises(OSError, match="Remote I/O"):  # it has been read
        rig.read(6)


def test_an_sht31_can_hold_the_clock_instead(make: Make) -> None:
    rig = make("sht31", temperature=25.0)
    before = rig.clock.now_ns()
    temperature, _ = words(rig.read(6, 0x2C, 0x06))
    assert temperature == round(70 / 175 * 65535)
    assert (rig.clock.now_ns() - before) / 1e9 == pytest.approx(0.0125, abs=0.0001)


def test_an_sht31_measures_periodically_until_it_is_stopped(make: Make) -> None:
    rig = make("sht31", temperature=25.0)
    rig.write(0x22, 0x36)  # two a second
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(6, 0xE0, 0x00)
    rig.wait(0.1)
    assert words(rig.read(6, 0xE0, 0x00))[0] == round(70 / 175 * 65535)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(6, 0xE0, 0x00)
    rig.part.temperature = 30.0
    rig.wait(0.5)
    assert words(rig.read(6, 0xE0, 0x00))[0] == round(75 / 175 * 65535)
    rig.write(0x24, 0x00)  # not while it measures periodically (4.8)
    assert words(rig.read(3, 0xF3, 0x2D))[0] & 0x0002
    rig.write(0x30, 0x93)
    rig.write(0x24, 0x00)
    rig.wait(0.02)
    assert words(rig.read(6))[0] == round(75 / 175 * 65535)


def test_the_status_of_an_sht31(make: Make) -> None:
    rig = make("sht31")
    assert words(rig.read(3, 0xF3, 0x2D)) == [0x8010]  # table 18
    rig.write(0x30, 0x41)
    rig.write(0x30, 0x6D)
    assert words(rig.read(3, 0xF3, 0x2D)) == [0x2000]
    rig.write(0x61, 0x1D, 0x12, 0x34, 0x00)  # a wrong checksum
    assert words(rig.read(3, 0xF3, 0x2D)) == [0x2003]
    assert words(rig.read(3, 0xE1, 0x1F)) == [0xCD33]
    rig.write(0x12, 0x34)
    assert words(rig.read(3, 0xF3, 0x2D)) == [0x2002]
    assert words(rig.read(3, 0xF3, 0x2D)) == [0x2000]
    assert len(words(rig.read(6, 0x37, 0x80))) == 2
    rig.write(0x30, 0xA2)
    rig.wait(0.0015)
    assert words(rig.read(3, 0xF3, 0x2D)) == [0x8010]


def test_the_alert_of_an_sht31_has_limits_with_hysteresis(make: Make) -> None:
    rig = make("sht31", temperature=25.0, interrupt=17)
    rig.write(0x61, 0x1D, *with_checksum(0x66 << 9 | round(75 / 175 * 511)))  # begins at 30 °C
    rig.write(0x61, 0x16, *with_checksum(0x60 << 9 | round(73 / 175 * 511)))  # ends at 28 °C
    rig.write(0x27, 0x37)
    found = []
    for temperature in (25, 31, 29, 27):
        rig.part.temperature = temperature
        rig.wait(0.1)
        found.append(rig.level(17))
    assert found == [0, 1, 1, 0]
    assert words(rig.read(3, 0xF3, 0x2D))[0] & 0x8400 == 0x8400


# SCD40


def command(rig: Any, code: int, *arguments: int, wait: float = 0.001) -> None:
    rig.write(*code.to_bytes(2), *b"".join(map(with_checksum, arguments)))
    rig.wait(wait)


def test_an_scd40_gives_the_reading_of_the_datasheet_after_five_seconds(make: Make) -> None:
    rig = make("scd40", co2=500, temperature=0x6667 * 175 / 65535 - 45, humidity=0x5EB9 * 100 / 65535)
    command(rig, 0x21B1)
    command(rig, 0xE4B8)
    assert words(rig.read(3))[0] & 0x07FF == 0
    command(rig, 0xEC05)
    with pytest.raises(OSError, match="Remote I/O"):  # no reading yet
        rig.read(9)
    rig.wait(5)
    command(rig, 0xE4B8)
    assert words(rig.read(3))[0] & 0x07FF
    rig.write(0xEC, 0x05)
    with pytest.raises(OSError, match="Remote I/O"):  # the command takes 1 ms
        rig.read(9)
    rig.wait(0.001)
    assert rig.read(9) == bytes.fromhex("01f433 6667a2 5eb93c")  # section 3.5.2: 500 ppm, 25 °C, 37 %RH
    command(rig, 0xE4B8)
    assert words(rig.read(3))[0] & 0x07FF == 0


def test_an_scd40_that_measures_rejects_settings_until_it_has_stopped(make: Make) -> None:
    rig = make("scd40")
    command(rig, 0x21B1)
    for code in (0x3682, 0x2318, 0x241D, 0x362F, 0x21B1):
        with pytest.raises(OSError, match="Remote I/O"):
            command(rig, code, 0)
    command(rig, 0x3F86, wait=0.4)
    with pytest.raises(OSError, match="Remote I/O"):  # it stops within 500 ms
        command(rig, 0x3682)
    rig.wait(0.1)
    command(rig, 0x3682)
    assert rig.read(9) == bytes.fromhex("f89631 9f07c2 3bbe89")  # section 3.10.2


def test_an_scd40_at_low_power_measures_every_30_s(make: Make) -> None:
    rig = make("scd40", co2=800)
    command(rig, 0x21AC, wait=29)
    command(rig, 0xEC05)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(9)
    rig.wait(1)
    command(rig, 0xEC05)
    assert words(rig.read(9))[0] == 800


def test_settings_of_an_scd40_last_beyond_power_off_once_they_are_stored(make: Make) -> None:
    rig = make("scd40", temperature=20.0)
    command(rig, 0x2318)
    assert words(rig.read(3)) == [round(4 * 65535 / 175)]
    command(rig, 0x241D, 0)  # no offset: it shows its own warmth
    command(rig, 0x2427, 300)
    rig.part.reset()
    command(rig, 0x2322)
    assert words(rig.read(3)) == [0]
    command(rig, 0x241D, 0)
    command(rig, 0x3615, wait=0.8)
    rig.part.reset()
    command(rig, 0x21B1, wait=5)
    command(rig, 0xEC05)
    assert words(rig.read(9))[1] == round(69 / 175 * 65535)
    command(rig, 0x3F86, wait=0.5)
    command(rig, 0x3632, wait=1.2)
    command(rig, 0x2318)
    assert words(rig.read(3)) == [round(4 * 65535 / 175)]


def test_a_forced_recalibration_of_an_scd40_corrects_later_readings(make: Make) -> None:
    rig = make("scd40", co2=480)
    command(rig, 0x362F, 420, wait=0.4)
    assert words(rig.read(3)) == [0x8000 - 60]
    command(rig, 0x21B1, wait=5)
    command(rig, 0xEC05)
    assert words(rig.read(9))[0] == 420


def test_an_scd40_ignores_a_setting_with_a_wrong_checksum(make: Make) -> None:
    rig = make("scd40")
    rig.write(0x24, 0x27, 0x01, 0x00, 0x00)
    command(rig, 0x2322)
    assert words(rig.read(3)) == [0]
    with pytest.raises(OSError, match="Remote I/O"):
        command(rig, 0x219D)  # the SCD41's single shot
    command(rig, 0x3639, wait=9)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(3)
    rig.wait(1)
    assert words(rig.read(3)) == [0]


# HTU21D


@pytest.mark.parametrize(
    ("quantity", "value", "code", "seconds", "answer"),
    [
        ("temperature", 24.7, 0xF3, 0.044, "68387c"),  # 0x683A, status bits off
        ("humidity", 54.8, 0xF5, 0.014, "7c82"),  # page 15: 0x7C80
    ],
)
def test_an_htu21d_gives_the_readings_of_the_datasheet(
    make: Make, quantity: str, value: float, code: int, seconds: float, answer: str
) -> None:
    rig = make("htu21d", **{quantity: value})
    rig.write(code)
    rig.wait(seconds - 0.001)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(3)
    rig.wait(0.001)
    data = rig.read(3)
    assert data[2] == crc8(data[:2], 0)
    assert abs(int.from_bytes(data[:2]) - int(answer[:4], 16)) <= 24
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(3)


def test_an_htu21d_holds_the_clock_where_it_is_asked_to(make: Make) -> None:
    rig = make("htu21d", temperature=-46.85 + 175.72 / 4)
    before = rig.clock.now_ns()
    assert rig.read(3, 0xE3)[:2] == b"\x40\x00"
    assert (rig.clock.now_ns() - before) / 1e9 == pytest.approx(0.044, abs=0.0001)
    assert rig.read(3, 0xE5)[1] & 3 == 2


def test_the_resolution_of_an_htu21d(make: Make) -> None:
    rig = make("htu21d", temperature=24.7)
    assert rig.read(1, 0xE7) == b"\x02"
    rig.write(0xE6, 0x83)
    before = rig.clock.now_ns()
    assert int.from_bytes(rig.read(3, 0xE3)[:2]) & 0x1F == 0  # eleven bits
    assert (rig.clock.now_ns() - before) / 1e9 == pytest.approx(0.006, abs=0.0001)
    rig.write(0xFE)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(1, 0xE7)
    rig.wait(0.005)
    assert rig.read(1, 0xE7) == b"\x02"
    with pytest.raises(OSError, match="Remote I/O"):
        rig.write(0x11)


# AHT20


def test_an_aht20_is_busy_for_80_ms_and_shows_the_old_value_until_then(make: Make) -> None:
    rig = make("aht20", temperature=25.0, humidity=50.0)
    assert rig.read(1) == b"\x18"
    rig.write(0xAC, 0x33, 0x00)
    rig.wait(0.079)
    assert rig.read(6) == b"\x98\0\0\0\0\0"
    rig.wait(0.001)
    data = rig.read(7)
    assert data[0] == 0x18
    assert data[6] == crc8(data[:6])
    assert data[1:6].hex() == "8000060000"  # 5.4: half of the range of humidity, 75 of 200 °C
    rig.part.temperature = 0.0
    assert rig.read(7) == data


def test_an_aht20_does_not_answer_for_20_ms_after_a_reset(make: Make) -> None:
    rig = make("aht20")
    rig.write(0xBA)
    with pytest.raises(OSError, match="Remote I/O"):
        rig.read(1)
    rig.wait(0.02)
    assert rig.read(1, 0x71) == b"\x18"
