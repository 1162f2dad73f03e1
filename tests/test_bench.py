"""`hwloop bench`: each program measures sane figures, loops are chosen and take turns, and failures are reported."""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwloop.cli import main
from hwloop.compiled_core import not_compiled
from hwloop.core.bases import CORE
from hwloop_bench import command, edges, processes, report, timers
from hwloop_bench.processes import (
    COMPILED,
    CYCLICTEST,
    FLOOR,
    SPIN,
    Answer,
    Case,
    Died,
    Taken,
    bucket,
    measure,
)
from hwloop_bench.results import Results, take_turns

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
Captured = pytest.CaptureFixture[str]
LATENCIES = {"p50 µs", "p90 µs", "p99 µs"}
FIGURES = {
    "timer-idle": LATENCIES | {"missed %"},
    "timer-busy": LATENCIES | {"missed %", "work/s"},
    "one-shot-0.3": LATENCIES | {"early %"},
    "one-shot-2.5": LATENCIES | {"early %"},
    "edge-idle": LATENCIES,
    "edge-busy": LATENCIES | {"work/s"},
    "edge-chain": LATENCIES | {"work/s"},
    "edge-task": LATENCIES | {"work/s"},
    "read-1": {"edges/CPU s"},
    "read-256": {"edges/CPU s"},
    "wakeups": {"context switches", "CPU ms"},
}
WIRED = """
[[device]]
type = "wire"
lines = [27, 17]
"""


# Programs for the frame, run in processes of their own by the name of this module.


def sane(loop: str, seconds: float, late_us: tuple[float, ...] = (1.0, 3.0)) -> Taken:
    return Taken({"p50 µs": 2.0 if loop == "asyncio" else 1.0, "seconds": seconds}, late_us)


def dies(loop: str, seconds: float) -> Taken:
    if loop == "hwloop":
        raise OSError("no such pin")
    return sane(loop, seconds)


def killed(loop: str, seconds: float) -> Taken:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hangs(loop: str, seconds: float) -> Taken:
    if not os.fork():
        time.sleep(60)
    time.sleep(60)
    raise AssertionError


def core_of(loop: str, seconds: float) -> Taken:
    return Taken({"compiled": float(CORE == "compiled")})


def meets(loop: str, seconds: float, folder: str) -> Taken:
    """Return only when another loop's process runs at the same time."""
    Path(folder, loop).touch()
    while len(os.listdir(folder)) < 2:
        time.sleep(0.01)
    return Taken({"met": 1.0})


def measure_here(case: Case, loop: str, seconds: float, realtime: bool) -> Answer:
    """`processes.measure` without a process of its own, which these programs can do without."""
    try:
        taken = case.function(loop, seconds * case.seconds, **case.options)
    except OSError as error:
        raise Died(f"ended with status 1: {error}") from error
    granted = ["SCHED_FIFO: refused"] if realtime else []
    return Answer(taken.figures, collections.Counter(map(bucket, taken.late_us)), granted)


@pytest.fixture(autouse=True)
def children_find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.syspath_prepend(str(ROOT))
    for program in (sane, dies, killed, hangs, core_of, meets):
        monkeypatch.setattr(program, "__module__", "test_bench")


