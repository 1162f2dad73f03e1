"""The simulated lgpio module: names, statuses, reports, and where it surprises as the real one does."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.libraries.lgpio.constants import TEXTS
from firmware_sim.pins import Chip

MS = 1_000_000


class Setup:
    """A chip, an lgpio over it with an open chip handle, and FIFOs that are read as programs read them."""

    def __init__(self, timeline: Any) -> None:
        self.timeline = timeline
        self.chip = Chip(timeline, label="simulated-gpio", lines=28)
        self.lgpio = Lgpio(self.chip)
        self.handle = self.lgpio.gpiochip_open(0)
        self._fds: list[int] = []

    def notify(self) -> tuple[int, int]:
        """A notification handle and the descriptor of its FIFO."""
        handle = self.lgpio.notify_open()
        fd = os.open(os.path.join(self.lgpio.directory, f".lgd-nfy{handle}"), os.O_RDONLY | os.O_NONBLOCK)
        self._fds.append(fd)
        return handle, fd

    def alert(self, gpio: int, edges: int = Lgpio.BOTH_EDGES, flags: int = 0) -> int:
        """Claim an alert; the descriptor of its FIFO."""
        handle, fd = self.notify()
        self.lgpio.gpio_claim_alert(self.handle, gpio, edges, flags, handle)
        return fd

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self.lgpio.close()


@pytest.fixture
def setup(timeline: Any) -> Iterator[Setup]:
    setup = Setup(timeline)
    yield setup
    setup.close()


def reports(fd: int) -> list[tuple[int, int]]:
    """(level, time in ns) of the reports that wait."""
    try:
        data = os.read(fd, 1 << 20)
    except BlockingIOError:
        return []
    return [(level, when_ns) for when_ns, _, _, level, _, _ in struct.iter_unpack("QBBBBI", data)]


def refused(lgpio: Lgpio, text: str) -> Any:
    return pytest.raises(lgpio.error, match=f"^'{text}'$")


# Chips, lines and claims.


def test_chip_and_lines_describe_themselves(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    assert lgpio.gpio_get_chip_info(h) == [0, 28, "gpiochip0", "simulated-gpio"]
    assert lgpio.gpio_get_line_info(h, 17) == [0, 17, 65536, "GPIO17", ""]
    lgpio.gpio_claim_output(h, 17, 1, lgpio.SET_ACTIVE_LOW | lgpio.SET_PULL_UP)
    assert lgpio.gpio_get_line_info(h, 17) == [0, 17, 1 | 2 | 4 | 32 | 512, "GPIO17", "lg"]
    lgpio.gpio_claim_alert(h, 18, lgpio.RISING_EDGE, 0, lgpio.notify_open())
    assert lgpio.gpio_get_mode(h, 18) == 1 | 1024 | 65536 | 1 << 17
    lgpio.group_claim_input(h, [19, 20])
    assert lgpio.gpio_get_mode(h, 20) == 1 | 256 | 2048 | 65536


def test_wrong_chips_handles_and_numbers_get_lgpios_texts(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    with refused(lgpio, "can not open gpiochip"):
        lgpio.gpiochip_open(4)
    with refused(lgpio, "bad gpiochip"):
        lgpio.gpiochip_open(-1)
    with refused(lgpio, "unknown handle"):
        lgpio.gpio_read(99, 17)
    with refused(lgpio, "unknown handle"):
        lgpio.notify_close(h)
    with refused(lgpio, "bad GPIO number"):
        lgpio.gpio_read(h, 28)
    with refused(lgpio, "bad GPIO number"):
        lgpio.gpio_claim_alert(h, 28, lgpio.BOTH_EDGES, 0, 0)
    with refused(lgpio, "GPIO operation not permitted"):
        lgpio.gpio_claim_input(h, 99)
    with refused(lgpio, "GPIO not allocated"):
        lgpio.gpio_free(h, 17)
    with refused(lgpio, "unexpected error"):
        lgpio.gpio_claim_input(h, 17, lgpio.SET_PULL_UP | lgpio.SET_PULL_DOWN)


def test_without_exceptions_statuses_are_returned(setup: Setup) -> None:
    lgpio = setup.lgpio
    lgpio.exceptions = False
    assert lgpio.gpiochip_open(4) == lgpio.CANNOT_OPEN_CHIP
    assert lgpio.gpio_get_line_info(setup.handle, 99) == [lgpio.BAD_GPIO_NUMBER, 0, 0, "", ""]
    assert lgpio.tx_pwm(setup.handle, 17, 50_000, 50) == lgpio.BAD_PWM_FREQ
    assert lgpio.error_text(lgpio.BAD_PWM_FREQ) == "bad PWM frequency"
    assert lgpio.error_text(1) == "unknown error"


def test_a_line_that_another_process_holds_is_busy_and_free_once_it_ends(setup: Setup) -> None:
    other = Lgpio(setup.chip)
    handle = other.gpiochip_open(0)
    other.gpio_claim_input(handle, 17)
    with refused(setup.lgpio, "GPIO busy"):
        setup.lgpio.gpio_claim_output(setup.handle, 17)
    with refused(setup.lgpio, "bad event request"):
        setup.alert(17)
    other.close()
    assert setup.lgpio.gpio_claim_output(setup.handle, 17, 1) == 0
    assert setup.chip.line(17).level == 1


def test_a_second_claim_of_the_same_kind_changes_nothing(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17, 1)
    lgpio.gpio_claim_output(h, 17, 0)
    assert lgpio.gpio_read(h, 17) == 1


def test_a_claim_of_another_kind_frees_the_line_first(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    fd = setup.alert(17)
    lgpio.gpio_claim_output(h, 17, 1)
    assert (lgpio.gpio_read(h, 17), reports(fd)) == (1, [])


def test_reading_claims_as_input_and_writing_as_output(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    setup.chip.line(17).drive(1)
    assert lgpio.gpio_read(h, 17) == 1
    assert lgpio.gpio_get_mode(h, 17) & 256
    lgpio.gpio_write(h, 18, 7)
    assert setup.chip.line(18).level == 1
    lgpio.gpio_write(h, 18, 0)
    assert setup.chip.line(18).level == 0


def test_active_low_inverts_reading_and_writing(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17, 1, lgpio.SET_ACTIVE_LOW)
    assert (setup.chip.line(17).level, lgpio.gpio_read(h, 17)) == (0, 1)
    lgpio.gpio_write(h, 17, 0)
    assert (setup.chip.line(17).level, lgpio.gpio_read(h, 17)) == (1, 0)


def test_groups_are_read_and_written_through_their_leader(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.group_claim_output(h, [17, 18, 19], [1])
    assert lgpio.group_read(h, 17) == [3, 0b001]
    assert lgpio.group_write(h, 17, 0b110, 0b011) == 3
    assert [setup.chip.line(number).level for number in (17, 18, 19)] == [0, 1, 0]
    with refused(lgpio, "GPIO not the group leader"):
        lgpio.group_write(h, 18, 0)
    with refused(lgpio, "GPIO not the group leader"):
        lgpio.gpio_free(h, 18)
    with refused(lgpio, "bad GPIO write"):
        lgpio.group_write(h, 17, 0, 0b1000)
    with refused(lgpio, "can not set a group to alert"):
        setup.alert(18)
    with refused(lgpio, "GPIO busy"):
        lgpio.group_claim_input(h, [19, 20])
    lgpio.group_free(h, 17)
    assert lgpio.group_claim_input(h, [19, 20]) == 0
    with refused(lgpio, "GPIO not set as an output"):
        lgpio.gpio_write(h, 20, 1)
    assert lgpio.group_claim_input(h, []) == 0


# Alerts.


def test_a_report_is_lgpios_sixteen_bytes(setup: Setup) -> None:
    fd = setup.alert(17)
    setup.timeline.advance(0.25)
    setup.chip.line(17).drive(1)
    assert os.read(fd, 100) == struct.pack("QBBBBI", 250 * MS, 0, 17, 1, 0, 0)
    assert (setup.chip.line(17).reports, setup.chip.line(17).reports_lost) == (1, 0)


@pytest.mark.parametrize(("edges", "expected"), [(1, [1, 1]), (2, [0, 0]), (3, [1, 0, 1, 0])])
def test_only_the_requested_edges_are_reported(setup: Setup, edges: int, expected: list[int]) -> None:
    fd = setup.alert(17, edges)
    for level in (1, 0, 1, 0):
        setup.chip.line(17).drive(level)
    assert [level for level, _ in reports(fd)] == expected


def test_an_active_low_line_reports_logical_edges(setup: Setup) -> None:
    fd = setup.alert(17, Lgpio.RISING_EDGE, Lgpio.SET_ACTIVE_LOW | Lgpio.SET_PULL_UP)
    for level in (0, 1, 0):
        setup.chip.line(17).drive(level)
    assert [level for level, _ in reports(fd)] == [1, 1]


def test_debounce_reports_once_stable_with_the_last_edges_time_and_the_wait(setup: Setup) -> None:
    fd = setup.alert(17)
    setup.lgpio.gpio_set_debounce_micros(setup.handle, 17, 5000)
    for level in (1, 0, 1):
        setup.chip.line(17).drive(level)
        setup.timeline.advance(0.001)
    assert reports(fd) == []
    setup.timeline.advance(0.003)
    assert reports(fd) == []
    setup.timeline.advance(0.001)
    assert reports(fd) == [(1, 7 * MS)]
    setup.timeline.advance(1)
    assert reports(fd) == []


def test_debounce_hides_a_glitch_but_not_the_first_one_after_the_claim(setup: Setup) -> None:
    fd = setup.alert(17)
    setup.lgpio.gpio_set_debounce_micros(setup.handle, 17, 5000)
    for _ in range(2):
        setup.chip.line(17).drive(1)
        setup.chip.line(17).drive(0)
        setup.timeline.advance(0.01)
    # lgpio compares with the last level reported, and at first there is none.
    assert reports(fd) == [(0, 5 * MS)]


def test_debounce_is_reported_before_an_edge_that_comes_when_it_is_over(setup: Setup) -> None:
    fd = setup.alert(17)
    setup.lgpio.gpio_set_debounce_micros(setup.handle, 17, 5000)
    setup.chip.line(17).drive(1)
    setup.timeline.time_ns = 6 * MS  # the firmware thread comes late
    setup.chip.line(17).drive(0)
    setup.timeline.advance(0.01)
    assert reports(fd) == [(1, 5 * MS), (0, 11 * MS)]


def test_debounce_set_before_a_claim_holds_for_it(setup: Setup) -> None:
    setup.lgpio.gpio_set_debounce_micros(setup.handle, 17, 5000)
    fd = setup.alert(17)
    setup.chip.line(17).drive(1)
    assert reports(fd) == []


def test_the_watchdog_reports_once_a_silence_and_never_before_the_first_edge(setup: Setup) -> None:
    fd = setup.alert(17)
    setup.lgpio.gpio_set_watchdog_micros(setup.handle, 17, 10_000)
    setup.timeline.advance(1)
    assert reports(fd) == []
    setup.chip.line(17).drive(1)
    setup.timeline.advance(0.009)
    assert reports(fd) == [(1, 1000 * MS)]
    setup.timeline.advance(1)
    assert reports(fd) == [(2, 1010 * MS)]
    assert setup.chip.line(17).reports == 1


@pytest.mark.parametrize(("micros", "ok"), [(0, True), (5_000_000, True), (5_000_001, False), (-1, False)])
def test_debounce_is_up_to_five_seconds(setup: Setup, micros: int, ok: bool) -> None:
    if ok:
        assert setup.lgpio.gpio_set_debounce_micros(setup.handle, 17, micros) == 0
    else:
        with refused(setup.lgpio, "bad debounce microseconds"):
            setup.lgpio.gpio_set_debounce_micros(setup.handle, 17, micros)
    with refused(setup.lgpio, "bad watchdog microseconds"):
        setup.lgpio.gpio_set_watchdog_micros(setup.handle, 17, 300_000_001)


def test_a_full_fifo_loses_reports_without_a_sign_but_the_chip_counts_them(setup: Setup) -> None:
    fd = setup.alert(17)
    line = setup.chip.line(17)
    for edge in range(5000):
        line.drive(1 - edge % 2)
    assert (line.reports, line.reports_lost) == (4096, 904)
    assert len(reports(fd)) == 4096
    line.drive(1)
    assert len(reports(fd)) == 1


def test_a_paused_or_closed_notification_gets_nothing(setup: Setup) -> None:
    handle, fd = setup.notify()
    setup.lgpio.gpio_claim_alert(setup.handle, 17, setup.lgpio.BOTH_EDGES, 0, handle)
    setup.lgpio.notify_pause(handle)
    setup.chip.line(17).drive(1)
    setup.lgpio.notify_resume(handle)
    setup.chip.line(17).drive(0)
    assert [level for level, _ in reports(fd)] == [0]
    setup.lgpio.notify_close(handle)
    setup.chip.line(17).drive(1)
    assert os.read(fd, 16) == b""
    assert setup.chip.line(17).reports == 1


def test_handles_are_given_out_again_and_zero_is_lgpios_own(setup: Setup) -> None:
    lgpio = setup.lgpio
    first, second = lgpio.notify_open(), lgpio.notify_open()
    assert (setup.handle, first, second) == (1, 2, 3)
    lgpio.notify_close(first)
    assert lgpio.notify_open() == first


def test_callbacks_run_on_a_thread_of_their_own_until_one_raises(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    calls: list[tuple[int, int, int, int]] = []
    called = threading.Event()

    def on_edge(*call: int) -> None:
        calls.append(call)
        called.set()

    lgpio.gpio_claim_alert(h, 17, lgpio.BOTH_EDGES)
    callback = lgpio.callback(h, 17, lgpio.BOTH_EDGES, on_edge)
    counter = lgpio.callback(h, 18)
    lgpio.gpio_claim_alert(h, 18, lgpio.BOTH_EDGES)
    setup.chip.line(17).drive(1)
    assert called.wait(5)
    assert calls == [(0, 17, 1, 0)]
    callback.cancel()
    callback.cancel()
    setup.chip.line(17).drive(0)
    last = threading.Event()
    lgpio.callback(h, 18, func=lambda *call: last.set())
    for level in (1, 0, 1):
        setup.chip.line(18).drive(level)
    assert last.wait(5)
    lgpio.close()
    assert (len(calls), counter.tally()) == (1, 3)
    counter.reset_tally()
    assert counter.tally() == 0


def test_a_report_from_before_a_claim_does_not_reach_the_callback_made_after_it(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    first, second = threading.Event(), list[int]()
    go_on, done = threading.Event(), threading.Event()

    def on_first(*call: int) -> None:
        first.set()
        go_on.wait(5)

    lgpio.gpio_claim_alert(h, 17, lgpio.BOTH_EDGES)
    old = lgpio.callback(h, 17, func=on_first)
    setup.chip.line(17).drive(1)
    assert first.wait(5)
    setup.timeline.advance(0.001)
    setup.chip.line(17).drive(0)  # its report waits in the FIFO, while the thread is in the callback
    old.cancel()
    lgpio.gpio_free(h, 17)
    setup.timeline.advance(0.001)
    lgpio.gpio_claim_alert(h, 17, lgpio.BOTH_EDGES)
    lgpio.callback(h, 17, func=lambda chip, line, level, when_ns: (second.append(when_ns), done.set()))
    setup.timeline.advance(0.001)
    setup.chip.line(17).drive(1)
    go_on.set()
    assert done.wait(5)
    assert second == [3 * MS]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_ends_the_thread_as_in_lgpio(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_alert(h, 17, lgpio.BOTH_EDGES)
    lgpio.callback(h, 17, func=lambda *call: 1 // 0)
    thread = next(thread for thread in threading.enumerate() if thread.name == "lgpio callbacks")
    setup.chip.line(17).drive(1)
    thread.join(5)
    assert not thread.is_alive()


def test_a_callback_that_raises_because_it_is_cancelled_meanwhile_ends_nothing(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    began, cancelled, again = threading.Event(), threading.Event(), threading.Event()

    def on_edge(*call: int) -> None:
        began.set()
        cancelled.wait(10)
        raise RuntimeError("its device is closed")

    lgpio.gpio_claim_alert(h, 17, lgpio.BOTH_EDGES)
    lgpio.callback(h, 17, func=on_edge)
    setup.chip.line(17).drive(1)
    assert began.wait(10)
    lgpio.cancel_callbacks()
    cancelled.set()
    lgpio.callback(h, 17, func=lambda *call: again.set())
    setup.chip.line(17).drive(0)
    assert again.wait(10)


# Transmissions.


def record(setup: Setup, gpio: int) -> list[tuple[int, int]]:
    """(microseconds, level) of what happens on a line from now on."""
    seen: list[tuple[int, int]] = []
    setup.chip.line(gpio).observe(lambda level, when_ns: seen.append((when_ns // 1000, level)))
    return seen


def test_pulses_have_their_lengths_and_number(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17)
    seen = record(setup, 17)
    assert lgpio.tx_pulse(h, 17, 300, 700, pulse_cycles=2) == 9
    assert (lgpio.tx_busy(h, 17, lgpio.TX_PWM), lgpio.tx_busy(h, 17, lgpio.TX_WAVE)) == (1, 0)
    setup.timeline.advance(0.01)
    assert seen == [(1000, 1), (1300, 0), (2000, 1), (2300, 0)]
    assert (lgpio.tx_busy(h, 17, lgpio.TX_PWM), lgpio.tx_room(h, 17, lgpio.TX_PWM)) == (0, 10)


def test_an_endless_pulse_gives_way_to_the_next_at_the_end_of_a_cycle(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17)
    seen = record(setup, 17)
    lgpio.tx_pulse(h, 17, 500, 500)
    setup.timeline.advance(0.0021)
    assert lgpio.tx_pulse(h, 17, 100, 100) == 8
    assert lgpio.tx_pulse(h, 17, 200, 200, pulse_cycles=1) == 8  # the endless one that only waited is replaced
    setup.timeline.advance(0.01)
    assert seen == [(1000, 1), (1500, 0), (2000, 1), (2500, 0), (3000, 1), (3200, 0)]


def test_pulses_of_nothing_stop_the_sending(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17)
    lgpio.tx_pwm(h, 17, 1000, 50)
    setup.timeline.advance(0.0012)
    assert lgpio.tx_pwm(h, 17, 0, 0) == 0
    seen = record(setup, 17)
    setup.timeline.advance(1)
    assert (seen, lgpio.tx_busy(h, 17, lgpio.TX_PWM)) == ([], 0)


@pytest.mark.parametrize(("duty", "level"), [(0, 0), (100, 1)])
def test_pwm_of_nothing_or_all_is_a_steady_level(setup: Setup, duty: int, level: int) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17, 1 - level)
    seen = record(setup, 17)
    lgpio.tx_pwm(h, 17, 100, duty)
    setup.timeline.advance(0.1)
    assert seen == [(10_000, level)]


def test_servo_pulses_are_pwm_with_limits(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17)
    seen = record(setup, 17)
    lgpio.tx_servo(h, 17, 1500, pulse_cycles=1)
    setup.timeline.advance(0.1)
    assert seen == [(20_000, 1), (21_500, 0)]
    with refused(lgpio, "bad servo pulsewidth"):
        lgpio.tx_servo(h, 17, 400)
    with refused(lgpio, "bad servo frequency"):
        lgpio.tx_servo(h, 17, 1500, 30)
    with refused(lgpio, "bad PWM dutycycle"):
        lgpio.tx_pwm(h, 17, 100, 101)
    with refused(lgpio, "bad PWM micros"):
        lgpio.tx_pulse(h, 17, 5, 5)


def test_a_wave_sets_the_lines_of_a_group_step_by_step(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.group_claim_output(h, [17, 18])
    first, second = record(setup, 17), record(setup, 18)
    assert lgpio.tx_wave(h, 17, [lgpio.pulse(0b01, 0b11, 100), lgpio.pulse(0b10, 0b11, 50)]) == 9
    assert lgpio.tx_wave(h, 17, [lgpio.pulse(0b00, 0b11, 10)]) == 8
    assert lgpio.tx_busy(h, 17, lgpio.TX_WAVE) == 1
    setup.timeline.advance(0.001)
    assert first == [(0, 1), (100, 0)]
    assert second == [(100, 1), (150, 0)]
    assert lgpio.tx_busy(h, 17, lgpio.TX_WAVE) == 0
    assert lgpio.tx_wave(h, 17, []) == 0
    with refused(lgpio, "bad tx type for GPIO and group"):
        lgpio.tx_busy(h, 17, 2)


def test_the_queue_takes_ten(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17)
    rooms = [lgpio.tx_pulse(h, 17, 100, 100, pulse_cycles=5) for _ in range(10)]
    assert rooms == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    with refused(lgpio, "TX queue full"):
        lgpio.tx_pulse(h, 17, 100, 100, pulse_cycles=5)


def test_sending_on_a_free_line_claims_it_as_open_drain_as_lgpio_does(setup: Setup) -> None:
    setup.lgpio.tx_pulse(setup.handle, 17, 500, 500)
    assert setup.lgpio.gpio_get_mode(setup.handle, 17) & setup.lgpio.SET_OPEN_DRAIN
    seen = record(setup, 17)
    setup.timeline.advance(0.1)
    assert seen == []  # nothing pulls the line up
    setup.chip.line(17).pull("up")
    setup.timeline.advance(0.001)
    assert [level for _, level in seen[-2:]] in ([0, 1], [1, 0])


def test_freeing_a_line_ends_its_sending(setup: Setup) -> None:
    lgpio, h = setup.lgpio, setup.handle
    lgpio.gpio_claim_output(h, 17)
    lgpio.tx_pulse(h, 17, 500, 500)
    lgpio.gpio_free(h, 17)
    seen = record(setup, 17)
    setup.timeline.advance(0.1)
    assert seen == []


# The end, and the real module.


def test_closing_frees_all_and_is_harmless_when_repeated(setup: Setup) -> None:
    fd = setup.alert(17)
    setup.lgpio.gpio_claim_output(setup.handle, 18)
    setup.lgpio.close()
    setup.lgpio.close()
    assert (setup.chip.line(17).consumer, setup.chip.line(18).consumer) == (None, None)
    assert os.read(fd, 1) == b""
    assert not os.path.exists(setup.lgpio.directory)


def test_giving_back_what_a_closed_one_had_does_nothing(setup: Setup) -> None:
    """Programs do so in exit functions, when the board may have been closed."""
    lgpio, handle = setup.lgpio, setup.handle
    notify, _ = setup.notify()
    lgpio.gpio_claim_output(handle, 18)
    lgpio.close()
    assert lgpio.gpio_free(handle, 18) == lgpio.group_free(handle, 18) == lgpio.OKAY
    assert lgpio.notify_close(notify) == lgpio.gpiochip_close(handle) == lgpio.OKAY
    with pytest.raises(lgpio.error, match="unknown handle"):
        lgpio.gpio_write(handle, 18, 1)


REAL = """
import inspect, json
from hwloop.boards.lgpio.module import load_lgpio
lgpio, _ = load_lgpio()
print(json.dumps({
    "numbers": {name: value for name, value in vars(lgpio).items() if name.isupper() and isinstance(value, int)},
    "parameters": {
        name: [[each.name, each.default if isinstance(each.default, int) else None]
               for each in inspect.signature(value).parameters.values()]
        for name, value in vars(lgpio).items() if inspect.isfunction(value) and not name.startswith("_")
    },
    "texts": {code: lgpio.error_text(code) for code in range(-110, 2)},
}))
"""


@pytest.mark.skipif(importlib.util.find_spec("lgpio") is None, reason="the real lgpio is not installed")
def test_names_numbers_texts_and_parameters_are_those_of_the_real_module() -> None:
    done = subprocess.run([sys.executable, "-c", REAL], check=True, capture_output=True, text=True)
    real = json.loads(done.stdout)
    ours = {name: value for name in dir(Lgpio) if name.isupper() and isinstance(value := getattr(Lgpio, name), int)}
    assert ours.items() <= real["numbers"].items()
    functions = dict(inspect.getmembers(Lgpio, lambda each: inspect.isfunction(each) and each.__name__[0] != "_"))
    for own in ("calling_thread", "cancel_callbacks", "close", "free_lines"):
        del functions[own]
    for name, function in functions.items():
        parameters = [
            [each.name, each.default if isinstance(each.default, int) else None]
            for each in inspect.signature(function).parameters.values()
        ]
        assert parameters[1:] == real["parameters"][name], name
    concerned = {name for name in real["parameters"] if name.startswith(("gpio", "group", "tx", "notify", "callback"))}
    assert concerned <= functions.keys()
    assert {str(code): text for code, text in TEXTS.items()}.items() <= real["texts"].items()


GPIOZERO = """
import sys, threading
from firmware_sim import SimBoard
board = SimBoard({"device": [{"type": "button", "line": 17, "bounce": 0.002}, {"type": "led", "line": 27}]})
sys.modules["lgpio"] = board.lgpio
from gpiozero import LED, Button
from gpiozero.pins.lgpio import LGPIOFactory
LGPIOFactory._get_revision = lambda self: 0xA02082  # a Raspberry Pi 3
factory = LGPIOFactory(chip=0)
push, led = board.devices
with Button(17, bounce_time=0.005, pin_factory=factory) as button, LED(27, pin_factory=factory) as lamp:
    pressed, released = threading.Event(), threading.Event()
    button.when_pressed, button.when_released = pressed.set, released.set
    push.click()
    assert pressed.wait(5) and released.wait(5)
    assert not led.lit
    lamp.on()
    assert led.lit
