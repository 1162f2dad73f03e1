"""benchmarks/compare.py: two versions measured in turn, or files of figures, and what it makes of the ratios."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/compare.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    module = importlib.import_module("compare")
    monkeypatch.setattr(module.instructions, "available", lambda: False)
    yield module
    for name in set(sys.modules) - before:
        if not name.startswith(("hwloop", "firmware_sim")):
            del sys.modules[name]


def figures(**cases: tuple[dict[str, float], dict[str, float]]) -> dict[str, Any]:
    """Return figures on asyncio and on hwloop as in a JSON file."""
    return {
        "cases": {
            name.replace("_", "-"): {"loops": {"asyncio": {"median": theirs}, "hwloop": {"median": ours}}}
            for name, (theirs, ours) in cases.items()
        }
    }


def write(path: Path, data: dict[str, Any]) -> str:
    path.write_text(json.dumps(data))
    return str(path)


def table(out: str) -> list[list[str]]:
    return [line.split() for line in out.split("\n\n")[1].splitlines()]


def test_files_are_compared_by_ratios_with_the_direction_of_each_figure(
    compare: Any, tmp_path: Path, capsys: Captured
) -> None:
    old = figures(
        chain=({"each/CPU s": 100.0}, {"each/CPU s": 200.0}),
        timer_idle=({"p50 µs": 10.0, "missed %": 0.0}, {"p50 µs": 1.0, "missed %": 0.0}),
        gone=({"x": 1.0}, {"x": 1.0}),
    )
    new = figures(
        chain=({"each/CPU s": 50.0}, {"each/CPU s": 150.0}),
        timer_idle=({"p50 µs": 10.0, "missed %": 0.0}, {"p50 µs": 0.5, "missed %": 0.0}),
    )
    old["instructions"], new["instructions"] = {"chain": 1000.0}, {"chain": 1020.0}
    assert compare.main([write(tmp_path / "old.json", old), write(tmp_path / "new.json", new)]) == 0
    out = capsys.readouterr().out
    assert "not measured in turn" in out
    assert table(out)[1:] == [
        ["chain", "each/CPU", "s", "200.0", "150.0", "0.750", "2.000", "3.000", "worse", "25%"],
        ["timer-idle", "p50", "µs", "1.00", "0.50", "0.500", "0.100", "0.050", "better", "50%"],
        ["timer-idle", "missed", "%", "0.00", "0.00"],
    ]
    assert out.split("\n\n")[2].split()[-4:] == ["chain", "1000", "1020", "1.020"]


def test_files_that_have_the_compiled_core_compare_it_too(compare: Any, tmp_path: Path, capsys: Captured) -> None:
    paths = []
    for name, compiled in (("old", 300.0), ("new", 600.0)):
        data = figures(chain=({"each/CPU s": 100.0}, {"each/CPU s": 200.0}))
        data["cases"]["chain"]["loops"]["hwloop+compiled"] = {"median": {"each/CPU s": compiled}}
        data["instructions compiled"] = {"chain": 1e5 / compiled}
        paths.append(write(tmp_path / f"{name}.json", data))
    assert compare.main(paths) == 0
    out = capsys.readouterr().out
    assert table(out)[2] == [
        "chain,", "compiled", "each/CPU", "s", "300.0", "600.0", "2.000", "3.000", "6.000", "better", "100%",
    ]  # fmt: skip
    assert out.split("\n\n")[2].split()[-7:] == ["chain,", "compiled", "333", "167", "0.500", "better", "50%"]


def test_revisions_are_measured_in_turn_and_in_alternating_order(
    compare: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    """The second round is twice as slow for both: the ratio within a round does not see that."""
    order: list[tuple[str, str]] = []

    def measure(tree: Path, name: str, seconds: float) -> dict[str, dict[str, float]]:
        assert (tree / "pyproject.toml").is_file()
        new = tree == ROOT
        order.append(("new" if new else "old", name))
        slow = 2.0 if len(order) > 4 else 1.0
        return {"asyncio": {"p50 µs": 10.0}, "hwloop": {"p50 µs": slow * (1.5 if new else 1.0)}}

    monkeypatch.setattr(compare, "measure", measure)
    kept = tmp_path / "new.json"
    command = ["HEAD", ".", "--only", "edge-idle", "wakeups", "--rounds", "2", "--json", str(kept)]
    assert compare.main(command) == 0
    first = [("old", "edge-idle"), ("new", "edge-idle"), ("old", "wakeups"), ("new", "wakeups")]
    assert order[:4] == first
    assert order[4:] == [("new", name) if side == "old" else ("old", name) for side, name in first]
    said = capsys.readouterr()
    assert "not measured in turn" not in said.out
    assert [row[5] for row in table(said.out)[1:]] == ["1.500"] * 2
    assert "valgrind is not installed" in said.out
    assert len(json.loads(kept.read_text())["cases"]["edge-idle"]["loops"]["hwloop"]["rounds"]) == 2


def test_a_benchmark_that_one_version_lacks_is_left_out(
    compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def measure(tree: Path, name: str, seconds: float) -> dict[str, dict[str, float]]:
        if name == "chain" and tree != ROOT:
            raise compare.Wrong("there is no benchmark 'chain'")
        return {"hwloop": {"x": 1.0}}

    monkeypatch.setattr(compare, "measure", measure)
    assert compare.main(["HEAD", ".", "--only", "chain", "batch", "--rounds", "2"]) == 0
    said = capsys.readouterr()
    assert said.err.count("chain in HEAD left out: there is no benchmark 'chain'") == 1
    assert [row[0] for row in table(said.out)[1:]] == ["batch"]


@pytest.mark.slow
def test_this_checkout_can_be_compared_with_itself(compare: Any, capsys: Captured) -> None:
    assert compare.main([".", ".", "--only", "chain", "--rounds", "1", "--seconds", "0.01"]) == 0
    said = capsys.readouterr()
    assert said.err == "round 1 of 1 measured\n"
    assert table(said.out)[1][0] == "chain"


VALGRIND = """#!/bin/sh
echo "11 chain 2000"
echo "12 chain 12000"
echo "==11== Collected : 500014000" >&2
echo "==12== Collected : 500084000" >&2
echo "==10== Collected : 500000000" >&2
"""


def test_instructions_are_those_of_one_operation(compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "valgrind"
    program.write_text(VALGRIND)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert compare.instructions.count(ROOT, ["chain"]) == {"chain": 7.0}
    program.write_text("#!/bin/sh\necho 'unknown instruction' >&2\nexit 1\n")
    with pytest.raises(ValueError, match="could not be counted: unknown instruction"):
        compare.instructions.count(ROOT, ["chain"])


def test_instructions_are_those_of_the_sources_or_of_the_compiled_core(
    compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare.instructions, "EXTENSION_SUFFIXES", [".so"])
    program = tmp_path / "valgrind"
    fewer = '[ "$HWLOOP_PURE" = 1 ] || set 500034000'
    program.write_text(
        VALGRIND.replace("#!/bin/sh", f"#!/bin/sh\nset 500084000; {fewer}").replace(": 500084000", ": $1")
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    core = tmp_path / "hwloop" / "core"
    core.mkdir(parents=True)
    (tmp_path / "hwloop" / "__init__.py").touch()
    assert compare.instructions.count(tmp_path, ["chain"]) == {"chain": 7.0}
    with pytest.raises(ValueError, match="the core is not compiled; compile it with: make compiled"):
        compare.instructions.count(tmp_path, ["chain"], compiled=True)
    (core / "_compiled.so").touch()
    assert compare.instructions.count(tmp_path, ["chain"], compiled=True) == {"chain": 2.0}


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_a_directory_without_hwloop_is_not_counted(
    compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without its modules, those of the benchmark's own checkout would be counted."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(compare.instructions, "available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["instructions.py", str(tmp_path / name), "--only", "chain"])
    with pytest.raises(SystemExit, match=f"{name} is not a checkout of hwloop: it has no hwloop/__init__.py$"):
        compare.instructions.main()


def test_the_counted_operations_run_as_often_as_asked(compare: Any) -> None:
    counted = compare.instructions.counted
    done = subprocess.run(
        [sys.executable, counted.__file__, ROOT, "2", "20", "chain", *counted.PATHS, counted.START],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    runs = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert len({pid for pid, _ in runs}) == len(runs)  # each in a process of its own
    assert [run for _, run in runs] == [
        f"{name} {number}" for name in (counted.START, "chain", *counted.PATHS) for number in (2, 20)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "."], "nowhere: neither a file nor a git revision"),
        (["{tmp}/no.json", "."], "this is not a file of figures"),
        ([".", ".", "--rounds", "0"], "argument --rounds: must be 1 or more, not 0"),
        ([".", ".", "--only", "nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_wrong_calls_measure_nothing(
    compare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(compare, "measure", lambda *_: pytest.fail("measured"))
    write(tmp_path / "no.json", {"figures": 1})
    with pytest.raises(SystemExit) as ended:
        compare.main([each.format(tmp=tmp_path) for each in arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_revisions_that_git_knows_are_unpacked_and_removed(compare: Any) -> None:
    with compare.version("HEAD") as found:
        assert (found.tree / "hwloop" / "__init__.py").is_file()
    assert not found.tree.exists()
