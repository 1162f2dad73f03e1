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
the signal.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import ModuleType
from typing import Any

from hwloop import board as boards
from hwloop import runner, service
from hwloop.cli import Failure, UsageError, causes, process
from hwloop.cli.program import Program, acts, calls_main, find_file, find_module, is_script
from hwloop.core.clock import REAL
from hwloop.core.event_loop import EventLoop
from hwloop.core.realtime import RealTime
from hwloop.errors import HardwareError, program_frames

BOARD_HELP = "auto, linux, sim, an entry point, or a board file (.toml) to simulate; default: HWLOOP_BOARD, or auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop run PROGRAM.py[:MAIN] [--board BOARD] [--realtime [PRIORITY]] [--clock virtual] [--seed N] "
        "[--limit SECONDS] [--debug] [-- ARGS ...]\n       hwloop run -m MODULE ..."
    )
    parser.add_argument(
        "program",
        nargs="?",
        metavar="PROGRAM.py[:MAIN]",
        help="the file (or a directory or archive with a __main__.py, or - for standard input), and a coroutine "
        "function in it to run",
    )
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
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
    parser.add_argument(
        "--seed",
        type=_seed,
        metavar="N",
        help='with --clock virtual: the seed for the order that asyncio leaves open; "random" for a new one each time',
    )
    parser.add_argument(
        "--limit",
        type=_limit,
        metavar="SECONDS",
        help="with --clock virtual: the longest run in virtual seconds; inf for no limit",
    )
    parser.set_defaults(rest=[])


def execute(arguments: argparse.Namespace) -> int:
    if (arguments.program is None) == (arguments.module is None):
        raise UsageError("give one program: the path of a Python file, or -m and the name of a module")
    hosting = _hosting(arguments)
    lifetime: contextlib.ExitStack = arguments.lifetime
    board = chosen_board(arguments.board)
    host = lifetime.enter_context(process.hosted(board, clock=hosting.clock, binding=bool(arguments.board)))
    lifetime.callback(service.notify, "STOPPING=1")
    path = ""
    try:
        if arguments.module is not None:
            sys.argv = ["-m", *arguments.rest]
            _search_first(os.getcwd())
            name = None
        else:
            path, name = _split(arguments.program)
        program = find_file(path) if arguments.module is None else find_module(arguments.module)
        path = program.code.co_filename
        sys.argv = [program.path, *arguments.rest]
        _search_first(program.search)
        script = program.tree is not None and name is None and is_script(program.tree)
        if script and (arguments.realtime is not None or hosting.clock is not REAL):
            raise UsageError(f"{path}: --realtime and --clock are for a program with a loop, and this is a script")
        lifetime.enter_context(_surroundings())
        if board not in (None, "auto", "linux"):
            from firmware_sim import SimBoard, imports

            simulated = boards.current()
            if isinstance(simulated, SimBoard):  # another package may provide other simulated boards
                lifetime.enter_context(imports.led_to(simulated))
        elif hosting.clock is not REAL:
            from firmware_sim import barrier

            lifetime.enter_context(barrier.around(None))
        lifetime.enter_context(runner.hosting_runs(hosting))
        if script:
            service.notify("READY=1")
        _run(program, name, host)
    except SystemExit as exit:
        return _status(exit)
    except (UsageError, Failure, KeyboardInterrupt):
        raise
    except BaseException as error:
        parts = causes(error)
        if not all(isinstance(part, HardwareError) for part in parts):
            _show(error, path)
            return 1
        for part in parts:
            _note_where(part, path)
        if parts[-1] is not error:
            for note in getattr(error, "__notes__", ()):  # the seed: each part of a group is reported, not the group
                parts[-1].add_note(note)
        raise
    finally:
        if host.started:  # the process may wait long for threads
            host.leave_safe()
    return 0


def _run(program: Program, name: str | None, host: process.Process) -> None:
    """Execute the program, then its coroutine function `main` if the program did not run it."""
    if program.package:
        __import__(program.package)
    if name is not None:
        # As a module, so that code under `if __name__ == "__main__"` does not run.
        module = program.execute(_module_name(program.path))
        main = _find_main(module, name, program.path)
        if main.__code__ not in host.mains:
            host.run(main)
        return
    module = program.execute()
    if host.started or (program.tree is not None and calls_main(program.tree)):
        return
    if not inspect.iscoroutinefunction(getattr(module, "main", None)) and (program.tree is None or acts(program.tree)):
        return
    host.run(_find_main(module, "main", program.path))


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """Set gpiozero's pin factory unless another one is chosen, and restore `__main__` afterwards."""
    before = os.environ.get("GPIOZERO_PIN_FACTORY")
    os.environ.setdefault("GPIOZERO_PIN_FACTORY", "hwloop")
    ours = sys.modules["__main__"]
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("GPIOZERO_PIN_FACTORY", None)
        sys.modules["__main__"] = ours
        if "__mp_main__" in sys.modules:
            sys.modules["__mp_main__"] = ours


