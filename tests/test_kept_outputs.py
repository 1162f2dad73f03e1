"""Outputs that outlive their program: taken over from the last one, held by a guardian, driven to safe in the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.descriptors import descriptors
from firmware_sim.nodes import os_error
from firmware_sim.program_lines import NodeCalls
from hwloop import board as boards
from hwloop import gpio
from hwloop.board import OutputLine, OutputRequest
from hwloop.boards import line_request
from hwloop.boards.kernel_output import KernelOutput, adopt_output, claim_output
from hwloop.cli import main
from hwloop.service import guard, guard_link
from hwloop.service.abandoned_outputs import AbandonedOutputs
from hwloop.service.guard_door import listening_at
from hwloop.service.guard_records import GuardedOutput
from hwloop.service.guarded_process import GuardedProcess
from hwloop.service.kept_lines import KeptLines
from hwloop.sources.gpio import open_outputs

ROOT = Path(__file__).parents[1]
LINE = 27


class Kernel:
    """The calls of the simulated kernel, on descriptors that may be copies which another process has received."""

    def __init__(self, board: SimBoard) -> None:
        self._nodes = NodeCalls(board.nodes)
        self._handles: dict[tuple[int, int], Any] = {}

    def open(self, path: str) -> int:
        return self._nodes.open(path)

    def ioctl(self, fd: int, request: int, argument: bytearray) -> object:
        file = os.fstat(fd)
        handle = self._handles.get((file.st_dev, file.st_ino)) or descriptors.handle(fd)
        if handle is None:
            raise os_error(25)  # ENOTTY
        done = handle.ioctl(request, argument)
        if request == line_request._GET_LINE:
            made = int.from_bytes(argument[-4:], "little")
            file = os.fstat(made)
            self._handles[file.st_dev, file.st_ino] = descriptors.handle(made)
        return done

    def close(self, fd: int) -> None:
        os.close(fd)  # as any process does: the kernel looks whether another one has it
        descriptors.numbers()  # forget it


class Chip(SimBoard):
    """A board whose lines other processes can hold, as those of a real one."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(self)
        self.node = "/dev/gpiochip0"
        self.claimed: list[OutputLine] = []

    def open_output(self, request: OutputRequest) -> OutputLine:
        if not request.keep:
            with self.timeline.lock:
                self.gpiochip.close_abandoned()  # as the kernel does at once
            return super().open_output(request)
        return self._noted(claim_output(self._lines.open(request.chip).chip, self.node, request, self.kernel))

    def adopt_output(self, request: OutputRequest, fd: int) -> OutputLine:
        return self._noted(adopt_output(self._lines.open(request.chip).chip, self.node, request, fd, self.kernel))

    def _noted(self, output: OutputLine) -> OutputLine:
        self.claimed.append(output)
        return output

    def claim(self, **settings: Any) -> OutputLine:
        return self.open_output(OutputRequest(LINE, consumer="door", keep=True, **settings))

    def restart(self) -> None:
        """Forget what the program had open, as another one would."""
        self._lines.close()
        if self.chip.present:
            self._lines.open(None)  # before the guardian's thread does so at the same time

    @property
    def state(self) -> tuple[str | None, int, int]:
        """The user of the line, its level, and how often that has changed."""
        with self.timeline.lock:
            self.gpiochip.close_abandoned()
        line = self.line(LINE)
        return line.consumer, line.level, line.changes


@pytest.fixture
def chip() -> Iterator[Chip]:
    with Chip() as chip, boards.using(chip):
        yield chip
        for output in tuple(chip.claimed):
            output.close()
    descriptors.numbers()


# Lines by the kernel's own calls.


