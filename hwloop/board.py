"""The seam: the few operations that hardware must offer, and which board is in use.

Sources (`hwloop.sources`) speak to a `Board` and never to a library or a device. There are two: real Linux devices
(`hwloop.boards.linux`) and the simulated board (`firmware_sim`). The simulated one plugs in *below* the parsing: it
writes the records that lgpio writes, opens kernel pseudo-terminals and answers smbus2's ioctls, so the code a test
exercises is the code that runs on the Pi.

Neither board is imported until a source asks for one: importing hwloop touches no hardware.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import importlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from hwloop.clock import REAL, Clock
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from smbus2 import SMBus

logger = logging.getLogger("hwloop")

EdgeKind = Literal["rising", "falling", "both"]
Bias = Literal["as-is", "up", "down", "none"]
Drive = Literal["push-pull", "open-drain", "open-source"]
Backend = Literal["auto", "gpiod", "lgpio"]
LineName = int | str
"""A line as the user names it: the BCM number (17), the kernel's name ("GPIO17"), or where on the header ("J8:11")."""


class Edge(NamedTuple):
    """One change of one line."""

    line: LineName
    """The line, as it was named when it was asked for."""
    value: int
    """Logical level after the edge: 1 is active (for an active-low line that is electrically low)."""
    timestamp_ns: int
    """When the kernel saw it: nanoseconds, CLOCK_MONOTONIC, the clock of `loop.time()`."""
    received_ns: int
    """When the loop read it; same clock."""
    lost: int
    """Edges of this line known to be lost between the previous delivered edge and this one."""


@dataclass
class Losses:
    """What a stream takes for missing. Each edge is in one of the first three."""

    kernel: int = 0
    """Events that the kernel numbered and dropped because its buffer was full. gpiod only."""
    fifo: int = 0
    """Edges missing at a time when lgpio's FIFO was at its limit: at least so many."""
    merged: int = 0
    """Events of the level that was known: an edge between left no event, or the kernel read this one's level late. With
    lgpio it may also have been lost, there is no telling. An estimate, which may be too low or too high."""
    reconciled: int = 0
    """Edges that no event told of and that reading the quiet line found."""
    overflows: int = 0
    """Times a backlog was found at the limit of lgpio's FIFO."""


class EdgeStream(ABC):
    """Edges of one or more lines: a file descriptor and its decoder.

    Attributes:
        losses: what is known to be missing so far.
    """

    losses: Losses

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that is readable when edges wait."""

    @abstractmethod
    def read(self) -> list[Edge]:
        """Edges that wait now, oldest first; empty if there are none. A long backlog takes several reads. Never blocks.

        Raises `HardwareError` when the device is gone.
        """

    def recheck(self) -> list[Edge]:
        """Edges whose report was lost, found by reading the lines; for when they have been quiet.

        A report may be on its way, so an edge is told only when two calls, with no report between them, find a line
        at another level than the last one known. Empty where the stream can't lose reports, or can't tell.
        """
        return []

    @abstractmethod
    def level(self, line: LineName) -> int:
        """The line's logical level now: 0 or 1. With debounce the settled one. Raises `HardwareError`."""

    def alarm_fileno(self) -> int:
        """A descriptor that is readable when the device may be gone and `fileno()` need not show it; -1 for none."""
        return -1

    def check(self) -> None:
        """The alarm rang: raise `HardwareError` if the device is gone."""

    @abstractmethod
    def close(self) -> None:
        """Give the lines back. Harmless when repeated."""


class OutputLine(ABC):
    """One line driven by us."""

    @property
    def forked(self) -> bool:
        """Whether this is a forked child of the process that opened the line: then it is not this one's to drive."""
        return False

    @abstractmethod
    def set(self, value: int) -> None:
        """Drive the line to a logical level, 0 or 1."""

    @abstractmethod
    def get(self) -> int:
        """The line's logical level now."""

    def pwm(self, frequency: float, duty: float) -> None:
        """Be at 1 for the part `duty` (0 to 1) of each cycle, `frequency` (Hz) times a second, until `set()`.

        Raises `HardwareError` where nothing but the loop could do it.
        """
        raise HardwareError(
            "PWM",
            "there is none on this line, which gpiod drives",
            "HWLOOP_GPIO=lgpio has it; or use blink(on, off), which the loop does itself",
        )

    @abstractmethod
    def close(self) -> None:
        """Give the line back; the level it keeps is the last one set where the chip allows. Repeatable."""


