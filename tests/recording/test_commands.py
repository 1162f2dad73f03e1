"""`hwloop record`, `hwloop log`, `hwloop run --recorder` and `hwloop.run(recorder=)`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import gpio, recording
from hwloop.cli import main
from hwloop.trace_events import LineChange

BOARD = """
[[device]]
type = "button"
line = 17
press_every = 1.0

[[device]]
type = "led"
line = 27
"""
LAMP = """
import hwloop, sys
from hwloop import gpio

async def main():
    async with gpio.watch(17, pull="up") as door, gpio.output(27, initial=0) as lamp:
        count = 0
        async for edge in door:
            lamp.set(1 - edge.value)
            count += 1
            if count == 3:
                return int(sys.argv[1]) if sys.argv[1:] else 0

sys.exit(hwloop.run(main()))
"""
EVENTS = [
    "     1       0.000000  line 17 rises by program",
    "     2       1.000000  line 17 falls by the button on line 17",
    "     3       1.000000  line 27 rises by program",
    "     4       1.200000  line 17 rises by the button on line 17",
    "     5       1.200000  line 27 falls by program",
    "     6       2.000000  line 17 falls by the button on line 17",
    "     7       2.000000  line 27 rises by program",
]


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(BOARD)
    (tmp_path / "lamp.py").write_text(LAMP)
    for name in ("HWLOOP_BOARD", "HWLOOP_SEED", "HWLOOP_LIMIT", "HWLOOP_RECORDER"):
        monkeypatch.delenv(name, raising=False)


VIRTUAL = ["lamp.py", "--board", "board.toml", "--clock", "virtual"]


def test_record_keeps_the_run_and_log_prints_it(capsys):
    assert main(["record", "--out", "run.hwlog", *VIRTUAL, "--seed", "5", "--", "3"]) == 3
    size = os.path.getsize("run.hwlog")
    assert capsys.readouterr().err == f"hwloop record: run.hwlog: 7 events, {size} bytes\n"
    [run] = recording.read("run.hwlog")
    assert (run.header.program, run.header.arguments, run.header.seed) == ("lamp.py", ["3"], 5)

    assert main(["log", "run.hwlog"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["# board    simulated board (simulated, virtual time)", "# program  lamp.py 3"]
    assert lines[3:-2] == EVENTS
    assert lines[-2:] == [
        "     8       2.000000  the program ended with status 3",
        "# the recording was closed in order",
    ]


@pytest.mark.parametrize(
    ("program", "options", "note"),
    [
        ("async with gpio.watch(18):\n        pass", ["--board", "board.toml"], "nothing has happened on the lines"),
        ("async with gpio.watch(18):\n        pass", [], "nothing has happened on the lines"),
        ("pass", [], "the program has not used a board"),
    ],
)
def test_record_says_why_there_are_no_events(capsys, program, options, note):
    Path("quiet.py").write_text(f"from hwloop import gpio\nasync def main():\n    {program}\n")
    assert main(["record", "--out", "run.hwlog", "quiet.py", "--clock", "virtual", *options]) == 0
    assert f" bytes; {note}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--line", "27"], EVENTS[2::2]),
        (["--line", "17", "--to", "1"], EVENTS[:2]),
        (["--line", "27", "--from", "1.1", "--to", "1.5"], EVENTS[4:5]),
        (["--port", "/dev/ttyAMA0", "--bus", "1"], []),
        (["--port", "/dev/ttyAMA0", "--line", "27", "--from", "1.5"], EVENTS[6:]),
    ],
)
def test_log_selects_events(capsys, options, shown):
    main(["record", "--out", "run.hwlog", *VIRTUAL])
    capsys.readouterr()
    assert main(["log", "run.hwlog", *options]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] != "#"] == shown


def test_log_converts_a_recording(capsys):
    main(["record", "--out", "run.hwlog", *VIRTUAL])
    assert main(["log", "run.hwlog", "--out", "run.csv", "--line", "27"]) == 0
    assert len(Path("run.csv").read_text().splitlines()) == 4
    capsys.readouterr()
    assert main(["log", "run.hwlog", "--out", "run.xyz"]) == 2
    assert "run.xyz: no format of traces has the suffix '.xyz'" in capsys.readouterr().err
    assert main(["log", "run.hwlog", "--out", "missing/run.csv"]) == 1
    assert "missing/run.csv: no such file or directory" in capsys.readouterr().err


def test_log_names_the_package_that_a_waveform_needs(capsys, monkeypatch):
    main(["record", "--out", "run.hwlog", *VIRTUAL])
    monkeypatch.delitem(sys.modules, "firmware_sim.trace.vcd", raising=False)
    monkeypatch.setitem(sys.modules, "vcd.writer", None)
    capsys.readouterr()
    assert main(["log", "run.hwlog", "--out", "run.vcd"]) == 2
    assert capsys.readouterr().err.startswith("hwloop log: --out run.vcd: a VCD file needs the package pyvcd; install")
    assert not Path("run.vcd").exists()


def test_log_shows_the_end_of_a_recording_that_was_cut_off(capsys):
    main(["record", "--out", "run.hwlog", *VIRTUAL])
    content = Path("run.hwlog").read_bytes()
    Path("run.hwlog").write_bytes(content[:-30])
    capsys.readouterr()
    assert main(["log", "run.hwlog"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("# the recording is cut off within a record, at byte")
    Path("run.hwlog").write_bytes(content[:-30] + b"garbage" * 10)
    assert main(["log", "run.hwlog"]) == 1
    assert "run.hwlog: the recording is damaged at byte" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["record", "lamp.py"], 2, "required: --out"),
        (["record", "--out", "", "lamp.py"], 2, "--out: the name of the file is empty; give one, such as run.hwlog"),
        (["record", "--out", "missing/run.hwlog", "lamp.py"], 1, "there is no directory missing; create it first"),
        (["record", "--out", "board.toml", "lamp.py"], 1, "there is a file of this name"),
        (["record", "--out", "run.hwlog", "missing.py", "--board", "sim"], 2, "missing.py"),
        (["record", "--out", "run.hwlog", "lamp.py", "--recorder", "x"], 2, "unrecognized arguments: --recorder"),
        (["run", "lamp.py", "--recorder", "flight.ring,2Q"], 2, "a recorder is PATH or PATH,SIZE, such as"),
        (["run", "lamp.py", "--recorder", ",2M"], 2, "a recorder is PATH or PATH,SIZE, such as"),
        (["run", "lamp.py", "--recorder", "flight.ring,1K"], 1, "a ring has at least 256 KiB, and 1 KiB is too small"),
        (["log", "missing"], 1, "missing: no such file or directory"),
        (["log", "board.toml"], 1, "board.toml: not a recording"),
        (["log"], 2, "required: FILE"),
    ],
)
def test_wrong_arguments_are_errors_with_advice(capsys, arguments, status, message):
    assert main(arguments) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["nope.py"], 2),
        (["nope.py", "--board", "board.toml"], 2),
        (["lamp.py", "--board", "nope.toml"], 2),
        (["door.py:nope", "--board", "board.toml"], 2),
        (["lamp.py:nope", "--board", "board.toml"], 2),
        (["import.py", "--board", "board.toml"], 2),
        (["lamp.py", "--seed", "5"], 2),
        (["lamp.py", "--clock", "virtual"], 2),
        ([], 2),
        (["lamp.py"], 1),
        (["lamp.py", "--board", "auto"], 1),
    ],
)
def test_where_nothing_has_run_there_is_no_recording(capsys, monkeypatch, arguments, status):
    monkeypatch.setattr("hwloop.board.has_gpiochip", lambda: False)
    monkeypatch.setattr("hwloop.recording.file.INTERVAL", 60.0)
    monkeypatch.setenv("HWLOOP_LIMIT", "many")  # for --clock virtual
    Path("import.py").write_text("import nothing_of_this_name\n")
    Path("door.py").write_text("async def main(): pass\n")
    Path("before.hwlog").write_bytes(b"before")
    assert main(["record", "--out", "run.hwlog", *arguments]) == status
    assert not Path("run.hwlog").exists()
    assert main(["record", "--out", "before.hwlog", "--overwrite", *arguments]) == status
    assert Path("before.hwlog").read_bytes() == b"before"
    assert "events" not in capsys.readouterr().err


def test_a_recording_that_is_replaced_is_shorter_afterwards_if_need_be():
    Path("run.hwlog").write_bytes(b"before" * 100_000)
    main(["record", "--out", "run.hwlog", "--overwrite", *VIRTUAL])
    (run,) = recording.read("run.hwlog")
    assert len(list(run)) > 0
    assert run.ending == "closed"


def test_a_ring_keeps_the_last_runs(capsys):
    run = ["run", *VIRTUAL, "--recorder", "flight.ring,1M"]
    assert [main([*run, "--", str(status)]) for status in (0, 4)] == [0, 4]
    capsys.readouterr()
    assert main(["log", "flight.ring", "--line", "27"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "# program  lamp.py 4"
    assert lines[3] == "# run      2 of 2; --run chooses another"
    assert lines[4:-1] == EVENTS[2::2]
    assert main(["log", "flight.ring", "--run", "1"]) == 0
    assert "the program ended with status 0" in capsys.readouterr().out
    assert main(["log", "flight.ring", "--run", "3"]) == 2
    assert "there is no run 3; the recording has 2" in capsys.readouterr().err


def test_the_environment_names_a_ring_that_child_processes_do_not_use(capsys, monkeypatch):
    monkeypatch.setenv("HWLOOP_RECORDER", "flight.ring,1M")
    assert main(["run", *VIRTUAL]) == 0
    assert len(recording.read("flight.ring")) == 1
    assert "HWLOOP_RECORDER" not in os.environ
    monkeypatch.setenv("HWLOOP_RECORDER", "flight.ring,1X")
    assert main(["run", *VIRTUAL]) == 2
    assert "a recorder is PATH or PATH,SIZE" in capsys.readouterr().err


def test_a_recording_has_the_signal_and_what_the_program_does_after_it():
    Path("lamp.py").write_text(
        "import asyncio\nfrom hwloop import gpio\n"
        "async def main():\n"
        "    async with gpio.output(27, initial=1, safe=0):\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.sleep(60)\n"
    )
    command = [sys.executable, "-m", "hwloop", "record", "--out", "run.hwlog", "lamp.py", "--board", "board.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    events = [event for event in recording.read("run.hwlog")[0] if getattr(event, "line", 27) == 27]
    assert [type(event) for event in events] == [LineChange, recording.Signalled, LineChange, recording.Ended]
    assert events[1].number == signal.SIGTERM
    assert (events[2].level, events[3].status) == (0, "SIGTERM")


def test_a_run_records_into_a_ring():
    async def main():
        async with gpio.output(27, initial=1, safe=0):
            pass

    hwloop.run(main(), board={}, clock="virtual", recorder="flight.ring,1M")
    with pytest.raises(ZeroDivisionError):
        hwloop.run(failing(), board={}, clock="virtual", recorder="flight.ring,1M")
    first, second = recording.read("flight.ring")
    assert [(event.line, event.level) for event in first if isinstance(event, LineChange)] == [(27, 1), (27, 0)]
    assert [list(run)[-1].status for run in (first, second)] == ["0", "1"]


async def failing():
    return 1 / 0


def test_a_run_leaves_the_callers_recorder_open():
    recorder = recording.Recorder(recording.Ring("flight.ring", 1 << 20))

    async def main():
        async with gpio.output(27, initial=1):
            pass

    with SimBoard(clock=hwloop.VirtualClock()) as board:
        hwloop.run(main(), board=board, clock=board.clock, recorder=recorder)
        board.line(5).drive(0)
    recorder.close()
    [run] = recording.read("flight.ring")
    assert [event.line for event in run if isinstance(event, LineChange)] == [27, 5]


@pytest.mark.parametrize(("recorder", "error"), [(5, TypeError), ("x,1Q", ValueError), (".", recording.RecordingError)])
def test_a_run_rejects_another_recorder(recorder, error):
    with pytest.raises(error):
        hwloop.run(failing(), recorder=recorder)


def test_a_board_that_is_opened_late_is_recorded():
    async def main():
        async with gpio.output(27, initial=1):
            pass

    os.environ["HWLOOP_BOARD"] = "board.toml"
    try:
        hwloop.run(main(), clock="virtual", recorder="flight.ring")
    finally:
        del os.environ["HWLOOP_BOARD"]
    [run] = recording.read("flight.ring")
    assert [event.line for event in run if isinstance(event, LineChange)] == [27]
    assert run.header.board == "simulated board"


def test_importing_hwloop_loads_no_recording():
    code = "import hwloop, sys; sys.exit('hwloop.recording' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
