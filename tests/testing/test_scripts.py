"""Tests without a loop: time that advances, gpiozero's devices, scripts beside the test, other libraries."""

from __future__ import annotations

import asyncio
import sys
import time
from time import monotonic, sleep

import gpiozero
import pytest
import serial
import smbus2
from gpiozero import LED, PWMLED, Button

import hwloop
from firmware_sim.descriptors import descriptors

PARTS = {
    "device": [
        {"type": "button", "name": "door", "line": 17},
        {"type": "led", "name": "lamp", "line": 27},
        {"type": "bme280"},
        {"type": "gps", "port": "/dev/ttyAMA0"},
    ]
}

pytestmark = pytest.mark.hwloop(board=PARTS)

LAMP = """
from signal import pause

from gpiozero import LED, Button

led, button = LED(27), Button(17, hold_time=3)

def blink():
    led.blink(0.5, 0.5)

button.when_pressed = led.on
button.when_held = blink
button.when_released = led.off
pause()
"""


def test_devices_of_gpiozero_follow_the_board_as_time_advances(board):
    led, button = LED(27), Button(17)
    button.when_pressed = led.toggle
    board["door"].click()
    board.advance(1)
    assert led.is_lit
    assert board["lamp"].lit
    board.line(17).drive(0)
    board.advance(0)
    assert not board["lamp"].lit


def test_blinking_holding_and_fading_take_no_real_time_and_the_same_time_on_the_board(board):
    with LED(27) as led, PWMLED(22) as glow:
        began = board.clock.now_ns()
        glow.pulse(1, 1)
        led.blink(0.5, 0.25, n=3, background=False)
        assert board.clock.now_ns() - began == 2_250_000_000
        assert board.trace.pulses(27) == [500_000_000] * 3


def test_waiting_for_a_device_lets_time_pass(board):
    button = Button(17)
    began = monotonic()
    board.timeline.after(5, board["door"].press)
    assert button.wait_for_press(60)
    assert monotonic() - began == 5
    assert not button.wait_for_release(60)
    assert time.monotonic() - began == 65


def test_the_module_time_is_that_of_the_board(board):
    began = time.time(), time.monotonic_ns(), time.perf_counter()
    sleep(5)
    time.sleep(0.5)
    assert time.time() - began[0] == pytest.approx(5.5, abs=1e-5)
    assert time.monotonic_ns() - began[1] == 5_500_000_000
    assert time.perf_counter() - began[2] == 5.5
    assert time.strftime("%Y") >= "2026"
    with pytest.raises(ValueError, match="non-negative"):
        sleep(-1)


def test_the_module_time_is_real_again_after_the_test():
    assert time.__class__ is type(asyncio)
    assert monotonic() > 100 or time.monotonic() == pytest.approx(monotonic(), abs=5)
    assert sleep.__name__ == "sleep"


def test_devices_that_a_test_leaves_open_are_closed_with_the_board(board):
    gpiozero.Device.pin_factory.pin(4)
    led = LED(27)
    led.on()
    assert board.outputs == {27: 1}


def test_the_next_test_has_fresh_pins(board):
    assert gpiozero.Device.pin_factory.pins == {}
    assert board.outputs == {}


def test_an_exception_of_a_handler_fails_the_test(board):
    button = Button(17)
    button.when_pressed = lambda: 1 / 0
    board["door"].press()
    with pytest.raises(ZeroDivisionError) as raised:
        board.advance(1)
    assert "in the thread in which lgpio calls handlers: it has ended" in raised.value.__notes__[0]


def test_a_condition_can_be_waited_for_without_a_loop(board):
    led = LED(27)
    led.blink(on_time=2, off_time=1)
    board.advance_until(lambda: board["lamp"].lit, within=0)
    board.advance_until(lambda: not board["lamp"].lit, within=2)
    with pytest.raises(AssertionError, match=r"after 0.5 s of virtual time this is still false: board\['lamp'\].lit"):
        board.advance_until(lambda: board["lamp"].lit, within=0.5)


def test_a_script_runs_beside_the_test_until_the_block_ends(board, script):
    with script(LAMP) as lamp:
        board["door"].press()
        board.advance(0.1)
        assert board["lamp"].lit
        board["door"].release()
        board.advance(0.1)
        assert not lamp.names["led"].is_lit
        board["door"].press()
        board.advance(7.9)
        assert len(board.trace.pulses(27)) == 6
        assert not lamp.done
    assert lamp.done


