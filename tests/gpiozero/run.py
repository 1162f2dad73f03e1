"""Is `SimFactory` all that `MockFactory` is? gpiozero's own tests say: `make test-gpiozero`.

The tests of the gpiozero that is installed are taken from its source distribution (downloaded by pip, its hash checked,
never copied into this repository). They run with `MockFactory` and with `SimFactory` in its place; a test that passes
with the first and not with the second is lost, and a lost test is a failure (status 1). Its test_real_pins.py runs over
`LoopFactory` and `SimFactory`, as they are found under gpiozero's entry point, on a simulated board with the wire that
it expects, and over the mock for comparison.

Many of these tests compare times with a tolerance of 50 ms. So those that fail, with whichever factory, are run again,
alone and up to five times; what was run again is said. Status 69: pip could not download them.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOWNLOADS = ROOT / "build" / "gpiozero"
HASHES = {"2.0.1.post3": "745feab6df463ac2e9de10c67e2dd9f396e668ba4e281e92381d6c460100a8f7"}
"""SHA-256 of the source distributions that may be run."""
REAL = "tests/test_real_pins.py"
GROUP = "gpiozero_pin_factories"
RERUNS = 5
SECONDS = 300

Outcomes = dict[str, str]
"""The outcome of each test: "passed", "failed" or "skipped"."""


class Refused(Exception):
    """The run cannot be made."""


class Unavailable(Refused):
    """The network or the package index does not give what is needed."""


def fetch(version: str) -> Path:
    """The source distribution of a gpiozero, downloaded if need be. Raises `Refused`."""
    if version not in HASHES:
        raise Refused(f"no hash is known of gpiozero {version}; known are {', '.join(HASHES)}")
    archive = DOWNLOADS / f"gpiozero-{version}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--no-binary", "gpiozero", "--dest", str(DOWNLOADS), f"gpiozero=={version}"]
        environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        if subprocess.run(command, env=environment, timeout=SECONDS).returncode:
            raise Unavailable(f"NOT RUN: pip could not download the source distribution of gpiozero {version}")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != HASHES[version]:
        raise Refused(f"{archive} has the SHA-256 {found}, not {HASHES[version]}")
    return archive


def lay_out(archive: Path, where: Path) -> None:
    """The tests, with our conftest.py, and the data files that they read by paths of the source tree."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.partition("/")[2]
            if member.isfile() and name.startswith(("tests/", "gpiozero/fonts/")):
                content = tar.extractfile(member)
                assert content is not None
                if not name.startswith("gpiozero/") or name.endswith(".txt"):
                    (where / name).parent.mkdir(parents=True, exist_ok=True)
                    (where / name).write_bytes(content.read())
    (where / "tests" / "conftest.py").write_bytes((HERE / "suite.py").read_bytes())


