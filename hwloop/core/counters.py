"""Counters that are cheap enough to stay on in production, and to be part of every loop.

A histogram has logarithmic buckets, sixteen to an octave, so a quantile is right to a thirty-second of itself, and
their number is bounded however long it runs. The bucket of a value is its own bits, the first sixteen of a double
(IEEE 754): the exponent and four bits of the mantissa. So many values are counted at once without a step of Python.

`hwloop.core.statistics` has the counts as plain data. Its dataclasses take 10 ms to define on a slow machine, so it is
imported only when a program asks for statistics.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwloop.core.native import COMPILED, count_durations

if TYPE_CHECKING:
    from hwloop.core.statistics import Durations, Occurrences

MOST_NAMES = 1000
"""Names beyond this many are counted together, as "others"."""

_BELOW_BUCKET = 64 - 16  # bits of the mantissa that a bucket ignores
_FIRST_BITS = slice(3 if sys.byteorder == "little" else 0, None, 4)  # of each double, in 16-bit numbers

_MINUS_ZERO = 1 << 15  # the bucket of -0.0, which is a duration of nothing as well

BOUNDS: tuple[float, ...] = (
    *(1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds, for `Histogram.cumulative`."""


class Histogram:
    """Durations, in the unit in which they are recorded."""

    __slots__ = ("_counts", "count", "max", "min", "total")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count: int = 0
        self.total: float = 0
        self.min: float = 0
        self.max: float = 0

    def record(self, value: float) -> None:
        """Count one duration. A negative one (clocks that disagree) counts as zero."""
        self.record_all((value,))

    def record_all(self, values: Sequence[float]) -> None:
        """Count many durations, at less than a tenth of the cost of one at a time."""
        if not values:
            return
        if values.count(0.0) == len(values):  # what runs first after a poll has waited for nothing
            least = most = total = 0.0
            self._counts[0] += len(values)
        elif COMPILED:
            least, most, total = count_durations(values, self._counts)
        else:
            if (least := min(values)) < 0:
                values, least = [max(value, 0) for value in values], 0
            most, total = max(values), sum(values)
            doubles = struct.pack(f"{len(values)}d", *values)  # a fifth of the time that array("d", values) takes
            self._counts.update(memoryview(doubles).cast("H")[_FIRST_BITS])
            if minus_zeros := self._counts.pop(_MINUS_ZERO, 0):
                self._counts[0] += minus_zeros
        self.min = min(self.min, least) if self.count else least
        self.max = max(self.max, most)
        self.count += len(values)
        self.total += total

    def quantile(self, fraction: float) -> float:
        """Return the duration below which `fraction` (0 to 1) of the recorded ones lie; 0 if empty."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be between 0 and 1, not {fraction!r}")
        if fraction == 1:
            return self.max
        wanted = fraction * self.count
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(max(_middle(bucket), self.min), self.max)
        return self.max

    @property
    def mean(self) -> float:
        """The mean duration; 0 if empty."""
        return self.total / self.count if self.count else 0.0

    def summary(self) -> Durations:
        """Return the histogram as plain data; its unit must be seconds."""
        from hwloop.core.statistics import Durations

        p50, p90, p99 = map(self.quantile, (0.5, 0.9, 0.99))
        return Durations(self.count, self.mean, self.min, p50, p90, p99, self.max, self.total, self.cumulative())

    def cumulative(self) -> dict[float, int]:
        """Return the number of durations up to each of `BOUNDS`; those in the bucket of a bound count as shorter."""
        counts, seen = {}, 0
        buckets = sorted(self._counts, reverse=True)
        for bound in BOUNDS:
            last = memoryview(array("d", [bound])).cast("B").cast("H")[_FIRST_BITS][0]
            while buckets and buckets[-1] <= last:
                seen += self._counts[buckets.pop()]
            counts[bound] = seen
        return counts


def _middle(bucket: int) -> float:
    """Return the middle of a bucket. The first holds only zero, as far as a clock can resolve."""
    if not bucket:
        return 0.0
    bits = array("Q", [(bucket << _BELOW_BUCKET) + (1 << _BELOW_BUCKET - 1)])
    return memoryview(bits).cast("B").cast("d")[0]


class Tally:
    """The number of occurrences and their durations, by name; at most `MOST_NAMES` names."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, float, float]] = {}  # count, total and worst seconds

    def count(self, name: str, seconds: float) -> int:
        """Count an occurrence under a name. Return the new number."""
        if name not in self._rows and len(self._rows) >= MOST_NAMES:
            name = "others"
        count, total, worst = self._rows.get(name, (0, 0.0, 0.0))
        self._rows[name] = count + 1, total + seconds, max(worst, seconds)
        return count + 1

    def occurrences(self) -> dict[str, Occurrences]:
        """Return the counts as plain data."""
        from hwloop.core.statistics import Occurrences

        return {name: Occurrences(*row) for name, row in self._rows.items()}
