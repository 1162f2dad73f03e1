"""Fixtures for unmodified scripts and third-party drivers, and the counts that `make test-scripts` prints.

A test module names the kind of what it runs: `pytestmark = pytest.mark.kind("drivers")`. A driver's test is a script
that uses the driver as a user does, a board file, and the output:

    def test_bmp280(run_script):
        done = run_script("import bmp280 ...; print(sensor.get_temperature())", '[[device]]\ntype = "bmp280" ...')
        assert done.stdout == "21.5\n"
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sources

SECONDS = 60
"""Real seconds within which a script must have ended."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kind(name): what the test runs; the summary counts each kind")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            kind = item.get_closest_marker("kind")
            assert kind is not None, f"{item.nodeid}: give its module a pytestmark = pytest.mark.kind(...)"
            item.user_properties.append(("kind", kind.args[0]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts: dict[str, collections.Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped", "xfailed"):
        for report in terminalreporter.stats.get(outcome, ()):
            kind = dict(getattr(report, "user_properties", ())).get("kind")  # a module that was not collected has none
            if kind is not None:
                counts.setdefault(kind, collections.Counter())[outcome] += 1
    if counts:
        terminalreporter.section("scripts by kind")
    for kind in sorted(counts):
        each = ", ".join(f"{count} {outcome}" for outcome, count in counts[kind].items())
        terminalreporter.write_line(f"{kind}: {each}")


class Stage:
    """A directory with a board file, in which scripts run as a user runs them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def command(self, program: str | os.PathLike[str], board: str, *arguments: str) -> list[str]:
        """Write the files, and return the command. `program` is source code, or the path of a file."""
        if isinstance(program, str):
            path = self.directory / "script.py"
            path.write_text(textwrap.dedent(program), encoding="utf-8")
        else:
            path = Path(program)
        file = self.directory / "board.toml"
        file.write_text(textwrap.dedent(board), encoding="utf-8")
        return [sys.executable, "-m", "hwloop", "run", str(path), "--board", str(file), *arguments]

    def start(
        self, program: str | os.PathLike[str], board: str = "", *arguments: str, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a script that ends only by a signal."""
        return subprocess.Popen(
            self.command(program, board, *arguments),
            cwd=self.directory,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        program: str | os.PathLike[str],
        board: str = "",
        *arguments: str,
        status: int = 0,
        typed: str = "",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, which must have this `status`; `typed` is its standard input."""
        done = subprocess.run(
            self.command(program, board, *arguments),
            cwd=self.directory,
            env=self.environment(environment),
            input=typed,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @staticmethod
    def environment(changes: dict[str, str]) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HWLOOP_", "GPIOZERO_", "PYTEST_"))
        }
        return {**kept, "PYTHONUNBUFFERED": "1", **changes}


@pytest.fixture(scope="session")
def stage_in() -> Callable[[Path], Stage]:
    """`stage_in(directory)` returns a `Stage`, for scripts that several tests look at."""
    return Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def run_script(stage: Stage) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_script(program, board, *arguments)` runs a script under `hwloop run --board`, to its end."""
    return stage.run


@pytest.fixture(scope="session")
def source() -> Callable[[str], Path]:
    """`source(name)` returns the directory of a source of other projects, or skips the test where there is none."""

    def find(name: str) -> Path:
        try:
            return sources.fetch(name)
        except sources.Unavailable as unavailable:
            pytest.skip(f"NOT RUN: {unavailable}")

    return find
