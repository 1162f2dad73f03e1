"""Does hwloop.EventLoop behave as asyncio's own loop? CPython's own tests say: `make conformance`.

For each interpreter, `test.test_asyncio` is taken from where that interpreter has it (never copied) and run twice, on
the stock selector loop and with hwloop's in its place (child.py does the replacing). A test that passes on the stock
loop and does not on ours is a difference, and a difference is a failure (status 1). So that the verdict can be trusted:

- a test that differs is run again alone, on both loops, up to three times. It is let go if ours never again fails where
  the stock loop passes, and passes at least once. Tests that were run again are listed.
- a test that hangs or kills its process costs that test alone: the module goes on after it.
- if no loop of hwloop's was made, or a stock one was made in spite of the replacement, the run fails.
- exceptions.toml names the tests that may fail, with reasons; one that is no longer needed fails the run.

    run.py                                   every Python 3.11 to 3.14 found on PATH and under pyenv
    run.py --python python3                  this one only (may be repeated)
    run.py --only test_runners               only tests with this in their full name
    run.py --loop uvloop:Loop                another loop than hwloop's
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PACKAGE = "test.test_asyncio"
MAX_EXCEPTIONS = 15
RERUNS = 3
MAX_RERUN_TESTS = 30
"""More differences than this are no noise, and are not run again."""
MODULE_SECONDS = 900
SLOW_FIRST = ("test_tasks", "test_subprocess", "test_events", "test_ssl")
"""Started first, so that the last worker is not left alone with half a minute of one module."""


class Refused(Exception):
    """The run cannot be made as asked."""


@dataclass(frozen=True)
class Interpreter:
    """A Python that has its tests installed."""

    path: str
    version: str
    """Major and minor: "3.11"."""
    full_version: str


@dataclass
class Outcome:
    """The outcome of one test on one loop."""

    test: str
    outcome: str
    detail: str = ""
    ours: int = 0
    stock: int = 0

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"


@dataclass(frozen=True)
class ExceptedTest:
    """An entry of exceptions.toml."""

    test: str
    reason: str
    versions: tuple[str, ...]

    def applies(self, version: str) -> bool:
        return not self.versions or version in self.versions


@dataclass
class Verdict:
    """One interpreter's comparison."""

    interpreter: Interpreter
    stock: dict[str, Outcome]
    ours: dict[str, Outcome]
    differences: list[Outcome] = field(default_factory=list)
    excepted: list[str] = field(default_factory=list)
    rerun: list[str] = field(default_factory=list)
    """The tests that were run again, with their results."""


def load_exceptions(path: Path) -> list[ExceptedTest]:
    """The excepted tests. Raises `Refused` for an entry without a reason, a duplicate, or one too many."""
    with path.open("rb") as file:
        entries = tomllib.load(file).get("exception", [])
    exceptions = []
    for entry in entries:
        unknown = entry.keys() - {"test", "reason", "python"}
        if unknown or not str(entry.get("test", "")).startswith(f"{PACKAGE}.") or not entry.get("reason"):
            raise Refused(f"{path.name}: an entry needs test (its full id) and reason, and may have python: {entry}")
        exceptions.append(ExceptedTest(entry["test"], entry["reason"], tuple(entry.get("python", ()))))
    if len({exception.test for exception in exceptions}) < len(exceptions):
        raise Refused(f"{path.name}: a test is named twice")
    if len(exceptions) > MAX_EXCEPTIONS:
        raise Refused(f"{path.name}: {len(exceptions)} exceptions; at most {MAX_EXCEPTIONS} are allowed")
    return exceptions


def stale_exceptions(exceptions: Iterable[ExceptedTest], verdicts: Sequence[Verdict]) -> list[str]:
    """Return the faults of the exceptions, now that the tests have run: passing tests and tests that do not exist."""
    complaints = []
    for exception in exceptions:
        seen = [verdict for verdict in verdicts if exception.applies(verdict.interpreter.version)]
        found = [verdict for verdict in seen if exception.test in verdict.stock]
        if seen and not found:
            complaints.append(f"{exception.test}: no such test")
        for verdict in found:
            ours = verdict.ours.get(exception.test)
            if ours is not None and ours.passed:
                complaints.append(f"{exception.test}: passes on {verdict.interpreter.full_version}")
            elif verdict.stock[exception.test].outcome in ("fail", "error"):
                complaints.append(
                    f"{exception.test}: the stock loop of {verdict.interpreter.full_version} fails it too"
                )
    return complaints


def probe(path: str) -> Interpreter | None:
    """The interpreter at `path`; None if it does not start (a shim of pyenv's, say) or has no tests of asyncio."""
    code = (
        "import importlib.util, platform; assert importlib.util.find_spec('test.test_asyncio');"
        "print(platform.python_version())"
    )
    try:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    except OSError:
        return None
    if done.returncode:
        return None
    full_version = done.stdout.strip()
    return Interpreter(path, ".".join(full_version.split(".")[:2]), full_version)


