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
    """Jobs by priority. Its methods are called with the lock of the bus held.

    Attributes:
        length: the number of jobs that wait.
    """

    def __init__(self) -> None:
        self._waiting: list[collections.deque[J]] = [collections.deque() for _ in Priority]
        self._passed = [0] * len(Priority)
        self.length: int = 0
        self._only: collections.deque[J] | None = None  # has all that wait; None once there are two priorities

    def __iter__(self) -> Iterator[J]:
        for jobs in self._waiting:
            yield from jobs

    def append(self, job: J) -> None:
        """Put a job behind those that have its priority."""
        jobs = self._waiting[job.priority]
        if not self.length:
            self._only = jobs
        elif self._only is not jobs:
            self._only = None
        jobs.append(job)
        self.length += 1

    def first(self) -> J:
        """Return the job that is next. The queue must not be empty."""
        return (self._only or self._waiting[self._next()])[0]

    def pop(self) -> J:
        """Remove the job that is next, and return it."""
        self.length -= 1
        if self._only:
            return self._only.popleft()
        chosen = self._next()
        job = self._waiting[chosen].popleft()
        self._passed[chosen] = 0
        for rank in range(chosen + 1, len(self._waiting)):
            if self._waiting[rank]:
                self._passed[rank] += 1
        return job

    def remove(self, job: J) -> None:
        """Remove a job. Raises ValueError if it does not wait."""
        self._waiting[job.priority].remove(job)
        self.length -= 1

    def take(self, wanted: Callable[[J], bool]) -> list[J]:
        """Remove the jobs for which `wanted(job)` is true, and return them."""
        taken = [job for job in self if wanted(job)]
        for job in taken:
            self.remove(job)
        return taken

    def _next(self) -> int:
        present = [rank for rank, jobs in enumerate(self._waiting) if jobs]
        for rank in reversed(present[1:]):
            if self._passed[rank] >= AGEING and rank != Priority.IDLE:
                return rank
        return present[0]
