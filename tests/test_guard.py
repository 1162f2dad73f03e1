"""The guardian, with programs that die in every way; the lines it drives are those of a simulated board here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.lgpio_api import Lgpio
from hwloop import HardwareError, gpio, guard
from hwloop import board as boards
from hwloop.cli import Ended, main

ROOT = Path(__file__).parents[1]
PUMP = guard.Charge(27, 0, "push-pull", False, None)
VALVE = guard.Charge("GPIO22", 1, "push-pull", True, None)
PREAMBLE = """
    import os, signal, sys, time
    import hwloop
    from hwloop import guard
    pump = guard.Charge(27, 0, "push-pull", False, None)
    valve = guard.Charge("GPIO22", 1, "push-pull", True, None)
    outputs = guard.reporter()
    """


class SharedBoard(SimBoard):
    """As if another process could have its lines too."""

    shared = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimBoard]:
    """A board in use, on which pump and valve are driven to the opposite of safe by somebody who is gone."""
    monkeypatch.setattr(guard, "_reporter", None)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with SharedBoard() as board, boards.using(board):
        for line in (22, 27):
            board.chip.line(line).claim("a program", output=1)
            board.chip.line(line).release()
        yield board


def levels(board: SimBoard) -> tuple[int, int]:
    """Of pump and valve; electrical."""
    return board.chip.line(27).level, board.chip.line(22).level


def program(source: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(PREAMBLE) + textwrap.dedent(source)]


def guarded(source: str, *, stall: float = 10, hold: float | None = 0) -> int:
    return guard.Guardian(stall=stall, hold=hold).run(program(source))


LEFT_OPEN = 'outputs.opened("1", pump); outputs.opened("2", valve);'


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "was killed by SIGKILL and left outputs open"),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, "was killed by SIGTERM and left outputs open"),
        ("os._exit(3)", 3, "ended and left outputs open"),
        ("sys.exit(0)", 0, "ended and left outputs open"),
    ],
)
def test_what_a_program_leaves_open_goes_to_its_safe_level(
    board: SimBoard, capfd: Any, end: str, status: int, said: str
) -> None:
    assert guarded(LEFT_OPEN + end) == status
    assert levels(board) == (0, 0)
    assert board.chip.line(27).consumer is None
    errors = capfd.readouterr().err
    assert said in errors
    assert "line 27 is at its safe level 0\n" in errors
    assert "line GPIO22 is at its safe level 1\n" in errors


def test_what_a_program_has_closed_is_left_alone(board: SimBoard, capfd: Any) -> None:
    assert guarded(LEFT_OPEN + 'outputs.closed("1"); outputs.closed("2"); sys.exit(4)') == 4
    assert levels(board) == (1, 1)
    assert capfd.readouterr().err == ""


def test_a_program_that_knows_nothing_of_it_just_runs(board: SimBoard) -> None:
    assert guard.Guardian(stall=10, hold=None).run(["sh", "-c", "exit 7"]) == 7


def test_a_program_that_hangs_with_open_outputs_is_killed(board: SimBoard, capfd: Any) -> None:
    status = guarded(
        """
        async def main():
            outputs.opened("1", pump)
            time.sleep(60)
        hwloop.run(main())
        """,
        stall=0.2,
    )
    assert (status, levels(board)) == (-signal.SIGKILL, (0, 1))
    assert "no sign of life for 0.2 s: killing process" in capfd.readouterr().err


@pytest.mark.parametrize(
    "source",
    [
        "time.sleep(0.3)",  # no loop ever ran: there is nothing to expect
        """
        async def main():
            outputs.opened("3", pump)
            outputs.closed("3")
        outputs.closed("1"), outputs.closed("2")
        hwloop.run(main())
        time.sleep(0.3)
        """,
    ],
)
def test_without_a_loop_and_without_outputs_no_sign_of_life_is_asked_for(board: SimBoard, source: str) -> None:
    assert guarded(textwrap.dedent(LEFT_OPEN) + "\n" + textwrap.dedent(source), stall=0.1) == 0


def test_a_guardian_that_was_stopped_itself_gives_the_program_time(board: SimBoard, tmp_path: Path) -> None:
    source = """
        async def main():
            outputs.opened("1", pump)
        hwloop.run(main())
        time.sleep(0.1)
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(1.2)
        os.kill(os.getppid(), signal.SIGCONT)
        time.sleep(0.1)
        outputs.closed("1")
        """
    command = [sys.executable, "-m", "hwloop", "guard", "--stall", "0.5", "--", *program(source)]
    assert subprocess.run(command, timeout=30).returncode == 0


def test_lines_are_held_until_a_signal_or_for_a_time(board: SimBoard, capsys: Any) -> None:
    held: list[str | None] = []

    def stop() -> None:
        held.append(board.chip.line(27).consumer)
        os.eventfd_write(wake, 1)

    wake = os.eventfd(0)
    board.timeline.after(0.05, stop)
    guard.drive([PUMP], None, wake)
    assert (held, board.chip.line(27).consumer) == (["lg"], None)
    os.eventfd_read(wake)
    guard.drive([PUMP], 0.01, wake)
    os.close(wake)
    errors = capsys.readouterr().err
    assert "hwloop guard: held until this is stopped\n" in errors
    assert "hwloop guard: held for 0.01 s\n" in errors


def test_a_signal_goes_on_to_the_program_and_ends_the_holding(board: SimBoard) -> None:
    status = guarded(
        LEFT_OPEN
        + """
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(5))
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(30)
        """.replace("\n        ", "\n"),
        hold=None,
    )
    assert (status, levels(board)) == (5, (0, 0))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_line_that_somebody_has_for_a_moment_is_tried_again(board: SimBoard) -> None:
    other = Lgpio(board.chip)
    handle = other.gpiochip_open(0)
    other.gpio_claim_output(handle, 27, 1)
    board.timeline.after(0.1, lambda: other.gpio_free(handle, 27))
    wake = os.eventfd(0)
    guard.drive([PUMP, VALVE], 0, wake)
    os.close(wake)
    other.close()
    assert levels(board) == (0, 0)


def test_a_line_that_can_not_be_had_does_not_keep_the_others_from_it(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.0)
    board.chip.line(27).claim("somebody else")
    wake = os.eventfd(0)
    with pytest.raises(HardwareError, match="line 27: in use by another process"):
        guard.drive([PUMP, VALVE], 0, wake)
    assert levels(board)[1] == 0
    with pytest.raises(ExceptionGroup, match="could not be driven to their safe level"):
        guard.drive([PUMP, PUMP._replace(line=54)], None, wake)  # and nothing is held, for there is nothing to hold
    os.close(wake)


# What a program tells.


@pytest.fixture
def ears(board: SimBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Any]]]:
    """In place of a guardian: gives what this process has told it since."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setenv(guard.CHANNEL, str(theirs.detach()))
    monkeypatch.setenv(guard.STALL, "3")

    def heard() -> list[Any]:
        messages = []
        while True:
            try:
                messages.append(json.loads(ours.recv(4096)))
            except BlockingIOError:
                return messages

    yield heard
    ours.close()
    told = guard._reporter
    assert told is not None
    told[1]._channel.close()  # type: ignore[union-attr]


