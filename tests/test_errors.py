"""Tracebacks of hardware errors: they show the program's own lines, and in debug mode all others too."""

from __future__ import annotations

import asyncio
import traceback
from types import TracebackType

import pytest

import hwloop
from hwloop import serial
from hwloop.errors import program_frames, suggestion


async def opened() -> None:
    async with serial.open("/dev/nowhere", 9600):
        pass


async def twice() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(opened())
        tasks.create_task(opened())


async def broken() -> None:
    await asyncio.wait_for(opened_wrongly(), 60)


async def opened_wrongly() -> None:
    serial.open("/dev/nowhere", 9600, framing=5)  # type: ignore[arg-type]


def functions(shown: TracebackType | None) -> list[str]:
    """Return the names of the functions in a traceback, without the test's own."""
    return [frame.name for frame in traceback.extract_tb(shown)][1:]


def test_a_hardware_error_shows_the_lines_of_the_program_only() -> None:
    with pytest.raises(hwloop.HardwareError) as raised:
        hwloop.run(opened(), board={})
    assert functions(raised.tb) == ["opened"]


def test_each_one_in_a_group_does() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        hwloop.run(twice(), board={})
    assert functions(raised.tb) == ["twice"]
    assert [functions(error.__traceback__) for error in raised.value.exceptions] == [[], []]
    assert traceback.extract_tb(raised.value.exceptions[0].__traceback__)[0].name == "opened"


def test_debug_mode_shows_all() -> None:
    with pytest.raises(hwloop.HardwareError) as raised:
        hwloop.run(opened(), board={}, debug=True)
    shown = functions(raised.tb)
    assert shown[0] == "run"
    assert "opened" in shown[:-1]


def test_other_errors_keep_every_frame() -> None:
    with pytest.raises(TypeError) as raised:
        hwloop.run(broken(), board={})
    shown = functions(raised.tb)
    assert shown[0] == "run"
    assert "wait_for" in shown


def test_a_group_with_another_error_keeps_the_frames_of_the_group() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(opened())
            tasks.create_task(broken())

    with pytest.raises(ExceptionGroup) as raised:
        hwloop.run(main(), board={})
    assert "__aexit__" in functions(raised.tb)
    first, second = raised.value.exceptions
    assert functions(first.__traceback__) == []
    assert "wait_for" in functions(second.__traceback__)


def test_a_traceback_without_a_frame_of_the_program_is_left_as_it_is() -> None:
    with pytest.raises(TypeError) as raised:
        opened_wrongly().send(None)
    assert raised.tb is not None
    internal = raised.tb.tb_next and raised.tb.tb_next.tb_next  # below the test's frame and the coroutine's
    assert program_frames(internal) is internal is not None


@pytest.mark.parametrize(("word", "hint"), [("lniux", "; did you mean linux?"), ("xyz", ""), ("", "")])
def test_a_misspelt_word_gets_the_closest_one(word: str, hint: str) -> None:
    assert suggestion(word, iter(("auto", "linux"))) == hint
