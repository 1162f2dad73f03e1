"""A level is a fact, an edge a hint: what a device is after its reports were lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import gpiozero
import pytest
from pins_bench import Bench

from firmware_sim.libraries.lgpio.alerts import Notifications


@contextlib.contextmanager
def silence(bench: Bench) -> Iterator[None]:
    """Edges in this block are not reported."""
    fifos = [held for held in bench.board.lgpio.handles.values() if isinstance(held, Notifications)]
    for fifo in fifos:
        fifo.paused = True
    yield
    for fifo in fifos:
        fifo.paused = False


def lose(bench: Bench, act: Callable[[], object]) -> None:
    """Act without a report."""
    with silence(bench):
        act()


@pytest.mark.parametrize("after", [0.01, 0.3, 5, 60, 3600])
@pytest.mark.parametrize("bounce_time", [None, 0.01, 1])
def test_a_lone_release_whose_report_was_lost_is_found(virtual: Bench, after: float, bounce_time: float | None) -> None:
    seen: list[str] = []

    async def main() -> None:
        with gpiozero.Button(17, bounce_time=bounce_time) as button, gpiozero.Button(27):
            button.when_pressed = lambda: seen.append("pressed")
            button.when_released = lambda: seen.append("released")
            virtual.press()
            await asyncio.sleep(after + (bounce_time or 0))
            with silence(virtual):
                virtual.release()
                await asyncio.sleep((bounce_time or 0) + 0.001)
            await asyncio.sleep(max(0.2, min(after, 11)) + 3 * (bounce_time or 0))
            assert not button.is_active
            assert button.active_time is None
            assert seen == ["pressed", "released"]
            assert button.pin.factory.board.chip.line(17).reports == 1

    virtual.run(main())


def test_a_lone_press_whose_report_was_lost_soon_after_another_edge_is_found(virtual: Bench) -> None:
    seen: list[str] = []

    async def main() -> None:
        with gpiozero.Button(17) as button:
            button.when_pressed = lambda: seen.append("pressed")
            virtual.press()
            virtual.release()
            await asyncio.sleep(4)
            lose(virtual, virtual.press)
            await asyncio.sleep(10)
            assert button.active_time is not None
            assert seen == ["pressed", "pressed"]

    virtual.run(main())


def test_without_a_loop_a_lone_lost_release_is_found_by_the_thread(real: Bench, until: Callable[..., None]) -> None:
    with gpiozero.Button(17) as button:
        real.press()
        until(lambda: button.active_time is not None)
        time.sleep(0.1)
        lose(real, real.release)
        until(lambda: button.active_time is None)


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_lost_release_between_two_presses_is_made_up_for(virtual: Bench, pairs: int) -> None:
    seen: list[str] = []

    def release_and_press() -> None:
        for _ in range(pairs):
            virtual.release()
            virtual.press()

    async def main() -> int:
        with gpiozero.Button(17) as button:
            button.when_pressed = lambda: seen.append("pressed")
            button.when_released = lambda: seen.append("released")
            virtual.press()
            await asyncio.sleep(0.01)
            lose(virtual, virtual.release)
            virtual.press()
            await asyncio.sleep(0.001)
            virtual.release()
            await asyncio.sleep(0.01)
            lose(virtual, release_and_press)
            virtual.release()
            await asyncio.sleep(1)
            return int(button.pin.lost)

    # Of an even number of edges that are lost together nothing can be known.
    lost = virtual.run(main())
    assert seen == ["pressed", "released"] * 2 + ["pressed", "released"] * (lost == 2)
    assert lost in (1, 2)


def test_lost_edges_of_an_encoder_are_counted(virtual: Bench) -> None:
    async def main() -> tuple[int, int]:
        with gpiozero.RotaryEncoder(5, 6, max_steps=0) as encoder:
            for turn in range(20):
                for line, level in ((5, 0), (6, 0), (5, 1), (6, 1)):
                    drive: Any = virtual.board.chip.line(line).drive
                    if (turn, line, level) in ((7, 5, 1), (12, 6, 0)):
                        lose(virtual, lambda drive=drive, level=level: drive(level))
                    else:
                        drive(level)
                    await asyncio.sleep(0.0001)
            await asyncio.sleep(1)
            return int(encoder.steps), int(encoder.a.pin.lost + encoder.b.pin.lost)

    steps, lost = virtual.run(main())
    assert lost == 2
    assert 17 <= steps <= 20


def test_idle_buttons_leave_the_loop_alone(virtual: Bench) -> None:
    async def main() -> int:
        with gpiozero.Button(17), gpiozero.Button(27):
            virtual.press()
            virtual.release()
            await asyncio.sleep(60)
            delivery = virtual.factory.delivery
            assert (delivery._quiet, delivery._later) == (None, None)
            virtual.press()
            await asyncio.sleep(60)
            assert delivery._quiet is not None
            return round(delivery._quiet.when() - asyncio.get_running_loop().time())

    assert virtual.run(main()) in range(11)
