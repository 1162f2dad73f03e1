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
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from hwloop.core.clock import REAL, Clock
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.lines import Drive as Drive
from hwloop.lines import Edge as Edge
from hwloop.lines import EdgeKind as EdgeKind
from hwloop.lines import EdgeStream as EdgeStream
from hwloop.lines import LineName as LineName
from hwloop.lines import Losses as Losses
from hwloop.lines import OutputLine as OutputLine
from hwloop.lines import Pull as Pull
from hwloop.requests import EdgeRequest as EdgeRequest
from hwloop.requests import OutputRequest as OutputRequest

if TYPE_CHECKING:
    from smbus2 import SMBus

logger: logging.Logger = logging.getLogger("hwloop")

Backend = Literal["auto", "gpiod", "lgpio"]
SIMULATED_LINES = "HWLOOP_SIM_LINES"
"""Environment variable: the file in which what simulated lines drive outlives the process."""
Choice = str | os.PathLike[str] | Mapping[str, object]
"""A board by name: "auto", "linux", "sim", a board file's path, or a mapping of the shape of such a file."""


class Board(ABC):
    """A computer with pins, ports and buses. Lines are shared by nobody: a second claim is a `HardwareError`."""

    label: str
    """What board this is, for people: "Raspberry Pi 5 Model B Rev 1.0", "simulated board"."""
    clock: Clock = REAL
    """The time of its edges and bus threads."""
    shared: bool = False
    """Whether other processes have the same lines, so that one of them can see to what another has left."""
    simulated: bool = False
    """Whether it has no hardware."""
    address: str = ""
    """How another process reaches these very lines, as `reached` takes it; empty: as its own board in use."""
    choice: str = ""
    """The value of HWLOOP_BOARD for another process to get a board like this; empty if there is none."""
    revision: int | None = None
    """The revision code of the Raspberry Pi that a simulated board poses as; None: the kernel of this one says."""

    def __init__(self) -> None:
        self.before_closing: list[Callable[[], object]] = []
        """Called when the board is closed, while its lines can still be driven."""

    @abstractmethod
    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        """Claim the lines of `request` as inputs and report their edges. Raises `HardwareError`."""

    @abstractmethod
    def open_output(self, request: OutputRequest) -> OutputLine:
        """Claim the line of `request` as an output and drive it to its initial level. Raises `HardwareError`."""

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
        ending: BaseException | None = None
        for callback in tuple(self.before_closing):
            try:
                callback()
            except (SystemExit, KeyboardInterrupt) as error:
                ending = ending or error
            except BaseException:
                logger.exception("%s: failed before closing: %s", self.label, short_name(callback))
        if ending is not None:
            raise ending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_board(name: Choice = "", *, clock: Clock = REAL, backend: Backend | None = None) -> Board:
    """Open a board: "auto", "linux", "sim", the path of a board file (TOML), or a mapping of the same shape.

    An empty name takes HWLOOP_BOARD from the environment, or else "auto": the real board where a GPIO chip is
    present. Raises `HardwareError` when there is none, `ValueError` when the name means nothing. In a program that has
    used a simulated board, "auto" raises `HardwareError` too: real lines then have to be asked for by name.

    With a virtual `clock` only a simulated board makes sense: "auto" is "sim" then, and "linux" a `ValueError`.

    `backend` says how the real board reaches its lines: "gpiod", "lgpio", or "auto" for the first of these that is
    installed. Without it HWLOOP_GPIO from the environment, or else "auto".
    """
    if backend is not None and backend not in get_args(Backend):
        known = get_args(Backend)
        raise ValueError(f"unknown GPIO backend {backend!r}: use {', '.join(known)}{_meant(backend, known)}")
    named = name != ""  # an empty mapping is a board without devices
    if not named:
        name = os.environ.get("HWLOOP_BOARD", "") or "auto"
    if name == "auto":
        name = "sim" if clock is not REAL else _real_board()
    if name == "linux":
        if clock is not REAL:
            raise ValueError("real hardware knows real time only; in virtual time use board='sim' or a board file")
        if any(block.binding for block in _blocks):
            raise HardwareError(
                "board 'linux'",
                "the program was started on a simulated board",
                "start it without --board, or let it take the board that is chosen for it",
            )
        return _load("hwloop.boards.linux", "LinuxBoard")(backend=backend)  # type: ignore[no-any-return]
    if backend is not None and named:
        raise ValueError(f"backend={backend!r} is for the real board; the simulated one has no choice of them")
    if name == "sim":
        return _load("firmware_sim.board", "SimBoard").default(clock=clock)  # type: ignore[no-any-return]
    if not isinstance(name, str) or name.endswith(".toml") or os.sep in name or os.path.isfile(name):
        return _load("firmware_sim.board", "SimBoard")(name, clock=clock)  # type: ignore[no-any-return]
    files = [entry for entry in os.listdir() if entry.endswith(".toml")]
    raise ValueError(
        f"unknown board {name!r}: use auto, linux, sim, or the path of a board file ending in .toml"
        f"{_meant(name, ('auto', 'linux', 'sim', 'simulated', 'simulator', *files))}"
    )


