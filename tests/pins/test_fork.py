"""Forks while gpiozero's devices are open: the child may have its own, and the parent's are left alone."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import gpiozero
import pytest
from pins_bench import Bench

import hwloop
from firmware_sim import SimBoard
from hwloop import HardwareError
from hwloop.pins import LoopFactory, SimFactory, forks

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def fork(check: Callable[[], object], *, leave: bool = False) -> int:
    """Start a child that exits with 0 if `check` returns something true; with `leave` it exits as a program does."""
    child = os.fork()
    if child == 0:  # nothing of pytest may run in here
        status = 2
        try:
            status = 0 if check() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            if leave:
                import atexit

                atexit._run_exitfuncs()
            os._exit(status)
    return child


def status_of(child: int) -> int:
    give_up = time.monotonic() + 30
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > give_up:
            os.kill(child, 9)
        time.sleep(0.002)


def press_twice(board: SimBoard, factory: Any) -> list[str]:
    """A button of the child's own: what its handlers saw."""
    seen: list[str] = []
    button = gpiozero.Button(17, hold_time=0.01, pin_factory=factory)
    button.when_pressed = lambda: seen.append("pressed")
    button.when_held = lambda: seen.append("held")
    button.when_released = lambda: seen.append("released")
    give_up = time.monotonic() + 20
    for count in (3, 6):
        board.chip.line(17).drive(0)
        while len(seen) < count - 1 and time.monotonic() < give_up:
            time.sleep(0.001)
        board.chip.line(17).drive(1)
        while len(seen) < count and time.monotonic() < give_up:
            time.sleep(0.001)
    return seen


def plain_child() -> bool:
    with SimBoard() as board, LoopFactory(board) as factory:
        return press_twice(board, factory) == ["pressed", "held", "released"] * 2


def loop_child() -> bool:
    seen: list[str] = []

    async def main(board: SimBoard, factory: LoopFactory) -> None:
        assert factory.delivery.loop is asyncio.get_running_loop()
        seen.extend(await asyncio.to_thread(press_twice, board, factory))

    with SimBoard() as board, LoopFactory(board) as factory:
        hwloop.run(main(board, factory), board=board)
    return seen == ["pressed", "held", "released"] * 2


@pytest.mark.parametrize("in_child", [plain_child, loop_child])
@pytest.mark.parametrize("parent_has_devices", [False, True])
def test_a_child_of_a_loop_has_buttons_of_its_own_and_the_parent_sleeps(
    real: Bench, in_child: Callable[[], bool], parent_has_devices: bool
) -> None:
    async def main() -> tuple[int, int, list[str]]:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        if parent_has_devices:
            button, led = gpiozero.Button(17), gpiozero.LED(24)
            button.when_pressed = lambda: seen.append("parent")
            led.blink(30, 30)
        loop._poller.descriptors.add_waker()  # type: ignore[attr-defined]  # as the thread below will
        descriptors = len(os.listdir("/proc/self/fd"))
        child = fork(in_child)
        looks = 0
        poll = loop._poller.poll  # type: ignore[attr-defined]

        def counted(when: float | None) -> Any:
            nonlocal looks
            looks += 1
            return poll(when)

        loop._poller.poll = counted  # type: ignore[attr-defined]
        status = await asyncio.to_thread(status_of, child)
        loop._poller.poll = poll  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) == descriptors
        if parent_has_devices:
            real.press()
            await asyncio.sleep(0.05)
            assert seen == ["parent"]
            button.close()
            led.close()
        return status, looks, seen

    status, looks, _ = real.run(main())
    assert status == 0
    assert looks < 20  # or it turns all the time


@pytest.mark.parametrize("in_child", [plain_child, loop_child])
def test_a_child_of_a_plain_script_has_buttons_of_its_own(
    real: Bench, until: Callable[..., None], in_child: Callable[[], bool]
) -> None:
    seen: list[int] = []
    with gpiozero.Button(17) as button, gpiozero.LED(24) as led:
        button.when_pressed = lambda: seen.append(1)
        led.blink(0.005, 0.005)
        real.press()
        until(lambda: seen)
        real.release()
        until(lambda: button.inactive_time is not None)
        assert status_of(fork(in_child)) == 0
        real.press()
        until(lambda: len(seen) == 2)


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except HardwareError as error:
        return "was opened before this process was forked and belongs to its parent" in str(error)
    return False


