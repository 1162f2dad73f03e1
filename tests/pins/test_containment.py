"""Whatever a handler of gpiozero's devices raises: it is reported with the device's name and harms nobody else."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import gpiozero
import pytest
from pins_bench import Bench


class Odd(BaseException):
    """An exception of a library that is none of Exception's."""


RAISED = [asyncio.CancelledError, GeneratorExit, Odd, ZeroDivisionError]


class Handler:
    """A callable that raises, and so does naming it."""

    def __init__(self, error: type[BaseException], calls: list[int]) -> None:
        self.error, self.calls = error, calls
        self.__name__ = "handler"  # which gpiozero asks of a callable

    def __call__(self, *_: object) -> None:
        self.calls.append(1)
        raise self.error

    def __repr__(self) -> str:
        raise Odd


def kinds(error: type[BaseException], calls: list[int]) -> list[Callable[[], Any]]:
    def plain(*_: object) -> None:
        calls.append(1)
        raise error

    async def coroutine() -> None:
        calls.append(1)
        await asyncio.sleep(0)
        raise error

    return [plain, functools.partial(plain, 1), coroutine, Handler(error, calls)]


@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("kind", range(4), ids=["function", "partial", "coroutine", "callable"])
def test_a_handler_that_raises_is_reported_and_all_others_are_served(
    virtual: Bench, error: type[BaseException], kind: int
) -> None:
    calls: list[int] = []
    others: list[str] = []

    async def main() -> None:
        with (
            gpiozero.Button(17, hold_time=0.3) as bad,
            gpiozero.Button(27, hold_time=0.3) as good,
            gpiozero.LED(24) as led,
        ):
            bad.when_pressed = kinds(error, calls)[kind]
            bad.when_held = kinds(error, calls)[kind]
            bad.when_released = lambda: others.append("released")
            good.when_pressed = lambda: others.append("good")
            good.when_held = lambda: others.append("held")
            led.blink(0.1, 0.1)
            for _ in range(2):
                virtual.press(17)
                virtual.press(27)
                await asyncio.sleep(0.5)
                virtual.release(17)
                virtual.release(27)
                await asyncio.sleep(0.5)
            changes = virtual.board.chip.line(24).changes
            await asyncio.sleep(1)
            assert virtual.board.chip.line(24).changes == changes + 10

    virtual.run(main())
    assert len(calls) == 4
    assert sorted(others) == ["good", "good", "held", "held", "released", "released"]
    assert [type(report["exception"]) for report in virtual.reports] == [error] * 4
    for report, name in zip(virtual.reports, ["when_activated", "when_held"] * 2, strict=True):
        assert f"{name} of <gpiozero.Button object on pin GPIO17" in report["message"]
        assert "\n" not in report["message"]
        if kind < 2:
            assert "test_containment.py:" in report["message"]


@pytest.mark.parametrize("error", RAISED)
def test_the_handlers_of_an_encoder_and_of_a_raw_pin_are_contained(virtual: Bench, error: type[BaseException]) -> None:
    def fail(*_: object) -> None:
        raise error

    async def main() -> int:
        pin = virtual.factory.pin("GPIO22")
        pin.input_with_pull("up")
        pin.when_changed = fail
        with gpiozero.RotaryEncoder(5, 6) as encoder:
            encoder.when_rotated = encoder.when_rotated_clockwise = fail
            for line, level in ((22, 0), (5, 0), (6, 0), (22, 1), (5, 1), (6, 1)):
                virtual.board.chip.line(line).drive(level)
                await asyncio.sleep(0.01)
            pin.close()
            return int(encoder.steps)

    assert virtual.run(main()) == 1
    messages = [report["message"] for report in virtual.reports]
    assert [type(report["exception"]) for report in virtual.reports] == [error] * 4
    assert sum("GPIO22" in message for message in messages) == 2
    assert sum("when_rotated" in message and "RotaryEncoder" in message for message in messages) == 2


@pytest.mark.parametrize("error", RAISED)
def test_a_source_that_raises_ends_alone(virtual: Bench, error: type[BaseException]) -> None:
    def values() -> Any:
        yield 1
        raise error

    async def main() -> None:
        with gpiozero.LED(24) as bad, gpiozero.LED(25) as led, gpiozero.LED(26) as follower:
            led.blink(0.05, 0.05)
            follower.source = led
            bad.source = values()
            await asyncio.sleep(1)
            changes = [virtual.board.chip.line(line).changes for line in (25, 26)]
            assert bad.is_lit
            await asyncio.sleep(1)
            assert all(
                virtual.board.chip.line(line).changes >= before + 15
                for line, before in zip((25, 26), changes, strict=True)
            )

    virtual.run(main())
    assert [type(report["exception"]) for report in virtual.reports] == [error]
    assert "follow_source of <gpiozero.LED object on pin GPIO24" in virtual.reports[0]["message"]


