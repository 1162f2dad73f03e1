"""A short soak: loops opened and closed, callbacks of all kinds, and nothing grows; where something does, it is found.

`make soak` is the long one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "benchmarks" / "soak.py"
LEAKS = {
    "": "",
    "descriptors and threads were": (
        "import os; close = EventLoop.close; EventLoop.close = lambda one: (os.dup(0), close(one))[1]"
    ),
    "memory grows": "close = EventLoop.close; kept = []; EventLoop.close = lambda one: kept.append(one) or close(one)",
    "made, but": "soak.PATIENCE, make = 0.3, soak.Soak.make_soon; soak.Soak.make_soon = lambda one: make(one).cancel()",
}
"""A fault by what is said of it."""


@pytest.mark.parametrize("said", LEAKS, ids=["no fault", "a descriptor", "memory", "a callback"])
@pytest.mark.slow
def test_a_soak_finds_what_grows_and_what_is_lost(said: str, unmeasured: dict[str, str]) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(SOAK.parent)!r})
import soak
from hwloop import EventLoop
{LEAKS[said]}
sys.exit(soak.main(["--loops", "32", "--callbacks", "8000", "--seed", "1"]))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=unmeasured, capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    assert ended.returncode == bool(said), ended.stdout
    assert said in ended.stdout
    assert ended.stdout.endswith("--seed 1\n")
