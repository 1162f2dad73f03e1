"""Drive outputs to their safe level when a program is killed or hangs.

    hwloop guard -- hwloop run door.py
    hwloop guard --listen /run/hwloop-guard/door/socket
    hwloop guard --after /run/hwloop/door/outputs

The first form runs a program that opens outputs with `safe=`. If the program dies with outputs open, or its loop gives
no sign of life for --stall seconds and the guardian kills it, the guardian drives the lines to their safe level and
holds them until it is stopped, or for --hold seconds. The exit status is that of the program.

The second form does the same for programs that something else starts, with HWLOOP_GUARD_SOCKET=/run/... in their
environment. As the service hwloop-guard@door beside hwloop-door, it keeps outputs with `keep=True` at their level while
door is restarted, and drives them to their safe level when it is stopped.

The third form is for ExecStopPost= of a service: it drives the outputs that the program left open, according to the
file that HWLOOP_GUARD_FILE named for the program.
"""

from __future__ import annotations

import argparse
import os

from hwloop.cli import Ended, Failure, UsageError
from hwloop.errors import HardwareError, check_range
from hwloop.service import guard_signals, guardian


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop guard [--stall SECONDS] [--hold SECONDS] -- PROGRAM [ARGS ...]\n"
        "       hwloop guard --listen SOCKET\n"
        "       hwloop guard --after FILE [--hold SECONDS]"
    )
    parser.add_argument("--listen", metavar="SOCKET", help="guard the programs that connect to this socket")
    parser.add_argument("--after", metavar="FILE", help="drive the outputs that a program left open, according to FILE")
    parser.add_argument(
        "--hold", type=float, metavar="SECONDS", help="how long to hold lines (until stopped; with --after not at all)"
    )
    parser.add_argument(
        "--stall", type=float, metavar="SECONDS", help="how long a loop may give no sign of life; 0 for no limit (10)"
    )
    parser.set_defaults(rest=[])


def execute(arguments: argparse.Namespace) -> int:
    hold, stall = arguments.hold, arguments.stall
    try:
        if hold is not None:
            check_range("--hold", hold, 0, 1e9)
        if stall:
            check_range("--stall", stall, 0.05, 1e9)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if arguments.listen is not None:
        if arguments.rest or arguments.after is not None or stall is not None or hold is not None:
            raise UsageError("--listen is for programs that something else starts and watches: use it alone")
        return guardian.Guardian(stall=0.0, hold=0.0).listen(os.path.abspath(arguments.listen))
    if arguments.after is not None:
        if arguments.rest or stall is not None:
            raise UsageError("--after is for a program that has ended: combine it only with --hold")
        try:
            failed = guardian.drive_after(arguments.after, hold or 0.0)
        except ValueError as error:
            raise Failure(f"{error}; give the file that HWLOOP_GUARD_FILE named for the program") from None
        except OSError as error:
            raise Failure(
                f"{error.filename or arguments.after} can't be read ({(error.strerror or str(error)).lower()}); "
                "run this as the user of the program"
            ) from error
        return 1 if failed else 0
    if not arguments.rest:
        raise UsageError("no program to run; write it after '--': hwloop guard -- hwloop run door.py")
    try:
        status = guardian.Guardian(stall=10.0 if stall is None else stall, hold=hold).run(arguments.rest)
    except HardwareError:
        raise
    except OSError as error:
        raise UsageError(f"{arguments.rest[0]}: {(error.strerror or str(error)).lower()}") from error
    if -status in guard_signals.ENDING:
        raise Ended(-status)
    return status if status >= 0 else 128 - status