def find_interpreters() -> list[Interpreter]:
    """One interpreter with tests for each version, from PATH and from pyenv. Says which are missing."""
    directories = [*os.environ.get("PATH", "").split(os.pathsep), *pyenv_directories()]
    found = []
    for version in VERSIONS:
        paths = [os.path.join(directory, f"python{version}") for directory in directories if directory]
        paths = list(dict.fromkeys(os.path.realpath(path) for path in paths if os.access(path, os.X_OK)))
        interpreters = (probe(path) for path in paths)
        interpreter = next((one for one in interpreters if one is not None and one.version == version), None)
        if interpreter is not None:
            found.append(interpreter)
        elif paths:
            hint = f"Debian has them in libpython{version}-testsuite"
            print(f"NOT RUN: Python {version}: {', '.join(paths)} without the package {PACKAGE} ({hint})", flush=True)
        else:
            print(f"NOT RUN: Python {version}: no python{version} on PATH or under pyenv", flush=True)
    if not found:
        raise Refused(f"no Python of {', '.join(VERSIONS)} with the package {PACKAGE} was found")
    return found


def pyenv_directories() -> list[str]:
    root = os.environ.get("PYENV_ROOT", "")
    if not root and shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True).stdout.strip()
    return [str(path) for path in sorted(Path(root, "versions").glob("*/bin"), reverse=True)] if root else []


@functools.cache
def environment() -> dict[str, str]:
    """The environment of the tests: this one without what changes how Python runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def list_modules(interpreter: Interpreter, loop: str) -> list[str]:
    """The names of the modules to run, the slow ones first. Raises `Refused` where the loop cannot be put in place."""
    command = [interpreter.path, str(HERE / "child.py"), "--list", "--loop", loop]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise Refused(f"{interpreter.path} does not get as far as its tests with {loop}:\n{done.stderr}")
    return sorted(done.stdout.split(), key=lambda name: (name not in SLOW_FIRST, name))


def run_module(interpreter: Interpreter, module: str, loop: str, seconds: float, only: str) -> dict[str, Outcome]:
    """One module's tests on one loop. A test that ends the process is recorded as such, and the rest still runs."""
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as directory:
        results, without = Path(directory, "results"), Path(directory, "without")
        results.touch()
        command = [interpreter.path, "-W", "default", str(HERE / "child.py"), str(results), f"{PACKAGE}.{module}"]
        command += ["--loop", loop, "--seconds", str(seconds), "--only", only, "--without", str(without)]
        while True:
            without.write_text("\n".join(outcomes))
            status, output = run_to_the_end(command, directory)
            unfinished = read_results(results, outcomes)
            if status == 0:
                return outcomes
            if unfinished is None:
                # It ended outside any test, so there is nothing to leave out next time.
                name = f"{PACKAGE}.{module}"
                outcomes[name] = Outcome(name, f"process ended with status {status}", output)
                return outcomes
            outcomes[unfinished] = Outcome(unfinished, "hang or crash", output)


def run_to_the_end(command: list[str], directory: str) -> tuple[int, str]:
    """Run a command in a process group of its own, which is killed when it is over; its status and last output."""
    log = Path(directory, "log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment(), process_group=0
        )
        try:
            status = process.wait(MODULE_SECONDS)
        except subprocess.TimeoutExpired:
            status = -signal.SIGKILL
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
    return status, log.read_text(errors="replace")[-6000:]


def read_results(results: Path, outcomes: dict[str, Outcome]) -> str | None:
    """Add what a child wrote to `outcomes`; the id of the test that it did not finish, if any."""
    unfinished = None
    for line in results.read_text().splitlines():
        record = json.loads(line)
        if "outcome" in record:
            unfinished = None
            outcomes[record["id"]] = Outcome(
                record["id"], record["outcome"], record["detail"], record["ours"], record["stock"]
            )
        else:
            unfinished = record["id"]
    return unfinished if unfinished not in outcomes else None


