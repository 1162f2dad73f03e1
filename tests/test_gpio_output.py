"""Outputs in virtual time: pulses, blinking, PWM and schedules; and their end with their board."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.devices.pin_parts import Led
from hwloop import HardwareError, gpio
from hwloop import board as boards
from hwloop.core import deferred_signals as deferring

Main = Callable[["Stage"], Awaitable[Any]]


class Stage:
    """A board in virtual time with an LED on 27, and what the LED did: (seconds since the stage was set, lit)."""

    def __init__(self) -> None:
        self.clock = hwloop.VirtualClock()
        self.board = SimBoard(clock=self.clock)
        self.led = Led(27)
        self.led.attach(self.board)
        self.began_ns = self.clock.now_ns()

    @property
    def now(self) -> float:
        return (self.clock.now_ns() - self.began_ns) / 1e9

    @property
    def trace(self) -> list[tuple[float, bool]]:
        return [((when_ns - self.began_ns) / 1e9, lit) for when_ns, lit in self.led.history[1:]]

    def stall(self, seconds: float) -> None:
        """Block the loop."""
        self.clock.sleep(seconds)


def play(main: Main) -> Stage:
    """The stage after `main(stage)` has run on it in virtual time."""
    stage = Stage()
    reports: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        await main(stage)

    with stage.board:
        hwloop.run(run(), board=stage.board, clock=stage.clock)
        assert gpio.outputs() == []
        assert stage.board.chip.line(27).consumer is None
    assert reports == []
    return stage


def test_a_pulse_drives_the_line_and_comes_back() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            assert await lamp.pulse(0.25) is True
            assert stage.now == 0.25

    assert play(main).trace == [(0.0, True), (0.25, False)]


def test_a_pulse_may_be_to_the_low_side() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27, initial=1) as lamp:
            await asyncio.sleep(1)
            await lamp.pulse(0.5, value=0)
            assert lamp.value == 1

    assert play(main).trace == [(0.0, True), (1.0, False), (1.5, True)]


def test_a_pulse_of_an_active_low_output_is_logical() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27, active_low=True) as lamp:
            await asyncio.sleep(1)
            await lamp.pulse(0.5)

    assert play(main).trace == [(0.0, True), (1.0, False), (1.5, True)]


def test_a_pulse_begun_anew_lasts_from_then_and_the_first_one_hears_of_it() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            first = lamp.pulse(0.5)
            await asyncio.sleep(0.3)
            second = lamp.pulse(0.5)
            assert (await first, stage.now) == (False, 0.3)
            assert (await second, stage.now) == (True, 0.8)

    assert play(main).trace == [(0.0, True), (0.8, False)]


def test_blinking_n_times_ends_after_the_last_pause() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            assert await lamp.blink(0.1, 0.4, 3) is True
            assert stage.now == 1.5

    assert play(main).trace == [(0.0, True), (0.1, False), (0.5, True), (0.6, False), (1.0, True), (1.1, False)]


def test_blinking_goes_on_until_the_line_is_set() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            blinking = lamp.blink(0.2, 0.3)
            await asyncio.sleep(0.6)
            lamp.set(1)
            assert await blinking is False
            await asyncio.sleep(5)

    assert play(main).trace == [(0.0, True), (0.2, False), (0.5, True)]


def test_blinking_does_not_drift() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            await lamp.blink(1 / 3, 2 / 3, n=500)

    rises = [when for when, lit in play(main).trace if lit]
    assert rises == [float(number) for number in range(500)]


def test_blinking_goes_on_after_a_stall_where_it_would_be_without() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            blinking = lamp.blink(0.1, 0.1, n=5)
            await asyncio.sleep(0.25)
            stage.stall(0.32)  # until 0.57: it was lit all the while, and should now be dark
            await blinking
            assert stage.now == 1.0

    assert play(main).trace == [
        *[(0.0, True), (0.1, False), (0.2, True), (0.57, False)],
        *[(0.6, True), (0.7, False), (0.8, True), (0.9, False)],
    ]


def test_a_stall_past_its_end_ends_blinking_dark() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            blinking = lamp.blink(0.1, 0.1, n=2)
            await asyncio.sleep(0.05)
            stage.stall(10)
            assert await blinking is True
            assert stage.now == 10.05

    assert play(main).trace == [(0.0, True), (10.05, False)]


def test_cancelling_the_waiting_task_ends_a_pulse_at_once() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await lamp.pulse(10)
            blinking = lamp.blink(1, 1)
            await asyncio.sleep(0.5)
            assert blinking.cancel()
            assert not blinking.cancel()
            await asyncio.sleep(5)

    assert play(main).trace == [(0.0, True), (0.2, False), (0.2, True), (0.7, False)]


def test_scheduled_levels_are_driven_at_their_time_in_their_order() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            now = asyncio.get_running_loop().time()
            for at, value in ((0.3, 0), (0.1, 1), (0.5, 1), (0.7, 0)):
                lamp.schedule(at=now + at, value=value)
            lamp.schedule(at=now + 0.6, value=0).cancel()
            await asyncio.sleep(1)
            lamp.schedule(at=now, value=1)  # past: at once
            await asyncio.sleep(0.1)

    assert play(main).trace == [(0.1, True), (0.3, False), (0.5, True), (0.7, False), (1.0, True)]


def test_a_scheduled_level_ends_a_blink_and_setting_the_line_cancels_the_schedule() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            now = asyncio.get_running_loop().time()
            lamp.set(1)
            blinking = lamp.blink(0.2, 0.2)
            lamp.schedule(at=now + 0.5, value=1)
            lamp.schedule(at=now + 0.9, value=0)
            lamp.schedule(at=now + 2.0, value=1)
            assert (await blinking, stage.now) == (False, 0.5)
            await asyncio.sleep(1)
            lamp.set(0)
            await asyncio.sleep(5)

    assert play(main).trace == [(0.0, True), (0.2, False), (0.4, True), (0.9, False)]


def test_closing_ends_all_and_leaves_the_safe_level() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27, safe=0) as lamp:
            blinking = lamp.blink(0.2, 0.2)
            lamp.schedule(at=asyncio.get_running_loop().time() + 0.7, value=1)
            await asyncio.sleep(0.5)
        assert await blinking is False
        await asyncio.sleep(5)

    assert play(main).trace == [(0.0, True), (0.2, False), (0.4, True), (0.5, False)]


def test_making_safe_ends_a_blink() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27, safe=0) as lamp:
            lamp.blink(0.2, 0.2)
            await asyncio.sleep(0.1)
            gpio.make_safe()
            await asyncio.sleep(5)

    assert play(main).trace == [(0.0, True), (0.1, False)]


def test_pwm_is_the_boards_own_and_ends_when_the_line_is_set() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            lamp.pwm(0.25, frequency=10)
            await asyncio.sleep(1.99)
            lamp.pwm(0.75, frequency=10)  # from the next cycle on
            await asyncio.sleep(0.96)
            lamp.set(0)
            await asyncio.sleep(1)

    trace = play(main).trace
    lit = [round(end - start, 9) for (start, on), (end, _) in itertools.pairwise(trace) if on]
    assert lit == [0.025] * 19 + [0.075] * 9 + [0.05]


def test_pwm_ends_with_the_output() -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27, safe=1) as lamp:
            lamp.pwm(0.5)
            await asyncio.sleep(0.1)
        changes = len(stage.trace)
        await asyncio.sleep(1)
        assert (len(stage.trace), stage.led.lit) == (changes, True)

    play(main)


def test_a_board_without_pwm_says_so() -> None:
    class Plain(boards.OutputLine):
        def set(self, value: int) -> None: ...
        def get(self) -> int:
            return 0

        def close(self) -> None: ...

    with pytest.raises(
        HardwareError, match=r"PWM: this line has none, because gpiod drives it; use HWLOOP_GPIO=lgpio, or blink"
    ):
        Plain().pwm(100, 0.5)


def test_a_line_that_can_not_be_driven_any_more_ends_a_blink_and_is_reported_once() -> None:
    reports: list[dict[str, Any]] = []

    async def main(stage: Stage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        with gpio.output(27, name="lamp") as lamp:
            awaited = lamp.blink(0.2, 0.2)
            device: Any = lamp._device
            device.close()
            with pytest.raises(HardwareError, match="line 27: this output is closed"):
                await awaited
            with pytest.raises(HardwareError, match="line 27: this output is closed"):
                lamp.pulse(1)
            with pytest.raises(HardwareError, match="line 27: this output is closed"):
                lamp.pwm(0.5)
            lamp.schedule(at=0, value=1)
            await asyncio.sleep(1)
        del awaited
        gc.collect()

    play(main)
    assert [report["message"].partition(" ")[0] for report in reports] == ["lamp", "Exception"]
    assert reports[0]["message"] == "lamp can't be driven; its pulses end here"
    assert all(isinstance(report["exception"], HardwareError) for report in reports)


def test_outputs_left_open_are_closed_with_their_board(caplog: Any) -> None:
    async def main() -> None:
        for line, safe in ((5, 0), (6, None), (7, 0)):
            gpio.output(line, initial=1, safe=safe).open()
        gpio.output(8, initial=1).open().close()
        broken: Any = gpio.outputs()[0]._device
        broken.close()

    with SimBoard() as board:
        hwloop.run(main(), board=board)
        assert len(gpio.outputs()) == 3
    assert gpio.outputs() == []
    assert [board.chip.line(line).level for line in (5, 6, 7)] == [1, 1, 0]
    assert [record.message.partition(":")[0] for record in caplog.records] == ["simulated board"]
    assert caplog.records[0].levelno == logging.ERROR


def test_outputs_left_open_are_closed_when_the_process_ends() -> None:
    script = """
