"""Scenario files: TOML, checked so that an error names the file, the line and the key.

    name = "the lamp follows the door"
    steps = [
      { at = "1s", press = "door" },
      { expect = "lamp.lit", within = "100ms" },
      { after = "2s", release = "door" },
      { expect = "lamp.lit", equals = false },
    ]

The result is the same as of `Scenario` and the classes of steps in Python.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firmware_sim.fields import FieldError, check_value
from hwloop.testing.scenario import lines_of_keys as locator
from hwloop.testing.scenario.errors import KeyProblem, Place, ScenarioError, meant
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.step import Step, keys_of
from hwloop.testing.scenario.steps import STEPS
from hwloop.testing.scenario.times import is_duration, parse_duration

_HEAD: dict[str, Any] = {"name": str, "board": str, "seed": int, "within": float, "steps": list}
_COMMON = ("at", "after", "within")
_SYNTAX = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)")


def load(path: str | os.PathLike[str]) -> Scenario:
    """Read a scenario file. Raises `ScenarioError`."""
    file = os.fspath(path)
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ScenarioError(f"{file}: {error.strerror}; give the path of a scenario file") from error
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{file}: not a text in UTF-8") from error
    return parse(text, file)


def parse(text: str, file: str = "scenario") -> Scenario:
    """Return the scenario that a text in TOML describes; `file` is its name for messages and for relative paths.

    Raises `ScenarioError`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text, file) from None
    return _Reader(file, locator.lines_of_keys(text)).scenario(document)


def _syntax_error(message: str, text: str, file: str) -> ScenarioError:
    match = _SYNTAX.fullmatch(message)
    line = text.rstrip("\n").count("\n") + 1 if match is None or match[2] is None else int(match[2])
    said = message if match is None else match[1]
    return ScenarioError(f"{file}:{line}: not valid TOML: {said[0].lower()}{said[1:]}")


class _Reader:
    """Makes the objects of a parsed document, and knows the lines of its keys."""

    def __init__(self, file: str, lines: Mapping[locator.Path, int]) -> None:
        self._file = file
        self._lines = lines

    def scenario(self, document: dict[str, Any]) -> Scenario:
        head = Place(self._file, 1, {key: self._lines[key,] for key in document})
        for key, value in document.items():
            if key not in _HEAD:
                raise head.error(key, f"unknown key; known are {', '.join(_HEAD)}{meant(key, _HEAD)}")
            if key == "steps" and not isinstance(value, list):
                raise head.error(key, f"must be a list of steps, not {value!r}")
            document[key] = _checked(head, key, value, _HEAD[key], is_time=key == "within")
        if "steps" not in document:
            raise ScenarioError(f'{self._file}:1: steps: missing; write steps = [ {{ press = "door" }}, … ]')
        steps = self._steps(head, "steps", document.pop("steps"), ("steps",))
        return Scenario(steps, **document, file=self._file)

    def _steps(self, owner: Place, key: str, entries: list[Any], path: locator.Path) -> list[Step]:
        if not entries:
            raise owner.error(key, "must have at least one step")
        return [self._step(entry, (*path, number)) for number, entry in enumerate(entries)]

    def _step(self, entry: Any, path: locator.Path) -> Step:
        line = self._lines[path]
        if not isinstance(entry, dict):
            raise Place(self._file, line).error("", f'a step is written as {{ press = "door" }}, not {entry!r}')
        place = Place(self._file, line, {key: self._lines[*path, key] for key in entry})
        kind = _kind_of(place, entry)
        fields = keys_of(kind)
        hints, marked = typing.get_type_hints(kind), typing.get_type_hints(kind, include_extras=True)
        rest = fields.pop("fields", None)
        given, others = dict[str, Any](), dict[str, Any]()
        for key, value in entry.items():
            if key in fields:
                name = fields[key].name
                if hints[name] == list[Step]:
                    if not isinstance(value, list):
                        raise place.error(key, f"must be a list of steps, not {value!r}")
                    given[name] = self._steps(place, key, value, (*path, key))
                else:
                    given[name] = _checked(place, key, value, hints[name], is_time=is_duration(marked[name]))
            elif rest is not None:
                others[key] = value
            else:
                raise place.error(
                    key, f"unknown key of {kind.verb!r}; known are {', '.join(fields)}{meant(key, fields)}"
                )
        for key, each in fields.items():
            if each.default is each.default_factory is dataclasses.MISSING and each.name not in given:
                raise place.error(kind.verb, f"needs the key {key!r} too")
        if rest is not None:
            given[rest.name] = others
        try:
            return kind(**given, place=place)
        except KeyProblem as problem:
            raise place.error(_key_of(problem.key, fields), problem.message) from problem


def _kind_of(place: Place, entry: Mapping[str, object]) -> type[Step]:
    """Return the class of a step."""
    verbs = [key for key in entry if key in STEPS]
    if "fault" in verbs:  # the keys of faults are not ours
        verbs = ["fault"]
    if len(verbs) > 1:
        raise place.error(verbs[1], f"a step has one verb, and this one has {' and '.join(verbs)}; write two steps")
    if not verbs:
        known = f"a verb is one of {', '.join(STEPS)}"
        if not entry:
            raise place.error("", f"an empty step; {known}")
        candidates = [key for key in entry if key not in _COMMON] or list(entry)
        likely = next((key for key in candidates if meant(key, STEPS)), candidates[0])
        raise place.error(likely, f"no verb in this step{meant(likely, STEPS) or f'; {known}'}")
    return STEPS[verbs[0]]


def _key_of(name: str, fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    """Return the key of a field."""
    return next((key for key, each in fields.items() if each.name == name), name)


def _checked(place: Place, key: str, value: Any, hint: Any, *, is_time: bool) -> Any:
    """Return the value of a key as its field has it."""
    try:
        if is_time:
            if isinstance(value, str):
                return parse_duration(value)
            if isinstance(value, bool) or not isinstance(value, int | float):
                return parse_duration(str(value).lower())
        check_value(key, value, hint)
    except FieldError as error:
        raise place.error(key, str(error).removeprefix(f"{key} ")) from None
    except ValueError as error:
        raise place.error(key, str(error)) from None
    return value