def _search_first(directory: str) -> None:
    """Put a directory first in `sys.path`, as Python does."""
    if not sys.flags.safe_path:
        sys.path[0] = directory


def chosen_board(option: str | None) -> str | None:
    """Return the board for `process.hosted`. A named board is opened at once, so that a mistake shows at once."""
    named = os.environ.get("HWLOOP_BOARD")
    return option or (named if named != "auto" else None) or None


def _priority(text: str) -> RealTime:
    """Convert an argument for argparse."""
    try:
        return RealTime(priority=int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a priority is 1 to 99, not {text!r}; the program comes before it") from None


def _seed(text: str) -> int | str:
    """Convert an argument for argparse."""
    try:
        return text if text == "random" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a seed is a whole number, or random, not {text!r}") from None


def _limit(text: str) -> float:
    """Convert an argument for argparse."""
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise argparse.ArgumentTypeError(f"a limit is a number of virtual seconds above 0, or inf, not {text!r}")
    return limit


def _hosting(arguments: argparse.Namespace) -> runner.Hosting:
    """Return how to make the program's loops, and the clock of loops and board."""

    def finish(loop: EventLoop) -> EventLoop:
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
        return runner.Hosting(lambda seed, limit: finish(EventLoop()))
    from hwloop.virtual.clock import VirtualClock
    from hwloop.virtual.loop import SimLoop
    from hwloop.virtual.seeding import chosen_seed
    from hwloop.virtual.time_limit import chosen_limit

    class ProgramClock(VirtualClock):
        """A clock that continues in the next run of the program, as its board does."""

        def close(self) -> None:
            super().close()
            self.closed = False

    try:
        chosen_seed(arguments.seed)  # HWLOOP_SEED may be malformed
        chosen_limit(arguments.limit)  # HWLOOP_LIMIT too
    except ValueError as error:
        raise UsageError(str(error)) from error
    clock = ProgramClock()

    def make_loop(seed: Any, limit: float | None) -> EventLoop:
        seed = arguments.seed if seed is None else seed
        limit = arguments.limit if limit is None else limit
        return finish(SimLoop(seed, limit=limit, clock=clock))

    return runner.Hosting(make_loop, clock)


def load_program(path: str) -> ModuleType:
    """The module that a Python file makes, in `sys.modules` under the file's name.

    Its code is not cached: a service may not be allowed to write beside it. Raises `UsageError` for a file that can't
    be read, `Failure` for one that is not Python, and what the program raises.
    """
    return find_file(path).execute(_module_name(path))


def _module_name(path: str) -> str:
    """Return a module name; a program called signal.py must not replace Python's module."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return stem if stem.isidentifier() and stem not in sys.modules else "__hwloop_program__"


def _split(program: str) -> tuple[str, str | None]:
    """Split PROGRAM.py:MAIN into the path and the name of the coroutine function; None without a name."""
    path, colon, name = program.rpartition(":")
    if colon and name.isidentifier() and not os.path.exists(program):
        return path, name
    return program, None


def _find_main(module: ModuleType, name: str, path: str) -> Callable[[], Coroutine[Any, Any, object]]:
    main = getattr(module, name, None)
    if not inspect.iscoroutinefunction(main):
        if main is None:
            problem = f"there is no {name!r} in it"
        else:
            problem = f"{name!r} in it is not async" + (f"; write 'async def {name}():'" if callable(main) else "")
        runnable = [
            each
            for each, value in vars(module).items()
            if inspect.iscoroutinefunction(value) and value.__module__ == module.__name__ and not _missing(value)
        ]
        others = f"what can be run is {', '.join(runnable)}: {path}:{runnable[0]}" if runnable else ""
        hint = others or f"a program needs an 'async def {name}():'"
        raise UsageError(f"{path}: {problem}; {hint}")
    if missing := _missing(main):
        raise UsageError(f"{path}: {name!r} needs arguments ({missing}), and is called with none; give them defaults")
    return main


def _missing(function: Callable[..., object]) -> str:
    """Return the required parameters."""
    return ", ".join(
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )


def _status(exit: SystemExit) -> int:
    """Return the status for the argument of sys.exit(), as Python does."""
    if exit.code is None or isinstance(exit.code, int):
        return exit.code or 0
    print(exit.code, file=sys.stderr)
    return 1


def _note_where(failure: BaseException, path: str) -> None:
    """Add the place in the program where a failure occurred."""
    places = [frame for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == path]
    if places:
        failure.add_note(f"in {path}, line {places[-1].lineno}, in {places[-1].name}")


def _show(error: BaseException, path: str) -> None:
    """Print the traceback of an exception of the program, beginning with the program."""
    from hwloop.virtual.clock import DeadlockError

    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename != path:
        start = start.tb_next
    if isinstance(error, DeadlockError):  # its message has the place of each task; the rest are frames of the loop
        start = program_frames(start)
    traceback.print_exception(error.with_traceback(start or error.__traceback__))
