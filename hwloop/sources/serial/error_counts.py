"""The errors that a port's UART has counted while the port was open, over all outages.

The driver counts from the moment at which the adapter was plugged in, so what it had counted before is subtracted, and
what it had counted before an outage is added.
"""

from __future__ import annotations

from typing import Any

from hwloop.sources.serial.device import DriverCounts, SerialDevice

_ERRORS = ("framing_errors", "overruns", "parity_errors", "breaks", "buffer_overruns")


class ErrorCounts:
    """The errors of one port, which may be opened several times."""

    def __init__(self) -> None:
        self._counted = False  # whether a driver has counted
        self._earlier = dict.fromkeys(_ERRORS, 0)
        self._before: DriverCounts | None = None

    def begin(self, device: SerialDevice) -> None:
        """Count from here: the port is open."""
        self._before = device.counts()
        self._counted = self._counted or self._before is not None

    def end(self, device: SerialDevice) -> None:
        """Keep the counts of a port that is about to be closed."""
        self._earlier = self._sum(device)
        self._before = None

    def now(self, device: SerialDevice | None) -> dict[str, Any]:
        """Return the counts by their names in `SerialStatistics`; None for each where no driver counts."""
        if not self._counted:
            return dict.fromkeys(_ERRORS)
        return dict(self._earlier if device is None else self._sum(device))

    def _sum(self, device: SerialDevice) -> dict[str, int]:
        before, now = self._before, device.counts()
        if before is None or now is None:
            return self._earlier
        return {name: self._earlier[name] + getattr(now, name) - getattr(before, name) for name in _ERRORS}
