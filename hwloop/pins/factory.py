"""`BoardFactory` and `BoardPin`: what the factories and pins of real and simulated boards have in common.

A factory finds its board when it is first used, serves its devices through one `Delivery`, and closes with its board.
In a forked child the factory starts afresh: pins, lines and threads belong to the parent.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, Literal

from hwloop.board import Board
from hwloop.core.naming import short_name
from hwloop.lines import EdgeKind, Pull
from hwloop.pins.delivery import Delivery
from hwloop.pins.forks import inherited
from hwloop.pins.gpiozero_classes import PiFactory, PiPin

logger: logging.Logger = logging.getLogger("hwloop")

PULLS: dict[str, Pull] = {"up": "up", "down": "down", "floating": "none"}
"""gpiozero's names of pulls, and ours."""
EDGES: dict[str, EdgeKind | Literal["none"]] = {each: each for each in ("both", "rising", "falling", "none")}
LEVELS: dict[str, tuple[int, ...]] = {"both": (0, 1), "rising": (1,), "falling": (0,), "none": ()}
"""The levels to which the edges lead that gpiozero calls by these names."""


class BoardFactory(PiFactory):
    """A pin factory on the lines of a board. Devices of such a factory are served by the loop (`gpiozero_patch`)."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._board: Board | None = None
        self._delivery: Delivery | None = None

    def _find_board(self) -> Board:
        raise NotImplementedError

    @property
    def board(self) -> Board:
        """The board that has the lines."""
        if self._board is None:
            self._board = self._find_board()
            self._board.before_closing.append(self.close)
        return self._board

    @property
    def delivery(self) -> Delivery:
        """Serves the devices: their edges, handlers and timed steps."""
        if self._delivery is None:
            self._delivery = Delivery(self.board.clock)
        return self._delivery

    def end_steps(self) -> None:
        """Stop everything that blinks, is held, follows a source or takes samples."""
        if self._delivery is not None:
            self._delivery.end_steps()

    def close(self) -> None:
        """Close all pins and give the lines back. The factory can be used again, with the board in use then."""
        if self._delivery is not None:
            self._delivery.close()
        for pin in list(self.pins.values()):
            try:
                pin.close()
            except Exception as error:  # for example, its chip has gone: the other pins are closed all the same
                logger.error("%s could not be closed", short_name(pin), exc_info=error)
        self.reset()

    def reset(self) -> None:
        """Forget all pins and reservations, and the board."""
        self.pins.clear()
        self._reservations.clear()
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.close()
        board, self._board = self._board, None
        if board is not None:
            board.before_closing.remove(self.close)

    def leave_to_parent(self) -> None:
        """Forget pins and board in a forked child, without touching them."""
        self._res_lock = threading.RLock()  # a thread of the parent may hold the old one
        self.pins.clear()
        self._reservations.clear()
        self._delivery = self._board = None

    def ticks_diff(self, later: float, earlier: float) -> float:
        return later - earlier


class BoardPin(PiPin):
    """A pin on one line of a board, in the process that made it."""

    def __init__(self, factory: BoardFactory, info: Any) -> None:
        super().__init__(factory, info)
        self._process = os.getpid()
        self.closed = False
        """Whether `close()` has begun, and the pin has not been given a function since."""

    def inherited(self) -> bool:
        """Return whether this is a forked child, and the pin belongs to its parent."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Raise `HardwareError` in a forked child of the process that made the pin."""
        if self.inherited():
            raise inherited(f"pin {self.info.name}")
