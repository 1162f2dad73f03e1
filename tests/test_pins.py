"""gpiozero's devices on the lines of a board: where their events are delivered, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import tomllib
import weakref
from pathlib import Path

import gpiozero
import pytest
from gpiozero.mixins import GPIOQueue, HoldThread
from gpiozero.pins.mock import MockFactory

import hwloop
from firmware_sim import SimBoard
from firmware_sim.libraries.lgpio.alerts import Notifications
from hwloop.board import OutputLine, OutputRequest
from hwloop.pins import LoopFactory, wait_for

ROOT = Path(__file__).parents[1]


@pytest.fixture
def board():
    with SimBoard() as board:
        yield board


@pytest.fixture
def factory(board, monkeypatch):
    factory = LoopFactory(board)
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    yield factory
    factory.close()


@pytest.fixture
def virtual(monkeypatch):
    """A board in virtual time with a factory, and what runs a coroutine there."""
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board:
        factory = LoopFactory(board)
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        board.run = lambda main, seed=None: hwloop.run(main, board=board, clock=clock, seed=seed)
        yield board
        factory.close()


def press(board, line=17):
    board.chip.line(line).drive(0)


def release(board, line=17):
    board.chip.line(line).drive(None)


def until(condition):
    """Wait for another thread to bring it about."""
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


# Where handlers run.


def test_handlers_run_on_the_loop_in_the_order_of_the_edges(virtual):
    trace = []
    here = threading.get_ident()

    async def main():
        buttons = [gpiozero.Button(line) for line in (22, 4, 17)]
        for button in buttons:
            button.when_pressed = lambda it: trace.append((it.pin.info.name, "pressed", threading.get_ident()))
            button.when_released = lambda it: trace.append((it.pin.info.name, "released", threading.get_ident()))
        for act in (press, release):
            for line in (17, 22, 4):
                act(virtual, line)
                virtual.clock.jump(virtual.clock.now_ns() + 1000)
        await asyncio.sleep(0.001)
        for button in buttons:
            button.close()

    virtual.run(main())
    assert trace == [(f"GPIO{line}", what, here) for what in ("pressed", "released") for line in (17, 22, 4)]


def test_a_coroutine_function_becomes_a_task(virtual):
    seen = []

    async def pressed(button):
        await asyncio.sleep(5)
        seen.append((asyncio.current_task().get_name(), asyncio.get_running_loop().time()))

    async def main():
        with gpiozero.Button(17) as button:
            button.when_pressed = pressed
            start = asyncio.get_running_loop().time()
            press(virtual)
            await asyncio.sleep(6)
            assert seen[0][0].startswith("when_activated of <gpiozero.Button object on pin GPIO17")
            assert seen[0][1] == pytest.approx(start + 5)

    virtual.run(main())
    assert len(seen) == 1


def test_a_handler_that_raises_is_reported_and_the_rest_goes_on(virtual):
    reports, held, released = [], [], []

    def pressed():
        raise ZeroDivisionError

    async def when_released():
        released.append(1)
        raise KeyError

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        with gpiozero.Button(17, hold_time=2) as button:
            button.when_pressed = pressed
            button.when_held = lambda: held.append(1)
            button.when_released = when_released
            for _ in range(2):
                press(virtual)
                await asyncio.sleep(3)
                release(virtual)
                await asyncio.sleep(1)

    virtual.run(main())
    assert held == released == [1, 1]
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError, KeyError] * 2
    assert "when_activated of <gpiozero.Button" in reports[0]["message"]
    assert "when_deactivated of <gpiozero.Button" in reports[1]["message"]


def test_without_a_loop_one_thread_delivers_and_a_loop_takes_over_and_hands_back(board, factory):
    threads = []
    with gpiozero.Button(17) as button, gpiozero.Button(27) as other:
        for each in (button, other):
            each.when_pressed = lambda: threads.append(threading.current_thread().name)

        def press_both():
            threads.clear()
            for line in (17, 27):
                press(board, line)
                release(board, line)

        async def main():
            press_both()
            while len(threads) < 2:
                await asyncio.sleep(0.001)
            assert threads == ["MainThread"] * 2

        press_both()
        until(lambda: len(threads) == 2)
        assert threads == ["hwloop pins"] * 2
        for _ in range(2):
            hwloop.run(main(), board=board)
            press_both()
            until(lambda: len(threads) == 2)
            assert threads == ["hwloop pins"] * 2


def test_a_second_loop_changes_nothing_until_the_first_has_ended(board, factory):
    names, second_runs, end = [], threading.Event(), threading.Event()

    async def second():
        second_runs.set()
        while not end.is_set():
            await asyncio.sleep(0.001)

    async def pressed_once():
        names.clear()
        press(board)
        release(board)
        while not names:
            await asyncio.sleep(0.001)
        return names[0]

    async def first():
        thread.start()
        second_runs.wait()
        return await pressed_once()

    thread = threading.Thread(target=lambda: hwloop.run(second()), name="second")
    with gpiozero.Button(17) as button:
        button.when_pressed = lambda: names.append(threading.current_thread().name)
        assert hwloop.run(first()) == "MainThread"
        names.clear()
        press(board)
        until(lambda: names)
        assert names == ["second"]
        end.set()
        thread.join()


def test_a_coroutine_handler_runs_without_a_loop_too_and_can_wait_there(board, factory):
    trace = []

    async def pressed(button):
        trace.append("pressed")
        trace.append(await wait_for(button, "release", timeout=5))

    with gpiozero.Button(17) as button:
        button.when_pressed = pressed
        press(board)
        until(lambda: trace)
        release(board)
        until(lambda: len(trace) == 2)
    assert trace == ["pressed", True]


def test_a_handler_that_raises_without_a_loop_is_reported(board, factory, caplog):
    seen = []

    def pressed():
        seen.append(1)
        raise ZeroDivisionError

    with gpiozero.Button(17) as button:
        button.when_pressed = pressed
        for count in (1, 2):
            press(board)
            until(lambda count=count: len(seen) == count)
            release(board)
            until(lambda: button.inactive_time is not None)
    factory.close()
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


def test_an_edge_whose_report_was_lost_is_found_in_the_level(virtual):
    async def main():
        with gpiozero.Button(17) as button:
            await asyncio.sleep(1)
            press(virtual)
            release(virtual)
            for notifications in virtual.lgpio.handles.values():
                if isinstance(notifications, Notifications):
                    notifications.paused = True
            press(virtual)
            await asyncio.sleep(1)
            assert button.is_active
            assert button.active_time == pytest.approx(1, abs=0.1)

    virtual.run(main())


# Work that gpiozero does in threads.


def test_a_button_held_for_ten_seconds_takes_no_time(virtual):
    times = []

    async def main():
        loop = asyncio.get_running_loop()
        with gpiozero.Button(17, hold_time=10, hold_repeat=True) as button:
            button.when_held = lambda: times.append(round(loop.time() - start, 6))
            threads = threading.active_count()
            start = loop.time()
            press(virtual)
            await asyncio.sleep(35)
            assert button.held_time == pytest.approx(25)
            assert button.active_time == pytest.approx(35)
            assert threading.active_count() == threads
            release(virtual)
            await asyncio.sleep(35)
            press(virtual)
            await asyncio.sleep(5)
            release(virtual)
            await asyncio.sleep(35)

    began = time.monotonic()
    virtual.run(main())
    assert times == [10, 20, 30]
    assert time.monotonic() - began < 5  # for 110 s


def test_a_hold_counts_from_the_edge_and_anew_from_each_press(virtual):
    times = []

    async def main():
        loop = asyncio.get_running_loop()
        with gpiozero.Button(17, hold_time=1) as button:
            button.when_held = lambda: times.append(round(loop.time() - start, 6))
            start = loop.time()
            press(virtual)
            await asyncio.sleep(0.8)
            release(virtual)
            await asyncio.sleep(0.1)
            press(virtual)
            virtual.clock.jump(virtual.clock.now_ns() + 300_000_000)  # the loop is busy
            await asyncio.sleep(5)

    virtual.run(main())
    assert times == [1.9]


def test_blink_and_source_are_timers_of_the_loop(virtual):
    changes = []

    async def main():
        loop = asyncio.get_running_loop()
        threads = threading.active_count()
        start = loop.time()
        for line in (24, 25):
            virtual.chip.line(line).observe(
                lambda level, when_ns, line=line: changes.append((line, level, round(when_ns / 1e9 - start, 6)))
            )
        with gpiozero.LED(24) as led, gpiozero.LED(25) as follower:
            follower.source_delay = 0.5
            follower.source = led
            led.blink(on_time=1, off_time=2, n=2)
            await asyncio.sleep(5.2)
            assert threading.active_count() == threads
            follower.source = None
            led.blink()
            led.off()
            await asyncio.sleep(5)

    virtual.run(main())
    assert [change for change in changes if change[0] == 24][:4] == [(24, 1, 0), (24, 0, 1), (24, 1, 3), (24, 0, 4)]
    assert [level for line, level, _ in changes if line == 25] == [1, 0, 1, 0]


@pytest.mark.parametrize("pauses", ["blink", "fade", "source", "board"])
def test_a_job_without_pauses_leaves_the_loop_its_time(virtual, pauses):
    """gpiozero means "as fast as the thread can"; a loop has other things to do."""
    steps = 0

    def values():
        nonlocal steps
        while True:
            steps += 1
            yield steps % 2

    def count(level, when_ns):
        nonlocal steps
        steps += 1

    class Counting:
        def _write(self, value):
            count(value, 0)
            super()._write(value)

    class Led(Counting, gpiozero.LED):
        pass

    class Fading(Counting, gpiozero.PWMLED):
        pass

    async def main():
        nonlocal steps
        with Fading(24) if pauses == "fade" else Led(24) as led, gpiozero.LEDBoard(25, 26) as board:
            steps = 0
            if pauses == "blink":
                led.blink(0, 0)
            elif pauses == "fade":
                led.pulse(0.02, 0.02)
            elif pauses == "source":
                led.source_delay = 0
                led.source = values()
            else:
                virtual.chip.line(25).observe(count)
                board.blink(0, 0)
            await asyncio.sleep(0.1)

    virtual.run(main())
    assert 50 <= steps <= 500


def test_a_late_step_does_not_shift_the_next_unless_it_is_later_than_that(virtual):
    changes = []

    async def main():
        loop = asyncio.get_running_loop()
        start = loop.time()

        def busy(seconds):
            virtual.clock.jump(virtual.clock.now_ns() + round(seconds * 1e9))

        with gpiozero.LED(24) as led:
            virtual.chip.line(24).observe(lambda level, when_ns: changes.append(round(when_ns / 1e9 - start, 6)))
            loop.call_later(0.9, busy, 0.3)
            loop.call_later(2.9, busy, 3)
            led.blink(on_time=1, off_time=1)
            await asyncio.sleep(8)

    virtual.run(main())
    assert changes[:6] == [0, 1.2, 2, 5.9, 5.9, 6.9]


def test_edges_from_before_a_handler_was_set_are_not_delivered(virtual):
    seen = []

    def changed(ticks, state):
        seen.append(state)

    async def main():
        pin = gpiozero.Device.pin_factory.pin(17)
        pin.function = "input"
        virtual.chip.line(17).drive(1)
        await asyncio.sleep(1)
        pin.when_changed = changed
        await asyncio.sleep(1)
        virtual.chip.line(17).drive(0)
        await asyncio.sleep(1)
        pin.close()

    virtual.run(main())
    assert seen == [0]


def test_a_loop_in_another_time_than_the_boards_does_not_serve(board, factory):
    names = []

    async def main():
        press(board)
        with asyncio.get_running_loop().hold():
            until(lambda: names)

    with gpiozero.Button(17) as button:
        button.when_pressed = lambda: names.append(threading.current_thread().name)
        hwloop.run(main(), clock="virtual")
    assert names == ["hwloop pins"]


def test_a_blink_goes_on_when_a_loop_begins_and_when_it_ends(board, factory):
    drivers = []
    with gpiozero.LED(4) as led:
        board.chip.line(4).observe(lambda level, when_ns: drivers.append(threading.current_thread().name))

        async def main():
            drivers.clear()
            while len(drivers) < 3:
                await asyncio.sleep(0.001)
            assert set(drivers[1:]) == {"MainThread"}

        led.blink(0.001, 0.001)
        until(lambda: len(drivers) > 2)
        assert set(drivers) == {"blink_digital of LED"}
        hwloop.run(main(), board=board)
        drivers.clear()
        until(lambda: len(drivers) > 2)
        assert set(drivers) == {"blink_digital of LED"}


def test_smoothing_is_a_timer_of_the_loop_where_a_sample_takes_no_waiting(virtual):
    async def main():
        threads = threading.active_count()
        with gpiozero.MotionSensor(4, queue_len=5, sample_rate=10) as sensor:
            with pytest.raises(RuntimeError, match="MotionSensor has only 0 of 5 samples"):
                sensor.motion_detected  # noqa: B018
            virtual.chip.line(4).drive(1)
            assert await wait_for(sensor, "motion", timeout=3)
            assert sensor.value == 1
            assert threading.active_count() == threads

    virtual.run(main())


def test_a_sensor_that_waits_for_its_sample_keeps_its_thread_and_its_handlers_run_on_the_loop(board, factory):
    threads = []
    trigger, echo = board.chip.line(5), board.chip.line(6)

    def ping(level, when_ns):
        if not level:
            board.timeline.after(0.001, lambda: echo.drive(1))
            board.timeline.after(0.0015, lambda: echo.drive(0))  # 0.5 ms: 9 cm, which is in range

    trigger.observe(ping)

    async def main():
        with pytest.warns(gpiozero.PWMSoftwareFallback):
            sensor = gpiozero.DistanceSensor(echo=6, trigger=5, queue_len=1)
        with sensor:
            assert type(sensor._queue) is GPIOQueue
            sensor.when_in_range = lambda: threads.append(threading.current_thread().name)
            sensor.when_out_of_range = sensor.when_in_range
            sensor._last_active = True
            while not threads:
                await asyncio.sleep(0.01)

    hwloop.run(main(), board=board)
    assert threads == ["MainThread"]


def test_devices_of_other_factories_are_as_they_were(factory):
    with MockFactory() as mock, gpiozero.Button(17, pin_factory=mock) as button:
        assert type(button._hold_thread) is HoldThread
        button.when_pressed = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            button.pin.drive_low()
        assert not button.wait_for_release(0)

    async def main():
        with MockFactory() as mock, gpiozero.Button(17, pin_factory=mock) as button:
            assert not button.wait_for_press(0)

    hwloop.run(main())


# Waiting.


def test_events_of_devices_can_be_awaited(virtual):
    async def main():
        loop = asyncio.get_running_loop()
        with gpiozero.Button(17) as button:
            assert await wait_for(button, "release", timeout=0)
            assert not await wait_for(button, "press", timeout=30)
            loop.call_later(60, press, virtual)
            start = loop.time()
            assert await wait_for(button, "press")
            assert loop.time() - start == pytest.approx(60)
            assert button._active_event.listeners == []

    virtual.run(main())


def test_the_steps_of_an_encoder_can_be_awaited(virtual):
    async def main():
        with gpiozero.RotaryEncoder(5, 6) as encoder:
            turned = asyncio.create_task(wait_for(encoder, "rotate_clockwise", timeout=10))
            back = asyncio.create_task(wait_for(encoder, "rotate_counter_clockwise", timeout=10))
            await asyncio.sleep(1)
            for line, level in ((5, 0), (6, 0), (5, 1), (6, 1)):
                virtual.chip.line(line).drive(level)
                virtual.clock.jump(virtual.clock.now_ns() + 1000)
            assert await turned
            assert not await back
            assert encoder.steps == 1

    virtual.run(main())


def test_waiting_works_on_other_loops(board, factory):
    async def main():
        with gpiozero.Button(17) as button:
            asyncio.get_running_loop().call_later(0.01, press, board)
            assert await wait_for(button, "press", timeout=5)

    asyncio.run(main())


def test_waiting_for_an_unknown_event_raises(factory):
    async def main():
        with gpiozero.Button(17) as button, gpiozero.LED(4) as led:
            with pytest.raises(
                ValueError, match=r"a Button can't wait for 'motion'; it can wait for active, .*press, rel"
            ):
                await wait_for(button, "motion")
            with pytest.raises(ValueError, match="a LED can't wait for 'press'; it can wait for nothing"):
                await wait_for(led, "press")

    asyncio.run(main())


def test_blocking_methods_raise_on_the_loop_and_name_the_alternative(board, factory):
    async def main():
        with gpiozero.Button(17) as button, gpiozero.LED(4) as led:
            with pytest.raises(
                RuntimeError, match=r"Button.wait_for_press\(\) would block .* use 'await hwloop.pins.wait_for\("
            ):
                button.wait_for_press(1)
            with pytest.raises(RuntimeError, match="use background=True"):
                led.blink(n=1, background=False)
            assert await asyncio.to_thread(button.wait_for_release, 1)

    hwloop.run(main(), board=board)
    with gpiozero.Button(17) as button, gpiozero.LED(4) as led:
        assert not button.wait_for_press(0.001)
        led.blink(0.001, 0.001, n=2, background=False)
        assert not led.is_lit


# Life and death.


def test_pin_events_do_not_keep_a_device_alive(board, factory):
    pressed = []
    button = gpiozero.Button(17)
    button.when_pressed = lambda: pressed.append(True)
    press(board)
    until(lambda: pressed)
    gone = weakref.ref(button)
    del button
    # The thread that called the handler refers to it until it is done with the edge.
    until(lambda: gc.collect() is not None and gone() is None)
    release(board)
    assert board.chip.line(17).consumer is None


def test_closing_a_device_leaves_its_line_a_free_input(board, factory):
    led = gpiozero.LED(4, initial_value=True)
    line = board.chip.line(4)
    assert (line.level, line.output, line.consumer) == (1, 1, "lg")
    led.close()
    assert (line.output, line.consumer) == (None, None)
    with gpiozero.Button(4):
        pass


def test_closing_the_factory_gives_all_lines_back_and_it_can_be_used_again(board, factory):
    for _ in range(2):
        button, led = gpiozero.Button(17), gpiozero.LED(4)
        led.blink()
        with pytest.raises(gpiozero.GPIOPinInUse):
            gpiozero.LED(17)
        factory.close()
        assert board.chip.line(17).consumer is None
        assert board.chip.line(4).consumer is None
        del button, led
        gc.collect()


def test_a_factory_can_be_closed_from_a_handler(board, factory):
    button = gpiozero.Button(17)
    closed = []

    def pressed():
        factory.close()
        closed.append(1)

    button.when_pressed = pressed
    press(board)
    until(lambda: closed)
    button.close()


def test_a_line_in_use_is_rejected_and_nothing_is_left(board, factory):
    taken = board.open_output(OutputRequest(4, consumer="somebody"))
    with pytest.raises(hwloop.HardwareError, match="in use by this program already, as somebody"):
        gpiozero.LED(4)
    with pytest.raises(hwloop.HardwareError, match="in use by this program already, as somebody"):
        gpiozero.Button(4)
    taken.close()
    with gpiozero.LED(4):
        pass


# Pins.


def test_the_board_says_what_pi_it_is(tmp_path, factory):
    assert factory.board_info.model == "4B"
    with LoopFactory(revision="a02082") as other:
        assert other.board_info.model == "3B"
    with SimBoard({"revision": "902120"}) as board, LoopFactory(board) as other:
        assert other.board_info.model == "Zero2W"
        assert other.pin("J8:11").info.name == "GPIO17"
    with pytest.raises(ValueError, match="revision must be a Raspberry Pi's revision code in hexadecimal"):
        SimBoard({"revision": "Pi 4"})


def test_pins_refuse_what_they_can_not_do(board, factory):
    pin = factory.pin(4)
    with pytest.raises(gpiozero.PinInvalidFunction):
        pin.function = "pwm"
    with pytest.raises(gpiozero.PinSetInput):
        pin.state = 1
    with pytest.raises(gpiozero.PinInvalidPull):
        pin.pull = "sideways"
    with pytest.raises(gpiozero.PinInvalidBounce):
        pin.bounce = 6
    with pytest.raises(gpiozero.PinInvalidEdges):
        pin.edges = "sharp"
    with pytest.raises(gpiozero.PinFixedPull):
        factory.pin(2).pull = "down"
    pin.function = "output"
    with pytest.raises(gpiozero.PinFixedPull):
        pin.pull = "up"
    pin.close()


def test_an_output_without_an_initial_value_keeps_the_level_it_finds(board, factory):
    board.chip.line(4).claim("boot", output=1)
    board.chip.line(4).release()
    with gpiozero.LED(4, initial_value=None) as led:
        assert led.is_lit
        assert board.chip.line(4).changes == 0 or board.chip.line(4).level == 1


def test_bounce_is_left_to_the_board(virtual):
    seen = []

    async def main():
        with gpiozero.Button(17, bounce_time=0.01) as button:
            button.when_pressed = lambda: seen.append("pressed")
            button.when_released = lambda: seen.append("released")
            for _ in range(5):
                press(virtual)
                await asyncio.sleep(0.001)
                release(virtual)
                await asyncio.sleep(0.001)
            press(virtual)
            await asyncio.sleep(1)

    virtual.run(main())
    assert seen == ["pressed"]


def test_edges_choose_what_is_delivered(virtual):
    seen = []

    def changed(ticks, state):
        seen.append(state)

    async def main():
        pin = gpiozero.Device.pin_factory.pin(17)
        pin.when_changed = changed
        for edges in ("rising", "falling", "none", "both"):
            pin.edges = edges
            for level in (1, 0):
                virtual.chip.line(17).drive(level)
                await asyncio.sleep(0.001)
        pin.close()

    virtual.run(main())
    assert seen == [1, 0, 1, 0]


def test_an_edge_carries_the_time_of_the_kernel(virtual):
    async def main():
        factory = gpiozero.Device.pin_factory
        with gpiozero.Button(17) as button:
            await asyncio.sleep(1)
            before = factory.ticks()
            press(virtual)
            virtual.clock.jump(virtual.clock.now_ns() + 500_000_000)
            await asyncio.sleep(0)
            await asyncio.sleep(0.5)
            assert button._last_changed == before
            assert factory.ticks_diff(factory.ticks(), before) == pytest.approx(button.active_time)

    virtual.run(main())


def test_pwm_is_the_boards(virtual):
    changes = []

    async def main():
        with gpiozero.PWMLED(24) as led:
            led.value = 0.25
            assert (led.value, led.frequency) == (0.25, 100)
            await asyncio.sleep(1)
            virtual.chip.line(24).observe(lambda level, when_ns: changes.append((level, when_ns)))
            await asyncio.sleep(1)
            highs = [down - up for (level, up), (_, down) in itertools.pairwise(changes) if level]
            assert (len(highs), set(highs)) == (pytest.approx(100, abs=1), {2_500_000})
            with pytest.raises(ValueError, match=r"a duty cycle is 0 to 1, not 1\.5"):
                led.pin.state = 1.5
            led.pulse(fade_in_time=1, fade_out_time=1, n=1)
            await asyncio.sleep(1)
            assert led.value == pytest.approx(1, abs=0.05)
            await asyncio.sleep(2)
            assert led.value == 0
        with gpiozero.Button(24) as button, pytest.raises(gpiozero.PinPWMFixedValue):
            button.pin.frequency = 100

    virtual.run(main())


def test_a_line_without_pwm_gets_it_from_timers(virtual, monkeypatch):
    monkeypatch.setattr("hwloop.boards.lgpio.output.LgpioOutput.pwm", OutputLine.pwm)
    changes = []

    async def main():
        with gpiozero.PWMLED(24) as led:
            virtual.chip.line(24).observe(lambda level, when_ns: changes.append((level, when_ns)))
            led.value = 0.25
            await asyncio.sleep(1)
            assert len(changes) == pytest.approx(200, abs=2)
            led.value = 1
            changes.clear()
            await asyncio.sleep(1)
            assert changes == []
            assert virtual.chip.line(24).level == 1
            led.value = 0.75
            await asyncio.sleep(1)
            highs = {down - up for (level, up), (_, down) in itertools.pairwise(changes) if level}
            assert [high / 1e6 for high in highs] == [pytest.approx(7.5)] * len(highs)
            led.frequency = None
            assert virtual.chip.line(24).level == 0
            changes.clear()
            await asyncio.sleep(1)
            assert changes == []
        with pytest.raises(gpiozero.PinPWMUnsupported, match="GPIO24: PWM: this line has none"):
            gpiozero.PWMLED(24, frequency=5000)

    virtual.run(main())
    assert virtual.chip.line(24).consumer is None


def test_a_line_that_fails_is_reported_once_and_watched_no_more(virtual, monkeypatch):
    reports = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        with gpiozero.Button(17) as button, gpiozero.Button(27) as other:
            monkeypatch.setattr(button.pin._stream, "read", lambda: 1 / 0 if other.is_pressed else gone())
            press(virtual)
            await asyncio.sleep(1)
            press(virtual, 27)
            assert await wait_for(other, "press", timeout=1)

    def gone():
        raise hwloop.HardwareError("line 17", "its chip is gone")

    virtual.run(main())
    assert [str(report["exception"]) for report in reports] == ["line 17: its chip is gone"]


def test_a_plain_script_runs_as_it_is(tmp_path):
    """With the factory found under gpiozero's entry point, as in an installation."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = tmp_path / "hwloop-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hwloop\nVersion: 0\n")
    points = "\n".join(f"{name} = {it}" for name, it in entry_points["gpiozero_pin_factories"].items())
    (info / "entry_points.txt").write_text(f"[gpiozero_pin_factories]\n{points}\n")
    (tmp_path / "board.toml").write_text(
        '[[device]]\ntype = "button"\nline = 17\npress_every = 0.04\nhold = 0.02\n'
        '[[device]]\ntype = "wire"\nlines = [24, 25]\n'
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    for name in ("hwloop", "hwloop-sim"):
        environment = {
            **os.environ,
            "GPIOZERO_PIN_FACTORY": name,
            "HWLOOP_BOARD": str(tmp_path / "board.toml"),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", str(tmp_path / "script.py")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("pressed\npressed\nhwloop pins\n1\n", "", 0)


SCRIPT = """
import threading
from gpiozero import LED, Button, DigitalInputDevice

done, names = threading.Event(), set()

def pressed():
    print("pressed", flush=True)
    names.add(threading.current_thread().name)
    if led.is_lit:
        done.set()
    led.on()

led, wired, button = LED(24), DigitalInputDevice(25), Button(17)
button.when_pressed = pressed
assert button.wait_for_press(5)
done.wait(10)
button.when_pressed = None
print(*names)
print(wired.value)
led.blink()
"""


def test_closing_the_board_closes_the_pins_first(board):
    factory = LoopFactory()
    with hwloop.board.using(board):
        led = gpiozero.LED(24, initial_value=True, pin_factory=factory)
    board.close()
    assert board.chip.line(24).output is None
    led.close()


def test_the_factory_takes_the_board_in_use_when_the_first_pin_is(monkeypatch):
    monkeypatch.setattr(gpiozero.Device, "pin_factory", LoopFactory())

    async def main():
        with gpiozero.Button(17) as button:
            assert gpiozero.Device.pin_factory.board is hwloop.board.current()
            return button.pin.info.name

    for _ in range(2):
        assert hwloop.run(main(), board="sim") == "GPIO17"