@pytest.mark.parametrize("leave", [False, True])
@pytest.mark.parametrize("on_a_loop", [False, True])
def test_a_childs_use_of_its_parents_devices_is_an_error_and_closing_them_leaves_the_lines(
    real: Bench, until: Callable[..., None], on_a_loop: bool, leave: bool
) -> None:
    seen: list[int] = []
    button, led, sensor = gpiozero.Button(17), gpiozero.LED(24), gpiozero.MotionSensor(4, partial=True)
    other = gpiozero.LED(25)
    button.when_pressed = lambda: seen.append(1)
    led.on()
    other.blink(0.01, 0.01)

    def in_child() -> bool:
        told = [
            refused(lambda: button.is_pressed),
            refused(led.off),
            refused(led.blink),
            refused(lambda: sensor.pin.state),
            refused(lambda: gpiozero.Button(27)),
            refused(lambda: setattr(button.pin, "pull", "down")),
        ]
        for device in (button, led, sensor, other):
            device.close()
        gpiozero.Device.pin_factory.close()
        return all(told)

    async def main() -> int:
        return await asyncio.to_thread(status_of, fork(in_child, leave=leave))

    status = real.run(main()) if on_a_loop else status_of(fork(in_child, leave=leave))
    assert status == 0
    assert (real.board.chip.line(24).level, real.board.chip.line(24).output) == (1, 1)
    real.press()
    until(lambda: seen)
    changes = real.board.chip.line(25).changes
    until(lambda: real.board.chip.line(25).changes > changes)
    with gpiozero.Button(27):  # which needs the parent's directory of FIFOs
        pass
    assert os.path.isdir(real.board.lgpio.directory)
    for device in (button, led, sensor, other):
        device.close()


def test_the_factory_of_the_parent_is_as_new_in_the_child(real: Bench) -> None:
    factory = LoopFactory()
    with hwloop.board.using(real.board), gpiozero.LED(5, pin_factory=factory) as led:

        def in_child() -> bool:
            assert refused(led.on)
            assert not factory.pins
            with SimBoard() as board, hwloop.board.using(board):
                told = press_twice(board, factory)
                with gpiozero.LED(5, pin_factory=factory):
                    factory.close()
            return told == ["pressed", "held", "released"] * 2

        assert status_of(fork(in_child)) == 0
        led.on()
        assert real.board.chip.line(5).level == 1
        factory.close()


def test_the_child_may_not_use_mock_pins_of_the_parent_either(real: Bench) -> None:
    with (
        SimFactory(board=real.board) as given,
        gpiozero.LED(24, pin_factory=given) as led,
        SimFactory() as own,
        gpiozero.Button(17, pin_factory=own) as button,
    ):

        def in_child() -> bool:
            told = [refused(led.on), refused(lambda: button.is_pressed), refused(button.pin.drive_low)]
            told.append(refused(lambda: gpiozero.LED(5, pin_factory=given)))
            led.close()
            button.close()
            seen: list[int] = []
            with gpiozero.Button(17, pin_factory=own) as another:
                another.when_pressed = lambda: seen.append(1)
                another.pin.drive_low()
            own.close()
            given.close()
            return all(told) and seen == [1]

        assert status_of(fork(in_child)) == 0
        led.on()
        button.pin.drive_low()
        assert button.is_pressed
        assert real.board.chip.line(24).level == 1


def test_a_lock_that_another_thread_held_at_the_fork_is_not_waited_for(real: Bench) -> None:
    """The delivery's own, the steps', the factory's, and that of the list of loops."""
    from hwloop.core import registry as running

    held, over = threading.Event(), threading.Event()
    led = gpiozero.LED(24)
    led.blink(0.01, 0.01)

    def hold() -> None:
        with real.factory.delivery._lock, led._blink_thread._lock, real.factory._res_lock, running._guard:
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def in_child() -> bool:
        led.close()
        return led.closed

    child = fork(lambda: in_child() and plain_child() and loop_child())
    over.set()
    thread.join()
    assert status_of(child) == 0
    led.close()


def test_forking_leaves_nothing_behind(real: Bench) -> None:
    """Neither descriptors in the parent nor in a child that made and closed devices, nor records of deliveries."""

    def in_child() -> bool:
        plain_child()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            plain_child()
        return len(os.listdir("/proc/self/fd")) == before and not forks.LEFT

    with gpiozero.Button(17):
        assert status_of(fork(in_child)) == 0
        assert len(forks.LEFT) == 1
    if sys.version_info >= (3, 12):
        assert threading.active_count() >= 1