factory.close()
board.close()
print("heard and lit")
"""


@pytest.mark.skipif(importlib.util.find_spec("gpiozero") is None, reason="gpiozero is not installed")
def test_gpiozeros_own_lgpio_factory_runs_on_it_unchanged() -> None:
    done = subprocess.run([sys.executable, "-c", GPIOZERO], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("heard and lit\n", "")


# Actions that are due when the program looks have run, although their thread is late.


def test_a_level_is_that_of_the_moment_at_which_it_is_read(setup: Setup) -> None:
    lgpio, h, line = setup.lgpio, setup.handle, setup.chip.line(17)
    fd = setup.alert(17)
    setup.timeline.at(1 * MS, lambda: line.drive(1))
    setup.timeline.at(3 * MS, lambda: line.drive(0))
    setup.timeline.time_ns = 2 * MS
    assert lgpio.gpio_read(h, 17) == 1
    assert reports(fd) == [(1, 1 * MS)]


def test_edges_before_the_claim_are_not_reported_and_those_after_it_carry_their_time(setup: Setup) -> None:
    line = setup.chip.line(17)
    for number in range(4):
        setup.timeline.at((number + 1) * MS, lambda level=1 - number % 2: line.drive(level))
    setup.timeline.time_ns = 2 * MS
    fd = setup.alert(17)
    setup.timeline.time_ns = 9 * MS
    setup.timeline.run_due()
    assert reports(fd) == [(1, 3 * MS), (0, 4 * MS)]


def test_a_device_that_answers_late_answers_at_its_time(setup: Setup) -> None:
    """The program lets go of a line; what another device makes of that 30 µs later is stamped 30 µs later."""
    lgpio, h, line = setup.lgpio, setup.handle, setup.chip.line(17)
    line.pull("up")
    lgpio.gpio_claim_output(h, 17, 0, lgpio.SET_OPEN_DRAIN)

    answered: list[int] = []

    def answer(level: int, when_ns: int) -> None:
        if level and not answered:
            answered.append(when_ns)
            setup.timeline.at(when_ns + 30_000, lambda: line.drive(0))
            setup.timeline.at(when_ns + 110_000, lambda: line.drive(None))

    line.observe(answer)
    setup.timeline.time_ns = 1 * MS
    fd = setup.alert(17)
    setup.timeline.time_ns = 2 * MS  # the program was kept from running before it reads the level
    assert lgpio.gpio_read(h, 17) == 1
    assert reports(fd) == [(0, 1 * MS + 30_000), (1, 1 * MS + 110_000)]


def test_an_exit_in_what_a_program_catches_up_with_is_not_swallowed(setup: Setup) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    setup.timeline.at(1, interrupt)
    setup.timeline.time_ns = 2
    with pytest.raises(KeyboardInterrupt):
        setup.lgpio.gpio_read(setup.handle, 17)
