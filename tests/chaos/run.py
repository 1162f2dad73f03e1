"""Run the demo's program on its board under a thousand schedules of faults (`make chaos`).

    python tests/chaos/run.py [--schedules 1000] [--seed N]
    python tests/chaos/run.py --schedule 'seed=3; i2c-nack after=1.2 duration=0.5 bus=1'

Each schedule is a seed and up to four faults, and plays in virtual time, while visitors move the door. A part of the
station that fails with a hardware error ends the station, which starts anew after half a second, as systemd would start
it. In each run

- nothing crashes: every failure of hardware is a HardwareError, and no other exception ends the station;
- nothing hangs: the station ends when it is cancelled, after little processor time;
- nothing is left behind: no descriptor, thread, process, FIFO or task, no claimed line, and the lamp is off;
- nothing is lost uncounted: received = delivered + dropped + queued for each source, the `lost` fields of all delivered
  events add up to what was lost and dropped, and without a fault that hides losses the program's account is the
  board's.

Every fiftieth schedule is played twice, and both traces must be equal. Schedules and counts depend on the seed only.
The exit status is 0 if all of this holds. Otherwise it is 1, and the smallest schedule that fails is shown with the
command that plays it again.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import faulthandler
import gc
import hashlib
import itertools
import logging
import random
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import hwloop
from firmware_sim import SimBoard
from firmware_sim.devices.gps import Gps
from firmware_sim.devices.pin_parts import Button
from firmware_sim.trace import Trace
from hwloop.cli import causes
from hwloop.cli.execution import load_program
from hwloop.sources.event_stream import EventStream
from hwloop.sources.gpio.edges import Watch
from hwloop.sources.poll import Poll
from hwloop.sources.serial.port import SerialPort
from hwloop.testing.drawing import schedules
from hwloop.testing.explore import Found, explore
from hwloop.testing.leftovers import Leftovers
from hwloop.testing.schedule import Schedule, ScheduleError, parse
from hwloop.testing.targets import Targets

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 3.0
"""Virtual seconds of a run, after which all faults end."""
SETTLE = 1.0
"""Virtual seconds in which the last events reach the program then, and the sources find out what they have lost."""
RESTART = 0.5
"""Virtual seconds from a failure of the station to its next start."""
MOST_CPU = 30.0
"""Seconds of processor time after which a run hangs."""
STUCK = 300.0
"""Real seconds after which a run hangs without using the processor; every thread is shown, and the process ends."""
TWICE = 50
"""Of this many schedules one is played twice."""
HIDING = {"chip-vanishes", "full-fifo", "kernel-overflow", "lost-wake-up"}
"""Faults by which lgpio loses edges without a sign: an even number of one line in a row."""


class Broken(AssertionError):
    """A promise was broken."""


class Hung(Broken):
    """A run has not ended."""


class Run:
    """One run of the station under a schedule.

    Parameters:
        station: the example as a module.
        tracer: records what happens on the board, if it is to be compared.

    Attributes:
        counts: what was injected, delivered, lost and reported, by name.
    """

    def __init__(self, station: Any, tracer: Trace | None = None) -> None:
        self._station = station
        self._tracer = tracer
        self.counts: collections.Counter[str] = collections.Counter()
        self._lost: collections.Counter[str] = collections.Counter()
        self._got: collections.Counter[str] = collections.Counter()
        self._opened: list[EventStream[Any]] = []
        self._restarts = 0
        self._wrong: list[str] = []

    def play(self, schedule: Schedule) -> None:
        """Play it. Raises `Broken`."""
        leftovers = Leftovers()
        clock = hwloop.VirtualClock()
        board = SimBoard(EXAMPLES / "weather_station.toml", clock=clock, tracer=self._tracer)
        with board, self._noting():
            schedule.inject(board.faults)
            _move_door(board, random.Random(schedule.seed))
            hwloop.run(self._main(board), board=board, clock=clock, seed=schedule.seed, limit=600)
            self._check_board(board)
            for injection in board.faults:
                self.counts[f"injected {injection.name}"] += injection.begun
            self._check_accounts(board, {fault.name for fault in schedule.faults})
        self._opened.clear()
        if Path(board.lgpio.directory).exists():
            self._wrong.append(f"the FIFOs are left in {board.lgpio.directory}")
        self._wrong += [f"left behind: {each}" for each in leftovers.found()]
        if self._wrong:
            raise Broken("; ".join(self._wrong))

    async def _main(self, board: SimBoard) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_report)
        end = loop.time() + SECONDS
        while True:
            station = asyncio.create_task(self._station.main(self._report))
            done, _ = await asyncio.wait([station], timeout=max(0.0, end - loop.time()))
            if not done:
                break
            self._check_failure(station.exception())
            self._restarts += 1
            await asyncio.sleep(RESTART)
        board.faults.end()
        for part in board.devices:
            if isinstance(part, Button | Gps):
                part.stop()
        await asyncio.wait([station], timeout=SETTLE)
        if not station.done():
            station.cancel()
            await asyncio.wait([station])
            if not station.cancelled():
                self._wrong.append(f"the station was cancelled, and ended with {station.exception()!r}")
        else:
            self._check_failure(station.exception())
            self._restarts += 1
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self._wrong += [f"task left: {task.get_name()}" for task in left]

    def _report(self, part: str, event: Any) -> None:
        """Count an event that has reached the program."""
        self._got[part] += 1
        self._lost[part] += 0 if part == "control" else event.lost

    def _check_failure(self, failure: BaseException | None) -> None:
        """Check that the station has failed because of hardware."""
        if failure is None:
            self._wrong.append("the station has ended by itself")
            return
        for cause in causes(failure):
            self.counts[f"ended by {type(cause).__name__}"] += 1
            if not isinstance(cause, hwloop.HardwareError):
                self._wrong.append(f"the station has crashed: {cause!r}")

    def _on_report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count a failure that the loop reports. It is one of hardware, or of the program's own code."""
        error = context.get("exception")
        if isinstance(error, hwloop.HardwareError):
            self.counts["reported HardwareError"] += 1
        elif isinstance(error, BaseException) and _passes(error, self._station.__file__):
            self.counts[f"reported {type(error).__name__} of the program"] += 1
        else:
            self._wrong.append(f"reported: {context['message']}: {error!r}")

    def _noting(self) -> Any:
        return _Noted(self._opened)

    def _check_board(self, board: SimBoard) -> None:
        claimed = [line for line in map(board.line, range(len(board.chip))) if line.consumer is not None]
        self._wrong += [f"line {line.number} is claimed by {line.consumer}" for line in claimed]
        if board.line(27).level:
            self._wrong.append("the lamp is on")

    def _check_accounts(self, board: SimBoard, faults: set[str]) -> None:
        """Check that received = delivered + dropped + queued, and that all losses are in the events or owed."""
        for part, kind in (("door", Watch), ("climate", Poll), ("position", SerialPort)):
            lost = dropped = owed = received = taken = 0
            for source in self._opened:
                if not isinstance(source, kind):
                    continue
                its = source.statistics()
                if its.received != its.delivered + its.dropped + its.queued:
                    self._wrong.append(
                        f"{part}: {its.received} received, {its.delivered} delivered, {its.dropped} dropped, "
                        f"{its.queued} queued"
                    )
                received += its.received
                taken += its.delivered
                lost += its.lost
                dropped += its.dropped
                channel = source._channel
                owed += channel.owed + sum(event.lost for event in channel.events) + _carried(source)
            self.counts[f"{part} dropped"] += dropped
            self.counts[f"{part} lost"] += lost
            self.counts[f"{part} delivered"] += self._got[part]
            # The event that is at hand as the station fails, because the lamp's chip is gone, is not reported any more.
            if 0 < taken - self._got[part] <= self._restarts:
                self.counts[f"{part} at hand as the station failed"] += taken - self._got[part]
                continue
            if taken != self._got[part]:
                self._wrong.append(f"{part}: {taken} events taken, and {self._got[part]} reached the program")
            if self._lost[part] + owed != lost + dropped:
                self._wrong.append(
                    f"{part}: {lost} lost and {dropped} dropped; events say {self._lost[part]}, and {owed} are owed"
                )
            if self._restarts:
                continue
            if part == "door" and not faults & HIDING:
                line = board.line(17)
                if line.reports + line.reports_lost != received + lost:
                    self._wrong.append(f"door: {line.reports} edges sent, {received} received, {lost} lost")
            if part == "position" and not any(name.startswith("serial-") for name in faults):
                sent = next(each.sentences_sent for each in board.devices if isinstance(each, Gps))
                if sent != received + lost:
                    self._wrong.append(f"position: {sent} sentences sent, {received} received, {lost} lost")
        self.counts["control delivered"] += self._got["control"]
        self.counts["restarts of the station"] += self._restarts


