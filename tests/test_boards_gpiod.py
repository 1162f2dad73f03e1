"""Edges and outputs through gpiod: the kernel's events, and what is asked of libgpiod.

The chip is a stand-in, and the events are written by hand. tests/kernel tests the same on a real kernel.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
import types
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.board import Edge, EdgeRequest, EdgeStream, OutputRequest
from hwloop.boards.gpiod import chip as gpiod_chip
from hwloop.boards.gpiod.chip import GpiodChip, load_gpiod
from hwloop.boards.gpiod.edges import EVENT, watch_lines
from hwloop.boards.gpiod.output import GpiodOutput
from hwloop.errors import HardwareError

gpiod = pytest.importorskip("gpiod", reason="pip install gpiod")
Value = gpiod.line.Value


class Request:
    """A line request: its descriptor is a pipe's, into which a test writes events."""

    def __init__(self, chip: OneChip, config: dict[Any, Any], consumer: str, event_buffer_size: int) -> None:
        ((self.offsets, self.settings),) = config.items()
        self.consumer = consumer
        self.event_buffer_size = event_buffer_size
        self.chip = chip
        self.fd, self.writer = os.pipe()
        self.numbers = dict.fromkeys(self.offsets, 0)
        self.failure: OSError | None = None
        if self.settings.direction == gpiod.line.Direction.OUTPUT:
            self.set_value(self.offsets[0], self.settings.output_value)

    def event(self, line: int, level: int, *, timestamp_ns: int = 0, skip: int = 0) -> bytes:
        """An event of the kernel's; `skip` numbers before it were of events that it dropped."""
        self.numbers[line] = (self.numbers[line] + 1 + skip) & 0xFFFFFFFF
        return struct.pack(
            "=QIIII24x", timestamp_ns or time.monotonic_ns(), 1 if level else 2, line, 0, self.numbers[line]
        )

    def happen(self, line: int, *levels: int, skip: int = 0, timestamp_ns: int = 0) -> None:
        for level in levels:
            self.chip.levels[line] = level
            os.write(self.writer, self.event(line, level, skip=skip, timestamp_ns=timestamp_ns))

    def reconfigure_lines(self, config: dict[Any, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        ((line, self.settings),) = config.items()
        if self.settings.direction == gpiod.line.Direction.OUTPUT:
            self.set_value(line, self.settings.output_value)

    def get_value(self, line: int) -> Any:
        if self.failure is not None:
            raise self.failure
        return Value(self.chip.levels[line])

    def set_value(self, line: int, value: Any) -> None:
        if self.failure is not None:
            raise self.failure
        self.chip.levels[line] = int(bool(value))

    def release(self) -> None:
        os.close(self.fd)
        os.close(self.writer)
        for line in self.offsets:
            del self.chip.taken[line]


class OneChip:
    """A stand-in for gpiod.Chip."""

    def __init__(self, path: str) -> None:
        if path != "/dev/gpiochip7":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self.levels = dict.fromkeys(range(70), 0)
        self.taken: dict[int, str] = {}
        self.gone = False
        self.closed = False
        self.refuse: OSError | None = None
        self.requests: list[Request] = []

    def get_info(self) -> Any:
        return SimpleNamespace(label="pinctrl-rp1", num_lines=70)

    def get_line_info(self, line: int) -> Any:
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        name = "SDA1" if line == 2 else f"GPIO{line}" if line != 3 else None
        return SimpleNamespace(name=name, used=line in self.taken, consumer=self.taken.get(line))

    def request_lines(self, config: dict[Any, Any], consumer: str, event_buffer_size: int) -> Request:
        (lines,) = config
        if any(line in self.taken for line in lines):
            raise OSError(errno.EBUSY, "Device or resource busy")
        if self.refuse is not None:
            raise self.refuse
        self.taken.update(dict.fromkeys(lines, consumer))
        self.requests.append(Request(self, config, consumer, event_buffer_size))
        return self.requests[-1]

    def close(self) -> None:
        self.closed = True


class Setup:
    """The code under test on a chip that stands in for gpiod's."""

    def __init__(self) -> None:
        module: Any = SimpleNamespace(Chip=OneChip, LineSettings=gpiod.LineSettings, line=gpiod.line)
        self.board = GpiodChip(module, "/dev/gpiochip7")
        self.chip: Any = self.board._chip
        self._open: list[Any] = []

    def watch(self, *lines: int | str, **options: Any) -> EdgeStream:
        stream = watch_lines(self.board, EdgeRequest(lines, **{"consumer": "the test"} | options))
        self._open.append(stream)
        return stream

    def output(self, line: int | str, **options: Any) -> Any:
        self._open.append(GpiodOutput(self.board, OutputRequest(line, **{"consumer": "the test"} | options)))
        return self._open[-1]

    @property
    def request(self) -> Request:
        """The last one made."""
        last: Request = self.chip.requests[-1]
        return last

    def close(self) -> None:
        for each in self._open:
            each.close()
        self.board.close()
        assert self.chip.taken == {}
        assert self.board.users == {}


@pytest.fixture
def setup() -> Iterator[Setup]:
    setup = Setup()
    yield setup
    setup.close()


def seen(edges: list[Edge]) -> list[tuple[int, int]]:
    return [(edge.value, edge.lost) for edge in edges]


# Requests.


def test_one_request_has_all_lines_and_the_largest_buffer(setup: Setup) -> None:
    setup.watch(17, "GPIO18", pull="up", active_low=True, edges="falling", debounce=0.0025, consumer="door")
    assert len(setup.chip.requests) == 1
    assert (setup.request.offsets, setup.request.consumer, setup.request.event_buffer_size) == ((17, 18), "door", 1024)
    asked = setup.request.settings
    assert (asked.direction, asked.edge_detection) == (gpiod.line.Direction.INPUT, gpiod.line.Edge.FALLING)
    assert (asked.bias, asked.active_low) == (gpiod.line.Bias.PULL_UP, True)
    assert (asked.debounce_period.total_seconds(), asked.event_clock) == (0.0025, gpiod.line.Clock.MONOTONIC)


@pytest.mark.parametrize("drive", ["push-pull", "open-drain", "open-source"])
def test_an_output_is_driven_as_requested(setup: Setup, drive: str) -> None:
    output = setup.output(27, initial=1, drive=drive, active_low=True)
    asked = setup.request.settings
    assert asked.drive.name.lower().replace("_", "-") == drive
    assert (asked.output_value, asked.active_low) == (Value.ACTIVE, True)
    assert output.get() == setup.chip.levels[27] == 1
    output.set(0)
    assert output.get() == setup.chip.levels[27] == 0


# Edges.


def test_edges_carry_line_level_and_times(setup: Setup) -> None:
    stream = setup.watch(17, "GPIO18")
    before_ns = time.monotonic_ns()
    setup.request.happen(17, 1)
    setup.request.happen(18, 1)
    setup.request.happen(17, 0)
    edges = stream.read()
    assert [(edge.line, edge.value, edge.lost) for edge in edges] == [(17, 1, 0), ("GPIO18", 1, 0), (17, 0, 0)]
    times = [before_ns, *(edge.timestamp_ns for edge in edges), edges[0].received_ns, time.monotonic_ns()]
    assert times == sorted(times)
    assert stream.read() == []
    assert stream.fileno() == setup.request.fd


def test_lines_that_the_kernel_queued_out_of_order_are_put_in_order(setup: Setup) -> None:
    stream = setup.watch(17, 18)
    now_ns = time.monotonic_ns()
    for line, level, after_ns in ((18, 1, 20), (17, 1, 10), (17, 0, 30)):
        setup.request.happen(line, level, timestamp_ns=now_ns + after_ns)
    assert [(edge.line, edge.timestamp_ns - now_ns) for edge in stream.read()] == [(17, 10), (18, 20), (17, 30)]


def test_a_long_backlog_comes_in_several_reads(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.request.happen(17, *[1, 0] * 300)
    sizes = []
    while edges := stream.read():
        sizes.append(len(edges))
    assert sizes == [256, 256, 88]


# Losses.


def test_a_gap_in_the_kernels_numbers_is_counted_on_the_next_edge(setup: Setup) -> None:
    stream = setup.watch(17, 18)
    setup.request.happen(17, 1, skip=4)
    setup.request.happen(18, 1)
    setup.request.happen(17, 1, skip=3)
    setup.request.happen(17, 0)
    assert seen(stream.read()) == [(1, 4), (1, 0), (1, 3), (0, 0)]
    assert (stream.losses.kernel, stream.losses.merged) == (7, 0)


def test_the_same_level_twice_without_a_gap_is_a_merged_edge(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.request.happen(17, 1, 1, 0)
    assert seen(stream.read()) == [(1, 0), (1, 1), (0, 0)]
    assert (stream.losses.kernel, stream.losses.merged) == (0, 1)


def test_a_gap_that_does_not_explain_the_level_hides_a_merged_edge(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.request.happen(17, 1)
    setup.request.happen(17, 1, skip=2)  # two missing ones leave the level: this should be 0
    assert seen(stream.read()) == [(1, 0), (1, 3)]
    assert (stream.losses.kernel, stream.losses.merged) == (2, 1)


def test_so_does_a_gap_before_the_first_event(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.request.happen(17, 1, skip=3)  # three missing ones leave it at 1: this should be 0
    assert seen(stream.read()) == [(1, 4)]
    assert (stream.losses.kernel, stream.losses.merged) == (3, 1)


def test_under_one_kind_of_edge_only_gaps_show_losses(setup: Setup) -> None:
    stream = setup.watch(17, edges="rising")
    setup.request.happen(17, 1, 1)
    setup.request.happen(17, 1, skip=2)
    assert seen(stream.read()) == [(1, 0), (1, 0), (1, 2)]
    assert (stream.losses.kernel, stream.losses.merged) == (2, 0)


def test_the_kernels_numbers_may_wrap_around(setup: Setup) -> None:
    stream = setup.watch(17, edges="rising")
    setup.request.happen(17, 1, skip=0xFFFFFFFE)
    stream.read()
    setup.request.happen(17, 1, skip=1)  # numbered 1
    assert seen(stream.read()) == [(1, 1)]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_every_event_that_was_numbered_is_given_or_counted(kept: list[bool]) -> None:
    setup = Setup()
    stream = setup.watch(17)
    events = [setup.request.event(17, 1 - place % 2) for place in range(len(kept))]
    os.write(setup.request.writer, b"".join(event for event, keep in zip(events, kept, strict=True) if keep))
    edges = stream.read()
    last = max((place for place, keep in enumerate(kept) if keep), default=-1)
    assert len(edges) + sum(edge.lost for edge in edges) == last + 1
    assert (len(edges) + stream.losses.kernel, stream.losses.merged) == (last + 1, 0)
    setup.close()


def test_an_edge_without_an_event_is_found_by_reading_twice(setup: Setup) -> None:
    stream = setup.watch(17)
    setup.request.happen(17, 1)
    assert stream.recheck() == []  # something waits: no look
    stream.read()
    setup.chip.levels[17] = 0
    assert stream.recheck() == []
    edges = stream.recheck()
    assert (seen(edges), stream.losses.reconciled) == ([(0, 0)], 1)
    assert stream.recheck() == []
    setup.request.happen(17, 0, timestamp_ns=edges[0].timestamp_ns - 1)  # its event, late
    assert (stream.read(), stream.losses.reconciled, stream.losses.merged) == ([], 0, 0)
    setup.request.happen(17, 1)
    assert seen(stream.read()) == [(1, 0)]


def test_edges_between_request_and_reading_are_no_loss(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Request.get_value

    def busy(self: Request, line: int) -> Any:
        monkeypatch.setattr(Request, "get_value", real)
        self.happen(line, 1)
        return real(self, line)

    monkeypatch.setattr(Request, "get_value", busy)
    stream = setup.watch(17)
    setup.request.happen(17, 0)
    assert seen(stream.read()) == [(1, 0), (0, 0)]


# Failure.


def test_a_vanished_chip_raises(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, output = setup.watch(17, 18), setup.output(27)
    gone = OSError(errno.ENODEV, "No such device")
    for request in setup.chip.requests:
        request.failure = gone
    setup.chip.gone = True
    text = r"/dev/gpiochip7 \(pinctrl-rp1\) is gone: its driver was unbound, or it was unplugged; once it is back, "
    for action in (lambda: stream.level(17), stream.check, lambda: output.set(1), output.get):
        with pytest.raises(HardwareError, match=text) as caught:
            action()
        assert caught.value.errno == errno.ENODEV
    assert setup.board.gone()

    def read(fd: int, size: int) -> bytes:
        raise gone

    monkeypatch.setattr("os.read", read)
    with pytest.raises(HardwareError, match="line 17, 18: " + text):
        stream.read()


def test_closing_frees_the_lines_and_is_harmless_when_repeated(setup: Setup) -> None:
    stream, output = setup.watch(17, 18), setup.output(27)
    for each in (stream, output) * 2:
        each.close()
    assert (stream.fileno(), setup.chip.taken) == (-1, {})
    with pytest.raises(HardwareError, match="line 27: this output is closed; open a new one"):
        output.set(1)
    setup.watch(17, 18, 27)


def test_a_request_that_can_not_be_read_is_released(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Request, line: int) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Request, "get_value", fail)
    with pytest.raises(HardwareError, match="line 17: can't be read: input/output error"):
        setup.watch(17)
    assert (setup.chip.taken, setup.board.users) == ({}, {})


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_leaves_its_parents_lines_alone(setup: Setup) -> None:
    stream, output = setup.watch(17), setup.output(27, initial=1)
    child = os.fork()
    if child == 0:  # nothing of pytest may run in here
        failures = 0
        try:
            for action in (lambda: stream.level(17), stream.read, lambda: output.set(0), lambda: setup.watch(5)):
                try:
                    action()
                except HardwareError as error:
                    failures += "before this process was forked" in str(error)
            stream.close()
            output.close()
            released = not os.path.exists(f"/proc/self/fd/{setup.request.fd}")
            os._exit(42 if failures == 4 and released else failures)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert output.get() == 1
    setup.chip.requests[0].happen(17, 1)
    assert seen(stream.read()) == [(1, 0)]


# Refusals: each leaves nothing behind.


def refused(setup: Setup, message: str, *lines: int | str, **options: Any) -> HardwareError:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(HardwareError) as caught:
        setup.watch(*lines, **options)
    assert str(caught.value) == message
    assert set(os.listdir("/proc/self/fd")) == before
    return caught.value


def test_an_unknown_line_is_answered_with_those_there_are(setup: Setup) -> None:
    refused(setup, "line 70: no such line on /dev/gpiochip7; its lines are 0 to 69", 17, 70)
    refused(setup, "line 'GPIO99': no such line on /dev/gpiochip7; its lines are 0 to 69", "GPIO99")
    refused(setup, "line 'DOOR': no line of that name on /dev/gpiochip7; see 'gpioinfo'", "DOOR")


def test_on_the_headers_chip_a_bcm_name_is_known_whatever_the_kernel_calls_the_line(setup: Setup) -> None:
    setup.watch("GPIO2", "GPIO3")
    assert setup.request.offsets == (2, 3)
    setup.board.label = "an expander"
    refused(setup, "line 'GPIO2': no line of that name on /dev/gpiochip7; see 'gpioinfo'", "GPIO2")


def test_the_error_for_a_line_of_another_process_names_its_user(setup: Setup) -> None:
    setup.chip.taken[18] = "gpiomon"
    error = refused(
        setup, "line 18: in use by another process (which calls itself 'gpiomon'); stop it, or see 'gpioinfo'", 17, 18
    )
    assert error.errno == errno.EBUSY
    with pytest.raises(HardwareError, match="line 18: in use by another process"):
        setup.output(18)
    del setup.chip.taken[18]
    setup.watch(17, 18)


def test_the_error_for_a_line_of_this_program_names_its_user(setup: Setup) -> None:
    setup.watch(17, consumer="the door")
    message = "line 17: in use by this program already, as the door; close that first"
    refused(setup, message, 17)
    with pytest.raises(HardwareError, match=message):
        setup.output(17)


def test_a_request_that_the_kernel_refuses_says_what_may_be_wrong(setup: Setup) -> None:
    setup.chip.refuse = OSError(errno.EINVAL, "Invalid argument")
    error = refused(
        setup,
        "line 17, 18: the kernel refused it (invalid argument); "
        "not every line has interrupts, pull resistors or every kind of drive",
        17,
        18,
    )
    assert error.errno == errno.EINVAL


def test_more_lines_than_the_kernel_gives_to_a_request_raise(setup: Setup) -> None:
    with pytest.raises(HardwareError, match="at most 64 lines to one request, and these are 65; watch them in several"):
        setup.watch(*range(65))
    setup.watch(*range(64))


def test_a_line_twice_is_an_error_also_under_two_names(setup: Setup) -> None:
    for lines in ((17, 17), (17, "GPIO17")):
        with pytest.raises(ValueError, match="the same line twice"):
            setup.watch(*lines)


@pytest.mark.parametrize("debounce", [-0.001, 5.1, float("nan")])
def test_debounce_is_zero_to_five_seconds(setup: Setup, debounce: float) -> None:
    with pytest.raises(ValueError, match="debounce must be 0 to 5 seconds"):
        setup.watch(17, debounce=debounce)


def test_a_chip_that_can_not_be_opened_is_named() -> None:
    module: Any = SimpleNamespace(Chip=OneChip)
    with pytest.raises(HardwareError, match="/dev/gpiochip9: no such file or directory"):
        GpiodChip(module, "/dev/gpiochip9")


def test_gpiod_is_named_where_it_is_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(
        HardwareError, match=r"the package is not installed; pip install 'gpiod>=2\.2', or on Debian 13"
    ):
        load_gpiod()
    old = types.ModuleType("gpiod")
    old.__file__ = "/usr/lib/python3/dist-packages/gpiod.so"
    monkeypatch.setitem(sys.modules, "gpiod", old)
    with pytest.raises(HardwareError, match=r"gpiod\.so is of libgpiod 1; 2 is needed"):
        load_gpiod()


def test_the_event_is_the_kernels() -> None:
    assert EVENT.size == 48
    assert gpiod_chip.EVENT_BUFFER == 16 * gpiod_chip.MAX_LINES


@pytest.mark.parametrize("level", [0, 1])
def test_an_output_without_an_initial_level_is_taken_as_it_is_and_keeps_its_level(setup: Setup, level: int) -> None:
    setup.chip.levels[27] = level
    output = setup.output(27, initial=None, drive="open-drain")
    assert len(setup.chip.requests) == 1  # never given back in between, which some chips answer by letting go
    assert setup.request.settings.direction == gpiod.line.Direction.OUTPUT
    assert setup.request.settings.drive == gpiod.line.Drive.OPEN_DRAIN
    assert setup.request.settings.output_value == Value(level)
    assert output.get() == level


def test_an_output_that_can_not_keep_its_level_gives_the_line_back(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Request, config: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(Request, "reconfigure_lines", refuse)
    with pytest.raises(HardwareError, match="line 27: the kernel refused it"):
        setup.output(27, initial=None)
    assert setup.chip.taken == setup.board.users == {}


# Outputs that are watched while they let go of their line.


@pytest.mark.parametrize(
    ("drive", "active_low", "released"),
    [
        ("open-drain", False, 1),
        ("open-drain", True, 0),
        ("open-source", False, 0),
        ("open-source", True, 1),
    ],
)
def test_a_watched_output_is_an_input_while_it_is_released(
    setup: Setup, drive: str, active_low: bool, released: int
) -> None:
    output = setup.output(4, drive=drive, active_low=active_low, initial=1 - released)
    request = setup.request
    driven = request.settings
    stream = output.watch(lambda: None)
    assert stream.fileno() == request.fd
    assert (request.settings.direction, request.settings.drive) == (driven.direction, driven.drive)
    output.set(released)
    asked = request.settings
    assert (asked.direction, asked.edge_detection) == (gpiod.line.Direction.INPUT, gpiod.line.Edge.BOTH)
    assert (asked.active_low, asked.event_clock) == (active_low, gpiod.line.Clock.MONOTONIC)
    setup.chip.levels[4] = released
    output.set(1 - released)
    asked = request.settings
    assert (asked.direction, asked.drive) == (gpiod.line.Direction.OUTPUT, driven.drive)
    assert (asked.active_low, asked.output_value) == (active_low, Value(1 - released))
    assert len(setup.chip.requests) == 1  # the line was never given back
    output.set(released)
    stream.close()
    assert request.settings.direction == gpiod.line.Direction.OUTPUT
    output.set(1 - released)
    assert setup.chip.levels[4] == 1 - released


def test_a_watched_output_reports_the_edges_of_other_devices(setup: Setup) -> None:
    output = setup.output(4, drive="open-drain", initial=0)
    kept: list[bool] = []
    stream = output.watch(lambda: kept.append(True))
    setup.chip.levels[4] = 1
    output.set(1)
    setup.request.happen(4, 0, 1, 0)
    assert seen(stream.read()) == [(0, 0), (1, 0), (0, 0)]
    setup.request.happen(4, 1)
    output.set(0)  # edges that wait to be read are kept, and their reader is notified
    assert kept == [True]
    setup.chip.levels[4] = 1
    output.set(1)
    setup.request.happen(4, 0)
    assert seen(stream.read()) == [(1, 0), (0, 0)]
    assert stream.recheck() == []
    assert (stream.losses.merged, stream.losses.kernel) == (0, 0)


def test_an_edge_that_comes_before_the_level_is_read_is_not_missing(setup: Setup) -> None:
    output = setup.output(4, drive="open-drain", initial=0)
    stream = output.watch(lambda: None)
    setup.chip.levels[4] = 0  # the sensor has answered by the time at which the level is read
    early_ns = time.monotonic_ns()
    output.set(1)
    setup.request.happen(4, 0, timestamp_ns=early_ns)
    setup.request.happen(4, 1)
    assert seen(stream.read()) == [(0, 0), (1, 0)]
    assert stream.losses.merged == 0


def test_while_it_drives_nothing_is_found_by_reading_the_line(setup: Setup) -> None:
    output = setup.output(4, drive="open-drain", initial=1)
    setup.chip.levels[4] = 1
    stream = output.watch(lambda: None)
    output.set(0)
    assert [stream.recheck() for _ in range(3)] == [[], [], []]
    setup.chip.levels[4] = 1
    output.set(1)
    setup.chip.levels[4] = 0  # an edge that was lost
    assert stream.recheck() == []
    assert seen(stream.recheck()) == [(0, 0)]


def test_an_output_that_drives_both_levels_has_no_edges(setup: Setup) -> None:
    with pytest.raises(HardwareError, match=r"drives both levels never releases its line.*use drive='open-drain'"):
        setup.output(4).watch(lambda: None)


def test_watching_a_line_without_interrupts_raises_and_leaves_it_an_output(setup: Setup) -> None:
    output = setup.output(4, drive="open-drain", initial=1)
    plain = setup.request.reconfigure_lines

    def refuse(config: dict[Any, Any]) -> None:
        raise OSError(errno.ENXIO, "No such device or address")

    setup.request.reconfigure_lines = refuse  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match=r"line 4: the kernel refused it .*not every line has interrupts"):
        output.watch(lambda: None)
    setup.request.reconfigure_lines = plain  # type: ignore[method-assign]
    output.set(0)
    assert setup.chip.levels[4] == 0


def test_closing_the_output_first_leaves_nothing(setup: Setup) -> None:
    output = setup.output(4, drive="open-drain", initial=1)
    stream = output.watch(lambda: None)
    output.close()
    stream.close()
    assert (stream.fileno(), setup.chip.taken) == (-1, {})
