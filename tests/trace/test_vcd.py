"""Traces as VCD files, read back with pyvcd's reader."""

from __future__ import annotations

import builtins
import sys

import pytest
from vcd.reader import TokenKind, tokenize

from firmware_sim.trace import write
from hwloop.trace_events import FaultChange, I2cMessage, I2cTransfer, LineChange, Printed, SerialData, SerialSettings

MS = 1_000_000


def read(file):
    """Return the unit of time of a VCD file, and the changes of each wire: their times and levels."""
    names, wires, now, unit = {}, {}, 0, ""
    with open(file, "rb") as stream:
        for token in tokenize(stream):
            if token.kind is TokenKind.TIMESCALE:
                unit = f"{int(token.timescale.magnitude)} {token.timescale.unit.value}"
            elif token.kind is TokenKind.VAR:
                names[token.var.id_code] = token.var.reference
                wires[token.var.reference] = []
            elif token.kind is TokenKind.CHANGE_TIME:
                now = token.time_change
            elif token.kind is TokenKind.CHANGE_SCALAR:
                change = token.scalar_change
                wires[names[change.id_code]].append((now, int(change.value)))
    return unit, wires


def test_lines_ports_and_buses_are_wires_with_the_times_of_the_board(tmp_path):
    events = [
        LineChange(1000 * MS, 17, 0, "the button on line 17"),
        LineChange(1010 * MS, 17, 1, "the button on line 17"),
        SerialData(1020 * MS, "/dev/serial/by-id/x-1", "sent", b"a", SerialSettings(9600)),
        I2cTransfer(1030 * MS, 1031 * MS, 1, (I2cMessage(0x20, "sent", b"\x01"),), ""),
        FaultChange(1032 * MS, "stuck-line", "line 17", True, ""),
        Printed(1033 * MS, "stdout", "text"),
    ]
    write(events, tmp_path / "run.vcd", names={17: "the front door"})
    unit, wires = read(tmp_path / "run.vcd")
    assert unit == "1 us"
    assert list(wires) == [
        "line17_the_front_door",
        "serial_by_id_x_1_rx",
        "serial_by_id_x_1_tx",
        "i2c1_sda",
        "i2c1_scl",
        "fault_stuck_line_line_17",
    ]
    assert wires["fault_stuck_line_line_17"] == [(999_000, 0), (1_032_000, 1)]
    # The first one of each is its level before.
    assert wires["line17_the_front_door"] == [(999_000, 1), (1_000_000, 0), (1_010_000, 1)]
    assert wires["serial_by_id_x_1_rx"] == [(999_000, 1)]
    assert wires["serial_by_id_x_1_tx"][1] == (1_020_000, 0)
    assert wires["i2c1_sda"][1][0] == 1_030_005


@pytest.mark.parametrize(
    ("width_ns", "unit"), [(10**9, "1 us"), (4000, "1 us"), (3999, "100 ns"), (40, "10 ns"), (7, "1 ns")]
)
def test_the_unit_is_the_coarsest_that_shows_the_pulses(tmp_path, width_ns, unit):
    events = [LineChange(10**9 + width_ns * number, 17, number % 2, "program") for number in range(20)]
    write(events, tmp_path / "run.vcd")
    found, wires = read(tmp_path / "run.vcd")
    assert found == unit
    assert len(wires["line17"]) == 21


def test_a_few_short_pulses_stay_visible_in_a_coarse_unit(tmp_path):
    events = [LineChange(10**9 + MS * number, 17, number % 2, "program") for number in range(20)]
    events.insert(10, LineChange(10**9 + 9 * MS + 5, 17, 0, "program"))
    events.insert(11, LineChange(10**9 + 9 * MS + 9, 17, 1, "program"))
    write(events, tmp_path / "run.vcd")
    unit, wires = read(tmp_path / "run.vcd")
    assert unit == "1 us"
    assert [level for _, level in wires["line17"]] == [1, *(each.level for each in events)]


def test_the_changes_of_one_moment_keep_their_order_across_lines(tmp_path):
    """As those of a software SPI do in virtual time, which takes none."""
    moment = 10**9
    events = [
        LineChange(moment, 8, 0, "program"),
        LineChange(moment, 10, 1, "program"),
        LineChange(moment, 11, 1, "program"),
        LineChange(moment, 11, 0, "program"),
        LineChange(moment, 8, 1, "program"),
        LineChange(moment + 1000, 22, 1, "program"),
        LineChange(moment + 1000, 27, 1, "program"),
    ]
    write(events, tmp_path / "run.vcd")
    unit, wires = read(tmp_path / "run.vcd")
    assert unit == "1 us"
    found = sorted((when, name, level) for name, wire in wires.items() for when, level in wire[1:])
    assert [(when - moment // 1000, name, level) for when, name, level in found] == [
        (0, "line8", 0),
        (1, "line10", 1),
        (2, "line11", 1),
        (3, "line11", 0),
        (4, "line8", 1),
        (5, "line22", 1),
        (5, "line27", 1),
    ]


def test_an_empty_trace_is_a_file_without_wires(tmp_path):
    write([], tmp_path / "run.vcd")
    assert read(tmp_path / "run.vcd")[1] == {}


def test_the_same_trace_is_the_same_file(tmp_path):
    for name in ("a.vcd", "b.vcd"):
        write([LineChange(10**9, 17, 1, "program")], tmp_path / name)
    assert (tmp_path / "a.vcd").read_text() == (tmp_path / "b.vcd").read_text()


def test_without_pyvcd_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "firmware_sim.trace.vcd", raising=False)
    real = builtins.__import__

    def without_pyvcd(name, *arguments, **options):
        if name.split(".")[0] == "vcd":
            raise ModuleNotFoundError("No module named 'vcd'", name="vcd")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pyvcd)
    with pytest.raises(ImportError, match=r"needs the package pyvcd; install it with 'pip install hwloop\[trace\]'"):
        write([], tmp_path / "run.vcd")
    assert list(tmp_path.iterdir()) == []
