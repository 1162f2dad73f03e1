"""The program's threads beside a loop in virtual time: whether they are at work, or wait for the loop.

Time must stand still while a thread computes or waits for the real world, or a jump would end every timeout around it,
on one machine sooner than on another. It must go on where a thread waits for the loop, which may be waiting for time.
The kernel knows the difference: a thread that sleeps on a lock without a time limit (futex(2)) waits for another
thread, and if all threads do, nothing but the loop can go on. The state of each thread in proc_pid_task(5) decides:

- *parked*: asleep on a lock, without a time limit, or for the result of what it asked the loop to do;
  but not in `join()` of a thread that is ending, which `threading` no longer lists;
- *dozing*: asleep on a lock with a time limit. So is a thread that waits for the interpreter's lock;
- *asleep* in another system call: it reads, or sleeps;
- *active*: it runs, or is about to.

A thread that is not parked holds time still for a while (`PATIENCE`). After that, time passes at its real pace if the
thread does a job that the loop waits for, and regardless of it otherwise.
"""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import enum
import os
import re
import sys
import sysconfig
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pools
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from hwloop.virtual.clock import VirtualClock

PATIENCE = 2.0
"""Real seconds for which time stands still for a thread that is not parked, ..."""

BUSY_PATIENCE = 30.0
"""... and for one that uses a processor for more than a tenth of them."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02

Job = concurrent.futures.Future[Any]

_pools: Any = pools
_RUN_JOB = _pools._WorkItem.run.__code__
_JOIN = threading.Thread.join.__code__
_WAIT_FOR_RESULT = (concurrent.futures.Future.result.__code__, concurrent.futures.Future.exception.__code__)
WRAP_FUTURE = asyncio.wrap_future.__code__
"""Makes a future of the loop's for each job that the loop waits for."""

_REQUEST = next(
    constant
    for constant in asyncio.run_coroutine_threadsafe.__code__.co_consts
    if isinstance(constant, types.CodeType) and constant.co_name == "callback"
)
_STANDARD_LIBRARY = sysconfig.get_path("stdlib")


class Work(enum.Enum):
    """The state of the threads beside the loop."""

    NONE = enum.auto()
    UNDER_WAY = enum.auto()
    LASTING = enum.auto()
    """A job outlasts the loop's patience: time passes at its real pace."""


class _Kind(enum.Enum):
    PARKED = enum.auto()
    DOZING = enum.auto()
    ASLEEP = enum.auto()
    ACTIVE = enum.auto()


class _Seen:
    """The last known state of a thread."""

    __slots__ = ("cpu", "job", "kind", "moved", "since", "switches")

    def __init__(self) -> None:
        self.kind = _Kind.ACTIVE
        self.switches = b""
        self.moved = True  # since the last look
        self.since: float | None = None  # real time since when it has not been parked, ...
        self.job: Job | None = None  # ... and has done this job
        self.cpu = 0.0

    def look(self, tid: int) -> None:
        switches, asleep = _switches(tid)
        self.moved = switches != self.switches or not asleep
        if self.moved or self.kind is _Kind.ACTIVE:
            self.switches = switches
            self.kind = _kind(tid) if asleep else _Kind.ACTIVE


