"""The command line of `hwloop sim`, made again: for a process of its own, and for the reader of a report."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any


def command_line(arguments: argparse.Namespace, **changes: Any) -> list[str]:
    """Return the arguments of `hwloop` for the same call, with some options changed."""
    given = {**vars(arguments), **changes}
    words: list[str] = ["sim", *(["-m", given["module"]] if given["module"] is not None else [given["program"]])]
    scenarios: Sequence[str] = given["scenario"]
    words += ["--scenario", *scenarios]
    for option in ("board", "seed", "limit", "explore", "faults", "schedule", "junit", "vcd", "trace", "artifacts"):
        if given[option] is not None:
            value = f"{given[option]:g}" if option == "limit" else str(given[option])
            if option == "faults":
                value = ",".join(given[option])
            words += [f"--{option}={value}"] if value.startswith("-") else [f"--{option}", value]
    words += [f"--{option}" for option in ("realtime", "quiet", "debug") if given[option]]
    return [*words, "--", *given["rest"]] if given["rest"] else words


def repeating(arguments: argparse.Namespace, seed: int | None) -> str:
    """Return the command that plays the scenario again with this seed."""
    changes = dict.fromkeys(("junit", "vcd", "trace", "artifacts"))
    if arguments.schedule is not None:
        seed = None  # it is in the schedule
    words = command_line(arguments, seed=seed, quiet=False, debug=False, **changes)
    return shlex.join(["hwloop", *words])
