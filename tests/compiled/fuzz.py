"""Fuzz the public calls of the loop, compiled beside interpreted (`make fuzz`).

    python tests/compiled/fuzz.py [--seconds 600] [--seed N] [--python PYTHON] [--sanitize]
    python tests/compiled/fuzz.py --program FILE

Programs drawn from a seed (programs.py) are played (player.py) in two processes: on the compiled core of a copy of this
checkout, and on the sources. A process that dies or hangs fails the run; so does a SystemError, and on the stage, where
time stands still, any difference between what the two observe: results, exceptions with their messages, reports, and
the order of calls. The smallest program that fails is shown, and kept in build/compiled/failed.json for `--program`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from copied_checkout import NO_SANITIZER, ROOT, CopiedCheckout, sanitized, sanitizer_library
from programs import Program, Writer, smaller

FAILED = ROOT / "build" / "compiled" / "failed.json"
PLAYED = 400
"""Programs that a process plays before a new one takes its place."""
PATIENCE = 120.0
"""Seconds for a program: the player shows where it hangs long before."""
SHRINKING = 120.0
"""Seconds for making a program smaller."""

ESCAPED = re.compile(r"\('run', 'raised', (?!RuntimeError|KeyboardInterrupt|SystemExit)")
"""Nothing else may come out of a run: the loop contains every exception of a callback."""


class Died(Exception):
    """A player has died, or hangs."""


class Player:
    """A process that plays programs."""

    def __init__(self, checkout: CopiedCheckout, pure: bool) -> None:
        self._checkout = checkout
        self._pure = pure
        self._process: subprocess.Popen[str] | None = None
        self._played = 0

    def send(self, program: Program) -> None:
        """Have a program played."""
        if self._process is None or self._played == PLAYED:
            self.end()
            self._process = self._start()
        self._played += 1
        try:
            _pipe(self._process.stdin).write(json.dumps(program) + "\n")
            _pipe(self._process.stdin).flush()
        except BrokenPipeError:
            pass  # `receive` reports it

    def receive(self) -> list[str]:
        """Return the trace of the program that was sent. Raises `Died`."""
        process = self._process
        assert process is not None
        if select.select([process.stdout], [], [], PATIENCE)[0] and (answer := _pipe(process.stdout).readline()):
            return json.loads(answer)  # type: ignore[no-any-return]
        os.killpg(process.pid, signal.SIGKILL)  # with its children, which have its pipes too
        _, errors = process.communicate()
        self._process = None
        if len(errors) > 6000:  # the beginning says why a process died, the end where it hangs
            errors = f"{errors[:3000]}\n...\n{errors[-3000:]}"
        raise Died(
            f"{'the sources' if self._pure else 'the compiled core'}: status {process.returncode}\n{errors.strip()}"
        )

    def end(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            _pipe(self._process.stdin).close()
            self._process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # children that are left
            self._process = None
        self._played = 0

    def _start(self) -> subprocess.Popen[str]:
        environment = self._checkout.environment(PYTHONHASHSEED="0", HWLOOP_PURE="1" if self._pure else "")
        return subprocess.Popen(
            [self._checkout.python, str(self._checkout.path / "tests" / "compiled" / "player.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


class Both:
    """The compiled core and the sources."""

    def __init__(self, checkout: CopiedCheckout) -> None:
        self.compiled = Player(checkout, pure=False)
        self.pure = Player(checkout, pure=True)
        self.traced = self.endless = 0

    def failure(self, program: Program) -> str:
        """Return how a program fails; "" if it does not."""
        traces, died = [], []
        for player in (self.compiled, self.pure):
            player.send(program)
        for player in (self.compiled, self.pure):
            try:
                traces.append(player.receive())
            except Died as error:
                died.append(str(error))
        if len(died) == 2:  # a program that runs for ever, or ends the process, on any core
            self.endless += 1
            return ""
        if died:
            return died[0]
        compiled, pure = traces
        self.traced += len(compiled)
        for line in pure:
            if ESCAPED.match(line):
                return f"an exception has ended the run: {line}"
        for place in range(max(len(compiled), len(pure))):
            lines = [trace[place] if place < len(trace) else "(ends)" for trace in (compiled, pure)]
            if lines[0] != lines[1]:
                before = "".join(f"    {line}\n" for line in compiled[max(0, place - 3) : place])
                return f"they differ in line {place}\n{before}  compiled {lines[0]}\n  sources  {lines[1]}"
        return ""

    def end(self) -> None:
        self.compiled.end()
        self.pure.end()


def shrink(both: Both, program: Program, failure: str) -> tuple[Program, str]:
    """Return the smallest program that is found to fail likewise, and how it fails."""
    until = time.monotonic() + SHRINKING
    kind = failure.partition("\n")[0].partition(" in line")[0]
    found = True
    while found and time.monotonic() < until:
        found = False
        for less in smaller(program):
            if time.monotonic() > until:
                break
            other = both.failure(less)
            if other.startswith(kind):
                program, failure, found = less, other, True
                break
    return program, failure


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def fuzz(both: Both, seconds: float, seed: int) -> int:
    """Play programs for a time, and return the exit status."""
    began = time.monotonic()
    played = 0
    while (left := seconds - (time.monotonic() - began)) > 0:
        program = Writer(seed + played).program()
        played += 1
        failure = both.failure(program)
        if failure:
            print(f"seed {seed + played - 1} fails: {failure}\n\nmaking it smaller ...", flush=True)
            both.end()
            if again := both.failure(program):
                program, failure = shrink(both, program, again)
                return report(program, failure)
            first = seed + (played - 1) // PLAYED * PLAYED
            print(f"not on its own, only after those before it; to play them again: make fuzz SEED={first}")
            return 1
        if played % 1000 == 0:
            print(
                f"{played} programs, {both.traced} lines of traces, {both.endless} endless; {left:.0f} s left",
                file=sys.stderr,
            )
    both.end()
    print(f"passed: {played} programs from seed {seed} on, {both.traced} lines of traces, {both.endless} endless")
    return 0


def report(program: Program, failure: str) -> int:
    FAILED.write_text(json.dumps(program) + "\n", encoding="utf-8")
    print(json.dumps(program), failure, "", sep="\n")
    print(f"to play it again: python tests/compiled/fuzz.py --program {FAILED.relative_to(ROOT)}")
    return 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3)) * 1000, help="the first (random)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter (this one)")
    parser.add_argument("--sanitize", action="store_true", help="with the address sanitizer: three times slower")
    parser.add_argument("--program", type=Path, help="play this program only")
    given = parser.parse_args(arguments)
    if not given.seconds > 0:
        parser.error(f"--seconds must be more than 0, not {given.seconds:g}")
    if given.sanitize and not sanitizer_library():
        parser.error(f"--sanitize: {NO_SANITIZER}")
    program = None
    if given.program is not None:
        try:
            program = json.loads(given.program.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"can't read the program {given.program}: {error}")
    checkout = sanitized(given.python) if given.sanitize else CopiedCheckout("ordinary", python=given.python)
    checkout.make()
    both = Both(checkout)
    if program is None:
        print(f"fuzz: --seed {given.seed}", flush=True)
        return fuzz(both, given.seconds, given.seed)
    failure = both.failure(program)
    both.end()
    print(failure or "passed")
    return bool(failure)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
