"""A guardian that outlives the program, and drives its outputs to their safe levels when it can't do that itself.

A process that is killed, or that hangs, sets nothing any more. The kernel releases its lines, and each keeps or loses
its level as the chip's driver pleases: a relay may stay closed for good. So whoever opens an output with a safe level
tells, before the line is driven, at what level it is to be left, and somebody else can see to it:

- `hwloop guard -- program` runs the program as its child, and hears of the outputs, and that the loop is alive, through
  a socket whose descriptor is in HWLOOP_GUARD_FD. When the program dies with outputs open, it takes over their lines.
  When the loop of a program with open outputs gives no sign of life for a time (HWLOOP_GUARD_STALL, seconds), it kills
  the program first.
- The outputs that are open also stand in the file that HWLOOP_GUARD_FILE names. `hwloop guard --after FILE` drives
  those that are left in it: for systemd's ExecStopPost=.

What is in the socket when a process is killed is still read. Lines on a simulated board die with their process, and
nobody is told of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import json
import logging
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from hwloop import board as boards
from hwloop.board import Drive, LineName
from hwloop.errors import HardwareError

logger = logging.getLogger("hwloop.guard")

CHANNEL, RECORD, STALL = "HWLOOP_GUARD_FD", "HWLOOP_GUARD_FILE", "HWLOOP_GUARD_STALL"
"""Environment variables: the socket to the guardian, the file for what comes after, seconds without a sign of life."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BEATS_PER_STALL = 3
PATIENCE = 5.0
"""Seconds for which a line that is still in use is tried again: a child of the program may have it for a moment."""


class Charge(NamedTuple):
    """A line, and how it is to be left. All levels are logical."""

    line: LineName
    safe: int
    drive: Drive
    active_low: bool
    chip: str | None
    """Its label or device node; None for the chip of the header."""


# The program's side.


class Reporter:
    """Tells the guardian, and writes down, which outputs are open. One per process; see `reporter()`.

    What can't be told is logged once, and the program goes on: without a guardian it is no worse than it was.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._path = environment.get(RECORD, "")
        self._channel = _inherited(environment.get(CHANNEL, ""))
        self._interval = float(environment.get(STALL, "0")) / BEATS_PER_STALL
        self._open: dict[str, Charge] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._warned = False

    def opened(self, key: str, charge: Charge) -> None:
        """An output is about to be opened, under a key of its own."""
        self._open[key] = charge
        self._send("open", key, *charge)
        self._write()
        if self._interval and self._channel is not None:
            self._begin_to_beat()

    def closed(self, key: str) -> None:
        """It was closed, and left as it should be."""
        del self._open[key]
        self._send("close", key)
        self._write()
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop = None

    def _begin_to_beat(self) -> None:
        loop = asyncio._get_running_loop()
        if loop is not None and loop is not self._loop:
            self._loop = loop
            self._beat()

    def _beat(self) -> None:
        self._send("beat")
        assert self._loop is not None
        # As ordinary as any work, and in a context of its own: it stands for the loop getting round to ordinary work.
        self._timer = self._loop.call_later(self._interval, self._beat, context=contextvars.Context())

    def _send(self, *message: object) -> None:
        if self._channel is not None:
            try:
                self._channel.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except OSError as error:
                self._warn("the guardian does not hear us", error)

    def _write(self) -> None:
        """Replace the file by what is open now, or remove it. Never is there half a file."""
        if not self._path:
            return
        try:
            if not self._open:
                os.unlink(self._path)
                return
            with open(f"{self._path}.new", "w", encoding="utf-8") as file:
                json.dump(list(self._open.values()), file)
            os.replace(f"{self._path}.new", self._path)
        except OSError as error:
            self._warn(f"{self._path} can't be written", error)

    def _warn(self, what: str, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.error("%s, and will not see to the outputs: %s (reported once)", what, error.strerror or error)


def reporter() -> Reporter | None:
    """This process's reporter; None where nobody asks for reports. A forked child has none: the outputs are not its."""
    global _reporter
    if _reporter is None and (CHANNEL in os.environ or RECORD in os.environ):
        _reporter = os.getpid(), Reporter(os.environ)
    return _reporter[1] if _reporter is not None and _reporter[0] == os.getpid() else None


_reporter: tuple[int, Reporter] | None = None


def _inherited(number: str) -> socket.socket | None:
    """The socket to the guardian. None where there is none, or no more: a program in between has not passed it on."""
    try:
        if stat.S_ISSOCK(os.fstat(int(number)).st_mode):
            os.set_inheritable(int(number), False)
            return socket.socket(fileno=int(number))
    except (OSError, ValueError):
        pass
    if number:
        logger.error("%s=%s is no socket: the guardian will not see to the outputs", CHANNEL, number)
    return None


# The guardian's side.


