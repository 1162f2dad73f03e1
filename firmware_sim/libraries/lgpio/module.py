"""The simulated lgpio as a module, for `import lgpio` and `from lgpio import *`.

It has every public name of lgpio 0.2.2.0: the functions for lines, I2C, SPI and serial ports, the constants, and the
standard modules that lgpio imports, which programs get with `from lgpio import *`.
"""

from __future__ import annotations

import inspect
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol

from firmware_sim.i2c_dev import Wire
from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.libraries.lgpio.constants import Constants, error
from firmware_sim.libraries.lgpio.i2c import I2cFunctions
from firmware_sim.libraries.lgpio.serial import SerialFunctions
from firmware_sim.libraries.lgpio.settings import SettingsFunctions
from firmware_sim.libraries.lgpio.spi import SpiFunctions
from firmware_sim.spi import SpiBus
from firmware_sim.timeline import Timeline

# Names of the simulated lgpio that the module lacks.
_OWN = ("calling_thread", "cancel_callbacks", "close", "free_lines")


class BoardOfLgpio(Protocol):
    """The part of a board that lgpio reaches."""

    @property
    def lgpio(self) -> Lgpio: ...
    @property
    def buses(self) -> Mapping[int, Wire]: ...
    @property
    def spi_buses(self) -> Mapping[int, SpiBus]: ...
    @property
    def timeline(self) -> Timeline: ...
    @property
    def before_closing(self) -> list[Callable[[], object]]: ...


class LgpioModule(ModuleType):
    """The simulated lgpio of a board as a module."""

    def __init__(self, board: BoardOfLgpio) -> None:
        lgpio = board.lgpio
        super().__init__("lgpio", "The lgpio module on a simulated board.")
        serial = SerialFunctions(lgpio, board.timeline.clock.sleep)
        board.before_closing.append(serial.close)
        names = self.__dict__
        names["_lgpio"] = lgpio
        parts = (lgpio, I2cFunctions(lgpio, board.buses), SpiFunctions(lgpio, board.spi_buses), serial)
        for part in (*parts, SettingsFunctions(lgpio)):
            for name, function in inspect.getmembers(part, inspect.ismethod):
                if not name.startswith("_") and name not in _OWN:
                    names[name] = function
        names.update((name, value) for name, value in vars(Constants).items() if not name.startswith("_"))
        names.update(error=error, pulse=lgpio.pulse)
        names.update(os=os, socket=socket, struct=struct, sys=sys, threading=threading, time=time)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "exceptions"]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"module 'lgpio' has no {name!r} here: the program runs on the simulated board, whose lgpio has the public "
            "names of lgpio 0.2.2.0",
            name=name,
            obj=self,
        )

    @property
    def exceptions(self) -> bool:
        """Whether errors are raised; programs set it."""
        lgpio: Lgpio = self.__dict__["_lgpio"]
        return lgpio.exceptions

    @exceptions.setter
    def exceptions(self, value: bool) -> None:
        self.__dict__["_lgpio"].exceptions = value
