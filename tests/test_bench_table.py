"""benchmarks/ and `make figures`: every row has a benchmark, and the table says what was asked and found."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from hwloop_bench import processes
from hwloop_bench.processes import COMPILED, CYCLICTEST, FLOOR, SPIN, Answer, Case, measure

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
Captured = pytest.CaptureFixture[str]
Loops = dict[str, dict[str, float]]
"""Medians by loop and figure."""


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/table.py as a module, on a machine that has all loops, but no cyclictest."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("HWLOOP_PURE", "")  # so that what `main` sets does not outlive the test
    before = set(sys.modules)
    module = importlib.import_module("table")
    monkeypatch.setattr(module, "missing", lambda loop: "")
    monkeypatch.setattr(module, "has_cyclictest", lambda: False)
    yield module
    for name in set(sys.modules) - before:
        if not name.startswith(("hwloop", "firmware_sim")):
            del sys.modules[name]


def figures(**cases: Loops) -> dict[str, Any]:
    """Return cases as in a JSON file, each with a single round."""
    return {
        name.replace("_", "-"): {
            "loops": {loop: {"median": median, "rounds": [median]} for loop, median in loops.items()}
        }
        for name, loops in cases.items()
    }


def row_of(lines: list[str], what: str) -> list[str]:
    """Return the cells of a row behind its name."""
    [row] = [line for line in lines if line.startswith(f"| {what} |")]
    return [cell.strip() for cell in row.strip("|").split("|")[1:]]


# The benchmarks.


def test_every_row_can_be_measured(table: Any) -> None:
    in_parts = [name for names in table.PARTS.values() for name in names]
    assert sorted(in_parts) == sorted({row.case for row in table.ROWS} | set(table.echo.EXCHANGES))
    assert set(in_parts) <= table.CASES.keys()


@pytest.mark.parametrize("script", ["core", "scale", "startup", "threads", "ports", "echo", "worst"])
def test_the_scripts_run_and_give_what_the_table_needs(script: str, table: Any) -> None:
    command = [sys.executable, f"benchmarks/{script}.py", "--rounds", "1", "--seconds", "0.02", "--json", "-"]
    done = subprocess.run([*command, "--loops", "hwloop"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name, case in json.loads(done.stdout)["cases"].items():
        median = case["loops"]["hwloop"]["median"]
        assert all(value >= 0 if figure == "missed %" else value > 0 for figure, value in median.items())
        assert {row.figure for row in table.ROWS if row.case == name} <= median.keys()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "rloop"])
@pytest.mark.parametrize("name", ["exchange-raw-64k", "exchange-stream-1k", "executor", "ping-pong", "lifetime"])
def test_benchmarks_run_on_other_loops_where_they_are_installed(name: str, loop: str, table: Any) -> None:
    if reason := processes.missing(loop):
        pytest.skip(reason)
    assert all(value > 0 for value in measure(table.CASES[name], loop, 0.02).figures.values())


def test_the_worst_tick_is_compared_with_that_of_a_bare_timerfd(table: Any) -> None:
    answer = measure(table.CASES["timer-worst"], FLOOR, 0.001)
    assert answer.figures["max µs"] >= answer.figures["p99 µs"] > 0


@pytest.mark.parametrize("name", ["virtual-board", "virtual-station"])
def test_virtual_time_is_measured(name: str, table: Any) -> None:
    assert measure(table.CASES[name], "hwloop", 0.002).figures["virtual s/CPU s"] > 1


# The choice of loops.


def test_each_case_is_measured_on_the_loops_that_its_rows_compare(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def loops(name: str) -> list[str]:
        return table.wanted(table.CASES[name])  # type: ignore[no-any-return]

    assert loops("fds-10") == ["asyncio", "hwloop", COMPILED, "uvloop"]
    assert loops("timer-idle") == ["asyncio", "hwloop", COMPILED, "uvloop", FLOOR, SPIN]
    assert loops("timer-worst") == [FLOOR, "hwloop", COMPILED, "uvloop"]
    assert loops("wakeups") == ["asyncio", "hwloop", COMPILED, "uvloop"]
    assert loops("virtual-station") == ["hwloop", COMPILED]
    assert loops("exchange-raw-1k") == ["asyncio", "uvloop", "rloop", "hwloop", COMPILED]
    monkeypatch.setattr(table, "has_cyclictest", lambda: True)
    assert CYCLICTEST in loops("timer-idle")
    monkeypatch.setattr(table, "missing", lambda loop: "not here" if loop in ("uvloop", "rloop", COMPILED) else "")
    assert loops("exchange-raw-1k") == ["asyncio", "hwloop"]
    assert loops("virtual-station") == ["hwloop"]


# The table.


def test_a_row_has_both_cores_with_their_goals_and_uvloop(table: Any) -> None:
    chain = {"asyncio": 100.0, "hwloop": 320.0, COMPILED: 1050.0, "uvloop": 300.0}
    cases = figures(
        chain={loop: {"each/CPU s": value} for loop, value in chain.items()},
        batch={loop: {"each/CPU s": value} for loop, value in (chain | {"hwloop": 129.0, COMPILED: 449.0}).items()},
        fds_10={
            loop: {"µs CPU each": value}
            for loop, value in {"asyncio": 10.0, "hwloop": 6.5, COMPILED: 4.1, "uvloop": 2.0}.items()
        },
        timer_busy={
            "asyncio": {"work/s": 100.0},
            "hwloop": {"work/s": 94.4, "missed %": 0.4},
            COMPILED: {"work/s": 97.0, "missed %": 1.2},
        },
    )
    lines = table.table(cases)
    shown = """
