"""The page on scenarios lists all steps with their keys and defaults, and no others."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from hwloop.testing import scenario
from hwloop.testing.scenario.step import Expectation, keys_of
from hwloop.testing.scenario.steps import STEPS
from hwloop.testing.scenario.times import is_duration, parse_duration

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| [^|]*\| ([^|]*)\|$", PAGE, re.MULTILINE))
EVERYWHERE = {"at", "after", "within", "fields"}


def listed(verb: str) -> dict[str, str]:
    """Return the keys in a row, with the default that stands after each, or an empty text."""
    outside = re.sub(r"\([^()]*\)", "", ROWS[verb])
    return dict(re.findall(r"`(\w+)(?: = ([^`]+))?`", outside))


def test_the_page_lists_all_verbs() -> None:
    assert set(ROWS) == set(STEPS)


@pytest.mark.parametrize("verb", STEPS)
def test_a_row_lists_the_keys_of_a_step(verb: str) -> None:
    kind = STEPS[verb]
    keys = {key: each for key, each in keys_of(kind).items() if key != verb and key not in EVERYWHERE}
    shown = listed(verb)
    assert set(shown) == set(keys)
    hints = typing.get_type_hints(kind, include_extras=True)
    for key, each in keys.items():
        if (
            each.default is dataclasses.MISSING
            or each.default is None
            or each.default_factory is not dataclasses.MISSING
        ):
            continue
        default = shown[key].strip('"')
        if is_duration(hints[each.name]):
            assert parse_duration(default) == each.default
        else:
            assert default == str(each.default).lower()


@pytest.mark.parametrize("verb", STEPS)
def test_every_class_is_public_and_named_like_its_verb(verb: str) -> None:
    kind = STEPS[verb]
    assert kind.__name__ == verb.title().replace("_", "")
    assert getattr(scenario, kind.__name__) is kind
    assert kind.__doc__


def test_no_verb_is_a_key_of_another_step() -> None:
    """Otherwise a key of a step might be read as its verb."""
    keys = {key for verb, kind in STEPS.items() for key in keys_of(kind) if key != verb}
    assert not keys & set(STEPS)


def test_within_is_a_key_of_all_expectations_and_of_nothing_else() -> None:
    assert {verb for verb, kind in STEPS.items() if "within" in keys_of(kind)} == {
        verb for verb, kind in STEPS.items() if issubclass(kind, Expectation)
    }
