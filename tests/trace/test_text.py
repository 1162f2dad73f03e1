"""Traces as waveforms of characters."""

from __future__ import annotations

import pytest

from firmware_sim import SimBoard
from firmware_sim.trace import text_waveform
from hwloop.trace_events import FaultChange, I2cMessage, I2cTransfer, LineChange, Printed, SerialData, SerialFrame

MS = 1_000_000


def test_a_row_for_each_line_port_bus_and_stream():
    events = [
        LineChange(10 * MS, 17, 0, "the button on line 17"),
        LineChange(10 * MS + 1, 17, 1, "the button on line 17"),
        LineChange(10 * MS + 2, 17, 0, "the button on line 17"),
        LineChange(20 * MS, 27, 1, "program"),
        SerialData(22 * MS, "/dev/ttyAMA0", "received", b"$GP"),
        SerialData(23 * MS, "/dev/ttyAMA0", "received", b"RMC\r\n"),
        SerialData(30 * MS, "/dev/ttyAMA0", "sent", b"\x01\x03"),
        SerialFrame(24 * MS, "/dev/ttyAMA0", b"$GPRMC"),
        I2cTransfer(
            40 * MS, 41 * MS, 1, (I2cMessage(0x76, "sent", b"\xd0"), I2cMessage(0x76, "received", b"\x60")), ""
        ),
        I2cTransfer(60 * MS, 61 * MS, 1, (I2cMessage(0x20, "received", b""),), "EREMOTEIO"),
        LineChange(50 * MS, 17, 1, "the button on line 17"),
        FaultChange(50 * MS, "stuck-line", "line 17", True, ""),
        FaultChange(70 * MS, "stuck-line", "line 17", False, ""),
        Printed(75 * MS, "stdout", "done"),
    ]
    assert text_waveform(events, 0, 80 * MS, 103, names={27: "lamp"}).splitlines() == [
        "time                   │0.00 s   │0.01 s   │0.02 s   │0.03 s   │0.04 s   │0.05 s   │0.06 s   │0.07 s",
        "17 button              ▔▔▔▔▔▔▔▔▔▔┃▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔",
        "27 lamp                ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔",
        "/dev/ttyAMA0 frames                            │'$GPRMC'",
        "/dev/ttyAMA0 received                        │'$GPRMC\\r\\n'",
        "/dev/ttyAMA0 sent                                    │01 03",
        "i2c 1                                                          │0x76 w d0 r 60     │0x20 r EREMOTEIO",
        "faults                                                                   │stuck-line line 17 │stuck-li…",
        "stdout                                                                                            │done",
    ]


def test_texts_that_begin_together_share_a_column_and_a_cut_text_says_so():
    events = [
        Printed(at * MS, "stdout", text) for at, text in ((1, "one"), (2, "two"), (30, "a longer text"), (40, "end"))
    ]
    assert text_waveform(events, 0, 100 * MS, 48).splitlines()[1] == "stdout  ‖one two    │a… │end"


def test_the_level_before_the_window_comes_from_earlier_events():
    events = [LineChange(1 * MS, 17, 1, "program"), LineChange(90 * MS, 27, 1, "program")]
    rows = text_waveform(events, 50 * MS, 80 * MS, 30).splitlines()[1:]
    assert rows == ["17    " + "▔" * 24, "27    " + "▁" * 24]


@pytest.mark.parametrize("span_ns", [1, 50, 10_000, 10**6, 10**9, 10**14])
@pytest.mark.parametrize("width", [1, 40, 200])
def test_the_axis_has_times_for_every_span(span_ns, width):
    start_ns = 123_456_789_123
    rows = text_waveform([LineChange(start_ns, 17, 1, "program")], start_ns, start_ns + span_ns, width).splitlines()
    assert rows[0].startswith("time")
    assert "│" in rows[0]
    assert max(map(len, rows)) <= max(width, 26)


def test_an_empty_trace_has_a_time_axis():
    assert text_waveform([], 0, 10 * MS, 60).startswith("time  │0.000 s")


def test_a_window_that_ends_before_it_begins_is_rejected():
    with pytest.raises(ValueError, match="a window ends after it begins"):
        text_waveform([], 5, 5)


def test_a_board_names_its_lines():
    parts = [
        {"type": "button", "name": "door", "line": 17},
        {"type": "led", "line": 27},
        {"type": "wire", "name": "loop", "lines": [5, 6]},
    ]
    with SimBoard({"device": parts}) as board:
        assert board.line_names[17] == "door"
        assert board.line_names[27] == "the LED on line 27"
        assert board.active_low_lines == {17}


def test_a_part_that_is_on_while_its_line_is_low_is_drawn_so():
    events = [LineChange(0, 27, 1, "program"), LineChange(4, 27, 0, "program"), LineChange(2, 22, 1, "program")]
    text = text_waveform(events, 0, 8, 36, names={27: "lamp"}, active_low={27})
    assert text.splitlines()[1:] == [
        "22       ▁▁▁▁▁▁╱▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔",
        "27 lamp  ╱▔▔▔▔▔▔▔▔▔▔▔▔╲▄▄▄▄▄▄▄▄▄▄▄▄▄",
        "         ▄ low, which is on or pressed (active_low): 27 lamp",
    ]
