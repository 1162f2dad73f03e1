"""A process with open outputs, as its guardian sees it: its connection, its last message, its end.

The connection closes when the process ends or becomes another program. A child may hold a copy of it, so the process
itself is watched too (pidfd_open(2)).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator

from hwloop.service.abandoned_outputs import say
from hwloop.service.guard_link import Answer, receive_with, send_with
from hwloop.service.guard_records import GuardedOutput, Owner, State, decode
from hwloop.service.kept_lines import KeptLines


class GuardedProcess:
    """One connected process, and its last message.

    Attributes:
        outputs: those that are driven to their safe level when the process has ended.
        kept_outputs: those that outlive it.
        due: the last sign of life of each loop: seconds, CLOCK_MONOTONIC.
    """

    def __init__(self, connection: socket.socket, kept: KeptLines) -> None:
        self._connection = connection
        self._kept = kept
        connection.setblocking(False)
        self.pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._pidfd = pidfd(self.pid)
        self.outputs: tuple[GuardedOutput, ...] = ()
        self.kept_outputs: tuple[GuardedOutput, ...] = ()
        self.gone: bool = False
        self.killed: bool = False
        self.due: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._misunderstood = False

    @property
    def drives(self) -> bool:
        """Whether it has outputs open."""
        return bool(self.outputs) or any(not output.left for output in self.kept_outputs)

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
                message, descriptors = receive_with(self._connection)
            except BlockingIOError:
                break
            except OSError:
                message, descriptors = b"", []
            if message:
                self._receive(message, descriptors)
                heard += (*self.outputs, *(output for output in self.kept_outputs if not output.left))
            else:
                self.gone = True
        self.gone = self.gone or ended
        return heard

    def _receive(self, message: bytes, descriptors: list[int]) -> None:
        try:
            state = decode(message)
        except ValueError as error:
            for fd in descriptors:
                os.close(fd)
            if not self._misunderstood:
                self._misunderstood = True
                say(f"process {self.pid} sent an invalid message: {error}")
            return
        if self._pidfd is not None and (state.owner is None or not self._is(state)):
            os.close(self._pidfd)  # of a later process with this id
            self._pidfd = None
        known = {output.place for output in self.outputs}
        self.outputs = tuple(output for output in state.outputs if not output.kept)
        self._kept.let_go(output for output in self.outputs if output.place not in known)
        self.kept_outputs = tuple(output for output in state.outputs if output.kept)
        if state.hand is not None:
            self._kept.hand_over(self, state.outputs[state.hand], descriptors)
        self._kept.update(self, self.kept_outputs)
        if state.take is not None:
            place, serial = state.take
            kept, found = self._kept.take(self, state.outputs[place])
            with contextlib.suppress(OSError):  # it has ended, or does not read
                send_with(self._connection, Answer(serial, kept, found).encode(), found)
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


def pidfd(pid: int) -> int | None:
    """Return a descriptor that is readable when a process has ended; None if the kernel gives none."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
