"""The simulated DS3231, against its datasheet (Maxim 19-5170)."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from firmware_sim import SimBoard, WiringError

Make = Callable[..., Any]


def time(rig: Any) -> str:
    return rig.read(7, 0x00).hex()


def test_its_time_runs_with_the_boards_clock(make: Make) -> None:
    rig = make("ds3231", time="2028-02-28 23:59:58")  # a Monday, in a leap year
    assert time(rig) == "58592301280228"
    rig.wait(2)
    assert time(rig) == "00000002290228"
    rig.wait(86400)
    assert time(rig) == "00000003010328"
    assert rig.part.now.replace(microsecond=0) == datetime.datetime(2028, 3, 1)


def test_the_program_sets_it_and_a_second_begins_then(make: Make) -> None:
    rig = make("ds3231")
    rig.wait(0.7)
    rig.write(0x00, 0x56, 0x34, 0x12, 0x05, 0x31, 0x12, 0x99)
    rig.wait(0.9)
    assert time(rig) == "56341205311299"
    rig.wait(0.1)
    assert time(rig) == "57341205311299"
    rig.wait(12 * 3600)
    assert time(rig)[6:] == "06018100"  # the century bit
    rig.write(0x04, 0x15)  # one register only
    assert time(rig)[8:10] == "15"


@pytest.mark.parametrize(("hour", "register"), [(0, 0x52), (1, 0x41), (11, 0x51), (12, 0x72), (23, 0x71)])
def test_twelve_hours(make: Make, hour: int, register: int) -> None:
    rig = make("ds3231")
    rig.write(0x02, register)
    assert rig.part.now.hour == hour
    assert rig.read(1, 0x02) == bytes([register])


def test_a_date_that_does_not_exist_becomes_the_first_of_the_month(make: Make) -> None:
    rig = make("ds3231")
    rig.write(0x04, 0x31, 0x02, 0x26)
    assert rig.part.now.date() == datetime.date(2026, 2, 1)


def test_a_battery_keeps_the_time(make: Make) -> None:
    rig = make("ds3231", time="2026-05-05 05:05:05")
    assert rig.read(1, 0x0F) == b"\x08"
    rig.write(0x00, 0, 0, 0, 1, 1, 1, 0x30)
    rig.part.reset()
    rig.wait(1)
    assert (time(rig), rig.read(1, 0x0F)) == ("01000001010130", b"\x08")


def test_without_a_battery_it_forgets_the_time_and_says_so(make: Make) -> None:
    rig = make("ds3231", battery=False)
    assert (time(rig), rig.read(1, 0x0F)) == ("00000001010100", b"\x88")
    rig.write(0x00, 0, 0, 0, 1, 1, 1, 0x30)
    rig.write(0x0F, 0x00)
    assert rig.read(1, 0x0F) == b"\0"
    rig.write(0x0F, 0x80)  # flags can't be set
    assert rig.read(1, 0x0F) == b"\0"
    rig.wait(10)
    rig.part.reset()
    assert (time(rig), rig.read(1, 0x0F)) == ("00000001010100", b"\x88")


@pytest.mark.parametrize(
    ("alarm", "registers", "due"),  # table 2
    [
        (1, (0x80, 0x80, 0x80, 0x80), "2026-01-01 00:00:01"),  # every second
        (1, (0x30, 0x80, 0x80, 0x80), "2026-01-01 00:00:30"),
        (1, (0x30, 0x05, 0x80, 0x80), "2026-01-01 00:05:30"),
        (1, (0x30, 0x05, 0x07, 0x80), "2026-01-01 07:05:30"),
        (1, (0x30, 0x05, 0x67, 0x80), "2026-01-01 19:05:30"),  # 7 p.m.
        (1, (0x30, 0x05, 0x07, 0x31), "2026-01-31 07:05:30"),
        (1, (0x30, 0x05, 0x07, 0x41), "2026-01-05 07:05:30"),  # the next Monday
        (1, (0x00, 0x00, 0x00, 0x01), "2026-02-01 00:00:00"),
        (2, (0x80, 0x80, 0x80), "2026-01-01 00:01:00"),
        (2, (0x05, 0x80, 0x80), "2026-01-01 00:05:00"),
        (2, (0x05, 0x07, 0x15), "2026-01-15 07:05:00"),
        (1, (0x00, 0x00, 0x00, 0x00), None),  # there is no day 0
    ],
)
def test_alarms(make: Make, alarm: int, registers: tuple[int, ...], due: str | None) -> None:
    rig = make("ds3231", interrupt=4)
    rig.board.line(4).pull("up")
    seen: list[datetime.datetime] = []
    rig.board.line(4).observe(lambda level, when_ns: seen.append(rig.part.now))
    rig.write(0x07 if alarm == 1 else 0x0B, *registers)
    rig.write(0x0E, 0x04 | alarm)
    rig.wait(40 * 86400)
    if due is None:
        assert (seen, rig.read(1, 0x0F)[0] & 3) == ([], 0)
        return
    assert seen == [datetime.datetime.fromisoformat(due)]
    assert (rig.level(4), rig.read(1, 0x0F)[0] & 3) == (0, alarm)
    rig.write(0x0F, 0x00)
    assert rig.level(4) == 1


def test_an_alarm_sets_its_flag_without_an_interrupt(make: Make) -> None:
    rig = make("ds3231")
    rig.write(0x07, 0x30, 0x80, 0x80, 0x80)
    rig.wait(29.9)
    assert rig.read(1, 0x0F)[0] & 1 == 0
    rig.wait(0.1)
    assert rig.read(1, 0x0F)[0] & 1


def test_the_square_wave(make: Make) -> None:
    rig = make("ds3231", interrupt=4)
    rig.board.line(4).pull("up")
    seen: list[tuple[int, int]] = []
    began_ns = rig.board.timeline.now_ns()
    rig.board.line(4).observe(lambda level, when_ns: seen.append((level, round((when_ns - began_ns) / 1e6))))
    rig.write(0x0E, 0x00)
    rig.wait(2.2)
    assert seen == [(0, 0), (1, 500), (0, 1000), (1, 1500), (0, 2000)]
    seen.clear()
    rig.write(0x0E, 0x08)
    rig.wait(0.5)
    assert len(seen) == pytest.approx(1024, abs=2)
    rig.write(0x0E, 0x1C)
    assert rig.level(4) == 1


def test_drift(make: Make) -> None:
    rig = make("ds3231", time="2026-01-01 00:00:00", drift=100.0, interrupt=4)
    rig.wait(100_000)
    assert rig.part.now == datetime.datetime(2026, 1, 2, 3, 46, 50)
    rig.part.drift = -100.0
    rig.wait(100_000)
    assert rig.part.now == datetime.datetime(2026, 1, 3, 7, 33, 20)


@pytest.mark.parametrize(
    ("celsius", "registers"), [(25.25, "1940"), (-10.0, "f600"), (0.75, "00c0"), (-0.25, "ffc0")]
)  # page 15: +25.25 °C is 00011001 01b
def test_the_temperature_is_measured_every_64_seconds_or_when_the_program_asks(
    make: Make, celsius: float, registers: str
) -> None:
    rig = make("ds3231", temperature=20.0)
    rig.part.temperature = celsius
    assert rig.read(2, 0x11).hex() == "1400"
    rig.wait(64)
    assert rig.read(2, 0x11).hex() == registers
    rig.part.temperature = 21.0
    rig.write(0x0E, 0x3C)
    assert (rig.read(2, 0x0E).hex(), rig.read(2, 0x11).hex()) == ("3c0c", registers)
    rig.wait(0.2)
    assert (rig.read(2, 0x0E).hex(), rig.read(2, 0x11).hex()) == ("1c08", "1500")


def test_the_time_of_a_board_file_may_be_a_date_and_time_of_toml(make: Make) -> None:
    assert time(make("ds3231", time=datetime.datetime(2028, 2, 29, 12, 0, 1))) == "01001202290228"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "time must be a string or a date and time, not 5"),
        ("noon", "time must be a time such as '2026-01-31 12:00:00', not 'noon'"),
        ("1999-12-31 00:00:00", "time must be in the years 2000 to 2199"),
        ("2026-01-01T00:00:00+01:00", "without a time zone"),
    ],
)
def test_a_time_that_it_can_not_show_raises(given: object, message: str) -> None:
    with pytest.raises(WiringError, match=message):
        SimBoard({"device": [{"type": "ds3231", "time": given}]})