def compare(interpreter: Interpreter, args: argparse.Namespace, exceptions: Sequence[ExceptedTest]) -> Verdict:
    """Run everything on both loops, and again what differs."""
    modules = list_modules(interpreter, args.loop)
    selected = [name for name in modules if name in args.only] or modules
    loops = {"stock": "", "ours": args.loop}
    sums: dict[str, dict[str, Outcome]] = {"stock": {}, "ours": {}}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = {
            pool.submit(run_module, interpreter, module, loops[kind], args.seconds, args.only): kind
            for module in selected
            for kind in loops
        }
        for job in concurrent.futures.as_completed(jobs):
            sums[jobs[job]].update(job.result())
    verdict = Verdict(interpreter, sums["stock"], sums["ours"])
    excepted = {exception.test for exception in exceptions if exception.applies(interpreter.version)}
    differing = []
    for test, stock in sorted(verdict.stock.items()):
        ours = verdict.ours.get(test) or Outcome(test, "not run")
        if stock.passed and not ours.passed:
            if test in excepted:
                verdict.excepted.append(test)
            else:
                differing.append(ours)
    if len(differing) <= MAX_RERUN_TESTS:
        differing = [last for ours in differing if (last := run_again(verdict, ours.test, args)) is not None]
    verdict.differences = differing
    # Failures outside any test (a module that could not be imported, a class that could not be set up).
    verdict.differences += [
        outcome
        for test, outcome in verdict.ours.items()
        if test not in verdict.stock and outcome.outcome not in ("pass", "skip")
    ]
    return verdict


def run_again(verdict: Verdict, test: str, args: argparse.Namespace) -> Outcome | None:
    """Run one test alone on both loops, up to three times. Our failure if it counts, None if it is let go."""
    module = test.removeprefix(f"{PACKAGE}.").split(".")[0]
    passes = 0
    for attempt in range(1, RERUNS + 1):
        stock, ours = (
            outcomes.get(test) or next(iter(outcomes.values()), Outcome(test, "not run"))
            for outcomes in (
                run_module(verdict.interpreter, module, loop, args.seconds, test) for loop in ("", args.loop)
            )
        )
        passes += ours.passed
        if stock.passed and not ours.passed:
            verdict.rerun.append(f"{test}: alone, attempt {attempt}: passes on the stock loop, not on ours")
            return ours
    verdict.rerun.append(
        f"{test}: alone, {passes} of {RERUNS} attempts pass on ours: " + ("let go" if passes else "never")
    )
    return None if passes else ours


def report(verdict: Verdict, seconds: float) -> bool:
    """Print one interpreter's result; whether it is clean."""
    passed = [sum(outcome.passed for outcome in loop.values()) for loop in (verdict.stock, verdict.ours)]
    made = sum(outcome.ours for outcome in verdict.ours.values())
    users = sum(outcome.ours > 0 for outcome in verdict.ours.values())
    escaped = [outcome.test for outcome in verdict.ours.values() if outcome.stock]
    for line in verdict.rerun:
        print(f"  run again: {line}")
    for test in verdict.excepted:
        print(f"  excepted: {test}")
    for outcome in verdict.differences:
        print(f"  DIFFERENCE: {outcome.test}: {outcome.outcome}\n{indented(outcome.detail)}")
    for test in escaped:
        print(f"  NOT REPLACED: a stock selector loop was made in {test}")
    if not made:
        print("  NOT REPLACED: no loop of the class under test was made")
    print(
        f"Python {verdict.interpreter.full_version}: {len(verdict.stock)} tests, {passed[0]} pass on the stock loop, "
        f"{passed[1]} on ours; {len(verdict.differences)} differences, {len(verdict.excepted)} excepted; "
        f"{made} loops of ours in {users} tests; {seconds:.0f} s",
        flush=True,
    )
    return bool(made) and not verdict.differences and not escaped


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="PATH", help="an interpreter; repeatable")
    parser.add_argument("--loop", default="hwloop:EventLoop", metavar="MODULE:CLASS", help="default: %(default)s")
    parser.add_argument("--only", default="", metavar="NAME", help="tests with this in their full name")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="time for one test (default: %(default)s)")
    args = parser.parse_args(arguments)
    try:
        exceptions = load_exceptions(HERE / "exceptions.toml")
        interpreters = [named_interpreter(path) for path in args.python] or find_interpreters()
        verdicts, clean = [], True
        for interpreter in interpreters:
            print(f"Python {interpreter.full_version} ({interpreter.path}) ...", flush=True)
            began = time.monotonic()
            verdicts.append(compare(interpreter, args, exceptions))
            clean &= report(verdicts[-1], time.monotonic() - began)
    except Refused as refusal:
        print(f"conformance: {refusal}", file=sys.stderr)
        return 2
    for complaint in stale_exceptions(exceptions, verdicts) if not args.only else ():
        print(f"STALE EXCEPTION: {complaint}")
        clean = False
    print("conformance: " + ("no difference" if clean else "FAILED"))
    return 0 if clean else 1


def named_interpreter(path: str) -> Interpreter:
    interpreter = probe(path)
    if interpreter is None:
        raise Refused(f"{path}: no Python, or one without the package {PACKAGE} (Debian: libpython3.N-testsuite)")
    return interpreter


if __name__ == "__main__":
    raise SystemExit(main())
