"""`hwloop sim --explore` and `--schedule`: what is found, how small it gets, and how each failure is reported."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BOARD = """
    [[device]]
    type = "button"
    name = "door"
    line = 17

    [[device]]
    type = "led"
    name = "lamp"
    line = 27

    [[device]]
    type = "bme280"
    name = "air"
"""
LAMP = """
    import hwloop
    from hwloop import gpio

    async def main():
        async with gpio.watch(17, pull="up", active_low=True) as door, gpio.output(27, safe=0) as lamp:
            openings = 0
            async for edge in door:
                lamp.set(edge.value)
                openings += edge.value
                ON_EDGE

    if __name__ == "__main__":
        hwloop.run(main())
"""
DOOR = """
    name = "the door opens once"
    steps = [{ at = "1s", press = "door" }, { after = "2s", release = "door" }, { wait = "1s" }]
"""
SENSOR = """
    import asyncio
    from hwloop import i2c

    async def main():
        async with i2c.open(1) as bus:
            while True:
                try:
                    await bus.device(0x76).read_register(0xD0)
                except OSError:
                    HANDLER
                await asyncio.sleep(0.1)
"""
READING = 'steps = [{ wait = "2s" }]'

Result = dict[str, Any]
Sim = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    """Runs commands in forks of a process that has no threads, as `hwloop` has none."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "program_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def sim(server: subprocess.Popen[str], tmp_path: Path) -> Sim:
    """`sim("--scenario", …)` returns the status and the output of `hwloop sim`."""
    write(tmp_path, **{"board.toml": BOARD, "door.toml": DOOR, "reading.toml": READING})

    def sim(*words: str) -> Result:
        assert server.stdin is not None
        assert server.stdout is not None
        job = {"argv": ["hwloop", "sim", *words], "directory": str(tmp_path), "environment": {}, "seconds": 120}
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        result: Result = json.loads(server.stdout.readline())
        return result

    return sim


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / name).write_text(textwrap.dedent(text), encoding="utf-8")


def lamp(directory: Path, on_edge: str) -> None:
    write(directory, **{"lamp.py": LAMP.replace("ON_EDGE", on_edge)})


def test_the_smallest_schedule_is_shown_with_its_files_and_its_command_repeats_the_failure(
    sim: Sim, tmp_path: Path
) -> None:
    lamp(tmp_path, "assert openings <= 1")
    words = ("--explore", "9", "--faults", "contact-bounce,lost-wake-up")
    files = ("--junit", "x.xml", "--vcd", "x.vcd", "--artifacts", "out")
    found = sim("lamp.py", "--scenario", "door.toml", *words, *files)
    assert found["status"] == 1
    assert "fault     contact-bounce after=" in found["stdout"]
    assert re.search(
        r"^FAILED: a schedule of 1 fault, the smallest that was found in \d+ runs: ", found["stdout"], re.M
    )
    assert found["stderr"].count("AssertionError") == 1  # nothing of the other runs
    command = re.search(r"to run it again: hwloop sim (.* --schedule .*)", found["stdout"])
    assert command is not None
    again = sim(*shlex.split(command[1]))
    assert again["status"] == 1
    # Only the scenario of the failure says where its traces are.
    output = [line for line in found["stdout"].splitlines() if not line.startswith(("artifact: ", "FAILED: "))]
    assert [line for line in again["stdout"].splitlines() if not line.startswith("FAILED: ")] == output
    (case,) = ElementTree.parse(tmp_path / "x.xml").getroot().iter("testcase")
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("type") == "AssertionError"
    properties = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert str(properties["schedule"]).startswith("seed=0; contact-bounce after=")
    assert str(properties["failed at"]).endswith("lamp.py:11")
    assert (tmp_path / "x.vcd").read_text().startswith("$")
    assert {path.name for path in (tmp_path / "out" / "door").iterdir()} >= {"trace.vcd", "trace.csv", "trace.svg"}


def test_a_fault_that_stops_the_exploration_at_once_can_be_left_out(sim: Sim, tmp_path: Path) -> None:
    lamp(tmp_path, "pass")
    words = ("--explore", "60", "--faults=-stuck-line")
    found = sim("lamp.py", "--scenario", "door.toml", *words)
    assert found["status"] == 1
    assert "fault     chip-vanishes after=0.0 " in found["stdout"]
    others = "hwloop sim lamp.py --scenario door.toml --seed 0 --explore 60 --faults=-stuck-line,-chip-vanishes"
    assert f"to explore the other faults: {others}\n" in found["stdout"]
    passed = sim(*shlex.split(others)[2:])
    assert passed["status"] == 0, passed["stdout"]
    assert "lost-wake-up" in passed["stdout"]
    assert "chip-vanishes" not in passed["stdout"].replace(others, "")


