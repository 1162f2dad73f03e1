"""Running a program with a recorder, for `hwloop record` and `hwloop run --recorder`."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable

from hwloop.cli import Ended, Failure, Unloadable, UsageError
from hwloop.recording import Recorder, RecordingError, RecordingFile, open_ring
from hwloop.recording.recorder import Store
from hwloop.virtual.seeding import chosen_seed
from hwloop.virtual.time_limit import chosen_limit


def recording_file(arguments: argparse.Namespace) -> RecordingFile:
    """Return the new file of an option --out. Raises `Failure`."""
    try:
        return RecordingFile(arguments.out, overwrite=arguments.overwrite)
    except RecordingError as error:
        raise Failure(str(error)) from error


def ring_recorder(arguments: argparse.Namespace) -> Recorder:
    """Return a recorder into the ring of an option --recorder. Raises `UsageError` and `Failure`."""
    try:
        store = open_ring(arguments.recorder)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except RecordingError as error:
        raise Failure(str(error)) from error
    return recorder_into(store, arguments)


def recorder_into(store: Store, arguments: argparse.Namespace) -> Recorder:
    """Return a recorder of the program into a store. Raises `UsageError`."""
    seed = limit = None
    if arguments.clock == "virtual":
        try:
            seed, _ = chosen_seed(arguments.seed)
            limit = chosen_limit(arguments.limit)
        except ValueError as error:
            raise UsageError(str(error)) from error
        arguments.seed = seed
    program = arguments.program if arguments.module is None else f"-m {arguments.module}"
    return Recorder(store, program=program, arguments=arguments.rest, seed=seed, limit=limit)


def execute(
    arguments: argparse.Namespace, recorder: Recorder, run: Callable[[argparse.Namespace, Recorder], int]
) -> int:
    """Run the program, and close the recorder after everything else has ended: exit functions may drive outputs."""
    arguments.lifetime.callback(recorder.close)
    recorder.status = "1"
    try:
        status = run(arguments, recorder)
    except Ended as ended:
        recorder.status = signal.Signals(ended.number).name
        raise
    except (UsageError, Unloadable):
        recorder.status = "2"
        raise
    recorder.status = str(status)
    return status
