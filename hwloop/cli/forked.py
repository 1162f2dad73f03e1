"""Calls of the `hwloop` command in forks of this process: a new process for each, without the time to start Python.

A fork has this process's modules, and nothing that an earlier call has left behind. So this process must have no
threads, and must not have loaded any program.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hwloop.cli import script

_IMPORTED = (
    "firmware_sim.imports",
    "hwloop.cli.sim_one",
    "hwloop.sources.gpio",
    "hwloop.sources.i2c",
    "hwloop.sources.serial",
    "hwloop.virtual.loop",
    "serial",
    "smbus2",
)
_PATIENCE = 5.0
"""Seconds within which a fork whose time is over must have printed where it is, before it is killed."""


class Forked(NamedTuple):
    """The end of a call."""

    status: int
    """Its exit status; a negative number is that of the signal that killed it."""
    overdue: bool
    """Whether it was ended because its time was over."""


def prepare() -> None:
    """Import what every call needs, once for all."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each fork goes through all objects as it ends, and so copies them


def call(words: Sequence[str], output: Path | None, seconds: float, in_fork: Callable[[], object]) -> Forked:
    """Run `hwloop WORDS` in a fork, and return how it ended.

    Parameters:
        output: the file for what it prints; None for where this process prints.
        seconds: real seconds after which it is ended; it prints where each of its threads is then.
        in_fork: called first in the fork.

    If an exception ends the wait, the call and all processes that it has started are killed.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid == 0:
        _become(words, output, in_fork)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # the fork does it too: whichever comes first
    overdue = False
    descriptor = os.pidfd_open(pid)
    try:
        if overdue := not _has_ended(descriptor, seconds):
            signal.pidfd_send_signal(descriptor, signal.SIGABRT)  # it prints where it is, and dies
            _has_ended(descriptor, _PATIENCE)
    finally:
        os.killpg(pid, signal.SIGKILL)  # it is there until `waitpid`
        os.close(descriptor)
        _, code = os.waitpid(pid, 0)
    return Forked(os.waitstatus_to_exitcode(code), overdue)


def _has_ended(process: int, seconds: float) -> bool:
    """Return whether a process, given by its descriptor, has ended after this time at the latest."""
    return bool(select.select([process], [], [], seconds)[0])


def _become(words: Sequence[str], output: Path | None, in_fork: Callable[[], object]) -> None:
    """Turn this process, a fork, into a call of the command. Does not return."""
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        in_fork()
        # It does not get the terminal, from which it could not read beside this process.
        _lead(0, os.open(os.devnull, os.O_RDONLY))
        if output is not None:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(file, 1)
            _lead(2, file)
        faulthandler.enable(2)
        sys.argv = ["hwloop", *words]
        try:
            script()
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()  # of an exit function, or our own
    finally:
        os._exit(status)


def _lead(number: int, descriptor: int) -> None:
    os.dup2(descriptor, number)
    os.close(descriptor)
