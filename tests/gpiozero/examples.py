"""Does the default board leave gpiozero's documentation examples alone?

    python tests/gpiozero/examples.py DIRECTORY [--board sim|FILE] [--seconds 2]

DIRECTORY is docs/examples of a checkout of gpiozero (the source distribution lacks it; nothing of it is kept in this
repository). Each example runs for some seconds on the simulated board, in real time. It is *disturbed* if anything but
the example itself changes a line that it has claimed: a part that moves by itself, or a wire to another line. Status 1:
some were disturbed.

Libraries that are not installed (picamera, sense_hat, bluedot, ...) are replaced by mocks. An example that ends with an
error is listed with it, whichever board it runs on; most of these need a network or a terminal.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[2]
OURS = ("gpiozero", "lgpio", "hwloop", "firmware_sim", "RPi", "pigpio")
"""Packages that are never mocked: gpiozero probes for some of them."""


class Mocked(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a mock for every module that nobody else has found, if the example itself imports it."""

    def __init__(self, source: str) -> None:
        self._source = source

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> Any:
        top = name.partition(".")[0]
        if top in OURS or f" {top}" not in self._source:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        module: Any = MagicMock(name=spec.name)
        module.__spec__, module.__path__ = spec, []
        return module  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        pass


class Watcher:
    """A tracer that keeps the changes which somebody else makes to lines that the example has claimed."""

    def __init__(self) -> None:
        self.board: Any = None
        self.changes: list[str] = []

    def record(self, event: Any) -> None:
        number = getattr(event, "line", None)
        if self.board is None or number is None:
            return
        line = self.board.line(number)
        joined = [other.number for other in line.net.lines if other is not line]
        if line.consumer is not None and (event.by != "program" or joined):
            by = f"a wire to line {joined[0]}" if joined else event.by
            self.changes.append(f"line {number} by {by}")


def run_one(example: str, board: str, seconds: float) -> None:
    """Run an example in this process, and print as JSON the changes that disturbed it and the error that ended it."""
    import runpy

    from firmware_sim import SimBoard, imports

    watcher = Watcher()
    chosen = SimBoard.default() if board == "sim" else SimBoard(board)
    chosen.timeline.tracer, watcher.board = watcher, chosen

    def end(error: str = "") -> None:
        with chosen.timeline.lock:
            answer = {"disturbed": sorted(set(watcher.changes)), "error": error}
        os.write(3, json.dumps(answer).encode())
        os._exit(0)

    threading.Timer(seconds, end).start()
    sys.meta_path.append(Mocked(Path(example).read_text(encoding="utf-8")))
    with imports.led_to(chosen):
        try:
            runpy.run_path(example, run_name="__main__")
        except BaseException as error:
            end(f"{type(error).__name__}: {error}")
        threading.Event().wait()


def run(example: Path, board: str, seconds: float) -> dict[str, Any]:
    """Run an example in a process of its own."""
    reading, writing = os.pipe()
    call = f"run_one({str(example)!r}, {board!r}, {seconds})"
    command = f"import os; os.dup2({writing}, 3); from examples import run_one; {call}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    environment.pop("GPIOZERO_PIN_FACTORY", None)
    with open(reading, "rb") as answers:
        try:
            subprocess.run(
                [sys.executable, "-c", command],
                env=environment,
                pass_fds=[writing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds + 60,
            )
        finally:
            os.close(writing)
        text = answers.read()
    return json.loads(text) if text else {"disturbed": [], "error": "ended without an answer"}  # type: ignore[no-any-return]


def main() -> int:
    parser = argparse.ArgumentParser(description="Which of gpiozero's examples does a board disturb?")
    parser.add_argument("directory", type=Path, help="docs/examples of a checkout of gpiozero")
    parser.add_argument("--board", default="sim", help="sim (the default board) or a board file")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each example runs (2)")
    arguments = parser.parse_args()
    examples = sorted(arguments.directory.glob("*.py"))
    if not examples:
        parser.error(f"{arguments.directory}: no examples in it; name docs/examples of a checkout of gpiozero")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        jobs = {path.name: pool.submit(run, path, arguments.board, arguments.seconds) for path in examples}
        found = {name: job.result() for name, job in jobs.items()}
    disturbed = {name: result["disturbed"] for name, result in found.items() if result["disturbed"]}
    errors = {name: result["error"] for name, result in found.items() if result["error"]}
    for name, changes in disturbed.items():
        print(f"disturbed: {name}: {', '.join(changes)}")
    for name, error in errors.items():
        print(f"ended: {name}: {error.splitlines()[0]}")
    print(f"{len(examples)} examples: {len(disturbed)} disturbed, {len(errors)} ended with an error")
    return 1 if disturbed else 0


if __name__ == "__main__":
    sys.exit(main())