class ProgramThreads:
    """The threads beside one loop. The loop's thread calls all methods but `sender`."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._before = WeakSet(threading.enumerate())
        self._foreign_before = _foreign_threads()
        self._in_main = True
        self._seen: WeakKeyDictionary[threading.Thread, _Seen] = WeakKeyDictionary()
        self._jobs: dict[Job, int] = {}
        self.jobs_made: int = 0
        self._lasting_since: dict[Job, float] = {}
        self._requests: WeakSet[Job] = WeakSet()
        self.pause: float = _FIRST_PAUSE
        """Real seconds after which to check again."""

    def begin_run(self) -> None:
        """Begin a run of the loop, in this thread."""
        self._in_main = threading.current_thread() is threading.main_thread()

    def note_job(self, job: Job) -> None:
        """Note that the loop waits for a job from now on."""
        self.jobs_made += 1
        self._jobs[job] = self.jobs_made

    def jobs(self) -> list[Job]:
        """Return the jobs that the loop waits for and that have not ended, oldest first."""
        for job in [job for job in self._jobs if job.done()]:
            del self._jobs[job]
            self._lasting_since.pop(job, None)
        return list(self._jobs)

    def forget(self) -> None:
        """Forget all jobs: the loop is closed."""
        self._jobs.clear()
        self._lasting_since.clear()

    def sender(self, handle: Any) -> tuple[Any, ...]:
        """Return the place of a call among those that other threads sent: on the thread that sends it."""
        callback, args = handle._callback, handle._args
        behind: Any = callback.__self__ if isinstance(callback, types.MethodType) else None
        if isinstance(behind, asyncio.Handle):  # Python 3.14
            callback, args = behind._callback, behind._args  # type: ignore[attr-defined]
        if isinstance(callback, types.FunctionType) and callback.__code__ is _REQUEST:
            assert callback.__closure__ is not None
            self._requests.add(callback.__closure__[_REQUEST.co_freevars.index("future")].cell_contents)
        job = args[1] if len(args) == 2 and isinstance(args[1], concurrent.futures.Future) else None
        ident = threading.get_ident()
        if job is None and (ident == self._clock.driver or ident in self._clock.members):
            return (0,)
        number = self._jobs.get(job or _job_in(sys._getframe()))  # type: ignore[arg-type]
        if number is not None:
            return (1, number)
        # A thread's default name has its number, which is that of its making.
        name = threading.current_thread().name
        return (2, [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)])

    def work(self) -> Work:
        """Return whether time stands still for a thread."""
        if not self._jobs and self._in_main and _thread._count() <= len(self._clock.members):
            return Work.NONE
        jobs = self.jobs()
        now = time.monotonic()
        under_way = lasting = awake = False
        placed = set()
        for thread, job in self._threads(jobs):
            if job is not None:
                placed.add(job)
            if thread.name.startswith("asyncio-waitpid-") or (not jobs and _rests(thread)):
                continue  # a process is waited for without a thread in later Pythons, and does not hold time there
            joins = _joins_ending(thread)  # before the look: a thread that has left `join()` has moved since the last
            seen = self._look(thread)
            if (seen.kind is _Kind.PARKED and not seen.moved and not joins) or self._waits_for_loop(thread):
                seen.since = None
                continue
            awake = True
            if seen.since is None or seen.job is not job:
                seen.since, seen.cpu, seen.job = now, _cpu_seconds(thread), job
            passed = now - seen.since
            if passed < PATIENCE or (
                passed < BUSY_PATIENCE and (_cpu_seconds(thread) - seen.cpu) * 10 > passed and job is not None
            ):
                under_way = True
            elif job is not None and seen.kind in (_Kind.ASLEEP, _Kind.ACTIVE):
                lasting = True
        for job in jobs if awake else ():
            if job not in placed and job.running():  # in another process, or an executor of another kind
                under_way = under_way or now - self._lasting_since.setdefault(job, now) < PATIENCE
                lasting = True
        if under_way:
            self.pause = min(2 * self.pause, _LONGEST_PAUSE)
            return Work.UNDER_WAY
        self.pause = _FIRST_PAUSE
        return Work.LASTING if lasting else Work.NONE

    def were_all_before(self) -> bool:
        """Return whether every thread ran before the loop was made, or takes turns on its clock."""
        before, members, here = self._before, self._clock.members, threading.current_thread()
        return all(thread in before or thread is here or thread.ident in members for thread in threading.enumerate())

    def may_wake(self) -> bool:
        """Return whether a thread that is not parked may still send the loop a call."""
        if not self._in_main:
            return True
        parked = False
        for thread, _ in self._threads(self.jobs()):
            if not _rests(thread):
                if _joins_ending(thread) or self._look(thread).kind is not _Kind.PARKED:
                    return True
                parked = True
        foreign = _foreign_threads() - self._foreign_before if parked else ()
        return any(not _switches(tid)[1] or _kind(tid) is _Kind.ASLEEP for tid, _ in foreign)

    def waits(self) -> list[str]:
        """Return a line for each thread that waits: its name, and the place in the program at which it waits."""
        frames = sys._current_frames()
        frames.pop(threading.get_ident(), None)
        lines = []
        for thread, job in self._threads(self.jobs()):
            frame = frames.get(thread.ident or 0)
            if job is not None or (frame is not None and frame.f_code is not _pools._worker.__code__):
                lines.append(f"  thread {thread.name} waits {_place(frame)}")
        return lines

    def _threads(self, jobs: list[Job]) -> Iterator[tuple[threading.Thread, Job | None]]:
        """Yield the threads that were started since the loop was made, or do a job, each with its job."""
        frames = sys._current_frames() if jobs else {}
        frames.pop(threading.get_ident(), None)  # this one, which refers to `frames`: no cycle keeps the others' locals
        here = threading.current_thread()
        for thread in threading.enumerate():
            if thread is here or thread.ident in self._clock.members:
                continue
            job = _job_in(frames.get(thread.ident or 0))
            if job not in self._jobs:
                job = None
            if job is not None or not self._was_before(thread):
                yield thread, job

    def _was_before(self, thread: threading.Thread) -> bool:
        """Return whether a thread ran before the loop was made, even if Python has noticed it only since."""
        if thread in self._before:
            return True
        if isinstance(thread, threading._DummyThread):
            tid = thread.native_id or 0
            if (tid, _started(tid)) in self._foreign_before:
                self._before.add(thread)
                return True
        return False

    def _look(self, thread: threading.Thread) -> _Seen:
        seen = self._seen.get(thread)
        if seen is None:
            seen = self._seen[thread] = _Seen()
        seen.look(thread.native_id or 0)
        return seen

    def _waits_for_loop(self, thread: threading.Thread) -> bool:
        """Return whether a thread waits, with or without a time limit, for the result of a request to the loop."""
        if not self._requests:
            return False
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None:
            if frame.f_code in _WAIT_FOR_RESULT:
                future = frame.f_locals["self"]
                return future in self._requests and not future.done()
            frame = frame.f_back
        return False


class SerialExecutor(ThreadPoolExecutor):
    """The default executor: one thread, so that jobs end in the order in which they came."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="asyncio")
        self.unfinished: set[Job] = set()
        """Its jobs that have not ended."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Job:
        job = super().submit(function, *args, **options)
        self.unfinished.add(job)
        job.add_done_callback(self.unfinished.discard)
        return job

    def abandon(self) -> None:
        """Let the process end even if a job never ends."""
        self.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            _pools._threads_queues.pop(thread, None)

    def _adjust_thread_count(self) -> None:
        # A daemon, for the sake of `abandon`. It inherits that; Python waits for executors' threads by other means.
        here: Any = threading.current_thread()
        before, here._daemonic = here._daemonic, True
        try:
            super()._adjust_thread_count()
        finally:
            here._daemonic = before


def waits_for_lock(thread: threading.Thread) -> bool:
    """Return whether a thread is asleep on a lock of Python's own, without a time limit."""
    tid = thread.native_id or 0
    return _switches(tid)[1] and _kind(tid) is _Kind.PARKED


