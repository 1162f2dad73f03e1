"""The jobs of a bus, or of one address on it, counted."""

from __future__ import annotations

from hwloop.core.statistics import AddressStatistics


class Account:
    """Counts of jobs. Its calls come from the loop.

    Attributes:
        busy_ns: for how many nanoseconds its jobs have been under way, in total.
        longest_wait: seconds for which a job has waited for its turn, the longest one.
    """

    def __init__(self) -> None:
        self._jobs = self._errors = self._bytes = 0
        self._longest_ns = 0
        self.busy_ns: int = 0
        self.longest_wait: float = 0.0

    def note(self, size: int, took_ns: int, waited: float, error: BaseException | None) -> None:
        """Count a job that has been done: its bytes, and how long it took and had waited (seconds)."""
        self._jobs += 1
        if error is None:
            self._bytes += size
        else:
            self._errors += 1
        self.busy_ns += took_ns
        if took_ns > self._longest_ns:
            self._longest_ns = took_ns
        if waited > self.longest_wait:
            self.longest_wait = waited

    def statistics(self) -> AddressStatistics:
        """Return the counts so far, where its jobs are the transfers of an address."""
        return AddressStatistics(
            transfers=self._jobs,
            errors=self._errors,
            bytes=self._bytes,
            busy=self.busy_ns / 1e9,
            longest=self._longest_ns / 1e9,
            longest_wait=self.longest_wait,
        )
