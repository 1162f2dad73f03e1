"""Names for reports are short, on one line, and never raise."""

from __future__ import annotations

import functools

import pytest

from hwloop.naming import LONGEST, place_of, short_name


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
