"""Run a program again with the inputs of a recording, and compare its outputs with the recorded ones.

    hwloop replay run.hwlog door.py
    hwloop replay run.hwlog --realtime
    hwloop replay flight.ring door.py --run 2 --inputs-only

The program runs on a simulated board without parts. Lines change, serial ports receive and I2C devices answer as they
did when the recording was made, on a real board or a simulated one. Time is virtual unless --realtime is given. Without
PROGRAM it is the recorded one, and without arguments after '--' it has the recorded ones.

On each line, port and I2C device, the program must do what was recorded, in the same order. If the recording was made
in virtual time, it must do so at the same times too, and otherwise within --tolerance SECONDS if that is given. A
transfer that was not recorded is not acknowledged. The first difference of each wire is reported with the number and
the time of its event, which 'hwloop log' shows.

The exit status is 0 if all outputs and the end of the program are as recorded, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
from typing import Any

from firmware_sim.replay import Difference, Input, ReplayBoard, Script, Signal
from hwloop.cli import Ended as EndedBySignal
from hwloop.cli import Failure, UsageError, process, run
from hwloop.cli.execution import Found, find_program, run_program
from hwloop.cli.log import chosen_run
from hwloop.core.clock import REAL
from hwloop.core.event_loop import EventLoop
from hwloop.recording import Ended, Event, Lost, Run, Signalled
from hwloop.virtual.clock import VirtualClock

PATIENCE_NS = 2_000_000_000
"""For how long a program may go on that had ended by itself when it was recorded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "hwloop replay FILE [PROGRAM.py[:MAIN]] [--run N] [--realtime] [--tolerance SECONDS] [--inputs-only] "
        "[--seed N] [--limit SECONDS] [--debug] [-- ARGS ...]\n       hwloop replay FILE -m MODULE ..."
    )
    parser.add_argument("file", metavar="FILE", help="the recording, or a flight recorder's ring")
    run.add_program(parser)
    parser.add_argument("--run", type=int, metavar="N", help="in a ring: the run, 1 for the oldest; default: the last")
    parser.add_argument("--realtime", action="store_true", help="replay in real time, not in virtual time")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="SECONDS",
        help="how early or late an output may be; default: 0 if the recording's time was virtual, else any time",
    )
    parser.add_argument(
        "--inputs-only",
        action="store_true",
        help="feed the inputs, at their times, and compare nothing: for a program that has been changed",
    )
    run.add_seed_and_limit(parser)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.program is not None and arguments.module is not None:
        raise UsageError("give one program: the path of a Python file, or -m and the name of a module")
    recorded, _, _ = chosen_run(arguments.file, arguments.run)
    if arguments.tolerance is not None and not arguments.tolerance >= 0:
        raise UsageError(f"a tolerance is a number of seconds from 0 on, not {arguments.tolerance!r}")
    if not recorded.header.first and not arguments.inputs_only:
        raise Failure(
            f"{arguments.file}: the beginning of the run has been overwritten, so its outputs can't be compared with "
            "those of a run from the beginning; --inputs-only feeds the program with the inputs that are left"
        )
    _complete(arguments, recorded)
    replay = _Replay(arguments, recorded)
    status = replay.execute()
    problems = replay.problems()
    lost = sum(event.events for event in replay.events if isinstance(event, Lost))
    note = f"; {lost} events are missing in the recording" if lost else ""
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise Failure(f"{arguments.file}: the program did not do what was recorded{note}:\n{lines}")
    if arguments.inputs_only:
        return status
    matched = replay.board.outputs.matched
    outputs = f"{matched} outputs, all as recorded" if matched != 1 else "1 output, as recorded"
    print(f"hwloop replay: {arguments.file}: {outputs}{note}", file=sys.stderr)
    return 0


def _complete(arguments: argparse.Namespace, recorded: Run) -> None:
    """Add what the recording knows of its program to the arguments."""
    header = recorded.header
    if arguments.program is None and arguments.module is None:
        if header.program.startswith("-m "):
            arguments.module = header.program.removeprefix("-m ")
        elif header.program:
            arguments.program = header.program
        else:
            raise UsageError(f"{arguments.file}: the recording does not name its program; give its path")
    if not arguments.rest:
        arguments.rest = list(header.arguments)
    if arguments.realtime:
        if arguments.seed is not None or arguments.limit is not None:
            raise UsageError("--seed and --limit are for virtual time; leave out --realtime")
    elif header.virtual:
        arguments.seed = header.seed if arguments.seed is None else arguments.seed
        arguments.limit = header.limit if arguments.limit is None else arguments.limit
    arguments.clock, arguments.realtime = ("real" if arguments.realtime else "virtual"), None


