"""Traces as files."""

from __future__ import annotations

import csv

import pytest

from firmware_sim.trace import write
from hwloop.trace_events import FaultChange, I2cMessage, I2cTransfer, LineChange, Printed, SerialData, SerialFrame

EVENTS = [
    LineChange(12_345_678_901_234_567, 17, 0, "the button on line 17"),
    SerialData(12_345_678_901_234_568, "/dev/ttyS0", "received", b"a\n"),
    SerialFrame(12_345_678_901_234_568, "/dev/ttyS0", b"a"),
    I2cTransfer(12_345_678_901_234_569, 12_345_678_901_234_999, 1, (I2cMessage(0x20, "received", b""),), "EREMOTEIO"),
    FaultChange(12_345_678_901_235_000, "stuck-line", "line 17", True, "low"),
    Printed(12_345_678_901_235_000, "stdout", 'a "quoted", text'),
]


def test_a_table_has_a_row_for_each_event_with_every_digit_of_its_time(tmp_path):
    write(EVENTS, tmp_path / "run.csv", names={17: "door"})
    with open(tmp_path / "run.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["seconds", "kind", "where", "name", "value", "detail"],
        ["12345678.901234567", "line", "17", "door", "0", "the button on line 17"],
        ["12345678.901234568", "serial", "/dev/ttyS0", "", "61 0a", "received"],
        ["12345678.901234568", "frame", "/dev/ttyS0", "", "61", ""],
        ["12345678.901234569", "i2c", "1", "", "0x20 r", "EREMOTEIO"],
        ["12345678.901235000", "fault", "line 17", "stuck-line", "begins", "low"],
        ["12345678.901235000", "output", "stdout", "", 'a "quoted", text', ""],
    ]


def test_an_unknown_suffix_is_an_error_that_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"run.wav: no format of traces has the suffix '.wav'; use .*\.csv"):
        write(EVENTS, tmp_path / "run.wav")


def test_a_failure_leaves_the_earlier_file(tmp_path):
    (tmp_path / "run.csv").write_text("earlier")
    with pytest.raises(AttributeError):
        write([EVENTS[0], EVENTS[1]._replace(data="not bytes")], tmp_path / "run.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["run.csv"]
    assert (tmp_path / "run.csv").read_text() == "earlier"
