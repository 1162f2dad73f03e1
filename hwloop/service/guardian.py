"""The guardian's side: runs a program, and drives its outputs to their safe levels when it can't do that itself.

docs/guard.md has the protocol. What shaped this side of it:

- It drives first and prints afterwards, and printing neither blocks nor fails: nobody may be there to read.
- Each process that has outputs open is a ward of its own, with its own connection, which the kernel closes when the
  process ends or becomes another program. One that has gone has its lines driven at once, whatever others do.
- Signals are noted and handled in turn: there is no moment in which one could separate the guardian from its program.
- A guardian that was stopped itself, or starved, has not been listening: it gives everybody the whole time again.
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
from hwloop.service.guard import CHANNEL, RECORD, SOCKET, STALL
from hwloop.service.guard_lines import AGAIN, Lines, say
from hwloop.service.guard_records import LONGEST, Charge, Owner, State, decode, read, records
from hwloop.service.guard_signals import TYPED, Signals, in_foreground, noted_signals

_LOOKS_PER_STALL = 4
_BACKLOG = 128


class Guardian:
    """Runs a program and sees to the outputs of its processes when they are gone.

    Parameters:
        stall: seconds without a sign of life from a loop that drives outputs, after which its process is killed;
            0 to wait for ever.
        hold: seconds for which lines are held at their safe level when the program has left them; None until a signal.
    """

    def __init__(self, *, stall: float, hold: float | None) -> None:
        self._stall = stall
        self._hold = hold
        self._wards: list[_Ward] = []
        self._lines = Lines()
        self._looked = 0.0  # seconds, CLOCK_MONOTONIC: the last judgement
        self._failed = False

    def run(self, command: Sequence[str]) -> int:
        """Run a program to its end, then do what is to be done. Its status: as `subprocess` has it, negative: a signal.

        A line that can't be driven is reported, and makes 1 of the status 0. Raises OSError where the program can't be
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
                    self._see_off(program, door.socket, signals)
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
        """Listen until the program has ended, and nobody else has outputs open."""
        ended = _pidfd(program.pid)
        self._looked = time.monotonic()
        try:
            while program.poll() is None or self._lines.waiting or any(ward.charges for ward in self._wards):
                timeout = self._timeout(tick=ended is None and program.returncode is None)
                poll = select.poll()
                descriptors = [door.fileno(), signals.fd, *(fd for ward in self._wards for fd in ward.descriptors())]
                if ended is not None and program.returncode is None:
                    descriptors.append(ended)
                for fd in descriptors:
                    poll.register(fd, select.POLLIN)
                poll.poll(None if timeout is None else timeout * 1e3 + 1)
                for number in signals.take():
                    self._forward(number, program)
                self._listen(door)
                self._take_over(program)
                self._judge(timeout)
        finally:
            if ended is not None:
                os.close(ended)

    def _see_off(self, program: subprocess.Popen[bytes], door: socket.socket, signals: Signals) -> None:
        """Whatever has become of the watching: the program ends before its guardian does, and its lines are safe."""
        while program.poll() is None:
            for number in signals.take():
                self._forward(number, program)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(AGAIN)
        self._listen(door)
        for ward in self._wards:
            self._lines.take(ward.charges)
            ward.close()
        self._wards.clear()
        while self._lines.waiting:
            self._lines.drive()
            if self._lines.waiting:
                time.sleep(AGAIN)

    def _remove_records(self, path: str) -> None:
        """Remove the records of those whose lines were driven: there is nothing left to do after them."""
        for found in records(path):
            with contextlib.suppress(OSError, ValueError):
                state = read(found)
                gone = state.owner is not None and not state.owner.alive
                if gone and self._lines.done.issuperset(charge.place for charge in state.charges):
                    os.unlink(found)

    def _forward(self, number: int, program: subprocess.Popen[bytes]) -> None:
        """Pass a signal on, unless the program has it from the terminal: a second one breaks off its clean-up."""
        if number in TYPED and in_foreground():
            return
        if program.poll() is None:
            program.send_signal(number)
        else:
            for ward in self._wards:
                ward.send(number)

    def _timeout(self, *, tick: bool) -> float | None:
        """Seconds until something is to be done without being asked."""
        if self._lines.waiting:
            return AGAIN
        watching = self._stall and any(ward.due for ward in self._wards)
        times = [self._stall / _LOOKS_PER_STALL] if watching else []
        return min([*times, 1.0]) if tick or watching else None

    def _listen(self, door: socket.socket) -> None:
        """Take in what the processes have to say, newcomers included."""
        while True:
            try:
                connection, _ = door.accept()
            except BlockingIOError:
                break
            except OSError:  # no descriptor is left: later, perhaps
                time.sleep(AGAIN)
                break
            self._wards.append(_Ward(connection))
        for ward in self._wards:
            self._lines.let_go(ward.hear())

    def _take_over(self, program: subprocess.Popen[bytes]) -> None:
        """Drive what is left of those that have gone, unless another process has it."""
        gone = [ward for ward in self._wards if ward.gone]
        self._wards = [ward for ward in self._wards if not ward.gone]
        theirs = {charge.place for ward in self._wards for charge in ward.charges}
        for ward in gone:
            self._lines.take([charge for charge in ward.charges if charge.place not in theirs])
        self._lines.drive()
        for ward in gone:  # now that the lines are safe, there is time to say why
            ward.close()
            if ward.charges:
                say(f"{_how_it_went(ward, program)} and left outputs open")
        self._lines.report()

    def _judge(self, waited: float | None) -> None:
        """Kill whose loop gives no sign of life; but who has not listened can't know."""
        now = time.monotonic()
        away = now - self._looked - (waited or 0.0)
        self._looked = now
        if not self._stall:
            return
        if waited is None or away > self._stall / _LOOKS_PER_STALL:
            for ward in self._wards:
                ward.excuse(now)
            return
        for ward in self._wards:
            if ward.due and now - min(ward.due.values()) > self._stall and not ward.killed:
                ward.kill()
                say(f"no sign of life for {self._stall:g} s: killing process {ward.pid}")


