"""Edges and outputs through lgpio, over the simulated module."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.pins import Chip
from firmware_sim.timeline import Timeline
from hwloop.board import Edge, EdgeRequest, EdgeStream, OutputRequest, Pull
from hwloop.boards.lgpio import alert_thread, fifos
from hwloop.boards.lgpio import chip as lgpio_chip
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.boards.lgpio.edges import watch_lines
from hwloop.boards.lgpio.output import LgpioOutput
from hwloop.errors import HardwareError

REPORT = struct.Struct("QBBBBI")
PULLED_DOWN = EdgeRequest([17], consumer="x", pull="down")


class Setup:
    """A simulated chip, an lgpio over it, and the code under test over that."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.chip = Chip(self.timeline, label="test", lines=64)
        self.lgpio = Lgpio(self.chip)
        self.board = LgpioChip(self.lgpio, number=0, workdir=self.lgpio.directory)
        self._streams: list[EdgeStream] = []

    def watch(self, *lines: int | str, **options: Any) -> EdgeStream:
        stream = watch_lines(self.board, EdgeRequest(lines, **{"consumer": "the test"} | options))
        self._streams.append(stream)
        return stream

    def output(self, line: int | str, **options: Any) -> Any:
        return LgpioOutput(self.board, OutputRequest(line, **{"consumer": "the test"} | options))

    def drive(self, line: int, *levels: int) -> None:
        for level in levels:
            self.chip.line(line).drive(level)

    def inject(self, stream: EdgeStream, data: bytes) -> None:
        """Write to a stream's FIFO, as lgpio does."""
        fd = os.open(f"/proc/self/fd/{stream.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, data)
        os.close(fd)

    def nothing_claimed(self) -> bool:
        """Whether every line is free and lgpio's directory empty."""
        free = all(self.chip.line(number).consumer is None for number in range(len(self.chip)))
        return free and os.listdir(self.lgpio.directory) == []

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        self.timeline.stop()
        self.board.close()
        self.lgpio.close()


@pytest.fixture
def setup() -> Iterator[Setup]:
    setup = Setup()
    yield setup
    setup.close()


def seen(edges: list[Edge]) -> list[tuple[int, int]]:
    return [(edge.value, edge.lost) for edge in edges]


# Edges.


def test_edges_carry_line_level_and_times(setup: Setup) -> None:
    stream = setup.watch(17, "GPIO18")
    before_ns = time.monotonic_ns()
    setup.drive(17, 1)
    setup.drive(18, 1)
    setup.drive(17, 0)
    edges = stream.read()
    after_ns = time.monotonic_ns()
    assert [(edge.line, edge.value, edge.lost) for edge in edges] == [(17, 1, 0), ("GPIO18", 1, 0), (17, 0, 0)]
    times = [before_ns, *(edge.timestamp_ns for edge in edges), edges[0].received_ns, after_ns]
    assert times == sorted(times)
    assert stream.read() == []


def test_active_low_edges_and_levels_are_logical(setup: Setup) -> None:
    stream = setup.watch(17, edges="rising", pull="up", active_low=True)
    assert stream.level(17) == 0
    setup.drive(17, 0, 1, 0)
    assert seen(stream.read()) == [(1, 0), (1, 0)]
    assert stream.level(17) == 1


@pytest.mark.parametrize(("pull", "level"), [("up", 1), ("down", 0), ("none", 0), (None, 0)])
def test_the_pull_is_set(setup: Setup, pull: Pull | None, level: int) -> None:
    assert setup.watch(17, pull=pull).level(17) == level


def test_debounce_reports_the_settled_level_only(setup: Setup) -> None:
    stream = setup.watch(17, debounce=0.05)  # long against any pause between two of the drives
    setup.drive(17, 1, 0, 1)
    deadline = time.monotonic() + 5
    while not (edges := stream.read()) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert seen(edges) == [(1, 0)]


@pytest.mark.parametrize(("edges", "told_of"), [("rising", [(1, 0)]), ("falling", [(0, 0)])])
def test_debounced_edges_of_one_kind_are_of_settled_levels_too(
    setup: Setup, edges: str, told_of: list[tuple[int, int]]
) -> None:
    stream = setup.watch(17, edges=edges, debounce=0.02)
    told_at = []
    deadline = time.monotonic() + 5
    for level in (1, 0):
        setup.drive(17, level, 1 - level, level)
        while stream.level(17) != level and time.monotonic() < deadline:
            told_at += seen(stream.read())
            time.sleep(0.001)
    assert told_at == told_of


def test_losses_between_two_edges_of_one_kind_come_with_the_next(setup: Setup) -> None:
    stream = setup.watch(17, edges="rising", debounce=0.5)
    now_ns = time.monotonic_ns()
    levels = [1, 0, 0, 1]
    setup.inject(
        stream, b"".join(REPORT.pack(now_ns + place, 0, 17, level, 0, 0) for place, level in enumerate(levels))
    )
    assert seen(stream.read()) == [(1, 0), (1, 1)]


def test_debounce_of_the_lines_last_user_is_not_inherited(setup: Setup) -> None:
    setup.watch(17, debounce=1.0).close()
    stream = setup.watch(17)
    setup.drive(17, 1)
    assert seen(stream.read()) == [(1, 0)]


def test_a_record_cut_in_half_waits_for_its_other_half(setup: Setup) -> None:
    stream = setup.watch(17)
    now_ns = time.monotonic_ns()
    data = b"".join(REPORT.pack(now_ns + place, 0, 17, 1 - place % 2, 0, 0) for place in range(3))
    pieces = [data[:5], data[5:16], data[16:40], data[40:]]
    seen = []
    for piece in pieces:
        setup.inject(stream, piece)
        seen.append([(edge.value, edge.timestamp_ns - now_ns) for edge in stream.read()])
    assert seen == [[], [(1, 0)], [(0, 1)], [(1, 2)]]


def test_a_long_backlog_comes_in_several_reads(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.drive(17, *[1, 0] * 1500)
    sizes = []
    while edges := stream.read():
        sizes.append(len(edges))
    assert sizes == [256] * 11 + [184]


def test_reports_of_others_are_passed_over(setup: Setup) -> None:
    stream = setup.watch(17)
    now_ns = time.monotonic_ns()
    foreign = [
        REPORT.pack(now_ns, 0, 18, 1, 0, 0),  # another line
        REPORT.pack(now_ns, 3, 17, 1, 0, 0),  # another chip
        REPORT.pack(now_ns, 0, 17, 2, 0, 0),  # lgpio's watchdog
        REPORT.pack(now_ns - 10**9, 0, 17, 1, 0, 0),  # from before the line was claimed
    ]
    setup.inject(stream, b"".join(foreign))
    assert stream.read() == []
    setup.drive(17, 1)
    assert seen(stream.read()) == [(1, 0)]


def test_two_equal_levels_mean_a_lost_edge(setup: Setup) -> None:
    stream = setup.watch(17)
    now_ns = time.monotonic_ns()
    levels = [0, 1, 0, 0, 1, 1]  # the first is known to be lost too: the line was low when it was claimed
    setup.inject(stream, b"".join(REPORT.pack(now_ns + 1, 0, 17, level, 0, 0) for level in levels))
    assert seen(stream.read()) == [(0, 1), (1, 0), (0, 0), (0, 1), (1, 0), (1, 1)]


@contextlib.contextmanager
def one_line_watched() -> Iterator[tuple[Setup, EdgeStream]]:
    setup = Setup()
    try:
        yield setup, setup.watch(17)
    finally:
        setup.close()


@given(st.lists(st.integers(1, 40), max_size=40))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_however_the_records_are_cut_the_edges_are_the_same(sizes: list[int]) -> None:
    with one_line_watched() as (setup, stream):
        now_ns = time.monotonic_ns()
        data = b"".join(REPORT.pack(now_ns + place, 0, 17, 1 - place % 2, 0, 0) for place in range(40))
        seen = []
        for size in [*sizes, len(data)]:
            piece, data = data[:size], data[size:]
            if piece:
                setup.inject(stream, piece)
            seen += [(edge.value, edge.lost, edge.timestamp_ns - now_ns) for edge in stream.read()]
        assert seen == [(1 - place % 2, 0, place) for place in range(40)]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_count_of_lost_edges_is_never_too_high_and_low_by_pairs_only(kept: list[bool]) -> None:
    with one_line_watched() as (setup, stream):
        now_ns = time.monotonic_ns()
        reports = [REPORT.pack(now_ns + place, 0, 17, 1 - place % 2, 0, 0) for place in range(len(kept))]
        last = max((place for place, keep in enumerate(kept) if keep), default=-1)
        setup.inject(stream, b"".join(report for report, keep in zip(reports, kept, strict=True) if keep))
        edges = stream.read()
        unseen = last + 1 - len(edges) - sum(edge.lost for edge in edges)
        assert len(edges) == sum(kept)
        assert unseen >= 0
        assert unseen % 2 == 0


def test_under_one_kind_of_edge_equal_levels_mean_nothing(setup: Setup) -> None:
    stream = setup.watch(17, edges="rising")
    setup.drive(17, 1, 0, 1)
    assert seen(stream.read()) == [(1, 0), (1, 0)]


class BusyOpening(Lgpio):
    """An lgpio on whose line something happens between the claim and the reading of the level."""

    during_claim: tuple[int, ...] = ()

    def gpio_read(self, handle: int, gpio: int) -> int:
        for level in self.during_claim:
            self._chip.line(gpio).drive(level)
        self.during_claim = ()
        return super().gpio_read(handle, gpio)


@pytest.mark.parametrize("levels", [(1,), (1, 0), (1, 0, 1)])
def test_edges_between_claim_and_reading_are_neither_missed_nor_counted_as_lost(
    setup: Setup, levels: tuple[int, ...]
) -> None:
    lgpio = BusyOpening(setup.chip)
    lgpio.during_claim = levels
    board = LgpioChip(lgpio, number=0, workdir=lgpio.directory)
    stream = watch_lines(board, PULLED_DOWN)
    assert seen(stream.read()) == [(level, 0) for level in levels]
    setup.drive(17, 1 - levels[-1])
    assert seen(stream.read()) == [(1 - levels[-1], 0)]
    stream.close()
    board.close()
    lgpio.close()


def test_debounced_a_glitch_at_the_claim_is_no_edge(setup: Setup) -> None:
    stream = setup.watch(17, debounce=0.5)
    now_ns = time.monotonic_ns()
    setup.inject(stream, REPORT.pack(now_ns, 0, 17, 0, 0, 0) + REPORT.pack(now_ns, 0, 17, 1, 0, 0))
    assert seen(stream.read()) == [(1, 0)]


def test_the_fifo_is_enlarged_and_its_name_gone_once_it_is_open(setup: Setup) -> None:
    stream = setup.watch(17)
    assert os.listdir(setup.lgpio.directory) == []
    allowed = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    assert fcntl.fcntl(stream.fileno(), fcntl.F_GETPIPE_SZ) == min(1 << 20, allowed)
    assert os.get_inheritable(stream.fileno()) is False


def test_as_much_of_the_fifo_as_is_allowed_will_do(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.fcntl

    def limited(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETPIPE_SZ and argument > 1 << 17:
            raise PermissionError(1, "Operation not permitted")
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", limited)
    stream = setup.watch(17)
    assert real(stream.fileno(), fcntl.F_GETPIPE_SZ) == 1 << 17


def test_a_fifo_that_fills_up_is_said_once(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fifos, "_PIPE_SIZE", 1 << 16)
    stream = setup.watch(17)
    for _ in range(2):
        setup.drive(17, *[1, 0] * 3000)
        while stream.read():
            pass
    assert setup.chip.line(17).reports_lost == 2 * (6000 - 4096)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 1
    assert "the test: edges come faster than they are read" in messages[0]


# Edges that no report tells of.


def test_an_edge_whose_report_was_lost_is_found_by_reading_twice(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.chip.line(17).drive(1)
    os.read(stream.fileno(), 100)  # lost
    assert seen(stream.recheck()) == []
    before_ns = time.monotonic_ns()
    edges = stream.recheck()
    assert seen(edges) == [(1, 0)]
    assert edges[0].timestamp_ns == edges[0].received_ns >= before_ns
    assert stream.recheck() == []
    setup.drive(17, 0)
    assert seen(stream.read()) == [(0, 0)]


def test_a_report_that_comes_between_the_looks_is_enough(setup: Setup) -> None:
    stream = setup.watch(17)
    late = REPORT.pack(time.monotonic_ns(), 0, 17, 1, 0, 0)
    setup.drive(17, 1)
    os.read(stream.fileno(), 100)
    stream.recheck()
    setup.inject(stream, late)
    assert stream.recheck() == []  # something waits to be read: no look at all
    assert seen(stream.read()) == [(1, 0)]
    assert stream.recheck() == []


def test_a_report_that_comes_after_its_edge_was_inferred_is_ignored(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.drive(17, 1)
    late = os.read(stream.fileno(), 100)
    stream.recheck()
    assert seen(stream.recheck()) == [(1, 0)]
    setup.inject(stream, late)
    assert stream.read() == []
    setup.drive(17, 0)
    assert seen(stream.read()) == [(0, 0)]


@pytest.mark.parametrize("changes", [[1, 1], [3, 1], [1, 3, 2], [2, 5], [5, 4, 1]])
def test_late_reports_and_the_edges_inferred_before_them_add_up(setup: Setup, changes: list[int]) -> None:
    """While lgpio's thread sleeps, the line is read now and then, and may have changed several times between."""
    stream = setup.watch(17)
    held, edges, level = b"", [], 0
    for count in changes:
        for _ in range(count):
            level = 1 - level
            setup.drive(17, level)
        held += os.read(stream.fileno(), 1000)
        stream.recheck()
        edges += stream.recheck()
    assert len(edges) == sum(count % 2 for count in changes)
    setup.inject(stream, held)
    edges += stream.read()
    assert len(edges) == sum(changes)
    assert (stream.losses.reconciled, stream.losses.merged, edges[-1].value) == (0, 0, level)
    setup.drive(17, 1 - level)
    assert seen(stream.read()) == [(1 - level, 0)]
    assert stream.recheck() == []


def test_with_one_kind_of_edge_undebounced_reading_finds_nothing(setup: Setup) -> None:
    stream = setup.watch(17, edges="rising")
    setup.drive(17, 1)
    os.set_blocking(stream.fileno(), False)
    stream.read()
    setup.drive(17, 0)
    assert (stream.recheck(), stream.recheck()) == ([], [])


@pytest.mark.parametrize("edges", ["both", "rising", "falling"])
def test_with_debounce_a_lost_report_is_found_once_the_level_has_lasted(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, edges: str
) -> None:
    stream = setup.watch(17, debounce=0.5, edges=edges)
    chip = stream.chip
    assert isinstance(chip, LgpioChip)
    now_ns = time.monotonic_ns()
    monkeypatch.setattr(chip, "time_ns", lambda: now_ns)
    for level in (1, 0):
        setup.chip.line(17).drive(level)  # and no report of it comes
        for milliseconds in (0, 100, 395):
            now_ns += milliseconds * 1_000_000
            assert (stream.recheck(), stream.doubtful) == ([], True)
        setup.chip.line(17).drive(1 - level)
        assert (stream.recheck(), stream.doubtful) == ([], False)  # it was a glitch
        setup.chip.line(17).drive(level)
        assert (stream.recheck(), stream.doubtful) == ([], True)
        now_ns += 510_000_000
        expected = [(level, 0)] if edges in ("both", "rising" if level else "falling") else []
        assert seen(stream.recheck()) == expected
        assert (stream.level(17), stream.doubtful) == (level, False)
        assert (stream.recheck(), stream.losses.reconciled) == ([], 2 - level)
    late = REPORT.pack(now_ns + 100_000_000, 0, 17, 0, 0, 0)
    setup.inject(stream, late)
    assert (stream.read(), stream.losses.reconciled, stream.losses.merged) == ([], 1, 0)


class Sleepy(Lgpio):
    """An lgpio whose thread, like the real one's, sleeps until it is signalled, and misses the first signals."""

    misses = 0
    claims = 0

    def gpiochip_open(self, gpiochip: int) -> int:
        self.ended = threading.Event()
        self.signalled = threading.Event()
        self.thread = threading.Thread(target=self.look_at_lines)
        self.thread.start()
        return super().gpiochip_open(gpiochip)

    def look_at_lines(self) -> None:
        self.signalled.wait()
        while not self.ended.wait(0.0005):
            pass

    def gpio_claim_alert(self, *args: Any, **kwargs: Any) -> int:
        self.claims += 1
        if self.claims > self.misses:
            self.signalled.set()
        return super().gpio_claim_alert(*args, **kwargs)

    def close(self) -> None:
        super().close()
        self.ended.set()
        self.signalled.set()
        self.thread.join()


@pytest.mark.parametrize(("misses", "claims"), [(0, 1), (1, 2), (2, 3), (99, 3)])
def test_a_thread_that_sleeps_through_the_first_claim_is_woken_by_another(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, misses: int, claims: int
) -> None:
    monkeypatch.setattr(alert_thread, "_PROOF", 0.01 if misses == 99 else 0.2)
    lgpio = Sleepy(setup.chip)
    lgpio.misses = misses
    board = LgpioChip(lgpio, number=0, workdir=lgpio.directory)
    streams = [watch_lines(board, PULLED_DOWN)]
    assert lgpio.claims == claims
    streams.append(watch_lines(board, replace(PULLED_DOWN, lines=[18])))
    assert lgpio.claims == claims + 1
    setup.drive(17, 1)
    assert seen(streams[0].read()) == [(1, 0)]
    for stream in streams:
        stream.close()
    board.close()
    lgpio.close()


# Closing.


def test_closing_frees_the_lines_and_is_harmless_when_repeated(setup: Setup) -> None:
    stream = setup.watch(17, 18)
    stream.close()
    stream.close()
    assert stream.fileno() == -1
    assert setup.nothing_claimed()
    setup.watch(17, 18)


def test_a_stream_can_be_closed_after_lgpio(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.lgpio.close()
    stream.close()
    assert stream.fileno() == -1


def test_a_stream_survives_the_closing_of_its_board(setup: Setup) -> None:
    stream, output = setup.watch(17), setup.output(18)
    setup.board.close()
    setup.board.close()
    setup.lgpio.close()
    with pytest.raises(HardwareError, match="lgpio has closed it; watch the lines again"):
        stream.read()
    with pytest.raises(HardwareError, match="line 17: its board is closed"):
        stream.level(17)
    with pytest.raises(HardwareError, match="line 18: its board is closed"):
        output.set(1)
    stream.close()
    output.close()


# Refusals: each leaves nothing behind.


def refused(setup: Setup, message: str, *lines: int | str, **options: Any) -> HardwareError:
    setup.board.give_fifo(setup.board.take_fifo(), usable=True)  # so that there are some to be used again
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(HardwareError) as caught:
        setup.watch(*lines, **options)
    assert str(caught.value) == message
    assert set(os.listdir("/proc/self/fd")) == before
    assert os.listdir(setup.lgpio.directory) == []
    return caught.value


def test_an_unknown_line_is_answered_with_those_there_are(setup: Setup) -> None:
    refused(setup, "line 64: no such line on /dev/gpiochip0; its lines are 0 to 63", 64)
    refused(setup, "line 99: no such line on /dev/gpiochip0; its lines are 0 to 63", 17, 99)
    refused(setup, "line 'GPIO99': no line of that name on /dev/gpiochip0; see 'gpioinfo'", "GPIO99")
    assert setup.nothing_claimed()


def test_the_error_for_a_line_of_another_process_names_its_user(setup: Setup) -> None:
    other = Lgpio(setup.chip)
    other.gpio_claim_input(other.gpiochip_open(0), 18)
    error = refused(
        setup, "line 18: in use by another process (which calls itself 'lg'); stop it, or see 'gpioinfo'", 17, 18
    )
    assert error.errno == 16
    assert setup.chip.line(17).consumer is None
    with pytest.raises(HardwareError, match="line 18: in use by another process"):
        setup.output(18)
    other.close()
    assert setup.nothing_claimed()
    setup.watch(17, 18)


def test_a_line_that_this_program_holds_is_not_taken_from_its_user(setup: Setup) -> None:
    stream = setup.watch(17, consumer="the door")
    message = "line 17: in use by this program already, as the door; close that first"
    refused(setup, message, 17)
    refused(setup, message.replace("17", "GPIO17"), 18, "GPIO17")
    with pytest.raises(HardwareError, match=message):
        setup.output(17)
    setup.drive(17, 1)
    assert seen(stream.read()) == [(1, 0)]


def test_a_claim_that_the_kernel_refuses_says_what_may_be_wrong(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lgpio, "SET_PULL_UP", Lgpio.SET_PULL_UP | Lgpio.SET_PULL_DOWN)
    refused(
        setup,
        "line 17: the kernel refused it (lgpio: bad event request); "
        "not every line has interrupts, pull resistors or every kind of drive",
        17,
        pull="up",
    )
    assert setup.nothing_claimed()


def test_a_line_twice_is_an_error_also_under_two_names(setup: Setup) -> None:
    for lines in ((17, 17), (17, "GPIO17")):
        with pytest.raises(ValueError, match="the same line twice"):
            setup.watch(*lines)
    assert setup.nothing_claimed()


@pytest.mark.parametrize("debounce", [-0.001, 5.1, float("nan")])
def test_debounce_is_zero_to_five_seconds(setup: Setup, debounce: float) -> None:
    with pytest.raises(ValueError, match="debounce must be 0 to 5 seconds"):
        setup.watch(17, debounce=debounce)


def test_one_process_watches_sixty_lines_at_most(setup: Setup) -> None:
    first = setup.watch(*range(50))
    refused(
        setup,
        "lines 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60: lgpio can watch 60 lines in one process, and 50 are watched "
        "already; close some first",
        *range(50, 61),
    )
    setup.watch(*range(50, 60))
    first.close()
    setup.watch(*range(50))


def test_lines_watched_through_a_chip_that_was_closed_do_not_count(setup: Setup) -> None:
    stream = setup.watch(*range(60))
    setup.board.close()
    setup.board = LgpioChip(setup.lgpio, number=0, workdir=setup.lgpio.directory)
    setup.watch(*range(60))
    stream.close()
    refused(
        setup,
        "lines 60: lgpio can watch 60 lines in one process, and 60 are watched already; close some first",
        60,
    )


def test_a_process_has_as_many_watches_as_lgpio_serves(setup: Setup) -> None:
    streams = [setup.watch(number) for number in range(19)]
    refused_one = (
        "lgpio serves 19 watches in one process, and all of them are in use; watch several lines in one, close some"
    )
    with pytest.raises(HardwareError, match=refused_one):
        setup.watch(20)
    streams[3].close()
    stream = setup.watch(20)
    setup.drive(20, 1)
    assert seen(stream.read()) == [(1, 0)]


class CountsOpening(Lgpio):
    """An lgpio that notes how many lines were watched when a FIFO was opened."""

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip)
        self.watched: list[int] = []

    def notify_open(self) -> int:
        self.watched.append(sum(self._chip.line(number).consumer is not None for number in range(len(self._chip))))
        return super().notify_open()


def test_fifos_are_opened_before_lines_are_watched_and_used_again(setup: Setup) -> None:
    lgpio = CountsOpening(setup.chip)
    board = LgpioChip(lgpio, number=0, workdir=lgpio.directory)
    for _ in range(2):
        streams = [watch_lines(board, replace(PULLED_DOWN, lines=[line])) for line in range(8)]
        for stream in streams:
            stream.close()
    assert lgpio.watched == [0] * 8
    board.close()
    lgpio.close()


def test_reports_that_a_stream_left_unread_are_not_the_next_ones(setup: Setup) -> None:
    for _ in range(10):
        stream = setup.watch(17, pull="down")
        assert stream.read() == []
        setup.drive(17, 1, 0)
        stream.close()


class LateFree(Lgpio):
    """An lgpio whose freed lines stay taken for a moment, as the real one's do while its thread looks at them."""

    refusals = 0

    def gpio_claim_alert(self, *args: Any, **kwargs: Any) -> int:
        if self.refusals:
            self.refusals -= 1
            raise self.error("bad event request")
        return super().gpio_claim_alert(*args, **kwargs)


def test_a_line_freed_a_moment_ago_is_claimed_again_until_it_is_free(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    lgpio = LateFree(setup.chip)
    board = LgpioChip(lgpio, number=0, workdir=lgpio.directory)
    lgpio.refusals = 1
    with pytest.raises(HardwareError, match="bad event request"):
        watch_lines(board, PULLED_DOWN)
    watch_lines(board, PULLED_DOWN).close()
    lgpio.refusals = 3
    watch_lines(board, PULLED_DOWN).close()
    assert lgpio.refusals == 0
    monkeypatch.setattr(lgpio_chip, "_FREED_FOR", 0.01)
    lgpio.refusals = 10_000
    with pytest.raises(HardwareError, match="bad event request"):
        watch_lines(board, PULLED_DOWN)
    board.close()
    lgpio.close()


def test_a_directory_that_is_gone_is_named(setup: Setup) -> None:
    directory = setup.lgpio.directory
    os.rename(directory, directory + "-away")
    try:
        with pytest.raises(HardwareError, match=f"can not open pathname; it is made in {directory}: look there"):
            setup.watch(17)
    finally:
        os.rename(directory + "-away", directory)
    assert setup.nothing_claimed()


def test_a_fifo_that_is_not_where_it_should_be_is_named(setup: Setup, tmp_path: Path) -> None:
    board = LgpioChip(setup.lgpio, number=0, workdir=str(tmp_path))
    with pytest.raises(HardwareError, match=rf"{tmp_path}/.lgd-nfy\d: No such file"):
        watch_lines(board, EdgeRequest([17], consumer="x"))
    board.close()


def test_a_chip_that_is_not_there_is_named(setup: Setup) -> None:
    with pytest.raises(HardwareError, match="/dev/gpiochip4: lgpio: can not open gpiochip; see 'gpiodetect'"):
        LgpioChip(setup.lgpio, number=4, workdir=setup.lgpio.directory)


# Outputs.


def test_an_output_is_set_read_and_keeps_its_level_when_closed(setup: Setup) -> None:
    output = setup.output(27, initial=1)
    assert (setup.chip.line(27).level, output.get()) == (1, 1)
    output.set(0)
    assert setup.chip.line(27).level == 0
    output.set(1)
    output.close()
    output.close()
    assert setup.chip.line(27).level == 1
    with pytest.raises(HardwareError, match="line 27: this output is closed; open a new one"):
        output.set(0)
    assert setup.nothing_claimed()


def test_an_active_low_output_is_logical(setup: Setup) -> None:
    output = setup.output("GPIO27", initial=1, active_low=True)
    assert (setup.chip.line(27).level, output.get()) == (0, 1)
    output.set(0)
    assert (setup.chip.line(27).level, output.get()) == (1, 0)
    output.close()


def test_an_open_drain_output_releases_its_line(setup: Setup) -> None:
    output = setup.output(27, initial=1, drive="open-drain")
    setup.chip.line(27).pull("up")
    assert output.get() == 1
    setup.drive(27, 0)
    assert (output.get(), setup.chip.short_circuits) == (0, 0)
    output.close()
