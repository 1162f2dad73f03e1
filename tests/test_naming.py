"""Names for reports are short, on one line, and never raise."""

from __future__ import annotations

import functools
import sys

import pytest

from hwloop.core.naming import LONGEST, error_text, named_place, place_of, short_name, users_place
from hwloop.errors import HardwareError


class Source:
    name = "gpio:17"


class Raising:
    def __repr__(self) -> str:
        raise ValueError("no repr")


class Quitting:
    def __repr__(self) -> str:
        raise SystemExit(3)


class NameRaises:
    @property
    def name(self) -> str:
        raise BaseException("no name")


def work(data: object) -> None: ...


def test_the_name_of_a_source_comes_first() -> None:
    assert short_name(Source()) == "gpio:17"


def test_a_partial_is_named_by_its_function_whatever_its_arguments_are() -> None:
    assert short_name(functools.partial(functools.partial(work, Raising()), b"x" * 100_000)) == "work"


@pytest.mark.parametrize("thing", [Raising(), NameRaises()])
def test_an_object_that_cannot_be_named_goes_by_its_class(thing: object) -> None:
    assert short_name(thing) == f"<{type(thing).__name__} object>"


def test_an_exit_passes() -> None:
    with pytest.raises(SystemExit):
        short_name(Quitting())


def test_a_long_repr_is_clipped_to_one_line() -> None:
    name = short_name(["x" * 50 + "\n" + "y" * 100_000])
    assert len(name) == LONGEST
    assert "\n" not in name


def test_the_place_of_a_callback_is_where_its_function_begins() -> None:
    line = work.__code__.co_firstlineno
    assert place_of(functools.partial(work, 1)) == f"test_naming.py:{line}"
    assert place_of(print) == ""
    assert place_of(Raising()) == ""


def test_a_callback_is_named_with_its_place() -> None:
    assert named_place(work) == f"work (test_naming.py:{work.__code__.co_firstlineno})"
    assert named_place(print) == "print"


def test_a_function_of_hwloops_own_is_placed_where_the_program_hands_it_over() -> None:
    assert users_place(work) == place_of(work)
    line = sys._getframe().f_lineno + 1
    assert users_place(functools.partial(short_name, 1)) == f"test_naming.py:{line}"


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("gone\nfor good"), "gone for good"),
        (HardwareError("line 17", "in use", "close it"), "line 17: in use; close it"),
        (ValueError("odd"), "ValueError: odd"),
        (KeyError(), "KeyError"),
        (OSError(), "OSError"),
        (Wordless(), "Wordless"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_an_exception_is_shown_on_one_line(error: BaseException, text: str) -> None:
    assert error_text(error) == text


def test_the_text_of_an_exception_is_clipped() -> None:
    assert len(error_text(OSError("x" * 100_000))) == 300