class _Ward:
    """One process that is connected, and what it has said last."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)
        self.pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._pidfd = _pidfd(self.pid)
        self.charges: tuple[Charge, ...] = ()
        self.gone = False
        self.killed = False
        self.due: dict[str, float] = {}  # when each loop gave its last sign of life: seconds, CLOCK_MONOTONIC
        self._counts: dict[str, int] = {}
        self._misunderstood = False

    def descriptors(self) -> Iterator[int]:
        yield self._connection.fileno()
        if self._pidfd is not None:  # a copy of the connection may live on in a child
            yield self._pidfd

    def hear(self) -> list[Charge]:
        """Take in all that was sent, and return every output that is in it.

        What is in the socket when a process is killed can still be read.
        """
        heard: list[Charge] = []
        ended = self._pidfd is not None and bool(select.select([self._pidfd], [], [], 0)[0])
        while not self.gone:
            try:
                message = self._connection.recv(LONGEST)
            except BlockingIOError:
                break
            except OSError:
                message = b""
            if message:
                self._understand(message)
                heard += self.charges
            else:
                self.gone = True
        self.gone = self.gone or ended
        return heard

    def _understand(self, message: bytes) -> None:
        try:
            state = decode(message)
        except ValueError as error:
            if not self._misunderstood:
                self._misunderstood = True
                say(f"process {self.pid} says something that is not understood: {error}")
            return
        if self._pidfd is not None and (state.owner is None or not self._is(state)):
            os.close(self._pidfd)  # of a later process with this number
            self._pidfd = None
        self.charges = state.charges
        now = time.monotonic()
        loops = state.loops if state.charges else {}
        self.due = {
            name: self.due[name] if self._counts.get(name) == count and name in self.due else now
            for name, count in loops.items()
        }
        self._counts = dict(loops)

    def _is(self, state: State) -> bool:
        found = Owner.of(self.pid)
        return found is None or state.owner is None or found.start == state.owner.start

    def excuse(self, now: float) -> None:
        """Give every loop the whole time again."""
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
    """Drive the outputs that processes have left in their records, hold them for so many seconds, remove the records.

    Returns how many lines could not be driven. No record: nothing was left. Raises ValueError for a file that is no
    record, after all others are done with, and OSError for one that can't be read.
    """
    failures: list[OSError | ValueError] = []
    with noted_signals() as signals, contextlib.closing(Lines()) as lines:
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
                    outputs = f"{len(state.charges)} output{'' if len(state.charges) == 1 else 's'}"
                    say(f"process {state.owner.pid} is running and has {outputs} open, which are left alone")
                else:
                    left.append((found, state))
                    lines.take(state.charges)
        while lines.waiting:
            lines.drive()
            if lines.waiting:
                time.sleep(AGAIN)
        lines.report()
        for found, state in left:
            if lines.done.issuperset(charge.place for charge in state.charges):
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
    """A socket for the processes of the program, without a name that anybody else could use or that would stay behind.

    Its file is removed at once. What is left is a descriptor of it (O_PATH), which leads connect(2) to it.
    """
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
        try:
            with tempfile.TemporaryDirectory(prefix="hwloop-guard-") as directory:
                path = os.path.join(directory, "socket")
                door.bind(path)
                # The directory keeps others out; later, a descriptor is needed, or this user's rights.
                os.chmod(path, 0o666)
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise HardwareError(
                "the guardian's socket",
                f"it can't be made in the directory for temporary files ({(error.strerror or str(error)).lower()})",
                "name another one in TMPDIR",
            ) from error
        stack.callback(os.close, handle)
        door.listen(_BACKLOG)
        found = os.fstat(handle)
        yield _Door(door, handle, f"{os.getpid()}:{found.st_dev}:{found.st_ino}")


def _pidfd(pid: int) -> int | None:
    """A descriptor that is readable when a process has ended; None where there is none to be had."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _how_it_went(ward: _Ward, program: subprocess.Popen[bytes]) -> str:
    if ward.pid != program.pid:
        return f"process {ward.pid} has ended"
    try:
        program.wait(0.2)  # its connection is closed a moment before it has ended
    except subprocess.TimeoutExpired:
        return f"process {ward.pid} has become another program"
    name = os.path.basename(str(program.args[0] if isinstance(program.args, list | tuple) else program.args))
    if program.returncode < 0:
        return f"{name} was killed by {_name_of(-program.returncode)}"
    return f"{name} ended"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
