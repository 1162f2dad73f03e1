"""Records of open outputs: their owners, the processes that may write and remove them, and `hwloop guard --after`."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwloop
from firmware_sim import SimBoard
from firmware_sim.libraries.lgpio.api import Lgpio
from hwloop import board as boards
from hwloop import gpio
from hwloop.cli import main
from hwloop.service import abandoned_outputs, guard, guard_records
from hwloop.service.guard_records import GuardedOutput, Owner, Record, State, decode

PUMP = GuardedOutput(27, 0, "push-pull", False, None)
VALVE = GuardedOutput("GPIO22", 1, "push-pull", True, None)


class SharedBoard(SimBoard):
    """As if another process could have its lines too."""

    shared = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimBoard]:
    """A board in use, on which pump and valve are driven to the opposite of safe by a process that is gone."""
    monkeypatch.setattr(guard, "_reporter", None)
    with SharedBoard() as board, boards.using(board):
        for line in (22, 27):
            board.chip.line(line).claim("a program", output=1)
            board.chip.line(line).release()
        yield board
    monkeypatch.setattr(guard, "_reporter", None)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process records its outputs."""
    monkeypatch.setenv(guard.RECORD, str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def us() -> Owner:
    owner = Owner.of(os.getpid())
    assert owner is not None
    return owner


def dead() -> Owner:
    """One whose number is in use again: ours."""
    return us()._replace(start=us().start - 1)


def levels(board: SimBoard) -> tuple[int, int]:
    """Of pump and valve; electrical."""
    return board.chip.line(27).level, board.chip.line(22).level


def recorded(path: Path) -> list[int | str]:
    return [output.line for output in guard_records.read(str(path)).outputs]


# Owners.


def test_an_owner_is_a_process_and_no_other_one_of_its_number() -> None:
    child = subprocess.Popen(["sleep", "60"])
    owner = Owner.of(child.pid)
    assert owner is not None
    assert owner.alive
    assert not owner._replace(start=owner.start - 1).alive
    assert not owner._replace(boot="another").alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not owner.alive  # though nobody has asked for its status yet
    child.wait()
    assert Owner.of(child.pid) is None


def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    """The name of a process stands in its stat file, before its start time."""
    program = tmp_path / ") R 1 2 (x"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "60"])
    owner = Owner.of(child.pid)
    assert owner is not None
    assert abs(owner.start - us().start) < 1e9
    assert owner.start >= us().start
    child.kill()
    child.wait()


# Documents.