import sys
from hwloop import board, gpio
gpio.output(5, initial=1, safe=0).open()
board.current().chip.line(5).observe(lambda level, when_ns: print(level))
sys.exit(3)
"""
    environment = {**os.environ, "HWLOOP_BOARD": "sim", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (3, "0\n", "")


def test_a_blink_whose_loop_is_gone_is_no_trouble_to_the_closing() -> None:
    async def main() -> gpio.Output:
        lamp = gpio.output(27, safe=0).open()
        lamp.blink(0.1, 0.1)
        return lamp

    with SimBoard() as board:
        lamp = hwloop.run(main(), board=board)
        assert board.chip.line(27).level == 1
        lamp.close()
        assert board.chip.line(27).level == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda lamp: lamp.pulse(0), ValueError, "a pulse in seconds must be from 1e-06 to 1e"),
        (lambda lamp: lamp.pulse(float("nan")), ValueError, "a pulse in seconds must be from"),
        (lambda lamp: lamp.pulse("1"), TypeError, "a pulse in seconds must be a number, not '1'"),
        (lambda lamp: lamp.pulse(1, 2), ValueError, "a level must be 0 or 1, not 2"),
        (lambda lamp: lamp.blink(-1, 1), ValueError, "on in seconds must be"),
        (lambda lamp: lamp.blink(1, float("inf")), ValueError, "off in seconds must be"),
        (lambda lamp: lamp.blink(n=0), ValueError, "n must be at least 1, not 0"),
        (lambda lamp: lamp.blink(n=2.5), TypeError, "n must be a whole number or None, not 2.5"),
        (lambda lamp: lamp.pwm(50), ValueError, "duty must be from 0 to 1, not 50"),
        (lambda lamp: lamp.pwm(0.5, 20_000), ValueError, "frequency in Hz must be from 0.1 to 10000, not 20000"),
        (lambda lamp: lamp.schedule(at=None, value=1), TypeError, "at in seconds of loop time must be a number"),
        (lambda lamp: lamp.schedule(at=5, value=None), ValueError, "a level must be 0 or 1, not None"),
    ],
)
def test_wrong_arguments_raise_and_disturb_nothing(
    call: Callable[[Any], object], error: type[Exception], message: str
) -> None:
    async def main(stage: Stage) -> None:
        async with gpio.output(27) as lamp:
            pulse = lamp.pulse(1)
            with pytest.raises(error, match=message):
                call(lamp)
            assert await pulse is True

    play(main)


def test_an_output_that_is_not_open_does_nothing_by_itself() -> None:
    async def main() -> None:
        lamp = gpio.output(27, name="lamp")
        for call in (
            lambda: lamp.pulse(1),
            lambda: lamp.blink(),
            lambda: lamp.pwm(0.5),
            lambda: lamp.schedule(0, 1),
        ):
            with pytest.raises(RuntimeError, match="lamp is not open"):
                call()

    hwloop.run(main())


# Levels that are kept, and the short names for them.


@pytest.mark.parametrize("active_low", [False, True])
@pytest.mark.parametrize("level", [0, 1])
def test_an_output_without_an_initial_level_keeps_the_one_that_the_line_has(level: int, active_low: bool) -> None:
    with SimBoard() as board, boards.using(board):
        line = board.chip.line(27)
        gpio.output(27, initial=level).open().close()
        before = line.changes
        with gpio.output(27, initial=None, active_low=active_low) as relay:
            assert relay.value == level ^ active_low
            relay.toggle()
            assert line.level == 1 - level
        assert line.changes == before + 1


def test_an_output_without_an_initial_level_takes_that_of_an_undriven_line() -> None:
    with SimBoard() as board, boards.using(board):
        board.chip.line(5).pull("up")
        board.chip.line(6).pull("down")
        with gpio.output(5, initial=None) as high, gpio.output(6, initial=None) as low:
            assert (high.value, low.value) == (1, 0)
            assert (board.chip.line(5).output, board.chip.line(6).output) == (1, 0)


def test_on_off_and_value_drive_the_line() -> None:
    with SimBoard() as board, boards.using(board), gpio.output(27) as lamp:
        seen = []
        board.chip.line(27).observe(lambda level, when_ns: seen.append(level))
        lamp.on()
        lamp.off()
        lamp.value = 1
        lamp.value = False
        with pytest.raises(ValueError, match="a level must be 0 or 1, not 2"):
            lamp.value = 2
        assert (seen, lamp.value) == ([1, 0, 1, 0], 0)


@pytest.mark.parametrize("wrong", ["1", 1.0, 2, -1, None, [1]])
def test_a_level_is_0_or_1_and_nothing_that_equals_them(wrong: Any) -> None:
    board = SimBoard()
    with board, boards.using(board), gpio.output(27) as lamp, pytest.raises(ValueError, match="a level must be 0 or 1"):
        lamp.set(wrong)


def test_a_closed_output_says_that_it_is_closed() -> None:
    with SimBoard() as board, boards.using(board):
        lamp = gpio.output(27, name="lamp").open()
        lamp.close()
        for call in (lamp.on, lamp.toggle, lambda: lamp.value, lambda: lamp.pulse(1), lambda: lamp.pwm(0.5)):
            with pytest.raises(RuntimeError, match="lamp is closed; make a new one"):
                call()


# Ends: whatever breaks into a closing, the line is safe before it is given back, and no other output suffers.


class Interrupted(KeyboardInterrupt):
    """The exception of a signal's handler."""


