"""`hwloop replay`: programs on recordings, their differences and their ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwloop import recording
from hwloop.cli import main

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
    async with gpio.watch(17, pull="up") as door, gpio.output(27, initial=0, safe=0) as lamp:
        count = 0
        async for edge in door:
            lamp.set(1 - edge.value)
            count += 1
            if count == int(sys.argv[1]):
                return 0

sys.exit(hwloop.run(main()))
"""


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(BOARD)
    (tmp_path / "lamp.py").write_text(LAMP)
    for name in ("HWLOOP_BOARD", "HWLOOP_SEED", "HWLOOP_LIMIT"):
        monkeypatch.delenv(name, raising=False)


def record(*arguments, status=0):
    assert main(["record", "--out", "run.hwlog", "--board", "board.toml", "--clock", "virtual", *arguments]) == status


def change_program(before, after):
    text = Path("lamp.py").read_text()
    assert before in text
    Path("lamp.py").write_text(text.replace(before, after))


def test_a_recorded_run_is_replayed(capsys):
    record("lamp.py", "--", "4")
    capsys.readouterr()
    assert main(["replay", "run.hwlog", "lamp.py"]) == 0
    assert capsys.readouterr().err == "hwloop replay: run.hwlog: 5 outputs, all as recorded\n"


def test_the_recording_knows_its_program_arguments_seed_and_limit(capsys):
    Path("seeded.py").write_text(
        "import asyncio, sys\n"
        "from hwloop import gpio\n"
        "async def main():\n"
        "    async with gpio.output(27, initial=0) as lamp, gpio.output(5, initial=0) as other:\n"
        "        async def drive(output):\n"
        "            await asyncio.sleep(float(sys.argv[1]))\n"
        "            output.set(1)\n"
        "        await asyncio.gather(drive(lamp), drive(other))\n"
        "        await asyncio.sleep(60)\n"
    )
    record("seeded.py", "--seed", "random", "--limit", "7", "--", "0.5", status=1)
    header = recording.read("run.hwlog")[0].header
    assert isinstance(header.seed, int)
    capsys.readouterr()
    assert main(["replay", "run.hwlog"]) == 0
    error = capsys.readouterr().err
    assert "TimeLimitError" in error
    assert error.endswith("hwloop replay: run.hwlog: 3 outputs, all as recorded\n")


def test_a_difference_is_named_and_sets_the_status(capsys):
    record("lamp.py", "--", "4")
    change_program("lamp.set(1 - edge.value)", "lamp.set(1 - edge.value if count != 2 else 0)")
    capsys.readouterr()
    assert main(["replay", "run.hwlog"]) == 1
    assert capsys.readouterr().err == (
        "hwloop replay: run.hwlog: the program did not do what was recorded:\n"
        "  line 27, event 7, 2.000000 s: recorded: the program drove it to 1; now: the program did not do it "
        "(and 1 more)\n"
    )


def test_another_end_is_a_difference(capsys):
    record("lamp.py", "--", "4")
    change_program("return 0", "return 3")
    capsys.readouterr()
    assert main(["replay", "run.hwlog"]) == 1
    assert "the end: the program ended with status 0, and now it ended with status 3" in capsys.readouterr().err


def test_a_program_that_goes_on_is_stopped_and_named(capsys):
    record("lamp.py", "--", "4")
    capsys.readouterr()
    assert main(["replay", "run.hwlog", "--", "5"]) == 1
    error = capsys.readouterr().err
    assert "the end: the program ended after 2.200000 s, and now it goes on" in error


DEADLOCK = """
import asyncio, hwloop
from hwloop import gpio

async def main():
    async with gpio.output(22) as first, gpio.output(27, initial=1, safe=0), gpio.watch(18) as door:
        for _ in range(3):
            await asyncio.sleep(0.25)
            first.toggle()
        try:
            await anext(door)
        finally:
            first.off()
            await asyncio.sleep(1.5)
            first.on()

hwloop.run(main())
"""


QUIET = '[[device]]\ntype = "button"\nline = 17\n'
SILENT = """
from dataclasses import dataclass
from firmware_sim.device import Device

@dataclass
class Silent(Device):
    def attach(self, board):
        board.timeline.after(20, lambda: None)
"""


