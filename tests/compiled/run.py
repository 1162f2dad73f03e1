"""Run tests on compiled cores that check themselves, in copies of this checkout.

    python tests/compiled/run.py sanitize [--seconds 600] [TEST ...]
    python tests/compiled/run.py leaks [--rounds 20] [--python PYTHON] [TEST ...]

`sanitize` compiles the core with the address sanitizer of gcc, and runs tests on it, odd_objects.py, and then the soak
(benchmarks/soak.py) over and over until half the time has passed. Whatever the sanitizer reports in any process fails
the run: memory that is used after its end, or beyond it. For the other half, the soak runs on an ordinary compiled
core, where growth shows.

`leaks` runs tests many times in one process (repeated.py), and shows what each leaves behind each time. With an
interpreter that is a debug build and has the packages of the extra `test`, it counts references too.

Status 1 if there is anything to report, 69 if the compiler has no address sanitizer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from copied_checkout import NO_SANITIZER, ROOT, CopiedCheckout, sanitized, sanitizer_library

REPORTS = ROOT / "build" / "compiled" / "reports"
SANITIZED_TESTS = (
    *("tests/core", "tests/promises", "tests/test_descriptors.py", "tests/test_fork.py", "tests/test_forking.py"),
    *("tests/test_loop.py", "tests/test_signals.py", "tests/test_timers.py", "tests/test_transports.py"),
)
PYTEST = ("-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider")
PARALLEL = ("--numprocesses", "auto", "--maxprocesses", "8", "--dist", "worksteal")
SOAK = ("benchmarks/soak.py", "--loops", "100", "--callbacks", "100000")
SANITIZED_SOAK = (
    "-c",
    "import sys; sys.path.insert(0, 'benchmarks'); import soak\n"
    "soak.RESIDENT_LIMIT = float('inf')  # the sanitizer keeps what was freed\n"
    f"sys.exit(soak.main({list(SOAK[1:])}))",
)
ODD_OBJECTS = 3
"""Seeds of odd_objects.py."""
REPEATED_TESTS = (
    *("tests/core", "tests/test_transports.py", "test.test_asyncio.test_base_events", "test.test_asyncio.test_futures"),
    *("test.test_asyncio.test_selector_events", "test.test_asyncio.test_locks", "test.test_asyncio.test_sock_lowlevel"),
)


class Failed(Exception):
    """A run that has failed, or has something to report."""


def run(checkout: CopiedCheckout, *arguments: str, last: int | None = None) -> None:
    """Run Python in a checkout. Raises `Failed` for another status than 0, and for reports of the sanitizer.

    Parameters:
        checkout: where to run.
        arguments: of Python.
        last: how many lines of the output are shown if the run fails, and none otherwise; None for all.
    """
    for old in REPORTS.glob("*"):
        old.unlink()
    command = [checkout.python, *arguments]
    output = None if last is None else subprocess.PIPE
    done = subprocess.run(command, cwd=checkout.path, env=checkout.environment(), stdout=output, text=True, check=False)
    status = done.returncode
    if status and last is not None:
        print(*done.stdout.splitlines()[-last:], sep="\n")
    found = sorted(REPORTS.glob("*"))
    for report in found:
        print(report.read_text(encoding="utf-8", errors="replace")[:6000])
    if status or found:
        raise Failed(f"status {status}, {len(found)} reports: {' '.join(command)}")


def repeat(seconds: float, checkout: CopiedCheckout, command: Sequence[str]) -> None:
    """Run Python in a checkout, again and again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run(checkout, *command)


def sanitize(seconds: float, tests: Sequence[str]) -> None:
    """Run tests and the soak with the address sanitizer, and the soak without it."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    checkout = sanitized(reports=REPORTS / "asan")
    checkout.make()
    run(checkout, *PYTEST, *PARALLEL, *tests)
    for seed in range(ODD_OBJECTS):
        run(checkout, "tests/compiled/odd_objects.py", "--seed", str(seed), last=5)
    repeat(seconds / 2, checkout, SANITIZED_SOAK)
    ordinary = CopiedCheckout("ordinary")
    ordinary.make()
    repeat(seconds / 2, ordinary, SOAK)


def leaks(rounds: int, python: str, tests: Sequence[str]) -> None:
    """Run tests many times in one process."""
    checkout = CopiedCheckout("ordinary", python=python)
    checkout.make()
    run(checkout, "tests/compiled/repeated.py", "--rounds", str(rounds), *tests)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sanitize", "leaks"])
    parser.add_argument("--seconds", type=float, default=600, help="of the soak (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds that count (%(default)s)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for leaks (this one)")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="instead of the usual ones")
    given = parser.parse_intermixed_args(arguments)
    if not given.seconds > 0:
        parser.error(f"--seconds must be more than 0, not {given.seconds:g}")
    if given.rounds < 1:
        parser.error(f"--rounds must be 1 or more, not {given.rounds}")
    try:
        if given.what == "leaks":
            leaks(given.rounds, given.python, given.tests or REPEATED_TESTS)
        elif not sanitizer_library():
            print(f"not run: {NO_SANITIZER}", file=sys.stderr)
            return 69
        else:
            sanitize(given.seconds, given.tests or SANITIZED_TESTS)
    except Failed as failed:
        print(f"FAILED: {failed}")
        return 1
    print(f"passed: {given.what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
