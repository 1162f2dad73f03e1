"""Reading scenario files: durations, the lines of keys, and the two ways of writing steps."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwloop.testing.scenario import Press, Release, Repeat, Scenario, ScenarioError, Wait, load, parse
from hwloop.testing.scenario.errors import KeyProblem
from hwloop.testing.scenario.lines_of_keys import lines_of_keys
from hwloop.testing.scenario.times import duration_text, parse_duration

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.toml"), *ROOT.glob("tests/**/*.toml"), *ROOT.glob("firmware_sim/*.toml")])

TRICKY = r'''
name = "a = \"b\" [c]"   # [d]
"quoted key" = 'e'
multi = """
not = "a key"
[[nor.a.table]] \""""
literal = """"quoted" at the beginning"""
raw = """a"""
date = 2026-11-29T10:00:00Z
[table . "dotted.key"]
x.y.z = { a = 1, b = [ { c = "}" }, 2 ] }
[[array]]
first = 1
[array.inner]
v = [
  1, # one
  [ 2,
    3 ],
]
[[array]]
second = {}
[[array.inner]]
w = '''


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*path, key)
        yield from paths(each, (*path, key))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("2 s", 2), ("1.5min", 90), ("1h", 3600), ("10us", 1e-5), ("1_000ms", 1), ("7ns", 7e-9)],
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5 m", "-5s", "1e3s", "s", "1 s 2 ms", "nan s", ".5s", "9999999h"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.1, "100 ms"),
        (90, "90 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (1e-9, "1 ns"),
        (0.0131352, "13.1352 ms"),
    ],
)
def test_durations_are_shown_in_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_every_key_has_its_line_in_a_document_with_everything() -> None:
    text = TRICKY + "1\n"
    lines = lines_of_keys(text)
    assert set(lines) - {()} == set(paths(tomllib.loads(text)))
    shown = {path: text.splitlines()[line - 1] for path, line in lines.items()}
    assert shown["name",].startswith("name =")
    assert shown["literal",].startswith("literal")
    assert shown["table", "dotted.key", "x", "y", "z", "b", 0, "c"].startswith("x.y.z")
    assert shown["array", 0, "inner", "v", 1, 1] == "    3 ],"
    assert shown["array", 1, "inner", 0, "w"] == "w = 1"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_key_of_a_real_document_stands_on_its_line(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines, shown = lines_of_keys(text), text.splitlines()
    for path in paths(document):
        if isinstance(path[-1], str):
            assert path[-1] in shown[lines[path] - 1], path


def test_steps_are_written_in_an_array_or_as_tables() -> None:
    tables = """
        [[steps]]
        press = "door"

        [[steps]]
        repeat = 2

        [[steps.steps]]
        wait = "1min"

        [[steps.steps]]
        release = "door"
    """
    array = 'steps = [{press = "door"}, {repeat = 2, steps = [{wait = "1min"}, {release = "door"}]}]'
    assert parse(tables) == parse(array) == Scenario([Press("door"), Repeat(2, steps=[Wait(60), Release("door")])])


def test_a_file_with_the_line_ends_of_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "door.toml").write_bytes(b'name = "door"\r\nsteps = [\r\n  { press_ = 2 },\r\n]\r\n')
    with pytest.raises(
        ScenarioError, match=re.escape("door.toml:3: press_: no verb in this step; did you mean press?")
    ):
        load(tmp_path / "door.toml")


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match=r"binary.toml: not a text in UTF-8"):
        load(tmp_path / "binary.toml")
    with pytest.raises(ScenarioError, match=r"Is a directory"):
        load(tmp_path)


def test_a_step_in_python_is_checked_too() -> None:
    with pytest.raises(KeyProblem, match=r"at: must be a number of seconds, not '1s'"):
        Press("door", at="1s")  # type: ignore[arg-type]
    with pytest.raises(KeyProblem, match=r"after: a step has 'at' or 'after', not both"):
        Press("door", at=1, after=1)
    with pytest.raises(ScenarioError, match="there are no steps"):
        Scenario([])