@pytest.mark.parametrize(("part", "waits"), [("", 10.24), ('[[device]]\ntype = "silent:Silent"\n', 20.0)])
def test_a_program_that_nothing_could_wake_ends_so_again(capsys, monkeypatch, tmp_path, part, waits):
    Path("lamp.py").write_text(DEADLOCK)
    Path("silent.py").write_text(SILENT)
    monkeypatch.syspath_prepend(tmp_path)
    Path("board.toml").write_text(QUIET + part)
    record("lamp.py", status=1)
    [run] = recording.read("run.hwlog")
    times = [round((event.when_ns - run.header.start_ns) / 1e9, 6) for event in run]
    assert times == [0, 0.25, 0.5, 0.75, waits, waits + 1.5, waits + 1.5, waits + 1.5]
    capsys.readouterr()
    status = main(["replay", "run.hwlog"])
    error = capsys.readouterr().err
    assert f"nothing can ever wake this program (virtual time {1 + waits:.6f} s)" in error
    assert (status, error.splitlines()[-1]) == (0, "hwloop replay: run.hwlog: 7 outputs, all as recorded")


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("await anext(door)", "await asyncio.sleep(60)", "line 22, event 5, 10.240000 s"),
        ("first.on()", "await asyncio.sleep(60)", "the end: the program ended after 11.740000 s, and now it goes on"),
        ("range(3)", "range(2)", "line 22, event 4, 0.750000 s"),
    ],
)
def test_a_program_that_something_wakes_now_is_stopped_and_named(capsys, before, after, difference):
    Path("lamp.py").write_text(DEADLOCK)
    Path("board.toml").write_text(QUIET)
    record("lamp.py", status=1)
    change_program(before, after)
    capsys.readouterr()
    assert main(["replay", "run.hwlog"]) == 1
    assert difference in capsys.readouterr().err


def test_inputs_only_runs_a_changed_program_and_compares_nothing(capsys):
    record("lamp.py", "--", "4")
    change_program("lamp.set(1 - edge.value)", "print(edge.value, edge.timestamp_ns / 1e9)")
    change_program("return 0", "return 5")
    capsys.readouterr()
    assert main(["replay", "run.hwlog", "--inputs-only"]) == 5
    assert capsys.readouterr().out == "0 2.0\n1 2.2\n0 3.0\n1 3.2\n"


def test_a_killed_programs_recording_is_replayed_up_to_its_end(capsys):
    record("lamp.py", "--", "6")
    content = Path("run.hwlog").read_bytes()
    [run] = recording.read("run.hwlog")
    assert len(list(run)) > 10
    Path("run.hwlog").write_bytes(content[: run.end_offset - 60])
    capsys.readouterr()
    assert main(["replay", "run.hwlog"]) == 0
    assert re.fullmatch(r"hwloop replay: run.hwlog: \d outputs, all as recorded\n", capsys.readouterr().err)


def test_a_ring_that_has_lost_the_beginning_can_only_feed_its_inputs(capsys, monkeypatch):
    from hwloop.recording import ring

    monkeypatch.setattr(ring, "SEGMENT", 1024)
    monkeypatch.setattr(ring, "SMALLEST", 4096)
    run = ["run", "lamp.py", "--board", "board.toml", "--clock", "virtual", "--recorder", "flight.ring,4K"]
    assert main([*run, "--", "100"]) == 0
    capsys.readouterr()
    assert main(["replay", "flight.ring"]) == 1
    assert "the beginning of the run has been overwritten" in capsys.readouterr().err
    assert main(["replay", "flight.ring", "--inputs-only", "--", "10"]) == 0
    os.unlink("flight.ring")
    assert main([*run, "--", "10"]) == 0
    assert main(["replay", "flight.ring"]) == 0


SERVICE = """
import asyncio
from hwloop import gpio

async def main():
    try:
        async with gpio.watch(18, pull="up") as door, gpio.output(27, initial=1, safe=0) as lamp:
            print("ready", flush=True)
            async for edge in door:
                lamp.set(edge.value)
    finally:
        async with gpio.output(25, initial=1):
            pass
"""


