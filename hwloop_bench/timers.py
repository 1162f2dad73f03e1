"""Benchmarks of time: the lateness of timers, idle and under load, and the wakeups of an idle loop.

Lateness is measured from the requested time to the callback's first line, on CLOCK_MONOTONIC, read anew in the
callback: uvloop's own time stands still within a turn. The floor is a blocking read of a timerfd, the least that Python
can do on this kernel; cyclictest does the same in C.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import time

from hwloop.core.clock import Alarm
from hwloop_bench.processes import CYCLICTEST, FLOOR, Taken, new_loop, quantiles

PERIOD = 0.001
"""Seconds between the ticks of the periodic timer."""


def burn(seconds: float) -> None:
    """Compute."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def keep_busy(loop: asyncio.AbstractEventLoop, callbacks: int, each: float) -> list[int]:
    """Keep `callbacks` callbacks always ready, each computing for `each` seconds. Returns their count, in a list."""
    done = [0]

    def work() -> None:
        burn(each)
        done[0] += 1
        loop.call_soon(work)

    for _ in range(callbacks):
        loop.call_soon(work)
    return done


def periodic(loop: str, seconds: float, callbacks: int = 0, each: float = 0.0) -> Taken:
    """Measure a 1 kHz timer that keeps to its grid and skips the slots that have passed."""
    slots = max(1, round(seconds / PERIOD))
    if loop == CYCLICTEST:
        return _cyclictest(slots)
    if loop == FLOOR:
        late = _bare_ticks(slots)
        return Taken(_ticked(late, slots), late)
    late = []
    events = new_loop(loop)
    start = when = events.time() + 0.01
    slot = 0

    def tick() -> None:
        nonlocal slot, when
        now = time.monotonic()
        late.append((now - when) * 1e6)
        slot = max(slot + 1, int((now - start) / PERIOD) + 1)
        if slot >= slots:
            events.stop()
        when = start + slot * PERIOD
        events.call_at(when, tick)

    events.call_at(when, tick)
    done = keep_busy(events, callbacks, each)
    events.run_forever()
    figures = _ticked(late, slots)
    if callbacks:
        figures["work/s"] = done[0] / (time.monotonic() - start + 0.01)
    return Taken(figures, late)


def one_shot(loop: str, seconds: float, delay: float) -> Taken:
    """Measure timers that are set one after another, each when the previous one has fired."""
    count = max(1, round(seconds / (delay + 0.0005)))
    late: list[float] = []
    if loop == FLOOR:
        alarm = _blocking_alarm()
        for _ in range(count):
            late.append(_sleep_until(alarm, time.monotonic() + delay))
    else:
        events = new_loop(loop)

        def fire(when: float) -> None:
            late.append((time.monotonic() - when) * 1e6)
            if len(late) == count:
                events.stop()
            else:
                again()

        def again() -> None:
            when = time.monotonic() + delay
            events.call_later(delay, fire, when)

        again()
        events.run_forever()
    return Taken(quantiles(late) | {"early %": 100 * sum(value < 0 for value in late) / count}, late)


def idle(loop: str, seconds: float) -> Taken:
    """Count the wakeups of a loop with one timer a second and nothing else to do."""
    events = new_loop(loop)

    def tick() -> None:
        events.call_later(1.0, tick)

    tick()
    events.call_later(seconds, events.stop)
    before = resource.getrusage(resource.RUSAGE_SELF)
    events.run_forever()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return Taken({"context switches": after.ru_nvcsw - before.ru_nvcsw, "CPU ms": 1e3 * (_cpu(after) - _cpu(before))})


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _ticked(late: list[float], slots: int) -> dict[str, float]:
    return quantiles(late) | {"missed %": 100 * (1 - len(late) / slots)}


def _blocking_alarm() -> Alarm:
    alarm = Alarm()
    os.set_blocking(alarm.fileno(), True)
    return alarm


def _sleep_until(alarm: Alarm, when: float) -> float:
    """Sleep until a time and return the lateness in microseconds."""
    alarm.set(when)
    os.read(alarm.fileno(), 8)
    return (time.monotonic() - when) * 1e6


def _bare_ticks(slots: int) -> list[float]:
    alarm = _blocking_alarm()
    late = []
    start = time.monotonic() + 0.01
    slot = 0
    while slot < slots:
        when = start + slot * PERIOD
        late.append(_sleep_until(alarm, when))
        slot = max(slot + 1, int((time.monotonic() - start) / PERIOD) + 1)
    return late


def _cyclictest(slots: int) -> Taken:
    """Run cyclictest(8) with our period and scheduling class: one thread, a histogram in whole microseconds."""
    command = ["cyclictest", "--quiet", "--threads=1", f"--interval={round(PERIOD * 1e6)}", f"--loops={slots}"]
    out = subprocess.run(
        [*command, "--histogram=100000"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ).stdout
    late: list[float] = []
    for line in out.splitlines():
        if line[:1].isdigit():
            microseconds, count = line.split()[:2]
            late += [float(microseconds)] * int(count)
    return Taken(quantiles(late), late)


def has_cyclictest() -> bool:
    """Return whether cyclictest (Debian's package rt-tests) is installed."""
    return shutil.which("cyclictest") is not None
