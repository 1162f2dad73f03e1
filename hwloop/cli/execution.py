"""Executing a program with hwloop's loop, board and surroundings: what `hwloop run` does, for other commands too."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from hwloop import board as boards
from hwloop import runner, service
from hwloop.cli import Failure, UsageError, causes, process
from hwloop.cli.interruption import interruption
from hwloop.cli.program import Program, acts, calls_main, find_file, find_module, is_script, uses_loops
from hwloop.core.clock import REAL
from hwloop.errors import HardwareError, program_frames

if TYPE_CHECKING:
    from hwloop.cli.script_time import ScriptTime


class Found(NamedTuple):
    """A program, and how it is run."""

    program: Program
    name: str | None
    """The coroutine function to run; None runs the program as Python would."""

    @property
    def is_script(self) -> bool:
        """Whether it certainly runs without a loop."""
        return self.program.tree is not None and self.name is None and is_script(self.program.tree)

    @property
    def is_async(self) -> bool:
        """Whether it may have a loop: it has coroutine functions, or imports a library that runs loops."""
        return self.program.tree is None or self.name is not None or uses_loops(self.program.tree)


def find_program(path: str | None, module: str | None, rest: Sequence[str]) -> Found:
    """Find a program by its path or the name of its module, and set `sys.argv` and `sys.path` for it.

    `rest` are the program's arguments.

    Raises `UsageError` if there is none, `Failure` for invalid Python; exceptions of imported packages pass.
    """
    name = None
    if module is not None:
        sys.argv = ["-m", *rest]
        _search_first(os.getcwd())
        program = find_module(module)
    else:
        assert path is not None, "a program has a path or a module"
        path, name = _split(path)
        program = find_file(path)
    sys.argv = [program.path, *rest]
    _search_first(program.search)
    return Found(program, name)


def run_program(
    find: Callable[[], Found],
    host: process.Process,
    hosting: runner.Hosting,
    lifetime: contextlib.ExitStack,
    *,
    simulated: bool,
    begin: Callable[[], object] | None = None,
    failed: Callable[[BaseException], object] | None = None,
    limit: float | None = None,
    grace: float | None = None,
) -> int:
    """Run a program on the board in use and return its exit status.

    `begin` is called just before it begins, `failed` with an exception that is shown as Python shows it.

    For a script in virtual time, `limit` is the longest run, and `grace` how long its threads may go on after it, both
    in virtual seconds; by default both are unlimited.

    `lifetime` is closed when the process ends. Raises `Ended` where a signal ends the program, `HardwareError`, and the
    `UsageError` or `Failure` of `find`. Other exceptions are shown as Python shows them.
    """
    path = ""
    time: ScriptTime | None = None
    begun = False
    try:
        found = find()
        program = found.program
        path = program.code.co_filename
        in_virtual_time = hosting.clock is not REAL and not found.is_async
        lifetime.enter_context(_surroundings("lgpio" if in_virtual_time else "hwloop"))
        if simulated:
            from firmware_sim import SimBoard, imports

            board = boards.current()
            if isinstance(board, SimBoard):  # another package may provide other simulated boards
                if board.signal_program is None:
                    board.signal_program = functools.partial(os.kill, os.getpid())
                lifetime.enter_context(imports.led_to(board))
                if in_virtual_time:
                    from hwloop.cli.script_time import ScriptTime

                    time = ScriptTime(board, limit)
                    lifetime.enter_context(time.installed())
        elif hosting.clock is not REAL:
            from firmware_sim import barrier

            lifetime.enter_context(barrier.around(None))
        lifetime.enter_context(runner.hosting_runs(hosting))
        if found.is_script:
            service.ready()
        if begin is not None:
            begin()
        begun = True
        try:
            with contextlib.nullcontext() if time is None else time.passing(grace):
                _run(program, found.name, host)
        finally:
            host.program_ended()
    except SystemExit as exit:
        return _status(exit)
    except (UsageError, Failure):
        raise
    except KeyboardInterrupt:
        host.leave_safe()  # also of a script, whose threads may go on
        raise
    except BaseException as error:
        if interrupt := interruption(error, at_start=not begun):
            host.leave_safe()
            raise interrupt from None
        parts = causes(error)
        if not all(isinstance(part, HardwareError) for part in parts):
            if time is None or not time.explains(error, path):
                _show(error, path)
            if failed is not None:
                failed(error)
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
        host.check_main = functools.partial(_check_main, program, name)
        try:
            module = program.execute(_module_name(program.path))
        finally:
            host.check_main = None
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


def _check_main(program: Program, name: str, code: CodeType | None) -> None:
    """Raise `UsageError` if a program runs anything but its coroutine function `name` while it is loaded."""
    if code is None or (code.co_filename, code.co_qualname) != (program.code.co_filename, name):
        raise UsageError(
            f"{program.path}: it runs a loop when it is loaded, so {name!r} can't be run instead; leave out ':{name}', "
            "or put what runs the loop under 'if __name__ == \"__main__\":'"
        )


@contextlib.contextmanager
def _surroundings(factory: str) -> Iterator[None]:
    """Set gpiozero's pin factory unless another one is chosen."""
    before = os.environ.get("GPIOZERO_PIN_FACTORY")
    os.environ.setdefault("GPIOZERO_PIN_FACTORY", factory)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("GPIOZERO_PIN_FACTORY", None)


def _search_first(directory: str) -> None:
    """Put a directory first in `sys.path`, as Python does."""
    if not sys.flags.safe_path:
        sys.path[0] = directory


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
    from hwloop.virtual.errors import DeadlockError

    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename != path:
        start = start.tb_next
    if isinstance(error, DeadlockError):  # its message has the place of each task; the rest are frames of the loop
        error.__traceback__ = start = program_frames(start)
    traceback.print_exception(error.with_traceback(start or error.__traceback__))
