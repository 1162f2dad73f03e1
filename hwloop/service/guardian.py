"""The guardian's side: runs a program, and drives its outputs to their safe levels when the program no longer can.

docs/guard.md has the protocol. Four decisions shape this side of it:

- The guardian drives first and prints afterwards, and printing neither blocks nor fails: there may be no reader.
- Each process with open outputs is guarded separately. It has its own connection, which the kernel closes when the
  process ends or becomes another program. Then its lines are driven at once, whatever the other processes do.
- Signals are noted and handled in turn: none can arrive between the guardian and its program.
- A guardian that was stopped or starved has not listened meanwhile: it gives every loop the full time again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hwloop import board as boards
from hwloop.errors import HardwareError
from hwloop.service.abandoned_outputs import AGAIN, AbandonedOutputs, say
from hwloop.service.guard import CHANNEL, RECORD, SOCKET, STALL
from hwloop.service.guard_records import LONGEST, GuardedOutput, Owner, State, decode, read, records
from hwloop.service.guard_signals import TYPED, Signals, in_foreground, noted_signals

_CHECKS_PER_STALL = 4
_BACKLOG = 128


class Guardian:
    """Runs a program, and drives the outputs of its processes when they have ended.

    Parameters:
        stall: seconds without a sign of life from a loop that drives outputs, after which its process is killed;
            0 to wait for ever.
        hold: seconds for which lines are held at their safe level when the program has left them; None until a signal.
    """

    def __init__(self, *, stall: float, hold: float | None) -> None:
        self._stall = stall
        self._hold = hold
        self._processes: list[_GuardedProcess] = []
        self._lines = AbandonedOutputs()
        self._checked_at = 0.0  # seconds, CLOCK_MONOTONIC: the last check of the loops
        self._failed = False

    def run(self, command: Sequence[str]) -> int:
        """Run a program to its end, drive the outputs that it left, and return its status; negative for a signal.

        A line that can't be driven is reported, and turns the status 0 into 1. Raises `OSError` if the program can't be
        started.
        """
        with noted_signals() as signals, _listening() as door, contextlib.closing(self._lines):
            if signals.ending:
                return -signals.ending
            environment = os.environ | {CHANNEL: str(door.handle), SOCKET: door.name, STALL: str(self._stall)}
            lines_fd = -1
            if boards.SIMULATED_LINES not in environment:
                lines_fd = os.memfd_create("hwloop-lines")  # gone with this process, and its children
                environment[boards.SIMULATED_LINES] = f"/proc/{os.getpid()}/fd/{lines_fd}"
            try:
                program = subprocess.Popen(command, pass_fds=[door.handle], env=environment)
                try:
                    self._watch(program, door.socket, signals)
                finally:
                    self._finish(program, door.socket, signals)
            finally:
                if lines_fd >= 0:
                    os.close(lines_fd)
            if path := environment.get(RECORD, ""):
                self._remove_records(path)
            if self._lines.held and self._hold != 0 and not signals.ending:
                say("held until this is stopped" if self._hold is None else f"held for {self._hold:g} s")
                signals.wait(self._hold)
        status = program.returncode
        return 1 if status == 0 and self._lines.failed else status

    def _watch(self, program: subprocess.Popen[bytes], door: socket.socket, signals: Signals) -> None:
        """Listen until the program has ended and no other process has outputs open."""
        ended = _pidfd(program.pid)
        self._checked_at = time.monotonic()
        try:
            while program.poll() is None or self._lines.waiting or any(process.outputs for process in self._processes):
                timeout = self._timeout(tick=ended is None and program.returncode is None)
                poll = select.poll()
                descriptors = [
                    door.fileno(),
                    signals.fd,
                    *(fd for process in self._processes for fd in process.descriptors()),
                ]
                if ended is not None and program.returncode is None:
                    descriptors.append(ended)
                for fd in descriptors:
                    poll.register(fd, select.POLLIN)
                poll.poll(None if timeout is None else timeout * 1e3 + 1)
                for number in signals.take():
                    self._forward(number, program)
                self._listen(door)
                self._take_over(program)
                self._check_loops(timeout)
        finally:
            if ended is not None:
                os.close(ended)

    def _finish(self, program: subprocess.Popen[bytes], door: socket.socket, signals: Signals) -> None:
        """Wait for the program and drive its outputs, even if watching it failed."""
        while program.poll() is None:
            for number in signals.take():
                self._forward(number, program)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(AGAIN)
        self._listen(door)
        for process in self._processes:
            self._lines.take(process.outputs)
            process.close()
        self._processes.clear()
        while self._lines.waiting:
            self._lines.drive()
            if self._lines.waiting:
                time.sleep(AGAIN)

    def _remove_records(self, path: str) -> None:
        """Remove the records of processes whose outputs were driven: `--after` has nothing left to do."""
        for found in records(path):
            with contextlib.suppress(OSError, ValueError):
                state = read(found)
                gone = state.owner is not None and not state.owner.alive
                if gone and self._lines.done.issuperset(output.place for output in state.outputs):
                    os.unlink(found)

    def _forward(self, number: int, program: subprocess.Popen[bytes]) -> None:
        """Pass a signal on, unless the terminal has sent it to the program too: a second one aborts its clean-up."""
        if number in TYPED and in_foreground():
            return
        if program.poll() is None:
            program.send_signal(number)
        else:
            for process in self._processes:
                process.send(number)

    def _timeout(self, *, tick: bool) -> float | None:
        """Return the seconds until the guardian must act by itself."""
        if self._lines.waiting:
            return AGAIN
        watching = self._stall and any(process.due for process in self._processes)
        times = [self._stall / _CHECKS_PER_STALL] if watching else []
        return min([*times, 1.0]) if tick or watching else None

    def _listen(self, door: socket.socket) -> None:
        """Accept new processes, and read the messages of all."""
        while True:
            try:
                connection, _ = door.accept()
            except BlockingIOError:
                break
            except OSError:  # no descriptor is left: retry later
                time.sleep(AGAIN)
                break
            self._processes.append(_GuardedProcess(connection))
        for process in self._processes:
            self._lines.let_go(process.hear())

    def _take_over(self, program: subprocess.Popen[bytes]) -> None:
        """Drive the outputs of processes that have gone, unless another process has them."""
        gone = [process for process in self._processes if process.gone]
        self._processes = [process for process in self._processes if not process.gone]
        theirs = {output.place for process in self._processes for output in process.outputs}
        for process in gone:
            self._lines.take([output for output in process.outputs if output.place not in theirs])
        self._lines.drive()
        for process in gone:  # the lines are safe: there is time to print
            process.close()
            if process.outputs:
                say(f"{_how_it_ended(process, program)} and left outputs open")
        self._lines.report()

    def _check_loops(self, waited: float | None) -> None:
        """Kill processes with a loop that gives no sign of life, unless the guardian itself did not listen."""
        now = time.monotonic()
        away = now - self._checked_at - (waited or 0.0)
        self._checked_at = now
        if not self._stall:
            return
        if waited is None or away > self._stall / _CHECKS_PER_STALL:
            for process in self._processes:
                process.excuse(now)
            return
        for process in self._processes:
            if process.due and now - min(process.due.values()) > self._stall and not process.killed:
                process.kill()
                say(f"no sign of life for {self._stall:g} s: killing process {process.pid}")


class _GuardedProcess:
    """One connected process, and its last message."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)
        self.pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._pidfd = _pidfd(self.pid)
        self.outputs: tuple[GuardedOutput, ...] = ()
        self.gone = False
        self.killed = False
        self.due: dict[str, float] = {}  # last sign of life of each loop: seconds, CLOCK_MONOTONIC
        self._counts: dict[str, int] = {}
        self._misunderstood = False

    def descriptors(self) -> Iterator[int]:
        yield self._connection.fileno()
        if self._pidfd is not None:  # a child may hold a copy of the connection
            yield self._pidfd

    def hear(self) -> list[GuardedOutput]:
        """Read all messages, and return every output in them.

        Messages that a process sent before it was killed can still be read.
        """
        heard: list[GuardedOutput] = []
        ended = self._pidfd is not None and bool(select.select([self._pidfd], [], [], 0)[0])
        while not self.gone:
            try:
                message = self._connection.recv(LONGEST)
            except BlockingIOError:
                break
            except OSError:
                message = b""
            if message:
                self._receive(message)
                heard += self.outputs
            else:
                self.gone = True
        self.gone = self.gone or ended
        return heard

    def _receive(self, message: bytes) -> None:
        try:
            state = decode(message)
        except ValueError as error:
            if not self._misunderstood:
                self._misunderstood = True
                say(f"process {self.pid} sent an invalid message: {error}")
            return
        if self._pidfd is not None and (state.owner is None or not self._is(state)):
            os.close(self._pidfd)  # of a later process with this id
            self._pidfd = None
        self.outputs = state.outputs
        now = time.monotonic()
        loops = state.loops if state.outputs else {}
        self.due = {
            name: self.due[name] if self._counts.get(name) == count and name in self.due else now
            for name, count in loops.items()
        }
        self._counts = dict(loops)

    def _is(self, state: State) -> bool:
        found = Owner.of(self.pid)
        return found is None or state.owner is None or found.start == state.owner.start

    def excuse(self, now: float) -> None:
        """Give every loop the full time again."""
        self.due = dict.fromkeys(self.due, now)

    def kill(self) -> None:
        self.killed = True
        self.send(signal.SIGKILL)

    def send(self, number: int) -> None:
        if self._pidfd is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        self._connection.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def drive_after(path: str, hold: float) -> int:
    """Drive the outputs in the records of dead processes, hold them for `hold` seconds, and remove the records.

    Return the number of lines that could not be driven. Raises `ValueError` for a file that is not a record and
    `OSError` for one that can't be read, after all others are done.
    """
    failures: list[OSError | ValueError] = []
    with noted_signals() as signals, contextlib.closing(AbandonedOutputs()) as lines:
        left: list[tuple[str, State]] = []
        for found in records(path):
            try:
                state = read(found)
            except FileNotFoundError:
                continue
            except OSError as error:
                failures.append(error)
            except ValueError as error:
                failures.append(ValueError(f"{found} is not a list of outputs: {error}"))
            else:
                if state.owner is not None and state.owner.alive:
                    count = f"{len(state.outputs)} output{'' if len(state.outputs) == 1 else 's'}"
                    say(f"process {state.owner.pid} is running and has {count} open, which stay as they are")
                else:
                    left.append((found, state))
                    lines.take(state.outputs)
        while lines.waiting:
            lines.drive()
            if lines.waiting:
                time.sleep(AGAIN)
        lines.report()
        for found, state in left:
            if lines.done.issuperset(output.place for output in state.outputs):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(found)
        if lines.held and hold:
            say(f"held for {hold:g} s")
            signals.wait(hold)
    if failures:
        raise failures[0]
    return lines.failed


