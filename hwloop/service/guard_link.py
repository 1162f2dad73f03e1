"""The connection of a process to its guardian: how it is found, and the messages on it, with descriptors.

A guardian is found through the environment. One that runs the program gives it a descriptor of its socket
(HWLOOP_GUARD_FD) and the identity of that (HWLOOP_GUARD_SOCKET=PID:DEVICE:INODE): a number alone may be any descriptor.
One that listens for any program has its socket in the file system (HWLOOP_GUARD_SOCKET=/PATH).
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import socket
import stat
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hwloop.service.guard_records import LONGEST, VERSION

CHANNEL, SOCKET = "HWLOOP_GUARD_FD", "HWLOOP_GUARD_SOCKET"
"""Environment variables: the guardian's socket as an inherited descriptor; and its identity, or its path."""
PATIENCE = 5.0
"""Seconds to wait for a guardian that is behind, where the message matters."""


class Answer(NamedTuple):
    """A guardian's answer to a process that wants a kept line."""

    serial: int
    kept: bool
    """Whether it is at the level at which a program left it."""
    descriptors: list[int]

    def encode(self) -> bytes:
        """Return its document, without the descriptors, which travel beside it."""
        return json.dumps({"version": VERSION, "take": self.serial, "kept": self.kept}).encode()


def socket_path(environment: Mapping[str, str]) -> str:
    """Return the path of a guardian's socket in the file system; empty if the environment names none."""
    named = environment.get(SOCKET, "")
    return named if named.startswith("/") else ""


class GuardianLink:
    """An open connection to a guardian."""

    def __init__(self, place: str) -> None:
        """Connect to the socket at a path. Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(place)
        except BaseException:
            self._socket.close()
            raise

    def send(self, message: bytes, descriptors: Iterable[int] = (), patience: float = 0.0) -> bool:
        """Send a message; return False if the guardian has no room for it within `patience` seconds.

        Raises OSError if the guardian has ended.
        """
        until = time.monotonic() + patience
        while True:
            try:
                send_with(self._socket, message, descriptors)
                return True
            except BlockingIOError:  # it is stopped, or far behind
                left = until - time.monotonic()
                if left <= 0:
                    return False
                poll = select.poll()
                poll.register(self._socket, select.POLLOUT)
                poll.poll(left * 1e3)

    def answer(self, serial: int, patience: float = PATIENCE) -> Answer | None:
        """Wait for the answer with this number; return None if none comes. Raises OSError if the guardian has ended."""
        until = time.monotonic() + patience
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            if not poll.poll(left * 1e3):
                break
            message, descriptors = receive_with(self._socket)
            if not message:
                raise OSError(errno.EPIPE, "it has ended")
            try:
                document = json.loads(message)
                found = Answer(int(document["take"]), bool(document["kept"]), descriptors)
            except (ValueError, KeyError, TypeError):
                found = Answer(-1, False, descriptors)
            if found.serial == serial:
                return found
            for fd in found.descriptors:  # the answer to a question that was given up
                os.close(fd)
        return None

    def close(self) -> None:
        self._socket.close()


def find_guardian(environment: Mapping[str, str]) -> GuardianLink | None:
    """Connect this process to its guardian; return None if the environment names none. Raises `UnreachableError`."""
    if path := socket_path(environment):
        try:
            return GuardianLink(path)
        except OSError as error:
            raise UnreachableError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    number, expected = environment.get(CHANNEL, ""), environment.get(SOCKET, "")
    if not number and not expected:
        return None
    try:
        guardian, device, inode = map(int, expected.split(":"))
        places = [f"/proc/self/fd/{int(number)}", f"/proc/{guardian}/fd/{int(number)}"]
    except ValueError:
        raise UnreachableError(
            f"{CHANNEL}={number!r} and {SOCKET}={expected!r} don't name a socket; give the whole path of one that "
            "'hwloop guard --listen' has made"
        ) from None
    reason = f"descriptor {number} is not its socket here, and process {guardian} no longer has it"
    for place in places:
        try:
            found = os.stat(place)
            if not stat.S_ISSOCK(found.st_mode) or (found.st_dev, found.st_ino) != (device, inode):
                continue
            if place == places[0]:
                os.set_inheritable(int(number), False)
            return GuardianLink(place)
        except OSError as error:
            if place == places[0] and os.path.exists(places[1]):
                continue
            reason = f"{(error.strerror or str(error)).lower()}; it may have ended"
    raise UnreachableError(reason)


class UnreachableError(Exception):
    """The guardian that the environment names can't be reached; the text says why."""


def send_with(link: socket.socket, message: bytes, descriptors: Iterable[int]) -> None:
    """Send a message with descriptors (SCM_RIGHTS), without waiting. Raises OSError."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    link.sendmsg([message], rights if rights[0][2] else [], socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


def receive_with(link: socket.socket) -> tuple[bytes, list[int]]:
    """Return the next message and the descriptors with it; an empty one at the end. Raises OSError."""
    message, descriptors, _, _ = socket.recv_fds(link, LONGEST, 8, socket.MSG_CMSG_CLOEXEC)
    return message, descriptors