class _Replay:
    """One replay of a run.

    Attributes:
        events: the recorded events.
        board: the board that replays them.
    """

    def __init__(self, arguments: argparse.Namespace, recorded: Run) -> None:
        self.events: list[Event] = list(recorded)
        self._arguments = arguments
        self._header = header = recorded.header
        self._hosting = run.make_hosting(arguments)
        self._ended = next((event for event in self.events if isinstance(event, Ended)), None)
        self._signal = next((event for event in self.events if isinstance(event, Signalled)), None)
        self._stopped = self._overdue = False
        self._latest_ns = math.inf
        self._status = ""
        script = Script(
            ((number, event) for number, event in enumerate(self.events, 1) if not isinstance(event, _ENDS)),
            label=header.board,
            start_ns=header.start_ns,
            simulated=header.simulated or not header.board,
            state=header.state,
            end_ns=max((event.when_ns for event in self.events), default=0),
            is_cut=self._ended is None,
            signal_ns=None if self._signal is None else self._signal.when_ns,
        )
        clock = self._hosting.clock
        if isinstance(clock, VirtualClock):
            clock.jump(header.start_ns)  # the program sees the same times again
        exact = header.virtual and clock is not REAL
        deadlock_ns = self._deadlock_ns() if exact else None
        self.board: ReplayBoard = ReplayBoard(
            script,
            clock=clock,
            tolerance=arguments.tolerance if arguments.tolerance is not None else 0.0 if exact else None,
            compares=not arguments.inputs_only,
            rests_from_ns=deadlock_ns,
        )
        if self._signal is not None:
            place = script.place_of(self._signal.when_ns, self.events.index(self._signal) + 1)
            Signal(Input(place, self._signal.when_ns, self._give_signal), self.board.inputs, self.board.outputs)
        if deadlock_ns is not None:
            self._end_by(deadlock_ns + PATIENCE_NS)
        else:
            end_ns = script.end_ns
            if self._ended is not None:
                end_ns = self._ended.when_ns + (PATIENCE_NS if self._ended.status else 0)
            self.board.inputs.add(Input(script.place_of(end_ns), end_ns, self._stop))

    def _deadlock_ns(self) -> int | None:
        """Return when the program may have ended because nothing could ever wake it; None if it did not end so.

        Until then, and no longer, something must be planned on the board: the program gets the same error again.
        """
        header, ended = self._header, self._ended
        if ended is None or ended.status != "1" or self._signal is not None:
            return None
        if header.limit is not None and ended.when_ns >= header.start_ns + header.limit * 1e9:
            return None  # that was its limit
        return ended.when_ns

    def _end_by(self, when_ns: int) -> None:
        """End the program at a time if it goes on until then, without planning that."""
        self._latest_ns = when_ns
        make_loop, clock = self._hosting.make_loop, self._hosting.clock
        assert isinstance(clock, VirtualClock)

        def make(seed: Any, limit: float | None) -> EventLoop:
            loop = make_loop(seed, limit)
            assert clock.limit is not None
            clock.limit.end_by(when_ns, "the recorded program has ended, and this one goes on")
            return loop

        self._hosting.make_loop = make

    def execute(self) -> int:
        """Run the program, and return its exit status. A signal that was recorded counts as 0."""
        lifetime = contextlib.ExitStack()
        with self.board, lifetime:
            lifetime.callback(self.board.outputs.finish)
            host = lifetime.enter_context(process.hosted(self.board, clock=self._hosting.clock, binding=True))
            status = 1
            try:
                status = run_program(self._find, host, self._hosting, lifetime, simulated=True)
                self._status = str(status)
            except EndedBySignal as ended:
                if not self._stopped:
                    raise  # by the user
                self._status, status = signal.Signals(ended.number).name, 0
            except UsageError:
                raise
            except Exception:
                self._status = "1"
                raise
        return status

    def problems(self) -> list[str]:
        """Return the differences in words."""
        if self._arguments.inputs_only:
            return []
        start_ns = self._header.start_ns
        found = [_in_words(each, start_ns) for each in self.board.outputs.differences]
        recorded = "" if self._ended is None else self._ended.status
        if self._ended is not None and (self._overdue or self._hosting.clock.now_ns() >= self._latest_ns):
            after = (self._ended.when_ns - start_ns) / 1e9
            found.append(f"the end: the program ended after {after:.6f} s, and now it goes on")
        elif recorded and recorded != self._status:
            found.append(f"the end: the program ended {_how(recorded)}, and now it ended {_how(self._status)}")
        return found

    def _find(self) -> Found:
        found = find_program(self._arguments.program, self._arguments.module, self._arguments.rest)
        if found.is_script and self._hosting.clock is not REAL:
            raise UsageError(
                f"{found.program.code.co_filename}: a script can't be replayed in virtual time, because it has no loop "
                "that lets time pass; use --realtime"
            )
        return found

    def _give_signal(self) -> None:
        """End the program as a signal has ended it. The board's lock is held."""
        assert self._signal is not None
        self._raise(signal.Signals(self._signal.number))

    def _stop(self) -> None:
        """End the program because the recording is over. The board's lock is held."""
        if self._ended is None or self._ended.status:
            self._overdue = self._ended is not None
            self.board.outputs.finish()
        self._raise(signal.SIGTERM)

    def _raise(self, number: signal.Signals) -> None:
        self._stopped = True
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(number)
        else:
            os.kill(os.getpid(), number)


_ENDS = (Lost, Signalled, Ended)


def _in_words(difference: Difference, start_ns: int) -> str:
    after = f"{(difference.when_ns - start_ns) / 1e9:.6f} s"
    more = f" (and {difference.further} more)" if difference.further else ""
    if difference.number is None:
        return f"{difference.where}, {after}: not recorded: {difference.happened}{more}"
    return (
        f"{difference.where}, event {difference.number}, {after}: recorded: {difference.recorded}; "
        f"now: {difference.happened}{more}"
    )


def _how(status: str) -> str:
    return f"with status {status}" if status.isdigit() else f"by {status}" if status else "in another way"