def test_a_script_that_polls_without_sleeping_does_not_stop_the_clock(board, script):
    polling = """
import time
from gpiozero import LED, Button

led, button = LED(27), Button(17)
while True:
    if button.is_pressed:
        led.on()
        time.sleep(2)
        led.off()
"""
    with script(polling):
        board["door"].click()
        board.advance_until(lambda: board["lamp"].lit, within=0.001)
        board.advance_until(lambda: not board["lamp"].lit, within=2.001)
    assert board.trace.pulses(27) == [2_000_000_000]


def test_a_script_that_waits_for_devices_and_then_fails_fails_the_test(board, script):
    waiting = """
from time import sleep
from gpiozero import LED, Button

led, button = LED(27), Button(17)
while True:
    button.wait_for_press()
    led.blink(0.5, 0.5, n=3, background=False)
    sleep(1)
    raise ValueError("no such sensor")
"""

    def test():
        with script(waiting):
            board.advance(1)
            board["door"].press()
            board.advance(3.9)
            assert len(board.trace.pulses(27)) == 3
            board.advance(2)
            raise AssertionError("the test goes on after the script has failed")

    with pytest.raises(ValueError, match="no such sensor"):
        test()


def test_a_script_that_exits_with_a_status_fails_the_test(script):
    with pytest.raises(AssertionError, match=r"script\.py exited with status 3"), script("import sys; sys.exit(3)"):
        pass
    with script("import sys; sys.exit()") as ended:
        pass
    assert ended.done
    with (
        pytest.raises(AssertionError, match="exited with status 1: no sensor"),
        script("raise SystemExit('no sensor')"),
    ):
        pass


def test_a_board_has_one_script_at_a_time(script):
    first = script("from time import sleep\nsleep(10)\n")
    with first, pytest.raises(RuntimeError, match=r"script\.py still runs, and a board has one script at a time"):
        script("import sys\n")
    with script("import sys\n") as second:
        assert second.done
    assert not first.running


def test_a_script_that_catches_the_interrupt_once_is_interrupted_again(board, script):
    stubborn = """
from time import sleep

caught = 0
while caught < 2:
    try:
        while True:
            sleep(10)
    except KeyboardInterrupt:
        caught += 1
"""
    with script(stubborn) as run:
        board.advance(100)
    assert run.names["caught"] == 2


def test_smbus2_and_serial_reach_the_board(board):
    with smbus2.SMBus(1) as bus:
        assert bus.read_byte_data(0x76, 0xD0) == 0x60
    with serial.Serial("/dev/ttyAMA0", 9600, timeout=0) as port:
        board.advance(2)
        assert port.read(1000).startswith(b"$GP")


def test_advance_says_what_to_do_on_a_loop(board):
    async def main():
        board.advance(1)

    with pytest.raises(RuntimeError, match=r"in an async test: await asyncio.sleep\(seconds\)"):
        board.session.call(main())
    with pytest.raises(ValueError, match="0 seconds or more"):
        board.advance(-1)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nowhere\.py"):
        board.script("nowhere.py")


@pytest.mark.hwloop(clock="real")
def test_a_script_runs_in_real_time_too(board, script):
    with script(LAMP):
        board["door"].press()
        board.advance_until(lambda: board["lamp"].lit, within=5)


def test_the_board_of_a_test_is_no_longer_in_use_after_it():
    assert not hwloop.board.made_by_program()


def test_a_script_has_its_own_arguments_and_finds_modules_beside_it(board, tmp_path):
    (tmp_path / "beside.py").write_text("line = 27\n")
    path = tmp_path / "lamp.py"
    path.write_text("import sys\nimport beside\nfrom time import sleep\narguments = sys.argv\nsleep(10)\n")
    before = sys.argv, sys.path[:]
    with board.script(path) as script:
        board.advance(1)
        assert script.names["arguments"] == [str(path)]
        assert script.names["beside"].line == 27
    assert (sys.argv, sys.path) == before
    assert "beside" not in sys.modules


@pytest.mark.hwloop(board="sim")
def test_a_bus_that_a_script_leaves_open_is_closed_as_at_the_end_of_its_process(board, script):
    with script("import time, smbus2\nbus = smbus2.SMBus(1)\ntime.sleep(60)\n") as run:
        board.advance(1)
        assert run.names["bus"].read_byte_data(0x76, 0xD0) == 0x60
        assert descriptors.numbers()
    assert not descriptors.numbers()


def test_a_script_that_is_never_entered_is_reported(board, tmp_path):
    path = tmp_path / "lamp.py"
    path.write_text("print('on')\n")
    run = board.script(path)
    with pytest.warns(RuntimeWarning, match=r"board.script\('.*lamp.py'\) has run nothing: write 'with board.script"):
        del run
