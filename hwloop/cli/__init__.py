"""The `hwloop` command.

Each subcommand is a module of this package, imported only when it is called: on a Pi Zero an import takes longer than
most commands. This module has what all commands share: options, exit statuses and error messages. Wrong arguments have
status 2, failures status 1, and a message names the attempt, the problem and the remedy. `--debug` adds tracebacks.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

import hwloop
from hwloop.compiled_core import core_state
from hwloop.errors import HardwareError, suggestion

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

COMMANDS = {
    "run": "run the main coroutine of a program on the loop",
    "record": "run a program, and record every edge, byte and transfer of its board",
    "replay": "run a program again with the inputs of a recording, and compare its outputs",
    "log": "print a recording, or convert it to a waveform",
    "parts": "list the parts of simulated boards with their keys, wiring and use, or draw a board",
    "sim": "play scenarios with a program on the simulated board, for tests and CI",
    "service": "install programs as services, with environments and units of their own; upgrade, watch, remove them",
    "unit": "print the systemd unit of a program, fitted to the devices that it uses",
    "new": "make a small project: a program, its simulated board, tests, a scenario, a CI workflow",
    "guard": "drive outputs to their safe level when a program is killed or hangs",
    "demo": "run a weather station on the simulated board, on asyncio and on hwloop, and compare both",
    "bench": "measure the lateness of timers and edges on this machine, on hwloop and on other loops",
    "doctor": "show what this machine can do, what stands in the way, and the command that mends it",
    "monitor": "print the events of GPIO lines, serial ports and I2C devices",
}
"""The subcommands: each a module here with `add_arguments(parser)` and `execute(arguments)`, which returns a status."""

EPILOG = """\
exit status: 0 for success, 1 for a failure, 2 for wrong arguments; a process that a signal ended dies of that signal.
'hwloop COMMAND --help' describes a command."""


THREADS_WITHIN = 5.0
"""Seconds within which the threads of a program must have ended after it, where a signal has ended it. The handlers of
gpiozero count as threads."""

signals_received: list[int] = []
"""The signals that this process got so far and that ask it to end."""

threads_bounded: list[str] = []
"""Why the threads of the program must end in time even without a signal; empty if they need not."""

at_signal: list[Callable[[int], object]] = []
"""Called with the number of a signal, instead of raising `Ended`, once the command has ended."""


class UsageError(Exception):
    """The arguments are wrong; the message says how to correct them."""


class Failure(Exception):
    """The command failed; the message gives the reason."""

    status = 1


class Unloadable(Failure):
    """The program can't be loaded, and would not be the next time: a service is not started again."""

    status = 2


class Ended(KeyboardInterrupt):
    """A signal ended the command: in order, or with `forced` without waiting for tasks that do not end."""

    def __init__(self, number: int, *, forced: bool = False) -> None:
        super().__init__(signal.strsignal(number))
        self.number = number
        self.forced = forced


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (by default that of the process) and return its exit status."""
    ours = sys.modules["__main__"]  # a command executes its program as `__main__`
    try:
        with contextlib.ExitStack() as lifetime:
            return _execute(sys.argv[1:] if argv is None else list(argv), lifetime)
    except Ended as ended:
        return 128 + ended.number
    finally:
        sys.modules["__main__"] = ours
        if "__mp_main__" in sys.modules:
            sys.modules["__mp_main__"] = ours


def script() -> NoReturn:
    """Run the installed command: `main`, then the end of the process.

    A process that a signal ended dies of that signal, so that its parent knows: systemd counts a service stopped by
    SIGTERM as a success, and a shell ends its script on Ctrl-C. Before that, all exit functions run.

    The program stays `__main__`, as it does in Python: its objects live until Python clears up, after the board.
    """
    # A stream that was closed (`>&-`) is None, and the next device to be opened would get its number.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for as long as the process
    deadly: list[int] = []

    def die_of_signal() -> None:
        if deadly:
            die(deadly[0])

    # Exit functions run in reverse order: registered first, these run last. The exit functions of a program, such as
    # gpiozero's clean-up, still need the board.
    lifetime = contextlib.ExitStack()
    atexit.register(die_of_signal)
    atexit.register(lifetime.close)
    status = 1
    try:
        try:
            status = _execute(sys.argv[1:], lifetime)
        except Ended as ended:
            deadly.append(ended.number)
            status = 128 + ended.number
            if ended.forced:
                # An ordinary exit waits for threads, and one of them may never end.
                _bound_handlers(0)
                atexit._run_exitfuncs()
        if deadly or signals_received or threads_bounded:
            _limit_threads(status)
        else:
            _note_signals(deadly, status)
    except Ended as further:
        deadly.append(further.number)
        _bound_handlers(0)
        atexit._run_exitfuncs()
    sys.exit(status)


def die(number: int) -> NoReturn:
    """End the process by a signal, now."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass  # the reader has gone
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the signal is blocked


def _note_signals(deadly: list[int], status: int) -> None:
    """From now on add a signal to `deadly`, and interrupt no exit function by it; a second one ends the process."""
    exiting = False

    def begin() -> None:
        nonlocal exiting
        exiting = True

    def note(number: int) -> None:
        deadly.append(number)
        if len(deadly) > 1:
            die(number)
        elif not exiting:
            _limit_threads(status)

    at_signal.append(note)
    atexit.register(begin)


def _limit_threads(status: int) -> None:
    """End the process after a while, or at a further signal, though threads go on. At an exit Python waits for them."""
    over = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal over
        if over:
            return
        over = True
        mine = threading.main_thread()
        left = sorted(each.name for each in threading.enumerate() if not each.daemon and each is not mine)
        when = f"{THREADS_WITHIN:g} s after it" if number == signal.SIGALRM else "at a further signal"
        with contextlib.suppress(OSError):
            print(
                f"hwloop: the program has ended, and {when} not yet its threads: {', '.join(left)}; the process ends "
                "without them; end them on SIGTERM, or make them daemon threads",
                file=sys.stderr,
            )
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(status)  # of a program that has ended with a status, and not by the signal

    def stop() -> None:
        nonlocal over
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    for number in {signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
        if number == signal.SIGALRM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    signal.setitimer(signal.ITIMER_REAL, THREADS_WITHIN)
    _bound_handlers(THREADS_WITHIN)
    atexit.register(stop)  # the threads have ended, and exit functions may take their time


def _bound_handlers(seconds: float) -> None:
    """Bound the wait for gpiozero's handlers and steps, which run in threads of hwloop's that end with its devices."""
    last_wait = sys.modules.get("hwloop.pins.last_wait")
    if last_wait is not None:
        last_wait.bound(seconds)


def say(text: str, stream: TextIO | None = None) -> None:
    """Write to standard output, or `stream`, at once.

    Raises `Failure` if there is no room, and `BrokenPipeError` if the reader has gone.
    """
    try:
        print(text, end="", file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise Failure(f"standard output: {str(error.strerror).lower()}; what was to come is lost") from error


def _give_up_output() -> None:
    """Discard the buffer of standard output, which would be written again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def causes(error: BaseException) -> list[BaseException]:
    """Return the exceptions in an exception group, at any depth; any other exception alone."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [cause for part in error.exceptions for cause in causes(part)]


def _execute(argv: list[str], lifetime: contextlib.ExitStack) -> int:
    """Run a command line. `lifetime` is closed when the command, or its process, ends."""
    # A terminal that can't show a degree sign gets an escape, not a crash.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    name, debug = "hwloop", False
    try:
        position = next((index for index, word in enumerate(argv) if not word.startswith("-")), len(argv))
        options = _top_parser().parse_args(argv[:position])
        if position == len(argv):
            _top_parser().print_help(sys.stderr)
            return 2
        command = argv[position]
        if command not in COMMANDS:
            hint = suggestion(command, COMMANDS)
            if not hint and (command.endswith(".py") or os.path.exists(command)):
                hint = f"; to run a program: hwloop run {command}"
            raise UsageError(f"unknown command {command!r}; choose from {', '.join(COMMANDS)}{hint}")
        name = f"hwloop {command}"
        module = importlib.import_module(f"hwloop.cli.{command}")
        parser = _Parser(prog=name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(parser)
        parser.add_argument("--debug", action="store_true", help="asyncio's debug mode, and tracebacks of all errors")
        words, rest = _split(argv[position + 1 :])
        arguments = parser.parse_args(words)
        if rest and "rest" not in arguments:
            raise UsageError(f"this command takes no arguments after '--': {' '.join(rest)!r}")
        arguments.rest = rest
        arguments.lifetime = lifetime
        debug = arguments.debug = arguments.debug or options.debug
        status: int = module.execute(arguments)
        say("")
        return _advised(name, status)
    except Ended:
        raise
    except KeyboardInterrupt:
        raise Ended(signal.SIGINT) from None
    except UsageError as error:
        _print_error(name, f"{error}\nsee '{name} --help'", debug)
        return _advised(name, 2)
    except Failure as error:
        _print_error(name, str(error), debug)
        return _advised(name, error.status)
    except Exception as error:
        from hwloop.cli.interruption import interruption  # late: few commands fail

        if interrupt := interruption(error):
            raise Ended(getattr(interrupt, "number", signal.SIGINT)) from None
        parts = causes(error)
        if all(isinstance(part, BrokenPipeError) for part in parts):  # the reader of our output has gone
            _give_up_output()
            return 128 + signal.SIGPIPE
        if debug:
            traceback.print_exc()
        # Parts of a program that fail for the same reason are reported once, with all places.
        messages: dict[str, list[str]] = {}
        for part in parts:
            if isinstance(part, HardwareError | Failure):
                text = _text_of(part)
            else:
                text = (
                    f"unexpected {type(part).__name__}: {_text_of(part)}; please report it with the output of --debug"
                )
            messages.setdefault(text, []).extend(getattr(part, "__notes__", ()))
        for text, places in messages.items():
            _print_error(name, "\n".join([text, *places]))
        return 1


def _advised(name: str, status: int) -> int:
    """Return a status. In a service that is not started again because of it, the last line says what to do."""
    if status == 2 and "NOTIFY_SOCKET" in os.environ:
        from hwloop.cli.in_service import unit_of_process

        unit = unit_of_process() or "the service"
        command = f"sudo systemctl restart {unit}" if unit.endswith(".service") else "start it again"
        _print_error(name, f"systemd does not start {unit} again; correct the above, then: {command}")
    return status


def _text_of(error: BaseException) -> str:
    """Return the text of an error; a program's own class of errors may have a `__str__` that raises."""
    try:
        return str(error)
    except Exception:
        return f"{type(error).__name__} (its text could not be made)"


def _print_error(name: str, message: str, debug: bool = False) -> None:
    if debug:
        traceback.print_exc()
    print(f"{name}: {message}", file=sys.stderr)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments of the command, and those after "--"."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors, and those of standard output."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        if file is None:
            say(self.format_help())
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized"):
            option = message.partition(": ")[2].partition(" ")[0].partition("=")[0]
            meant = suggestion(option, self._option_string_actions)
            if self.get_default("rest") is not None:
                message += "; arguments of the program follow '--'"
            elif self.prog == "hwloop" and not meant:
                message += "; the options of a command follow its name"
            message += meant
        raise UsageError(message)


class _ShowVersion(argparse.Action):
    """Prints the version and the core, which only this option looks for, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: object) -> None:
        say(f"hwloop {hwloop.__version__} ({core_state()})\n")
        parser.exit()


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {command:{width}}  {what}" for command, what in COMMANDS.items())
    parser = _Parser(
        prog="hwloop",
        usage="hwloop [--debug] COMMAND ...",
        description=f"An asyncio event loop for hardware.\n\ncommands:\n{listed}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    parser.add_argument("--debug", action="store_true", help="asyncio's debug mode, and tracebacks of all errors")
    return parser
