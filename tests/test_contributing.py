"""The examples of CONTRIBUTING.md work as printed: each file goes into a copy of the project, and its test runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hwloop import plugins

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)
TESTS = [name for name, _ in FILES if name.startswith("tests/")]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with the changes that the page describes."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("hwloop", "firmware_sim"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name, text in FILES:
        file = root / name
        if name == "firmware_sim/wiring.py":
            file.write_text(file.read_text().replace("DEVICES = {\n", f"DEVICES = {{\n{text}", 1))
        elif name == "pyproject.toml":
            file.write_text(f"{file.read_text()}\n{text}")
        else:
            assert not file.exists()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return root


def run(root, *arguments):
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_a_device_a_source_and_a_board():
    assert len(TESTS) == 3
    assert len(FILES) == 8


@pytest.mark.slow
def test_the_tests_of_the_examples_pass(project):
    assert "3 passed" in run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    where = run(project, "-c", "import hwloop.boards.bench as bench; print(bench.__file__)")
    assert where.startswith(str(project)), "the copy must be what was tested"


def test_the_board_is_an_entry_point(project):
    points = tomllib.loads((project / "pyproject.toml").read_text())["project"]["entry-points"][plugins.BOARDS]
    assert points == {"bench": "hwloop.boards.bench:BenchBoard"}
    run(project, "-c", f"from hwloop import plugins; plugins.load_class({points['bench']!r})()")


def test_the_examples_keep_to_the_rules_of_the_project(project):
    files = [name for name, _ in FILES if name.endswith(".py")]
    ruff = [shutil.which("ruff", path=os.path.dirname(sys.executable)) or pytest.skip("ruff is not installed")]
    for check in (["format", "--check"], ["check"]):
        done = subprocess.run([*ruff, *check, *files], cwd=project, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_target_and_path_on_the_page_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", TEXT, re.MULTILINE)):
        assert f"\n{''.join(target)}:" in makefile, target
    examples = {name for name, _ in FILES}
    for path in re.findall(r"`((?:hwloop|firmware_sim|tests|docs|tools|\.ci)/[\w./-]*)`|\]\(([\w./-]+)\)", TEXT):
        name = "".join(path)
        assert name in examples or "NAME" in name or (ROOT / name).exists(), name
