"""Replays of programs that a signal has ended: it comes after all that the program did by itself."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hwloop import recording
from hwloop.cli import main
from hwloop.recording import Ended, Event, Signalled
from hwloop.trace_events import LineChange

FAN = """
import asyncio, hwloop
from hwloop import gpio

async def main():
    async with gpio.output(23, safe=1) as fan, gpio.output(27, initial=0, safe=1) as alarm:
        fan.pwm(0.5, frequency=100)
        await asyncio.sleep(60)

hwloop.run(main())
"""
Change = tuple[float, int, int]
"""Seconds, line, level."""


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fan.py").write_text(FAN)
    for name in ("HWLOOP_BOARD", "HWLOOP_SEED", "HWLOOP_LIMIT"):
        monkeypatch.delenv(name, raising=False)


def record_until(
    signal_after: float, changes: Sequence[Change], *, virtual: bool = False, is_cut: bool = False, lasts: float = 0.0
) -> None:
    """Record the program up to a signal, and the changes that it made after it, `lasts` seconds before it ended."""
    assert main(["record", "--out", "long.hwlog", "fan.py", "--board", "sim", "--clock", "virtual", "--limit", "1"])
    [run] = recording.read("long.hwlog")
    start_ns = run.header.start_ns
    signal_ns = start_ns + round(signal_after * 1e9)
    events: list[Event] = [event for event in run if event.when_ns <= signal_ns]
    events.append(Signalled(signal_ns, signal.SIGINT))
    events += [LineChange(start_ns + round(after * 1e9), line, level, "program") for after, line, level in changes]
    if not is_cut:
        events.append(Ended(events[-1].when_ns + round(lasts * 1e9), "SIGINT"))
    file = recording.RecordingFile("run.hwlog")
    file.begin(replace(run.header, virtual=virtual, limit=None))
    for event in events:
        file.write(event)
    file.close()


@pytest.mark.parametrize(
    ("signal_after", "changes"),
    [
        (0.0962, [(0.0965, 27, 1), (0.0966, 23, 1)]),
        (0.0962, [(0.1001, 23, 1), (0.1003, 27, 1)]),
        (0.0962, [(0.1001, 23, 1), (0.1052, 23, 0), (0.1053, 27, 1), (0.1054, 23, 1)]),
        (0.0912, [(0.0914, 27, 1)]),
        (0.0912, [(0.0951, 23, 0), (0.0954, 27, 1), (0.0955, 23, 1)]),
        (0.0912, [(0.0951, 23, 0), (0.1001, 23, 1), (0.1051, 23, 0), (0.1101, 23, 1), (0.1104, 27, 1)]),
    ],
)
def test_pulses_between_a_signal_and_the_reaction_are_no_difference(
    signal_after: float, changes: Sequence[Change], capsys: pytest.CaptureFixture[str]
) -> None:
    record_until(signal_after, changes)
    assert main(["replay", "run.hwlog"]) == 0, capsys.readouterr().err


def test_a_pulse_more_before_a_long_clean_up_is_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fan.py").write_text(
        FAN.replace(
            "await asyncio.sleep(60)",
            "try:\n"
            "            await asyncio.sleep(60)\n"
            "        finally:\n"
            "            alarm.on()\n"
            "            fan.on()\n"
            "            await asyncio.sleep(5)\n",
        )
    )
    record_until(0.0962, [(0.0965, 27, 1), (0.0966, 23, 1)], lasts=5.0)
    assert main(["replay", "run.hwlog"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("signal_after", [0.0912, 0.1])
def test_in_exact_time_a_signal_is_given_at_its_place(signal_after: float, capsys: pytest.CaptureFixture[str]) -> None:
    record_until(signal_after, [(signal_after, 27, 1)], virtual=True)
    assert main(["replay", "run.hwlog"]) == 0, capsys.readouterr().err


def test_an_output_that_is_missing_after_the_signal_is_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    record_until(0.0912, [(0.0951, 23, 0), (0.0954, 27, 1), (0.0955, 23, 1)])
    Path("fan.py").write_text(FAN.replace("gpio.output(27, initial=0, safe=1)", "gpio.output(27, initial=0, safe=0)"))
    assert main(["replay", "run.hwlog"]) == 1
    assert "line 27, event 20, 0.095400 s: recorded: the program drove it to 1" in capsys.readouterr().err


@pytest.mark.parametrize("virtual", [True, False])
def test_a_program_that_was_killed_while_it_ended_is_replayed_up_to_that(
    virtual: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("fan.py").write_text(
        FAN.replace(
            "await asyncio.sleep(60)",
            "try:\n"
            "            await asyncio.sleep(60)\n"
            "        finally:\n"
            "            while True:\n"
            "                await asyncio.sleep(0.5)\n",
        )
    )
    record_until(0.0912, [], virtual=virtual, is_cut=True)
    assert main(["replay", "run.hwlog"]) == 0, capsys.readouterr().err
