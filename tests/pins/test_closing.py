"""A device that is closed while a job of another thread uses it: the job ends without a report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import gpiozero
import pytest
from gpiozero.pins.mock import MockPWMPin

from firmware_sim import SimBoard
from hwloop.pins import LoopFactory, SimFactory
from hwloop.pins.device_info import pins_of

Until = Callable[[Callable[[], object]], None]


@pytest.fixture(params=["hwloop", "hwloop-sim"])
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimBoard]:
    with SimBoard() as board:
        factory = LoopFactory(board) if request.param == "hwloop" else SimFactory(board=board, pin_class=MockPWMPin)
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        yield board
        factory.close()


def half_closed(device: gpiozero.Device, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Close a device, and call `meanwhile` when its first pin is closed and the device does not know of it yet."""
    pin = next(pins_of(device))
    close = pin.close

    def close_and_call() -> None:
        close()
        meanwhile()

    with monkeypatch.context() as patch:
        patch.setattr(pin, "close", close_and_call)
        device.close()


SOURCES = {
    "output": lambda: gpiozero.LED(27),
    "pwm output": lambda: gpiozero.PWMLED(27),
    "input": lambda: gpiozero.Button(27),
    "smoothed input": lambda: gpiozero.MotionSensor(27, sample_rate=500, partial=True),
    "composite": lambda: gpiozero.ButtonBoard(27, 22),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_closed_while_it_is_read_ends_its_followers_silently(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Until, kind: str
) -> None:
    read = threading.Event()

    def values() -> Iterator[float]:
        for value in source.values:
            read.set()
            yield float(any(value) if isinstance(value, tuple) else value)

    with gpiozero.PWMLED(25) as follower:
        source = SOURCES[kind]()
        follower.source_delay = 0
        follower.source = values()
        job = follower._source_thread
        until(read.is_set)

        def read_on() -> None:
            read.clear()
            until(lambda: read.is_set() or not job.is_alive())

        half_closed(source, monkeypatch, read_on)
        until(lambda: not job.is_alive())
    assert caplog.text == ""
    assert [board.chip.line(line).consumer for line in (22, 25, 27)] == [None] * 3


OUTPUTS = {
    "colour": lambda: gpiozero.RGBLED(22, 24, 27),
    "board": lambda: gpiozero.LEDBoard(22, 24, 27),
}


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("work", ["source", "blink"])
def test_a_part_closed_while_a_job_writes_it_ends_the_job_silently(
    board: SimBoard,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    until: Until,
    kind: str,
    work: str,
) -> None:
    device = OUTPUTS[kind]()
    part = device._leds[0] if kind == "colour" else device[0]

    def ones() -> Iterator[tuple[int, int, int]]:
        while True:
            yield 1, 0, 1

    if work == "source":
        device.source_delay = 0
        device.source = ones()
        job = device._source_thread
    elif kind == "colour":
        device.blink(0.001, 0.001)
        job = device._blink_thread
    else:
        device.blink(0.001, 0.001)
        job = device._blink_thread
        part._controller = None  # closed by a thread that does not know of the board: the board goes on
    half_closed(part, monkeypatch, lambda: until(lambda: not job.is_alive()))
    device.close()
    assert caplog.text == ""
    assert [board.chip.line(line).consumer for line in (22, 24, 27)] == [None] * 3


def test_a_failing_source_of_an_open_device_is_reported(
    board: SimBoard, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    def values() -> Iterator[int]:
        yield 1
        raise ValueError

    with gpiozero.LED(25) as follower:
        follower.source = values()
        until(lambda: "follow_source" in caplog.text)
        assert "follow_source of <gpiozero.LED object on pin GPIO25> failed" in caplog.text


def test_a_closed_pin_is_not_claimed_by_reading_it() -> None:
    with SimBoard() as board:
        factory = LoopFactory(board)
        led = gpiozero.LED(17, pin_factory=factory)
        pin = led.pin
        led.close()
        with pytest.raises(gpiozero.DeviceClosed, match="GPIO17 is closed"):
            _ = pin.state
        assert board.chip.line(17).consumer is None
        with gpiozero.LED(17, initial_value=True, pin_factory=factory) as again:
            assert again.pin is pin
            assert pin.state == 1
        factory.close()


@pytest.mark.parametrize("kind", [gpiozero.LED, gpiozero.PWMLED])
def test_a_line_is_given_back_only_after_the_call_of_another_thread(
    monkeypatch: pytest.MonkeyPatch, kind: type[gpiozero.LED]
) -> None:
    """lgpio claims a line that was given back for the next call on it, and nobody would give it back again."""
    closers: list[threading.Thread] = []

    def meanwhile(*_: object) -> None:
        closers.append(threading.Thread(target=led.close))
        closers[0].start()
        closers[0].join(0.1)  # without the lock it ends within this time, and the write comes after it

    with SimBoard() as board:
        led = kind(17, pin_factory=LoopFactory(board))
        output = led.pin._output
        for method in ("set", "pwm"):
            original = getattr(output, method)
            monkeypatch.setattr(output, method, lambda *args, call=original: (closers or meanwhile(), call(*args)))
        led.value = 1
        closers[0].join()
        assert board.chip.line(17).consumer is None
        led.pin_factory.close()