def interruptions(action: Callable[[], object]) -> int:
    """How many times the trace function is called while `action` runs: the places where a handler may break in."""
    count = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += 1
        return trace

    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(None)
    return count


def interrupted_at(place: int, action: Callable[[], object]) -> None:
    """Run `action`, into which a signal breaks at the place with that number, between two bytecodes."""
    left = place

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGUSR1)
        return trace

    def handler(number: int, frame: object) -> None:
        sys.settrace(None)
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    sys.settrace(trace)
    try:
        action()
    except Interrupted:
        pass
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("way", ["open", "close"])
@pytest.mark.slow
def test_a_signal_at_any_bytecode_leaves_no_line_on(
    way: str, monkeypatch: pytest.MonkeyPatch, in_child: Callable[[Callable[[], object]], None]
) -> None:
    """The line may be open still, for whoever closes next; it is never given back at its unsafe level, nor lost."""
    monkeypatch.setattr(deferring, "_NUMBERS", [signal.SIGINT, signal.SIGUSR1])  # quicker, and the same code

    def act() -> None:
        if way == "open":
            lamp.open()
        else:
            lamp.close()

    def check() -> None:
        nonlocal lamp
        with SimBoard() as board, boards.using(board):
            line = board.chip.line(27)
            lamp = gpio.output(27, initial=1, safe=0)
            if way == "close":
                lamp.open()
            places = interruptions(act)
            for each in gpio.outputs():
                each.close()
            assert places > 100
            for place in range(1, places + 1, 3):
                lamp = gpio.output(27, initial=1, safe=0)
                if way == "close":
                    lamp.open()
                interrupted_at(place, act)
                if line.consumer is None:
                    assert line.level == 0, place
                for each in gpio.outputs():
                    each.close()
                assert (line.level, line.consumer) == (0, None), place
                assert board.before_closing == []

    lamp = gpio.output(27, initial=1, safe=0)
    in_child(check)


