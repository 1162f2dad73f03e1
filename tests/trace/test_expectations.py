"""`assert_trace` and golden files."""

from __future__ import annotations

import pytest

from firmware_sim.trace import assert_trace, compare_with_golden, describe
from hwloop.trace_events import FaultChange, I2cMessage, I2cTransfer, LineChange, Printed, SerialData, SerialFrame

MS = 1_000_000
DOOR = [
    LineChange(1000 * MS, 17, 0, "the button on line 17"),
    LineChange(1002 * MS, 27, 1, "program"),
    SerialData(1003 * MS, "/dev/ttyS0", "sent", b"open\n"),
    LineChange(1050 * MS, 17, 1, "the button on line 17"),
]
READ = I2cTransfer(0, 9, 1, (I2cMessage(0x76, "sent", b"\xd0"), I2cMessage(0x76, "received", b"\x60")), "")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (DOOR[0], "line 17 falls"),
        (DOOR[1], "line 27 rises"),
        (DOOR[2], r"/dev/ttyS0 sent 'open\n'"),
        (SerialData(0, "/dev/ttyS0", "received", b"\x01\xff"), "/dev/ttyS0 received 01 ff"),
        (SerialFrame(0, "/dev/ttyS0", b"open"), "/dev/ttyS0 frame 'open'"),
        (READ, "i2c 1 0x76 w d0 r 60"),
        (READ._replace(messages=READ.messages[:1], error="EREMOTEIO"), "i2c 1 0x76 w d0 EREMOTEIO"),
        (FaultChange(0, "stuck-line", "line 17", True, "at 0"), "fault stuck-line on line 17 begins"),
        (FaultChange(0, "stuck-line", "line 17", False, ""), "fault stuck-line on line 17 ends"),
        (Printed(0, "stdout", "it's open"), 'stdout "it\'s open"'),
    ],
)
def test_an_event_in_words(event, text):
    assert describe(event) == text
    assert_trace([event], [text])


def test_events_of_lines_that_nobody_expects_are_left_out():
    assert_trace(DOOR, ["line 17 falls", "line 17 rises"])
    assert_trace(DOOR, ["line 27 rises by program", "/dev/ttyS0 sent ..."])


def test_order_counts():
    with pytest.raises(AssertionError, match="the trace is not as expected"):
        assert_trace(DOOR, ["line 27 rises", "line 17 falls", "line 17 rises"])


def test_an_empty_list_expects_no_event():
    assert_trace([], [])
    with pytest.raises(AssertionError, match="line 17 falls by the button on line 17"):
        assert_trace(DOOR, [])


def test_times_count_from_the_first_event_or_from_a_given_one():
    assert_trace(DOOR, [(0, "line 17 falls"), (0.05, "line 17 rises")])
    assert_trace(DOOR, ["line 17 falls", (0.06, "line 17 rises")], within=0.01)
    assert_trace(DOOR, [(1, "line 17 falls"), "line 17 rises"], start_ns=0)


def test_the_difference_shows_what_is_missing_what_came_instead_and_what_came_late():
    with pytest.raises(AssertionError) as failure:
        assert_trace(DOOR, [(0, "line 17 falls"), (0.01, "line 27 rises"), "line 4 rises", (0.05, "line 17 rises")])
    assert str(failure.value).splitlines() == [
        "the trace is not as expected (- expected, + found instead, ! found at another time):",
        "      0.000000 s  line 17 falls",
        "!     0.002000 s  line 27 rises   expected at 0.010000 s, -0.008000 s",
        "-                 line 4 rises",
        "      0.050000 s  line 17 rises",
        "the trace has no event of line 4; it has events of /dev/ttyS0 sent, line 17, line 27",
    ]
    with pytest.raises(AssertionError) as failure:
        assert_trace(DOOR, ["line 17 falls"])
    assert str(failure.value).splitlines()[1:] == [
        "      0.000000 s  line 17 falls",
        "+     0.050000 s  line 17 rises by the button on line 17",
    ]


def test_a_long_trace_is_shortened_around_its_differences():
    events = [LineChange(at * MS, 17, at % 2, "program") for at in range(100)]
    expected = [describe(event) for event in events]
    del expected[50]
    with pytest.raises(AssertionError) as failure:
        assert_trace(events, expected)
    rows = str(failure.value).splitlines()[1:]
    assert (rows[0], rows[-1], len(rows)) == ("  ... 47 as expected", "  ... 46 as expected", 9)
    assert_trace(events, [describe(event) for event in events])


def test_a_golden_file_is_written_compared_and_shown_where_it_differs(tmp_path):
    file = tmp_path / "golden" / "door.txt"
    with pytest.raises(AssertionError, match=r"there is no golden file .*door.txt yet; write the file with"):
        compare_with_golden(DOOR, file)
    compare_with_golden(DOOR, file, update=True)
    assert file.read_text() == (
        "      0.000000  line 17 falls by the button on line 17\n"
        "      0.002000  line 27 rises by program\n"
        "      0.003000  /dev/ttyS0 sent 'open\\n'\n"
        "      0.050000  line 17 rises by the button on line 17\n"
    )
    compare_with_golden(DOOR, file)
    later = [event._replace(when_ns=event.when_ns + 5 * MS) for event in DOOR]
    compare_with_golden(later, file)
    with pytest.raises(
        AssertionError, match=r"\n-      0.002000  line 27 rises by program\n\+      0.002000  line 27 falls"
    ):
        compare_with_golden([DOOR[0], DOOR[1]._replace(level=0), *DOOR[2:]], file)


def test_an_empty_trace_has_an_empty_golden_file(tmp_path):
    compare_with_golden([], tmp_path / "none.txt", update=True)
    compare_with_golden([], tmp_path / "none.txt")


@pytest.mark.parametrize("expected", ["line 17 falls", [17], [("line 17 falls", 0.1)], [(1, 2, "line 17 falls")]])
def test_an_expectation_that_makes_no_sense_is_a_type_error(expected):
    with pytest.raises(TypeError, match=r"an expected event is a text|takes a list of events in words"):
        assert_trace(DOOR, expected)


def test_a_misspelt_line_gets_a_hint_of_what_is_in_the_trace():
    with pytest.raises(AssertionError) as failure:
        assert_trace(DOOR, ["line 17 falls", "Line 27 rises", "line 17 rises"])
    hint = "the trace has no event of Line 27; it has events of /dev/ttyS0 sent, line 17, line 27"
    assert str(failure.value).splitlines()[-1] == hint


def test_a_difference_in_a_long_trace_is_found_quickly():
    """Both ends are compared in one pass, so that only the part between is searched for the best match."""
    events = [LineChange(at, 17, at % 2, "program") for at in range(20_000)]
    expected = [describe(event) for event in events]
    expected[10_000] = "line 17 ..."
    assert_trace(events, expected)
    expected[10_000] = "line 17 explodes"
    with pytest.raises(AssertionError) as failure:
        assert_trace(events, expected)
    assert len(str(failure.value).splitlines()) == 11
