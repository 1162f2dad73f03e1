"""The guardian and its program, in every order of dying; the lines are those of a simulated board in a file."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwloop.cli import main
from hwloop.service import guard_door, guardian

ROOT = Path(__file__).parents[1]
UNTOUCHED, LOW, HIGH = 0, 1, 2
"""The level that a line drives, in the file of the simulated lines: see `firmware_sim.surviving_lines`."""
PREAMBLE = """
import asyncio, os, signal, sys, threading, time
import hwloop
from hwloop import gpio
from hwloop import output_reports
from firmware_sim import SimBoard
"""


class Run:
    """A guardian, its program, and the lines of the simulated board that both have.

    Attributes:
        guardian: the process.
    """

    def __init__(
        self, directory: Path, source: str, *arguments: str, options: tuple[str, ...], **settings: Any
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._lines = directory / "lines"
        self._lines.write_bytes(bytes(54))
        program = [sys.executable, "-c", PREAMBLE + textwrap.dedent(source), *arguments]
        command = settings.pop("command", [sys.executable, "-m", "hwloop"])
        environment = {"HWLOOP_SIM_LINES": str(self._lines), **settings.pop("environment", {})}
        self.guardian = subprocess.Popen(
            [*command, "guard", *options, "--", *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=settings.pop("stderr", subprocess.PIPE),
            cwd=directory,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            **settings,
        )
        self.killed: list[int] = []

    def heard(self) -> str:
        """The next line of the program."""
        assert self.guardian.stdout is not None
        return self.guardian.stdout.readline().rstrip("\n")

    def answer(self) -> None:
        """Let a program that waits for a line go on."""
        assert self.guardian.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.guardian.stdin.write("\n")
            self.guardian.stdin.flush()

    def children(self) -> str:
        """The process of the program."""
        return Path(f"/proc/{self.guardian.pid}/task/{self.guardian.pid}/children").read_text()

    def end(self) -> tuple[int, str, str]:
        """The guardian's status, and what it and the program have printed."""
        output, errors = self.guardian.communicate(timeout=60)
        return self.guardian.returncode, output, errors or ""

    def level(self, line: int = 27) -> int:
        return self._lines.read_bytes()[line]


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(source, *arguments, options=(...))` runs a program under a guardian."""
    runs: list[Run] = []

    def start(source: str, *arguments: str, options: tuple[str, ...] = ("--hold", "0"), **settings: Any) -> Run:
        runs.append(Run(tmp_path / str(len(runs)), source, *arguments, options=options, **settings))
        return runs[-1]

    yield start
    for run in runs:
        if run.guardian.poll() is None:
            run.guardian.kill()
            run.guardian.wait()
        for stream in (run.guardian.stdin, run.guardian.stdout, run.guardian.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


# Every step of the program, and every fault of either side.

STEPS = ["start", "reported", "driven", "safe", "closed", "end"]
STEPWISE = """
wanted = sys.argv[1]
def step(name):
    if name == wanted:
        print(os.getpid(), flush=True)
        sys.stdin.readline()
opened = output_reports.OutputReport.opening
closed = output_reports.OutputReport.closed
def report_opening(*arguments):
    step("start"); opened(*arguments); step("reported")
def report_closed(self):
    step("safe"); closed(self); step("closed")
output_reports.OutputReport.opening = report_opening
output_reports.OutputReport.closed = report_closed
async def main():
    async with gpio.output(27, initial=1, safe=0):
        step("driven")
        await asyncio.sleep(0.01)
    step("end")
    print("done", flush=True)
hwloop.run(main(), board=SimBoard())
"""


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stop_for_a_while(pid: int) -> None:
    """Longer than the guardian would wait."""
    os.kill(pid, signal.SIGSTOP)
    while not stopped(pid):
        time.sleep(0.001)
    time.sleep(1.4)
    os.kill(pid, signal.SIGCONT)


def at_every_step(start: Start, fault: Callable[[Run, int], object], **settings: Any) -> dict[str, Run]:
    """Runs, with `fault(run, pid of the program)` at another step in each."""
    runs = {step: start(STEPWISE, step, **settings) for step in STEPS}
    programs = {step: int(run.heard()) for step, run in runs.items()}
    for step, run in runs.items():
        fault(run, programs[step])
    return runs


@pytest.mark.slow
def test_a_program_that_is_killed_at_any_step_leaves_its_line_safe(start: Start) -> None:
    for step, run in at_every_step(start, lambda run, pid: os.kill(pid, signal.SIGKILL)).items():
        status, output, errors = run.end()
        assert (status, output) == (128 + signal.SIGKILL, ""), step
        assert run.level() == (UNTOUCHED if step == "start" else LOW), step
        left = step in ("reported", "driven", "safe")
        assert ("was killed by SIGKILL and left outputs open" in errors) is left, step
        assert ("line 27 is at its safe level 0 (simulated)" in errors) is left, step


@pytest.mark.slow
def test_a_guardian_that_is_killed_at_any_step_does_not_take_the_program_along(start: Start) -> None:
    for step, run in at_every_step(start, lambda run, pid: (run.guardian.kill(), run.guardian.wait())).items():
        run.answer()
        assert run.heard() == "done", step
        assert run.level() == LOW, step
        assert run.guardian.stderr is not None
        errors = run.guardian.stderr.read()
        assert ("the guardian can't be reached" in errors) is (step == "start"), (step, errors)
        assert ("the guardian has ended" in errors) is (step in ("reported", "driven", "safe")), (step, errors)


@pytest.mark.slow
def test_sigterm_for_the_guardian_at_any_step_ends_the_program_and_leaves_its_line_safe(start: Start) -> None:
    for step, run in at_every_step(start, lambda run, pid: (run.guardian.terminate(), run.guardian.wait())).items():
        status, output, _ = run.end()
        assert (status, output) == (-signal.SIGTERM, ""), step
        assert run.level() == (UNTOUCHED if step == "start" else LOW), step


@pytest.mark.slow
def test_a_program_that_is_stopped_for_a_while_at_any_step_goes_on(start: Start) -> None:
    for step, run in at_every_step(start, lambda run, pid: os.kill(pid, signal.SIGSTOP)).items():
        run.answer()
        os.kill(int(run.children()), signal.SIGCONT)
        assert run.end() == (0, "done\n", ""), step
        assert run.level() == LOW, step


@pytest.mark.slow
def test_a_guardian_that_is_stopped_for_a_while_at_any_step_hears_everything_afterwards(start: Start) -> None:
    runs = at_every_step(start, lambda run, pid: os.kill(run.guardian.pid, signal.SIGSTOP))
    for step, run in runs.items():
        run.answer()
        assert run.heard() == "done", step
        os.kill(run.guardian.pid, signal.SIGCONT)
        assert run.end() == (0, "", ""), step
        assert run.level() == LOW, step


@pytest.mark.parametrize("stopped", ["the guardian", "both"])
@pytest.mark.slow
def test_a_guardian_that_was_stopped_for_a_while_kills_nobody_for_what_it_has_not_heard(
    start: Start, stopped: str
) -> None:
    run = start(
        """
        async def main():
            async with gpio.output(27, initial=1, safe=0):
                print(os.getpid(), flush=True)
                await asyncio.sleep(3.5)
        hwloop.run(main(), board=SimBoard())
        """,
        options=("--hold", "0", "--stall", "1"),
    )
    pid = int(run.heard())
    if stopped == "both":
        os.kill(pid, signal.SIGSTOP)
    stop_for_a_while(run.guardian.pid)
    os.kill(pid, signal.SIGCONT)
    assert (run.end(), run.level()) == ((0, "", ""), LOW)


@pytest.mark.parametrize("lost", ["closed", "full disk", "nobody reads"])
@pytest.mark.slow
def test_whatever_becomes_of_standard_error_the_line_is_driven(start: Start, lost: str) -> None:
    reader, writer = os.pipe()
    if lost == "closed":
        os.close(reader)
    elif lost == "full disk":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(65536))
        os.set_blocking(writer, True)
    run = start(STEPWISE, "driven", stderr=writer)
    hangs = start(HANGS, options=("--hold", "0", "--stall", "0.3"), stderr=writer)
    os.kill(int(run.heard()), signal.SIGKILL)
    assert run.end()[0] == hangs.end()[0] == 128 + signal.SIGKILL
    assert run.level() == hangs.level() == LOW
    os.close(writer)
    if lost != "closed":
        os.close(reader)


HANGS = """
async def main():
    async with gpio.output(27, initial=1, safe=0):
        time.sleep(60)
hwloop.run(main(), board=SimBoard())
"""


def test_a_full_disk_is_reported_and_the_program_goes_on_guarded(start: Start) -> None:
    """It reports the record; the guardian has heard of the output all the same."""
    no_room = STEPWISE.replace(
        "hwloop.run(main(), board=SimBoard())",
        "import resource; sim = SimBoard(); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "hwloop.run(main(), board=sim)",
    )
    environment = {"HWLOOP_GUARD_FILE": "record"}
    run = start(no_room, "driven", environment=environment)
    goes_on = start(no_room, "closed", environment=environment)
    os.kill(int(run.heard()), signal.SIGKILL)
    goes_on.heard()
    goes_on.answer()
    assert (run.end()[0], run.level()) == (128 + signal.SIGKILL, LOW)
    status, output, errors = goes_on.end()
    assert (status, output, goes_on.level()) == (0, "done\n", LOW)
    assert "record can't be written (File too large): if this process is killed" in errors
    assert list(goes_on.directory.iterdir()) == [goes_on.directory / "lines"]


# The guardian's own steps.

GUARDIAN = """
import os, signal, subprocess, sys
sys.argv[0] = "hwloop"
from hwloop.service import guard_door, guardian
wanted, number = sys.argv.pop(1), int(sys.argv.pop(1))
def at(name):
    if name == wanted:
        signal.raise_signal(number)
popen, watch = subprocess.Popen, guardian.Guardian._watch
drive, report = guardian.AbandonedOutputs.drive, guardian.AbandonedOutputs.report
def start(*args, **options):
    at("before the start"); process = popen(*args, **options); at("after the start"); return process
def watching(self, *args):
    at("before watching"); watch(self, *args); at("after watching")
def driving(self):
    if self.waiting: at("before driving")
    waited = self.waiting
    drive(self)
    if waited: at("after driving")
guardian.subprocess.Popen = start
guardian.Guardian._watch = watching
guardian.AbandonedOutputs.drive = driving
from hwloop.cli import script
script()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.slow
def test_a_signal_at_any_step_of_the_guardian_orphans_no_program_and_loses_no_output(
    start: Start, number: signal.Signals
) -> None:
    steps = ["before the start", "after the start", "before watching", "before driving", "after driving"]
    runs = {
        step: start(
            "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
            + STEPWISE.replace("sys.stdin.readline()", "time.sleep(30)")
            if "driving" not in step
            else STEPWISE.replace("sys.stdin.readline()", "os.kill(os.getpid(), 9)"),
            "driven",
            command=[sys.executable, "-c", GUARDIAN, step, str(int(number))],
            options=("--hold", "0"),
        )
        for step in steps
    }
    for step, run in runs.items():
        status, _, errors = run.end()
        if "driving" in step:
            assert status == 128 + signal.SIGKILL, (step, errors)
            assert run.level() == LOW, step
        else:
            expected = -number if number != signal.SIGUSR1 else 128 + number
            assert status == expected, (step, errors)
            assert run.level() in (UNTOUCHED, LOW), step


PREPARED = """
import sys
sys.argv[0] = "hwloop"
from firmware_sim import board  # of the program's lines
from hwloop.service.abandoned_outputs import AbandonedOutputs
def load(self):
    print("loaded", file=sys.stderr, flush=True)
    if sys.argv[-1] == "fails": raise board.HardwareError("import gpiod", "it is not installed", "install it")
    if sys.argv[-1] == "is broken": raise RuntimeError("a board of another package")
drive = AbandonedOutputs.drive
def driving(self):
    if self.waiting: print("drives", file=sys.stderr, flush=True)
    drive(self)
board.SimBoard.load = load
AbandonedOutputs.drive = driving
from hwloop.cli import script
script()
"""


@pytest.mark.parametrize("outcome", ["works", "fails", "is broken"])
def test_a_guardian_loads_what_its_lines_need_before_it_must_drive_them(start: Start, outcome: str) -> None:
    source = """
    async def main():
        async with gpio.output(27, safe=0) as lamp:
            lamp.on()
            print(os.getpid(), flush=True)
            await asyncio.sleep(1e3)
    hwloop.run(main(), board=SimBoard())
    """
    run = start(source, outcome, command=[sys.executable, "-c", PREPARED])
    pid = int(run.heard())
    assert run.guardian.stderr is not None
    assert select.select([run.guardian.stderr], [], [], 30)[0], "nothing was loaded"
    before = run.guardian.stderr.readline()
    os.kill(pid, signal.SIGKILL)
    status, _, errors = run.end()
    assert (before, errors.splitlines()[0]) == ("loaded\n", "drives")
    assert (status, run.level()) == (128 + signal.SIGKILL, LOW)


def test_a_guardian_that_fails_inside_waits_for_its_program_and_drives_all_the_same(start: Start) -> None:
    source = GUARDIAN.replace('at("before watching"); watch(self, *args)', "raise MemoryError")
    run = start(STEPWISE, "driven", command=[sys.executable, "-c", source, "-", "0"])
    os.kill(int(run.heard()), signal.SIGKILL)
    status, _, errors = run.end()
    assert (status, run.level()) == (1, LOW), errors


def test_without_a_place_for_its_socket_the_program_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def refuse(**options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(guard_door.tempfile, "TemporaryDirectory", refuse)
    assert main(["guard", "--", "touch", str(tmp_path / "started")]) == 1
    assert "the guardian's socket: it can't be made" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Loops, and what a sign of life is asked of.


@pytest.mark.slow
def test_a_loop_that_hangs_with_open_outputs_is_killed(start: Start) -> None:
    asyncios = HANGS.replace(
        "hwloop.run(main(), board=SimBoard())",
        """
from hwloop import board
with SimBoard() as sim, board.using(sim):
    asyncio.run(main())
""",
    )
    opened_before = """
relay = gpio.output(27, initial=1, safe=0)
from hwloop import board
async def main():
    time.sleep(60)
with SimBoard() as sim, board.using(sim):
    relay.open()
    hwloop.run(main())
"""
    in_a_thread = """
async def hang():
    relay.on()
    time.sleep(60)
async def main():
    global relay
    async with gpio.output(27, safe=0) as relay:
        await asyncio.to_thread(asyncio.Runner(loop_factory=hwloop.new_event_loop).run, hang())
hwloop.run(main(), board=SimBoard())
"""
    sources = [HANGS, asyncios, opened_before, in_a_thread]
    runs = [start(source, options=("--hold", "0", "--stall", "0.4")) for source in sources]
    for source, run in zip(sources, runs, strict=True):
        status, _, errors = run.end()
        assert (status, run.level()) == (128 + signal.SIGKILL, LOW), (source, errors)
        assert "no sign of life for 0.4 s: killing process" in errors, source


@pytest.mark.slow
def test_a_program_whose_loops_do_their_work_is_left_alone(start: Start) -> None:
    """Each of these goes on for three times as long as a loop may be silent."""
    first_loop_ended = """
relay = gpio.output(27, initial=1, safe=0)
async def set_up(): relay.open()
async def work(): await asyncio.sleep(3)
from hwloop import board
with SimBoard() as sim, board.using(sim):
    {first}(set_up())
    {second}(work())
    time.sleep(1.5)
    relay.close()
"""
    idle = """
async def main():
    async with gpio.output(27, initial=1, safe=0):
        await asyncio.sleep(3)
hwloop.run(main(), board=SimBoard())
"""
    without_a_loop = """
from hwloop import board
with SimBoard() as sim, board.using(sim), gpio.output(27, initial=1, safe=0):
    time.sleep(3)
"""
    other_thread_ended = """
async def use(): relay.on(); await asyncio.sleep(0)
async def main():
    global relay
    async with gpio.output(27, safe=0) as relay:
        await asyncio.to_thread(asyncio.Runner(loop_factory=hwloop.new_event_loop).run, use())
        await asyncio.sleep(3)
hwloop.run(main(), board=SimBoard())
"""
    other_loop_without_outputs = """
async def hang(): time.sleep(3)
async def main():
    async with gpio.output(27, initial=1, safe=0):
        await asyncio.to_thread(asyncio.Runner(loop_factory=hwloop.new_event_loop).run, hang())
hwloop.run(main(), board=SimBoard())
"""
    closed = """
async def main():
    async with gpio.output(27, initial=1, safe=0): pass
    time.sleep(3)
hwloop.run(main(), board=SimBoard())
"""
    virtual = """
async def main():
    async with gpio.output(27, initial=1, safe=0) as relay:
        relay.blink(1, 1)
        await asyncio.sleep(1000)
hwloop.run(main(), board={}, clock="virtual")
"""
    sources = [
        first_loop_ended.format(first="hwloop.run", second="hwloop.run"),
        first_loop_ended.format(first="asyncio.run", second="hwloop.run"),
        first_loop_ended.format(first="asyncio.run", second="asyncio.run"),
        *(idle, without_a_loop, other_thread_ended, other_loop_without_outputs, closed, virtual),
    ]
    runs = [start(source, options=("--hold", "0", "--stall", "1")) for source in sources]
    for source, run in zip(sources, runs, strict=True):
        status, _, errors = run.end()
        assert (status, run.level(), errors) == (0, LOW, ""), (source, errors)


# Processes of the program: each has its own connection, and its own record.

CHILD = """
async def child():
    async with gpio.output(5, initial=1, safe=0):
        pass
def work(): hwloop.run(child(), board=SimBoard(lines=os.environ["OTHER_LINES"]))
"""
PARENT = """
import subprocess
how = sys.argv[1]
async def main():
    async with gpio.output(27, initial=1, safe=0):
        if how == "fork":
            pid = os.fork()
            if pid == 0:
                from hwloop.core import registry as running
                running._loops.clear()
                asyncio._set_running_loop(None)
                try:
                    work()
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
        else:
            subprocess.run([sys.executable, "-c", os.environ["CHILD"]], check=True)
        print(os.getpid(), flush=True)
        sys.stdin.readline()
    print("done", flush=True)
hwloop.run(main(), board=SimBoard())
"""


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", ["fork", "subprocess"])
@pytest.mark.slow
def test_a_child_with_outputs_of_its_own_leaves_its_parents_report_and_record_alone(
    start: Start, tmp_path: Path, how: str
) -> None:
    lines = tmp_path / "other"
    lines.write_bytes(bytes(54))
    environment = {
        "OTHER_LINES": str(lines),
        "CHILD": PREAMBLE + CHILD + "work()",
        "HWLOOP_GUARD_FILE": "record",
    }
    run = start(CHILD + PARENT, how, environment=environment)
    pid = int(run.heard())
    assert lines.read_bytes()[5] == LOW
    record = json.loads((run.directory / "record").read_text())
    assert (record["pid"], [output["line"] for output in record["outputs"]]) == (pid, [27])
    assert {path.name for path in run.directory.iterdir()} == {"lines", "record"}
    os.kill(pid, signal.SIGKILL)
    assert run.end()[0] == 128 + signal.SIGKILL
    assert run.level() == LOW
    assert not (run.directory / "record").exists()  # there is nothing left to do after it


@pytest.mark.slow
def test_a_child_that_dies_has_its_line_driven_at_once_and_may_be_started_anew(start: Start) -> None:
    """The guardian holds the line meanwhile, and lets go of it for the new child."""
    run = start(
        """
        import subprocess
        child = PREAMBLE + '''
        async def main():
            async with gpio.output(27, initial=1, safe=0):
                print("on", flush=True)
                if sys.argv[1] == "dies": os.kill(os.getpid(), signal.SIGKILL)
        hwloop.run(main(), board=SimBoard())
        '''
        for end in ("dies", "ends"):
            print(subprocess.run([sys.executable, "-c", child, end]).returncode, flush=True)
            sys.stdin.readline()
        """.replace("PREAMBLE", repr(PREAMBLE)),
        options=(),
    )
    assert [run.heard(), run.heard()] == ["on", "-9"]
    give_up = time.monotonic() + 20
    while run.level() != LOW and time.monotonic() < give_up:
        time.sleep(0.01)
    assert run.level() == LOW
    run.answer()
    assert [run.heard(), run.heard()] == ["on", "0"]
    run.answer()
    status, _, errors = run.end()
    assert (status, run.level()) == (0, LOW)
    assert "has ended and left outputs open" in errors


def test_a_program_that_becomes_another_one_leaves_its_line_safe_and_is_guarded_again(start: Start) -> None:
    run = start(
        """
        async def main():
            relay = gpio.output(27, initial=1, safe=0).open()
            if sys.argv[1] == "again":
                print("again", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os.execv(sys.executable, [*sys.orig_argv[:-1], "again"])
        hwloop.run(main(), board=SimBoard())
        """,
        "first",
    )
    status, output, errors = run.end()
    assert (status, output, run.level()) == (128 + signal.SIGKILL, "again\n", LOW), errors
    assert "was killed by SIGKILL and left outputs open" in errors


@pytest.mark.parametrize("foreign", ["file", "socket", "pipe", "nothing", "no number"])
@pytest.mark.slow
def test_a_descriptor_that_is_not_the_guardians_is_left_alone(start: Start, foreign: str) -> None:
    run = start(
        """
        import socket
        number, foreign = int(os.environ["HWLOOP_GUARD_FD"]), sys.argv[1]
        data = open("data", "w+b"); ours = data.fileno()
        if foreign == "socket":
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours = here.fileno()
        elif foreign == "pipe":
            reader, ours = os.pipe()
        os.close(number)
        if foreign == "no number":
            os.environ["HWLOOP_GUARD_FD"] = "x"
        elif foreign != "nothing":
            os.dup2(ours, number)
        async def main():
            async with gpio.output(27, initial=1, safe=0):
                if foreign == "socket":
                    there.setblocking(False)
                    try: print("WRITTEN", there.recv(1000))
                    except BlockingIOError: pass
                os.kill(os.getpid(), signal.SIGKILL)
        hwloop.run(main(), board=SimBoard())
        """,
        foreign,
    )
    status, output, errors = run.end()
    assert (status, output) == (128 + signal.SIGKILL, "")
    assert (run.directory / "data").read_bytes() == b""
    if foreign == "no number":
        assert "the guardian can't be reached (HWLOOP_GUARD_FD='x' and" in errors
    else:
        assert run.level() == LOW, errors  # it has found the guardian's own


# Signals, statuses, and what else the command does.


def test_a_signal_goes_on_to_the_program_and_ends_the_holding(start: Start) -> None:
    source = """
        def end(number, frame):
            print("cleaned up", flush=True)
            os._exit(5)
        signal.signal(signal.SIGTERM, end)
        from hwloop import board
        with SimBoard() as sim, board.using(sim):
            gpio.output(27, initial=1, safe=0).open()
            print("open", flush=True)
            time.sleep(60)
        """
    run = start(source, options=())
    assert run.heard() == "open"
    run.guardian.terminate()
    status, output, _ = run.end()
    assert (status, output, run.level()) == (5, "cleaned up\n", LOW)


def test_lines_are_held_until_a_signal(start: Start) -> None:
    run = start(STEPWISE, "driven", options=())
    os.kill(int(run.heard()), signal.SIGKILL)
    assert run.guardian.stderr is not None
    for wanted in ("left outputs open", "line 27 is at its safe level 0 (simulated)", "held until this is stopped"):
        assert wanted in run.guardian.stderr.readline()
    assert run.guardian.poll() is None
    run.guardian.terminate()
    assert run.end()[0] == 128 + signal.SIGKILL


def test_a_program_that_knows_nothing_of_it_just_runs(capfd: Any) -> None:
    assert guardian.Guardian(stall=10, hold=None).run(["sh", "-c", "echo here; exit 7"]) == 7
    assert capfd.readouterr() == ("here\n", "")


@pytest.mark.parametrize(
    ("end", "status"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -INT $$", 130)]
)
def test_the_status_is_the_programs(end: str, status: int) -> None:
    assert main(["guard", "--", "sh", "-c", end]) == status


def test_a_guardian_whose_program_died_of_sigterm_dies_of_it_too() -> None:
    command = [sys.executable, "-m", "hwloop", "guard", "--", "sh", "-c", "kill -TERM $$"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30)
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "no program to run; write it after '--'"),
        (["--", "/no/such/program"], 2, "/no/such/program: no such file or directory"),
        (["--", "/etc/passwd"], 2, "/etc/passwd: permission denied"),
        (["--hold", "-1", "--", "true"], 2, "--hold must be from 0 to 1e+09, not -1.0"),
        (["--stall", "nan", "--", "true"], 2, "--stall must be from 0.05 to 1e+09, not nan"),
        (["--after", "FILE", "--", "true"], 2, "--after is for a program that has ended"),
        (["--after", "FILE"], 1, "is not a list of outputs"),
    ],
)
def test_wrong_arguments_are_reported(
    tmp_path: Path, capsys: Any, arguments: list[str], status: int, message: str
) -> None:
    file = tmp_path / "outputs"
    file.write_text("{'broken")
    assert main(["guard", *(str(file) if word == "FILE" else word for word in arguments)]) == status
    assert message in capsys.readouterr().err
