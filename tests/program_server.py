"""Run the programs of the documentation, each in a fork of a process that has imported everything already.

tests/test_docs_programs.py writes a job on a line of standard input, as JSON: `argv` (its first word is `hwloop`,
`python` or `pytest`), `directory`, `environment` and `seconds`. The answer is a line with `status`, `stdout` and
`stderr`. A fork takes some milliseconds, a new interpreter with the same imports half a second.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import runpy
import sys
from pathlib import Path

import pytest

import hwloop.cli

for module in (
    "firmware_sim.imports",
    "gpiozero",
    "hwloop.cli.run",
    "hwloop.pins",
    "hwloop.sources.gpio",
    "hwloop.sources.i2c",
    "hwloop.sources.serial",
    "hwloop.virtual.loop",
    "serial",
    "smbus2",
):
    importlib.import_module(module)


def become(job: dict) -> None:
    """Turn this process, a fork, into the program of a job."""
    os.chdir(job["directory"])
    for number, name in enumerate(("/dev/null", "stdout", "stderr")):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name in [name for name in os.environ if name.startswith(("HWLOOP_", "PYTEST_", "GPIOZERO_"))]:
        del os.environ[name]
    os.environ.update(job["environment"])
    faulthandler.dump_traceback_later(job["seconds"], exit=True)
    command, *words = job["argv"]
    sys.argv = job["argv"]
    if command == "hwloop":
        hwloop.cli.script()
    elif command == "pytest":
        sys.exit(pytest.main(words))
    else:
        sys.argv = words
        sys.path[0] = job["directory"]
        runpy.run_path(words[0], run_name="__main__")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    gc.collect()
    gc.freeze()  # else each fork goes through all objects as it ends, and so copies them
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            become(job)
            return
        _, status = os.waitpid(pid, 0)
        read = {name: Path(job["directory"], name).read_text() for name in ("stdout", "stderr")}
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), **read}), file=answers, flush=True)


if __name__ == "__main__":
    main()
