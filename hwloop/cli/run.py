"""Run a program on the loop, as Python would run it, and end it in order.

    hwloop run weather_station.py
    hwloop run weather_station.py --board board.toml -- --verbose
    hwloop run -m package.module

The program is executed as `__main__`. A run that it starts, by `hwloop.run`, `asyncio.run` or `asyncio.Runner`, uses
hwloop's loop and the board chosen here. If it starts none, its coroutine function `main` is run, or the one named after
a colon: weather_station.py:main. sys.argv contains the path of the program and the arguments after `--`.

A script needs no loop. If it imports lgpio, gpiozero, smbus2 or serial and a simulated board is in use, these reach the
simulated board.

SIGINT (Ctrl-C), SIGTERM and SIGHUP cancel the run, which can clean up; a second one forces the end. Then outputs go to
their safe level. The exit status is that of the program: 0, 1 for an exception, the argument of sys.exit(), or death by
the signal. It is 2 for a program that can't be loaded: one that is missing, no valid Python, or has a failing import.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from hwloop import runner
from hwloop.board import Backend, open_board
from hwloop.board_interface import Board
from hwloop.cli import Failure, Unloadable, UsageError, process, threads_bounded
from hwloop.cli.execution import Found, find_program, run_program
from hwloop.core.clock import REAL
from hwloop.core.deferred_signals import DeferredSignals
from hwloop.core.event_loop import EventLoop
from hwloop.core.realtime import RealTime
from hwloop.service import lifecycle
from hwloop.service.grace import checked_grace, chosen_grace

if TYPE_CHECKING:
    from hwloop.recording import Recorder

BOARD_HELP = "auto, linux, sim, an entry point, or a board file (.toml) to simulate; default: HWLOOP_BOARD, or auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop run PROGRAM.py[:MAIN] [--board BOARD] [--realtime [PRIORITY]] [--clock virtual] [--seed N] "
        "[--limit SECONDS] [--grace SECONDS] [--trace FILE] [--recorder PATH[,SIZE]] [--log-json] "
        "[--metrics TARGET] [--debug] [-- ARGS ...]\n"
        "       hwloop run -m MODULE ..."
    )
    add_program_arguments(parser)
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write what happens on the board to a file when the program ends: .vcd, .csv, .json (WaveDrom), .svg",
    )
    parser.add_argument(
        "--log-json",
        action="store_true",
        help="print warnings and errors as JSON, one object on a line, where the program does not configure logging",
    )
    parser.add_argument(
        "--grace",
        type=parse_grace,
        metavar="SECONDS",
        help="the longest time from a signal, or the end of main, until the tasks have ended; then they are named and "
        "abandoned; default: HWLOOP_GRACE, or 5 under a service manager, or inf",
    )
    parser.add_argument(
        "--metrics",
        metavar="TARGET",
        help="export metrics for Prometheus: to a file for node_exporter (FILE.prom), or served on unix:/run/x.sock or "
        "127.0.0.1:9101; default: HWLOOP_METRICS, or nowhere",
    )
    parser.add_argument(
        "--recorder",
        metavar="PATH[,SIZE]",
        help="keep the last events of the hardware in a ring file that survives SIGKILL, such as flight.ring,16M; "
        "default: HWLOOP_RECORDER, or none; 8M",
    )


def add_program_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command that runs a program."""
    add_program(parser)
    parser.add_argument("--board", metavar="BOARD", help=BOARD_HELP)
    parser.add_argument(
        "--realtime",
        nargs="?",
        const=RealTime(),
        type=_priority,
        metavar="PRIORITY",
        help=f"run in real time as far as permitted: SCHED_FIFO (1 to 99; {RealTime.priority}), locked memory",
    )
    parser.add_argument(
        "--clock",
        choices=("real", "virtual"),
        default="real",
        help="virtual: on the simulated board, in virtual time, which jumps from event to event",
    )
    add_seed_and_limit(parser)


