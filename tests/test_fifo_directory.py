"""Directories for lgpio's FIFOs: gone with their program, however it ends, and never taken from a living one."""

from __future__ import annotations

import gc
import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import board as boards
from hwloop import gpio
from hwloop.boards.lgpio import fifo_directory
from hwloop.boards.lgpio.fifo_directory import FifoDirectory, sweep
from hwloop.boards.lgpio.fifos import Fifos

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place for temporary files, where this process has not looked yet."""
    place = tmp_path / "[tmp]"  # a pattern, if it were taken for one
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(fifo_directory.tempfile, "tempdir", None)
    monkeypatch.setattr(fifo_directory, "_swept", set())
    yield place
    fifo_directory.tempfile.tempdir = None


def start(code: str, parent: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a program whose temporary files have their place in `parent`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(parent)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait until a program has printed a line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line
    return line


def ended(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate(timeout=30)


HOLDING = """
    import signal
    from firmware_sim import SimBoard
    board = SimBoard()
    print("ready", flush=True)
    signal.pause()
"""


def holding(parent: Path) -> subprocess.Popen[str]:
    """Start a program that holds a directory until it is ended."""
    process = start(HOLDING, parent)
    first_line(process)
    return process


def test_a_removed_directory_leaves_nothing(parent: Path) -> None:
    directory = FifoDirectory()
    os.mkfifo(os.path.join(directory.path, ".lgd-nfy1"))
    assert os.listdir(parent) == [os.path.basename(directory.path)]
    directory.remove()
    directory.remove()
    assert os.listdir(parent) == []


def test_a_directory_without_references_leaves_nothing(parent: Path) -> None:
    FifoDirectory()
    assert os.listdir(parent) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_programs_directory_is_removed_by_the_next_program(parent: Path, number: int) -> None:
    ended(holding(parent), number)
    assert len(os.listdir(parent)) == 1
    with SimBoard():
        assert len(os.listdir(parent)) == 1  # its own
    assert os.listdir(parent) == []


def test_a_living_programs_directory_stays(parent: Path) -> None:
    process = holding(parent)
    try:
        [theirs] = os.listdir(parent)
        with SimBoard():
            assert theirs in os.listdir(parent)
        sweep(str(parent))
        assert os.listdir(parent) == [theirs]
    finally:
        ended(process)


def test_a_stopped_programs_directory_stays(parent: Path) -> None:
    process = holding(parent)
    try:
        process.send_signal(signal.SIGSTOP)
        sweep(str(parent))
        assert len(os.listdir(parent)) == 1
    finally:
        ended(process)


def test_a_forked_child_that_ends_leaves_its_parents_directory(parent: Path) -> None:
    code = """
        import os, signal, sys
        from firmware_sim import SimBoard
        board = SimBoard()
        child = os.fork()
        if not child:
            board.close()
            board.lgpio._directory.remove()
            sys.exit()
        os.waitpid(child, 0)
        print(os.path.isdir(board.lgpio.directory), flush=True)
        signal.pause()
    """
    process = start(code, parent)
    try:
        assert first_line(process) == "True\n"
        assert len(os.listdir(parent)) == 1
    finally:
        ended(process)


def test_a_forked_child_that_outlives_its_parent_keeps_the_directory(parent: Path) -> None:
    code = """
        import os, signal
        from firmware_sim import SimBoard
        board = SimBoard()
        child = os.fork()
        if not child:
            signal.pause()
        print(child, flush=True)
        signal.pause()
    """
    with start(code, parent) as process:
        child = int(first_line(process))
        process.kill()
    sweep(str(parent))
    assert len(os.listdir(parent)) == 1
    gone = os.pidfd_open(child)
    os.kill(child, signal.SIGKILL)
    assert select.select([gone], [], [], 10)[0]
    os.close(gone)
    sweep(str(parent))
    assert os.listdir(parent) == []


def test_programs_that_start_together_take_nothing_from_each_other(parent: Path) -> None:
    """Many at once make, look around and remove, among directories that were abandoned."""
    for number in range(20):
        (parent / f"hwloop-lgpio-1.{number}").mkdir()
    code = """
        import os
        from hwloop.boards.lgpio import fifo_directory
        for _ in range(60):
            fifo_directory._swept.clear()
            held = [fifo_directory.FifoDirectory() for _ in range(3)]
            for it in held:
                os.mkfifo(os.path.join(it.path, ".lgd-nfy1"))
            for it in held:
                os.stat(os.path.join(it.path, ".lgd-nfy1"))
                it.remove()
        print("done", flush=True)
    """
    processes = [start(code, parent, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        out, error = process.communicate(timeout=60)
        assert (out, error) == ("done\n", "")
    assert os.listdir(parent) == []


def test_files_and_directories_of_others_stay(parent: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.mkfifo(elsewhere / ".lgd-nfy1")
    (parent / "hwloop-lgpio-1.link").symlink_to(elsewhere)
    (parent / "hwloop-lgpio-1.file").write_text("")
    full = parent / "hwloop-lgpio-1.full"
    full.mkdir()
    (full / "notes.txt").write_text("")
    (full / ".lgd-nfy-is-a-file").write_text("")
    inside = parent / "hwloop-lgpio-1.deep"
    inside.mkdir()
    (inside / ".lgd-nfy1").symlink_to(elsewhere)
    (parent / "other").mkdir()
    before = sorted(str(path) for path in parent.rglob("*"))
    sweep(str(parent))
    assert sorted(str(path) for path in parent.rglob("*")) == before
    assert stat.S_ISFIFO((elsewhere / ".lgd-nfy1").stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's directory")
def test_another_users_directory_stays(parent: Path) -> None:
    path = parent / "hwloop-lgpio-1.theirs"
    path.mkdir()
    os.chown(path, 65534, 65534)
    sweep(str(parent))
    assert path.exists()


class TestDirectoriesOfVersionsWithoutALock:
    @pytest.fixture
    def old(self, parent: Path) -> Path:
        path = parent / "hwloop-lgpio-abcd_efg"
        path.mkdir()
        os.utime(path, (0, 0))
        return path

    def test_an_old_directory_goes(self, parent: Path, old: Path) -> None:
        sweep(str(parent))
        assert not old.exists()

    def test_a_young_one_stays(self, parent: Path, old: Path) -> None:
        os.utime(old)
        sweep(str(parent))
        assert old.exists()

    def test_one_in_which_a_process_has_a_file_stays(self, parent: Path, old: Path) -> None:
        os.mkfifo(old / ".lgd-nfy0")
        fd = os.open(old / ".lgd-nfy0", os.O_RDWR | os.O_NONBLOCK)
        try:
            os.unlink(old / ".lgd-nfy0")
            os.utime(old, (0, 0))
            sweep(str(parent))
            assert old.exists()
        finally:
            os.close(fd)


def test_a_directory_taken_before_it_was_locked_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, taken = fifo_directory._lock, list[str]()

    def late(path: str) -> int:
        if len(taken) < 2:
            taken.append(path)
            if len(taken) == 1:
                os.rmdir(path)
                return plain(path)
            fd = plain(path)
            os.rmdir(path)
            return fd
        return plain(path)

    monkeypatch.setattr(fifo_directory, "_lock", late)
    directory = FifoDirectory()
    assert os.path.isdir(directory.path)
    assert directory.path not in taken
    assert len(taken) == 2
    directory.remove()


def test_without_locks_it_works_all_the_same(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fifo_directory.fcntl, "flock", refused)
    directory = FifoDirectory()
    sweep(str(parent))
    assert os.path.isdir(directory.path)
    directory.remove()
    assert os.listdir(parent) == []


class Interrupted(Exception):
    """Raised by a signal's handler, as KeyboardInterrupt is."""


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, str], None]]:
    """Have a function be followed by a signal whose handler raises `Interrupted`: `interrupted_after(module, name)`."""

    def on_signal(number: int, frame: object) -> None:
        raise Interrupted

    def prepare(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def interrupted(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            signal.raise_signal(signal.SIGUSR1)
            return result

        monkeypatch.setattr(owner, name, interrupted)

    before = signal.signal(signal.SIGUSR1, on_signal)
    yield prepare
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_while_a_board_is_opened_leaves_nothing(
    parent: Path, interrupted_after: Callable[[Any, str], None]
) -> None:
    interrupted_after(fifo_directory, "_make")
    with pytest.raises(Interrupted):
        SimBoard()
    gc.collect()
    assert list(parent.iterdir()) == []


def test_a_signal_while_a_watch_is_opened_leaves_no_fifo_open(interrupted_after: Callable[[Any, str], None]) -> None:
    async def main() -> None:
        with pytest.raises(Interrupted):
            gpio.watch(17).open()

    interrupted_after(Fifos, "take")
    before = os.listdir("/proc/self/fd")
    with SimBoard() as board, boards.using(board):
        hwloop.run(main())
        assert board.chip.line(17).consumer is None
    assert os.listdir("/proc/self/fd") == before
