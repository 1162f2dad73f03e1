"""Leftovers: whatever a test has opened or started and not ended, with the place that made it.

A program that leaves a thread or a descriptor behind runs out of them on the Pi after some weeks, and disturbs the
tests that come later. The kernel lists what a process has (`/proc/self`), but not where it was opened. So the places
are noted while the test runs: by an audit hook for files, sockets and processes, by wrappers for threads and pipes.
Whatever was made without a line of the project in the stack belongs to another plugin, and is left to it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from hwloop.testing.places import place_of_caller

JOIN_SECONDS = 2.0
"""Real seconds for which a thread may take to end after its test."""

_HARMLESS = ("/memfd:libffi", "/dev/urandom", "/dev/random")
"""Descriptors that libraries open once for the whole process."""

_EPOLL = "anon_inode:[eventpoll]"

_AUDITED = {"open": 0, "socket.__new__": None, "subprocess.Popen": 0, "os.fork": None, "os.posix_spawn": 0}
"""The events that are noted, and the argument that names what is opened."""

_MAKERS = ("pipe", "pipe2", "eventfd", "openpty", "dup", "memfd_create", "pidfd_open", "timerfd_create")
"""Functions of `os` that return descriptors and raise no audit event."""


class Leftovers:
    """Notes what is there before a test, and where the test makes more."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()
        self._children = _children()
        self._files: dict[str, str] = {}
        self._made: dict[tuple[int, str], str] = {}  # by descriptor, and what it leads to: numbers are reused
        self._started: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note in this block the place of everything that is opened or started."""
        global _noting, _hooked
        if not _hooked:
            sys.addaudithook(_audit)  # it can't be removed, and does nothing between tests
            _hooked = True
        before, _noting = _noting, self
        start = threading.Thread.start

        def start_noted(thread: threading.Thread) -> None:
            self._started[thread] = place_of_caller(2)
            start(thread)

        threading.Thread.start = start_noted  # type: ignore[method-assign, assignment]
        makers = {name: getattr(os, name) for name in _MAKERS if hasattr(os, name)}
        for name, maker in makers.items():
            setattr(os, name, self._noted(maker))
        try:
            yield
        finally:
            for name, maker in makers.items():
                setattr(os, name, maker)
            threading.Thread.start = start  # type: ignore[method-assign]
            _noting = before

    def _noted(self, maker: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, **named: Any) -> Any:
            made = maker(*arguments, **named)
            place = place_of_caller(2)
            for fd in made if isinstance(made, tuple) else (made,):
                self._made[fd, _target(fd)] = place
            return made

        return make

    def note(self, event: str, argument: object) -> None:
        """Note the place of an audited event."""
        place = place_of_caller(3)
        self._files[event] = place
        if isinstance(argument, str | bytes):
            self._files[os.path.realpath(os.fsdecode(argument))] = place

    def found(self) -> list[str]:
        """Return a line for each thread, process and descriptor that is there and was not before."""
        return [*self._found_threads(), *self._found_children(), *self._found_descriptors()]

    def _found_threads(self) -> Iterator[str]:
        give_up = time.monotonic() + JOIN_SECONDS
        for thread in threading.enumerate():
            if thread in self._threads or isinstance(thread, threading._DummyThread):
                continue
            thread.join(max(0.0, give_up - time.monotonic()))
            if thread.is_alive() and self._started.get(thread) != "":
                yield self.describe(thread)

    def describe(self, thread: threading.Thread) -> str:
        """Return a line for a thread that is left behind."""
        place = self._started.get(thread)
        return f"thread {thread.name!r}" + (f", started at {place}" if place else "")

    def _found_children(self) -> Iterator[str]:
        for pid in sorted(_children() - self._children):
            command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
            if command and "resource_tracker" not in command:
                makers = (os.path.realpath(f"/proc/{pid}/exe"), "subprocess.Popen", "os.posix_spawn", "os.fork")
                place = next((self._files[maker] for maker in makers if maker in self._files), None)
                if place == "":
                    continue
                yield f"process {pid} ({command})" + (f", started at {place}" if place else "")

    def _found_descriptors(self) -> Iterator[str]:
        def opened() -> dict[int, str]:
            now = _descriptors()
            return {
                fd: target
                for fd, target in now.items()
                if fd > 2 and self._descriptors.get(fd) != target and not target.startswith(_HARMLESS)
            }

        if opened():
            gc.collect()  # a descriptor that only a reference cycle keeps open is not left behind
            foreign = False
            for fd, target in sorted(opened().items(), key=lambda item: item[1].startswith(_EPOLL)):
                place = self._files.get(target, self._made.get((fd, target)))
                if place is None and target.startswith("socket:"):
                    place = self._files.get("socket.__new__")
                if place == "" or (foreign and target.startswith(_EPOLL)):
                    foreign = True  # another plugin's loop, which has an epoll set and a pair of sockets
                    continue
                yield f"descriptor {fd} ({target})" + (f", opened at {place}" if place else "")


_noting: Leftovers | None = None
_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _noting is not None and event in _AUDITED:
        position = _AUDITED[event]
        _noting.note(event, None if position is None else arguments[position])


def _descriptors() -> dict[int, str]:
    """Return the open descriptors of this process, and what each leads to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        if target := _target(int(name)):
            found[int(name)] = target
    return found


def _target(fd: int) -> str:
    """Return what a descriptor leads to; empty if it is closed, as that of a listing of descriptors is by then."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _children() -> set[int]:
    """Return the child processes of this process; none where the kernel does not list them."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        found.update(map(int, _read(f"/proc/self/task/{thread}/children").split()))
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