| call_soon chain | at least 3.2 | 3.2 | at least 11 | **10.5** | 3 | 3.5 |
| call_soon, batches of 100 | at least 1.3 | **1.29** | at least 4.8 | **4.49** | 3 | **1.5** |
| descriptor event with 10 idle ones, time | at most 0.65 | 0.65 | at most 0.4 | **0.41** | 0.2 | **0.488** |
| … slots missed, % | at most 1 | 0.4 | at most 1 | **1.2** | not measured |  |
| … background work done | at least 0.95 | **0.944** | at least 0.97 | 0.97 | not measured |  |
| create_task | at least 1.1 | not measured | at least 1.3 | not measured | not measured |  |
| spin on: 1 kHz timer, p50, to cyclictest | at most 1 | not measured |  |  | not measured |  |
"""
    assert [line for line in shown.strip().splitlines() if line not in lines] == []


def test_a_timer_that_fires_early_is_not_ahead(table: Any) -> None:
    late = {"asyncio": 1000.0, "hwloop": 100.0, COMPILED: 100.0, "uvloop": -500.0}
    lines = table.table(figures(one_shot_2_5={}) | {"one-shot-2.5": figures(x=_each("p50 µs", late))["x"]})
    assert row_of(lines, "one-shot 2.5 ms, p50")[-2:] == ["-0.5", ""]


def test_a_row_compares_with_another_case_on_the_same_loop(table: Any) -> None:
    ten, thousand = {"hwloop": 5.0, COMPILED: 2.0}, {"hwloop": 5.5, COMPILED: 2.3}
    lines = table.table(figures(fds_10=_each("µs CPU each", ten), fds_1000=_each("µs CPU each", thousand)))
    cells = row_of(lines, "… 1000 to 10 idle ones, on the same loop")
    assert cells == ["at most 1.1", "1.1", "at most 1.1", "**1.15**", "not measured", ""]


def test_the_worst_tick_is_the_worst_of_all_rounds(table: Any) -> None:
    rounds = {FLOOR: [100.0, 400.0, 90.0], "hwloop": [500.0, 100.0, 50.0], COMPILED: [150.0, 200.0, 601.0]}
    loops = {
        loop: {"median": {"max µs": 100.0}, "rounds": [{"max µs": value} for value in values]}
        for loop, values in rounds.items()
    }
    cells = row_of(
        table.table({"timer-worst": {"loops": loops}}), "… the worst tick in a minute, to a bare timerfd's in it"
    )
    assert cells[1] == "1.25"
    assert cells[3] == "**1.5**"


def test_the_second_table_has_the_benchmark_of_rloop(table: Any) -> None:
    done = {"asyncio": 20000.0, "uvloop": 30000.0, "rloop": 10000.0, "hwloop": 28000.0, COMPILED: 29000.0}
    lines = table.exchange_table(figures(exchange_raw_1k=_each("messages/s", done)))
    assert row_of(lines, "raw, 1k, messages/s") == ["20,000", "1.5", "0.5", "1.4", "**1.45**"]
    assert row_of(lines, "raw, 64k, messages/s") == ["not measured"] * 5


def _each(figure: str, loops: dict[str, float]) -> Loops:
    return {loop: {figure: value} for loop, value in loops.items()}


# The command.


@pytest.mark.parametrize("script", ["table", "compare", "virtual"])
def test_the_scripts_do_not_need_the_packages_of_the_tests(script: str) -> None:
    code = f"import sys; sys.modules['pytest'] = None; sys.path.insert(0, 'benchmarks'); import {script}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_parts_are_measured_from_the_sources_kept_and_shown_with_the_rest(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    kept = tmp_path / "figures.json"
    old = figures(chain={"asyncio": {"each/CPU s": 1.0}, "hwloop": {"each/CPU s": 3.6}})
    kept.write_text(json.dumps({"machine": {"kernel": "old"}, "cases": old, "instructions": {"chain": 7.0}}))

    def measured(case: Case, loop: str, seconds: float, realtime: bool) -> Answer:
        assert os.environ["HWLOOP_PURE"] == "1"
        return Answer({"context switches": 1.0}, {})

    monkeypatch.setattr(processes, "measure", measured)
    monkeypatch.setattr(table, "missing", lambda loop: "not here" if loop in ("uvloop", "rloop", COMPILED) else "")
    monkeypatch.setattr(sys, "argv", ["table.py", "wakeups", "--rounds", "2", "--keep", str(kept)])
    table.main()
    said = capsys.readouterr()
    assert said.err.startswith("1 benchmarks, about 0 minutes\n1 of 1: wakeups measured, 0.0 minutes\n")
    lines = said.out.splitlines()
    assert row_of(lines, "call_soon chain")[:2] == ["at least 3.2", "3.6"]
    assert row_of(lines, "idle wakeups with one 1 s timer")[:2] == ["at most 1", "1"]
    assert lines.count("Left out: not here") == 3
    assert lines[-1].startswith("2 rounds. kernel: Linux")
    written = json.loads(kept.read_text())
    assert written["instructions"] == {"chain": 7.0}
    assert written["cases"].keys() == {"chain", "wakeups"}
    assert list(written["cases"]["wakeups"]["loops"]) == ["asyncio", "hwloop"]


def test_without_a_part_it_shows_what_was_kept(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    cases = figures(timer_idle=_each("p50 µs", {"asyncio": 500.0, "hwloop": 70.0}))
    kept.write_text(json.dumps({"machine": {"kernel": "Linux"}, "cases": cases}))
    command = [sys.executable, "benchmarks/table.py", "--keep", str(kept)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert row_of(done.stdout.splitlines(), "1 kHz timer idle, p50")[:2] == ["at most 0.12", "**0.14**"]
    assert "kernel: Linux" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timer"], "there is no part 'timer'; there are timers, "),
        (["timers", "--rounds", "0"], "argument --rounds: must be 1 or more, not 0"),
        (["timers", "--seconds", "-1"], "argument --seconds: must be more than 0, not -1"),
    ],
)
def test_wrong_arguments_measure_nothing(
    table: Any, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(processes, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["table.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        table.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("bus_hangs", ["--seconds", "0.5"], "--seconds must be 1 or more, not 0.5"),
        ("bus_hangs", ["--rounds", "0"], "argument --rounds: must be 1 or more, not 0"),
        ("recorder", ["--events", "0"], "argument --events: must be 1 or more, not 0"),
        ("virtual", ["--hours", "0"], "argument --hours: must be more than 0, not 0"),
    ],
)
def test_the_other_scripts_reject_efforts_that_measure_nothing(script: str, arguments: list[str], message: str) -> None:
    command = [sys.executable, f"benchmarks/{script}.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words, f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True)


def test_make_figures_rejects_an_unknown_part_before_it_installs_and_compiles(tmp_path: Path) -> None:
    done = make("figures", "PARTS=timers nonsense", f"VENV={tmp_path}/venv")
    assert done.returncode == 2
    assert "there is no part 'nonsense'; there are timers, " in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_bench_record_names_its_file_after_the_version() -> None:
    assert f"benchmarks/history/{hwloop.__version__}.json" in make("bench-record", "--dry-run").stdout


def test_an_interrupt_keeps_and_shows_the_benchmarks_that_are_complete(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def measured(case: Case, loop: str, seconds: float, realtime: bool) -> Answer:
        if case.name == "startup" and loop == "hwloop":
            raise KeyboardInterrupt
        return Answer({"context switches": 1.0}, {})

    kept = tmp_path / "new" / "figures.json"
    monkeypatch.setattr(processes, "measure", measured)
    monkeypatch.setattr(table, "missing", lambda loop: "not here" if loop in ("uvloop", "rloop", COMPILED) else "")
    monkeypatch.setattr(sys, "argv", ["table.py", "wakeups", "startup", "--rounds", "2", "--keep", str(kept)])
    assert table.main() == 130
    said = capsys.readouterr()
    assert said.err.endswith("Interrupted: 1 of 3 benchmarks were measured.\n")
    assert row_of(said.out.splitlines(), "idle wakeups with one 1 s timer")[:2] == ["at most 1", "1"]
    assert json.loads(kept.read_text())["cases"].keys() == {"wakeups"}


def test_a_file_of_other_content_is_left_alone(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    kept = tmp_path / "figures.json"
    kept.write_text("half a fi")
    monkeypatch.setattr(processes, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(sys, "argv", ["table.py", "wakeups", "--keep", str(kept)])
    with pytest.raises(SystemExit) as ended:
        table.main()
    assert ended.value.code == 2
    assert "not a file of figures" in capsys.readouterr().err
    assert kept.read_text() == "half a fi"


def test_an_operation_whose_process_dies_ends_the_count() -> None:
    """Otherwise its few instructions would be those of the operation."""
    program = "import counted; counted.in_child(lambda: 1 / 0, 'edge 5'); print('counted')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "counted" not in done.stdout
    assert done.stderr.endswith("edge 5: the process failed with status 1\n")
