"""1-Wire: a bus whose thermometers are read on a thread, and awaited.

    async with onewire.open() as bus:
        for sensor in await bus.sensors():
            print(sensor.name, await sensor.read())

The kernel's driver converts when a file is read, so a read blocks for 0.75 s. `hwloop.sources.bus` says what the bus
guarantees nevertheless.
"""

from __future__ import annotations

import errno
import re

from hwloop.board import OneWireFiles, current
from hwloop.core.naming import short_name
from hwloop.core.urgency import Priority
from hwloop.sources.bus import BusSource
from hwloop.sources.bus_access import BusAccess
from hwloop.sources.bus_thread import BusThread
from hwloop.sources.intake import WhenFull
from hwloop.sources.onewire.sensor import Sensor
from hwloop.sources.reopening import Backoff, ReopenHook

_NAME = re.compile(r"[0-9a-f]{2}-[0-9a-f]{12}")
_THERMOMETERS = ("10", "22", "28", "3b", "42")
"""The families that w1_therm drives: DS18S20, DS1822, DS18B20, DS1825, DS28EA00."""


class Bus(BusSource[OneWireFiles]):
    """The 1-Wire buses of the board in use. `hwloop.onewire.open` is this class.

    As a source it yields the `Transaction`s that it has done, to consumers that ask for them: a log of the bus.

    Parameters:
        timeout: seconds within which each operation has its answer or fails with a `BusTimeoutError`, time in the queue
            included. A reading takes 0.75 s, and up to three times that.
        reopen, on_reopen: as for an I2C bus; the files need no reopening, but `on_reopen` is called when a reading has
            succeeded after five failures in a row.
        queue_size, when_full: of the log.
        priority, name: as for every `Source`; the name is "onewire" if not given.

    Attributes:
        timeout: the parameter, in seconds.
        suspect: whether a reading has outlasted its time and none has succeeded since.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `async with` raise `HardwareError` if
    the board has no 1-Wire bus.

    Example:

        async with onewire.open() as bus:
            sensor, = await bus.sensors()
            print(await sensor.read(), "°C")

    Source: Documentation/w1/slaves/w1_therm.rst of the kernel.
    """

    hung_hint = "increase timeout=; a sensor needs 0.75 s, and each other one that is read meanwhile as much"

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        priority: Priority = Priority.NORMAL,
        name: str | None = None,
        reopen: Backoff | None = None,
        on_reopen: ReopenHook | None = None,
    ) -> None:
        super().__init__(
            "1-Wire",
            timeout=timeout,
            queue_size=queue_size,
            when_full=when_full,
            priority=priority,
            name=name or "onewire",
            reopen=reopen,
            on_reopen=on_reopen,
        )
        self._sensors: dict[str, Sensor] = {}

    def sensor(self, name: str) -> Sensor:
        """Return the sensor with a name such as "28-0316a2794b1c", whether it is there or not.

        The same object each time. Raises ValueError or TypeError for anything but the name of a thermometer.
        """
        if not isinstance(name, str):
            raise TypeError(f"a sensor has a name such as '28-0316a2794b1c', not {short_name(name)}")
        if not _is_thermometer(name):
            raise ValueError(f"a thermometer has a name such as '28-0316a2794b1c', not {name!r}")
        return self._sensors.setdefault(name, Sensor(self, name))

    async def sensors(self) -> list[Sensor]:
        """Return the thermometers that the kernel has found, in the order of their names.

        It searches every ten seconds. A sensor that is gone stays for some searches.
        """
        names = await self.perform("search", lambda files: files.names(), ())
        return [self.sensor(name) for name in sorted(names) if _is_thermometer(name)]

    # For the base class.

    def reach(self) -> BusAccess[OneWireFiles]:
        board, title = current(), self.title

        return BusAccess(board.open_onewire, title, self._backoff, board.clock, lambda: BusThread(title, board.clock))

    def fault(self, number: int) -> tuple[str, str]:
        if number in (errno.ENOENT, errno.ENODEV):
            return "it is not there", "check wiring and pull-up; `await bus.sensors()` lists those that are"
        return "the kernel could not read it", "check wiring, pull-up and supply"


open = Bus


def _is_thermometer(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and name[:2] in _THERMOMETERS
