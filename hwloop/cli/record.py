"""Run a program as `hwloop run` does, and record the hardware: every edge, byte and transfer, with its time.

    hwloop record --out run.hwlog door.py
    hwloop record --out run.hwlog door.py --board board.toml --clock virtual

The recording is made on a real board or a simulated one. `hwloop log` prints it, and `hwloop replay` runs the program
again with the recorded inputs. The file grows by 24 bytes for an edge, and by 20 more than the data for a piece of
serial data or a message. It is readable up to its last complete record however the program ends; SIGKILL costs the last
quarter of a second. If the disk is full, the recording ends, and the program goes on.

The exit status is that of the program, as with `hwloop run`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from hwloop.cli import Unloadable, UsageError, recorded, run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop record --out FILE [--overwrite] PROGRAM.py[:MAIN] [OPTIONS of hwloop run] [-- ARGS ...]\n"
        "       hwloop record --out FILE -m MODULE ..."
    )
    parser.add_argument("--out", metavar="FILE", required=True, help="the recording to create: run.hwlog")
    parser.add_argument("--overwrite", action="store_true", help="replace a file of this name")
    run.add_program_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    if not arguments.out:
        raise UsageError("--out: the name of the file is empty; give one, such as run.hwlog")
    store = recorded.recording_file(arguments)
    lifetime: contextlib.ExitStack = arguments.lifetime
    lifetime.callback(store.close)
    path = os.path.abspath(arguments.out)  # the program may change its directory

    def report() -> None:
        if store.discarded:
            return
        if not recorder.attached:
            notes = "; the program has not used a board"
        elif not recorder.events:
            notes = "; nothing has happened on the lines, ports and buses of the board in use"
        else:
            notes = f"; {recorder.failures} could not be recorded" if recorder.failures else ""
        size = os.path.getsize(path) if os.path.exists(path) else 0
        print(f"hwloop record: {arguments.out}: {recorder.events} events, {size} bytes{notes}", file=sys.stderr)

    try:
        recorder = recorded.recorder_into(store, arguments)
        lifetime.callback(report)
        return recorded.execute(arguments, recorder, run.execute_program)
    except Exception as error:
        if isinstance(error, UsageError | Unloadable) or not recorder.attached:
            store.discard()  # nothing has run, and the corrected command needs the name
        raise
