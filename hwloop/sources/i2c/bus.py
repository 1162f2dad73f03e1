"""I2C: a bus that is awaited, and devices on it.

    async with i2c.open(1) as bus:
        chip = bus.device(0x76)
        value = await chip.read_register(0xD0)

A transfer takes 0.09 ms a byte on the wire, and a hung one a second in the kernel. `hwloop.sources.bus` says what the
bus guarantees nevertheless, and `faults` explains the kernel's errors.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from hwloop.board import LineName, checked_call, current
from hwloop.core.naming import short_name
from hwloop.core.statistics import I2cStatistics
from hwloop.core.urgency import Priority, as_priority
from hwloop.requests import check_line
from hwloop.sources.account import Account
from hwloop.sources.bus import BusSource, whole
from hwloop.sources.bus_access import BusAccess
from hwloop.sources.bus_thread import BusThread
from hwloop.sources.i2c.device import Device
from hwloop.sources.i2c.faults import fault
from hwloop.sources.i2c.recovery import Recovery
from hwloop.sources.intake import WhenFull
from hwloop.sources.rate_limit import RateLimit
from hwloop.sources.reopening import Backoff, ReopenHook

if TYPE_CHECKING:
    from smbus2 import SMBus

FIRST_ADDRESS, LAST_ADDRESS = 0x03, 0x77
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
_BUS_NAME = re.compile(r"(?:/dev/)?(?:i2c-)?(\d+)")


class Bus(BusSource["SMBus"]):
    """An I2C bus of the board in use. `hwloop.i2c.open` is this class.

    As a source it yields the `Transaction`s that it has done, to consumers that ask for them: a log of the bus.

    Parameters:
        bus: 1, "1" or "/dev/i2c-1" for the one on the header of a Raspberry Pi.
        timeout: seconds within which each operation has its answer or fails with a `BusTimeoutError`, time in the queue
            included.
        reopen: pauses between reopenings; the bus is reopened when five jobs in a row have failed. None: 0.1 s, doubled
            each time, up to 30 s.
        on_reopen: a function or coroutine function, called with the bus when it has been reopened and a job has
            succeeded since: to set the devices up again.
        scl, sda: lines by which the program can reach the two wires of the bus, to free it when a device holds the data
            line: nine clock pulses after a transfer on which the kernel has given up. Not the pins that the bus itself
            has; docs/i2c.md shows how.
        queue_size, when_full: of the log.
        priority, name: as for every `Source`; the name is "i2c:1" if not given.

    Attributes:
        number: 1 stands for /dev/i2c-1.
        timeout: the parameter, in seconds.
        suspect: whether a transfer has outlasted its time and none has succeeded since.

    Raises ValueError or TypeError for arguments that make no sense. `open()` and `async with` raise `HardwareError` if
    the bus does not exist, or the program may not use it.

    Example:

        async with i2c.open(1) as bus:
            value = await bus.device(0x76).read_register(0xD0)

    Source: Documentation/i2c/dev-interface.rst of the kernel.
    """

    hung_hint = "a device may hold the bus: check wiring and pull-ups, power-cycle the device, or increase timeout="

    def __init__(
        self,
        bus: int | str | os.PathLike[str],
        *,
        timeout: float = 1.0,
        queue_size: int = 1024,
        when_full: WhenFull = "drop-oldest",
        priority: Priority = Priority.NORMAL,
        name: str | None = None,
        reopen: Backoff | None = None,
        on_reopen: ReopenHook | None = None,
        scl: LineName | None = None,
        sda: LineName | None = None,
    ) -> None:
        self.number: int = _bus_number(bus)
        self._accounts: dict[int, Account] = {}
        if (scl is None) != (sda is None):
            raise TypeError("scl and sda are given together: the lines by which the program reaches the two wires")
        self._wires = None if scl is None or sda is None else (check_line(scl), check_line(sda))
        self._recovery: Recovery | None = None
        super().__init__(
            f"I2C bus {self.number}",
            timeout=timeout,
            queue_size=queue_size,
            when_full=when_full,
            priority=priority,
            name=name or f"i2c:{self.number}",
            reopen=reopen,
            on_reopen=on_reopen,
        )

    # For programs.

    def device(
        self,
        address: int | str,
        *,
        priority: Priority | None = None,
        max_rate: RateLimit | float | None = None,
        split: int | None = None,
        advance: bool = True,
    ) -> Device:
        """Return the device at a 7-bit address: 0x76, or "0x76" as text. Nothing is sent yet.

        Parameters:
            priority: of its transfers among those that wait for the bus; None for that of the bus. A transfer under way
                is never interrupted.
            max_rate: operations a second, at most; more wait before they are queued, which does not count for
                `timeout`. A `RateLimit` sets the burst as well.
            split: bytes in one transfer of `read_block` and `write_block`, at most. A longer block is several
                transfers, with those of other devices in between where these are more urgent or came first.
            advance: whether the second transfer of such a block goes to the register behind the first one's last, as
                with most devices. False: all go to the same one, as with the data register of a display, or a FIFO.

        Raises ValueError for an address outside 0x03 to 0x77 or an impossible limit, TypeError for an address that is
        not a whole number.
        """
        if isinstance(address, str) and not _HEXADECIMAL.fullmatch(address.strip()):
            # "76" is what i2cdetect prints for 0x76, and what others write for 76.
            raise ValueError(f"an I2C address is a number such as 0x76, or '0x76' as text, not {short_name(address)}")
        number = int(address, 16) if isinstance(address, str) else whole("an I2C address", address)
        if not FIRST_ADDRESS <= number <= LAST_ADDRESS:
            raise ValueError(f"an I2C device has an address from 0x03 to 0x77, not {number:#04x}")
        account = self._accounts.setdefault(number, Account())
        urgency = None if priority is None else as_priority(priority)
        return Device(self, number, account, priority=urgency, max_rate=max_rate, split=split, advance=advance)

    async def scan(self) -> list[int]:
        """Return the addresses that answer, each asked in turn with the message that harms least, as i2cdetect does."""
        found = []
        for address in range(0x08, LAST_ADDRESS + 1):
            if await self.perform(f"address {address:#04x}", _probe, (address,)):
                found.append(address)
        return found

    def statistics(self) -> I2cStatistics:
        """Return the counters so far, those of each address too."""
        recoveries = 0 if self._recovery is None else self._recovery.succeeded
        addresses = {address: account.statistics() for address, account in sorted(self._accounts.items())}
        return I2cStatistics(**vars(super().statistics()), addresses=addresses, recoveries=recoveries)

    # For the base class.

    def accounts(self) -> list[Account]:
        return [*super().accounts(), *self._accounts.values()]

    def reach(self) -> BusAccess[SMBus]:
        board = current()
        number = self.number

        def open_bus() -> SMBus:
            try:
                from smbus2 import SMBus
            except ImportError:
                return board.open_bus(number)  # which reports it
            return checked_call(board.open_bus, number, SMBus)

        title, recover = self.title, None
        if self._wires is not None:
            self._recovery = Recovery(board, title, *self._wires)
            recover = self._recovery.attempt
        return BusAccess(open_bus, title, self._backoff, board.clock, lambda: BusThread(title, board.clock), recover)

    def fault(self, number: int) -> tuple[str, str] | None:
        return fault(number, self.number)


open = Bus


def _bus_number(bus: int | str | os.PathLike[str]) -> int:
    if isinstance(bus, str | os.PathLike):
        found = _BUS_NAME.fullmatch(os.fspath(bus).strip())
        if found is None:
            raise ValueError(f"an I2C bus is a number such as 1, or '/dev/i2c-1', not {short_name(bus)}")
        return int(found[1])
    number = whole("an I2C bus", bus)
    if number < 0:
        raise ValueError(f"an I2C bus has a number from 0, not {number}")
    return number


def _probe(smbus: SMBus, address: int) -> bool:
    """Return whether a device answers, asked as i2cdetect asks. Runs on the bus's thread.

    A quick write may turn a write-protected EEPROM's address pointer, so those address ranges get a one-byte read;
    so does every address where the adapter has no quick write (the Pi 5's has not).
    """
    try:
        if smbus.funcs & 0x0001_0000 and not (0x30 <= address <= 0x37 or 0x50 <= address <= 0x5F):
            smbus.write_quick(address)
        else:
            smbus.read_byte(address)
    except OSError as error:
        if error.errno in (errno.EREMOTEIO, errno.ENXIO):
            return False
        if error.errno != errno.EBUSY:
            raise
    return True