def _real_board() -> str:
    """The name of the real board, where it may be chosen without being asked for by that name."""
    if not has_gpiochip():
        raise HardwareError(
            "/dev/gpiochip*",
            "no GPIO chip on this machine",
            "on a desktop use the simulated board: HWLOOP_BOARD=sim, board='sim' or --board sim; "
            "for this machine's serial ports and I2C buses alone, say linux in place of sim",
        )
    if _simulated_before:
        raise HardwareError(
            "/dev/gpiochip*",
            "this program has used a simulated board, which is not in use here, and real lines were not asked for",
            "choose one by name: HWLOOP_BOARD=sim or board='sim', or linux in place of sim for the real lines",
        )
    return "linux"


def _meant(name: object, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name, if one of the known ones is close."""
    import difflib

    close = difflib.get_close_matches(str(name).lower(), list(known), 1)
    return f"; did you mean {'sim' if close[0].startswith('simulat') else close[0]}?" if close else ""


def has_gpiochip() -> bool:
    """Whether the kernel offers a GPIO character device."""
    try:
        return any(entry.startswith("gpiochip") for entry in os.listdir("/dev"))
    except OSError:
        return False


def current() -> Board:
    """The board in use here: that of the innermost `using()`, else the process's own, which is opened as
    `open_board()` says when it is first asked for, and closed when the process ends.

    A thread that has chosen none uses the board that the main thread uses. In a forked child, a simulated board that
    hwloop has opened is another one of the same kind. Raises `HardwareError` where the board lives in another time than
    the running loop, or can't be had here any more.
    """
    board = _in_use().get()
    loop = asyncio._get_running_loop()
    clock = getattr(loop, "clock", REAL)
    if loop is not None and isinstance(clock, Clock) and clock is not board.clock:
        raise HardwareError(
            board.label,
            "the board and the loop have different clocks",
            "hwloop.run(main(), clock='virtual', board=...) opens a board on the loop's clock, as does "
            "hwloop.board.using('sim', clock=loop.clock)",
        )
    return board


def reached(address: str) -> Board:
    """Return a board with the lines that another process has on a board of this `address`.

    It is the board in use for an empty one, else one that is the caller's to close. Raises `HardwareError`, and
    ValueError for an address that means nothing.
    """
    if not address:
        return current()
    if address == "linux":
        return open_board("linux")
    kind, _, path = address.partition(":")
    if kind == "sim" and path:
        return _load("firmware_sim.board", "SimBoard")(lines=path)  # type: ignore[no-any-return]
    raise ValueError(f"there is no board at {address!r}")


def made_by_program() -> bool:
    """Whether the board in use here was made by the program, which closes it when it likes, outputs included."""
    return _in_use().choice is None


@contextlib.contextmanager
def using(
    board: Board | Choice | None, *, clock: Clock = REAL, backend: Backend | None = None, binding: bool = False
) -> Iterator[None]:
    """Use a board for this block and the tasks it starts.

    A `Board` given stays the caller's to close. One that is named (see `open_board`) is opened now, on `clock` and with
    `backend`, and closed at the end. None is the board in use here already: that of an enclosing block or else the
    process's own, opened when something first asks for it. Where that is on another clock, or `backend` asks for
    another way to its lines, one of the same name is opened for this block.

    While a simulated board is in use, HWLOOP_BOARD says so to the processes that the program starts. With `binding`
    the real board can't be chosen within the block.
    """
    if isinstance(board, Board):
        if backend is not None:
            raise ValueError("backend= is for a board that is opened here; the one given has been made with its own")
        holder = _Holder(board)
    elif board is None:
        holder = _in_use().fitting(clock, backend)
    elif isinstance(board, str | Mapping | os.PathLike):
        choice = board if isinstance(board, Mapping) else os.fspath(board)
        holder = _Holder(open_board(choice, clock=clock, backend=backend), choice, clock, backend)
    else:
        called = f"; write {board.__name__}()" if isinstance(board, type) else ""
        raise TypeError(
            f"board= takes auto, linux, sim, the path of a board file, a mapping like one, or a Board, "
            f"not {short_name(board)}{called}"
        )
    holder.binding = holder.binding or (binding and holder.board is not None and holder.board.simulated)
    token = _current.set(holder)
    _blocks.append(holder)
    try:
        with holder.shown_to_children():
            yield
    finally:
        _current.reset(token)
        del _blocks[max(place for place, each in enumerate(_blocks) if each is holder)]
        if holder not in _blocks and holder not in _own.values():
            holder.end()


class _Holder:
    """A board in use, or the place for one that nobody has asked for yet."""

    def __init__(
        self,
        board: Board | None = None,
        choice: Choice | None = None,
        clock: Clock = REAL,
        backend: Backend | None = None,
    ) -> None:
        self.board = board
        self.choice = choice
        """What it was opened, or is to be opened, as; None for one that was given."""
        self.clock = clock
        self.backend = backend
        self.binding = False
        self.in_main = threading.current_thread() is threading.main_thread()
        self._process = os.getpid()
        self._ended = False
        self._opening = threading.RLock()

    def get(self) -> Board:
        """The board, opened now if it is not yet."""
        if self._process != os.getpid():
            self._leave_to_parent()
        with self._opening:
            if self.board is None:
                if self._ended:
                    raise HardwareError(
                        "the board", "the block that used it has ended", "open it for longer: board.using(...)"
                    )
                self.board = open_board(
                    "" if self.choice is None else self.choice, clock=self.clock, backend=self.backend
                )
            if self.board.simulated:
                _simulated_before.add(self.board.label)
            return self.board

    def _leave_to_parent(self) -> None:
        """In a forked child: a simulated board's threads and FIFOs are its parent's."""
        if self.board is not None and self.board.simulated:
            if self.choice is None:
                raise HardwareError(
                    self.board.label,
                    "it was opened before this process was forked and belongs to its parent",
                    "open one in the child: hwloop.run(main(), board=...), or with hwloop.board.using('sim')",
                )
            self.board = None
        self._process, self._opening = os.getpid(), threading.RLock()

    def fitting(self, clock: Clock, backend: Backend | None) -> _Holder:
        """This one, or one of the same choice that is on `clock` and has `backend`."""
        if self.choice is None:  # it has been given, and `current` says so if it is on another clock
            return self
        if clock in (REAL, self.clock) and backend in (None, self.backend):
            return self
        if isinstance(self.choice, Mapping) or self.choice not in ("", "auto", "linux"):
            backend = None  # the same program, which would have its choice on the real board
        elif backend is not None and backend not in get_args(Backend):
            open_board(backend=backend)  # says what would be right
        return _Holder(None, self.choice, self.clock if clock is REAL else clock, backend)

    @contextlib.contextmanager
    def shown_to_children(self) -> Iterator[None]:
        """Name a simulated board in the environment, so that no process started here takes real lines for it."""
        if self.board is not None and self.board.simulated:
            _simulated_before.add(self.board.label)
            name = self.board.choice or "sim"
        elif self.board is None and self.clock is not REAL and self.choice in (None, "", "auto"):
            name = os.environ.get("HWLOOP_BOARD", "sim")
        else:
            name = ""
        before = os.environ.get("HWLOOP_BOARD")
        if not name or name == before:
            yield
            return
        os.environ["HWLOOP_BOARD"] = name
        try:
            yield
        finally:
            if os.environ.get("HWLOOP_BOARD") == name:
                if before is None:
                    del os.environ["HWLOOP_BOARD"]
                else:
                    os.environ["HWLOOP_BOARD"] = before

    def end(self) -> None:
        """Close the board if it was opened here, in this process."""
        self._ended = True
        if self.board is not None and self.choice is not None and self._process == os.getpid():
            self.board.close()


_blocks: list[_Holder] = []
"""Those of the `using` blocks that are under way, in any thread."""
_own: dict[str, _Holder] = {}
"""The process's own, one for each value of HWLOOP_BOARD that it has had."""
_simulated_before: set[str] = set()
"""The simulated boards that this process has used."""
_current: contextvars.ContextVar[_Holder | None] = contextvars.ContextVar("hwloop.board", default=None)


def _in_use() -> _Holder:
    holder = _current.get()
    if holder is None:
        blocks = tuple(_blocks)
        of_main = [block for block in blocks if block.in_main]
        name = os.environ.get("HWLOOP_BOARD", "")
        holder = (of_main or blocks or (None,))[-1] or _own.setdefault(name, _Holder(choice=""))
    return holder


# Registered at import, so that it comes after the exit handlers of whoever has come to use a board.
@atexit.register
def close_own() -> None:
    """Close the boards that the process has opened for itself: at exit."""
    for holder in _own.values():
        holder.end()
    _own.clear()


def _load(module: str, name: str) -> Any:
    """A board's class by name: boards are on the far side of the seam and bring packages of their own."""
    return getattr(importlib.import_module(module), name)
