"""The package gpiod's own tests, and libgpiod's Python examples, on the simulated board.

The tests make chips with a C library over the kernel's module gpio-sim, and look at the kernel's version. Two modules
stand for those: gpiosim.py here makes chips of the board, and all else is the package's.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sources

Run = Callable[..., subprocess.CompletedProcess[str]]

HERE = Path(__file__).parent
FAILING = {
    "tests_module.VersionString.test_api_version_string": "expects three numbers; the real extension of 2.5.0 says 2.3",
}
"""Tests that fail on a real kernel too, and why."""
RUNNER = """
import json
import sys
import unittest

sys.path.insert(0, ".")

class Result(unittest.TestResult):
    def addSuccess(self, test):
        outcomes[test.id()] = ""

outcomes = {}
suite = unittest.defaultTestLoader.loadTestsFromNames(f"tests.{name}" for name in sys.argv[1:])
result = Result()
suite.run(result)
outcomes.update((test.id(), text) for test, text in result.failures + result.errors + result.skipped)
print(json.dumps(outcomes))
"""
SYSTEM = """
def check_kernel_version(*version):
    return True

def set_process_name(name):
    pass
"""
BUTTON = """
[[device]]
type = "button"
line = 5
press_every = 0.3
hold = 0.1
bounce = 0.002
"""


def names_of_tests() -> list[str]:
    """Return the names of the package's tests; one that says so where the package is not available."""
    try:
        folder = sources.fetch("gpiod") / "tests"
    except sources.Unavailable:
        return ["unavailable"]
    return [
        f"{path.stem}.{node.name}.{each.name}"
        for path in sorted(folder.glob("tests_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    ]


@pytest.fixture(scope="module")
def outcomes(
    source: Callable[[str], Path], stage_in: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Run all tests; return for each its traceback, which is empty if it passed."""
    place = tmp_path_factory.mktemp("gpiod")
    tests = place / "tests"
    shutil.copytree(source("gpiod") / "tests", tests)
    shutil.copy(HERE / "gpiosim.py", tests / "gpiosim" / "_ext.py")
    (tests / "system" / "_ext.py").write_text(SYSTEM, encoding="utf-8")
    modules = sorted(path.stem for path in tests.glob("tests_*.py"))
    found: dict[str, str] = json.loads(stage_in(place).run(RUNNER, "", "--", *modules).stdout)
    return found


@pytest.mark.kind("gpiod's tests")
@pytest.mark.parametrize("name", names_of_tests())
def test_the_packages_test_passes(name: str, outcomes: dict[str, str]) -> None:
    traceback = outcomes[f"tests.{name}"]
    if name in FAILING:
        assert traceback.rstrip().endswith("not found in '2.3'")
        pytest.xfail(FAILING[name])
    assert not traceback, traceback


# Examples.


@pytest.fixture
def example(source: Callable[[str], Path]) -> Callable[[str], Path]:
    return lambda name: source("gpiod-examples") / f"{name}.py"


@pytest.mark.kind("gpiod's examples")
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("find_line_by_name", "GPIO19: gpiochip0 19\n"),
        ("get_chip_info", "gpiochip0 [pinctrl-bcm2711] (54 lines)\n"),
        ("get_line_info", "line   3:        GPIO3       unused    input active-high\n"),
        ("get_line_value", "5=Value.ACTIVE\n"),
        ("reconfigure_input_to_output", "5=Value.ACTIVE (input)\n5=Value.INACTIVE (output)\n"),
    ],
)
def test_an_example_that_ends_prints_this(
    run_script: Run, example: Callable[[str], Path], name: str, output: str
) -> None:
    done = run_script(example(name), '[[device]]\ntype = "button"\nline = 3\nactive_low = false\nresistor = true\n')
    assert (done.stdout, done.stderr) == (output, "")


@pytest.mark.kind("gpiod's examples")
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("toggle_line_value", ["5=Active", "5=Inactive", "5=Active"]),
        ("watch_line_rising", [f"line: 5  type: Rising  event #{number}" for number in (1, 2)]),
        ("watch_line_value", ["line: 5  type: Falling  event #1", "line: 5  type: Rising   event #2"]),
        ("async_watch_line_value", ["offset: 5  type: Falling  event #1", "offset: 5  type: Rising   event #2"]),
    ],
)
def test_an_example_that_goes_on_prints_this_first(
    stage: Any, example: Callable[[str], Path], name: str, output: list[str]
) -> None:
    started = stage.start(example(name), "" if name.startswith("toggle") else BUTTON)
    try:
        assert started.stdout is not None
        assert [started.stdout.readline() for _ in output] == [f"{line}\n" for line in output]
        assert started.poll() is None
    finally:
        started.kill()
        started.communicate()


@pytest.mark.kind("gpiod's examples")
@pytest.mark.parametrize(
    ("name", "argument", "output"),
    [
        ("get_multiple_line_values", "(5, 3, 7)", ["5=Value.ACTIVE 3=Value.ACTIVE 7=Value.ACTIVE "]),
        (
            "toggle_multiple_line_values",
            "Values({5: Value.ACTIVE, 3: Value.ACTIVE, 7: Value.INACTIVE})",
            ["5=Active 3=Active 7=Inactive", "5=Inactive 3=Inactive 7=Active"],
        ),
        (
            "watch_multiple_line_values",
            "(5, 3, 7)",
            ["offset: 5  type: Falling  event #1  line event #1", "offset: 5  type: Rising   event #2  line event #2"],
        ),
    ],
)
def test_an_example_for_several_lines_works_once_they_are_hashable(
    stage: Any, example: Callable[[str], Path], name: str, argument: str, output: list[str]
) -> None:
    """As they are, they use a list or a view of keys as a key, and end with a TypeError on every machine."""
    assert "TypeError: unhashable type" in stage.run(example(name), status=1).stderr
    started = stage.start(
        f"""
        import runpy
        from gpiod.line import Value

        class Values(dict):
            def keys(self):
                return tuple(self)

        runpy.run_path({str(example(name))!r})[{name!r}]("/dev/gpiochip0", {argument})
        """,
        BUTTON.replace("bounce = 0.002", "") if "watch" in name else "",
    )
    try:
        assert started.stdout is not None
        assert [started.stdout.readline() for _ in output] == [f"{line}\n" for line in output]
    finally:
        started.kill()
        started.communicate()


@pytest.mark.kind("gpiod's examples")
def test_the_example_that_watches_line_info_sees_what_others_do(
    run_script: Run, example: Callable[[str], Path]
) -> None:
    """In the same process, because a simulated board belongs to one."""
    done = run_script(
        f"""
        import os, runpy, sys, threading, time
        import gpiod

        class Output(list):
            def write(self, text):
                self.append(text)

        output = sys.stdout = Output()
        path = {str(example("watch_line_info"))!r}
        threading.Thread(target=runpy.run_path, args=[path], kwargs={{"run_name": "__main__"}}, daemon=True).start()
        while "LINE_RELEASED" not in "".join(output):
            gpiod.request_lines("/dev/gpiochip0", {{3: None}}, "door").release()
            time.sleep(0.01)
        print("".join(output).splitlines()[0], file=sys.__stdout__, flush=True)
        os._exit(0)
        """
    )
    assert done.stdout.startswith("<InfoEvent type=Type.LINE_RE")
    assert '<LineInfo offset=3 name="GPIO3"' in done.stdout


# Programs of other kinds.


@pytest.mark.kind("libraries")
def test_a_program_that_makes_the_kernels_calls_itself_reaches_the_lines(run_script: Run) -> None:
    """As python-periphery does with ctypes, and shell tools with a few bytes."""
    done = run_script(
        """
        import fcntl, os, stat, struct

        assert stat.S_ISCHR(os.stat("/dev/gpiochip0").st_mode)
        chip = os.open("/dev/gpiochip0", os.O_RDWR | os.O_CLOEXEC)
        name, label, lines = struct.unpack("32s32sI", fcntl.ioctl(chip, 0x8044B401, bytes(68)))
        print(name.rstrip(b"\\0"), label.rstrip(b"\\0"), lines)
        both_edges = 1 << 2 | 1 << 4 | 1 << 5
        request = bytearray(struct.pack("=64I32sQ264xII20xi", 5, *[0] * 63, b"raw", both_edges, 1, 0, 0))
        fcntl.ioctl(chip, 0xC250B407, request)
        (line,) = struct.unpack("=i", request[-4:])
        os.close(chip)
        for _ in range(2):
            timestamp, kind, offset, seqno, line_seqno = struct.unpack("=QIIII24x", os.read(line, 48))
            print(kind, offset, seqno, line_seqno)
        print(struct.unpack("QQ", fcntl.ioctl(line, 0xC010B40E, struct.pack("QQ", 0, 1))))
        os.close(line)
        """,
        BUTTON.replace("bounce = 0.002", ""),
    )
    assert done.stdout == "b'gpiochip0' b'pinctrl-bcm2711' 54\n2 5 1 1\n1 5 2 2\n(1, 1)\n"


@pytest.mark.kind("libraries")
def test_a_monitor_with_asyncio_prints_what_gpiomon_prints(run_script: Run) -> None:
    done = run_script(
        """
        import asyncio
        from datetime import timedelta
        import gpiod
        from gpiod.line import Bias, Edge

        async def main():
            settings = gpiod.LineSettings(edge_detection=Edge.BOTH, bias=Bias.PULL_UP,
                                          debounce_period=timedelta(milliseconds=5))
            with gpiod.request_lines("/dev/gpiochip0", {("GPIO5", 6): settings}, "gpiomon") as request:
                ready = asyncio.Event()
                asyncio.get_running_loop().add_reader(request, ready.set)
                seen = 0
                while seen < 4:
                    await ready.wait()
                    ready.clear()
                    for event in request.read_edge_events():
                        seen += 1
                        print(event.line_seqno, event.event_type.name.partition("_")[0].lower(), event.line_offset)
                asyncio.get_running_loop().remove_reader(request)

        asyncio.run(main())
        """,
        BUTTON,
    )
    assert done.stdout == "1 falling 5\n2 rising 5\n3 falling 5\n4 rising 5\n"
