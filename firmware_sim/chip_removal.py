"""Notices that the simulated chip has vanished, as inotify(7) gives them of a real chip's device node."""

from __future__ import annotations

import os

from firmware_sim.pins import Chip


class ChipRemoval:
    """A descriptor that is readable once the chip has vanished."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._clock = chip.timeline.clock
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._clock.claim(self._fd, announced=True)
        chip.at_removal.append(self._ring)

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> None:
        """Discard the notice."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close the descriptor. Harmless when repeated."""
        if self._fd >= 0:
            self._chip.at_removal.remove(self._ring)
            self._clock.disclaim(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ring(self) -> None:
        os.eventfd_write(self._fd, 1)
        self._clock.announce()
