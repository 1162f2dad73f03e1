"""gpiod on a simulated chip: the kernel's rules for line requests, seen through the package itself.

tests/scripts runs the package's own tests and examples on the board; tests/kernel compares it with the real kernel.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import re
import select
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim import gpio_uapi as uapi
from firmware_sim.gpio_device import GpioDevice
from firmware_sim.libraries.gpiod.bindings import load_copy
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.nodes import Nodes
from firmware_sim.pins import Chip, Line
from hwloop.virtual.errors import DeadlockError
from tests.sim.conftest import HandTimeline

pytest.importorskip("gpiod", reason="pip install gpiod")


NODES: Any = Nodes()


@functools.cache
def package() -> Any:
    """Return a copy of the package on `NODES`."""
    return load_copy(NODES)


class Kernel:
    """A chip, its device, and the package on it. Time stands still."""

    path = "/dev/gpiochip0"

    def __init__(self, timeline: HandTimeline) -> None:
        self.timeline = timeline
        self.simulated = Chip(timeline, label="pinctrl-bcm2711", lines=28)
        self.device = GpioDevice(self.simulated, 0)
        NODES.add(self.path, self.device)
        self.gpiod = package()
        self.levels = self.gpiod.line.Value
        self.chip: Any = self.gpiod.Chip(self.path)
        timeline.advance(1)

    def line(self, number: int) -> Line:
        return self.simulated.line(number)

    def settings(self, **names: Any) -> Any:
        """Return settings by the names of their values: `settings(edge_detection="BOTH")`."""
        kinds = {
            "direction": "Direction",
            "edge_detection": "Edge",
            "bias": "Bias",
            "drive": "Drive",
            "event_clock": "Clock",
        }
        values = {
            key: getattr(getattr(self.gpiod.line, kinds[key]), value) if key in kinds else value
            for key, value in names.items()
        }
        if "debounce" in values:
            values["debounce_period"] = timedelta(seconds=values.pop("debounce"))
        return self.gpiod.LineSettings(**values)

    def request(self, *lines: int, buffer: int | None = None, consumer: str = "the test", **names: Any) -> Any:
        return self.chip.request_lines({lines: self.settings(**names)}, consumer, buffer)

    def watch(self, *lines: int, **names: Any) -> Any:
        return self.request(*lines, **{"edge_detection": "BOTH"} | names)

    def changes(self) -> list[tuple[str, int]]:
        """Return the changes of watched lines so far."""
        found = []
        while self.chip.wait_info_event(0):
            event = self.chip.read_info_event()
            found.append((event.event_type.name, event.line_info.offset))
        return found


@pytest.fixture
def kernel(timeline: HandTimeline) -> Iterator[Kernel]:
    kernel = Kernel(timeline)
    yield kernel
    kernel.chip.close()
    kernel.device.close()
    NODES.remove(kernel.path)


def edges(request: Any) -> list[tuple[str, int, int, int]]:
    """Return the edges that wait: type, line, number in the request, number of the line."""
    if not request.wait_edge_events(0):
        return []
    return [
        (event.event_type.name, event.line_offset, event.global_seqno, event.line_seqno)
        for event in request.read_edge_events(1024)
    ]


@contextlib.contextmanager
def fails(number: int) -> Iterator[None]:
    """Expect an OSError with this error number."""
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        yield
    assert caught.value.errno == number


def toggle(line: Line, count: int, first: int = 1) -> None:
    for place in range(count):
        line.drive(first ^ place & 1)


# Edges.


def test_edges_are_numbered_in_the_request_and_on_their_line(kernel: Kernel) -> None:
    with kernel.watch(17, 18) as request:
        for number, level in ((17, 1), (18, 1), (17, 0)):
            kernel.line(number).drive(level)
        assert edges(request) == [
            ("RISING_EDGE", 17, 1, 1),
            ("RISING_EDGE", 18, 2, 1),
            ("FALLING_EDGE", 17, 3, 2),
        ]
        assert not request.wait_edge_events(0)


def test_edges_carry_the_time_for_which_they_were_planned(kernel: Kernel) -> None:
    with kernel.watch(17) as request:
        for seconds, level in ((0.1, 1), (0.25, 0)):
            kernel.timeline.at(round((1 + seconds) * 1e9), lambda level=level: kernel.line(17).drive(level))
        kernel.timeline.time_ns = 5_000_000_000  # a late thread
        assert request.get_value(17) == kernel.levels.INACTIVE  # the look has played both
        stamps = [event.timestamp_ns for event in request.read_edge_events()]
        assert stamps == [1_100_000_000, 1_250_000_000]


def test_a_request_for_one_kind_of_edge_numbers_no_other(kernel: Kernel) -> None:
    with kernel.watch(17, edge_detection="RISING") as rising, kernel.watch(18, edge_detection="FALLING") as falling:
        toggle(kernel.line(17), 4)
        toggle(kernel.line(18), 4)
        assert edges(rising) == [("RISING_EDGE", 17, 1, 1), ("RISING_EDGE", 17, 2, 2)]
        assert edges(falling) == [("FALLING_EDGE", 18, 1, 1), ("FALLING_EDGE", 18, 2, 2)]


def test_of_an_active_low_line_edges_and_values_are_inverted(kernel: Kernel) -> None:
    with kernel.watch(17, active_low=True, edge_detection="RISING") as request:
        assert request.get_value(17) == kernel.levels.ACTIVE
        toggle(kernel.line(17), 2)
        assert edges(request) == [("RISING_EDGE", 17, 1, 1)]


def test_the_realtime_clock_stamps_with_the_time_of_day(kernel: Kernel) -> None:
    with kernel.watch(17, event_clock="REALTIME") as request:
        before_ns = time.time_ns()
        kernel.line(17).drive(1)
        (event,) = request.read_edge_events()
        assert before_ns <= event.timestamp_ns <= time.time_ns()
        assert kernel.chip.get_line_info(17).event_clock.name == "REALTIME"
    assert kernel.chip.get_line_info(17).event_clock.name == "REALTIME"  # the kernel forgets it with the next request
    kernel.request(17).release()
    assert kernel.chip.get_line_info(17).event_clock.name == "MONOTONIC"


@pytest.mark.parametrize(("asked", "kept"), [(None, 16), (5, 8), (100, 128), (5000, 1024)])
def test_a_full_buffer_drops_the_oldest_events_and_the_numbers_show_it(
    kernel: Kernel, asked: int | None, kept: int
) -> None:
    """kfifo_alloc() rounds the size up to a power of two."""
    with kernel.watch(17, buffer=asked) as request:
        toggle(kernel.line(17), kept + 3)
        found = []
        while some := edges(request):
            found += [number for *_, number in some]
        assert found == [*range(4, kept + 4)]
        assert (kernel.line(17).reports, kernel.line(17).reports_lost) == (kept, 3)


def test_one_read_returns_no_more_than_asked_for(kernel: Kernel) -> None:
    with kernel.watch(17, buffer=128) as request:
        toggle(kernel.line(17), 100)
        assert [len(request.read_edge_events(count)) for count in (1, 0, 3, None)] == [1, 0, 3, 64]


def test_a_read_waits_for_the_first_edge_unless_the_descriptor_is_set_not_to_block(kernel: Kernel) -> None:
    with kernel.watch(17) as request:
        threading.Timer(0.02, kernel.line(17).drive, [1]).start()
        assert len(request.read_edge_events()) == 1
        os.set_blocking(request.fd, False)
        with pytest.raises(BlockingIOError):
            request.read_edge_events()


def test_the_descriptor_can_be_polled_in_every_way(kernel: Kernel) -> None:
    with kernel.watch(17) as request, select.epoll() as epoll:
        poll = select.poll()
        poll.register(request, select.POLLIN | select.POLLPRI)
        epoll.register(request, select.EPOLLIN)
        assert (select.select([request], [], [], 0)[0], poll.poll(0), epoll.poll(0)) == ([], [], [])
        kernel.line(17).drive(1)
        assert select.select([request], [], [], 0)[0] == [request]
        assert poll.poll(0) == [(request.fd, select.POLLIN)]
        assert epoll.poll(0) == [(request.fd, select.EPOLLIN)]
        assert len(os.read(request.fd, 4096)) == uapi.LINE_EVENT.size


# Debounce.


def test_a_debounced_edge_comes_when_the_line_has_been_quiet(kernel: Kernel) -> None:
    with kernel.watch(17, debounce=0.01) as request:
        assert kernel.chip.get_line_info(17).debounce_period == timedelta(milliseconds=10)
        toggle(kernel.line(17), 1)
        kernel.timeline.advance(0.004)
        toggle(kernel.line(17), 2, first=0)
        kernel.timeline.advance(0.009)
        assert (edges(request), request.get_value(17)) == ([], kernel.levels.INACTIVE)  # the stable level
        kernel.timeline.advance(0.002)
        (event,) = request.read_edge_events()
        assert (event.event_type.name, event.timestamp_ns, event.line_seqno) == ("RISING_EDGE", 1_014_000_000, 1)
        assert request.get_value(17) == kernel.levels.ACTIVE
        toggle(kernel.line(17), 2, first=0)  # a glitch
        kernel.timeline.advance(1)
        assert edges(request) == []


def test_a_line_without_edge_detection_can_be_debounced_for_reads(kernel: Kernel) -> None:
    with kernel.request(17, direction="INPUT", active_low=True, debounce=0.01) as request:
        kernel.line(17).drive(1)
        assert request.get_value(17) == kernel.levels.ACTIVE
        kernel.timeline.advance(0.02)
        assert request.get_value(17) == kernel.levels.INACTIVE
        assert edges(request) == []


def test_the_debounce_time_can_be_changed_and_removed(kernel: Kernel) -> None:
    with kernel.watch(17, debounce=1) as request:
        kernel.line(17).drive(1)
        kernel.timeline.advance(0.5)
        request.reconfigure_lines({17: kernel.settings(edge_detection="BOTH", debounce=0.01)})
        assert edges(request) == []
        kernel.timeline.advance(0.5)  # the time that was running goes on
        assert edges(request) == [("RISING_EDGE", 17, 1, 1)]
        toggle(kernel.line(17), 1, first=0)
        request.reconfigure_lines({17: kernel.settings(edge_detection="BOTH")})
        kernel.timeline.advance(1)  # what was not yet stable is forgotten
        assert edges(request) == []
        assert not kernel.chip.get_line_info(17).debounced
        kernel.line(17).drive(1)
        assert edges(request) == [("RISING_EDGE", 17, 2, 2)]


# Levels.


def test_an_output_drives_its_line(kernel: Kernel) -> None:
    with kernel.request(17, direction="OUTPUT", output_value=kernel.levels.ACTIVE) as request:
        assert (kernel.line(17).level, request.get_value(17)) == (1, kernel.levels.ACTIVE)
        request.set_value(17, kernel.levels.INACTIVE)
        assert kernel.line(17).level == 0
        request.set_value(17, kernel.levels.ACTIVE)
    assert kernel.line(17).level == 1  # as a Pi's kernel leaves it
    info = kernel.chip.get_line_info(17)
    assert (info.used, info.consumer, info.direction.name) == (False, None, "OUTPUT")


@pytest.mark.parametrize(("drive", "released"), [("OPEN_DRAIN", 1), ("OPEN_SOURCE", 0)])
def test_an_open_output_lets_its_line_go(kernel: Kernel, drive: str, released: int) -> None:
    value = kernel.levels(released)
    with kernel.request(17, direction="OUTPUT", drive=drive, output_value=value) as request:
        for outside in (0, 1):
            kernel.line(17).drive(outside)
            assert request.get_value(17) == kernel.levels(outside)
        kernel.line(17).drive(None)
        request.set_value(17, kernel.levels(1 - released))
        assert kernel.line(17).level == 1 - released
        assert kernel.chip.get_line_info(17).drive.name == drive


@pytest.mark.parametrize(("bias", "level"), [("PULL_UP", 1), ("PULL_DOWN", 0)])
def test_a_bias_pulls_the_line(kernel: Kernel, bias: str, level: int) -> None:
    with kernel.request(17, direction="INPUT", bias=bias) as request:
        assert request.get_value(17) == kernel.levels(level)
        assert kernel.chip.get_line_info(17).bias.name == bias
        request.reconfigure_lines({17: kernel.settings(direction="INPUT", bias="DISABLED")})
        assert (kernel.line(17).bias, kernel.chip.get_line_info(17).bias.name) == ("none", "DISABLED")
    assert kernel.chip.get_line_info(17).bias.name == "UNKNOWN"


def test_a_request_as_is_changes_nothing(kernel: Kernel) -> None:
    kernel.request(17, direction="OUTPUT", output_value=kernel.levels.ACTIVE).release()
    kernel.request(18, direction="OUTPUT", drive="OPEN_DRAIN", output_value=kernel.levels.ACTIVE).release()
    with kernel.request(17, 18, 19, active_low=True) as request:
        directions = [kernel.chip.get_line_info(number).direction.name for number in (17, 18, 19)]
        assert directions == ["OUTPUT", "INPUT", "INPUT"]  # the second drove nothing
        assert request.get_value(17) == kernel.levels.INACTIVE
        request.set_value(17, kernel.levels.ACTIVE)
        assert kernel.line(17).level == 0
        with pytest.raises(PermissionError):
            request.set_value(19, kernel.levels.ACTIVE)


def test_output_values_of_a_request_win_over_those_of_its_settings(kernel: Kernel) -> None:
    config = {(17, 18): kernel.settings(direction="OUTPUT", output_value=kernel.levels.ACTIVE)}
    with kernel.chip.request_lines(config, output_values={18: kernel.levels.ACTIVE}):
        assert [kernel.line(number).level for number in (17, 18)] == [0, 1]  # one that is not named begins inactive


def test_settings_may_differ_from_line_to_line(kernel: Kernel) -> None:
    active = kernel.levels.ACTIVE
    config = {
        17: kernel.settings(direction="OUTPUT", output_value=active),
        18: kernel.settings(direction="INPUT", bias="PULL_UP"),
        19: kernel.settings(edge_detection="RISING", debounce=0.001),
        20: kernel.settings(direction="OUTPUT", drive="OPEN_DRAIN", active_low=True),
    }
    with kernel.chip.request_lines(config, output_values={17: active, 20: active}) as request:
        assert request.get_values() == [active, active, kernel.levels.INACTIVE, active]
        assert [kernel.line(number).level for number in (17, 18, 19, 20)] == [1, 1, 0, 0]
        request.reconfigure_lines({18: kernel.settings(direction="OUTPUT")})
        assert [kernel.line(number).level for number in (17, 18, 19, 20)] == [1, 0, 0, 0]
        kernel.line(19).drive(1)
        kernel.timeline.advance(0.002)
        assert edges(request) == [("RISING_EDGE", 19, 1, 1)]


# Errors.


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": "OUTPUT", "edge_detection": "BOTH"},
        {"direction": "INPUT", "drive": "OPEN_DRAIN"},
        {"drive": "OPEN_SOURCE"},
        {"bias": "PULL_UP"},
        {"direction": "OUTPUT", "debounce": 0.01},
        {"direction": "INPUT", "bias": "UNKNOWN"},
    ],
)
def test_settings_that_contradict_each_other_are_invalid(kernel: Kernel, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Invalid argument") as caught:
        kernel.request(17, **wrong)
    assert caught.value.args == (errno.EINVAL, os.strerror(errno.EINVAL))
    assert not kernel.chip.get_line_info(17).used


def test_a_pi_has_no_hardware_timestamps(kernel: Kernel) -> None:
    with pytest.raises(NotImplementedError):
        kernel.watch(17, event_clock="HTE")


def test_more_kinds_of_settings_than_the_kernel_takes_raise(kernel: Kernel) -> None:
    config = {number: kernel.settings(direction="INPUT", debounce=number / 1000) for number in range(1, 12)}
    with fails(errno.E2BIG):
        kernel.chip.request_lines(config)


def test_a_line_is_busy_for_everybody_else(kernel: Kernel, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_WD", str(tmp_path))
    lgpio = Lgpio(kernel.simulated)
    handle = lgpio.gpiochip_open(0)
    with kernel.request(17, 18) as _:
        with fails(errno.EBUSY):
            kernel.request(5, 18)
        assert not kernel.chip.get_line_info(5).used
        with pytest.raises(lgpio.error, match="GPIO busy"):
            lgpio.gpio_claim_input(handle, 17)
        assert lgpio.gpio_get_line_info(handle, 17)[4] == "the test"
    lgpio.gpio_claim_alert(handle, 17, lgpio.FALLING_EDGE, lgpio.SET_PULL_UP)
    info = kernel.chip.get_line_info(17)
    assert (info.used, info.consumer, info.bias.name, info.edge_detection.name) == (True, "lg", "PULL_UP", "FALLING")
    with fails(errno.EBUSY):
        kernel.request(17)
    lgpio.gpiochip_close(handle)
    kernel.request(17).release()
    lgpio.close()


def test_lines_that_the_chip_lacks_and_lines_of_others_are_invalid(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match="line offset of out range"):
        kernel.request(28)
    with kernel.request(17) as request:
        with pytest.raises(ValueError, match="Invalid argument"):
            request.get_value(18)
        with pytest.raises(ValueError, match="exceeds the number of requested lines"):
            request.get_values([17, 17])


@pytest.mark.parametrize(
    ("path", "kind", "number"),
    [
        ("/dev/gpiochip1", FileNotFoundError, errno.ENOENT),
        ("/dev/nonexistent", FileNotFoundError, errno.ENOENT),
        ("/tmp", OSError, errno.ENOTTY),
        ("/dev/null", OSError, errno.ENODEV),
    ],
)
def test_a_path_that_is_no_chip_of_the_board_raises(
    kernel: Kernel, path: str, kind: type[OSError], number: int
) -> None:
    with pytest.raises(kind) as caught:
        kernel.gpiod.Chip(path)
    assert caught.value.errno == number
    assert not kernel.gpiod.is_gpiochip_device(path)
    assert "gpiochip1" not in path or "it has /dev/gpiochip0" in str(caught.value)


def test_a_link_to_a_chip_opens_it(kernel: Kernel, tmp_path: Any) -> None:
    link = tmp_path / "header"
    link.symlink_to(kernel.path)
    with kernel.gpiod.Chip(str(link)) as chip:
        assert (chip.path, chip.get_info().name) == (str(link), "gpiochip0")
    with pytest.raises(TypeError):
        kernel.gpiod.Chip(link)


# Watched lines.


def test_changes_of_watched_lines_are_reported_whoever_makes_them(
    kernel: Kernel, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_WD", str(tmp_path))
    lgpio = Lgpio(kernel.simulated)
    handle = lgpio.gpiochip_open(0)
    assert kernel.chip.watch_line_info(17).offset == 17
    with fails(errno.EBUSY):
        kernel.chip.watch_line_info(17)
    with kernel.request(17, 18) as request:
        request.reconfigure_lines({17: kernel.settings(direction="OUTPUT"), 18: None})
        request.reconfigure_lines({18: kernel.settings(direction="OUTPUT")})
    lgpio.gpio_claim_input(handle, 17)
    lgpio.gpio_free(handle, 17)
    assert kernel.changes() == [
        ("LINE_REQUESTED", 17),
        ("LINE_CONFIG_CHANGED", 17),
        ("LINE_RELEASED", 17),
        ("LINE_REQUESTED", 17),
        ("LINE_RELEASED", 17),
    ]
    kernel.chip.unwatch_line_info(17)
    kernel.request(17).release()
    assert kernel.changes() == []
    with fails(errno.EBUSY):
        kernel.chip.unwatch_line_info(17)
    lgpio.close()


def test_a_change_has_its_time_and_the_state_of_the_line_after_it(kernel: Kernel) -> None:
    kernel.chip.watch_line_info(17)
    kernel.watch(17, consumer="door", bias="PULL_UP", debounce=0.005)
    event = kernel.chip.read_info_event()
    info = event.line_info
    assert (event.timestamp_ns, info.used, info.consumer) == (1_000_000_000, True, "door")
    assert (info.bias.name, info.edge_detection.name) == ("PULL_UP", "BOTH")
    assert info.debounce_period == timedelta(milliseconds=5)


def test_of_more_changes_than_the_kernel_keeps_the_oldest_are_there(kernel: Kernel) -> None:
    kernel.chip.watch_line_info(17)
    for _ in range(20):
        kernel.request(17).release()
    assert kernel.changes() == [("LINE_REQUESTED", 17), ("LINE_RELEASED", 17)] * 16


# Descriptors.


def test_a_request_lives_as_long_as_somebody_has_its_descriptor(kernel: Kernel) -> None:
    request = kernel.watch(17)
    copy = os.dup(request.fd)
    kernel.chip.watch_line_info(17)
    request.release()
    assert kernel.chip.get_line_info(17).used
    kernel.line(17).drive(1)
    assert len(os.read(copy, 1000)) == uapi.LINE_EVENT.size
    os.close(copy)
    assert not kernel.chip.get_line_info(17).used
    assert kernel.changes() == [("LINE_RELEASED", 17)]


def test_a_request_that_nobody_keeps_is_released(kernel: Kernel) -> None:
    before = set(os.listdir("/proc/self/fd"))
    kernel.watch(17)
    kernel.request(17).release()
    assert set(os.listdir("/proc/self/fd")) == before


def test_descriptors_are_closed_on_exec(kernel: Kernel) -> None:
    with kernel.request(17) as request:
        for fd in (kernel.chip.fd, request.fd):
            assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_forked_child_neither_frees_lines_nor_moves_them(kernel: Kernel) -> None:
    request = kernel.request(17, direction="OUTPUT")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            failures = 0
            for attempt in (
                lambda: request.set_value(17, kernel.levels.ACTIVE),
                lambda: kernel.request(18),
                lambda: kernel.gpiod.Chip(kernel.path),
            ):
                try:
                    attempt()
                except OSError as error:
                    failures += error.errno == errno.ENODEV
            request.release()
            status = 0 if failures == 3 else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert kernel.chip.get_line_info(17).used
    assert kernel.line(17).level == 0


def test_a_child_keeps_the_lines_that_its_parent_releases(kernel: Kernel) -> None:
    request = kernel.request(17)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent closes its end
        os._exit(0)
    request.release()
    with fails(errno.EBUSY):
        kernel.request(17)
    os.close(writer)
    os.waitpid(child, 0)
    os.close(reader)
    kernel.request(17).release()


def test_a_chip_that_is_closed_while_a_thread_reads_it_reports_to_that_thread(kernel: Kernel) -> None:
    chip = kernel.gpiod.Chip(kernel.path)
    chip.watch_line_info(17)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(chip.read_info_event().event_type.name))
    thread.start()
    while not _reads(thread, chip.fd):
        time.sleep(0.001)
    chip.close()
    kernel.request(17).release()
    thread.join(10)
    assert found == ["LINE_REQUESTED"]


def _reads(thread: threading.Thread, fd: int) -> bool:
    """Return whether a thread waits in read(2) for this descriptor."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/syscall", encoding="ascii") as file:
            number, *arguments = file.read().split()
    except OSError:
        return False
    return number == "0" and int(arguments[0], 16) == fd


def test_a_chip_that_vanishes_ends_whatever_waits_for_it(kernel: Kernel) -> None:
    request = kernel.watch(17)
    kernel.line(17).drive(1)
    kernel.simulated.remove()
    assert request.wait_edge_events(0)
    for attempt in (
        request.read_edge_events,
        lambda: request.get_value(17),
        lambda: kernel.chip.get_line_info(17),
        lambda: kernel.request(18),
    ):
        with fails(errno.ENODEV):
            attempt()
    with pytest.raises(FileNotFoundError):
        kernel.gpiod.Chip(kernel.path)
    kernel.simulated.restore()
    with fails(errno.ENODEV):
        kernel.chip.get_line_info(17)
    with kernel.gpiod.Chip(kernel.path) as chip, chip.request_lines({17: None}) as again:
        assert again.get_value(17) == kernel.levels.ACTIVE
    request.release()


def test_a_number_that_was_closed_unnoticed_and_given_again_belongs_to_the_later_request(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: set[int] = set()
    monkeypatch.setattr(kernel.timeline.clock, "claim", lambda fd, **_: claimed.add(fd))
    monkeypatch.setattr(kernel.timeline.clock, "disclaim", claimed.discard)
    kernel.request(17)  # nobody keeps it
    with kernel.request(17) as request:
        assert claimed == {request.fd}
    assert claimed == set()


# Virtual time.


@pytest.fixture
def virtual() -> Iterator[Any]:
    """A board in virtual time, which this thread drives, and the package on it."""
    with SimBoard(clock=hwloop.VirtualClock()) as board:
        board.gpiod = load_copy(board.nodes)  # type: ignore[attr-defined]
        yield board


def test_in_virtual_time_a_read_waits_on_the_boards_clock(virtual: Any) -> None:
    gpiod, start_ns = virtual.gpiod, virtual.clock.now_ns()
    settings = gpiod.LineSettings(edge_detection=gpiod.line.Edge.BOTH, event_clock=gpiod.line.Clock.REALTIME)
    with gpiod.Chip("/dev/gpiochip0") as chip, chip.request_lines({17: settings}) as request:
        for seconds, level in ((3600, 1), (7200, 0)):
            virtual.timeline.after(seconds, lambda level=level: virtual.line(17).drive(level))
        first, second = request.read_edge_events(1) + request.read_edge_events(1)
        assert virtual.clock.now_ns() - start_ns == 7200e9
        assert second.timestamp_ns - first.timestamp_ns == 3600e9
        assert abs(first.timestamp_ns - 3600e9 - time.time_ns()) < 60e9
        chip.watch_line_info(18)
        virtual.timeline.after(5, lambda: virtual.line(18).claim("another"))
        assert chip.read_info_event().line_info.consumer == "another"
        with pytest.raises(DeadlockError, match="nothing can ever wake"):
            request.read_edge_events()
        os.set_blocking(request.fd, False)
        with pytest.raises(BlockingIOError):
            request.read_edge_events()


def test_in_virtual_time_a_wait_for_edges_ends_at_its_time(virtual: Any) -> None:
    gpiod, start_ns = virtual.gpiod, virtual.clock.now_ns()
    settings = gpiod.LineSettings(edge_detection=gpiod.line.Edge.BOTH)
    with gpiod.request_lines("/dev/gpiochip0", {17: settings}) as request:
        virtual.timeline.after(3600, lambda: virtual.line(17).drive(1))
        assert not request.wait_edge_events(60)
        assert virtual.clock.now_ns() - start_ns == 60e9
        assert request.wait_edge_events(timedelta(days=1))
        assert virtual.clock.now_ns() - start_ns == 3600e9
        request.read_edge_events()
        virtual.timeline.after(1, lambda: virtual.line(17).drive(0))
        while not request.wait_edge_events(0):
            pass
        with pytest.raises(ValueError, match="non-negative"):
            request.wait_edge_events(-1)


def test_in_virtual_time_a_program_that_polls_a_value_lets_time_pass(virtual: Any) -> None:
    gpiod = virtual.gpiod
    virtual.timeline.after(1, lambda: virtual.line(17).drive(1))
    with gpiod.request_lines(
        "/dev/gpiochip0", {17: gpiod.LineSettings(direction=gpiod.line.Direction.INPUT)}
    ) as request:
        while not request.get_value(17):
            pass
    assert virtual.clock.now_ns() >= 2_000_000_000