class Board(ABC):
    """A computer with pins, ports and buses. Lines are shared by nobody: a second claim is a `HardwareError`."""

    label: str
    """What board this is, for people: "Raspberry Pi 5 Model B Rev 1.0", "simulated board"."""
    clock: Clock = REAL
    """The time of its edges and bus threads."""
    shared: bool = False
    """Whether other processes have the same lines, so that one of them can see to what another has left."""
    revision: int | None = None
    """The revision code of the Raspberry Pi that a simulated board poses as; None: the kernel of this one says."""

    def __init__(self) -> None:
        self.before_closing: list[Callable[[], object]] = []
        """Called when the board is closed, while its lines can still be driven."""

    @abstractmethod
    def open_edges(
        self,
        lines: Sequence[LineName],
        *,
        edges: EdgeKind,
        bias: Bias,
        active_low: bool,
        debounce: float,
        consumer: str,
        chip: str | None = None,
    ) -> EdgeStream:
        """Claim `lines` as inputs and report their edges. `debounce` in seconds (0: none).

        `chip` is a chip's label or the path of its node; None the one that has the header's lines.
        """

    @abstractmethod
    def open_output(
        self,
        line: LineName,
        *,
        initial: int,
        drive: Drive,
        active_low: bool,
        consumer: str,
        chip: str | None = None,
    ) -> OutputLine:
        """Claim `line` as an output at logical level `initial`; `chip` as in `open_edges`."""

    @abstractmethod
    def serial_port(self, port: str) -> str:
        """The path to open for the port that the program calls `port`."""

    @abstractmethod
    def open_bus(self, bus: int) -> SMBus:
        """An smbus2 `SMBus` on I2C bus number `bus`."""

    def close(self) -> None:
        """Release all that the board itself holds (not its streams and lines). Harmless when repeated.

        Does what is to be done before closing; a board of its own calls this first.
        """
        for callback in tuple(self.before_closing):
            try:
                callback()
            except Exception:
                logger.exception("%s: failed before closing: %r", self.label, callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_board(name: str = "", *, clock: Clock = REAL, backend: Backend | None = None) -> Board:
    """The board called `name`: "auto", "linux", "sim", or the path of a board file (TOML) for the simulated one.

    An empty name takes HWLOOP_BOARD from the environment, or else "auto": the real board where a GPIO chip is
    present. Raises `HardwareError` when there is none, `ValueError` when the name means nothing.

    With a virtual `clock` only a simulated board makes sense: "auto" is "sim" then, and "linux" a `ValueError`.

    `backend` says how the real board reaches its lines: "gpiod", "lgpio", or "auto" for the first of these that is
    installed. Without it HWLOOP_GPIO from the environment, or else "auto".
    """
    name = name or os.environ.get("HWLOOP_BOARD", "") or "auto"
    if clock is not REAL:
        if name == "linux":
            raise ValueError("real hardware knows real time only; in virtual time use board='sim' or a board file")
        name = "sim" if name == "auto" else name
    if name == "auto":
        if not has_gpiochip():
            raise HardwareError(
                "/dev/gpiochip*",
                "no GPIO chip on this machine",
                "on a desktop use the simulated board: HWLOOP_BOARD=sim, board='sim' or --board sim; "
                "for this machine's serial ports and I2C buses alone, say linux in place of sim",
            )
        name = "linux"
    board: Board
    if name == "linux":
        board = _board_class("hwloop.boards.linux", "LinuxBoard")(backend=backend)
        return board
    if backend is not None and (name == "sim" or name.endswith(".toml") or os.sep in name):
        raise ValueError(f"backend={backend!r} is for the real board; the simulated one has no choice of them")
    if name == "sim":
        board = _board_class("firmware_sim.board", "SimBoard").default(clock=clock)
        return board
    if name.endswith(".toml") or os.sep in name:
        board = _board_class("firmware_sim.board", "SimBoard")(name, clock=clock)
        return board
    raise ValueError(f"unknown board {name!r}: use auto, linux, sim, or the path of a board file ending in .toml")


def has_gpiochip() -> bool:
    """Whether the kernel offers a GPIO character device."""
    try:
        return any(entry.startswith("gpiochip") for entry in os.listdir("/dev"))
    except OSError:
        return False


def current() -> Board:
    """The board in use here: that of the innermost `using()`, else one opened as `open_board()` says and kept.

    Raises `HardwareError` where it lives in another time than the running loop.
    """
    holder = _current.get()
    if holder.board is None:
        holder.board = open_board(clock=holder.clock, backend=holder.backend)
        if holder is _process:
            atexit.register(holder.board.close)
    clock = getattr(asyncio._get_running_loop(), "clock", REAL)
    if isinstance(clock, Clock) and clock is not holder.board.clock:
        raise HardwareError(
            holder.board.label,
            "the board and the loop have different clocks",
            "hwloop.run(main(), clock='virtual', board=...) opens a board on the loop's clock, as does "
            "hwloop.board.using('sim', clock=loop.clock)",
        )
    return holder.board


@contextlib.contextmanager
def using(board: Board | str | None, *, clock: Clock = REAL, backend: Backend | None = None) -> Iterator[None]:
    """Use a board for this block and the tasks it starts.

    A `Board` given stays the caller's to close. One named by a string (see `open_board`) is opened now, and with None
    the board that `open_board()` finds is opened when something first asks for it; both are on `clock`, with `backend`,
    and closed at the end.
    """
    if isinstance(board, Board) and backend is not None:
        raise ValueError("backend= is for a board that is opened here; the one given has been made with its own")
    holder = _Holder(
        open_board(board, clock=clock, backend=backend) if isinstance(board, str) else board, clock, backend
    )
    token = _current.set(holder)
    try:
        yield
    finally:
        _current.reset(token)
        if holder.board is not None and holder.board is not board:
            holder.board.close()


class _Holder:
    """A board in use, or the place for one that nobody has asked for yet."""

    def __init__(self, board: Board | None = None, clock: Clock = REAL, backend: Backend | None = None) -> None:
        self.board = board
        self.clock = clock
        self.backend = backend


_process = _Holder()
_current: contextvars.ContextVar[_Holder] = contextvars.ContextVar("hwloop.board", default=_process)


def _board_class(module: str, name: str) -> Any:
    """A board's class by name: boards are on the far side of the seam and bring packages of their own."""
    return getattr(importlib.import_module(module), name)