@given(
    st.lists(
        st.builds(
            GuardedOutput,
            st.integers(0, 60) | st.text(min_size=1),
            st.sampled_from([0, 1]),
            st.sampled_from(["push-pull", "open-drain", "open-source"]),
            st.booleans(),
            st.none() | st.text(min_size=1),
            st.text(),
            st.none() | st.floats(0, 1e6),
            st.booleans(),
        ),
        max_size=5,
    ),
    st.dictionaries(st.text(), st.integers()),
)
def test_a_document_says_what_was_put_in(outputs: list[GuardedOutput], loops: dict[str, int]) -> None:
    state = State(Owner(7, 8, "nine"), tuple(outputs), loops)
    assert decode(state.encode()) == state


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"3",
        b"{}",
        b"\xff",
        b"[[27]]",
        b'[[27, 2, "push-pull", false, null]]',
        b'[[true, 0, "push-pull", false, null]]',
        b'{"version": 2}',
        b'{"version": 1, "pid": 1, "start": 1, "boot": "x"}',
        b'{"version": 1, "pid": 1, "start": 1, "boot": "x", "outputs": [{"line": 27}]}',
        b'{"version": 1, "pid": 1, "start": 1, "boot": "x", "outputs": [], "loops": 5}',
        b"[" * 100_000,
    ],
)
def test_an_invalid_document_is_rejected(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(document)


# Writing.


def test_the_record_holds_what_is_open(board: SimBoard, path: Path) -> None:
    with gpio.output(5, safe=0):
        with gpio.output(6, safe=1, drive="open-drain", active_low=True), gpio.output(7, initial=1):
            state = guard_records.read(str(path))
            assert state.owner == us()
            assert state.outputs == (
                GuardedOutput(5, 0, "push-pull", False, None),
                GuardedOutput(6, 1, "open-drain", True, None),
            )
        assert recorded(path) == [5]
        assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == []


def test_an_output_is_recorded_before_it_is_driven(board: SimBoard, path: Path) -> None:
    early: list[bool] = []
    board.chip.line(12).observe(lambda level, when_ns: early.append(path.exists()))
    with gpio.output(12, initial=1, safe=0):
        pass
    assert early == [True, True]  # and until it is safe


def test_an_output_that_can_not_be_opened_is_taken_back(board: SimBoard, path: Path) -> None:
    with pytest.raises(hwloop.HardwareError):
        gpio.output("GPIO99", safe=0).open()
    assert not path.exists()


def test_an_output_that_can_not_be_left_safe_stays_in_the_record(board: SimBoard, path: Path) -> None:
    lamp = gpio.output(5, safe=0).open()
    device: Any = lamp._device
    device.close()
    with pytest.raises(hwloop.HardwareError):
        lamp.close()
    assert recorded(path) == [5]


def test_a_record_of_another_process_is_never_written_or_removed(board: SimBoard, path: Path) -> None:
    """Be it alive, or dead and still to be seen to: this process's is beside it."""
    other = json.dumps([PUMP])
    path.write_text(other)
    with gpio.output(5, safe=0), gpio.output(6, safe=0):
        (beside,) = [each for each in path.parent.iterdir() if each != path]
        assert beside.name == f"outputs.{us().pid}-{us().start}"
        assert recorded(beside) == [5, 6]
        assert list(guard_records.records(str(path))) == [str(path), str(beside)]
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text() == other


def test_a_record_that_was_replaced_is_not_ours_any_more(board: SimBoard, path: Path) -> None:
    with gpio.output(5, safe=0):
        path.unlink()
        path.write_text(json.dumps([PUMP]))
        with gpio.output(6, safe=0):
            assert recorded(path) == [27]
            assert recorded(Path(f"{path}.{us().pid}-{us().start}")) == [5, 6]
    assert recorded(path) == [27]


@pytest.mark.parametrize("name", ["outputs", "outputs.{}-{}.new", "outputs.new"])
def test_links_are_not_followed(board: SimBoard, path: Path, name: str) -> None:
    victim = path.parent / "victim"
    victim.write_text("precious")
    trap = path.parent / name.format(us().pid, us().start)
    trap.symlink_to(victim)
    with gpio.output(5, safe=0):
        assert [PUMP._replace(line=5)] in [
            list(guard_records.read(each).outputs) for each in guard_records.records(str(path)) if Path(each) != trap
        ]
    assert victim.read_text() == "precious"
    if trap.is_symlink():
        with pytest.raises(ValueError, match="a link"):
            guard_records.read(str(trap))


def test_a_record_that_can_not_be_written_is_reported_once_and_again_after_it_could(
    board: SimBoard, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    directory = path.parent / "later"
    monkeypatch.setenv(guard.RECORD, str(directory / "outputs"))
    with gpio.output(5, safe=0), gpio.output(6, safe=0):
        assert len(caplog.records) == 1
        assert "outputs can't be written (No such file or directory): if this process is killed" in caplog.text
        directory.mkdir()
        with gpio.output(7, safe=0):
            assert recorded(directory / "outputs") == [5, 6, 7]
    assert list(directory.iterdir()) == []
    assert len(caplog.records) == 1


def test_a_file_system_without_links_does_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    record = Record(str(tmp_path / "outputs"), us())
    record.write((PUMP,))
    record.write((PUMP, VALVE))
    (found,) = guard_records.records(str(tmp_path / "outputs"))
    assert recorded(Path(found)) == [27, "GPIO22"]
    record.write(())
    assert list(tmp_path.iterdir()) == []


def test_lines_of_a_simulated_board_that_end_with_it_are_nobody_elses(path: Path) -> None:
    with SimBoard(lines="") as board, boards.using(board), gpio.output(5, safe=0):
        assert list(path.parent.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_threads_that_open_their_first_outputs_together_share_one_reporter(
    board: SimBoard, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    other = threading.Thread(target=lambda: found.append(guard.reporter()))

    class Slow(guard.Reporter):
        def __init__(self, environment: Any) -> None:
            super().__init__(environment)
            if other.ident is None:
                other.start()
                other.join(0.1)  # it has to wait for this one

    monkeypatch.setattr(guard, "Reporter", Slow)
    found.append(guard.reporter())
    other.join()
    assert found[0] is found[1]


def test_a_forked_child_has_no_record_of_its_parents(board: SimBoard, path: Path) -> None:
    with gpio.output(5, safe=0) as output:
        child = os.fork()
        if child == 0:
            try:
                output.close()
                gpio.make_safe()
                os._exit(0 if guard._reporter is None else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert recorded(path) == [5]


@pytest.mark.parametrize("stall", ["soon", "nan", "-1", "inf"])
def test_a_stall_time_that_is_none_is_reported_and_no_loop_is_watched(stall: str, caplog: Any) -> None:
    guard.Reporter({guard.STALL: stall})
    assert f"HWLOOP_GUARD_STALL='{stall}' is not a number of seconds" in caplog.text


# Afterwards.


def test_afterwards_what_the_dead_have_left_is_driven_and_their_records_removed(
    board: SimBoard, tmp_path: Path
) -> None:
    path = tmp_path / "outputs"
    path.write_bytes(State(dead(), (PUMP,), {}).encode())
    Path(f"{path}.1-1").write_bytes(State(Owner(1, 1, "an earlier boot"), (VALVE,), {}).encode())
    assert main(["guard", "--after", str(path)]) == 0
    assert levels(board) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert main(["guard", "--after", str(path)]) == 0  # nothing was left


def test_a_record_of_an_earlier_version_is_understood(board: SimBoard, tmp_path: Path) -> None:
    path = tmp_path / "outputs"
    path.write_text(json.dumps([PUMP[:5], VALVE[:5]]))
    assert main(["guard", "--after", str(path)]) == 0
    assert levels(board) == (0, 0)


def test_afterwards_the_outputs_of_the_living_are_left_alone(board: SimBoard, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "outputs"
    path.write_bytes(State(us(), (PUMP,), {}).encode())
    Path(f"{path}.1-1").write_bytes(State(dead(), (VALVE,), {}).encode())
    assert main(["guard", "--after", str(path)]) == 0
    assert levels(board) == (1, 0)
    assert list(tmp_path.iterdir()) == [path]
    assert f"process {os.getpid()} is running and has 1 output open, which stay as they are" in capfd.readouterr().err


def test_a_record_stays_until_its_outputs_are_safe(
    board: SimBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(abandoned_outputs, "PATIENCE", 0.0)
    path = tmp_path / "outputs"
    path.write_text(json.dumps([PUMP, VALVE]))
    board.chip.line(27).claim("somebody else")
    assert main(["guard", "--after", str(path)]) == 1
    errors = capfd.readouterr().err
    assert "line 27 could NOT be driven to its safe level 0: line 27: in use by another process" in errors
    assert "line GPIO22 is at its safe level 1" in errors  # whatever became of the other
    assert levels(board)[1] == 0
    board.chip.line(27).release()
    assert main(["guard", "--after", str(path)]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_somebody_has_for_a_moment_is_tried_again(board: SimBoard, tmp_path: Path) -> None:
    path = tmp_path / "outputs"
    path.write_text(json.dumps([PUMP, VALVE]))
    other = Lgpio(board.chip)
    handle = other.gpiochip_open(0)
    other.gpio_claim_output(handle, 27, 1)
    board.timeline.after(0.1, lambda: other.gpio_free(handle, 27))
    assert main(["guard", "--after", str(path)]) == 0
    other.close()
    assert levels(board) == (0, 0)


def test_one_file_that_is_no_record_does_not_keep_the_others_from_being_used(
    board: SimBoard, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "outputs"
    path.write_text("broken")
    Path(f"{path}.1-1").write_bytes(State(dead(), (PUMP,), {}).encode())
    Path(f"{path}.2-2").symlink_to("/etc/passwd")
    assert main(["guard", "--after", str(path)]) == 1
    assert levels(board)[0] == 0
    assert "outputs is not a list of outputs: " in capsys.readouterr().err
    assert not Path(f"{path}.1-1").exists()


@pytest.mark.parametrize(("kind", "reason"), [("link", "it is a link"), ("directory", "it is not a regular file")])
def test_a_record_that_is_not_a_file_is_named(tmp_path: Path, capsys: Any, kind: str, reason: str) -> None:
    path = tmp_path / "outputs"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    assert main(["guard", "--after", str(path)]) == 1
    assert f"{path} is not a list of outputs: {reason}" in capsys.readouterr().err


def test_a_killed_service_on_the_simulated_board_can_be_rehearsed(tmp_path: Path) -> None:
    """As a unit does it: a record, and `hwloop guard --after` in ExecStopPost=."""
    program = tmp_path / "pump.py"
    program.write_text(
        "import asyncio, os, signal\n"
        "from hwloop import gpio\n"
        "async def main():\n"
        "    async with gpio.output(27, initial=1, safe=0):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HWLOOP_BOARD": "sim",
        "HWLOOP_SIM_LINES": str(tmp_path / "lines"),
        "HWLOOP_GUARD_FILE": str(tmp_path / "outputs"),
    }
    hwloop_command = [sys.executable, "-m", "hwloop"]
    assert subprocess.run([*hwloop_command, "run", str(program)], env=environment).returncode == -signal.SIGKILL
    assert (tmp_path / "lines").read_bytes()[27] == 2
    after = subprocess.run(
        [*hwloop_command, "guard", "--after", str(tmp_path / "outputs")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (after.returncode, after.stderr) == (0, "hwloop guard: line 27 is at its safe level 0 (simulated)\n")
    assert (tmp_path / "lines").read_bytes()[27] == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_simulated_lines_survive_their_board(tmp_path: Path, in_child: Callable[[Callable[[], object]], None]) -> None:
    lines = str(tmp_path / "lines")
    with SimBoard(lines=lines) as board, boards.using(board):
        gpio.output(27, initial=1).open().close()
        gpio.output(5, initial=1, drive="open-drain").open().close()
        in_child(lambda: SimBoard(lines=lines).address == f"sim:{lines}" or sys.exit("not shared"))
        with SimBoard(lines=lines) as other:  # another chip of the same process has lines of its own
            assert (other.shared, other.chip.line(27).level) == (False, 0)
    with SimBoard(lines=lines) as board, boards.using(board):
        assert (board.shared, board.address) == (True, f"sim:{lines}")
        assert board.chip.line(27).level == 1
        before = board.chip.line(27).changes
        with gpio.output(27, initial=None) as relay:
            assert (relay.value, board.chip.line(27).changes) == (1, before)
        board.chip.line(5).drive(0)
        assert (board.chip.line(5).level, board.chip.short_circuits) == (0, 0)
    with SimBoard(lines="") as board:
        assert board.chip.line(27).level == 0