def test_a_program_that_endures_its_faults_passes_and_the_faults_are_counted(sim: Sim, tmp_path: Path) -> None:
    lamp(tmp_path, "pass")
    words = ("lamp.py", "--scenario", "door.toml", "--explore", "3", "--faults", "contact-bounce", "--junit", "x.xml")
    results = [sim(*words, "--seed", seed) for seed in ("3", "3", "4")]
    assert [result["status"] for result in results] == [0, 0, 0]
    summaries = [re.sub(r"in \S+ s", "", result["stdout"]) for result in results]
    assert re.search(r"^passed: none of 3 schedules fails, seed 3, : \d+ contact-bounce$", summaries[0], re.M)
    assert summaries[0] == summaries[1] != summaries[2]
    (case,) = ElementTree.parse(tmp_path / "x.xml").getroot().iter("testcase")
    assert (case.get("name"), case.find("failure")) == ("the door opens once", None)


def test_an_expectation_that_fails_under_faults_is_found(sim: Sim, tmp_path: Path) -> None:
    write(tmp_path, **{"sensor.py": SENSOR.replace("HANDLER", "print('no answer')")})
    write(tmp_path, **{"quiet.toml": 'steps = [{ expect_quiet = "output", during = "2s" }]'})
    words = ("--explore", "9", "--faults", "i2c-nack", "--junit", "x.xml")
    found = sim("sensor.py", "--scenario", "quiet.toml", *words)
    assert found["status"] == 1
    assert "fault     i2c-nack after=0.0" in found["stdout"]
    assert "quiet.toml:1" in (tmp_path / "x.xml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("import os; os._exit(3)", "the program's process ended with status 3 before the scenario had"),
        ("import os; os.kill(os.getpid(), 9)", "the program's process was killed by SIGKILL"),
    ],
)
def test_a_process_that_ends_without_a_result_is_a_failure(
    sim: Sim, tmp_path: Path, handler: str, message: str
) -> None:
    write(tmp_path, **{"sensor.py": SENSOR.replace("HANDLER", handler)})
    found = sim(
        "sensor.py", "--scenario", "reading.toml", "--explore", "10", "--faults", "i2c-nack", "--junit", "x.xml"
    )
    assert found["status"] == 1
    assert f": {message}\n" in found["stdout"]
    assert "--schedule 'seed=0; i2c-nack after=0.0" in found["stdout"]
    assert message in (tmp_path / "x.xml").read_text()


def test_a_program_that_fails_without_faults_is_reported_and_not_explored(sim: Sim, tmp_path: Path) -> None:
    lamp(tmp_path, "1 / 0")
    found = sim("lamp.py", "--scenario", "door.toml", "--explore", "5")
    assert found["status"] == 1
    assert "ZeroDivisionError" in found["stdout"]
    assert found["stdout"].endswith(
        "FAILED: it fails without any fault, so no schedule was drawn: the program failed, with exit status 1\n"
    )


@pytest.mark.slow
def test_several_scenarios_are_explored_one_after_the_other(sim: Sim, tmp_path: Path) -> None:
    lamp(tmp_path, "assert openings <= 1")
    words = ("--scenario", "reading.toml", "door.toml", "--explore", "5", "--faults", "contact-bounce")
    found = sim("lamp.py", *words, "--junit", "x.xml")
    assert found["status"] == 1
    assert "1 of 2 scenarios passed; failed: door.toml\n" in found["stdout"]
    failures = [case.find("failure") is not None for case in ElementTree.parse(tmp_path / "x.xml").iter("testcase")]
    assert failures == [False, True]


