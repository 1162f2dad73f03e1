"""Tests for a script that exists: `hwloop new lamp --script lamp.py`.

The board file has the parts that the lines of the script suggest. Then the script runs on that board, in virtual time,
and the tests say what it did: what it drives, what a button changes, what is left at its end. So they pass as they
stand, and the user replaces what was observed by what was meant.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hwloop.cli import Failure, UsageError
from hwloop.cli.program import find_file, uses_loops
from hwloop.cli.script_parts import SeenPart, parts_of

_STIMULI = {"button": "click()", "pir": "motion()"}
"""Methods of parts that a test can call, by type."""

_SECONDS = (3600, 600, 60, 5)
"""How long a test lets a script run: as long as it can in a moment."""

_MOMENT = 1.0
"""Real seconds."""


@dataclass
class Observed:
    """The acts of a script on its board.

    Attributes:
        seconds: how long it ran, in virtual time.
        ended: whether it ended by itself.
        driven: the lines that it drove.
        moved: the lines whose level it changed by itself.
        changes: by the name of a part, the lines that changed after it was used.
        released: whether it left no line driven at its end.
        failure: the exception with which it failed.
    """

    seconds: int = 5
    ended: bool = False
    driven: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    changes: dict[str, list[int]] = field(default_factory=dict)
    released: bool = True
    failure: str = ""


def write_tests(directory: Path, script: Path) -> tuple[list[Path], list[str]]:
    """Write a project for a script. Return the paths of its files, and remarks for the user.

    Raises `UsageError` for a script that can't be tested like this, `Failure` for a file that is there already.
    """
    program = find_file(os.fspath(script))
    if program.tree is None:
        raise UsageError(f"--script {script}: give the path of a Python file")
    if uses_loops(program.tree):
        raise UsageError(
            f"--script {script}: this program has coroutine functions, and is tested by board.run(main()); "
            "hwloop new without --script makes an example"
        )
    copy = directory / script.name
    stem = "".join(letter if letter.isalnum() else "_" for letter in script.stem)
    files = {"board.toml": "", f"tests/test_{stem}.py": "", "pyproject.toml": ""}
    in_place = copy.exists() and copy.samefile(script)
    if in_place and (directory / "pyproject.toml").exists():
        del files["pyproject.toml"]
    for file in [*files, *([] if in_place else [script.name])]:
        if (directory / file).exists():
            raise Failure(f"{directory / file} exists already; name another directory, or remove it")
    directory.mkdir(parents=True, exist_ok=True)
    if not in_place:
        shutil.copy(script, copy)
    parts = parts_of(program.tree)
    files["board.toml"] = board_file(parts, script.name)
    (directory / "board.toml").write_text(files["board.toml"], encoding="utf-8")
    observed = observe(copy.resolve(), (directory / "board.toml").resolve(), parts)
    files[f"tests/test_{stem}.py"] = test_file(script.name, parts, observed)
    if "pyproject.toml" in files:
        files["pyproject.toml"] = _PROJECT
    for file, text in files.items():
        path = directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    remarks = []
    if not parts:
        remarks.append("no part was recognized: add those of your board to board.toml (hwloop parts lists them)")
    if observed.failure:
        remarks.append(f"on this board the script fails, and so do its tests: {observed.failure}")
    return [*([] if in_place else [copy]), *(directory / file for file in files)], remarks


_PROJECT = """\
# Install what the tests need with: pip install /path/to/hwloop pytest
# This is the checkout or wheel of hwloop, which is not on PyPI yet.
[tool.pytest.ini_options]
testpaths = ["tests"]
hwloop_board = "board.toml"     # the board of the fixture `board`
"""


def board_file(parts: list[SeenPart], script: str) -> str:
    """Return a board file with these parts."""
    lines = [
        f"# The parts that {script} uses, as far as its lines show: check them, and add what is missing.",
        "# `hwloop parts` lists all parts, and `hwloop parts --board board.toml` draws this board.",
    ]
    for part in parts:
        lines += ["", "[[device]]", f'type = "{part.type}"', f'name = "{part.name}"']
        lines += [f"{key} = {str(value).lower()}" for key, value in part.keys.items()]
    return "\n".join([*lines, ""])


def observe(script: Path, board: Path, parts: list[SeenPart]) -> Observed:
    """Run a script on its board, in virtual time, and return what it did."""
    from hwloop.testing.fixture import BoardFixture
    from hwloop.testing.program_modules import KEPT
    from hwloop.testing.settings import Settings

    observed = Observed()
    before = os.getcwd()

    def run(use: Callable[[BoardFixture], None]) -> bool:
        made = BoardFixture(Settings(board=board, directory=script.parent, project=script.parent, kept=KEPT))
        with made.in_use(), made.script(script) as running:
            use(made)
            ended = running.done
            observed.driven = sorted({*observed.driven, *made.outputs})
        observed.released = not made.outputs
        return ended

    def look(made: BoardFixture) -> None:
        made.advance(_SECONDS[-1])
        began = time.monotonic()
        made.advance(_SECONDS[-1])
        pace = (time.monotonic() - began) / _SECONDS[-1]
        observed.seconds = next((each for each in _SECONDS if each * pace < _MOMENT), _SECONDS[-1])
        observed.driven = sorted(made.outputs)
        observed.moved = [line for line in observed.driven if len(made.trace.edges(line)) > 1]
        made.advance(max(0, observed.seconds - 2 * _SECONDS[-1]))

    def press(part: SeenPart) -> Callable[[BoardFixture], None]:
        def use(made: BoardFixture) -> None:
            made.advance(1)
            began = made.clock.now_ns()
            getattr(made[part.name], _STIMULI[part.type].removesuffix("()"))()
            made.advance(5)
            changed = {
                each
                for each in observed.driven
                if any(edge.when_ns >= began for edge in made.trace.edges(each)) and each not in observed.moved
            }
            observed.changes[part.name] = sorted(changed)

        return use

    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(scratch)  # for files that the script writes
        try:
            observed.ended = run(look)
            for part in parts:
                if part.type in _STIMULI:
                    run(press(part))
        except Exception as error:
            observed.failure = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        finally:
            os.chdir(before)
    return observed


def test_file(script: str, parts: list[SeenPart], observed: Observed) -> str:
    """Return tests that say what a script did."""
    names = {line: part.name for part in parts for line in part.lines}

    def named(lines: list[int]) -> str:
        return ", ".join(f"{line} ({names[line]})" if line in names else str(line) for line in lines)

    hours = {3600: "an hour", 600: "ten minutes", 60: "a minute"}.get(observed.seconds, f"{observed.seconds} seconds")
    tests = [
        f"""def test_it_runs_for_{hours.replace(" ", "_")}(board, script):
    board.advance({observed.seconds})
    assert {"script.done  # it ends by itself" if observed.ended else "not script.done"}
