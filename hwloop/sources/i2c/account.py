"""The transfers of one address on an I2C bus, counted."""

from __future__ import annotations

from typing import Any

from hwloop.core.statistics import AddressStatistics
from hwloop.sources.bus_access import BusJob


class Account:
    """Counts of one address. Its calls come from the loop."""

    def __init__(self) -> None:
        self._transfers = self._errors = self._bytes = 0
        self._busy_ns = self._longest_ns = 0
        self._longest_wait = 0.0

    def note(self, job: BusJob[Any], size: int) -> None:
        """Count a transfer of `size` bytes that has been made."""
        took_ns = job.ended_ns - job.began_ns
        self._transfers += 1
        if job.error is None:
            self._bytes += size
        else:
            self._errors += 1
        self._busy_ns += took_ns
        if took_ns > self._longest_ns:
            self._longest_ns = took_ns
        if (waited := job.began_ns / 1e9 - job.asked) > self._longest_wait:
            self._longest_wait = waited

    def statistics(self) -> AddressStatistics:
        """Return the counts so far."""
        return AddressStatistics(
            transfers=self._transfers,
            errors=self._errors,
            bytes=self._bytes,
            busy=self._busy_ns / 1e9,
            longest=self._longest_ns / 1e9,
            longest_wait=self._longest_wait,
        )
