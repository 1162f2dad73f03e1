"""SimFactory: gpiozero's mock factory on simulated lines. That it is all the mock is, gpiozero's own tests say
(`make test-gpiozero`); here is what the lines, the loop and the clock add to it."""

from __future__ import annotations

import asyncio
import threading
import time

import gpiozero
import pytest
from gpiozero.pins.mock import MockConnectedPin, MockFactory, MockPin, MockPWMPin

import hwloop
from firmware_sim import SimBoard
from hwloop.pins import LoopFactory, SimFactory, SimPin


@pytest.fixture
def factory(monkeypatch):
    with SimFactory() as factory:
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        yield factory


@pytest.fixture
def virtual(monkeypatch):
    """A factory on a board in virtual time, and what runs a coroutine there."""
    clock = hwloop.VirtualClock()
    wiring = {"device": [{"type": "wire", "lines": [22, 27]}, {"type": "button", "line": 17, "bounce": 0.004}]}
    with SimBoard(wiring, clock=clock) as board, SimFactory(board=board) as factory:
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        factory.run = lambda main: hwloop.run(main, board=board, clock=clock)
        yield factory


def test_without_a_loop_a_handler_has_run_when_the_pin_has_been_driven(factory):
    trace = []
    with gpiozero.Button(4) as button:
        button.when_pressed = lambda: trace.append(threading.current_thread().name)
        threads = threading.active_count()
        button.pin.drive_low()
        assert trace == ["MainThread"]
        assert threading.active_count() <= threads + 1  # the hold


def test_without_a_loop_what_a_handler_raises_comes_out_where_the_pin_is_driven(factory):
    with gpiozero.Button(4) as button:
        button.when_pressed = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            button.pin.drive_low()


def test_on_a_loop_a_handler_runs_after_the_callback_that_drove_the_pin(virtual):
    trace = []

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))
        with gpiozero.Button(4) as button:
            button.when_pressed = lambda: trace.append("pressed")
            button.when_released = lambda: 1 / 0
            button.pin.drive_low()
            trace.append("driven")
            await asyncio.sleep(0)
            trace.append("later")
            button.pin.drive_high()
            await asyncio.sleep(0)
        assert [type(error) for error in reports] == [ZeroDivisionError]

    virtual.run(main())
    assert trace == ["driven", "pressed", "later"]


def test_a_pin_driven_from_another_thread_is_reported_on_the_loop(factory):
    names = []

    async def main():
        with gpiozero.Button(4) as button:
            button.when_pressed = lambda: names.append(threading.current_thread().name)
            await asyncio.to_thread(button.pin.drive_low)
            while not names:
                await asyncio.sleep(0.001)

    hwloop.run(main(), board=factory.board)
    assert names == ["MainThread"]


def test_a_button_on_the_board_presses_and_its_bounces_are_ignored(virtual):
    part = virtual.board.devices[1]
    trace = []

    async def main():
        loop = asyncio.get_running_loop()
        with gpiozero.Button(17, bounce_time=0.01, hold_time=10) as button:
            start = loop.time()
            button.when_pressed = lambda: trace.append(("pressed", round(loop.time() - start, 3)))
            button.when_held = lambda: trace.append(("held", round(loop.time() - start, 3)))
            button.when_released = lambda: trace.append(("released", round(loop.time() - start, 3)))
            await asyncio.sleep(1)
            part.press()
            await asyncio.sleep(14)
            part.release()
            await asyncio.sleep(1)

    began = time.monotonic()
    virtual.run(main())
    assert trace == [("pressed", 1), ("held", 11), ("released", 15)]
    assert time.monotonic() - began < 5


def test_a_change_within_the_bounce_time_that_stays_is_reported_at_its_end(virtual):
    trace = []

    async def main():
        loop = asyncio.get_running_loop()
        with gpiozero.Button(4, bounce_time=0.5) as button:
            start = loop.time()
            button.when_pressed = lambda: trace.append(("pressed", round(loop.time() - start, 6)))
            button.when_released = lambda: trace.append(("released", round(loop.time() - start, 6)))
            button.pin.drive_low()
            await asyncio.sleep(0.1)
            button.pin.drive_high()
            await asyncio.sleep(2)

    virtual.run(main())
    assert trace == [("pressed", 0), ("released", 0.5)]