def _rests(thread: threading.Thread) -> bool:
    """Return whether a thread of a pool waits for work, and there is none."""
    queue = _pools._threads_queues.get(thread)
    frame = sys._current_frames().get(thread.ident or 0)
    if queue is None or not queue.empty() or frame is None or frame.f_code is not _pools._worker.__code__:
        return False
    # A job, or the order to end, may have left the queue although the thread has yet to wake. The pool knows better.
    reference, *_ = getattr(thread, "_args", (None,))
    pool = reference and reference()
    return pool is not None and not pool._shutdown and pool._idle_semaphore._value >= len(pool._threads)


def _joins_ending(thread: threading.Thread) -> bool:
    """Return whether a thread waits in `join()` for one that is about to end.

    `threading` forgets a thread before it has ended: it still has to get the interpreter's lock, to destroy its local
    objects, and to be ended by the kernel. Until then, none of the threads that are listed seems to be at work.
    """
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code is _JOIN:
            return frame.f_locals["self"] not in threading.enumerate()
        frame = frame.f_back
    return False


def _job_in(frame: types.FrameType | None) -> Job | None:
    """Return the job that a pool's thread does in a frame."""
    while frame is not None:
        if frame.f_code is _RUN_JOB:
            return frame.f_locals["self"].future  # type: ignore[no-any-return]
        frame = frame.f_back
    return None


def _place(frame: types.FrameType | None) -> str:
    """Return the innermost line of the program."""
    innermost = frame
    while frame is not None and frame.f_code.co_filename.startswith((_STANDARD_LIBRARY, "<frozen")):
        frame = frame.f_back
    frame = frame or innermost
    return (
        "somewhere"
        if frame is None
        else f"at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
    )


def _switches(tid: int) -> tuple[bytes, bool]:
    """Return the number of switches to and from a thread so far, and whether it is asleep."""
    text = _read(tid, "status")
    return text[text.find(b"\nvoluntary_ctxt_switches:") :], text.partition(b"\nState:")[2].lstrip()[:1] == b"S"


def _kind(tid: int) -> _Kind:
    """Return the kind of wait of a thread that is asleep."""
    call = _read(tid, "syscall").split()
    if not (_read(tid, "wchan").startswith(b"futex") or call[:1] == [_FUTEX]):
        return _Kind.ASLEEP
    return _Kind.PARKED if len(call) > 4 and int(call[4], 16) == 0 else _Kind.DOZING


_FUTEX = {"x86_64": b"202", "aarch64": b"98"}.get(os.uname().machine, b"?")  # where wchan is not to be seen


def _cpu_seconds(thread: threading.Thread) -> float:
    fields = _read(thread.native_id or 0, "stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _foreign_threads() -> set[tuple[int, bytes]]:
    """Return the threads that `threading` does not know: number and start of each, since numbers are reused."""
    known = {thread.native_id for thread in threading.enumerate()}
    try:
        tids = {int(name) for name in os.listdir("/proc/self/task")} - known
    except OSError:
        return set()
    return {(tid, _started(tid)) for tid in tids}


def _started(tid: int) -> bytes:
    """Return when a thread was started, in ticks since the machine started (proc_pid_stat(5))."""
    return b"".join(_read(tid, "stat").rpartition(b")")[2].split()[19:20])


def _read(tid: int, name: str) -> bytes:
    try:
        with open(f"/proc/self/task/{tid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""  # it has ended, or there is no /proc