def add_program(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the program itself, whose own arguments follow "--"."""
    parser.add_argument(
        "program",
        nargs="?",
        metavar="PROGRAM.py[:MAIN]",
        help="the file (or a directory or archive with a __main__.py, or - for standard input), and a coroutine "
        "function in it to run",
    )
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    parser.set_defaults(rest=[], trace=None, grace=None, metrics=None)


def add_seed_and_limit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for a run in virtual time."""
    parser.add_argument(
        "--seed",
        type=parse_seed,
        metavar="N",
        help='in virtual time: the seed for the order that asyncio leaves open; "random" for a new one each time',
    )
    parser.add_argument(
        "--limit",
        type=parse_limit,
        metavar="SECONDS",
        help="in virtual time: the longest run in virtual seconds; inf for no limit",
    )


def execute(arguments: argparse.Namespace) -> int:
    if arguments.log_json or "JOURNAL_STREAM" in os.environ:
        from hwloop.service import logs

        logs.install(
            as_json=arguments.log_json, identifier=os.path.basename(arguments.program or arguments.module or "")
        )
    named = os.environ.pop("HWLOOP_RECORDER", "")  # a ring has one process, so child processes do not inherit it
    arguments.recorder = arguments.recorder or named
    if not arguments.recorder:
        return execute_program(arguments)
    from hwloop.cli import recorded

    return recorded.execute(arguments, recorded.ring_recorder(arguments), execute_program)


def execute_program(arguments: argparse.Namespace, recorder: Recorder | None = None) -> int:
    """Run the program, and record the events of its board with `recorder` and into the file of --trace."""
    if (arguments.program is None) == (arguments.module is None):
        raise UsageError("give one program: the path of a Python file, or -m and the name of a module")
    hosting = make_hosting(arguments)
    try:
        hosting.grace = chosen_grace(arguments.grace)
    except ValueError as error:  # HWLOOP_GRACE
        raise UsageError(str(error)) from error
    if hosting.grace is not None:
        threads_bounded.append("the run has a grace")
    lifetime: contextlib.ExitStack = arguments.lifetime
    board = chosen_board(arguments.board)
    followers = list[Callable[[Board], None]]()
    if arguments.trace is not None:
        from hwloop.cli.trace_file import TraceFile

        file = TraceFile(arguments.trace)
        lifetime.callback(file.write)
        followers.append(file.attach)
    if recorder is not None:
        followers.append(recorder.attach)

    def opened(board: Board) -> None:
        for follow in followers:
            follow(board)

    host = lifetime.enter_context(
        process.hosted(board, clock=hosting.clock, binding=bool(arguments.board), opened=opened if followers else None)
    )
    host.hosting = hosting
    if recorder is not None:
        host.signalled = recorder.signalled
    lifetime.callback(lifecycle.ended)
    named = os.environ.pop("HWLOOP_METRICS", "")  # a target has one process, so child processes do not inherit it
    if target := arguments.metrics or named:
        _export_metrics(target, arguments, hosting, lifetime)

    def find() -> Found:
        found = find_program(arguments.program, arguments.module, arguments.rest)
        if found.is_script and arguments.realtime is not None:
            raise UsageError(
                f"{found.program.code.co_filename}: --realtime is for a program with a loop, and this is a script"
            )
        if found.is_script and arguments.seed is not None:
            raise UsageError(
                f"{found.program.code.co_filename}: --seed is for a program with a loop; the order of a script's "
                "threads is always the same"
            )
        return found

    simulated = board not in (None, "auto", "linux")
    raised = list[BaseException]()
    status = run_program(
        find, host, hosting, lifetime, simulated=simulated, limit=arguments.limit, failed=raised.append
    )
    if raised and not host.started and isinstance(raised[0], ImportError | SyntaxError):
        raise Unloadable(f"{arguments.program or arguments.module}: {_why_unloadable(raised[0])}")
    return status


def _why_unloadable(error: ImportError | SyntaxError) -> str:
    """Return why a program could not be loaded, and what to do. Its traceback is shown already."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}, is not valid Python; correct it"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return f"an import failed ({error}); correct it"
    if not str(error).startswith("No module named"):
        return str(error)  # a package says what is missing, and what to do
    from hwloop.doctor.program import PACKAGES  # late: few programs need it

    return (
        f"there is no module {error.name}; add its package to the dependencies of the program and install that again, "
        f"or install the package: {sys.executable} -m pip install {PACKAGES.get(error.name, 'PACKAGE')}"
    )


def _export_metrics(
    target: str, arguments: argparse.Namespace, hosting: runner.Hosting, lifetime: contextlib.ExitStack
) -> None:
    """Export the program's metrics until the process ends. Raises `UsageError`, or `Failure` for a target in use."""
    from hwloop.service.metric_errors import MetricsError, TargetInUseError
    from hwloop.service.metric_target import opener

    if hosting.clock is not REAL:
        raise UsageError("--metrics is for real time: a request would come at any moment of virtual time")
    name = os.path.basename(arguments.program or "") or arguments.module
    try:
        opener(target)  # a wrong value is reported first
        from hwloop.service.metrics import exported  # late: it needs an optional package

        lifetime.enter_context(exported(target, program=name.partition(":")[0].removesuffix(".py")))
    except TargetInUseError as error:
        raise Failure(str(error)) from error
    except MetricsError as error:
        raise UsageError(str(error)) from error


def chosen_board(option: str | None) -> str | None:
    """Return the board for `process.hosted`. A named board is opened at once, so that a mistake shows at once."""
    backend = os.environ.get("HWLOOP_GPIO") or "auto"
    if backend not in get_args(Backend):
        raise UsageError(f"HWLOOP_GPIO: unknown GPIO backend {backend!r}; use {', '.join(get_args(Backend))}")
    named = os.environ.get("HWLOOP_BOARD")
    return option or (named if named != "auto" else None) or None


def open_named_board(board: str | None) -> Board:
    """Open a board for a command that runs no program. Raises `UsageError` and `HardwareError`."""
    try:
        return open_board(board or "")
    except ValueError as error:
        raise UsageError(str(error)) from error


def _priority(text: str) -> RealTime:
    """Convert an argument for argparse."""
    try:
        return RealTime(priority=int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a priority is 1 to 99, not {text!r}; the program comes before it") from None


def parse_seed(text: str) -> int | str:
    """Convert an argument for argparse."""
    try:
        return text if text == "random" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a seed is a whole number, or random, not {text!r}") from None


def parse_limit(text: str) -> float:
    """Convert an argument for argparse."""
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise argparse.ArgumentTypeError(f"a limit is a number of virtual seconds above 0, or inf, not {text!r}")
    return limit


def parse_grace(text: str) -> float:
    """Convert an argument for argparse."""
    try:
        grace = float(text)
        checked_grace(grace)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a grace is a number of seconds, from 0 to a day, or inf, not {text!r}"
        ) from None
    return grace


def make_hosting(arguments: argparse.Namespace) -> runner.Hosting:
    """Return how to make the program's loops, and the clock of loops and board.

    Raises `UsageError` for options that contradict each other.
    """

    def made_whole(make: Callable[[], EventLoop]) -> EventLoop:
        with DeferredSignals():  # a loop that a signal left half-made could not be closed
            loop = make()
        if arguments.debug:
            loop.set_debug(True)
        if arguments.realtime is not None and threading.current_thread() is threading.main_thread():
            loop.set_realtime(arguments.realtime)
        return loop

    if arguments.clock == "real":
        if arguments.seed is not None:
            raise UsageError("--seed needs --clock virtual: in real time orders can't be repeated")
        if arguments.limit is not None:
            raise UsageError("--limit needs --clock virtual: real time can't be limited")
        return runner.Hosting(lambda seed, limit: made_whole(EventLoop))
    from hwloop.virtual.clock import VirtualClock
    from hwloop.virtual.loop import SimLoop
    from hwloop.virtual.seeding import chosen_seed
    from hwloop.virtual.time_limit import chosen_limit

    class ProgramClock(VirtualClock):
        """A clock that continues in the next run of the program, as its board does."""

        def close(self) -> None:
            super().close()
            self.sleepers.closed = False

    try:
        chosen_seed(arguments.seed)  # HWLOOP_SEED may be malformed
        chosen_limit(arguments.limit)  # HWLOOP_LIMIT too
    except ValueError as error:
        raise UsageError(str(error)) from error
    clock = ProgramClock()

    def make_loop(seed: Any, limit: float | None) -> EventLoop:
        seed = arguments.seed if seed is None else seed
        limit = arguments.limit if limit is None else limit
        return made_whole(lambda: SimLoop(seed, limit=limit, clock=clock))

    return runner.Hosting(make_loop, clock)
