"""The check of our prose finds the habits where they stand, and lets ordinary English pass."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load():
    spec = importlib.util.spec_from_file_location("prose", ROOT / "tools" / "prose.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["prose"] = module
    spec.loader.exec_module(module)
    return module


prose = load()


def lines(name, text):
    return [finding.line for finding in prose.findings(name, text)]


@pytest.mark.parametrize(
    "habit",
    [
        "Refusals are told once.",
        "Serves the source, who waits.",
        "A second port is refused.",
        "A loop of one's own.",
        "Wait for so many seconds.",
        "Edges, of which three are lost.",
        "It closes without further ado.",
        "It ends. What is left is closed.",
        "What the board drives.",
        "It says\nwhat it is\ntold, in three lines.",
    ],
)
def test_each_habit_is_found_in_prose_comments_strings_and_docstrings(habit):
    assert lines("page.md", habit)
    assert lines("module.py", "".join(f"# {line}\n" for line in habit.split("\n")))
    assert lines("module.py", f'x = 1\ny = """{habit}"""\n')
    assert lines("module.py", f'def f():\n    """{habit}"""\n')


@pytest.mark.parametrize(
    "plain",
    [
        "The kernel refused the line: EBUSY.",
        "People who know asyncio, and users who do not.",
        "What does the loop do when nothing is ready?",
        "It reports what the system said.",
        "Count how many seconds are left, for so many a reader asks.",
        "A shadow, an untold story, whole numbers.",
    ],
)
def test_ordinary_english_passes(plain):
    assert not lines("page.md", plain)
    assert not lines("module.py", f'"""{plain}"""\n')


def test_code_is_no_prose_but_the_names_of_functions_are():
    assert not lines("module.py", "told = who = refused\nif told: told()\n")
    assert lines("module.py", "x = 1\ndef test_the_user_is_told():\n    pass\n") == [2]
    assert lines("module.py", "def test_what_is_no_bus_raises(): pass\n") == [1]


def test_a_finding_names_the_line_where_the_habit_begins():
    assert lines("page.md", "# Title\n\nA line,\nand it is told\nhere.\n") == [4]
    assert lines("module.py", '"""Opening.\n\n    And it\n    is refused.\n    """\n') == [4]
    assert lines("module.py", "x = 1\n\n# one\n# two who\n# three\n") == [4]


def test_headings_and_items_are_beginnings():
    assert lines("page.md", "Text without an end\n## What it does\n- What remains\n") == [2, 3]


def test_the_command_reports_each_finding_and_fails(tmp_path):
    for folder in ("tools", "docs"):
        (tmp_path / folder).mkdir()
    script = tmp_path / "tools" / "prose.py"
    script.write_text((ROOT / "tools" / "prose.py").read_text())
    (tmp_path / "README.md").write_text("# Told\n")
    (tmp_path / "docs" / "page.md").write_text("A clean page.\n")

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, str(script), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout

    status, output = run()
    assert (status, output.count("\n")) == (1, 1)
    assert output.startswith("README.md:1: 'Told'")
    assert run("docs/page.md") == (0, "")


def test_the_check_reads_code_tests_pages_and_scripts():
    files = set(prose.project_files())
    assert {"README.md", "docs/cli.md", "hwloop/runner.py", "tests/test_docs.py", ".ci/run", "Makefile"} <= files
    assert "tools/prose.py" not in files, "it quotes the habits"