@pytest.fixture
def cases(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """The benchmarks of `hwloop bench`, replaced by two quick ones, in this process; no cyclictest, no uvloop."""
    replaced = [Case("good", "what is good", sane, floors=(FLOOR,)), Case("bad", "what dies on hwloop", dies)]
    monkeypatch.setattr(command, "CASES", replaced)
    monkeypatch.setattr(command, "installed_loops", lambda: ["asyncio", "hwloop"])
    monkeypatch.setattr(timers, "has_cyclictest", lambda: False)
    monkeypatch.setattr(processes, "measure", measure_here)
    return replaced


# Measuring.


@pytest.mark.parametrize("case", command.CASES, ids=lambda case: case.name)
@pytest.mark.slow
def test_each_benchmark_gives_its_figures_on_each_loop(case: Case) -> None:
    for loop in ("asyncio", "hwloop", *({FLOOR} & set(case.floors))):
        figures, histogram, _ = measure(case._replace(seconds=1.0), loop, 0.05)
        assert figures.keys() == FIGURES[case.name]
        assert all(value >= 0 for value in figures.values())
        assert figures.get("work/s", 1) > 0
        if figures.keys() >= LATENCIES:
            assert 0 < figures["p50 µs"] <= figures["p90 µs"] <= figures["p99 µs"]
            assert sum(histogram.values()) > 0
        else:
            assert not histogram
    assert figures.get("early %", 0) == 0


def test_the_loop_can_spin() -> None:
    loop = processes.new_loop(SPIN)
    try:
        assert loop._poller.spin == 100e-6  # type: ignore[attr-defined]
    finally:
        loop.close()


@pytest.mark.parametrize("loop", ["hwloop", FLOOR])
def test_every_edge_is_counted(loop: str) -> None:
    assert sum(measure(Case("x", "x", edges.edge), loop, 0.05).histogram.values()) == 10


def test_a_timer_that_misses_slots_says_so() -> None:
    """One callback of 10 ms is always ready, so hardly a slot in ten is met."""
    load = {"callbacks": 1, "each": 0.01}
    figures = measure(Case("x", "x", timers.periodic, load), "hwloop", 0.05).figures
    assert figures["missed %"] >= 50
    assert figures["work/s"] <= 100


def test_cyclictest_is_read_from_its_histogram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "cyclictest"
    lines = "# Histogram", "000000 000000", "000040 000009", "000070 000001", "# Total: 000000010"
    program.write_text(
        "#!/bin/sh\n[ $3 = --interval=1000 ] && [ $4 = --loops=10 ] || exit 1\n"
        + "".join(f"echo {line!r}\n" for line in lines)
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert timers.has_cyclictest()
    answer = measure(command.CASES[0], CYCLICTEST, 0.01)
    assert answer.figures == {"p50 µs": 40.0, "p90 µs": 70.0, "p99 µs": 70.0}
    assert answer.histogram == {32: 9, 64: 1}


@pytest.mark.parametrize("loop", ["asyncio", "hwloop"])
def test_lines_that_are_wired_together_are_measured_through_the_gpio_source(loop: str, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(WIRED)
    options = {"lines": [17, 27], "board": str(board), "callbacks": 2, "each": 1e-4}
    answer = measure(Case("x", "x", edges.wired, options), loop, 0.05)
    assert answer.figures["lost %"] == 0
    assert sum(answer.histogram.values()) == 10


def test_lines_that_are_not_wired_together_are_reported(tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text("")
    options = {"lines": [16, 27], "board": str(board)}
    with pytest.raises(Died, match="status 1: no edge came from 16 while 27 was driven: are the two wired together"):
        measure(Case("x", "x", edges.wired, options), "hwloop", 0.01)


# The frame.


def test_medians_are_taken_over_rounds_and_ratios_of_medians() -> None:
    results, case = Results(), Case("x", "x", sane)
    for theirs, ours in ((2.0, 1.0), (100.0, 1.5), (4.0, 70.0)):
        results.add(case, "asyncio", Answer({"p50 µs": theirs, "missed %": 0.0}, {4: 1}))
        results.add(case, "hwloop", Answer({"p50 µs": ours, "missed %": 1.0}, {1: 2, 2: 1}))
    assert results.medians("x", "asyncio") == {"p50 µs": 4.0, "missed %": 0.0}
    assert results.ratio("x", "p50 µs") == 1.5 / 4.0
    assert results.ratio("x", "missed %") is None
    assert results.ratio("x", "p50 µs", to=FLOOR) is None
    assert results.histogram("x", "hwloop") == {1: 6, 2: 3}


def test_loops_take_turns_and_floors_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, str]] = []

    def note(case: Case, loop: str, seconds: float, realtime: bool) -> Answer:
        order.append((case.name, loop))
        return Answer({}, {})

    monkeypatch.setattr(processes, "measure", note)
    cases = [Case("a", "a", sane, floors=(FLOOR,)), Case("b", "b", sane)]
    assert list(take_turns(cases, ["asyncio", "hwloop", FLOOR, CYCLICTEST], 2, 1.0, Results())) == cases
    assert order == [("a", "asyncio"), ("a", "hwloop"), ("a", FLOOR)] * 2 + [("b", "asyncio"), ("b", "hwloop")] * 2


def test_loops_that_are_compared_in_the_same_minute_run_at_the_same_time(tmp_path: Path) -> None:
    case, results = Case("x", "x", meets, {"folder": str(tmp_path)}, together=True), Results()
    assert list(take_turns([case], ["asyncio", "hwloop"], 1, 0.1, results)) == [case]
    assert results.failures == []
    assert [results.medians("x", loop) for loop in ("asyncio", "hwloop")] == [{"met": 1.0}] * 2


def test_a_loop_that_dies_beside_others_is_left_out_and_none_outlives_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    @contextlib.contextmanager
    def started(case: Case, loop: str, seconds: float, realtime: bool) -> Iterator[Callable[[], Answer]]:
        def answer() -> Answer:
            if loop == "hwloop":
                raise Died("ended with status 1")
            if happened.count("start uvloop") == 2:
                raise KeyboardInterrupt
            return Answer({"x": 1.0}, {})

        happened.append(f"start {loop}")
        try:
            yield answer
        finally:
            happened.append(f"end {loop}")

    monkeypatch.setattr(processes, "started", started)
    case, results = Case("x", "x", sane, together=True), Results()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        list(take_turns([case], ["asyncio", "hwloop", "uvloop"], 2, 1.0, results))
    assert interrupt.tb  # which keeps the frames, as Ctrl-C does until the figures so far have been shown
    first = ["start asyncio", "start hwloop", "start uvloop", "end uvloop", "end hwloop", "end asyncio"]
    assert happened == [*first, "start asyncio", "start uvloop", "end uvloop", "end asyncio"]
    assert results.failures == ["x on hwloop ended with status 1"]
    assert results.loops("x") == ["asyncio", "uvloop"]


# The choice of loops.


def test_loops_that_are_not_installed_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"asyncio", "hwloop"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in found or None)
    assert processes.installed_loops() == ["asyncio", "hwloop"]
    assert processes.missing("rloop") == "rloop is not installed; install it with: pip install 'hwloop[bench]'"
    assert [processes.missing(loop) for loop in ("hwloop", SPIN, FLOOR, CYCLICTEST)] == [""] * 4
    found |= {"uvloop", "rloop"}
    assert processes.installed_loops() == ["asyncio", "uvloop", "hwloop"]
    assert processes.missing("rloop") == ""


def test_the_compiled_core_is_missing_where_it_has_not_been_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.core, "LIBRARY", "dispatch.py")
    assert processes.missing(COMPILED) == ""
    monkeypatch.setattr(processes.core, "LIBRARY", "none")
    assert processes.missing(COMPILED) == not_compiled()


