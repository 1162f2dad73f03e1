"""The kernel's queue of events behind a descriptor: a pipe from which a program reads whole records.

A program selects, polls and reads a line request like any descriptor, and may hand it to an event loop, so it has to be
a real one. A pipe has what the kernel's queue has: a read returns as many whole records as are there and asked for, a
blocking one waits for the first, and a closed queue ends every wait. The fact that shaped this: what the queue holds is
in the pipe and nowhere else, so a full queue makes room by reading from its own pipe.

Like the kernel's, a queue lives as long as some process has its descriptor open: a forked child keeps what its parent
has closed. A pipe tells its writer that (poll(2): POLLERR once no reader is left).
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import termios
import weakref

from hwloop.core.clock import REAL, Clock

_queues: weakref.WeakSet[EventQueue] = weakref.WeakSet()
_last_of: weakref.WeakValueDictionary[int, EventQueue] = weakref.WeakValueDictionary()
"""For each number of a descriptor the last queue that had it: it may have been closed unnoticed, and given again."""


class EventQueue:
    """A queue of records.

    Parameters:
        clock: the board's clock, which makes the descriptor readable.
        record: bytes of a record.
        capacity: how many records it holds. All of them fit into a pipe (64 KiB).

    Attributes:
        fd: the descriptor, which belongs to the program: it closes it.
    """

    def __init__(self, clock: Clock, record: int, capacity: int) -> None:
        self._clock = clock
        self._record = record
        self._capacity = capacity
        reader, self._writer = os.pipe()
        self.fd: int = reader
        os.set_blocking(self._writer, False)
        self._arrival = clock.condition()
        self._waiting = 0
        clock.claim(self.fd, announced=True)
        _queues.add(self)
        _last_of[reader] = self

    def __len__(self) -> int:
        """Return the number of records that wait."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._writer, termios.FIONREAD, waiting)
        return waiting[0] // self._record

    @property
    def full(self) -> bool:
        return len(self) >= self._capacity

    def put(self, record: bytes) -> None:
        """Add a record; there must be room. It is lost where nobody can read it any more."""
        try:
            os.write(self._writer, record)
        except (BrokenPipeError, BlockingIOError):
            return
        self._announce()

    @property
    def virtual(self) -> bool:
        """Whether its clock is not the kernel's, where a wait in read(2) or select(2) would stop the clock."""
        return self._clock is not REAL

    def wait(self, seconds: float | None = None) -> bool:
        """Wait on the board's clock until a record is there, or the end; return False on a timeout. No lock is held."""
        with self._arrival:
            self._waiting += 1
            try:
                return self._arrival.wait_for(lambda: self.ended or len(self) > 0, seconds)
            finally:
                self._waiting -= 1

    def drop_oldest(self) -> bytes:
        """Take the oldest record out; return it, or b"" if the program has just read the last one."""
        # Not through `fd`: the program may have made that one blocking, or closed it and opened something else.
        fd = os.open(f"/proc/self/fd/{self._writer}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, self._record)
        except BlockingIOError:
            return b""
        finally:
            os.close(fd)

    @property
    def ended(self) -> bool:
        """Whether no more records come."""
        return self._writer < 0

    def abandoned(self) -> bool:
        """Return whether no process can read it any more."""
        if self.ended:
            return True
        poll = select.poll()
        poll.register(self._writer, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def closed(self) -> None:
        """Note that the program has closed the descriptor."""
        if _last_of.get(self.fd) is self:
            self._clock.disclaim(self.fd)

    def end(self) -> None:
        """Add no more: a reader that waits, or comes later, finds the end. Harmless when repeated."""
        if self.close_writer():
            self._announce()

    def close_writer(self) -> bool:
        """Close the writing end, and wake nobody on the board's clock; return whether it was open."""
        writer, self._writer = self._writer, -1
        if writer >= 0:
            os.close(writer)
        return writer >= 0

    def _announce(self) -> None:
        self._clock.announce()
        if self._waiting:
            with self._arrival:
                self._arrival.notify_all()

    def __del__(self) -> None:
        self.close_writer()


def _leave_to_parent() -> None:
    """Close the writing ends in a forked child, where no board runs: its parent fills the queues and ends them."""
    for queue in tuple(_queues):
        queue.close_writer()


os.register_at_fork(after_in_child=_leave_to_parent)