class _Noted:
    """Notes the event streams that are made in this block."""

    def __init__(self, made: list[EventStream[Any]]) -> None:
        self._made = made
        self._init = EventStream.__init__

    def __enter__(self) -> None:
        made, init = self._made, self._init

        def noting(stream: EventStream[Any], *arguments: Any) -> None:
            init(stream, *arguments)
            made.append(stream)

        EventStream.__init__ = noting  # type: ignore[method-assign]

    def __exit__(self, *exc_info: object) -> None:
        EventStream.__init__ = self._init  # type: ignore[method-assign]


def _move_door(board: SimBoard, seeded: random.Random) -> None:
    """Have visitors move the door, so that something is under way whenever a fault begins."""
    button = next(each for each in board.devices if isinstance(each, Button))
    when, moves = 0.0, itertools.cycle((button.press, button.release))
    while (when := when + seeded.uniform(0.02, 0.15)) < SECONDS:
        board.timeline.after(when, next(moves))


def _carried(source: EventStream[Any]) -> int:
    """Return the losses that a source's decoder still carries for its next event."""
    if isinstance(source, Poll):
        return source._lost_since
    return source.framing._carried if isinstance(source, SerialPort) else 0


def _passes(error: BaseException, path: str | None) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            return True
        trace = trace.tb_next
    return False


