"""`hwloop sim`: programs of every kind, exit statuses, reports, files, signals, and the same trace each time."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hwloop.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
BOARD = """
    label = "bench"
    [[device]]
    type = "button"
    name = "door"
    line = 17
    bounce = 0.004

    [[device]]
    type = "led"
    name = "lamp"
    line = 27
"""
LAMP = """
    import hwloop
    from hwloop import gpio

    async def main():
        async with gpio.watch(17, pull="up", active_low=True, debounce=0.01) as door, gpio.output(27, safe=0) as lamp:
            print("ready")
            async for edge in door:
                lamp.set(edge.value)
                print("open" if edge.value else "closed")

    if __name__ == "__main__":
        hwloop.run(main())
"""
GOOD = """
    name = "the lamp follows the door"
    steps = [
      { at = "1s", press = "door" },
      { expect = "lamp.lit", within = "50ms" },
      { expect_output = "open" },
    ]
"""
BAD = GOOD.replace("50ms", "1ms")

Sim = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Sim]:
    """`sim("lamp.py", …)` returns the status, the output and the errors of `hwloop sim lamp.py …`."""
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    for name in ("HWLOOP_BOARD", "HWLOOP_SEED", "HWLOOP_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, **{"board.toml": BOARD, "lamp.py": LAMP, "good.toml": GOOD, "bad.toml": BAD})

    def sim(*arguments: str) -> tuple[int, str, str]:
        status = main(["sim", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    yield sim
    sys.modules.pop("lamp", None)


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        (directory / name).write_text(textwrap.dedent(text), encoding="utf-8")


def test_a_program_that_does_what_is_expected_passes(sim: Sim) -> None:
    status, out, err = sim("lamp.py", "--scenario", "good.toml")
    assert (status, err) == (0, "")
    assert out.startswith("ready\nopen\nscenario  the lamp follows the door (good.toml)\n")
    assert re.search(r"^   1.000000 s  expect lamp.lit is true: ok after 1\d\.\d+ ms$", out, re.MULTILINE)
    assert re.search(
        r"^passed: 3 steps, 2 expectations, 1.01\d+ s of virtual time in .* s, no seed$", out, re.MULTILINE
    )
    assert out.endswith("to run it again: hwloop sim lamp.py --scenario good.toml\n")
    assert "\033" not in out


def test_a_program_that_is_late_fails_with_a_waveform_and_says_how_late(sim: Sim) -> None:
    status, out, err = sim("lamp.py", "--scenario", "bad.toml", "--seed", "7", "--quiet")
    assert (status, err) == (1, "")
    assert "expect lamp.lit is true: not met within 1 ms (bad.toml:5)\n" in out
    assert re.search(r"instead     lamp.lit is false; it was met 1\d\.\d+ ms too late\n", out)
    assert re.search(r"^17 door  ▔+┃", out, re.MULTILINE)
    assert "\nFAILED: expect lamp.lit is true: not met within 1 ms; 2 steps, 1 expectation, " in out
    assert out.endswith("to run it again: hwloop sim lamp.py --scenario bad.toml --seed 7\n")


@pytest.mark.parametrize(
    "scenario",
    [
        "pump_drains",
        "pump_runs_dry",
        "greenhouse_waters",
        "greenhouse_tank_empty",
        "door_code",
        "door_forced",
        "robot_turns",
        "heater_sensor_fails",
    ],
)
def test_the_scenarios_of_the_examples_pass(sim: Sim, scenario: str) -> None:
    program = scenario.partition("_")[0]
    status, out, err = sim(f"{EXAMPLES}/{program}.py", "--scenario", f"{EXAMPLES}/{scenario}.toml")
    assert (status, err) == (0, ""), out


def test_a_random_seed_is_shown_and_repeats_the_run(sim: Sim) -> None:
    _, out, _ = sim("lamp.py", "--scenario", "good.toml", "--seed", "random")
    (seed,) = re.findall(r", seed (\d+)$", out, re.MULTILINE)
    assert out.endswith(f"--seed {seed}\n")
    assert sim("lamp.py", "--scenario", "good.toml", "--seed", seed)[1].splitlines()[:5] == out.splitlines()[:5]


def test_a_scenario_has_a_seed_and_a_board_of_its_own(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "board.toml").rename(tmp_path / "elsewhere" / "bench.toml")
    write(tmp_path, **{"own.toml": f'seed = 5\nboard = "elsewhere/bench.toml"\n{textwrap.dedent(GOOD)}'})
    status, out, _ = sim("lamp.py", "--scenario", "own.toml")
    assert status == 0
    assert ", seed 5\n" in out


@pytest.mark.parametrize("program", ["lamp.py:main", "-m lamp"])
def test_a_program_is_named_as_for_hwloop_run(sim: Sim, program: str) -> None:
    status, out, _ = sim(*program.split(), "--scenario", "good.toml", "--quiet")
    assert status == 0
    assert f"hwloop sim {program} --scenario" in out


def test_a_program_that_fails_fails_the_scenario(sim: Sim, tmp_path: Path) -> None:
    write(tmp_path, **{"lamp.py": LAMP.replace('print("open"', 'raise LookupError; print("open"')})
    status, out, err = sim("lamp.py", "--scenario", "good.toml")
    assert status == 1
    assert err.startswith("Traceback")
    assert err.rstrip().splitlines()[-1].startswith("LookupError")
    assert "FAILED: the program failed, with exit status 1; " in out


def test_missing_hardware_fails_the_scenario_and_is_explained(sim: Sim, tmp_path: Path) -> None:
    write(tmp_path, **{"lamp.py": LAMP.replace("gpio.watch(17", "gpio.watch(99")})
    status, out, err = sim("lamp.py", "--scenario", "good.toml")
    assert status == 1
    assert err.startswith("hwloop sim: line 99: ")
    assert "FAILED: the program failed" in out


def test_a_program_that_exits_with_a_status_fails(sim: Sim, tmp_path: Path) -> None:
    write(tmp_path, **{"lamp.py": "import sys, hwloop\nasync def main():\n    sys.exit(3)\nhwloop.run(main())\n"})
    status, out, _ = sim("lamp.py", "--scenario", "good.toml")
    assert status == 1
    assert "  the program failed at 0 s\n" in out
    assert "FAILED: the program failed, with exit status 3; " in out


def test_the_scenario_goes_on_after_a_program_that_ends_by_itself(sim: Sim, tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "short.py": 'import asyncio\nasync def main():\n    await asyncio.sleep(2)\n    print("done")\n',
            "short.toml": 'steps = [{ expect_output = "done", within = "3s" }, { at = "5s", press = "door" }]',
            "long.toml": 'steps = [{ at = "5s", press = "door" }, { expect = "lamp.lit" }]',
        },
    )
    status, out, _ = sim("short.py", "--scenario", "short.toml")
    assert status == 0
    assert "  the program ended by itself at 2 s\n" in out
    status, out, _ = sim("short.py", "--scenario", "long.toml")
    assert status == 1
    assert "  the program ended by itself at 2 s\n" in out


def test_the_program_is_stopped_and_its_outputs_are_safe(sim: Sim, tmp_path: Path) -> None:
    steps = """
        steps = [
          { press = "door" },
          { expect = "lamp.lit" },
          { after = 1, stop = "SIGTERM" },
          { expect = "line 27", equals = 0 },
        ]
    """
    write(tmp_path, **{"stop.toml": steps})
    assert sim("lamp.py", "--scenario", "stop.toml")[0] == 0
    write(tmp_path, **{"lamp.py": LAMP.replace("safe=0", "safe=1, initial=0")})
    status, out, _ = sim("lamp.py", "--scenario", "stop.toml")
    assert status == 1
    assert "expect line 27 is 0: not met within 1 s" in out


def test_a_fault_may_end_the_program(sim: Sim, tmp_path: Path) -> None:
    steps = """
        steps = [
          { press = "door" },
          { expect = "lamp.lit" },
          { after = 1, fault = "program-signal", signal = "SIGTERM" },
          { expect = "line 27", equals = 0 },
        ]
    """
    write(tmp_path, **{"fault.toml": steps})
    status, out, err = sim("lamp.py", "--scenario", "fault.toml")
    assert (status, err) == (0, ""), out


def test_the_trace_is_written_where_the_call_was_made(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path, **{"lamp.py": f"import os\nos.chdir('other')\n{textwrap.dedent(LAMP)}"})
    assert sim("lamp.py", "--scenario", "good.toml", "--trace", "run.csv", "--vcd", "run.vcd")[0] == 0
    assert "line 17" in (tmp_path / "run.csv").read_text()
    assert "$timescale" in (tmp_path / "run.vcd").read_text()


def test_a_program_that_does_not_end_is_forced_to_and_fails(sim: Sim, tmp_path: Path) -> None:
    stubborn = """
        import asyncio
        async def main():
            while True:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass
        asyncio.run(main())
    """
    write(tmp_path, **{"stubborn.py": stubborn, "press.toml": 'steps = [{ press = "door" }]'})
    status, out, _ = sim("stubborn.py", "--scenario", "press.toml")
    assert status == 1
    assert "FAILED: the program did not end within 10 s of the signal" in out


@pytest.mark.parametrize("option", [[], ["--realtime"]])
@pytest.mark.slow
def test_a_script_without_a_loop_is_played_in_virtual_and_in_real_time(
    sim: Sim, tmp_path: Path, option: list[str]
) -> None:
    script = """
        from time import sleep
        from gpiozero import LED, Button
        led, button = LED(27), Button(17, bounce_time=0.01)
        button.when_pressed = led.on
        print("ready")
        while True:
            sleep(1)
    """
    steps = """
        steps = [
          { expect_output = "ready", within = "20s" },
          { press = "door" },
          { expect = "lamp.lit", within = "20s" },
        ]
    """
    write(tmp_path, **{"script.py": script, "script.toml": steps})
    environment = {**os.environ, "GPIOZERO_PIN_FACTORY": "lgpio"}
    command = [sys.executable, "-m", "hwloop", "sim", "script.py", "--scenario", "script.toml", *option]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"s of {'real' if option else 'virtual'} time" in done.stdout


def test_a_script_that_pauses_is_ended_however_early_the_signal_comes(sim: Sim, tmp_path: Path) -> None:
    """Python handles a signal that comes just before `pause()` only after it."""
    write(
        tmp_path,
        **{
            "pause.py": 'import signal\nprint("ready")\nsignal.pause()\n',
            "pause.toml": 'steps = [{ expect_output = "ready", within = "20s" }, { press = "door" }]',
        },
    )
    for _ in range(20):
        status, out, err = sim("pause.py", "--scenario", "pause.toml")
        assert (status, err) == (0, ""), out


@pytest.mark.slow
@pytest.mark.parametrize("scenarios", [["press.toml"], ["press.toml", "press.toml"]])
def test_threads_that_a_program_leaves_running_are_named(sim: Sim, tmp_path: Path, scenarios: list[str]) -> None:
    script = """
        import threading, time
        def work():
            while True:
                time.sleep(1)
        threading.Thread(target=work, name="worker").start()
        while True:
            time.sleep(1)
    """
    write(tmp_path, **{"script.py": script, "press.toml": 'steps = [{ press = "door" }]'})
    command = [sys.executable, "-m", "hwloop", "sim", "script.py", "--scenario", *scenarios]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == (-signal.SIGTERM if len(scenarios) == 1 else 1)
    assert "FAILED: the program has left threads running (worker), which keep its process from ending; " in done.stdout
    if len(scenarios) > 1:
        assert done.stdout.endswith("0 of 2 scenarios passed; failed: press.toml, press.toml\n")


def test_a_program_that_turns_out_to_have_no_loop_is_played_too(sim: Sim, tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "unknown.py": 'import own, signal\nprint("ready")\nsignal.pause()\n',
            "own.py": "",
            "unknown.toml": 'steps = [{ expect_output = "ready", within = "20s" }, { press = "door" }]',
        },
    )
    assert sim("unknown.py", "--scenario", "unknown.toml")[0] == 0
    assert sim("unknown.py", "--scenario", "unknown.toml", "--realtime")[0] == 0
    sys.modules.pop("own")


@pytest.mark.slow
def test_a_program_without_a_loop_although_it_imports_asyncio_is_found_out(
    sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwloop.cli.sim_program.LOOP_WITHIN", 1)
    write(
        tmp_path,
        **{
            "unknown.py": 'import asyncio, signal\nprint("ready")\nsignal.pause()\n',
            "unknown.toml": 'steps = [{ expect_output = "ready", within = "20s" }, { press = "door" }]',
        },
    )
    status, out, _ = sim("unknown.py", "--scenario", "unknown.toml")
    assert status == 1
    assert "FAILED: the program has started no event loop within 1 s; if it has none, play the scenario in real" in out


def test_a_program_is_played_in_real_time_on_request(sim: Sim, tmp_path: Path) -> None:
    write(
        tmp_path,
        **{
            "soon.toml": GOOD.replace('{ at = "1s",', '{ expect_output = "ready", within = "20s" }, {').replace(
                "50ms", "20s"
            )
        },
    )
    status, out, _ = sim("lamp.py", "--scenario", "soon.toml", "--realtime")
    assert status == 0
    assert "s of real time\n" in out
    assert out.endswith("--realtime\n")


def test_the_result_is_written_as_junit_xml(sim: Sim, tmp_path: Path) -> None:
    assert sim("lamp.py", "--scenario", "good.toml", "--junit", "results.xml", "--seed", "3")[0] == 0
    (case,) = ElementTree.parse(tmp_path / "results.xml").getroot().findall("testsuite/testcase")
    assert case.get("name") == "the lamp follows the door"
    properties = {each.get("name"): each.get("value") for each in case.iter("property")}
    assert properties["seed"] == "3"
    assert properties["repeat"] == "hwloop sim lamp.py --scenario good.toml --seed 3"
    assert "expect lamp.lit is true: ok" in str(case.findtext("system-out"))


@pytest.mark.slow
def test_the_results_of_several_scenarios_are_collected(sim: Sim, tmp_path: Path) -> None:
    status, out, _ = sim(
        "lamp.py", "--scenario", "good.toml", "bad.toml", "--junit", "results.xml", "--trace", "run.csv"
    )
    assert status == 1
    assert "1 of 2 scenarios passed; failed: bad.toml\n" in out
    suite = ElementTree.parse(tmp_path / "results.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    good, bad = suite.findall("testcase")
    assert good.get("classname") == bad.get("classname") == "lamp.py"
    assert good.find("failure") is None
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("message") == "expect lamp.lit is true: not met within 1 ms"
    assert "it was met" in str(failure.text)
    assert (tmp_path / "run-good.csv").exists()
    assert (tmp_path / "run-bad.csv").exists()


@pytest.mark.parametrize("option", ["--vcd", "--trace", "--artifacts"])
@pytest.mark.parametrize("second", ["night/good.toml", "good.toml"])
def test_traces_of_scenarios_with_the_same_name_do_not_replace_each_other(
    sim: Sim, tmp_path: Path, option: str, second: str
) -> None:
    (tmp_path / "night").mkdir()
    shutil.copy(tmp_path / "good.toml", tmp_path / "night")
    status, out, err = sim("lamp.py", "--scenario", "good.toml", "bad.toml", second, option, "run.vcd")
    assert (status, out) == (2, "")
    assert err.startswith(
        f"hwloop sim: {option} run.vcd: the traces of good.toml and {second} would have the same name; rename one"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one program: the path of a Python file, or -m and the name of a module"),
        (["lamp.py"], "give a scenario: --scenario FILE"),
        (["-", "--scenario", "good.toml"], "a program from standard input can't be run once for each scenario"),
        (["none.py", "--scenario", "good.toml"], "none.py: there is no such program"),
        (["lamp.py", "--scenario", "none.toml"], "none.toml: No such file or directory; give the path of a scenario"),
        (["lamp.py", "--scenario", "good.toml", "--board", "none.toml"], "board file none.toml: No such file"),
        (["lamp.py", "--scenario", "good.toml", "--board", "sim"], "good.toml:4: press: no device 'door' on "),
        (["lamp.py", "--scenario", "good.toml", "--board", "linux"], "real hardware knows real time only"),
        (["lamp.py", "--scenario", "good.toml", "--seed", "x"], "argument --seed: a seed is a whole number, or random"),
        (["lamp.py", "--scenario", "good.toml", "--seed", "1", "--realtime"], "--seed is for virtual time"),
        (["lamp.py", "--scenario", "good.toml", "--limit", "9", "--realtime"], "--limit is for virtual time"),
        (["lamp.py", "--scenario", "good.toml", "--vcd", "run.txt"], "--vcd run.txt: the name of a VCD file ends in"),
        (["lamp.py", "--scenario", "good.toml", "--trace", "run.txt"], "run.txt: no format of traces has the suffix"),
        (["lamp.py", "--scenario", "good.toml", "--junit", "no/x.xml"], "--junit no/x.xml: there is no directory no"),
        (["lamp.py", "--scenario", "good.toml", "--junit", "."], "--junit .: is a directory; give the path of a file"),
    ],
)
def test_a_wrong_call_says_what_would_be_right(sim: Sim, arguments: list[str], message: str) -> None:
    status, _, err = sim(*arguments)
    assert status == 2
    assert err.startswith(f"hwloop sim: {message}"), err
    assert err.endswith("\nsee 'hwloop sim --help'\n")


@pytest.mark.slow
@pytest.mark.parametrize("scenarios", [["slow.toml"], ["slow.toml", "good.toml"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(sim: Sim, tmp_path: Path, scenarios: list[str], number: signal.Signals) -> None:
    write(tmp_path, **{"slow.toml": 'steps = [{ wait = "1h" }]'})
    command = [sys.executable, "-m", "hwloop", "sim", "lamp.py", "--realtime", "--scenario", *scenarios]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if number is signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -number
    assert err == ""
    assert "FAILED: interrupted after 1 step; " in out
    assert "the program ended" not in out


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trace_in_every_process(sim: Sim, tmp_path: Path) -> None:
    program = """
        import asyncio, hwloop
        from hwloop import gpio

        async def say(name):
            await asyncio.sleep(0)
            print(name)

        async def main():
            async with gpio.watch(17, pull="up", active_low=True) as door, gpio.output(27) as lamp:
                async for edge in door:
                    lamp.set(edge.value)
                    async with asyncio.TaskGroup() as tasks:
                        for name in {"a", "b", "c"} and ("a", "b", "c", "d", "e"):
                            tasks.create_task(say(name))

        hwloop.run(main())
    """
    steps = """
        steps = [
          { repeat = 5, every = "300ms", steps = [
            { click = "door" },
            { fault = "stuck-line", line = 27, level = 0, duration = "50ms", probability = 0.5 },
            { any_order = [ { expect_output = "a" }, { expect_output = "e" } ] },
          ] },
        ]
    """
    write(tmp_path, **{"many.py": program, "many.toml": steps})
    processes = []
    for seed, hash_seed in (("7", "1"), ("7", "2"), ("8", "1")):
        trace = tmp_path / f"{seed}-{hash_seed}.csv"
        command = [sys.executable, "-m", "hwloop", "sim", "many.py", "--scenario", "many.toml", "--seed", seed]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        processes.append(
            subprocess.Popen([*command, "--trace", str(trace)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
        )
    outputs = [process.communicate(timeout=60)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    first, again, other = ((tmp_path / name).read_text() for name in ("7-1.csv", "7-2.csv", "8-1.csv"))
    assert first == again
    assert first != other
    assert len(first.splitlines()) > 50
