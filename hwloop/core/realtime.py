"""Real time: the loop's thread runs before all ordinary threads, with locked memory, on chosen processors.

An ordinary thread waits behind whatever else the machine does, for milliseconds now and then; a thread of the classes
SCHED_FIFO and SCHED_RR (sched(7)) waits for no ordinary one. A page that has to be read from a card costs as much, so
the memory may be locked (mlock(2)). The system may refuse each of the three: because of a limit of the process, systemd
or a container. Guaranteed: each refusal is reported with the system's reason and a remedy, and the program goes on
without it; and undoing it restores the earlier state.

The class belongs to the calling thread alone. With SCHED_RESET_ON_FORK, threads and processes that it starts are
ordinary: otherwise one of them that never waits would keep the whole machine from running, and threads of equal
priority in SCHED_FIFO do not make room for each other, so a bus thread would delay the very loop that it serves.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from hwloop.core.libc import c_library

Policy = Literal["fifo", "rr"]

logger: logging.Logger = logging.getLogger("hwloop")

_MCL_CURRENT, _MCL_FUTURE = 1, 2  # <sys/mman.h>
_CAP_IPC_LOCK, _CAP_SYS_NICE = 14, 23  # capabilities(7)
_MOST_CPUS = 4096

_memory_locks = 0
"""The number of loops that have locked the process's memory: the last one to end unlocks it."""


class Grant(NamedTuple):
    """The system's answer to one request."""

    asked: str
    """ "SCHED_FIFO, priority 50"."""
    granted: bool
    said: str
    """The system's reason, or the limits of what it granted; empty if it granted everything."""
    hint: str
    """A remedy; empty if there is none."""

    def __str__(self) -> str:
        parts = [f"{self.asked}: {'granted' if self.granted else 'refused'}", self.said, self.hint]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Granted:
    """The system's answers to a `RealTime`; None for a part that was not requested."""

    scheduling: Grant
    memory: Grant | None
    affinity: Grant | None


@dataclass(frozen=True)
class RealTime:
    """A request for real time: `hwloop.run(main(), realtime=RealTime(priority=50))`.

    Parameters:
        policy: "fifo" runs until it waits, "rr" takes turns with others of the same priority (sched(7)).
        priority: 1 to 99. The kernel's own interrupt threads have 50: a loop above that runs before the very
            interrupts it waits for.
        lock_memory: keep all of the process's memory from being paged out, including later allocations if no limit
            forbids that. The whole stack of each thread is then in memory.
        cpus: the processors on which the loop, and the threads and processes that it starts, may run; None for no
            change.

    Raises ValueError or TypeError for invalid values. A refusal by the system raises nothing.
    """

    policy: Policy = "fifo"
    priority: int = 50
    lock_memory: bool = True
    cpus: Collection[int] | None = None

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise ValueError(f"policy must be 'fifo' or 'rr', not {self.policy!r}")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int):
            raise TypeError(f"a real-time priority is a whole number, not {self.priority!r}")
        if not 1 <= self.priority <= 99:
            raise ValueError(f"a real-time priority is from 1 (least) to 99, not {self.priority!r}")
        if self.cpus is None:
            return
        for cpu in self.cpus:
            if isinstance(cpu, bool) or not isinstance(cpu, int):
                raise TypeError(f"cpus are whole numbers, not {cpu!r}")
            if not 0 <= cpu < _MOST_CPUS:
                raise ValueError(f"a cpu is from 0 to {_MOST_CPUS - 1}, not {cpu!r}")
        if not self.cpus:
            raise ValueError("cpus must name at least one processor; None leaves them as they are")
        object.__setattr__(self, "cpus", frozenset(self.cpus))  # a copy, which the caller can't change

    def apply(self) -> Applied:
        """Request it for the calling thread, and log once what the system granted."""
        return Applied(self)