@pytest.mark.parametrize(
    ("is_checkout", "advice"),
    [(True, "compile it with: make compiled"), (False, "install a C compiler (gcc, python3-dev), then hwloop again")],
)
def test_the_advice_for_a_core_that_is_not_compiled_fits_the_installation(
    tmp_path: Path, is_checkout: bool, advice: str
) -> None:
    if is_checkout:
        (tmp_path / "tools").mkdir()
        (tmp_path / "tools" / "compile_core.py").touch()
    assert not_compiled(tmp_path) == f"the core is not compiled; {advice}"


def test_each_core_runs_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_PURE", "1")
    case = Case("x", "x", core_of)
    assert measure(case, "hwloop", 0.1).figures == {"compiled": 0.0}
    if processes.missing(COMPILED):
        with pytest.raises(Died, match=rf"^ended with status 1: {re.escape(not_compiled())}$"):
            measure(case, COMPILED, 0.1)
    else:
        assert measure(case, COMPILED, 0.1).figures == {"compiled": 1.0}


def test_a_chosen_loop_that_is_missing_is_an_error_that_says_how_to_get_it(
    cases: list[Case], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "measure", lambda *arguments: pytest.fail("measured"))
    monkeypatch.setattr(command, "missing", lambda loop: "get it there" if loop == "uvloop" else "")
    assert main(["bench", "--loops", "asyncio", "uvloop"]) == 2
    assert capsys.readouterr().err.startswith("hwloop bench: --loops uvloop: get it there")