def advertise(where: Path) -> None:
    """In a checkout that is not installed: the entry points of pyproject.toml, where gpiozero looks for them."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        points = tomllib.load(file)["project"]["entry-points"][GROUP]
    if points.keys() <= {point.name for point in importlib.metadata.entry_points(group=GROUP)}:
        return
    info = where / "hwloop-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hwloop\nVersion: 0\n", encoding="utf-8")
    lines = [f"[{GROUP}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(where: Path, factory: str, arguments: Sequence[str], label: str) -> Outcomes:
    """Run tests with a factory, and say what became of each."""
    outcomes = where / f"{label}.json"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(where)]),
        "HWLOOP_TEST_FACTORY": factory,
        "HWLOOP_TEST_OUTCOMES": str(outcomes),
        "GPIOZERO_TEST_LOCK": str(where / "real_pins_lock"),
    }
    for name in ("HWLOOP_BOARD", "GPIOZERO_PIN_FACTORY", "PYTEST_ADDOPTS"):
        environment.pop(name, None)
    if factory == "real":
        environment["HWLOOP_BOARD"] = str(HERE / "wired.toml")
    # With -P the tests get the gpiozero that is installed, not the folder of this name that they read data from.
    pytest = [sys.executable, "-P", "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", "."]
    # In order: some of gpiozero's tests use a factory that an earlier one has left.
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "-o", "faulthandler_timeout=60", "--tb=short"]
    done = subprocess.run(
        [*pytest, *options, *arguments], cwd=where, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    if not outcomes.exists():
        raise Refused(f"the tests did not run with {label}:\n{done.stdout}{done.stderr}")
    found: Outcomes = json.loads(outcomes.read_text(encoding="utf-8"))
    outcomes.unlink()
    if any(outcome == "failed" for outcome in found.values()):
        (where / f"{label}.log").write_text(done.stdout, encoding="utf-8")
    return found


def run_again(where: Path, factory: str, outcomes: Outcomes, label: str) -> None:
    """Run what failed again, until it passes or has had its chances."""
    for _ in range(RERUNS):
        failed = [test for test, outcome in outcomes.items() if outcome == "failed"]
        if not failed:
            return
        again = run(where, factory, failed, f"{label}-again")
        for test in failed:
            outcomes[test] = again.get(test, "failed")
            print(f"  run again with {label}: {test}: {outcomes[test]}")


def lost_tests(mock: Outcomes, sim: Outcomes, real: Outcomes) -> list[str]:
    """Tests that pass with the mock and not with ours; test_real_pins.py names the factory in its tests' names."""
    lost = [f"{test} [SimFactory]" for test, outcome in mock.items() if outcome == "passed" != sim.get(test)]
    for test, outcome in real.items():
        if not test.endswith("[mock]"):
            continue
        for factory in ("hwloop", "hwloop-sim"):
            ours = test.replace("[mock]", f"[{factory}]")
            if real.get(ours) == "failed" or (outcome == "passed" != real.get(ours)):
                lost.append(ours)
    return lost


def summary(outcomes: Outcomes) -> str:
    counts = {kind: list(outcomes.values()).count(kind) for kind in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none"


def main() -> int:
    version = importlib.metadata.version("gpiozero")
    with tempfile.TemporaryDirectory(prefix="hwloop-gpiozero-") as directory:
        where = Path(directory)
        try:
            lay_out(fetch(version), where)
            advertise(where)
            runs = {
                "MockFactory": ("mock", ["tests", "--ignore", REAL]),
                "SimFactory": ("sim", ["tests", "--ignore", REAL]),
                "test_real_pins.py": ("real", [REAL, "-k", "mock or hwloop"]),
            }
            with concurrent.futures.ThreadPoolExecutor(len(runs)) as pool:
                jobs = {label: pool.submit(run, where, *arguments, label) for label, arguments in runs.items()}
                found = {label: job.result() for label, job in jobs.items()}
            for label, (factory, _) in runs.items():
                run_again(where, factory, found[label], label)
        except Refused as refused:
            print(f"tests/gpiozero/run.py: {refused}", file=sys.stderr)
            return os.EX_UNAVAILABLE if isinstance(refused, Unavailable) else 2
        mock, sim, real = found.values()
        lost = lost_tests(mock, sim, real)
        print(f"gpiozero {version}: {summary(mock)} with MockFactory, {summary(sim)} with SimFactory")
        for name in ("mock", "hwloop", "hwloop-sim"):
            print(f"{REAL} with {name}: {summary({t: o for t, o in real.items() if t.endswith(f'[{name}]')})}")
        for test, outcome in mock.items():
            if outcome == "failed":
                print(f"fails with MockFactory too, so it proves nothing: {test}")
        for test in lost:
            print(f"lost: {test}")
        if lost:
            for log in sorted(where.glob("*.log")):
                print(f"\n--- {log.name}\n{log.read_text(encoding='utf-8')}")
        elif not real or len(sim) < len(mock) or "passed" not in mock.values():
            print("the tests did not run as a whole", file=sys.stderr)
            return 2
        print(f"{len(lost)} lost")
        return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