class Applied:
    """Real time in force for the thread that requested it, until `undo()`.

    Attributes:
        granted: the system's answers.
    """

    def __init__(self, wish: RealTime) -> None:
        self._thread = threading.get_native_id()
        self._undo: list[Callable[[], object]] = []
        # The class comes last: locking takes long, and nothing else should have to wait meanwhile.
        affinity = None if wish.cpus is None else self._bind(frozenset(wish.cpus))
        memory = self._lock_memory() if wish.lock_memory else None
        self.granted: Granted = Granted(self._schedule(wish.policy, wish.priority), memory, affinity)
        grants = [grant for grant in (self.granted.scheduling, memory, affinity) if grant is not None]
        level = logging.INFO if all(grant.granted for grant in grants) else logging.WARNING
        logger.log(level, "real time: %s", " | ".join(map(str, grants)))

    def undo(self) -> None:
        """Restore the earlier state. Harmless when repeated, and from another thread."""
        while self._undo:
            try:
                self._undo.pop()()
            except OSError:
                pass  # the thread has ended, or another request has changed it

    def forget(self) -> None:
        """Forget the parent's state in a forked child, to which the kernel gives an ordinary class and no locks."""
        global _memory_locks
        self._undo.clear()
        _memory_locks = 0

    def _bind(self, cpus: frozenset[int]) -> Grant:
        asked = f"processors {_listed(cpus)}"
        try:
            before = os.sched_getaffinity(self._thread)
            os.sched_setaffinity(self._thread, cpus)
            got = os.sched_getaffinity(self._thread)
        except OSError as error:
            there = _listed(before) if error.errno == errno.EINVAL else ""
            hint = f"this process may use {there}; see CPUAffinity= and AllowedCPUs= of its unit" if there else ""
            return Grant(asked, False, _text(error), hint)
        except AttributeError:
            return Grant(asked, False, "this system can't bind threads to processors", "")
        self._undo.append(lambda: os.sched_setaffinity(self._thread, before))
        if got != cpus:
            return Grant(asked, False, f"only {_listed(got)} of them", "see CPUAffinity= and AllowedCPUs= of its unit")
        return Grant(asked, True, "", "")

    def _lock_memory(self) -> Grant:
        global _memory_locks
        import resource

        asked = "locked memory"
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        # Within a limit, locking later allocations would make one of them fail, and the program with it.
        unlimited = limit == resource.RLIM_INFINITY or _may(_CAP_IPC_LOCK)
        if error := _call_c("mlockall", _MCL_CURRENT | (_MCL_FUTURE if unlimited else 0)):
            hint = _FORBIDDEN_MEMORY if unlimited else f"{_HINTS_MEMORY}, now {limit // 1024} KiB"
            return Grant(asked, False, _text(error), hint)
        _memory_locks += 1
        self._undo.append(_unlock_memory)
        if unlimited:
            return Grant(asked, True, "", "")
        return Grant(asked, True, f"but not what is allocated later (the limit is {limit // 1024} KiB)", _HINTS_MEMORY)

    def _schedule(self, policy: Policy, priority: int) -> Grant:
        asked = f"SCHED_{policy.upper()}, priority {priority}"
        try:
            number = {"fifo": os.SCHED_FIFO, "rr": os.SCHED_RR}[policy]
            before = os.sched_getscheduler(self._thread), os.sched_getparam(self._thread)
            os.sched_setscheduler(self._thread, number | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
        except OSError as error:
            return Grant(asked, False, _text(error), _scheduling_hint(priority) if error.errno == errno.EPERM else "")
        except AttributeError:
            return Grant(asked, False, "this system has no such class", "")
        self._undo.append(lambda: _reschedule(self._thread, *before))
        return Grant(asked, True, _time_limit(), "")


def _reschedule(thread: int, policy: int, parameters: os.sched_param) -> None:
    try:
        os.sched_setscheduler(thread, policy, parameters)
    except PermissionError:
        # Without privileges the flag can't be taken back, sched(7); for an ordinary thread it means nothing.
        os.sched_setscheduler(thread, policy | os.SCHED_RESET_ON_FORK, parameters)


def _call_c(name: str, *args: int) -> OSError | None:
    """Call a function of the C library that returns 0, or else has set errno."""
    import ctypes

    return OSError(ctypes.get_errno(), "") if getattr(c_library(keep_gil=False), name)(*args) else None


def _unlock_memory() -> None:
    global _memory_locks
    _memory_locks -= 1
    if not _memory_locks:
        _call_c("munlockall")


def _scheduling_hint(priority: int) -> str:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if limit < priority and limit != resource.RLIM_INFINITY and not _may(_CAP_SYS_NICE):
        return (
            f"the limit is {limit}: LimitRTPRIO={priority} in the unit, or 'USER - rtprio {priority}' in "
            "/etc/security/limits.conf"
        )
    return "no limit forbids it: RestrictRealtime= in the unit, a container or a control group (cpu.rt_runtime_us) may"


def _time_limit() -> str:
    """Return the effect of RLIMIT_RTTIME: how long such a thread may run without a wait."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_RTTIME)[0] if hasattr(resource, "RLIMIT_RTTIME") else -1
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"SIGXCPU comes after {limit / 1000:g} ms without a wait (RLIMIT_RTTIME)"


def _may(capability: int) -> bool:
    """Return whether this thread has a capability."""
    try:
        with open("/proc/thread-self/status", "rb") as status:
            for line in status:
                if line.startswith(b"CapEff:"):
                    return bool(int(line.split()[1], 16) >> capability & 1)
    except OSError:
        pass
    return False


def _listed(cpus: Collection[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))


def _text(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


_HINTS_MEMORY = "LimitMEMLOCK=infinity in the unit, or 'USER - memlock unlimited' in /etc/security/limits.conf"
_FORBIDDEN_MEMORY = (
    "no limit forbids it: a container or SystemCallFilter= in the unit may, or there is too little memory"
)
