"""`gpio.watch`, `gpio.output`, `serial.open`, `i2c.open` and `spi.open` are alike, and so are the streams of them."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, i2c, serial, spi

PORT = "/dev/ttyAMA0"
SOURCES: dict[str, tuple[Any, Any]] = {
    "gpio.watch": (gpio.watch, 17),
    "gpio.output": (gpio.output, 27),
    "serial.open": (serial.open, PORT),
    "i2c.open": (i2c.open, 1),
    "spi.open": (spi.open, 0),
}
STREAMS: dict[str, tuple[Any, Any]] = {
    "gpio.clicks": (gpio.clicks, 17),
    "gpio.frequency": (gpio.frequency, 17),
    "gpio.pulse_width": (gpio.pulse_width, 17),
}


def opened_on_a_board(main: Callable[[], Any]) -> None:
    with SimBoard() as board:
        board.add_port(PORT)
        hwloop.run(main(), board=board)


@pytest.fixture(params=SOURCES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_is_a_class_whose_first_argument_says_which_device_and_the_others_are_keywords(name: str) -> None:
    kind, _ = SOURCES[name]
    assert inspect.isclass(kind)
    first, *others = inspect.signature(kind).parameters.values()
    assert first.default is inspect.Parameter.empty
    keywords = {each.name for each in others if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {each.name for each in others} - keywords <= {
        "baudrate",
        "others",
        "select",
    }  # as pyserial and spidev have it
    assert "name" in keywords


def test_each_docstring_has_parameters_raises_an_example_and_a_source(name: str) -> None:
    text = inspect.getdoc(SOURCES[name][0]) or ""
    places = [text.find(f"\n{section}") for section in ("Parameters:", "Raises ", "Example:", "Source: ")]
    assert -1 not in places
    assert places == sorted(places)
    assert f"`hwloop.{name}` is this class." in text.split("\n\n")[0]
    for parameter in inspect.signature(SOURCES[name][0]).parameters:
        assert parameter == "others" or parameter in text, parameter


@pytest.mark.parametrize("name", [*SOURCES, *STREAMS])
def test_each_is_opened_and_closed_once_and_closing_is_harmless_when_repeated(name: str) -> None:
    kind, which = {**SOURCES, **STREAMS}[name]

    async def main() -> None:
        async with kind(which) as device:
            with pytest.raises(RuntimeError, match=f"{device.name} is open already"):
                device.open()
        device.close()
        device.close()
        with pytest.raises(RuntimeError, match=f"{device.name} is closed; make a new one"):
            device.open()
        async with kind(which) as again:
            assert again.name == device.name
        never = kind(which)
        never.close()
        with pytest.raises(RuntimeError, match="is closed; make a new one"):
            never.open()

    opened_on_a_board(main)


@pytest.mark.parametrize("name", ["gpio.watch", "serial.open", "i2c.open", "spi.open", *STREAMS])
def test_a_source_opened_outside_a_loop_says_what_to_do_and_can_be_opened_in_one(name: str) -> None:
    kind, which = {**SOURCES, **STREAMS}[name]
    device = kind(which)
    with pytest.raises(RuntimeError, match="no running event loop; open it in a coroutine"):
        device.open()

    async def main() -> None:
        device.open().close()

    opened_on_a_board(main)


def test_an_output_needs_no_loop_for_levels_and_says_that_pulses_do() -> None:
    with SimBoard() as board, hwloop.board.using(board), gpio.output(27) as lamp:
        lamp.set(1)
        assert lamp.value == 1
        with pytest.raises(RuntimeError, match="no running event loop"):
            lamp.pulse(0.1)


def test_a_name_must_be_text(name: str) -> None:
    kind, which = SOURCES[name]
    with pytest.raises(TypeError, match="name must be text, not 5"):
        kind(which, name=5)


@pytest.mark.parametrize("name", ["gpio.watch", "serial.open", "i2c.open", "spi.open"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reopen": 5}, "reopen must be a Backoff or None, not 5"),
        ({"on_reopen": 5}, "on_reopen must be a function of the source, not 5"),
        ({"priority": "soon"}, "priority"),
        ({"when_full": "wait"}, "when_full must be one of drop-oldest, drop-newest, pause, not 'wait'"),
        ({"queue_size": 0}, "queue_size must be at least 1, not 0"),
        ({"queue_size": 10**30}, f"queue_size must be at most {sys.maxsize}"),
    ],
)
def test_the_options_of_every_source_are_checked_in_the_same_words(
    name: str, options: dict[str, Any], message: str
) -> None:
    kind, which = SOURCES[name]
    with pytest.raises((TypeError, ValueError), match=message):
        kind(which, **options)


def test_the_loop_lists_open_sources_and_no_closed_ones() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with gpio.watch(17) as watch, serial.open(PORT) as port, i2c.open(1) as bus, spi.open(0) as device:
            assert loop.sources() == [watch, port, bus, device]  # type: ignore[attr-defined]
        assert loop.sources() == []  # type: ignore[attr-defined]

    opened_on_a_board(main)