"""
    ]
    used = [(name, lines) for name, lines in observed.changes.items() if lines]
    for name, lines in used[:1]:
        changed = "_and_".join(names.get(line, f"line_{line}") for line in lines[:3])
        kind = next(part.type for part in parts if part.name == name)
        tests.append(
            f'''def test_{name}_changes_{changed}(board, script):
    board.advance(1)
    began = board.clock.now_ns()
    board["{name}"].{_STIMULI[kind]}
    board.advance(5)
    for line in {lines}:  # {named(lines)}
        assert any(edge.when_ns >= began for edge in board.trace.edges(line))
'''
        )
    if not used:
        tests.append(
            f"""def test_it_drives_its_lines(board, script):
    board.advance({_SECONDS[-1]})
    assert {"set(board.outputs)" if observed.driven else "board.outputs"} == {set(observed.driven) or {}}{
                f"  # {named(observed.driven)}" if observed.driven else ""
            }
"""
        )
    tests.append(
        f'''def test_its_end_leaves_{"no_line_driven" if observed.released else "lines_driven"}(board):
    with board.script("{script}"):
        board.advance(10)
    assert {"not board.outputs" if observed.released else "board.outputs"}
'''
    )
    head = f'''"""Tests of {script}, which is unchanged, on the board of board.toml, in virtual time.

They say what the script did when they were made. Replace that by what it shall do; `hwloop parts TYPE` shows what a
test can do with a part, and the page "Testing your program" of hwloop's documentation has the rest.
"""

import pytest


@pytest.fixture
def script(board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for files that the script writes
    with board.script("{script}") as script:
        yield script
'''
    return "\n\n".join([head, *tests])