def test_an_output_with_a_safe_level_is_told_before_it_is_driven(
    board: SimBoard, ears: Callable[[], list[Any]]
) -> None:
    early: list[int] = []
    board.chip.line(12).observe(lambda level, when_ns: early.append(len(ears())))
    with gpio.output(12, initial=1, safe=0):
        assert early == [1]
    with gpio.output("GPIO6", safe=1, active_low=True, chip="simulated-gpio"), gpio.output(7):
        (message,) = [each for each in ears() if each[0] == "open"]
    assert message[2:] == ["GPIO6", 1, "push-pull", True, "simulated-gpio"]
    assert ears() == [["close", message[1]]]


def test_an_output_that_can_not_be_opened_is_taken_back(board: SimBoard, ears: Callable[[], list[Any]]) -> None:
    with pytest.raises(HardwareError):
        gpio.output("GPIO99", safe=0).open()
    assert [each[0] for each in ears()] == ["open", "close"]


def test_an_output_that_can_not_be_left_safe_is_left_to_the_guardian(
    board: SimBoard, ears: Callable[[], list[Any]]
) -> None:
    lamp = gpio.output(5, safe=0).open()
    device: Any = lamp._device
    device.close()
    with pytest.raises(HardwareError):
        lamp.close()
    assert [each[0] for each in ears()] == ["open"]


