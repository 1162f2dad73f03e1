"""The jobs that wait for a bus, the most urgent first.

A transfer can't be interrupted, but the next one can be chosen: a sensor that is read every 10 ms goes before the rest
of a display's picture, which takes 95 ms. As in the loop's own queues, a priority that has been passed over `AGEING`
times goes next, the least urgent such priority first, so that none starves; IDLE goes only when nothing else waits.
Within a priority the order is that of arrival.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from hwloop.core.urgency import Priority

AGEING = 8
"""A waiting priority goes next after it has been passed over this often."""


class Prioritized(Protocol):
    """A job, as far as the queue is concerned."""

    priority: Priority


J = TypeVar("J", bound=Prioritized)


class BusQueue(Generic[J]):
    """Jobs by priority. Its methods are called with the lock of the bus held."""

    def __init__(self) -> None:
        self._waiting: dict[Priority, collections.deque[J]] = {priority: collections.deque() for priority in Priority}
        self._passed = dict.fromkeys(Priority, 0)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[J]:
        for jobs in self._waiting.values():
            yield from jobs

    def append(self, job: J) -> None:
        """Put a job behind those that have its priority."""
        self._waiting[job.priority].append(job)
        self._length += 1

    def first(self) -> J:
        """Return the job that is next. The queue must not be empty."""
        return self._waiting[self._next()][0]

    def pop(self) -> J:
        """Remove the job that is next, and return it."""
        chosen = self._next()
        self._length -= 1
        job = self._waiting[chosen].popleft()
        self._passed[chosen] = 0
        if self._length:
            for priority, jobs in self._waiting.items():
                if priority > chosen and jobs:
                    self._passed[priority] += 1
        return job

    def remove(self, job: J) -> None:
        """Remove a job. Raises ValueError if it does not wait."""
        self._waiting[job.priority].remove(job)
        self._length -= 1

    def take(self, wanted: Callable[[J], bool]) -> list[J]:
        """Remove the jobs for which `wanted(job)` is true, and return them."""
        taken = [job for job in self if wanted(job)]
        for job in taken:
            self.remove(job)
        return taken

    def _next(self) -> Priority:
        present = [priority for priority, jobs in self._waiting.items() if jobs]
        if len(present) > 1:
            for priority in reversed(present):
                if self._passed[priority] >= AGEING and priority is not Priority.IDLE:
                    return priority
        return present[0]
