"""Holds follow the time stamps of press and release, whenever these are delivered."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import gpiozero
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pins_bench import Bench, bench_on

import hwloop
from firmware_sim import SimBoard
from firmware_sim.libraries.lgpio.alerts import Notifications
from hwloop.pins import SimFactory

MS = 1_000_000


def play(bench: Bench, *steps: tuple[int, int, int]) -> None:
    """Plan changes of level: (milliseconds from now, line, level)."""
    timeline = bench.board.timeline
    now_ns = timeline.now_ns()
    for milliseconds, number, level in steps:
        line = bench.board.chip.line(number)
        timeline.at(now_ns + milliseconds * MS, lambda line=line, level=level: line.drive(level))  # type: ignore[misc]


def listen(device: Any, seen: list[str], name: str = "") -> None:
    device.when_pressed = lambda: seen.append(f"{name}pressed")
    device.when_held = lambda: seen.append(f"{name}held")
    device.when_released = lambda: seen.append(f"{name}released")


@pytest.mark.parametrize(
    ("held_ms", "repeat", "holds"),
    [
        (200, False, 0), (299, False, 0), (300, False, 1), (301, False, 1), (900, False, 1),
        (299, True, 0), (300, True, 1), (599, True, 1), (600, True, 2), (1000, True, 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("busy_for", [0, 0.1, 0.35, 5])
def test_a_hold_is_what_lies_between_press_and_release(
    virtual: Bench, held_ms: int, repeat: bool, holds: int, busy_for: float
) -> None:
    seen: list[str] = []

    async def main() -> None:
        with gpiozero.Button(17, hold_time=0.3, hold_repeat=repeat) as button:
            listen(button, seen)
            play(virtual, (10, 17, 0), (10 + held_ms, 17, 1))
            await asyncio.sleep(0.005)
            virtual.busy(busy_for)
            await asyncio.sleep(3)
            assert not button.is_held

    virtual.run(main())
    assert seen == ["pressed", *["held"] * holds, "released"]


def test_events_while_the_loop_was_busy_are_reported_in_order(virtual: Bench) -> None:
    seen: list[str] = []

    async def main() -> None:
        with (
            gpiozero.Button(17, hold_time=0.3, hold_repeat=True) as first,
            gpiozero.Button(27, hold_time=0.25) as second,
            gpiozero.Button(22, hold_time=0.1) as third,
        ):
            for device, name in ((first, "1 "), (second, "2 "), (third, "3 ")):
                listen(device, seen, name)
            play(
                virtual, (0, 17, 0), (100, 27, 0), (320, 22, 0), (400, 22, 1), (450, 22, 0), (500, 27, 1),
                (520, 22, 1), (700, 17, 1), (710, 17, 0), (800, 17, 1),
            )  # fmt: skip
            virtual.busy(1)
            await asyncio.sleep(1)

    virtual.run(main())
    assert seen == [
        "1 pressed", "2 pressed", "1 held", "3 pressed", "2 held", "3 released", "3 pressed", "2 released",
        "3 released", "1 held", "1 released", "1 pressed", "1 released",
    ]  # fmt: skip


def test_the_times_of_a_late_hold_are_those_of_the_edges(virtual: Bench) -> None:
    times: list[tuple[float, float]] = []

    async def main() -> None:
        with gpiozero.Button(17, hold_time=1) as button:
            button.when_held = lambda: times.append((button.held_time, button.active_time))
            virtual.press()
            virtual.busy(4)
            await asyncio.sleep(1)
            assert button.held_time == pytest.approx(4)
            assert button.is_held

    virtual.run(main())
    assert times == [(pytest.approx(3), pytest.approx(4))]


def test_a_release_that_was_lost_proves_no_hold(virtual: Bench) -> None:
    seen: list[str] = []

    async def main() -> None:
        with gpiozero.Button(17, hold_time=0.3) as button:
            listen(button, seen)
            await asyncio.sleep(1)
            virtual.press()
            await asyncio.sleep(0.2)
            for held in virtual.board.lgpio.handles.values():
                if isinstance(held, Notifications):
                    held.paused = True
            virtual.release()
            virtual.busy(5)
            await asyncio.sleep(12)

    virtual.run(main())
    assert seen == ["pressed", "released"]


def test_a_board_of_buttons_is_held_by_its_lines_as_reported(virtual: Bench) -> None:
    seen: list[str] = []

    async def main() -> None:
        with gpiozero.ButtonBoard(17, 27, hold_time=0.3) as board:
            listen(board, seen)
            board.when_changed = lambda: seen.append("changed")
            play(virtual, (0, 17, 0), (200, 27, 0), (250, 17, 1), (400, 27, 1), (500, 17, 0), (600, 17, 1))
            virtual.busy(1)
            await asyncio.sleep(1)

    virtual.run(main())
    assert seen == ["pressed", "changed", "held", "released", "changed", "pressed", "changed", "released", "changed"]


@pytest.mark.parametrize("hold_time", [0, 0.05])
def test_a_hold_ends_when_its_device_is_closed_or_gone(virtual: Bench, hold_time: float) -> None:
    seen: list[str] = []

    async def main() -> None:
        button: Any = gpiozero.Button(17, hold_time=hold_time, hold_repeat=True)

        def held() -> None:
            seen.append("held")
            if len(seen) == 2:
                button.close()

        button.when_held = held
        virtual.press()
        virtual.busy(1)
        await asyncio.sleep(1)
        assert button.closed
        assert not virtual.factory.delivery._holds
        assert not virtual.factory.delivery._steps
        another: Any = gpiozero.Button(17, hold_time=hold_time + 0.01, hold_repeat=True)
        assert another.is_pressed
        virtual.release()
        virtual.press()
        await asyncio.sleep(0.1)
        del another
        await asyncio.sleep(0.1)

    virtual.run(main())
    assert len(seen) == 2
    assert virtual.reports == []


# Without a loop.


def busy_scene(bench: Bench, seen: list[str], button: Any, until: Callable[..., None], held_ms: int) -> None:
    """Another button's handler keeps the thread busy while this one is pressed and released."""
    entered, leave = threading.Event(), threading.Event()
    with gpiozero.Button(27) as other:
        other.when_pressed = lambda: (entered.set(), leave.wait(20))
        listen(button, seen)
        bench.press(27)
        entered.wait()
        bench.press(17)
        time.sleep(held_ms / 1000)
        bench.release(17)
        leave.set()
        until(lambda: "released" in seen)
        bench.release(27)


@pytest.mark.parametrize(("held_ms", "holds"), [(0, 0), (60, 1)])
def test_a_busy_thread_tells_of_a_hold_too(real: Bench, until: Callable[..., None], held_ms: int, holds: int) -> None:
    seen: list[str] = []
    with gpiozero.Button(17, hold_time=0.05 if holds else 10) as button:
        busy_scene(real, seen, button, until, held_ms)
    assert seen == ["pressed", *["held"] * holds, "released"]


def test_a_hold_time_that_is_shortened_during_a_hold_in_a_script_counts_from_the_press(
    real: Bench, until: Callable[..., None]
) -> None:
    seen: list[str] = []
    with gpiozero.Button(17, hold_time=600) as button, gpiozero.Button(27) as other:
        listen(button, seen)
        other.when_pressed = lambda: seen.append("other pressed")
        real.press(17)
        until(lambda: seen)
        button.hold_time = 0
        real.release(17)
        real.press(27)
        until(lambda: len(seen) == 4)
    assert seen == ["pressed", "held", "released", "other pressed"]


def test_a_hold_in_a_script_does_not_wait_for_another_buttons_handler(real: Bench, until: Callable[..., None]) -> None:
    entered, leave, held = threading.Event(), threading.Event(), threading.Event()
    with gpiozero.Button(17, hold_time=0.01) as button, gpiozero.Button(27) as other:
        button.when_held = held.set
        other.when_pressed = lambda: (entered.set(), leave.wait(20))
        real.press(17)
        real.press(27)
        assert entered.wait(20)
        assert held.wait(20)
        leave.set()


def test_a_handler_in_a_script_may_wait_for_the_release(real: Bench, until: Callable[..., None]) -> None:
    seen: list[str] = []
    with gpiozero.Button(17, hold_time=0.01) as button:

        def held() -> None:
            seen.append("held")
            if button.wait_for_release(20):
                seen.append("waited")

        button.when_held = held
        button.when_released = lambda: seen.append("released")
        real.press()
        until(lambda: seen)
        real.release()
        until(lambda: len(seen) == 3)
    assert sorted(seen) == ["held", "released", "waited"]


def test_a_long_hold_handler_in_a_script_holds_up_no_edge(real: Bench, until: Callable[..., None]) -> None:
    seen: list[int] = []
    entered, leave = threading.Event(), threading.Event()
    with gpiozero.Button(17, hold_time=0.01, hold_repeat=True) as button, gpiozero.Button(27) as other:
        button.when_held = lambda: (entered.set(), leave.wait(20))
        other.when_pressed = lambda: seen.append(1)
        real.press(17)
        assert entered.wait(20)
        start = time.monotonic()
        for count in range(1, 101):
            real.press(27)
            real.release(27)
            until(lambda: len(seen) == count)  # noqa: B023
        assert time.monotonic() - start < 10  # 100 times the 0.2 s that an edge waits for a late hold is 20
        leave.set()


