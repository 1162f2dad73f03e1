"""The guardian's side: runs a program, or listens for any, and drives outputs when their program no longer can.

docs/guard.md has the protocol. Four decisions shape this side of it:

- The guardian drives first and prints afterwards, and printing neither blocks nor fails: there may be no reader.
- Each process with open outputs is guarded separately. It has its own connection, which the kernel closes when the
  process ends or becomes another program. Then its lines are driven at once, whatever the other processes do; those
  that outlive their program are kept (`hwloop.service.kept_lines`).
- Signals are noted and handled in turn: none can arrive between the guardian and its program.
- A guardian that was stopped or starved has not listened meanwhile: it gives every loop the full time again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

from hwloop import board as boards
from hwloop.service.abandoned_outputs import AGAIN, AbandonedOutputs, say
from hwloop.service.guard import RECORD, STALL
from hwloop.service.guard_door import listening, listening_at
from hwloop.service.guard_link import CHANNEL, SOCKET
from hwloop.service.guard_records import State, read, records
from hwloop.service.guard_signals import TYPED, Signals, in_foreground, noted_signals
from hwloop.service.guarded_process import GuardedProcess, pidfd
from hwloop.service.kept_lines import KeptLines
from hwloop.service.messages import notify

_CHECKS_PER_STALL = 4


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
        self._processes: list[GuardedProcess] = []
        self._lines = AbandonedOutputs()
        self._kept = KeptLines(self._lines)
        self._waited: float | None = None  # seconds, at most, for which it has waited
        self._checked_at = 0.0  # seconds, CLOCK_MONOTONIC: the last check of the loops

    def run(self, command: Sequence[str]) -> int:
        """Run a program to its end, drive the outputs that it left, and return its status; negative for a signal.

        A line that can't be driven is reported, and turns the status 0 into 1. Raises `OSError` if the program can't be
        started.
        """
        with (
            noted_signals() as signals,
            listening() as door,
            contextlib.closing(self._lines),
            contextlib.closing(self._kept),
        ):
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
            if (self._lines.held or self._kept.held) and self._hold != 0 and not signals.ending:
                say("held until this is stopped" if self._hold is None else f"held for {self._hold:g} s")
                signals.wait(self._hold)
        status = program.returncode
        return 1 if status == 0 and (self._lines.failed or self._kept.failed) else status

    def listen(self, path: str) -> int:
        """Guard every process that connects to the socket at `path`, until a signal; return the status.

        At the end, the lines of processes that have gone are driven to their safe level. Those of running processes
        stay as they are.
        """
        with (
            noted_signals() as signals,
            listening_at(path) as door,
            contextlib.closing(self._lines),
            contextlib.closing(self._kept),
        ):
            notify("READY=1")
            say(f"listening for programs with {SOCKET}={path}")
            self._checked_at = time.monotonic()
            while not signals.ending:
                self._wait(door, signals.fd)
                signals.take()
                self._serve(door)
            notify("STOPPING=1")
            self._serve(door)  # what came with the signal
            self._kept.drive_left()
            self._drive_waiting()
            for process in self._processes:
                process.close()
        return 1 if self._lines.failed or self._kept.failed else 0

    def _watch(self, program: subprocess.Popen[bytes], door: socket.socket, signals: Signals) -> None:
        """Listen until the program has ended and no other process has outputs open."""
        ended = pidfd(program.pid)
        self._checked_at = time.monotonic()
        try:
            while program.poll() is None or self._lines.waiting or any(process.drives for process in self._processes):
                if program.returncode is not None:
                    self._kept.drive_left()  # nobody starts it again
                runs = program.returncode is None
                extra = (ended,) if ended is not None and runs else ()
                self._wait(door, signals.fd, *extra, tick=ended is None and runs)
                for number in signals.take():
                    self._forward(number, program)
                self._serve(door, program)
        finally:
            if ended is not None:
                os.close(ended)

    def _wait(self, door: socket.socket, *others: int, tick: bool = False) -> None:
        """Wait until something has come, or the guardian must act by itself."""
        self._waited = self._timeout(tick=tick)
        poll = select.poll()
        for fd in (door.fileno(), *others, *(fd for process in self._processes for fd in process.descriptors())):
            poll.register(fd, select.POLLIN)
        poll.poll(None if self._waited is None else self._waited * 1e3 + 1)

    def _serve(self, door: socket.socket, program: subprocess.Popen[bytes] | None = None) -> None:
        """Read what has come, and do what is due."""
        self._listen(door)
        self._kept.drive_due()
        self._take_over(program)
        self._check_loops(self._waited)
        if not self._lines.waiting:  # there is time
            self._lines.prepare(output.board for process in self._processes for output in process.outputs)

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
            self._lines.take(self._kept.ended(process, process.kept_outputs))
            process.close()
        self._processes.clear()
        self._kept.drive_left()
        self._drive_waiting()

    def _drive_waiting(self) -> None:
        """Drive the lines that are left, however long that takes, and report them."""
        while self._lines.waiting:
            self._lines.drive()
            if self._lines.waiting:
                time.sleep(AGAIN)
        self._lines.report()
        self._kept.report()

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
        if (due := self._kept.due) is not None:
            times.append(max(0.0, due - time.monotonic()))
        if tick or watching:
            times.append(1.0)
        return min(times, default=None)

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
            self._processes.append(GuardedProcess(connection, self._kept))
        for process in self._processes:
            self._lines.let_go(process.hear())

    def _take_over(self, program: subprocess.Popen[bytes] | None) -> None:
        """Drive the outputs of processes that have gone, unless another process has them."""
        gone = [process for process in self._processes if process.gone]
        self._processes = [process for process in self._processes if not process.gone]
        theirs = {output.place for process in self._processes for output in process.outputs}
        lost = {process: self._kept.ended(process, process.kept_outputs) for process in gone}
        for process in gone:
            left = [*process.outputs, *lost[process]]
            self._lines.take([output for output in left if output.place not in theirs])
        self._lines.drive()
        for process in gone:  # the lines are safe: there is time to print
            process.close()
            if process.drives:
                say(f"{_how_it_ended(process, program)} and left outputs open")
        self._lines.report()
        self._kept.report()

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


def _how_it_ended(process: GuardedProcess, program: subprocess.Popen[bytes] | None) -> str:
    if program is None or process.pid != program.pid:
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
