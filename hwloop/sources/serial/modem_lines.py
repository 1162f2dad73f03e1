"""Changes of the modem lines that a program reads: CTS, DSR, CD (a clock's pulse per second, often) and RI.

    async with port.modem_lines() as lines:
        async for change in lines:
            print(change.levels, change.changed)

The kernel can wait for such a change (TIOCMIWAIT), but in a call that nothing ends except a change, a signal or the
removal of the adapter: a thread in it would keep a closed port open, and locked, for ever. So the lines are looked at
again and again, while somebody is interested. Looking takes a transfer on USB with many adapters, which blocks for a
millisecond, or for seconds where the adapter hangs: so it is a thread that looks. The driver counts changes
(TIOCGICOUNT), so that a pulse that began and ended between two looks is seen nevertheless, and more of them are counted
as lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import termios
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from hwloop.core.statistics import SourceStatistics
from hwloop.errors import HardwareError
from hwloop.sources.event_stream import EventStream
from hwloop.sources.poll import Poll, Reading
from hwloop.sources.serial.device import DriverCounts, SerialDevice

_BITS = {"cts": termios.TIOCM_CTS, "dsr": termios.TIOCM_DSR, "cd": termios.TIOCM_CAR, "ri": termios.TIOCM_RNG}


class ModemLevels(NamedTuple):
    """The levels of the modem lines that a program reads: True where the other end asserts a line."""

    cts: bool
    dsr: bool
    cd: bool
    ri: bool


class ModemChange(NamedTuple):
    """A change of the modem lines."""

    levels: ModemLevels
    """The levels after it."""
    changed: tuple[str, ...]
    """The lines that have changed: "cts", "dsr", "cd", "ri". One with its old level has changed and changed back."""
    received_ns: int
    """The time at which it was seen: nanoseconds, the clock of `loop.time()`."""
    lost: int
    """Changes since the previous delivered one that were not seen one by one, or were dropped by a full queue."""


class _Look(NamedTuple):
    device: SerialDevice
    levels: ModemLevels
    counts: DriverCounts | None


class Port(Protocol):
    """The port, as far as its lines are concerned."""

    name: str
    at_end: list[Callable[[], object]]

    def fileno(self) -> int:
        """Its descriptor; -1 while it is not open."""


class ModemLines(EventStream[ModemChange]):
    """The changes of a port's modem lines; made by `SerialPort.modem_lines`.

    Attributes:
        levels: those of the last look; None before the first.
    """

    def __init__(self, port: Port, device: Callable[[], SerialDevice], *, every: float) -> None:
        super().__init__(f"{port.name} modem lines", 1024, "drop-oldest")
        self.levels: ModemLevels | None = None
        self._port = port
        self._device = device
        self._before: _Look | None = None
        self._poll = Poll(port, self._look, every=every, name=self.name)

    def open(self) -> Self:
        """Begin to look. `async with` does it too. Raises `HardwareError` if the port is not open, or has no lines."""
        loop = self._loop_to_open_on()
        self._note(_look_at(self._device()))
        self._poll.add_callback(self._take)
        self._poll.open()
        self._port.at_end.append(self.close)
        self._loop = loop
        self._channel.open(loop)
        return self

    def close(self) -> None:
        """End and wake the waiting consumers. Harmless when repeated."""
        if self.closed:
            return
        self._channel.ended = True
        self._poll.close()
        if self.close in self._port.at_end:
            self._port.at_end.remove(self.close)
        self._end()

    def statistics(self) -> SourceStatistics:
        """Return the counters so far. `wakeups` counts the looks."""
        return dataclasses.replace(super().statistics(), wakeups=self._poll.statistics().received)

    async def _look(self) -> _Look | None:
        """Return the present levels; None while the port is away, which it reports itself."""
        try:
            device = self._device()
            look = await asyncio.get_running_loop().run_in_executor(None, _look_at, device)
            return look if device is self._device() else None
        except HardwareError:
            return None

    def _take(self, reading: Reading[_Look | None]) -> None:
        before, look = self._before, reading.value
        if look is None or before is None:
            return
        self._note(look)
        seen = {name for name in _BITS if getattr(before.levels, name) != getattr(look.levels, name)}
        count = len(seen)
        if before.device is look.device and before.counts is not None and look.counts is not None:
            changes = {name: getattr(look.counts, name) - getattr(before.counts, name) for name in _BITS}
            seen.update(name for name, number in changes.items() if number > 0)
            count = max(count, sum(changes.values()))
        if seen:
            self._channel.lost += (lost := max(0, count - len(seen)))
            changed = tuple(name for name in _BITS if name in seen)
            self._channel.put(ModemChange(look.levels, changed, reading.received_ns, lost))

    def _note(self, look: _Look) -> None:
        self._before = look
        self.levels = look.levels


def _look_at(device: SerialDevice) -> _Look:
    """Return the levels and the counts of a port. Raises `HardwareError` if it has no modem lines, or is gone."""
    try:
        bits = device.modem_lines()
    except OSError as error:
        hint = "its driver or adapter does not have them; use the port without modem_lines()"
        raise HardwareError(device.name, "the modem lines can't be read", hint, errno=error.errno) from error
    return _Look(device, ModemLevels(*(bool(bits & bit) for bit in _BITS.values())), device.counts())
