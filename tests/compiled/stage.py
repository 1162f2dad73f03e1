"""The parts of fuzzed programs besides calls: odd values, exceptions, protocols, sources, and a loop on a stage."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import fractions
import gc
import os
import re
import selectors
from typing import Any, Protocol

import hwloop
from hwloop.core.handles import Handle

TICK = 2.0**-20
"""Seconds of the stage: sums of them are exact."""


MOST_LOOKS = 3000
"""Polls of one loop after which it runs no more."""


class Notes(Protocol):
    """The player, as protocols and sources use it."""

    transports: list[Any]
    closing: list[int]

    def note(self, *what: object) -> None: ...
    def play(self, script: list[Any]) -> None: ...


class Stuck(BaseException):
    """Nothing would ever wake the loop."""


class Odd(BaseException):
    """Neither an Exception nor one of those that end a program."""


class BadRepr(Exception):
    """An exception that can't be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__


class OddHandle(Handle):  # type: ignore[misc]
    """A subclass as a program may write one: with a dictionary, and methods that do more."""

    def cancel(self) -> None:
        self.noted = True
        super().cancel()


class Thing:
    """An object of no use, by a name that is the same in every process."""

    def __repr__(self) -> str:
        return "thing"


class OddFloat(float):
    """A float by another name."""


ODD: dict[str, Any] = {
    "none": None,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "text": "soon",
    "true": True,
    "huge": 10**400,
    "-huge": -(10**400),
    "1e300": 1e300,
    "fraction": fractions.Fraction(1, 1000),
    "decimal": decimal.Decimal("0.001"),
    "list": [],
    "complex": 1j,
    "bytes": b"x",
    "float": OddFloat(0.001),
    "object": Thing(),
    "type": int,
    "int": 3,
    "big": 2**40,
    "-1": -1,
}


def raised(kind: str) -> None:
    """Raise an exception of a kind."""
    if kind == "recursion":
        if gc.get_threshold()[0]:
            # CPython ends the process if a finalizer recurses that it runs while it makes an exception object.
            raise RecursionError
        raised(kind)
    kinds = {
        "value": ValueError("wrong"),
        "keyboard": KeyboardInterrupt(),
        "exit": SystemExit(3),
        "cancelled": asyncio.CancelledError(),
        "stop": StopIteration(1),
        "generator": GeneratorExit(),
        "odd": Odd("odd"),
        "repr": BadRepr(),
        "group": BaseExceptionGroup("many", [ValueError("one"), KeyboardInterrupt()]),
        "memory": MemoryError(),
    }
    raise kinds[kind]


class Waits(selectors.PollSelector):
    """Lets the stage's time pass instead of waiting."""

    stage: Stage | None = None

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if self.stage is not None:
            self.stage.pass_time(TICK if found else timeout)
        return found


class Stage(hwloop.EventLoop):
    """A loop whose time moves only as actions and waits say."""

    def __init__(self) -> None:
        self.clock = 1.0
        self._looks = 0
        selector = Waits()
        super().__init__(selector)
        selector.stage = self

    def time(self) -> float:  # type: ignore[override]
        return self.clock

    def pass_time(self, timeout: float | None) -> None:
        self._looks += 1
        if timeout is None or self._looks > MOST_LOOKS:
            raise Stuck
        self.clock += timeout


class Noting(asyncio.Protocol):
    """Notes what happens, and does what its script says at each call."""

    def __init__(self, player: Notes, name: str, script: list[Any]) -> None:
        self._player = player
        self._name = name
        self._script = script

    def _happened(self, what: str, *details: object) -> None:
        self._player.note(f"{self._name} {what}", *details)
        self._player.play(self._script)

    def connection_made(self, transport: Any) -> None:
        self._player.transports.append(transport)
        self._happened("made")

    def data_received(self, data: bytes) -> None:
        self._happened("data", len(data))

    def eof_received(self) -> bool | None:
        self._happened("eof")
        return len(self._script) % 2 == 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._happened("lost", type(exc).__name__)

    def pause_writing(self) -> None:
        self._happened("pause")

    def resume_writing(self) -> None:
        self._happened("resume")


class Buffered(asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, player: Notes, name: str, script: list[Any]) -> None:
        self._protocol = Noting(player, name, script)
        self._buffer = bytearray(1000)

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name.startswith(("connection", "eof", "pause", "resume")):
            return getattr(own["_protocol"], name)
        return object.__getattribute__(self, name)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(nbytes))


class Source:
    """A pipe as a source."""

    def __init__(self, player: Notes, name: str, priority: Any, deadline: Any, script: list[Any]) -> None:
        self.priority = priority
        self.deadline = deadline
        self._player = player
        self._name = name
        self._script = script
        self._reader, self._writer = os.pipe()
        player.closing += [self._reader, self._writer]

    def __repr__(self) -> str:
        return self._name

    def happen(self) -> None:
        os.write(self._writer, b"!")

    def fileno(self) -> int:
        return self._reader

    def on_readable(self) -> None:
        self._player.note(self._name)
        os.read(self._reader, 1)
        self._player.play(self._script)


class Finalized:
    """Plays a script when it is collected, as part of a cycle."""

    def __init__(self, player: Notes, name: str, script: list[Any]) -> None:
        self._itself = self
        self._player = player
        self._name = name
        self._script = script

    def __del__(self) -> None:
        self._player.note(self._name)
        # In a context of its own: Python 3.11 dies if a finalizer sets a variable of the current context while
        # copy_context() has the collector run it.
        contextvars.copy_context().run(self._player.play, self._script)


def shown(what: Any) -> str:
    """Return something as text that is the same in every process."""
    if isinstance(what, BaseException):
        try:
            return f"{type(what).__name__}({_same(str(what))})"
        except Exception:
            return type(what).__name__
    if isinstance(what, list | tuple):
        return f"({', '.join(map(shown, what))})"
    if what is None or isinstance(what, bool | int | float | str | bytes | complex):
        return _same(repr(what))[:300]
    if isinstance(what, asyncio.Handle | asyncio.Future):
        return _same(repr(what))[:300]
    return f"a {type(what).__name__}"


def _same(text: str) -> str:
    text = re.sub(r"0x[0-9a-f]+|\.\.\.[0-9a-fx]+|Task-\d+|fd=\d+|/\S*/|\b(bases\.pyx|events\.py):\d+", "…", text)
    # Names of the compiled core's classes, where a callback is one of their methods.
    text = re.sub(r"\bAny(?=(Timer)?Handle\b)", "", text).replace("HandleQueue", "deque")
    # The same complaint about arguments in Python's words and in C's.
    return re.sub(r"^\S*?(\w+)\(\) (takes|missing|got an unexpected|got multiple|needs).*", r"\1: arguments", text)