def test_a_service_is_stopped_by_the_signal_that_was_recorded(capsys):
    Path("service.py").write_text(SERVICE)
    command = [sys.executable, "-m", "hwloop", "record", "--out", "run.hwlog", "service.py", "--board", "board.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    for options in ([], ["--realtime"]):
        assert main(["replay", "run.hwlog", *options]) == 0
        assert capsys.readouterr().err == "hwloop replay: run.hwlog: 4 outputs, all as recorded\n"
    text = Path("service.py").read_text().replace("gpio.output(25, initial=1)", "gpio.output(26, initial=1)")
    Path("service.py").write_text(text)
    assert main(["replay", "run.hwlog"]) == 1
    assert "line 25, event" in capsys.readouterr().err


def test_a_script_is_replayed_in_real_time_only(capsys):
    Path("script.py").write_text(
        "from time import sleep\nfrom gpiozero import LED\n"
        "lamp = LED(27)\nfor _ in range(3):\n    lamp.toggle()\n    sleep(0.02)\nlamp.close()\n"
    )
    assert main(["record", "--out", "run.hwlog", "--board", "board.toml", "script.py"]) == 0
    capsys.readouterr()
    assert main(["replay", "run.hwlog"]) == 2
    assert "a script can't be replayed in virtual time" in capsys.readouterr().err
    assert main(["replay", "run.hwlog", "--realtime"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["replay"], 2, "required: FILE"),
        (["replay", "missing"], 1, "missing: no such file or directory"),
        (["replay", "board.toml", "lamp.py"], 1, "board.toml: not a recording"),
        (["replay", "run.hwlog", "missing.py"], 2, "missing.py"),
        (["replay", "run.hwlog", "lamp.py", "-m", "lamp"], 2, "give one program"),
        (["replay", "run.hwlog", "--run", "2"], 2, "there is no run 2; the recording has 1"),
        (["replay", "run.hwlog", "--tolerance", "-1"], 2, "a tolerance is a number of seconds from 0 on"),
        (["replay", "run.hwlog", "--tolerance", "nan"], 2, "a tolerance is a number of seconds from 0 on"),
        (["replay", "run.hwlog", "--realtime", "--seed", "3"], 2, "--seed and --limit are for virtual time"),
        (["replay", "run.hwlog", "--board", "sim"], 2, "unrecognized arguments: --board"),
    ],
)
def test_wrong_arguments_are_errors_with_advice(capsys, arguments, status, message):
    record("lamp.py", "--", "2")
    capsys.readouterr()
    assert main(arguments) == status
    assert message in capsys.readouterr().err


def test_a_recording_without_a_program_needs_one(capsys):
    recording.Recorder(recording.RecordingFile("empty.hwlog")).close()
    assert main(["replay", "empty.hwlog"]) == 2
    assert "the recording does not name its program; give its path" in capsys.readouterr().err
    Path("nothing.py").write_text("async def main():\n    print('nothing')\n")
    assert main(["replay", "empty.hwlog", "nothing.py"]) == 0


def test_bytes_and_transfers_without_a_device_are_recorded_and_replayed(capsys):
    Path("board.toml").write_text('[[port]]\nname = "/dev/ttyUSB0"\n')
    Path("alone.py").write_text(
        "import hwloop\n"
        "from hwloop import i2c, serial, spi\n"
        "async def main():\n"
        "    async with serial.open('/dev/ttyUSB0', 9600) as port, i2c.open(1) as bus, spi.open(0, 1) as device:\n"
        "        port.write(b'hello')\n"
        "        await port.flush()\n"
        "        await device.transfer(b'abc')\n"
        "        try:\n"
        "            await bus.device(0x48).read(1)\n"
        "        except OSError:\n"
        "            pass\n"
    )
    record("alone.py")
    capsys.readouterr()
    assert main(["log", "run.hwlog"]) == 0
    log = capsys.readouterr().out
    for event in ("/dev/ttyUSB0 sent 'hello'", "spi 0.1 w 61 62 63", "i2c 1 0x48 r EREMOTEIO"):
        assert event in log
    assert main(["replay", "run.hwlog"]) == 0
    assert capsys.readouterr().err == "hwloop replay: run.hwlog: 3 outputs, all as recorded\n"