# The socket.


class _Door(NamedTuple):
    socket: socket.socket
    handle: int
    """A descriptor through whose entry in /proc a process can connect."""
    name: str


@contextlib.contextmanager
def _listening() -> Iterator[_Door]:
    """Make a socket for the processes of the program, without a name that others could use or that would remain.

    Its file is removed at once; a descriptor of the file (O_PATH) remains, through which connect(2) finds it.
    """
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
        try:
            with tempfile.TemporaryDirectory(prefix="hwloop-guard-") as directory:
                path = os.path.join(directory, "socket")
                door.bind(path)
                # The directory keeps others out; later, connecting needs the descriptor, or this user's rights.
                os.chmod(path, 0o666)
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise HardwareError(
                "the guardian's socket",
                f"it can't be made in the directory for temporary files ({(error.strerror or str(error)).lower()})",
                "set TMPDIR to another one",
            ) from error
        stack.callback(os.close, handle)
        door.listen(_BACKLOG)
        found = os.fstat(handle)
        yield _Door(door, handle, f"{os.getpid()}:{found.st_dev}:{found.st_ino}")


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that is readable when a process has ended; None if the kernel gives none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _how_it_ended(process: _GuardedProcess, program: subprocess.Popen[bytes]) -> str:
    if process.pid != program.pid:
        return f"process {process.pid} has ended"
    try:
        program.wait(0.2)  # its connection closes a moment before its end
    except subprocess.TimeoutExpired:
        return f"process {process.pid} has become another program"
    name = os.path.basename(str(program.args[0] if isinstance(program.args, list | tuple) else program.args))
    if program.returncode < 0:
        return f"{name} was killed by {_name_of(-program.returncode)}"
    return f"{name} ended"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
