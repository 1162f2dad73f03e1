"""The interface of boards: the few operations that sources need of hardware.

Sources (`hwloop.sources`) use a `Board` and never a library or a device. The simulated board plugs in *below* the
parsing: it writes the records that lgpio writes, opens kernel pseudo-terminals and answers smbus2's ioctls, so the code
that a test exercises is the code that runs on the Pi.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from hwloop.core.clock import REAL, Clock
from hwloop.core.naming import short_name
from hwloop.errors import HardwareError
from hwloop.lines import EdgeStream, OutputLine
from hwloop.onewire_files import OneWireFiles
from hwloop.requests import EdgeRequest, OutputRequest
from hwloop.spi_device import SpiDev, SpiRequest
from hwloop.trace_events import Tracer

if TYPE_CHECKING:
    from smbus2 import SMBus

    from hwloop.serial_ports import PortInfo

logger: logging.Logger = logging.getLogger("hwloop")

R = TypeVar("R")
T = TypeVar("T")


class Board:
    """A computer with lines, ports and buses. A subclass overrides the methods for those that it has.

    A line has one user: a second claim raises `HardwareError`.
    """

    label: str = "board"
    """The board's name for people: "Raspberry Pi 5 Model B Rev 1.0", "simulated board"."""
    clock: Clock = REAL
    """The clock of its edges and bus threads."""
    shared: bool = False
    """Whether other processes have the same lines, so that one can drive those that another has left."""
    simulated: bool = False
    """Whether it is without hardware."""
    address: str = ""
    """The argument of `hwloop.board.reached` for these very lines in another process; empty: its own board in use."""
    choice: str = ""
    """The value of HWLOOP_BOARD for another process to get a board like this; empty if there is none."""
    revision: int | None = None
    """The revision code of the Raspberry Pi that a simulated board poses as; None: this machine's kernel says."""
    tracer: Tracer | None = None
    """Records the events on its lines, ports and buses; None records nothing. The lines and buses of a board record
    what passes them (`hwloop.boards.linux` does); the data of its serial ports is recorded where they are read."""

    def __init__(self) -> None:
        self.before_closing: list[Callable[[], object]] = []
        """Callables without arguments for `close`, which calls them while the lines can still be driven."""

    def load(self) -> None:
        """Import what claiming a line needs, so that the first claim need not. Raises `HardwareError`."""

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        """Claim the lines of `request` as inputs and report their edges. Raises `HardwareError`."""
        raise self._lacks(f"line {', '.join(map(str, request.lines))}", "GPIO lines")

    def open_output(self, request: OutputRequest) -> OutputLine:
        """Claim the line of `request` as an output and drive it to its initial level. Raises `HardwareError`."""
        raise self._lacks(f"line {request.line}", "GPIO lines")

    def resolved(self, request: OutputRequest) -> OutputRequest:
        """Return a request for the same line that names it as any other program would. Raises `HardwareError`.

        A board whose lines outlive the program (`OutputRequest.keep`) gives the device node of the chip and the number
        of the line. Other boards return the request as it is.
        """
        return request

    def adopt_output(self, request: OutputRequest, fd: int) -> OutputLine:
        """Take over the descriptor of a line that another process had as an output, at its present level.

        `OutputLine.fileno()` was the descriptor. It belongs to this call, also if that fails. Raises `HardwareError`.
        """
        os.close(fd)
        raise self._lacks(f"line {request.line}", "lines that outlive their program")

    def serial_port(self, port: str) -> str:
        """Return the path to open for the port that the program calls `port`. Raises `HardwareError`."""
        raise self._lacks(port, "serial ports")

    def serial_port_opened(self, fd: int) -> None:
        """Note that `hwloop.serial` has opened one of the board's ports, and made its settings.

        A simulated board may then put another file behind the descriptor, which passes bytes on faster than a terminal.
        """

    def serial_ports(self) -> list[PortInfo]:
        """Return the serial ports that are there now, with what identifies their adapters."""
        return []

    def open_bus(self, bus: int) -> SMBus:
        """Return an smbus2 `SMBus` on I2C bus number `bus`. Raises `HardwareError`."""
        raise self._lacks(f"I2C bus {bus}", "I2C buses")

    def open_spi(self, request: SpiRequest) -> SpiDev:
        """Return a spidev `SpiDev`, open and set up as requested. Raises `HardwareError`."""
        raise self._lacks(f"SPI device {request.bus}.{request.select}", "SPI buses")

    def open_onewire(self) -> OneWireFiles:
        """Return the kernel's files of 1-Wire devices. Raises `HardwareError`."""
        raise self._lacks("1-Wire", "1-Wire buses")

    def snapshot(self) -> dict[str, Any]:
        """Return the state of a simulated board for recordings, as plain data: levels, wires, ports and buses."""
        return {}

    def close(self) -> None:
        """Release what the board itself holds, not its streams and lines. Harmless when repeated.

        A subclass calls this first: it makes the calls that are due before closing.
        """
        ending: BaseException | None = None
        for callback in tuple(self.before_closing):
            try:
                callback()
            except (SystemExit, KeyboardInterrupt) as error:
                ending = ending or error
            except BaseException:
                logger.exception("%s: a call before closing failed: %s", self.label, short_name(callback))
        if ending is not None:
            raise ending

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _lacks(self, tried: str, what: str) -> HardwareError:
        return HardwareError(tried, f"the board in use, {self.label}, has no {what}", "choose another board")


def checked_call(method: Callable[[R], T], request: R, kind: type[Any]) -> T:
    """Call a method of a board, such as `board.open_output`, and return its result, which must be a `kind`.

    Boards come from other packages too, and a wrong object would fail later, far from the class that made it. Raises
    TypeError.
    """
    result = method(request)
    call = f"{type(getattr(method, '__self__', None)).__qualname__}.{method.__name__}()"
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(
            f"{call} is a coroutine; the methods of a board are called without await: write def, not async def"
        )
    if not isinstance(result, kind):
        raise TypeError(
            f"{call} returned {short_name(result)}; it must return an object of the class {kind.__qualname__}"
        )
    if lacking := [name for name in inspect.get_annotations(kind) if not hasattr(result, name)]:
        lacks = f"{type(result).__qualname__} without the attribute {', '.join(lacking)}"
        raise TypeError(f"{call} returned a {lacks}; set it in the constructor, as {kind.__qualname__} says")
    return result
