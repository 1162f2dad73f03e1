"""Run the main coroutine of a Python file on the loop, or a script that has none.

    hwloop run weather_station.py
    hwloop run weather_station.py:main --board board.toml -- --verbose

The file is loaded as `import` would load it: its module is named after the file, so what stands under
`if __name__ == "__main__":` does not run. Then `main()`, or the coroutine function named after a colon, runs as
`hwloop.run` would run it. In sys.argv the program finds its path and what follows `--`.

A file that does its work on its top level, and has no `main` coroutine, is a script: it runs as `python script.py`
would run it. What it imports as lgpio, gpiozero, smbus2 or serial finds the simulated board, where that is in use.

SIGINT (Ctrl-C), SIGTERM and SIGHUP cancel it, and it can clean up; a second one forces the end. Outputs then go to
their safe level. The exit status is that of `asyncio.run` in a script: 0, 1 for an exception, what sys.exit() says, or
death by the signal.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import atexit
import contextlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

from hwloop import board as boards
from hwloop import service
from hwloop.cli import Failure, UsageError, causes, process
from hwloop.clock import REAL, Clock
from hwloop.errors import HardwareError
from hwloop.loop import EventLoop
from hwloop.realtime import RealTime
from hwloop.runner import new_event_loop

BOARD_HELP = "auto, linux, sim, or a board file (.toml) for the simulated one; default: HWLOOP_BOARD, or auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop run PROGRAM.py[:MAIN] [--board BOARD] [--realtime [PRIORITY]] [--clock virtual] [--seed N] [--debug] "
    )
    parser.usage += "[-- ARGS ...]"
    parser.add_argument(
        "program", metavar="PROGRAM.py[:MAIN]", help="the file, and the coroutine function in it (main)"
    )
    parser.add_argument("--board", metavar="BOARD", help=BOARD_HELP)
    parser.add_argument(
        "--realtime",
        nargs="?",
        const=RealTime(),
        type=_priority,
        metavar="PRIORITY",
        help=f"in real time, as far as the system grants it: SCHED_FIFO (1 to 99; {RealTime.priority}), memory locked",
    )
    parser.add_argument(
        "--clock",
        choices=("real", "virtual"),
        default="real",
        help="virtual: on the simulated board, in a time that jumps from event to event (docs/simulation.md)",
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        metavar="N",
        help='with --clock virtual: which of the orders that asyncio leaves open; "random" takes another each time',
    )
    parser.set_defaults(rest=[])


def execute(arguments: argparse.Namespace) -> int:
    path, name = _split(arguments.program)
    loop_factory, clock = _time(arguments)
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(process.hosted(chosen_board(arguments.board), clock=clock))
        sys.argv = [path, *arguments.rest]
        if not sys.flags.safe_path:
            sys.path[0] = os.path.dirname(os.path.realpath(path))
        tree = _parse(path)
        if clock is REAL and chosen_board(arguments.board) not in (None, "auto", "linux"):
            from firmware_sim import SimBoard, imports

            board = boards.current()
            assert isinstance(board, SimBoard)
            stack.enter_context(imports.led_to(board))
        try:
            if name is None and is_script(tree):
                if arguments.realtime is not None or clock is not REAL:
                    raise UsageError(f"{path}: --realtime and --clock are for a main coroutine, and this is a script")
                # What the script leaves to be done at exit, and threads that it waits for, still need the board.
                atexit.register(stack.pop_all().close)
                service.notify("READY=1")
                _execute(path, tree, "__main__")
            else:
                main = _find_main(load_program(path), name or "main", path)
                host.run(main, loop_factory=loop_factory, debug=arguments.debug)
        except SystemExit as exit:
            return _status(exit)
        except (UsageError, Failure):
            raise
        except (Exception, asyncio.CancelledError) as error:
            parts = causes(error)
            if not all(isinstance(part, HardwareError) for part in parts):
                _show(error, path)
                return 1
            for part in parts:
                _note_where(part, path)
            if parts[-1] is not error:
                for note in getattr(error, "__notes__", ()):  # the seed, of a group that is told by its parts
                    parts[-1].add_note(note)
            raise
    return 0


def chosen_board(option: str | None) -> str | None:
    """The board for `process.hosted`. One that is named is opened at once, so that a mistake in it shows at once."""
    named = os.environ.get("HWLOOP_BOARD")
    return option or (named if named != "auto" else None) or None


def _priority(text: str) -> RealTime:
    """For argparse."""
    try:
        return RealTime(priority=int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a priority is 1 to 99, not {text!r}; the program comes before it") from None


def _seed(text: str) -> int | str:
    """For argparse."""
    try:
        return text if text == "random" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a seed is a whole number, or random, not {text!r}") from None


def _time(arguments: argparse.Namespace) -> tuple[Callable[[], EventLoop], Clock]:
    """What makes the loop, and the clock of loop and board."""
    make: Callable[[], EventLoop] = new_event_loop
    clock = REAL
    if arguments.clock == "virtual":
        from hwloop.seeding import chosen_seed
        from hwloop.simloop import virtual_loop

        try:
            chosen_seed(arguments.seed)  # HWLOOP_SEED may be none
        except ValueError as error:
            raise UsageError(str(error)) from error
        make, clock = virtual_loop("virtual", arguments.seed, None)
    elif arguments.seed is not None:
        raise UsageError("--seed needs --clock virtual: in real time orders can't be repeated")

    def make_loop() -> EventLoop:
        loop = make()
        loop.set_realtime(arguments.realtime)
        return loop

    return make_loop, clock


def load_program(path: str) -> ModuleType:
    """The module that a Python file makes, in `sys.modules` under the file's name.

    Its code is not cached: a service may not be allowed to write beside it. Raises `UsageError` for a file that can't
    be read, `Failure` for one that is not Python, and what the program raises.
    """
    stem = os.path.splitext(os.path.basename(path))[0]
    # A program called signal.py must not take the place of Python's own module.
    return _execute(
        path, _parse(path), stem if stem.isidentifier() and stem not in sys.modules else "__hwloop_program__"
    )


def is_script(tree: ast.Module) -> bool:
    """Whether a file does its work when it is run, rather than in a main coroutine that it defines.

    It calls or loops on its top level, functions and classes aside, and has no `main` there but a plain function.
    """
    acts = False
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "main":
            return False
        if isinstance(node, ast.Name) and node.id == "main" and isinstance(node.ctx, ast.Store):
            return False
        if isinstance(node, ast.alias) and (node.asname or node.name) == "main":
            return False
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            acts = (
                acts
                or isinstance(node, ast.While | ast.For)
                or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
            )
            waiting += ast.iter_child_nodes(node)
    return acts


def _parse(path: str) -> ast.Module:
    try:
        with open(path, "rb") as file:
            source = file.read()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such program; give the path of a Python file") from error
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}; give the path of a Python file") from error
    try:
        return ast.parse(source, path)
    except (SyntaxError, ValueError) as error:
        shown = "".join(traceback.format_exception_only(error)).rstrip()
        raise Failure(f"{path} is not a valid Python program:\n{shown}") from error


def _execute(path: str, tree: ast.Module, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(tree, path, "exec", dont_inherit=True), module.__dict__)
    return module


def _split(program: str) -> tuple[str, str | None]:
    """PROGRAM.py:MAIN as the path and the name of the coroutine function, None if it is not given."""
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
    """The parameters that a call without arguments leaves without a value."""
    return ", ".join(
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )


def _status(exit: SystemExit) -> int:
    """What Python makes of the argument of sys.exit()."""
    if exit.code is None or isinstance(exit.code, int):
        return exit.code or 0
    print(exit.code, file=sys.stderr)
    return 1


def _note_where(failure: BaseException, path: str) -> None:
    """Add the place in the program where a failure came from."""
    places = [frame for frame in traceback.extract_tb(failure.__traceback__) if frame.filename == path]
    if places:
        failure.add_note(f"in {path}, line {places[-1].lineno}, in {places[-1].name}")


def _show(error: BaseException, path: str) -> None:
    """Print the traceback of the program's own exception, from where the program begins."""
    from hwloop.virtual import DeadlockError

    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename != path:
        start = start.tb_next
    if start is None and isinstance(error, DeadlockError):  # it says where each task waits; the rest is the loop's own
        error.__traceback__ = None
    traceback.print_exception(error.with_traceback(start or error.__traceback__))