class Chaos:
    """All runs.

    Attributes:
        counts: their sums.
        runs: how many there were.
    """

    def __init__(self) -> None:
        self._station = load_program(str(EXAMPLES / "weather_station.py"))
        self.counts: collections.Counter[str] = collections.Counter()
        self.runs = 0

    def targets(self) -> Targets:
        """Return where faults can act on the demo's board."""
        with SimBoard(EXAMPLES / "weather_station.toml", clock=hwloop.VirtualClock()) as board:
            found = Targets.of(board, board.timeline.now_ns())
        return Targets(found.lines, found.ports, found.buses, found.devices, SECONDS)

    def play(self, schedule: Schedule, *, twice: bool = False) -> None:
        """Play a schedule. Raises what a run raises."""
        traces = []
        for _ in range(1 + twice):
            tracer = Trace() if twice else None
            run = Run(self._station, tracer)
            faulthandler.dump_traceback_later(STUCK, exit=True)
            signal.setitimer(signal.ITIMER_PROF, MOST_CPU)
            try:
                run.play(schedule)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                faulthandler.cancel_dump_traceback_later()
            if tracer is not None:
                traces.append(hashlib.sha256(repr(list(tracer)).encode()).hexdigest())
        if len(set(traces)) > 1:
            raise Broken("two runs of the same schedule have different traces")
        self.counts += run.counts
        self.runs += 1


def _on_hang(number: int, frame: FrameType | None) -> None:
    raise Hung(f"the run has not ended after {MOST_CPU:.0f} s of processor time")


def report(counts: collections.Counter[str]) -> Iterator[str]:
    """Yield the lines of a table of counts."""
    width = max(map(len, counts), default=0)
    for name, count in sorted(counts.items()):
        yield f"  {name:{width}} {count:>9}"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1000, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (%(default)s)")
    parser.add_argument("--schedule", metavar="SCHEDULE", help="only this one, twice")
    given = parser.parse_args(arguments)
    if given.schedules < 1:
        parser.error("--schedules is a number from 1 on")
    if given.schedule is not None:
        try:
            given.schedule = parse(given.schedule)
        except ScheduleError as error:
            parser.error(f"--schedule: {error}")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Run a command line, and return its exit status."""
    given = parse_arguments(arguments)
    logging.disable(logging.CRITICAL)  # faults are reported a thousand times
    signal.signal(signal.SIGPROF, _on_hang)
    chaos = Chaos()
    began = time.process_time()
    try:
        chaos.play(Schedule(), twice=True)  # and all is imported that a leak could be mistaken for
        if given.schedule is not None:
            chaos.play(given.schedule, twice=True)
    except Exception as error:
        return fail(Found(given.schedule or Schedule(), error, 1))
    if given.schedule is not None:
        print(*report(chaos.counts), f"passed: {given.schedule}", sep="\n")
        return 0
    played = 0

    def play(schedule: Schedule) -> None:
        nonlocal played
        played += 1
        chaos.play(schedule, twice=played % TWICE == 0)
        if played % 100 == 0:
            gc.collect()
            print(f"{played} schedules", file=sys.stderr)

    found = explore(play, schedules(chaos.targets()), runs=given.schedules, seed=given.seed)
    print(*report(chaos.counts), sep="\n")
    seconds = time.process_time() - began
    if found is None:
        print(
            f"passed: {played} schedules, seed {given.seed}, {seconds:.0f} s of processor time: no crash, no hang, "
            "nothing left behind, nothing lost uncounted"
        )
        return 0
    return fail(found)


def fail(found: Found) -> int:
    """Print a failure and the command that repeats it, and return the exit status."""
    print(f"FAILED: {type(found.error).__name__}: {found.error}")
    print(f"the smallest schedule that was found, in {found.runs} runs:", *found.schedule.faults, sep="\n  ")
    words = ["python", "tests/chaos/run.py", "--schedule", str(found.schedule)]
    print(f"to run it again: {shlex.join(words)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
