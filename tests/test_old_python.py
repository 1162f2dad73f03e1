"""An older Python: it gets one line from hwloop that says so, although it can run hardly any module."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = "import sys; sys.version_info = (3, 9, 18, 'final', 0)\n"
LINE = "hwloop needs Python 3.11 or newer, this is 3.9"


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python that takes itself for an old one."""
    (tmp_path / "sitecustomize.py").write_text(OLD)
    path = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tools")))
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={"PYTHONPATH": path}, capture_output=True, text=True
    )


@pytest.mark.parametrize("module", ["hwloop", "hwloop.cli"])
def test_the_command_ends_with_one_line(tmp_path: Path, module: str) -> None:
    done = run(tmp_path, "-m", module, "run", "blink.py")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{LINE}\n")


def test_a_program_gets_an_import_error(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", "import hwloop")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"ImportError: {LINE}")


def test_pip_shows_one_line_of_the_build(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", "import build_backend")
    assert (done.returncode, done.stderr) == (1, f"{LINE}\n")


@pytest.mark.parametrize("path", ["hwloop/__init__.py", "tools/build_backend.py"])
def test_an_old_python_can_read_what_tells_it(path: str) -> None:
    ast.parse((ROOT / path).read_text(encoding="utf-8"), feature_version=(3, 8))
