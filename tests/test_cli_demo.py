"""`hwloop demo`: what went in comes out, and where it does not, the demo says so. And the terminal it writes on."""

from __future__ import annotations

import collections
import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from firmware_sim.devices.gps import Gps
from firmware_sim.devices.pin_parts import Button
from firmware_sim.nmea import sentence
from hwloop.cli import demo, main
from hwloop.cli.execution import load_program
from hwloop.cli.term import Terminal
from hwloop.core.counters import Histogram
from hwloop.errors import HardwareError
from hwloop_bench import demo_report, performance
from hwloop_bench.performance import Account

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def the_example_is_loaded_anew() -> Iterator[None]:
    yield
    sys.modules.pop("weather_station", None)


def test_both_loops_are_shown_side_by_side(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    stopped = []
    for kind in (Button, Gps):
        monkeypatch.setattr(kind, "stop", lambda self, stop=kind.stop: (stopped.append(type(self)), stop(self)))
    interval = sys.getswitchinterval()
    assert main(["demo", "--seconds", "2"]) == 0
    assert stopped == [Button, Gps] * 2
    assert sys.getswitchinterval() == interval
    said = capsys.readouterr()
    assert said.err == ""
    assert "\033" not in said.out
    events, accounts, figures, summary = said.out.split("\n\n")
    assert [line.partition(":")[0] for line in summary.splitlines()[:2]] == [
        "Edge to handler under load (median)", "Ticks",
    ]  # fmt: skip
    assert {line.split()[1] for line in events.splitlines()} == {
        "board", "door", "climate", "position", "control", "load",
    }  # fmt: skip
    assert all(re.match(r" {2}\d\.\d{3}  [a-z]+ +\S", line) for line in events.splitlines())
    rows = [line.split() for line in accounts.splitlines()]
    assert rows[0] == ["part", "events", "loop", "in", "delivered", "lost", "skipped"]
    assert [row[:-4] for row in rows[1:]] == [
        ["door", "edges", "asyncio"], ["hwloop"], ["climate", "readings", "asyncio"], ["hwloop"],
        ["position", "sentences", "asyncio"], ["hwloop"], ["control", "ticks", "asyncio"], ["hwloop"],
    ]  # fmt: skip
    for *_, came_in, delivered, lost, skipped in rows[1:]:
        assert int(came_in) == int(delivered) + int(lost) + int(skipped) > 0
    skipped = [
        f"{loop} skipped {row[-1]} of {row[-4]}" for loop, row in zip(("asyncio", "hwloop"), rows[-2:], strict=True)
    ]
    assert f"Ticks: {', '.join(skipped)}." in summary
    assert figures.splitlines()[0].split() == ["loop", "p50", "p99", "max"]
    assert len(re.findall(r"\d ms\b", figures)) == 24


@pytest.mark.parametrize(
    ("lost", "skipped", "colour", "said"),
    [
        (0, 0, "green", "Every event is accounted for, and hwloop delivered at least 99 % of each kind."),
        (3, 7, "green", "Every event is accounted for, and hwloop delivered at least 99 % of each kind."),
        (4, 7, "yellow", "Every event is accounted for, but hwloop lost or skipped 11 of 1000 ticks."),
        (0, 900, "yellow", "Every event is accounted for, but hwloop lost or skipped 900 of 1000 ticks."),
    ],
)
def test_the_verdict_is_green_only_if_hardly_anything_was_lost_or_skipped(
    lost: int, skipped: int, colour: str, said: str
) -> None:
    accounts = [Account("door", "edges", 9, 9, 0, 0), Account("control", "ticks", 1000, 0, lost, skipped)]
    verdict = demo_report.verdict(SimpleNamespace(accounts=accounts, loop="hwloop"))  # type: ignore[arg-type]
    assert verdict == (said, colour)


def test_a_comparison_that_was_interrupted_before_the_load_compares_no_latency_under_load() -> None:
    ticks = Account("control", "ticks", 100, 100, 0, 0)
    performances: Any = [
        SimpleNamespace(loop=loop, accounts=[ticks], edge_latency=[Histogram(), Histogram()])
        for loop in ("asyncio", "hwloop")
    ]
    performances[0].edge_latency[1].record(36_700_000)
    assert demo_report.comparison(*performances) == ["Ticks: asyncio skipped 0 of 100, hwloop skipped 0 of 100."]
    performances[1].edge_latency[1].record(1_000_000)
    assert demo_report.comparison(*performances)[0].startswith("Edge to handler under load (median): ")


@pytest.mark.slow
def test_the_stock_loop_plays_it_too(capsys: Captured) -> None:
    assert main(["demo", "--seconds", "2", "--loop", "asyncio", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["loop"] == "asyncio"
    assert result["differences"] == []
    assert [account["part"] for account in result["accounts"]] == ["door", "climate", "position", "control"]
    assert result["latency"].keys() == {"edge to handler", "tick lateness"}
    for phases in result["latency"].values():
        assert phases.keys() == {"before", "under load"}
        assert all(0 < phase["p50"] <= phase["p99"] <= phase["max"] for phase in phases.values())


def test_events_that_do_not_come_out_unchanged_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A station that drops an edge, misreads its thermometer three times, and makes up sentences of the receiver."""

    def load_faulty(path: str) -> Any:
        station: Any = load_program(path)

        async def faulty(report: Any) -> None:
            counts = collections.Counter()

            def bend(part: str, event: Any) -> None:
                counts[part] += 1
                if part == "door" and counts[part] == 1:
                    return
                if part == "climate" and counts[part] <= 3:
                    event = event._replace(value=event.value._replace(temperature=event.value.temperature + 0.1))
                if part == "position":
                    event = event._replace(data=sentence("GPTXT,01,01,02,made up").strip())
                report(part, event)

            await station.main(bend)

        return SimpleNamespace(main=faulty, load=station.load)

    monkeypatch.setattr(demo, "load_program", load_faulty)
    monkeypatch.setattr(performance, "PATIENCE", 0.7)
    monkeypatch.setattr(performance, "SHOWN", 4)
    assert main(["demo", "--seconds", "2", "--loop", "hwloop"]) == 1
    listed = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    door = re.fullmatch(r"door: (\d+) edges went in, (\d+) came out, 0 are counted as lost and 0 as skipped", listed[0])
    assert door
    assert int(door[1]) == int(door[2]) + 1
    *wrong, more = [line for line in listed if "went in" not in line]
    readings = [line for line in wrong if re.fullmatch(r"climate: 2[\d.]+ was read where the air had 2[\d.]+", line)]
    made_up = [
        line for line in wrong if re.fullmatch(r"position: b'\$GPTXT,.+' was read where b'\$GP.+' was sent", line)
    ]
    assert len(readings) + len(made_up) == len(wrong) == 4
    assert 1 <= len(readings) <= 3
    assert re.fullmatch(r"... and \d+ more of the kind", more)


def test_a_silent_station_fails(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def load_silent(path: str) -> Any:
        station: Any = load_program(path)
        return SimpleNamespace(main=lambda report: station.main(lambda part, event: None), load=station.load)

    monkeypatch.setattr(demo, "load_program", load_silent)
    monkeypatch.setattr(performance, "PATIENCE", 0.1)
    monkeypatch.setattr(demo, "SHORTEST", 0.1)
    assert main(["demo", "--seconds", "0.1", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [result["loop"], *(each["loop"] for each in result["compared"])] == ["hwloop", "asyncio"]
    listed = result["differences"]
    assert [f"{part}: no {what} at all" in listed for part, what in (("door", "edges"), ("control", "ticks"))] == [
        True
    ] * 2


def test_a_station_that_fails_ends_it_at_once(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def load_failing(path: str) -> Any:
        station: Any = load_program(path)

        async def failing(report: Any) -> None:
            def fail(part: str, event: Any) -> None:
                report(part, event)
                if part == "door":
                    raise HardwareError("gpio:17", "on fire")

            await station.main(fail)

        return SimpleNamespace(main=failing, load=station.load)

    monkeypatch.setattr(demo, "load_program", load_failing)
    assert main(["demo", "--seconds", "60"]) == 1
    assert capsys.readouterr().err == "hwloop demo: gpio:17: on fire\n"


def test_interrupted_it_ends_with_the_table_so_far(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def load_interrupted(path: str) -> Any:
        station: Any = load_program(path)

        async def interrupted(report: Any) -> None:
            interrupts = iter([signal.SIGINT])

            def interrupt(part: str, event: Any) -> None:
                report(part, event)
                if part == "door" and (number := next(interrupts, None)):
                    os.kill(os.getpid(), number)

            await station.main(interrupt)

        return SimpleNamespace(main=interrupted, load=station.load)

    monkeypatch.setattr(demo, "load_program", load_interrupted)
    assert main(["demo", "--seconds", "60"]) == 130
    said = capsys.readouterr()
    _, accounts, figures, verdict = said.out.split("\n\n")
    assert re.search(r"^door +edges +asyncio +[1-9]", accounts, re.MULTILINE)
    assert "hwloop" not in accounts + figures
    assert re.search(r"under load +asyncio +- +- +-$", figures, re.MULTILINE)
    assert re.match("Every event is accounted for", verdict)
    assert said.err == ""


def test_a_closed_pipe_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "hwloop", "demo"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(20) == 128 + signal.SIGPIPE


def test_the_examples_are_found_where_they_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo.examples_directory() == ROOT / "examples"
    installed = tmp_path / "site-packages" / "hwloop" / "examples"
    monkeypatch.setattr(demo, "__file__", str(installed.parent / "cli" / "demo.py"))
    with pytest.raises(demo.Failure, match="the examples are not installed"):
        demo.examples_directory()
    installed.mkdir(parents=True)
    (installed / "weather_station.py").touch()
    assert demo.examples_directory() == installed


def test_every_package_is_named_for_the_wheel() -> None:
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("hwloop", "firmware_sim", "hwloop_bench")
        for path in (ROOT / package).rglob("*.py")
    }
    assert named == there | {"hwloop.examples"}


# The terminal.


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Screen(), {"TERM": "xterm"}, True),
        (Screen(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Screen(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Screen(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_colour_is_for_terminals_that_have_it(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, environment: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Terminal(stream).paint("red", "red") == ("\033[31mred\033[0m" if coloured else "red")


def test_lines_are_cut_to_the_terminal_and_left_whole_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "24")
    screen, file = Screen(), io.StringIO()
    for stream in (screen, file):
        Terminal(stream).line(("0123456789", "green"), "0123456789", ("0123456789", "blue"))
    assert screen.getvalue() == "\033[32m0123456789\033[0m0123456789\033[34m0123\033[0m\n"
    assert file.getvalue() == "0123456789" * 3 + "\n"


def test_a_table_has_its_columns_under_their_heads() -> None:
    file = io.StringIO()
    Terminal(file).table([("what", "in", "out"), ("a", "1", "1"), ("bb", "1000", "7")], left=1)
    assert file.getvalue().splitlines() == ["what    in  out", "a        1    1", "bb    1000    7"]
