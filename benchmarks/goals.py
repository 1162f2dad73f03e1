"""The goals of `make figures`: each row of its table, with the limits for both cores."""

from __future__ import annotations

from typing import NamedTuple

from hwloop_bench.processes import COMPILED, CYCLICTEST, FLOOR, SPIN

SAME = "the same loop"
"""Instead of a loop to compare with."""
P50, P90, P99, WORST = "p50 µs", "p90 µs", "p99 µs", "max µs"
EACH, COST, WORK, TIMES = "each/CPU s", "µs CPU each", "work/s", "virtual s/CPU s"
OURS = ("hwloop", COMPILED, "")


class Row(NamedTuple):
    """One figure: `figure` of `case`, as a ratio to the same on `to`; "" for the figure itself."""

    what: str
    limit: str
    """"at most" or "at least"."""
    plain: float
    compiled: float
    case: str
    figure: str
    to: str = "asyncio"
    to_case: str = ""
    """The benchmark to compare with, if it is another one."""
    loops: tuple[str, ...] = ("hwloop", COMPILED, "uvloop")
    """The loops in the columns "plain", "compiled" and "uvloop"; "" for one that can't be measured."""
    ahead: float = 1.0
    """How many times as good as uvloop the compiled core must be; 0 where the two are not compared."""


LESS, MORE = "at most", "at least"
ROWS = [
    Row("1 kHz timer idle, p50", LESS, 0.12, 0.10, "timer-idle", P50),
    Row("1 kHz timer idle, p90", LESS, 0.10, 0.10, "timer-idle", P90),
    Row("… p50, to a bare timerfd", LESS, 1.6, 1.6, "timer-idle", P50, FLOOR),
    Row("… p90, to a bare timerfd", LESS, 1.6, 1.6, "timer-idle", P90, FLOOR),
    Row("… p99, to a bare timerfd", LESS, 1.5, 1.2, "timer-idle", P99, FLOOR),
    Row("… the worst tick in a minute, to a bare timerfd's in it", LESS, 1.5, 1.5, "timer-worst", WORST, FLOOR),
    Row("one-shot 0.3 ms, p50", LESS, 0.07, 0.07, "one-shot-0.3", P50),
    Row("one-shot 2.5 ms, p50", LESS, 0.12, 0.12, "one-shot-2.5", P50),
    Row("one-shot 0.3 ms, fired early, %", LESS, 0, 0, "one-shot-0.3", "early %", "", ahead=0),
    Row("one-shot 2.5 ms, fired early, %", LESS, 0, 0, "one-shot-2.5", "early %", "", ahead=0),
    Row("1 kHz timer under 200 busy callbacks, p50", LESS, 0.01, 0.01, "timer-busy", P50),
    Row("… slots missed, %", LESS, 1, 1, "timer-busy", "missed %", "", ahead=0),
    Row("… background work done", MORE, 0.95, 0.97, "timer-busy", WORK),
    Row("edge under 500 busy callbacks, p50", LESS, 0.003, 0.0015, "edge-busy", P50),
    Row("… background work done", MORE, 0.95, 0.97, "edge-busy", WORK),
    Row("edge to queue to HIGH task under 500 busy tasks, p50", LESS, 0.004, 0.004, "edge-task", P50),
    Row("… background work done", MORE, 0.95, 0.97, "edge-task", WORK),
    Row("edge while a cheap callback chain is always ready, p50", LESS, 2, 2, "edge-chain", P50),
    Row("edge idle, p50", LESS, 0.88, 0.78, "edge-idle", P50),
    Row("edges per CPU second, one record a read", MORE, 1.15, 2.4, "read-1", "edges/CPU s"),
    Row("edges per CPU second, 256 a read", MORE, 1.0, 1.1, "read-256", "edges/CPU s"),
    Row("call_soon chain", MORE, 3.2, 11, "chain", EACH, ahead=1.5),
    Row("call_soon, batches of 100", MORE, 1.3, 4.8, "batch", EACH, ahead=1.5),
    Row("call_later and cancel", MORE, 3.5, 7.5, "cancel", EACH, ahead=1.5),
    Row("future wake", MORE, 2.2, 4.9, "future-wake", EACH),
    Row("create_task", MORE, 1.1, 1.3, "create-task", EACH),
    Row("task switch, 1 task", MORE, 1.9, 4.6, "switch-1", EACH),
    Row("task switch, 100 tasks", MORE, 1.1, 2.2, "switch-100", EACH),
    Row("threadsafe flood", MORE, 3.4, 5.0, "threadsafe", EACH),
    Row("threadsafe flood from another thread", MORE, 2.0, 2.0, "threads", EACH),
    Row("threadsafe ping-pong, p50", LESS, 1.0, 0.7, "ping-pong", P50),
    Row("executor round trip, p50", LESS, 1.0, 0.7, "executor", P50),
    Row("stream echo", MORE, 2.7, 6.0, "echo-stream", "messages/CPU s"),
    Row("protocol echo", MORE, 4.4, 9.5, "echo-protocol", "messages/CPU s"),
    Row("bulk transfer, received by a stream", MORE, 1.0, 2.0, "bulk-stream", "MB/CPU s"),
    Row("bulk transfer, received by a protocol", MORE, 1.0, 2.0, "bulk-protocol", "MB/CPU s"),
    Row("bulk transfer, sent", MORE, 1.0, 1.0, "bulk-out", "MB/CPU s"),
    Row("a thousand timers with a tolerance of 1 ms, time each", LESS, 1.0, 0.5, "timers-tolerant", COST, ahead=1.5),
    Row(
        "short timers under 100,000 outstanding, time each", LESS, 0.6, 0.6, "timers-outstanding", "µs each", ahead=1.5
    ),
    Row("descriptor event with 10 idle ones, time", LESS, 0.65, 0.40, "fds-10", COST),
    Row("descriptor event with 1000 idle ones, time", LESS, 0.65, 0.40, "fds-1000", COST),
    Row("… 1000 to 10 idle ones, on the same loop", LESS, 1.1, 1.1, "fds-1000", COST, SAME, "fds-10", ahead=0),
    Row("idle wakeups with one 1 s timer", LESS, 1, 1, "wakeups", "context switches"),
    Row("import hwloop and first callback, wall", LESS, 1.15, 1.15, "startup", "wall ms"),
    Row("import hwloop and first callback, memory", LESS, 1.1, 1.1, "startup", "MiB"),
    Row("making, running and closing a loop, time", LESS, 2, 2, "lifetime", COST),
    Row(
        "virtual seconds a CPU second: the weather station's board",
        MORE,
        2000,
        4000,
        "virtual-board",
        TIMES,
        "",
        "",
        OURS,
        0,
    ),
    Row(
        "virtual seconds a CPU second: door, climate and position",
        MORE,
        500,
        1000,
        "virtual-station",
        TIMES,
        "",
        "",
        OURS,
        0,
    ),
    Row("spin on: 1 kHz timer, p50, to cyclictest", LESS, 1, 1, "timer-idle", P50, CYCLICTEST, "", (SPIN, "", ""), 0),
]
