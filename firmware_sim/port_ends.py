"""The two ends of the way that bytes take between a simulated port's device and the program.

The way is a pseudo-terminal, or in virtual time a pair of sockets, where that makes no difference to the program
(`firmware_sim.libraries.serial_socket`). The terminal is there in any case: it keeps the settings, and hangs up.

A pseudo-terminal whose last user closes it reports EIO to the other side until somebody opens it again, and forgets
its settings. So its program's side is open here too: the device works with or without a program.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
import time
import tty

from firmware_sim.libraries.serial_socket import TerminalSocket
from hwloop.core.clock import Clock


class PortEnds:
    """The ends, from the plugging in of a port to its unplugging.

    Attributes:
        ours: the descriptor at which the board writes, and which is readable when the program has written.
        theirs: the program's side of the way.
        terminal: the program's side of the pseudo-terminal.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._master, theirs = os.openpty()
        self._socket: TerminalSocket | None = None
        self.ours: int = self._master
        self.theirs: int = theirs
        self.terminal: int = theirs
        self._sockets: list[TerminalSocket] = []
        self._waiting = array.array("i", [0])
        tty.setraw(self.terminal)
        os.set_blocking(self._master, False)
        clock.claim(self.terminal, announced=True)

    def take_socket(self, pair: TerminalSocket) -> None:
        """Use sockets from now on."""
        self._sockets = [each for each in self._sockets if each.ours >= 0]
        self._sockets.append(pair)
        self._socket, self.ours, self.theirs = pair, pair.ours, pair.theirs
        self._clock.claim(self.theirs, announced=True)

    def take_terminal(self) -> None:
        """Use the terminal again. The bytes that the program has not read go with it."""
        if self._socket is not None:
            self._clock.disclaim(self.theirs)
            unread = self._socket.leave()
            self._socket, self.ours, self.theirs = None, self._master, self.terminal
            if unread:
                os.write(self._master, unread)
                self._clock.announce()

    @property
    def is_socket(self) -> bool:
        """Whether the way is a pair of sockets."""
        return self._socket is not None

    def write(self, data: bytes) -> int:
        """Hand bytes over to the program, and return how many there was room for. Raises `BlockingIOError` if none."""
        return os.write(self._master, data) if self._socket is None else self._socket.hand_over(data)

    def read(self, count: int) -> bytes:
        """Return bytes that the program has written, `count` at most. Raises `BlockingIOError` if there are none."""
        return os.read(self._master, count) if self._socket is None else self._socket.read(count)

    def in_waiting(self) -> int:
        """Return how many bytes the program can read."""
        fcntl.ioctl(self.theirs, termios.FIONREAD, self._waiting)
        return self._waiting[0]

    def await_change(self, before: int) -> None:
        """Wait until a thread of the kernel has taken over what was written, for only then `in_waiting()` counts it."""
        patience = time.monotonic() + 0.1
        while self.in_waiting() == before and time.monotonic() < patience:
            time.sleep(0.0001)

    def hang_up(self) -> None:
        """Hang up, and close all ends."""
        if self._socket is not None:
            self._clock.disclaim(self.theirs)
        for pair in self._sockets:
            pair.hang_up()
        self._clock.disclaim(self.terminal)
        # Closing the master hangs the terminal up, as a USB adapter's driver does when it is pulled out.
        os.close(self._master)
        os.close(self.terminal)
        self._clock.announce()
