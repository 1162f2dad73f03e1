"""The `hwloop` command.

Each subcommand is a module of its own here, imported when it is called for: on a Pi Zero an import costs more than
most commands do. What is common to all stands here: options, exit statuses, and how an error is told. A wrong call has
status 2, a failure 1, and a message says what was tried, what is wrong and what to do. Tracebacks are for `--debug`.
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
import traceback
from collections.abc import Sequence
from typing import NoReturn, TextIO

import hwloop
from hwloop.errors import HardwareError

COMMANDS = {
    "run": "run the main coroutine of a program on the loop",
    "guard": "drive outputs to their safe level when a program is killed or hangs",
    "demo": "run a weather station on the simulated board, and count what goes in and comes out",
    "bench": "measure how late timers and edges are here, on hwloop and on other loops",
    "monitor": "print what GPIO lines, serial ports and I2C devices have to tell",
}
"""The subcommands: each a module here with `add_arguments(parser)` and `execute(arguments)`, which returns a status."""

EPILOG = """\
exit status: 0 for success, 1 for a failure, 2 for a wrong call; a process ended by a signal dies of that signal.
'hwloop COMMAND --help' tells more of a command."""


class UsageError(Exception):
    """The call is wrong; the message says how, and what would be right."""


class Failure(Exception):
    """The command failed for a reason that the message tells."""


class Ended(KeyboardInterrupt):
    """A signal ended the command: in order, or with `forced` without waiting for what would not end."""

    def __init__(self, number: int, *, forced: bool = False) -> None:
        super().__init__(signal.strsignal(number))
        self.number = number
        self.forced = forced


def main(argv: Sequence[str] | None = None) -> int:
    """Do what a command line says (by default the process's own) and return its exit status."""
    try:
        with contextlib.ExitStack() as lifetime:
            return _execute(sys.argv[1:] if argv is None else list(argv), lifetime)
    except Ended as ended:
        return 128 + ended.number


def script() -> NoReturn:
    """What the installed command calls: `main`, then the end of the process.

    A process that a signal ended dies of that signal, for so its parent knows: systemd counts a service stopped by
    SIGTERM as ended well, and a shell ends its script on Ctrl-C. Before that, all is done that an exit does.
    """
    # Python has None for a stream that was closed (`>&-`), and the next device to be opened would get its number.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for as long as the process
    deadly: list[int] = []

    def die() -> None:
        if deadly:
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    pass  # nobody reads it any more
            signal.signal(deadly[0], signal.SIG_DFL)
            os.kill(os.getpid(), deadly[0])

    # Exit handlers run in reverse order: registered before all others, these are the last. What a program leaves to be
    # done at exit, gpiozero's clean-up for one, still needs the board.
    lifetime = contextlib.ExitStack()
    atexit.register(die)
    atexit.register(lifetime.close)
    try:
        status = _execute(sys.argv[1:], lifetime)
    except Ended as ended:
        deadly.append(ended.number)
        status = 128 + ended.number
        if ended.forced:
            # An ordinary exit waits for threads, and one of them may be what would not end.
            atexit._run_exitfuncs()
    sys.exit(status)


def say(text: str, stream: TextIO | None = None) -> None:
    """Write to standard output, or `stream`, at once. Raises `Failure` where there is no room for it, BrokenPipeError
    where nobody reads it."""
    try:
        print(text, end="", file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise Failure(f"standard output: {str(error.strerror).lower()}; what was to come is lost") from error


def _give_up_output() -> None:
    """What is left in the buffer of standard output must not be tried again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def causes(error: BaseException) -> list[BaseException]:
    """The exceptions that an exception group, at any depth, consists of; any other exception alone."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [cause for part in error.exceptions for cause in causes(part)]


def _execute(argv: list[str], lifetime: contextlib.ExitStack) -> int:
    """Do what a command line says. What `lifetime` is given is done when the command, or its process, ends."""
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
            raise UsageError(f"there is no command {command!r}; there are {', '.join(COMMANDS)}")
        name = f"hwloop {command}"
        module = importlib.import_module(f"hwloop.cli.{command}")
        parser = _Parser(prog=name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(parser)
        parser.add_argument("--debug", action="store_true", help="asyncio's debug mode, and tracebacks of all errors")
        words, rest = _split(argv[position + 1 :])
        arguments = parser.parse_args(words)
        if rest and "rest" not in arguments:
            raise UsageError(f"nothing is expected after '--', but there is {' '.join(rest)!r}")
        arguments.rest = rest
        arguments.lifetime = lifetime
        debug = arguments.debug = arguments.debug or options.debug
        status: int = module.execute(arguments)
        say("")
        return status
    except Ended:
        raise
    except KeyboardInterrupt:
        raise Ended(signal.SIGINT) from None
    except UsageError as error:
        _tell(name, f"{error}\nsee '{name} --help'", debug)
        return 2
    except Failure as error:
        _tell(name, str(error), debug)
        return 1
    except Exception as error:
        parts = causes(error)
        if all(isinstance(part, BrokenPipeError) for part in parts):  # whoever read our output has enough
            _give_up_output()
            return 128 + signal.SIGPIPE
        if debug:
            traceback.print_exc()
        # Several parts of a program may fail for the same reason: it is told once, with all the places.
        messages: dict[str, list[str]] = {}
        for part in parts:
            if isinstance(part, HardwareError | Failure):
                text = _said(part)
            else:
                text = f"unexpected {type(part).__name__}: {_said(part)}; please report it, with what --debug shows"
            messages.setdefault(text, []).extend(getattr(part, "__notes__", ()))
        for text, places in messages.items():
            _tell(name, "\n".join([text, *places]))
        return 1


def _said(error: BaseException) -> str:
    """Return the text of an error; a program's own class of errors may have a `__str__` that raises."""
    try:
        return str(error)
    except Exception:
        return f"{type(error).__name__} (its text could not be made)"


def _tell(name: str, message: str, debug: bool = False) -> None:
    if debug:
        traceback.print_exc()
    print(f"{name}: {message}", file=sys.stderr)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What is for the command, and what follows "--"."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


class _Parser(argparse.ArgumentParser):
    """argparse, but errors are raised."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized") and self.get_default("rest") is not None:
            message += "; what is for the program follows '--'"
        raise UsageError(message)


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {command:{width}}  {what}" for command, what in COMMANDS.items())
    parser = _Parser(
        prog="hwloop",
        usage="hwloop [--debug] COMMAND ...",
        description=f"An asyncio event loop for hardware, at work.\n\ncommands:\n{listed}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"hwloop {hwloop.__version__}")
    parser.add_argument("--debug", action="store_true", help="asyncio's debug mode, and tracebacks of all errors")
    return parser