WRONG = [
    (["--explore", "0"], "argument --explore: a number of schedules is 1 or more, not '0'"),
    (["--explore", "x"], "argument --explore: a number of schedules is 1 or more, not 'x'"),
    (["--explore", "2", "--realtime"], "--explore is for virtual time; leave out --realtime"),
    (["--explore", "2", "--faults", "i2c-nak"], "argument --faults: unknown fault 'i2c-nak'; did you mean i2c-nack?"),
    (["--explore", "2", "--faults", ","], "argument --faults: name at least one fault, such as i2c-nack"),
    (["--explore", "2", "--faults", "serial-gap"], "--faults: this board can have none of these faults: serial-gap"),
    (
        ["--explore", "2", "--faults", "program-signal"],
        "argument --faults: program-signal ends the program, so it is not drawn",
    ),
    (["--explore", "2", "--faults=-i2c-nak"], "argument --faults: unknown fault 'i2c-nak'; did you mean i2c-nack?"),
    (
        ["--explore", "2", "--faults=-i2c-nack,stuck-line"],
        "argument --faults: name the faults that are drawn, or those that are not (-i2c-nack), but not both",
    ),
    (["--faults", "i2c-nack"], "--faults names the faults that --explore draws; give --explore too"),
    (["--schedule", "stuck"], "argument --schedule: a schedule begins with its seed"),
    (["--schedule", "seed=1", "--seed", "2"], "--schedule has a seed of its own; leave out --seed"),
    (["--schedule", "seed=1", "--explore", "2"], "--schedule plays one schedule and draws none; leave out --explore"),
    (["--schedule", "seed=1", "--realtime"], "--schedule is for virtual time; leave out --realtime"),
    (
        ["--schedule", "seed=1; stuck-line line=99"],
        "--schedule: fault stuck-line: no line 99 on chip pinctrl-bcm2711: lines are 0",
    ),
    (["--schedule", "seed=1; stuck-lin"], "--schedule: unknown fault 'stuck-lin'; did you mean stuck-line?"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_call_says_what_would_be_right(sim: Sim, tmp_path: Path, words: list[str], message: str) -> None:
    lamp(tmp_path, "pass")
    result = sim("lamp.py", "--scenario", "door.toml", *words)
    assert result["status"] == 2
    assert (result["stdout"] + result["stderr"]).startswith(f"hwloop sim: {message}"), result
    assert "see 'hwloop sim --help'" in result["stdout"] + result["stderr"]


@pytest.mark.slow
def test_a_script_without_a_loop_is_explored_too(sim: Sim, tmp_path: Path) -> None:
    script = """
        import time
        from gpiozero import Button

        door, openings = Button(17), []
        door.when_pressed = lambda: openings.append(time.monotonic())
        while True:
            time.sleep(0.1)
            assert len(openings) <= 1
    """
    write(tmp_path, **{"script.py": script})
    command = [sys.executable, "-m", "hwloop", "sim", "script.py", "--scenario", "door.toml", "--explore", "3"]
    found = subprocess.run(
        [*command, "--faults", "contact-bounce"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 1
    assert "fault     contact-bounce after=0.0 " in found.stdout
    assert "AssertionError" in found.stderr


@pytest.mark.slow
def test_a_program_that_hangs_is_ended_and_its_place_is_shown(sim: Sim, tmp_path: Path) -> None:
    write(tmp_path, **{"sensor.py": SENSOR.replace("HANDLER", "while True: pass")})
    write(
        tmp_path,
        **{"short.py": "import hwloop.cli, hwloop.cli.sim_explore as e\ne.SHORTEST = 3.0\nhwloop.cli.script()\n"},
    )
    command = [sys.executable, "short.py", "sim", "sensor.py", "--scenario", "reading.toml"]
    command += ["--explore", "3", "--faults", "i2c-nack"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "the program did not end within 3 s of real time\n" in done.stdout
    assert "--schedule 'seed=0; i2c-nack after=0.0" in done.stdout
    assert 'sensor.py", line 11 in main' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_exploration_and_the_run_that_is_under_way(
    sim: Sim, tmp_path: Path, number: signal.Signals
) -> None:
    # The second run with a fault hangs, in a process of its own, which its child can't outlive.
    handler = """
                    import os, time
                    try:
                        os.mkdir("first")
                    except FileExistsError:
                        open(f"at-work-{os.getpid()}", "w").close()
                        time.sleep(100)
                    raise
    """
    write(tmp_path, **{"sensor.py": SENSOR.replace("HANDLER", handler.strip())})
    command = [sys.executable, "-m", "hwloop", "sim", "sensor.py", "--scenario", "reading.toml", "--explore", "50"]
    process = subprocess.Popen(
        [*command, "--faults", "i2c-nack"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, process_group=0
    )
    while not (at_work := list(tmp_path.glob("at-work-*"))):
        assert process.poll() is None
    os.killpg(process.pid, number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == -number
    assert "interrupted: after " in out
    assert "the smallest that has failed so far: hwloop sim sensor.py --scenario reading.toml --schedule 'seed=" in out
    pid = int(at_work[0].name.rpartition("-")[2])
    assert not Path(f"/proc/{pid}").exists()