def test_a_loop_shows_that_it_is_alive_while_outputs_are_open(
    board: SimBoard, ears: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In virtual time: no other loop has this clock."""

    async def main() -> None:
        reporter = guard.reporter()
        assert reporter is not None
        reporter.opened("1", PUMP)
        reporter.opened("2", VALVE)
        await asyncio.sleep(4.5)
        reporter.closed("2")
        await asyncio.sleep(1)
        reporter.closed("1")
        await asyncio.sleep(10)

    hwloop.run(main(), clock="virtual")
    kinds = [each[0] for each in ears()]
    assert kinds == ["open", "beat", "open", "beat", "beat", "beat", "beat", "close", "beat", "close"]


def test_a_guardian_that_is_gone_is_told_once_and_the_program_goes_on(board: SimBoard, caplog: Any) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    reporter = guard.Reporter({guard.CHANNEL: str(theirs.detach())})
    reporter.opened("1", PUMP)
    reporter.closed("1")
    assert [record.message for record in caplog.records] == [
        "the guardian does not hear us, and will not see to the outputs: Broken pipe (reported once)"
    ]
    reporter._channel.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["no number", "987654", "0"])
def test_a_descriptor_that_is_no_socket_is_told(board: SimBoard, caplog: Any, number: str) -> None:
    with open(os.devnull) as null:
        reporter = guard.Reporter({guard.CHANNEL: str(null.fileno()) if number == "0" else number})
        reporter.opened("1", PUMP)
    assert "is no socket: the guardian will not see to the outputs" in caplog.text


def test_a_forked_child_tells_nothing(board: SimBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.RECORD, str(tmp_path / "outputs"))
    with gpio.output(5, safe=0) as output:
        child = os.fork()
        if child == 0:
            output._report_closed()
            os._exit(0)
        os.waitpid(child, 0)
        assert json.loads((tmp_path / "outputs").read_text()) == [[5, 0, "push-pull", False, None]]


# The file.


def test_the_file_holds_what_is_open(board: SimBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outputs"
    monkeypatch.setenv(guard.RECORD, str(path))
    with gpio.output(5, safe=0):
        with gpio.output(6, safe=1, drive="open-drain", active_low=True), gpio.output(7, initial=1):
            assert json.loads(path.read_text()) == [[5, 0, "push-pull", False, None], [6, 1, "open-drain", True, None]]
        assert json.loads(path.read_text()) == [[5, 0, "push-pull", False, None]]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_written_is_told_once(
    board: SimBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv(guard.RECORD, str(tmp_path / "missing" / "outputs"))
    with gpio.output(5, safe=0), gpio.output(6, safe=0):
        pass
    assert len(caplog.records) == 1
    assert "outputs can't be written, and will not see to the outputs: No such file" in caplog.text


def test_lines_of_a_simulated_board_are_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_reporter", None)
    monkeypatch.setenv(guard.RECORD, str(tmp_path / "outputs"))
    with SimBoard() as board, boards.using(board), gpio.output(5, safe=0):
        assert list(tmp_path.iterdir()) == []


def test_afterwards_what_the_file_holds_is_driven_and_the_file_removed(board: SimBoard, tmp_path: Path) -> None:
    path = tmp_path / "outputs"
    path.write_text(json.dumps([PUMP, VALVE]))
    assert main(["guard", "--after", str(path)]) == 0
    assert levels(board) == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert main(["guard", "--after", str(path)]) == 0  # nothing was left


def test_a_file_stays_until_its_outputs_are_safe(
    board: SimBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.0)
    path = tmp_path / "outputs"
    path.write_text(json.dumps([PUMP]))
    board.chip.line(27).claim("somebody else")
    assert main(["guard", "--after", str(path)]) == 1
    assert "line 27: in use by another process" in capsys.readouterr().err
    board.chip.line(27).release()
    assert main(["guard", "--after", str(path)]) == 0


# The command.


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "there is no program to run; write it after '--'"),
        (["--", "/no/such/program"], 2, "/no/such/program: no such file or directory"),
        (["--", "/etc/passwd"], 2, "/etc/passwd: permission denied"),
        (["--hold", "-1", "--", "true"], 2, "--hold must be from 0 to 1e+09, not -1.0"),
        (["--stall", "nan", "--", "true"], 2, "--stall must be from 0.05 to 1e+09, not nan"),
        (["--after", "FILE", "--", "true"], 2, "--after is for a program that has ended"),
        (["--after", "FILE"], 1, "is not a list of outputs"),
    ],
)
def test_wrong_calls_are_told(
    board: SimBoard, tmp_path: Path, capsys: Any, arguments: list[str], status: int, message: str
) -> None:
    file = tmp_path / "outputs"
    file.write_text("{'broken")
    assert main(["guard", *(str(file) if word == "FILE" else word for word in arguments)]) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "status"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -INT $$", 130)]
)
def test_the_status_is_the_programs(board: SimBoard, end: str, status: int) -> None:
    assert main(["guard", "--", "sh", "-c", end]) == status


def test_a_guardian_whose_program_died_of_sigterm_dies_of_it_too() -> None:
    command = [sys.executable, "-m", "hwloop", "guard", "--", "sh", "-c", "kill -TERM $$"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30)
    assert done.returncode == -signal.SIGTERM
    assert Ended(signal.SIGTERM).number == signal.SIGTERM