def test_the_compiled_core_alone_has_ratios_too(
    cases: list[Case], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "missing", lambda loop: "")
    assert main(["bench", "--quick", "--only", "good", "--loops", "asyncio", COMPILED]) == 0
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert table[1].split("  ")[-1] == "to asyncio"
    assert table[2].split()[-1] == "0.500"


def test_a_process_that_dies_is_reported_with_its_output() -> None:
    with pytest.raises(Died, match=r"(?s)^ended with status 1: Traceback .*OSError: no such pin$"):
        measure(Case("x", "x", dies), "hwloop", 0.1)
    with pytest.raises(Died, match=r"^was killed by SIGSEGV: without output$"):
        measure(Case("x", "x", killed), "hwloop", 0.1)


def test_a_process_that_hangs_is_ended_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.3)
    groups = []
    kill = os.killpg
    monkeypatch.setattr(os, "killpg", lambda group, number: (groups.append(group), kill(group, number)))
    with pytest.raises(Died, match=r"^gave no figures within 0\.4 seconds$"):
        measure(Case("x", "x", hangs), "hwloop", 0.1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # until init, or whoever adopts them, has buried them
        if not any(_group(pid) == groups[0] for pid in filter(str.isdigit, os.listdir("/proc"))):
            return
        time.sleep(0.01)
    pytest.fail("a child is left")


def _group(pid: str) -> int | None:
    """The process group of a process that is no zombie."""
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state == "Z" else int(group)


@pytest.mark.parametrize(
    ("late_us", "low"), [(-0.1, -1), (0.0, 0), (0.99, 0), (1.0, 1), (1.99, 1), (2.0, 2), (1023.9, 512), (1024.0, 1024)]
)
def test_buckets_are_powers_of_two_of_microseconds(late_us: float, low: int) -> None:
    assert bucket(late_us) == low


# Reporting.


def test_tables_show_medians_and_ratios(cases: list[Case], capsys: Captured) -> None:
    assert main(["bench", "--rounds", "1", "--seconds", "0.25", "--only", "good"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    facts, table, histogram = said.out.split("\n\n")
    assert [line.split("  ")[0] for line in facts.splitlines()] == [
        "kernel", "machine", "CPUs", "Python", "loops", "scheduling", "timer slack", "load", "core", "rounds",
    ]  # fmt: skip
    assert table.splitlines()[0] == "what is good"
    assert table.splitlines()[2].split() == ["p50", "µs", "2.00", "1.00", "1.00", "0.500", "1.000"]
    assert table.splitlines()[3].split() == ["seconds", "0.25", "0.25", "0.25", "1.000", "1.000"]
    assert re.findall(r"\d+ %", histogram) == ["50 %"] * 6


def test_the_rest_goes_on_when_a_process_dies(cases: list[Case], capsys: Captured) -> None:
    cases.reverse()
    assert main(["bench", "--rounds", "2", "--seconds", "0.1"]) == 1
    said = capsys.readouterr()
    assert said.err == "hwloop bench: bad on hwloop ended with status 1: no such pin\n"
    assert "\nwhat dies on hwloop\n" in said.out
    assert "\nwhat is good\n" in said.out


def test_json_has_it_all(cases: list[Case], capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert main(["bench", "--quick", "--rounds", "2", "--json", str(file)]) == 1
    assert "what is good" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert main(["bench", "--rounds", "2", "--seconds", "0.3", "--only", "good", "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == written.keys()
    assert printed["rounds"] == written["rounds"] == 2
    assert printed["seconds"] == written["seconds"] == 0.3
    assert printed["cases"]["good"] == written["cases"]["good"]
    assert len(written["failures"]) == 1
    assert list(written["cases"]["bad"]["loops"]) == ["asyncio"]
    assert printed["cases"]["good"]["loops"]["hwloop"] == {
        "rounds": [{"p50 µs": 1.0, "seconds": 0.3}] * 2,
        "median": {"p50 µs": 1.0, "seconds": 0.3},
        "ratio": {"p50 µs": 0.5, "seconds": 1.0},
        "histogram_us": {"1": 2, "2": 2},
    }


def test_spin_stands_beside_the_loop_without(cases: list[Case], capsys: Captured) -> None:
    assert main(["bench", "--quick", "--only", "good", "--spin", "--json", "-"]) == 0
    assert list(json.loads(capsys.readouterr().out)["cases"]["good"]["loops"]) == ["asyncio", "hwloop", SPIN, FLOOR]


def test_real_time_is_requested_in_every_process_and_the_outcome_reported(cases: list[Case], capsys: Captured) -> None:
    answer = measure(Case("x", "x", timers.periodic), FLOOR, 0.01, realtime=True)
    assert [grant.partition(": ")[0] for grant in answer.realtime] == ["SCHED_FIFO, priority 50", "locked memory"]
    assert main(["bench", "--quick", "--only", "good", "--realtime"]) == 0
    assert capsys.readouterr().out.endswith("\n\nreal time: SCHED_FIFO: refused\n")


def test_lines_to_be_measured_are_measured_idle_and_loaded(
    cases: list[Case], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    asked: list[Case] = []
    monkeypatch.setattr(command, "measure_all", lambda cases, arguments: asked.extend(cases) or 0)
    assert main(["bench", "--gpio", "17:GPIO27", "--board", "sim"]) == 0
    assert [case.name for case in asked] == ["good", "bad", "gpio-idle", "gpio-busy"]
    assert asked[2].options == {"lines": [17, "GPIO27"], "board": "sim"}
    assert asked[3].options == {"lines": [17, "GPIO27"], "board": "sim", "callbacks": 500, "each": 100e-6}


def test_histograms_fit_eighty_columns_and_have_no_gaps() -> None:
    shares = {0: 1, 64: 30, 1 << 17: 1, -1: 1, 256: 500}
    lines = report.histogram_lines(dict.fromkeys(("asyncio", "uvloop", "hwloop", SPIN, FLOOR), shares))
    assert max(map(len, lines)) < 80
    assert [line[:7].strip() for line in lines] == [
        "from", "early", "0 µs", "64 µs", "128 µs", "256 µs", "512 µs",
        "1 ms", "2 ms", "4 ms", "8 ms", "16 ms", "33 ms", "66 ms", "131 ms",
    ]  # fmt: skip
    one = report.histogram_lines({"a": {1: 3, 2: 1}, "b": {2: 250, 4: 1}, "c": {}})
    assert [line.split() for line in one] == [
        ["from", "a", "b"],
        ["1", "µs", "#" * 14, "75", "%"],
        ["2", "µs", "#" * 5, "25", "%", "#" * 18, "100", "%"],
        ["4", "µs", "<1", "%"],
    ]
    assert report.histogram_lines({"a": {}}) == []


def test_the_machine_is_named() -> None:
    facts = report.machine(["asyncio", "hwloop"])
    assert facts["scheduling"].startswith("SCHED_")
    assert facts["Python"].endswith(sys.version.split()[0])
    assert all(facts.values())


# Failures.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "argument --rounds: must be 1 or more, not 0"),
        (["--seconds", "0"], "argument --seconds: must be more than 0, not 0"),
        (["--rounds", "two"], "argument --rounds: must be 1 or more, not two"),
        (["--seconds", "nan"], "argument --seconds: must be more than 0, not nan"),
        (["--only", "good", "fast"], "--only: unknown benchmark 'fast'; choose from good, bad"),
        (["--loops", "trio"], "argument --loops: invalid choice: 'trio'"),
        (["--json", "/nowhere/x.json"], "--json /nowhere/x.json: there is no directory /nowhere"),
        (["--plot", "/nowhere/x.png"], "--plot /nowhere/x.png: there is no directory /nowhere"),
        (["--gpio", "17"], "--gpio 17: give an input and an output that are wired together, such as 17:27"),
        (["--gpio", "17:17"], "--gpio 17:17: give an input and an output that are wired together, such as 17:27"),
        (["--gpio", "17:27", "--board", "nope.toml"], "board file nope.toml: No such file or directory"),
        (["--gpio", "17:27", "--board", "smi"], "unknown board 'smi': use auto, linux, sim, or the path"),
    ],
)
def test_wrong_arguments_measure_nothing(
    cases: list[Case], capsys: Captured, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(processes, "measure", lambda *arguments: pytest.fail("measured"))
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"hwloop bench: {message}")


def test_without_a_gpio_chip_nothing_is_measured_on_lines(
    cases: list[Case], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "measure", lambda *arguments: pytest.fail("measured"))
    monkeypatch.setattr("hwloop.board.has_gpiochip", lambda: False)
    monkeypatch.delenv("HWLOOP_BOARD", raising=False)
    assert main(["bench", "--gpio", "17:27"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("hwloop bench: /dev/gpiochip*: no GPIO chip on this machine; ")
    assert len(said.err.splitlines()) == 1


def test_without_matplotlib_plot_says_how_to_get_it(
    cases: list[Case], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--plot", "x.png"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(
        "hwloop bench: --plot needs matplotlib, which is not installed; install it with: pip install 'hwloop[plot]'\n"
    )
    assert said.out == ""


@pytest.mark.slow
def test_a_picture_shows_the_histograms(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, status in (("out.png", 0), ("out.unknown", 1)):
        command = [sys.executable, "-m", "hwloop", "bench", "--only", "timer-idle", "--loops", "floor", "--plot", name]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, "--seconds", "0.01"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert done.stderr.startswith("hwloop bench: --plot out.unknown: ")


def test_json_that_cannot_be_written_is_reported(cases: list[Case], capsys: Captured) -> None:
    assert main(["bench", "--quick", "--only", "good", "--json", "/dev/full"]) == 1
    assert capsys.readouterr().err == "hwloop bench: --json /dev/full: No space left on device\n"


def test_interrupted_it_shows_the_figures_so_far(
    cases: list[Case], capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(5))
    measured = processes.measure

    def interrupted(case: Case, loop: str, seconds: float, realtime: bool) -> Answer:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return measured(case, loop, seconds, realtime)

    monkeypatch.setattr(processes, "measure", interrupted)
    file = tmp_path / "figures.json"
    assert main(["bench", "--loops", "asyncio", "hwloop", "--seconds", "0.25", "--json", str(file)]) == 130
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.split("\n\n")[1].splitlines()[2].split() == ["p50", "µs", "2.00", "1.00", "0.500"]
    assert "what dies" not in said.out
    loops = json.loads(file.read_text())["cases"]["good"]["loops"]
    assert {loop: len(found["rounds"]) for loop, found in loops.items()} == {"asyncio": 2, "hwloop": 1}


def test_interrupted_it_ends_at_once_and_dies_of_it() -> None:
    command = [sys.executable, "-m", "hwloop", "bench", "--only", "edge-busy", "--seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        while not child.stdout.readline().startswith("rounds"):
            pass
        time.sleep(0.1)  # so that it most likely measures
        child.send_signal(signal.SIGINT)
        assert (child.stdout.read(), child.stderr.read()) == ("", "")  # to their ends: nobody else has them any more
        assert child.wait(20) == -signal.SIGINT