def test_a_signal_waits_until_the_output_is_closed() -> None:
    seen: list[tuple[int, str | None]] = []

    def handler(number: int, frame: object) -> None:
        seen.append((line.level, line.consumer))
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with SimBoard() as board, boards.using(board):
            line = board.chip.line(27)
            line.observe(lambda level, when_ns: None if level else signal.raise_signal(signal.SIGUSR1))
            lamp = gpio.output(27, initial=1, safe=0).open()
            with pytest.raises(Interrupted):
                lamp.close()
        assert seen == [(0, None)]
        assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("failure", [OSError("stuck"), asyncio.CancelledError(), GeneratorExit(), StopIteration()])
def test_an_output_that_fails_to_close_does_not_keep_the_others_from_their_safe_level(failure: BaseException) -> None:
    def fail(value: int) -> None:
        raise failure

    with SimBoard() as board, boards.using(board):
        outputs = [gpio.output(line, initial=1, safe=0).open() for line in (5, 6, 7)]
        device: Any = outputs[1]._device
        device.set = fail
        with pytest.raises(ExceptionGroup, match="could not be set to their safe level"):
            gpio.make_safe()
        assert [board.chip.line(line).level for line in (5, 6, 7)] == [0, 1, 0]
        for each in outputs[::2]:
            each.set(1)
    assert [board.chip.line(line).level for line in (5, 6, 7)] == [0, 1, 0]
    assert gpio.outputs() == []


