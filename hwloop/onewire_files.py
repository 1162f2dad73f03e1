"""The kernel's files of 1-Wire devices: the object through which a board offers them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

DIRECTORY = "/sys/bus/w1/devices"


class OneWireFiles(ABC):
    """The files below /sys/bus/w1/devices. Reading the file of a thermometer blocks for its conversion, 750 ms."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the entries: masters, and devices such as "28-0316a2794b1c". Raises OSError."""

    @abstractmethod
    def read(self, device: str, file: str) -> str:
        """Return the text of a file of a device. Raises OSError."""

    def close(self) -> None:
        """Release what it holds. Harmless when repeated."""


class SysfsFiles(OneWireFiles):
    """The files of the machine."""

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        return sorted(os.listdir(self._directory))

    def read(self, device: str, file: str) -> str:
        with open(os.path.join(self._directory, device, file), encoding="ascii", errors="replace") as opened:
            return opened.read()