def test_a_mock_pin_is_held_too() -> None:
    seen: list[str] = []
    clock = hwloop.VirtualClock()

    async def main() -> None:
        with gpiozero.Button(17, hold_time=0.3, pin_factory=factory) as button:
            listen(button, seen)
            button.pin.drive_low()
            await asyncio.sleep(0.2)
            button.pin.drive_high()
            button.pin.drive_low()
            await asyncio.sleep(0.4)
            button.pin.drive_high()
            await asyncio.sleep(1)

    with SimBoard(clock=clock) as board, SimFactory(board=board) as factory:
        hwloop.run(main(), board=board, clock=clock)
    assert seen == ["pressed", "released", "pressed", "held", "released"]


# Against a model.


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_pressed_and_however_busy_the_loop_is_handlers_follow_the_time_stamps(seed: int) -> None:
    chance = random.Random(seed)
    lines = (17, 27, 22)[: chance.randint(1, 3)]
    options = {line: (chance.choice((50, 100, 170)), chance.random() < 0.5) for line in lines}
    steps, expected = [], []
    for line, (hold_ms, repeat) in options.items():
        at = chance.randint(1, 40)
        for _ in range(chance.randint(1, 6)):
            pressed, released = at, at + chance.choice((1, 20, hold_ms - 1, hold_ms, hold_ms + 1, 250, 700))
            steps += [(pressed, line, 0), (released, line, 1)]
            expected += [(pressed, line, "pressed"), (released, line, "released")]
            holds = (released - pressed) // hold_ms
            expected += [
                (pressed + hold_ms * number, line, "held")
                for number in range(1, (holds if repeat else min(holds, 1)) + 1)
            ]
            at = released + chance.choice((1, 30, 200))
    got: list[tuple[int, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        devices = {}
        for line, (hold_ms, repeat) in options.items():
            device = devices[line] = gpiozero.Button(line, hold_time=hold_ms / 1000, hold_repeat=repeat)
            device.when_pressed = lambda line=line: got.append((line, "pressed"))
            device.when_held = lambda line=line: got.append((line, "held"))
            device.when_released = lambda line=line: got.append((line, "released"))
        play(bench, *steps)
        end = loop.time() + max(steps)[0] / 1000 + 1
        while loop.time() < end:
            await asyncio.sleep(chance.choice((0, 0.001, 0.05, 0.3)))
            bench.busy(chance.choice((0, 0, 0.001, 0.04, 0.5, 2)))
        await asyncio.sleep(1)
        for device in devices.values():
            device.close()

    with bench_on(SimBoard(clock=hwloop.VirtualClock())) as bench:
        bench.run(main())
    assert bench.reports == []
    for line in lines:
        own = sorted((when, what != "held", what) for when, its, what in expected if its == line)
        assert [what for its, what in got if its == line] == [what for _, _, what in own], (line, options, own)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32))
@pytest.mark.slow
def test_whatever_is_lost_devices_end_as_their_lines_are_and_handlers_take_turns(seed: int) -> None:
    chance = random.Random(seed)
    lines = (17, 27)
    seen: dict[int, list[str]] = {line: [] for line in lines}

    async def main() -> None:
        devices = {}
        for line in lines:
            device = devices[line] = gpiozero.Button(
                line, hold_time=0.1, hold_repeat=chance.random() < 0.5, bounce_time=chance.choice((None, None, 0.01))
            )
            listen(device, seen[line])
        fifos = [held for held in bench.board.lgpio.handles.values() if isinstance(held, Notifications)]
        for _ in range(chance.randint(1, 40)):
            for fifo in fifos:
                fifo.paused = chance.random() < 0.3
            line = bench.board.chip.line(chance.choice(lines))
            line.drive(1 - line.level)
            if chance.random() < 0.6:
                await asyncio.sleep(chance.choice((0, 0.0001, 0.01, 0.1, 1)))
            bench.busy(chance.choice((0, 0, 0.005, 0.2)))
        await asyncio.sleep(30)
        for line, device in devices.items():
            pressed = not bench.board.chip.line(line).level
            assert device.is_pressed == pressed
            assert (device.active_time is not None) == pressed
            assert (device.inactive_time is None) == pressed
            assert device.is_held == (pressed and "held" in seen[line][-2:] and seen[line][-1] != "released")
            turns = [what for what in seen[line] if what != "held"]
            assert turns == (["pressed", "released"] * len(turns))[: len(turns)]
            assert len(turns) % 2 == pressed
            previous = ""
            for what in seen[line]:
                assert what != "held" or previous in ("pressed", "held")
                previous = what
            device.close()

    with bench_on(SimBoard(clock=hwloop.VirtualClock())) as bench:
        bench.run(main())
    assert bench.reports == []
