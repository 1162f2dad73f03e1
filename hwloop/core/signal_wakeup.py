"""The process's wakeup descriptor, and how several loops share it.

Python writes a signal's number to it as the signal arrives (signal.set_wakeup_fd). asyncio needs that to deliver
signals to `add_signal_handler`, sets the descriptor there and leaves it set until the last handler is removed. A hwloop
loop in the main thread needs it during a run as well, so that any signal wakes a sleeping loop and its plain Python
handler runs at once. But a process has only one, it can't be read without being changed, and others use it too: another
loop, which may be in the middle of its run or between two, or a library. So:

- a loop takes it if it is not set, or if the loop has signal handlers, and restores it if it is still the loop's own;
- with signal handlers it stays the loop's between runs, as on asyncio's loop;
- a loop without a handler for a signal passes its number on: to the loop that has one, or else to the descriptor that
  was set before.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from hwloop.core import registry


class Wakeup:
    """One loop's use of the wakeup descriptor. The methods do nothing outside the main thread."""

    def __init__(self) -> None:
        self._mine = -1
        self._before: tuple[int, object] | None = None  # the previous one: its number and its identity

    def take(self, csock: Any, needed: bool) -> None:
        """Begin a run. `needed` says whether the loop has signal handlers."""
        mine = _number_of(csock)
        if mine < 0 or not _in_main():
            return
        current = _swap(mine)
        if current not in (-1, mine) and not needed:
            _swap(current)
        else:
            self._note(mine, current)

    def taken(self, csock: Any, current: int | None) -> None:
        """Note that the descriptor is the loop's now, and was `current`."""
        mine = _number_of(csock)
        if mine >= 0 and current is not None:
            self._note(mine, current)

    def _note(self, mine: int, current: int) -> None:
        self._mine = mine
        if current == -1:
            self._before = None
        elif current != mine:
            self._before = current, _identity(current)
            owner = _owner(current)
            if owner is not None and not owner.is_running():
                owner._read_from_self()  # it may have got signals of this loop

    def give_back(self, needed: bool) -> None:
        """End a run."""
        if self._mine < 0 or not _in_main():
            return
        mine = self._mine
        current = _swap(-1)
        if current != mine:
            _swap(current)
        elif needed and (self._before is None or _owner(self._before[0]) is None):
            _swap(mine)
        else:
            self._set_back()

    def current(self) -> int | None:
        """Return the descriptor that is set now, the loop's or another; None outside the main thread."""
        if not _in_main():
            return None
        current = _swap(-1)
        _swap(current)
        return current

    def put_back(self, current: int | None) -> None:
        """Set the descriptor that `current` returned."""
        if current is not None:
            _swap(current)

    def after_removal(self, current: int | None, running: bool) -> None:
        """Restore the descriptor, which was `current`: asyncio has cleared it as it removed the last handler."""
        if current != self._mine or running:
            self.put_back(current)
        else:
            self._set_back()

    def pass_on(self, number: int) -> None:
        """Pass on a signal for which the loop has no handler."""
        owners = [loop for loop in registry.loops() if number in loop._signal_handlers and not loop.is_closed()]
        if owners:
            max(owners, key=lambda loop: loop.is_running())._handle_signal(number)
        elif self._before is not None and _identity(self._before[0]) == self._before[1]:
            try:
                os.write(self._before[0], bytes([number]))
            except (OSError, ValueError):
                pass  # full, as the signal itself would have found it

    def forget(self) -> None:
        """Forget, in a forked child, the descriptors of its parent."""
        self._mine, self._before = -1, None

    def _set_back(self) -> None:
        self._mine = -1
        before, self._before = self._before, None
        if before is not None and _identity(before[0]) == before[1]:
            _swap(before[0])


def clear_if_of(loops: list[Any]) -> None:
    """Clear the wakeup descriptor if it belongs to one of these loops, which the parent of this process runs."""
    current = _swap(-1)
    if current not in [_number_of(loop._csock) for loop in loops]:
        _swap(current)


def _in_main() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def _swap(fd: int) -> int:
    """Set the wakeup descriptor and return the previous one; -1 for none or a closed one."""
    try:
        return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    except (ValueError, OSError):  # ValueError also in a subinterpreter
        return -1


def _number_of(csock: Any) -> int:
    """Return the number of a loop's self-pipe; -1 if it has none, or a mock."""
    try:
        number = csock.fileno()
    except (AttributeError, OSError):
        return -1
    return number if isinstance(number, int) else -1


def _owner(fd: int) -> Any:
    """Return the hwloop loop that is woken through `fd`, or None."""
    return next((loop for loop in registry.loops() if _number_of(loop._csock) == fd), None)


def _identity(fd: int) -> object:
    """Return a value that differs if the number belongs to another descriptor later."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino
