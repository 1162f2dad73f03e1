"""`Trace`: what it keeps, and the questions that it answers."""

from __future__ import annotations

import threading

import pytest

from firmware_sim.trace import Trace
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange, SerialData, SerialFrame


def change(when_ns, line=17, level=1):
    return LineChange(when_ns, line, level, "outside")


def transfer(when_ns, end_ns, address, bus=1):
    return I2cTransfer(when_ns, end_ns, bus, (I2cMessage(address, "sent", b"\x01"),), "")


def trace_of(*events, **options):
    trace = Trace(**options)
    for event in events:
        trace.record(event)
    return trace


def test_edges_are_the_changes_of_one_line_in_order():
    trace = trace_of(change(1), change(2, 27), change(3, level=0), SerialData(4, "/dev/ttyS0", "sent", b"a"))
    assert trace.edges(17) == [change(1), change(3, level=0)]
    assert trace.edges(4) == []


def test_a_part_of_the_trace_begins_at_its_start_ends_before_its_end_and_can_be_asked_likewise():
    part = trace_of(change(1), change(2, level=0), change(3), change(4, level=0)).between(2, 4)
    assert part.edges(17) == [change(2, level=0), change(3)]


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "count"), [(0, 10, 0), (0, 11, 1), (15, 16, 1), (20, 30, 1), (21, 30, 0)]
)
def test_a_transfer_belongs_to_a_part_that_it_touches(start_ns, end_ns, count):
    assert len(trace_of(transfer(10, 20, 0x76)).between(start_ns, end_ns)) == count


def test_transfers_of_a_bus_and_of_a_device():
    trace = trace_of(transfer(1, 2, 0x76), transfer(3, 4, 0x20), transfer(5, 6, 0x76, bus=3))
    assert [it.when_ns for it in trace.transfers(1)] == [1, 3]
    assert [it.when_ns for it in trace.transfers(1, 0x20)] == [3]
    assert trace.transfers(2) == []


def test_frames_and_bytes_of_a_port():
    trace = trace_of(
        SerialData(1, "/dev/ttyS0", "received", b"a\n"),
        SerialData(2, "/dev/ttyS0", "sent", b"x"),
        SerialFrame(3, "/dev/ttyS0", b"a"),
        SerialFrame(3, "/dev/ttyS1", b"b"),
        SerialData(4, "/dev/ttyS0", "received", b"b\n"),
    )
    assert trace.frames("/dev/ttyS0") == [SerialFrame(3, "/dev/ttyS0", b"a")]
    assert trace.data("/dev/ttyS0", "received") == b"a\nb\n"


@pytest.mark.parametrize(("when_ns", "level"), [(0, 0), (9, 0), (10, 1), (19, 1), (20, 0), (99, 0)])
def test_the_level_of_a_line_at_a_time(when_ns, level):
    trace = trace_of(change(10), change(20, level=0))
    assert trace.level(17, when_ns) == level
    assert trace.level(4, when_ns) is None


def test_the_widths_of_pulses_leave_out_those_that_are_cut_off():
    trace = trace_of(change(10), change(25, level=0), change(26), change(30, level=0))
    assert (trace.pulses(17), trace.pulses(17, level=0)) == ([15, 4], [1])


def test_an_edge_that_a_real_board_lost_leaves_no_change_to_the_same_level():
    trace = trace_of(change(10), change(20), change(30, level=0))
    assert trace.pulses(17) == [20]


def test_the_last_events_are_kept():
    assert [it.when_ns for it in trace_of(*map(change, range(10)), keep=3)] == [7, 8, 9]


def test_the_events_of_the_last_seconds_are_kept():
    trace = trace_of(change(0), change(10**9), change(2 * 10**9), seconds=1)
    assert [it.when_ns for it in trace] == [10**9, 2 * 10**9]
    trace.clear()
    assert len(trace) == 0


@pytest.mark.parametrize("options", [{"keep": 0}, {"seconds": 0}, {"seconds": float("nan")}])
def test_a_trace_that_keeps_nothing_is_rejected(options):
    with pytest.raises(ValueError, match="keeps"):
        Trace(**options)


@pytest.mark.parametrize("options", [{}, {"keep": 50}, {"seconds": 1e-6}])
def test_a_trace_is_read_while_other_threads_record(options):
    trace, done = Trace(**options), threading.Event()

    def record():
        for when_ns in range(20_000):
            trace.record(change(when_ns * 100))
        done.set()

    threads = [threading.Thread(target=record) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        assert all(isinstance(event, LineChange) for event in trace)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("line", ["17", "GPIO17", None])
def test_a_line_by_its_name_is_an_error_and_not_a_line_without_edges(line):
    with pytest.raises(TypeError, match="a trace has the numbers of lines, such as 17, and not"):
        trace_of(change(1)).edges(line)