def test_a_safe_level_that_fails_once_is_set_again() -> None:
    with SimBoard() as board, boards.using(board):
        lamp = gpio.output(27, initial=1, safe=0).open()
        device: Any = lamp._device
        refusals, drive = [OSError("busy"), OSError("busy")], device.set

        def set_level(value: int) -> None:
            if refusals:
                raise refusals.pop()
            drive(value)

        device.set = set_level
        lamp.close()
        assert (refusals, board.chip.line(27).level) == ([], 0)


def test_a_blink_in_another_thread_can_not_undo_the_safe_level() -> None:
    """Its timer is due while the output is made safe: it waits, and then has nothing to do."""

    async def blink() -> None:
        lamp.blink(1e-3, 1e-3)
        started.set()
        while not stop.is_set():
            await asyncio.sleep(1e-3)

    started, stop = threading.Event(), threading.Event()
    with SimBoard() as board, boards.using(board):
        lamp = gpio.output(27, safe=0).open()
        thread = threading.Thread(target=contextvars.copy_context().run, args=(hwloop.run, blink()))
        thread.start()
        started.wait()
        lamp.make_safe()
        before = board.chip.line(27).changes
        lamp.close()
        stop.set()
        thread.join()
        assert (board.chip.line(27).level, board.chip.line(27).changes) == (0, before)


def test_pulses_on_a_line_that_raises_anything_end_and_are_reported_once() -> None:
    reports: list[dict[str, Any]] = []

    def fail(value: int) -> None:
        raise asyncio.CancelledError("of somebody else")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        with gpio.output(27) as lamp:
            blinking = lamp.blink(0.2, 0.2)
            device: Any = lamp._device
            drive, device.set = device.set, fail
            with pytest.raises(RuntimeError, match="gpio:27: driving the line raised CancelledError"):
                await blinking
            device.set = drive
            assert await lamp.pulse(0.1)

    hwloop.run(main(), board=None, clock="virtual")
    assert [report["message"] for report in reports] == ["gpio:27 can't be driven; its pulses end here"]


WAYS_OUT = """
import asyncio, atexit, os, signal, sys, threading
import hwloop
from hwloop import board, gpio
lamp = gpio.output(27, initial=1, safe=0).open()
board.current().chip.line(27).observe(lambda level, when_ns: os.write(1, b"%d" % level))
class Refuses(list):
    def remove(self, each):
        if raises:
            raise raises.pop()
        super().remove(each)
raises = []
from hwloop.sources.gpio import open_outputs
"""


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(3)",
        "raise KeyError",
        "raises.append(KeyboardInterrupt()); open_outputs.listed = Refuses([lamp]); lamp.close()",
        "threading.Thread(target=sys.exit).start()",
        "atexit.register(lambda: 1 / 0)",
        "atexit.register(signal.raise_signal, signal.SIGINT)",
        "hwloop.run(asyncio.sleep(0)); signal.raise_signal(signal.SIGINT)",
    ],
)
def test_whatever_ends_a_process_its_outputs_are_safe(end: str) -> None:
    environment = {**os.environ, "HWLOOP_BOARD": "sim", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", WAYS_OUT + end], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "0", done.stderr