@pytest.mark.parametrize("error", [KeyError if error is ZeroDivisionError else error for error in RAISED])
def test_a_smoothing_function_that_raises_once_is_reported_once_and_the_sensor_goes_on(
    virtual: Bench, error: type[BaseException]
) -> None:
    failures = [error] * 7

    def average(samples: Any) -> float:
        if failures:
            raise failures.pop()
        return sum(samples) / len(samples)

    async def main() -> bool:
        with gpiozero.SmoothedInputDevice(4, average=average, sample_wait=0.01, queue_len=3) as sensor:
            sensor._queue.start()
            virtual.board.chip.line(4).drive(1)
            await asyncio.sleep(1)
            return bool(sensor.is_active)

    assert virtual.run(main())
    assert [type(report["exception"]) for report in virtual.reports] == [error]
    assert "smoothing of <gpiozero.SmoothedInputDevice object on pin GPIO4" in virtual.reports[0]["message"]


def test_a_cancelled_handler_task_is_no_failure(virtual: Bench) -> None:
    tasks: list[Any] = []

    async def pressed() -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(60)

    async def main() -> None:
        with gpiozero.Button(17) as button:
            button.when_pressed = pressed
            virtual.press()
            await asyncio.sleep(0.01)
            tasks[0].cancel()
            await asyncio.sleep(0.01)
            virtual.release()
            virtual.press()
            await asyncio.sleep(0.01)  # the second one is cancelled as the loop ends

    virtual.run(main())
    assert [task.cancelled() for task in tasks] == [True, True]
    assert virtual.reports == []


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_exit_in_a_handler_ends_the_run_and_the_next_run_gets_the_rest(real: Bench, asynchronous: bool) -> None:
    seen: list[str] = []

    def leave() -> None:
        seen.append("leave")
        raise SystemExit(7)

    async def leave_later() -> None:
        leave()

    async def first() -> None:
        real.press(17)
        real.press(27)
        await asyncio.sleep(60)

    async def second() -> None:
        while len(seen) < 2:
            await asyncio.sleep(0.001)

    with gpiozero.Button(17) as button, gpiozero.Button(27) as other:
        button.when_pressed = leave_later if asynchronous else leave
        other.when_pressed = lambda: seen.append("other")
        with pytest.raises(SystemExit) as exit_:
            real.run(first())
        assert exit_.value.code == 7
        real.run(second())
    assert sorted(seen) == ["leave", "other"]
    assert real.reports == []


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, Odd])
@pytest.mark.parametrize("kind", range(3), ids=["function", "partial", "coroutine"])
def test_without_a_loop_a_handler_that_raises_ends_alone(
    real: Bench,
    until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
    kind: int,
) -> None:
    calls: list[int] = []
    seen: list[str] = []
    with gpiozero.Button(17, hold_time=0.01, hold_repeat=True) as bad, gpiozero.Button(27) as good:
        bad.when_pressed = kinds(error, calls)[kind]
        bad.when_held = kinds(error, calls)[kind]
        good.when_pressed = lambda: seen.append(threading.current_thread().name)
        for count in (1, 2):
            real.press(17)
            real.press(27)
            until(lambda: len(calls) >= 4 * count and len(seen) == count)  # noqa: B023
            real.release(17)
            real.release(27)
            until(lambda: bad.inactive_time is not None and good.inactive_time is not None)
    real.factory.close()
    assert seen == ["hwloop pins"] * 2
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not records if error is SystemExit else len(records) >= 2


def test_a_task_of_a_handler_that_exits_does_not_end_the_thread(real: Bench, until: Callable[..., None]) -> None:
    seen: list[int] = []

    async def leave() -> None:
        raise SystemExit

    async def pressed() -> None:
        seen.append(1)
        asyncio.get_running_loop().create_task(leave()).add_done_callback(lambda task: task.exception())
        await asyncio.sleep(0)

    with gpiozero.Button(17) as button:
        button.when_pressed = pressed
        for count in (1, 2):
            real.press()
            until(lambda: len(seen) == count)  # noqa: B023
            real.release()
            until(lambda: button.inactive_time is not None)


def test_a_handler_may_close_its_device(virtual: Bench) -> None:
    async def main() -> None:
        for act in (virtual.press, virtual.release):
            button = gpiozero.Button(17, hold_time=0.1)
            button.when_pressed = button.when_released = button.close
            if act == virtual.release:
                button.when_pressed = lambda: None
                virtual.press()
                await asyncio.sleep(0.01)
            act()
            await asyncio.sleep(0.2)
            assert button.closed
            virtual.release()

    virtual.run(main())
    assert virtual.reports == []


def test_a_pin_that_can_not_be_closed_does_not_keep_the_others_open(
    virtual: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError("the chip is gone")

    first, second = gpiozero.LED(24), gpiozero.LED(25)
    with monkeypatch.context() as patch:
        patch.setattr(first.pin, "_open_edges", gone)
        virtual.factory.close()
    assert virtual.board.chip.line(25).consumer is None
    assert "pin" in caplog.text.lower()
    assert "GPIO24" in caplog.text
    first.pin._release()
    second.close()
