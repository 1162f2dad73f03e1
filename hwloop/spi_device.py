"""SPI devices: the request for one, and the object that a board opens for it.

The object is a `SpiDev` of spidev, which most drivers accept, or one of the same shape.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, runtime_checkable

from hwloop.core.naming import error_text
from hwloop.errors import HardwareError

MAX_SPEED = 500_000_000
"""Hz: faster than any controller of a Pi."""


@runtime_checkable
class SpiDev(Protocol):
    """The part of spidev's `SpiDev` that hwloop uses."""

    mode: int
    max_speed_hz: int
    bits_per_word: int
    cshigh: bool

    def xfer2(self, values: Sequence[int], /) -> Sequence[int]:
        """Exchange at most 4096 bytes."""
        ...

    def close(self) -> object:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class SpiRequest:
    """A device on an SPI bus, for `Board.open_spi`.

    Raises TypeError or ValueError for an argument that no board could accept.
    """

    bus: int
    """0 stands for /dev/spidev0.0 and its neighbours."""
    select: int
    """The number of the device's select line: 1 stands for /dev/spidev0.1."""
    _: KW_ONLY
    speed: float
    """The clock, Hz."""
    mode: int = 0
    """0 to 3, of CPOL and CPHA."""
    bits: int = 8
    """The bits of a word."""
    cs_high: bool = False
    """Whether a high level of the select line selects the device."""

    def __post_init__(self) -> None:
        if isinstance(self.speed, bool) or not isinstance(self.speed, int | float):
            raise TypeError(f"speed is a number of Hz, such as 1_000_000, not {self.speed!r}")
        if not 1 <= self.speed <= MAX_SPEED:
            raise ValueError(f"speed must be 1 to {MAX_SPEED:_} Hz, not {self.speed!r}")
        if not isinstance(self.mode, int) or self.mode not in (0, 1, 2, 3):
            raise ValueError(f"mode must be 0, 1, 2 or 3, not {self.mode!r}")
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 8 <= self.bits <= 32:
            raise ValueError(f"bits must be 8 to 32, not {self.bits!r}")
        if not isinstance(self.cs_high, bool):
            raise TypeError(f"cs_high must be True or False, not {self.cs_high!r}")

    @property
    def path(self) -> str:
        """The path of its device node."""
        return f"/dev/spidev{self.bus}.{self.select}"


def set_up(device: SpiDev, request: SpiRequest) -> None:
    """Set a device up as requested. Raises `HardwareError`, and closes it, where the controller can't do that."""
    settings: dict[str, Any] = {"mode": request.mode}
    if request.cs_high or device.cshigh:  # not touched without need: some controllers refuse it
        settings["cshigh"] = request.cs_high
    settings |= {"bits_per_word": request.bits, "max_speed_hz": int(request.speed)}
    for name, value in settings.items():
        try:
            setattr(device, name, value)
        except OSError as error:
            device.close()
            hint = "the SPI controller of a Pi 0 to 4 has words of 8 bits only" if name == "bits_per_word" else ""
            reason = f"the SPI controller does not accept {name} = {value} ({error_text(error)})"
            raise HardwareError(request.path, reason, hint, errno=error.errno or errno.EINVAL) from error
        except BaseException:
            device.close()
            raise