@pytest.mark.parametrize("backend", ["lgpio", "gpiod"])
@pytest.mark.parametrize("active_low", [False, True])
@pytest.mark.parametrize("initial", [0, 1])
def test_a_line_is_claimed_driven_and_released(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, backend: str, active_low: bool, initial: int
) -> None:
    monkeypatch.setenv("HWLOOP_GPIO", backend)
    output = chip.claim(initial=initial, active_low=active_low)
    assert (output.get(), chip.state[:2]) == (initial, ("door", initial ^ active_low))
    for value in (1, 0, 1):
        output.set(value)
        assert (output.get(), chip.line(LINE).level) == (value, value ^ active_low)
    with pytest.raises(hwloop.HardwareError, match="in use by this program already, as door"):
        chip.claim()
    with pytest.raises(hwloop.HardwareError, match="in use by this program already, as door"):
        gpio.output(LINE).open()
    output.close()
    output.close()
    assert chip.state[0] is None
    for call in (output.get, lambda: output.set(1)):
        with pytest.raises(hwloop.HardwareError, match="this output is closed"):
            call()


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("active_low", [False, True])
def test_without_an_initial_level_a_line_keeps_the_one_that_it_has(chip: Chip, level: int, active_low: bool) -> None:
    chip.line(LINE).claim("before", output=level)
    chip.line(LINE).release()
    changes = chip.line(LINE).changes
    output = chip.claim(initial=None, active_low=active_low)
    assert (output.get(), chip.state) == (level ^ active_low, ("door", level, changes))
    output.set(output.get())
    assert chip.line(LINE).output == level  # it is driven now


@pytest.mark.parametrize(("drive", "released"), [("open-drain", 1), ("open-source", 0)])
def test_a_line_is_driven_in_one_direction_only(chip: Chip, drive: Any, released: int) -> None:
    output = chip.claim(initial=released, drive=drive)
    chip.line(LINE).drive(1 - released)  # a part, which does not fight with it
    assert (output.get(), chip.chip.short_circuits) == (1 - released, 0)


def test_a_line_in_use_and_a_long_name_are_what_they_are_elsewhere(chip: Chip) -> None:
    chip.line(LINE).claim("somebody")
    with pytest.raises(hwloop.HardwareError, match=r"in use by another process \(which calls itself 'somebody'\)"):
        chip.claim()
    chip.line(LINE).release()
    output = chip.open_output(OutputRequest(LINE, consumer="ä" * 40, keep=True))
    assert chip.state[0] == "ä" * 15  # 31 bytes at most, and no half character
    output.close()