def test_a_bounce_time_can_not_be_negative(factory):
    with pytest.raises(gpiozero.PinInvalidBounce):
        gpiozero.Button(4, bounce_time=-1)


def test_wires_pulls_and_parts_act_on_pins_as_on_lines(virtual):
    with gpiozero.LED(22) as led, gpiozero.Button(27, pull_up=False) as button:
        assert not button.is_pressed
        led.on()
        assert button.is_pressed
        led.off()
        assert [state.state for state in button.pin.states] == [False, True, False]
    pin = virtual.pin(4)
    pin.pull = "up"
    pin.drive_low()
    assert pin.state == 0
    pin.drive_floating()
    assert pin.state == 1
    pin.assert_states([False, True, False, True])


def test_states_have_the_times_of_the_boards_clock(virtual):
    async def main():
        with gpiozero.LED(24) as led:
            led.pin.clear_states()
            led.blink(on_time=60, off_time=30, n=2)
            await asyncio.sleep(300)
            led.pin.assert_states_and_times([(0, False), (0, True), (60, False), (30, True), (60, False)])
            assert len(led.pin.states) == 5

    virtual.run(main())


@pytest.mark.parametrize("pin_class", [MockPin, MockPWMPin, MockConnectedPin, SimPin])
def test_every_kind_of_mock_pin_is_put_on_a_line(factory, pin_class):
    pin = factory.pin(4, pin_class=pin_class)
    assert isinstance(pin, pin_class)
    assert isinstance(pin, SimPin)
    assert isinstance(factory, MockFactory)
    pin.function = "output"
    pin.state = 1
    assert factory.board.chip.line(4).level == 1
    assert factory.pin("J8:7", pin_class=pin_class) is pin


def test_a_duty_cycle_is_a_state_and_its_average_is_on_the_line(factory):
    with gpiozero.PWMLED(4, pin_factory=SimFactory(pin_class=MockPWMPin, board=factory.board)) as led:
        led.value = 0.3
        assert (led.pin.state, factory.board.chip.line(4).level) == (0.3, 0)
        led.value = 0.7
        assert (led.pin.state, factory.board.chip.line(4).level) == (0.7, 1)
        led.pin.assert_states([0.0, 0.3, 0.7])
        led.pin_factory.close()


def test_both_factories_share_a_board_but_not_a_line(virtual):
    with LoopFactory(virtual.board) as other:
        button = gpiozero.Button(4)
        with pytest.raises(hwloop.HardwareError, match="another process"):
            gpiozero.LED(4, pin_factory=other)
        button.close()
        with gpiozero.LED(4, pin_factory=other), pytest.raises(hwloop.HardwareError, match="in use already, by lg"):
            virtual.pin(4).function = "input"
        with gpiozero.LED(24, pin_factory=other), pytest.raises(hwloop.HardwareError, match="in use already, by lg"):
            gpiozero.LED(24)


def test_a_coroutine_function_becomes_a_task(virtual):
    times = []

    async def pressed():
        await asyncio.sleep(3600)
        times.append(asyncio.get_running_loop().time())

    async def main():
        start = asyncio.get_running_loop().time()
        with gpiozero.Button(4) as button:
            button.when_pressed = pressed
            button.pin.drive_low()
            await asyncio.sleep(4000)
        assert times == [pytest.approx(start + 3600)]

    virtual.run(main())
    assert times


def test_it_is_the_board_in_use_if_that_is_a_simulated_one(monkeypatch):
    factory = SimFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)

    async def main():
        assert factory.board is hwloop.board.current()
        assert factory.board_info.model == "4B"

    hwloop.run(main(), board="sim")
    own = factory.board  # the other one was closed with the run
    assert own.devices == []
    factory.reset()
    assert own.timeline.stopped
    with SimFactory("902120") as other:
        assert other.board_info.model == "Zero2W"
    monkeypatch.setenv("GPIOZERO_MOCK_REVISION", "a02082")
    with SimFactory() as other:
        assert other.board_info.model == "3B"


def test_closing_and_resetting_leave_the_lines(virtual):
    board = virtual.board
    for leave in (virtual.close, virtual.reset):
        led = gpiozero.LED(24)
        button = gpiozero.Button(4)
        button.pin.drive_low()
        leave()
        for line in (24, 4):
            assert board.chip.line(line).consumer is None
            assert board.chip.line(line)._observers == []
        assert board.chip.line(4).level == 1
        led.close()
        button.close()
