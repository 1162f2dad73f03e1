"""The board in use: how a program chooses it, and when it is opened and closed.

Two boards come with hwloop: real Linux devices (`hwloop.boards.linux`) and the simulated board (`firmware_sim`). Others
come from other packages, by an entry point of the group `hwloop.boards`. No board is imported until a source needs one:
importing hwloop touches no hardware.

The interface that boards implement is in `hwloop.board_interface`, `hwloop.lines` and `hwloop.requests`; this module
exports their names too.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from hwloop import plugins
from hwloop.board_interface import Board as Board
from hwloop.board_interface import checked_call as checked_call
from hwloop.core.clock import REAL, Clock
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError, suggestion
from hwloop.lines import Drive as Drive
from hwloop.lines import Edge as Edge
from hwloop.lines import EdgeKind as EdgeKind
from hwloop.lines import EdgeStream as EdgeStream
from hwloop.lines import LineName as LineName
from hwloop.lines import Losses as Losses
from hwloop.lines import OutputLine as OutputLine
from hwloop.lines import Pull as Pull
from hwloop.onewire_files import OneWireFiles as OneWireFiles
from hwloop.requests import EdgeRequest as EdgeRequest
from hwloop.requests import OutputRequest as OutputRequest
from hwloop.spi_device import SpiDev as SpiDev
from hwloop.spi_device import SpiRequest as SpiRequest

Backend = Literal["auto", "gpiod", "lgpio"]
SIMULATED_LINES = "HWLOOP_SIM_LINES"
"""Environment variable: the file that keeps what simulated lines drive beyond the end of the process."""
BUILT_IN = ("auto", "linux", "sim")
"""The boards that hwloop itself names."""
Choice = str | os.PathLike[str] | Mapping[str, object]
"""A board by name ("auto", "linux", "sim", an entry point's), by a board file's path, or as a mapping like one."""


def open_board(name: Choice = "", *, clock: Clock = REAL, backend: Backend | None = None) -> Board:
    """Open a board by its name, as in `Choice`.

    An empty name means HWLOOP_BOARD from the environment, or else "auto": the real board where a GPIO chip is present.
    Raises `HardwareError` where there is none, and ValueError for a name that means nothing. In a program that has used
    a simulated board, "auto" raises `HardwareError` too: real lines must be requested by name then.

    An entry point of the group `hwloop.boards` names a subclass of `Board`. It is called without arguments, or with
    `clock` where it has a parameter of that name. Raises `PluginError`, a ValueError, where it can't be used.

    With a virtual `clock` only a simulated board makes sense: "auto" is "sim" then, and "linux" raises ValueError.

    `backend` selects the library that reaches the real board's lines: "gpiod", "lgpio", or "auto" for the first of
    these that is installed. Without it HWLOOP_GPIO from the environment, or else "auto".
    """
    if backend is not None and backend not in get_args(Backend):
        known = get_args(Backend)
        raise ValueError(
            f"unknown GPIO backend {backend!r}: use {', '.join(known)}{suggestion(str(backend).lower(), known)}"
        )
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
    if not isinstance(name, str) or name.endswith(".toml") or os.sep in name:
        return _load("firmware_sim.board", "SimBoard")(name, clock=clock)  # type: ignore[no-any-return]
    found = plugins.installed(plugins.BOARDS, BUILT_IN)
    if name in found:
        return _open_plugin(name, found[name], clock)
    if os.path.isfile(name):
        return _load("firmware_sim.board", "SimBoard")(name, clock=clock)  # type: ignore[no-any-return]
    files = [entry for entry in os.listdir() if entry.endswith(".toml")]
    where = " in HWLOOP_BOARD" if name == os.environ.get("HWLOOP_BOARD") else ""
    names = ", ".join((*BUILT_IN, *sorted(found)))
    simulated = name.lower().startswith("simulat")
    meant = "; did you mean sim?" if simulated else suggestion(name.lower(), (*BUILT_IN, *found, *files))
    raise ValueError(f"unknown board {name!r}{where}: use {names}, or the path of a board file ending in .toml{meant}")


def _open_plugin(name: str, path: str, clock: Clock) -> Board:
    """Open the board of an entry point. Raises `PluginError`, or the `HardwareError` of the board."""
    kind = plugins.load_class(path)
    if not issubclass(kind, Board):
        raise plugins.PluginError(f"board {name!r}: {path} is not a board; derive it from hwloop.board.Board")
    takes_clock = plugins.has_parameter(kind, "clock")
    if clock is not REAL and not takes_clock:
        raise plugins.PluginError(
            f"board {name!r} knows real time only; for virtual time give {kind.__name__} a parameter clock"
        )
    board: Board = plugins.make(kind, path, {"clock": clock} if takes_clock else {})
    if not hasattr(board, "before_closing") or board.clock is not clock:
        raise plugins.PluginError(
            f"board {name!r}: {path} is not set up; let its constructor call super().__init__() and set self.clock"
        )
    board.choice = board.choice or name
    return board


def _real_board() -> str:
    """Return the name of the real board. Raises `HardwareError` where it may not be chosen automatically."""
    if not has_gpiochip():
        raise HardwareError(
            "/dev/gpiochip*",
            "no GPIO chip on this machine",
            "on a desktop use the simulated board: HWLOOP_BOARD=sim, board='sim' or --board sim; "
            "for this machine's serial ports and I2C buses alone, use linux instead of sim",
        )
    if _simulated_before:
        raise HardwareError(
            "/dev/gpiochip*",
            "this program has used a simulated board, which is not in use here, and did not request real lines",
            "choose one by name: HWLOOP_BOARD=sim or board='sim', or linux instead of sim for the real lines",
        )
    return "linux"


def has_gpiochip() -> bool:
    """Return whether the kernel offers a GPIO character device."""
    try:
        return any(entry.startswith("gpiochip") for entry in os.listdir("/dev"))
    except OSError:
        return False


def current() -> Board:
    """Return the board in use here: that of the innermost `using()`, else the process's own.

    The process's own board is opened by the first call, as `open_board()` does, and closed when the process ends. A
    thread that has chosen none uses the board of the main thread. In a forked child, a simulated board that hwloop has
    opened is replaced by another one of the same kind. Raises `HardwareError` where the board and the running loop have
    different clocks, or where the board is not available any more.
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

    An empty address means the board in use; the caller closes any other one. Raises `HardwareError`, and ValueError for
    an address that means nothing.
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
    """Return whether the program made the board in use here, and so may close it at any time, outputs included."""
    return _in_use().choice is None


@contextlib.contextmanager
def using(
    board: Board | Choice | None,
    *,
    clock: Clock = REAL,
    backend: Backend | None = None,
    binding: bool = False,
    opened: Callable[[Board], object] | None = None,
) -> Iterator[None]:
    """Use a board for this block and the tasks it starts.

    The caller closes a `Board` that it gives. A board that is named (see `open_board`) is opened now, on `clock` and
    with `backend`, and closed at the end. None is the board in use here already: that of an enclosing block, or else
    the process's own, opened when something first needs it. Where that has another clock or `backend`, one of the same
    name is opened for this block.

    While a simulated board is in use, HWLOOP_BOARD passes the choice on to the processes that the program starts. With
    `binding` the real board can't be chosen within the block. `opened` is called with the board as soon as it is open.
    """
    if isinstance(board, Board):
        if backend is not None:
            raise ValueError("backend= is for a board that is opened here; the one given was made with its own")
        holder = _Holder(board)
    elif board is None:
        holder = _in_use().fitting(clock, backend)
    elif isinstance(board, str | Mapping | os.PathLike):
        choice = board if isinstance(board, Mapping) else os.fspath(board)
        holder = _Holder(open_board(choice, clock=clock, backend=backend), choice, clock, backend)
    else:
        called = f"; write {board.__name__}()" if isinstance(board, type) else ""
        raise TypeError(
            f"board= takes auto, linux, sim, an entry point, the path of a board file, a mapping like one, or a Board, "
            f"not {short_name(board)}{called}"
        )
    holder.binding = holder.binding or (binding and holder.board is not None and holder.board.simulated)
    token = _current.set(holder)
    _blocks.append(holder)
    if opened is not None:
        holder.follow(opened)
    try:
        with holder.shown_to_children():
            yield
    finally:
        if opened is not None:
            holder.unfollow(opened)
        _current.reset(token)
        del _blocks[max(place for place, each in enumerate(_blocks) if each is holder)]
        if holder not in _blocks and holder not in _own.values():
            holder.end()


class _Holder:
    """A board in use, or the place for one that nothing has needed yet."""

    def __init__(
        self,
        board: Board | None = None,
        choice: Choice | None = None,
        clock: Clock = REAL,
        backend: Backend | None = None,
    ) -> None:
        self.board = board
        self.choice = choice
        """The choice by which it was or will be opened; None for a board that was given."""
        self.clock = clock
        self.backend = backend
        self.binding = False
        self.in_main = threading.current_thread() is threading.main_thread()
        self._process = os.getpid()
        self._ended = False
        self._opening = threading.RLock()
        self._followers: list[Callable[[Board], object]] = []

    def follow(self, opened: Callable[[Board], object]) -> None:
        """Call `opened(board)` now if the board is open, or else as soon as it is."""
        with self._opening:
            if self.board is None:
                self._followers.append(opened)
            else:
                opened(self.board)

    def unfollow(self, opened: Callable[[Board], object]) -> None:
        """Undo `follow`, if the board has not been opened."""
        if opened in self._followers:
            self._followers.remove(opened)

    def get(self) -> Board:
        """Return the board, which the first call opens."""
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
                while self._followers:
                    self._followers.pop()(self.board)
            if self.board.simulated:
                _simulated_before.add(self.board.label)
            return self.board

    def _leave_to_parent(self) -> None:
        """In a forked child, give up a simulated board: its threads and FIFOs belong to the parent."""
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
        """Return this one, or one of the same choice that is on `clock` and has `backend`."""
        if self.choice is None:  # it was given, and `current` raises if it is on another clock
            return self
        if clock in (REAL, self.clock) and backend in (None, self.backend):
            return self
        if isinstance(self.choice, Mapping) or self.choice not in ("", "auto", "linux"):
            backend = None  # it applies where the same program runs on the real board
        elif backend is not None and backend not in get_args(Backend):
            open_board(backend=backend)  # raises, and names the known ones
        return _Holder(None, self.choice, self.clock if clock is REAL else clock, backend)

    @contextlib.contextmanager
    def shown_to_children(self) -> Iterator[None]:
        """Name a simulated board in the environment, so that no process started here uses real lines instead."""
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
        """Close the board if this holder opened it, in this process."""
        self._ended = True
        if self.board is not None and self.choice is not None and self._process == os.getpid():
            self.board.close()


_blocks: list[_Holder] = []
"""The holders of the `using` blocks that are under way, in any thread."""
_own: dict[str, _Holder] = {}
"""The holders of the process's own boards, one for each value that HWLOOP_BOARD has had."""
_simulated_before: set[str] = set()
"""The labels of the simulated boards that this process has used."""
_current: contextvars.ContextVar[_Holder | None] = contextvars.ContextVar("hwloop.board", default=None)


def _in_use() -> _Holder:
    holder = _current.get()
    if holder is None:
        blocks = tuple(_blocks)
        of_main = [block for block in blocks if block.in_main]
        name = os.environ.get("HWLOOP_BOARD", "")
        holder = (of_main or blocks or (None,))[-1] or _own.setdefault(name, _Holder(choice=""))
    return holder


# Registered at import, so that it runs after the exit handlers of everything that uses a board.
@atexit.register
def close_own() -> None:
    """Close the boards that the process has opened for itself. Runs at exit."""
    for holder in _own.values():
        holder.end()
    _own.clear()


def _load(module: str, name: str) -> Any:
    """Import a board's class by name: boards are above this module, and bring packages of their own."""
    return getattr(importlib.import_module(module), name)