@pytest.mark.parametrize("level", [0, 1])
def test_a_line_is_taken_over_without_a_change(chip: Chip, level: int) -> None:
    output = chip.claim(initial=level)
    before = chip.state
    fd = os.dup(output.fileno())
    output.close()
    assert chip.state == before  # it has not been released
    adopted = chip.adopt_output(OutputRequest(LINE, consumer="gate", initial=1 - level, keep=True), fd)
    assert (adopted.get(), chip.state) == (level, before)
    adopted.set(1 - level)
    assert chip.line(LINE).level == 1 - level
    adopted.close()
    assert chip.state[0] is None


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"active_low": True}, "kept with drive='push-pull', active_low=False, and goes on with .*, active_low=True"),
        ({"drive": "open-drain", "active_low": True}, "goes on with drive='open-drain', active_low=True"),
        ({"drive": "open-source"}, "goes on with drive='open-source', active_low=False"),
    ],
)
def test_other_settings_of_a_kept_line_are_one_step_at_its_electrical_level(
    chip: Chip, level: int, settings: dict[str, Any], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    chip.line(LINE).pull("up" if level else "down")  # where an open drain lets go
    output = chip.claim(initial=level)
    before, fd = chip.state, os.dup(output.fileno())
    output.close()
    adopted = chip.adopt_output(OutputRequest(LINE, consumer="gate", keep=True, **settings), fd)
    assert (adopted.get(), chip.state) == (level ^ settings.get("active_low", False), before)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert text.split(".*")[-1] in record.message
    adopted.close()


def test_the_same_settings_are_not_set_again(chip: Chip, caplog: pytest.LogCaptureFixture) -> None:
    output = chip.claim(initial=1, drive="open-drain", active_low=True)
    fd = os.dup(output.fileno())
    output.close()
    adopted = chip.adopt_output(
        OutputRequest(LINE, consumer="door", drive="open-drain", active_low=True, keep=True), fd
    )
    assert (adopted.get(), caplog.records) == (1, [])


def test_a_descriptor_that_is_no_line_is_closed_and_an_error(chip: Chip) -> None:
    fd = os.memfd_create("no line")
    with pytest.raises(hwloop.HardwareError, match="line 27: the kept line can't be taken over: inappropriate ioctl"):
        chip.adopt_output(OutputRequest(LINE, consumer="door", keep=True), fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_board_without_such_lines_closes_the_descriptor() -> None:
    fd = os.memfd_create("a line")
    with pytest.raises(hwloop.HardwareError, match="has no lines that outlive their program"):
        boards.Board().adopt_output(OutputRequest(LINE, consumer="door", keep=True), fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_line_of_a_chip_that_has_vanished_is_an_error(chip: Chip) -> None:
    output = chip.claim()
    fd = os.dup(output.fileno())
    chip.chip.remove()
    with pytest.raises(hwloop.HardwareError, match="is gone: its driver was unbound"):
        output.set(1)
    with pytest.raises(hwloop.HardwareError, match="is gone: its driver was unbound"):
        output.get()
    chip.chip.restore()
    chip.restart()
    with pytest.raises(hwloop.HardwareError, match="is gone: its driver was unbound"):
        chip.adopt_output(OutputRequest(LINE, consumer="door", keep=True), fd)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_line(chip: Chip) -> None:
    output = chip.claim(initial=1)
    pid = os.fork()
    if not pid:
        try:
            with contextlib.suppress(OSError):
                os.fstat(output.fileno())
                os._exit(1)
            output.set(0)
        except hwloop.HardwareError as error:
            os._exit(0 if "belongs to its parent" in str(error) else 2)
        os._exit(3)
    assert os.waitpid(pid, 0)[1] == 0
    assert (output.get(), chip.state[:2]) == (1, ("door", 1))


def test_a_kept_output_has_no_pulses_of_the_board_and_no_edges(chip: Chip) -> None:
    output = gpio.output(LINE, keep=True, drive="open-drain").open()
    with pytest.raises(hwloop.HardwareError, match="PWM on line 27: a kept output has none; open it without keep"):
        output.pwm(0.5)
    with pytest.raises(hwloop.HardwareError, match="a kept output reports none; open it without keep=True"):
        chip.claimed[-1].watch(print)
    output.close()
    with SimBoard({"pwm": [12]}) as board, boards.using(board), pytest.raises(hwloop.HardwareError) as failure:
        gpio.output(12, keep=True).open()
    assert "line 12: a PWM drives it, whose level outlives the program without being kept" in str(failure.value)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"keep": 1}, "keep must be True or False, not 1"),
        ({"within": -1}, "within in seconds must be from 0 to 1e.06"),
        ({"within": "soon"}, "within in seconds must be a number"),
    ],
)
def test_senseless_arguments_are_rejected(settings: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        gpio.output(LINE, **settings)


# A guardian, and the programs one after the other.


class Process:
    """A process, as far as its lines need it."""

    gone = False


PUMP_OUTPUT = GuardedOutput(LINE, 0, "push-pull", False, "/dev/gpiochip0", within=30.0)


def test_a_line_is_not_taken_from_a_running_program(chip: Chip) -> None:
    kept, first, second = KeptLines(AbandonedOutputs(), chip.kernel), Process(), Process()
    fd = os.dup(chip.claim(initial=1).fileno())
    kept.hand_over(first, PUMP_OUTPUT, [fd])
    assert kept.take(second, PUMP_OUTPUT) == (False, [])
    assert kept.take(first, PUMP_OUTPUT) == (True, [fd])
    first.gone = True  # though the guardian has not yet seen to its lines
    assert kept.take(second, PUMP_OUTPUT) == (True, [fd])
    assert kept.ended(first, [PUMP_OUTPUT]) == []
    assert kept.due is None  # it belongs to the second one
    assert kept.ended(second, [PUMP_OUTPUT]) == []
    assert kept.due is not None
    assert kept.take(Process(), PUMP_OUTPUT) == (True, [fd])
    assert kept.due is None
    kept.close()


def test_the_line_of_a_chip_that_came_back_is_claimed_at_its_safe_level(
    chip: Chip, capfd: pytest.CaptureFixture[str]
) -> None:
    abandoned, program = AbandonedOutputs(), Process()
    kept = KeptLines(abandoned, chip.kernel)
    output = chip.claim(initial=1)
    kept.hand_over(program, PUMP_OUTPUT, [os.dup(output.fileno())])
    output.close()
    kept.ended(program, [PUMP_OUTPUT])
    chip.chip.remove()
    chip.chip.restore()
    kept.drive_left()
    abandoned.drive()
    assert (chip.line(LINE).level, kept.failed, abandoned.failed, kept.held) == (0, 0, 0, False)
    abandoned.close()
    kept.close()


class Guardian:
    """The guardian's side of the protocol, on a thread of this process. Its time is over when the test says so."""

    def __init__(self, path: str, calls: Any) -> None:
        self.path = path
        self.kept = KeptLines(AbandonedOutputs(), calls)
        self.listens = True
        self._processes: list[GuardedProcess] = []
        self._lock = threading.Lock()
        self._stop = os.eventfd(0)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self._ready.wait()

    def _serve(self) -> None:
        with listening_at(self.path) as door:
            self._ready.set()
            while True:
                fds = [fd for process in self._processes for fd in process.descriptors()]
                found, _, _ = select.select([door, self._stop, *fds], [], [])
                if self._stop in found:
                    break
                with self._lock:
                    self._listen(door)

    def _listen(self, door: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._processes.append(GuardedProcess(door.accept()[0], self.kept))
        for process in self._processes:
            process.hear()
        for process in [process for process in self._processes if process.gone]:
            self._processes.remove(process)
            self.lost = self.kept.ended(process, process.kept_outputs)
            process.close()

    def wait_for(self, condition: Callable[[], object]) -> None:
        give_up = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)

    @property
    def waits(self) -> bool:
        """Whether it keeps a line that no process has."""
        with self._lock:
            return self.kept.due is not None

    @property
    def alone(self) -> bool:
        """Whether no process is connected."""
        with self._lock:
            return not self._processes

    def end(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        for process in self._processes:
            process.close()
        self.kept.close()


@pytest.fixture
def guardian(chip: Chip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guardian]:
    monkeypatch.setattr(guard, "_reporter", None)
    monkeypatch.setenv(guard_link.SOCKET, str(tmp_path / "socket"))
    guardian = Guardian(str(tmp_path / "socket"), chip.kernel)
    yield guardian
    end_program(chip)
    guardian.end()


def end_program(chip: Chip, *, killed: bool = False) -> None:
    """End the program that this process stands for, so that the next one can begin."""
    if killed:
        for output in tuple(open_outputs.listed):
            assert isinstance(output, gpio.Output)
            assert output._device is not None
            output._device.close()  # as the kernel closes the descriptors of a dead process
            output._line.device = None
        open_outputs.listed.clear()
        chip.before_closing.clear()
    open_outputs.close_at_exit()
    if guard._reporter is not None:
        guard._reporter.leave_to_parent()
        guard._reporter = None
    chip.restart()


@pytest.mark.parametrize("killed", [False, True])
def test_a_restart_or_crash_changes_no_level_and_the_next_program_is_in_charge(
    chip: Chip, guardian: Guardian, killed: bool
) -> None:
    first = gpio.output(LINE, keep=True, safe=0).open()
    assert first.statistics() == {"level": 0, "kept": True, "adopted": False}
    first.on()
    before = chip.state
    for _ in range(5):
        end_program(chip, killed=killed)
        guardian.wait_for(lambda: guardian.waits)
        assert chip.state == before
        relay = gpio.output(LINE, keep=True, safe=0).open()
        assert relay.statistics() == {"level": 1, "kept": True, "adopted": True}
        assert (relay.value, chip.state, guardian.waits) == (1, before, False)
    relay.toggle()
    assert (relay.value, chip.state) == (0, ("gpio:27", 0, before[2] + 1))


def test_the_line_may_have_another_name_and_other_settings_in_the_next_program(
    chip: Chip, guardian: Guardian, caplog: pytest.LogCaptureFixture
) -> None:
    gpio.output(LINE, keep=True, safe=0, initial=1).open()
    before = chip.state
    for line in ("GPIO27", "J8:13", 27):
        end_program(chip)
        assert gpio.output(line, keep=True, safe=0).open().value == 1
    end_program(chip)
    relay = gpio.output(LINE, keep=True, safe=1, active_low=True, initial=None).open()
    assert (relay.value, chip.state) == (0, before)
    assert "it stays electrically high" in caplog.text
    end_program(chip)
    guardian.wait_for(lambda: guardian.alone)
    guardian.kept.drive_left()
    assert chip.state[:2] == ("gpio:27", 0)  # the level that is safe now


def test_a_program_that_does_not_come_back_loses_the_line_to_its_safe_level(chip: Chip, guardian: Guardian) -> None:
    relay = gpio.output(LINE, keep=True, safe=0, initial=1, within=0).open()
    time.sleep(0.01)
    guardian.kept.drive_due()
    assert chip.state[1] == 1  # it is there
    changes = chip.state[2]
    relay.close()
    guardian.wait_for(lambda: guardian.waits)
    guardian.kept.drive_due()
    assert chip.state == ("gpio:27", 0, changes + 1)  # and still held
    guardian.kept.drive_due()
    end_program(chip)
    late = gpio.output(LINE, keep=True, safe=0, initial=1).open()
    assert late.statistics() == {"level": 1, "kept": True, "adopted": False}
    assert chip.state == ("gpio:27", 1, changes + 2)


def test_a_line_without_a_safe_level_is_kept_until_the_end(chip: Chip, guardian: Guardian) -> None:
    gpio.output(LINE, keep=True, initial=1, within=0).open()
    end_program(chip)
    guardian.wait_for(lambda: guardian.alone)
    guardian.kept.drive_due()
    assert (guardian.waits, chip.state[:2]) == (False, ("gpio:27", 1))
    guardian.kept.drive_left()
    assert chip.state[:2] == (None, 1)


def test_a_program_can_end_a_kept_line_for_good(chip: Chip, guardian: Guardian) -> None:
    relay = gpio.output(LINE, keep=True, safe=0, initial=1).open()
    relay.close(keep=False)
    assert (relay.kept, chip.line(LINE).level) == (False, 0)
    guardian.wait_for(lambda: chip.state[0] is None)


def test_an_output_that_is_closed_is_kept_for_the_rest_of_the_program(chip: Chip, guardian: Guardian) -> None:
    with gpio.output(LINE, keep=True, safe=0) as relay, gpio.output(17, keep=True, safe=0) as other:
        relay.on()
    guardian.wait_for(lambda: guardian.waits)
    assert chip.state[1] == 1
    with gpio.output(LINE, keep=True, safe=0) as relay:
        assert relay.statistics() == {"level": 1, "kept": True, "adopted": True}
        gpio.make_safe()  # an emergency stop is one for kept outputs too
        assert (relay.value, relay.kept) == (0, True)
    assert other.kept is False


def test_a_pulse_under_way_ends_with_its_program(chip: Chip, guardian: Guardian) -> None:
    async def main() -> None:
        with gpio.output(LINE, keep=True, safe=0) as valve:
            valve.pulse(60)
            assert valve.value == 1

    hwloop.run(main(), board=chip)
    assert chip.state[:2] == ("gpio:27", 0)
    guardian.wait_for(lambda: guardian.waits)


def test_the_pulse_of_an_output_that_is_not_kept_goes_straight_to_the_safe_level(chip: Chip) -> None:
    async def main() -> None:
        with gpio.output(LINE, safe=1) as valve:
            valve.pulse(60)

    hwloop.run(main(), board=chip)
    assert (chip.line(LINE).level, chip.line(LINE).changes) == (1, 1)


def test_an_open_that_fails_leaves_the_line_kept(
    chip: Chip, guardian: Guardian, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpio.output(LINE, keep=True, safe=0, initial=1).open()
    end_program(chip)
    with monkeypatch.context() as patch:

        def refuse(request: OutputRequest, fd: int) -> OutputLine:
            os.close(fd)
            raise hwloop.HardwareError("line 27", "no", errno=22)

        patch.setattr(chip, "adopt_output", refuse)
        with pytest.raises(hwloop.HardwareError, match="line 27: no"):
            gpio.output(LINE, keep=True, safe=0).open()
    guardian.wait_for(lambda: guardian.waits)
    assert chip.state[:2] == ("gpio:27", 1)
    assert gpio.output(LINE, keep=True, safe=0).open().adopted


def test_a_line_whose_chip_came_back_is_claimed_anew(
    chip: Chip, guardian: Guardian, caplog: pytest.LogCaptureFixture
) -> None:
    gpio.output(LINE, keep=True, safe=0, initial=1).open()
    end_program(chip)
    chip.chip.remove()
    chip.chip.restore()
    relay = gpio.output(LINE, keep=True, safe=0).open()
    assert relay.statistics() == {"level": 0, "kept": True, "adopted": False}
    assert "gpio:27 can't be taken over, and is claimed anew" in caplog.text


@pytest.mark.parametrize("line", [27, "GPIO27"])
def test_a_program_that_keeps_the_line_no_more_can_have_it(chip: Chip, guardian: Guardian, line: int | str) -> None:
    gpio.output(LINE, keep=True, safe=0, initial=1).open()
    end_program(chip)
    with gpio.output(17, safe=0):  # another line, which leaves it alone
        guardian.wait_for(lambda: guardian.waits)
    with gpio.output(line, safe=0, initial=None) as relay:
        assert (relay.kept, guardian.kept.held) == (False, False)


def test_an_output_that_is_not_kept_is_as_safe_as_ever(chip: Chip, guardian: Guardian) -> None:
    with gpio.output(LINE, initial=1, safe=0) as relay:
        assert relay.statistics() == {"level": 1, "kept": False, "adopted": False}
    assert chip.state[:2] == (None, 0)
    assert not guardian.kept.held


def test_a_program_killed_before_it_has_handed_over_the_line_leaves_it_to_be_driven(
    chip: Chip, guardian: Guardian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard.Reporter, "hand_over", lambda self, key, fd: False)
    gpio.output(LINE, keep=True, safe=0, initial=1).open()
    end_program(chip, killed=True)
    guardian.wait_for(lambda: getattr(guardian, "lost", []))
    assert [(output.line, output.safe) for output in guardian.lost] == [(LINE, 0)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_report_for_its_parent(
    chip: Chip, guardian: Guardian, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(guard.STALL, "0.03")

    async def main() -> None:
        gpio.output(LINE, keep=True, safe=0, initial=1).open()

    with asyncio.Runner() as runner:  # which does not report the ends of its runs: its timers stay
        runner.run(main())
        pid = os.fork()
        if not pid:
            try:  # the loop goes on in the child too
                guard.logger.handle = lambda record: os._exit(1)  # type: ignore[method-assign]
                guard.find_guardian = lambda environment: os._exit(2)  # type: ignore[assignment]
                runner.run(asyncio.sleep(0.1))
                os._exit(0)
            finally:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# Guardians that are missing, lost, replaced.


def test_without_a_guardian_a_kept_output_is_an_ordinary_one(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "_reporter", None)
    monkeypatch.setattr(chip, "simulated", False)
    with gpio.output(LINE, keep=True, safe=0, initial=1) as relay:
        assert relay.statistics() == {"level": 1, "kept": False, "adopted": False}
    assert chip.state[:2] == (None, 0)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "gpio:27 is not kept: no guardian listens; run it under 'hwloop guard'" in record.message
    assert record.message.endswith("It is driven to 0 when the program ends")


def test_a_board_whose_lines_can_not_be_held_says_so(
    chip: Chip, guardian: Guardian, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chip, "simulated", False)
    monkeypatch.setattr(KernelOutput, "fileno", lambda self: -1)
    with gpio.output(LINE, keep=True) as relay:
        assert not relay.kept
    assert "bare board has no lines" in caplog.text or "has no lines that outlive" in caplog.text
    assert "It is released as it is when the program ends" in caplog.text


def test_a_guardian_that_ends_leaves_the_program_in_charge(
    chip: Chip, guardian: Guardian, caplog: pytest.LogCaptureFixture
) -> None:
    relay = gpio.output(LINE, keep=True, safe=0, initial=1).open()
    guardian.end()
    before = chip.state
    relay.close()
    assert chip.state == (None, 0, before[2] + 1)  # nobody keeps it, so it ends at its safe level
    assert "the guardian has ended" in caplog.text
    guardian.__init__(guardian.path, chip.kernel)  # type: ignore[misc]  # for the fixture to end


def test_a_new_guardian_holds_the_lines_of_a_program_that_has_lost_the_old_one(
    chip: Chip, guardian: Guardian, caplog: pytest.LogCaptureFixture
) -> None:
    relay = gpio.output(LINE, keep=True, safe=0, initial=1).open()
    guardian.end()
    reporter = guard.reporter()
    assert reporter is not None
    reporter.send()  # as each loop does three times in ten seconds
    assert not relay.kept
    reporter.send()
    assert caplog.text.count("the guardian has ended") == 1
    before = chip.state
    guardian.__init__(guardian.path, chip.kernel)  # type: ignore[misc]
    reporter.send()
    assert (relay.kept, chip.state) == (True, before)
    assert "a guardian listens again" in caplog.text
    guardian.wait_for(lambda: guardian.kept.held)
    end_program(chip, killed=True)
    guardian.wait_for(lambda: guardian.waits)
    assert chip.state == before


def test_a_guardian_that_does_not_answer_is_reported(
    chip: Chip, guardian: Guardian, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard_link.GuardianLink.answer, "__defaults__", (0.01,))
    monkeypatch.setattr(KeptLines, "take", lambda *arguments: (_ for _ in ()).throw(SystemExit))
    monkeypatch.setattr(GuardedProcess, "hear", lambda self: [])
    with gpio.output(LINE, keep=True, safe=0):
        pass
    assert "the guardian does not answer" in caplog.text


def test_a_guardian_that_is_stopped_holds_up_the_program_once(
    chip: Chip, guardian: Guardian, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = [gpio.output(line, keep=True, safe=0, initial=1).open() for line in (LINE, 22)]
    waited: list[float] = []

    def send(self: object, message: bytes, descriptors: object = (), patience: float = 0.0) -> bool:
        waited.append(patience)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(guard_link.GuardianLink, "send", send)
        for output in outputs:
            output.close()
        assert [patience for patience in waited if patience] == [guard_link.PATIENCE]
        assert (chip.line(LINE).level, chip.line(22).level) == (0, 0)  # it could not be left, so it is safe
        late = gpio.output(17, keep=True, safe=0).open()
        assert not late.kept
        assert "gpio:17 is not kept" not in caplog.text  # at this level: the board is simulated
    late.close()


def test_the_environment_must_name_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(guard_link.UnreachableError, match="SOCKET='guardian' don't name a socket; give the whole path"):
        guard_link.find_guardian({guard_link.SOCKET: "guardian"})
    with pytest.raises(guard_link.UnreachableError, match="/no/socket: no such file or directory"):
        guard_link.find_guardian({guard_link.SOCKET: "/no/socket"})


def test_the_record_has_kept_outputs_only_while_no_guardian_holds_them(
    chip: Chip, guardian: Guardian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "outputs"
    monkeypatch.setenv(guard.RECORD, str(record))
    relay = gpio.output(LINE, keep=True, safe=0).open()
    assert not record.exists()
    guardian.end()
    reporter = guard.reporter()
    assert reporter is not None
    reporter.send()
    assert '"line": 27' in record.read_text()
    guardian.__init__(guardian.path, chip.kernel)  # type: ignore[misc]
    reporter.send()
    assert not record.exists()
    relay.close(keep=False)


def test_a_socket_is_taken_over_from_a_dead_guardian_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "socket"
    with listening_at(str(path)):
        assert path.stat().st_mode & 0o777 == 0o600
        assert main(["guard", "--listen", str(path)]) == 1
    assert "a guardian can't listen there (another guardian listens there" in capsys.readouterr().err
    assert not path.exists()
    path.write_text("a file")
    assert main(["guard", "--listen", str(path)]) == 1
    assert path.read_text() == "a file"
    assert main(["guard", "--listen", str(tmp_path / "no" / "socket")]) == 1
    assert "choose a path in a directory of this user" in capsys.readouterr().err
    assert main(["guard", "--listen", str(path), "--hold", "3"]) == 2


# Whole programs, on simulated lines in a file.

PUMP = """
import os, signal, sys
import hwloop
from hwloop import gpio

async def main():
    async with gpio.output(27, safe=0, keep=True, within=60) as pump:
        print(pump.value, pump.adopted, pump.kept, flush=True)
        pump.on()
        if sys.argv[1:]:
            os.kill(os.getpid(), signal.SIGKILL)

hwloop.run(main(), board="sim")
"""


@pytest.mark.slow
def test_a_program_under_a_guardian_can_be_restarted_by_a_shell(tmp_path: Path) -> None:
    program, lines = tmp_path / "pump.py", tmp_path / "lines"
    program.write_text(PUMP)
    steps = f"""
        {sys.executable} {program} killed
        {sys.executable} {program}
        od -An -tu1 -j27 -N1 {lines}
    """
    done = subprocess.run(
        [sys.executable, "-m", "hwloop", "guard", "--hold", "0", "--", "sh", "-c", textwrap.dedent(steps)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HWLOOP_SIM_LINES": str(lines)},
    )
    assert done.stdout.split("\n") == ["0 False True", "1 True True", "   2", ""]
    assert done.stderr.count("line 27 is kept at its level; unless a program takes it over within 60 s") == 2
    assert done.stderr.endswith("line 27 is at its safe level 0 (simulated)\n")
    assert lines.read_bytes()[LINE] == 1  # driven low


def test_a_guardian_beside_its_programs_drives_what_is_left_when_it_is_stopped(tmp_path: Path) -> None:
    program, lines, path = tmp_path / "pump.py", tmp_path / "lines", tmp_path / "socket"
    program.write_text(PUMP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HWLOOP_SIM_LINES": str(lines)}
    guardian = subprocess.Popen(
        [sys.executable, "-m", "hwloop", "guard", "--listen", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        give_up = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < give_up
            time.sleep(0.01)
        environment["HWLOOP_GUARD_SOCKET"] = str(path)
        pump = [sys.executable, str(program)]
        assert subprocess.run(pump, capture_output=True, text=True, env=environment).stdout == "0 False True\n"
        assert lines.read_bytes()[LINE] == 2  # driven high
    finally:
        guardian.send_signal(signal.SIGTERM)
        _, errors = guardian.communicate(timeout=30)
    assert lines.read_bytes()[LINE] == 1
    assert (guardian.returncode, errors.splitlines()[-1]) == (
        0,
        "hwloop guard: line 27 is at its safe level 0 (simulated)",
    )
    assert not path.exists()