class Guardian:
    """Runs a program and sees to its outputs when it is gone.

    Parameters:
        stall: seconds without a sign of life from the loop, while outputs are open, after which the program is killed;
            0 to wait for ever.
        hold: seconds for which lines are held at their safe level when the program has left them; None until a signal.
    """

    def __init__(self, *, stall: float, hold: float | None) -> None:
        self._stall = stall
        self._hold = hold
        self._open: dict[str, Charge] = {}
        self._last_beat = 0.0  # seconds, CLOCK_MONOTONIC; 0: none yet

    def run(self, command: Sequence[str]) -> int:
        """Run a program to its end, then do what is to be done. Its status: as `subprocess` has it, negative: a signal.

        SIGTERM goes on to the program, as do SIGINT and SIGHUP where it did not get them from the terminal itself.
        Raises OSError where the program can't be started, `HardwareError` where a line can't be driven.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                environment = os.environ | {CHANNEL: str(theirs.fileno()), STALL: str(self._stall)}
                program = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
            ours.setblocking(False)
            with _woken_by_signals(program) as wake:
                self._watch(program, ours, wake)
                self._hear(ours)
                if self._open:
                    how = (
                        f"was killed by {signal.Signals(-program.returncode).name}"
                        if program.returncode < 0
                        else "ended"
                    )
                    _say(f"{command[0]} {how} and left outputs open")
                    drive(list(self._open.values()), self._hold, wake)
        return program.returncode

    def _watch(self, program: subprocess.Popen[bytes], channel: socket.socket, wake: int) -> None:
        """Listen until the program has ended, by itself or by our hand."""
        ended = os.pidfd_open(program.pid)
        try:
            poll = select.poll()
            for fd in (channel.fileno(), ended, wake):
                poll.register(fd, select.POLLIN)
            while program.poll() is None:
                due = self._last_beat + self._stall if self._stall and self._last_beat and self._open else None
                ready = poll.poll(None if due is None else max(0, due - time.monotonic()) * 1e3 + 1)
                events = dict(ready)
                if wake in events:
                    poll.unregister(wake)  # it stays readable: nothing will be held for long
                if channel.fileno() in events and not self._hear(channel):
                    poll.unregister(channel.fileno())
                if due is not None and not ready and (late := time.monotonic() - due) >= 0:
                    if late > 0.5:  # it was us who slept, and perhaps the program too: Ctrl-Z, a frozen machine
                        self._last_beat = time.monotonic()
                        continue
                    _say(f"no sign of life for {self._stall:g} s: killing process {program.pid}")
                    program.kill()
                    program.wait()
        finally:
            os.close(ended)

    def _hear(self, channel: socket.socket) -> bool:
        """Take in what was sent. False at its end."""
        while True:
            try:
                message = channel.recv(65536)
            except (BlockingIOError, ConnectionResetError):
                return True
            if not message:
                return False
            kind, *rest = json.loads(message)
            if kind == "open":
                self._open[rest[0]] = Charge(*rest[1:])
            elif kind == "close":
                self._open.pop(rest[0], None)
            self._last_beat = time.monotonic() if kind == "beat" or self._last_beat else 0.0


def drive_after(path: str, hold: float) -> None:
    """Drive the outputs that a program has left in its file, hold them for so many seconds, and remove the file.

    No file: nothing was left. Raises `HardwareError` where a line can't be driven, ValueError for another kind of file.
    """
    try:
        with open(path, encoding="utf-8") as file:
            charges = [Charge(*entry) for entry in json.load(file)]
    except FileNotFoundError:
        return
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a list of outputs: {error}") from error
    with _woken_by_signals(None) as wake:
        drive(charges, hold, wake)
    os.unlink(path)


def drive(charges: Sequence[Charge], hold: float | None, wake: int) -> None:
    """Take the lines, drive them to their safe levels, and hold them until `wake` is readable or `hold` seconds passed.

    Each is tried, whatever becomes of the others. Raises an ExceptionGroup of what failed, or the one `HardwareError`.
    """
    failures: list[HardwareError] = []
    with ExitStack() as held:
        waiting, give_up = list(charges), time.monotonic() + PATIENCE
        while waiting:
            again = []
            for charge in waiting:
                try:
                    line = boards.current().open_output(
                        charge.line,
                        initial=charge.safe,
                        drive=charge.drive,
                        active_low=charge.active_low,
                        consumer="hwloop guard",
                        chip=charge.chip,
                    )
                except HardwareError as error:
                    if error.errno == errno.EBUSY and time.monotonic() < give_up:
                        again.append(charge)
                    else:
                        failures.append(error)
                else:
                    held.callback(line.close)
                    _say(f"line {charge.line} is at its safe level {charge.safe}")
            waiting = again
            if waiting:
                time.sleep(0.05)
        if hold != 0 and len(failures) < len(charges):
            _say("held until this is stopped" if hold is None else f"held for {hold:g} s")
            select.select([wake], [], [], hold)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup("lines that could not be driven to their safe level", failures)


@contextmanager
def _woken_by_signals(program: subprocess.Popen[bytes] | None) -> Iterator[int]:
    """A descriptor that is readable once a signal has asked for the end; the signal goes on to a program that runs.

    What is typed at a terminal reaches the program without us, and a second one would break off its cleaning up.
    """
    wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    shared = (signal.SIGINT, signal.SIGHUP) if _in_foreground() else ()

    def on_signal(number: int, frame: object) -> None:
        os.eventfd_write(wake, 1)
        if program is not None and number not in shared:
            program.send_signal(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake)


def _in_foreground() -> bool:
    """Whether we are what runs at a terminal."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _say(text: str) -> None:
    print(f"hwloop guard: {text}", file=sys.stderr, flush=True)
