"""Which board a program gets, however it asks: nested runs, threads, children, after a board's end; never a real one
where a simulated one was chosen."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import HardwareError, gpio
from hwloop import board as boards

ROOT = Path(__file__).parents[1]


def by_runner(main: Any) -> Any:
    with asyncio.Runner(loop_factory=hwloop.new_event_loop) as runner:
        return runner.run(main)


RUNS: dict[str, Callable[[Any], Any]] = {
    "asyncio.run": asyncio.run,
    "hwloop.run": hwloop.run,
    "Runner": by_runner,
    "nested": lambda main: threaded(lambda: hwloop.run(main)),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def threaded(function: Callable[[], Any]) -> Any:
    """Call `function` in a new thread; return what it returns, or raise what it raises."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return outcome[0]


@pytest.fixture(autouse=True)
def a_machine_with_real_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine seems to be a Pi, and nothing may open its lines."""
    monkeypatch.delenv("HWLOOP_BOARD", raising=False)
    monkeypatch.setattr(boards, "has_gpiochip", lambda: True)
    monkeypatch.setattr(boards, "_own", {})
    monkeypatch.setattr(boards, "_simulated_before", set())
    monkeypatch.setattr("hwloop.boards.linux.LinuxBoard", RealLines)
    yield
    for holder in list(boards._own.values()):
        holder.end()


class RealLines(SimBoard):
    """A stand-in for the real board."""

    simulated = False

    def __init__(self, backend: str | None = None) -> None:
        super().__init__()
        self.label = "real lines"


async def which() -> boards.Board:
    return boards.current()


async def label() -> str:
    return boards.current().label


# First an explicit one, then the one in use, then HWLOOP_BOARD, then what the machine has.


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_run_uses_the_board_in_use_where_it_is_called(run: Callable[[Any], Any]) -> None:
    with SimBoard() as board, boards.using(board):
        assert run(which()) is board


def test_an_explicit_board_counts_before_the_one_in_use() -> None:
    with SimBoard() as outer, SimBoard() as inner, boards.using(outer):
        assert hwloop.run(which(), board=inner) is inner
        assert hwloop.run(label(), board="linux") == "real lines"
        assert boards.current() is outer


def test_the_environment_counts_where_none_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    assert hwloop.run(label()) == "simulated board"
    with SimBoard({"label": "mine"}) as board, boards.using(board):
        assert hwloop.run(label()) == "mine"


def test_without_any_choice_the_real_board_is_used_where_there_are_lines() -> None:
    assert hwloop.run(label()) == "real lines"


def test_one_choice_is_one_board_for_the_whole_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    first = boards.current()
    assert hwloop.run(which()) is first
    assert threaded(boards.current) is first
    assert hwloop.run(which()) is first
    other = tmp_path / "other.toml"
    other.write_text('label = "other"')
    monkeypatch.setenv("HWLOOP_BOARD", str(other))
    assert hwloop.run(label()) == "other"
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    assert boards.current() is first


def test_outputs_that_a_run_leaves_open_end_safe_though_its_board_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        gpio.output(27, initial=1, safe=0).open()

    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    with gpio.output(22, initial=1, safe=0) as kept:
        hwloop.run(main())
        board = boards.current()
        assert isinstance(board, SimBoard)
        assert [board.chip.line(number).level for number in (27, 22)] == [0, 1]
        assert gpio.outputs() == [kept]


# A simulated board never gives way to real lines.


def test_a_thread_uses_the_board_that_the_main_thread_uses() -> None:
    with SimBoard() as board, boards.using(board):
        assert threaded(boards.current) is board
        with SimBoard() as inner, boards.using(inner):
            assert threaded(boards.current) is inner

        def of_its_own() -> tuple[boards.Board, boards.Board]:
            with SimBoard() as own, boards.using(own):
                return threaded(boards.current), boards.current()

        seen, own = threaded(of_its_own)
        assert seen is board
        assert own is not board


def test_the_end_of_a_simulated_board_brings_no_real_lines() -> None:
    hwloop.run(label(), board="sim")
    with pytest.raises(HardwareError, match=r"this program has used a simulated board, .* HWLOOP_BOARD=sim or"):
        boards.current()
    with pytest.raises(HardwareError, match="did not request real lines"):
        hwloop.run(label())
    assert hwloop.run(label(), board="linux") == "real lines"


def test_using_a_board_after_its_block_raises() -> None:
    async def later() -> str:
        await ended.wait()
        return refused(lambda: gpio.watch(17).open())

    async def main() -> asyncio.Task[str]:
        return asyncio.create_task(later())

    ended = asyncio.Event()
    loop = hwloop.new_event_loop()
    with boards.using("sim"):
        task = loop.run_until_complete(main())
    ended.set()
    assert "the simulated board is closed" in loop.run_until_complete(task)
    loop.close()


def refused(action: Callable[[], object]) -> str:
    try:
        action()
    except HardwareError as error:
        return str(error)
    return "allowed"


def test_processes_that_are_started_meanwhile_hear_of_it(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text('label = "bench"')
    command = [sys.executable, "-c", "from hwloop import board; print(board.current().label)"]

    def child() -> str:
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ).stdout.strip()

    with boards.using(path):
        assert child() == "bench"
        with SimBoard({"label": "mine"}) as board, boards.using(board):
            assert child() == "simulated board"
        assert os.environ["HWLOOP_BOARD"] == str(path)
    assert "HWLOOP_BOARD" not in os.environ


def test_a_spawned_process_has_a_simulated_board_too(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("""
import multiprocessing
from hwloop import board

def work():
    print(board.current().label)

if __name__ == "__main__":
    with board.using({"label": "mine"}):
        worker = multiprocessing.get_context("spawn").Process(target=work)
        worker.start()
        worker.join()
""")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("simulated board\n", "")


def in_child(check: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_has_a_simulated_board_of_its_own() -> None:
    async def watch() -> int:
        async with gpio.watch(12, pull="up") as line:
            return line.value

    with boards.using("sim"):
        parents = boards.current()
        assert in_child(lambda: boards.current() is not parents and hwloop.run(watch()) == 1)
        assert hwloop.run(watch()) == 1


def test_a_forked_process_can_not_use_a_board_made_by_its_parent_and_leaves_it_whole() -> None:
    async def watch() -> int:
        async with gpio.watch(12, pull="up") as line:
            return line.value

    def check() -> bool:
        said = refused(boards.current)
        board.close()
        return "was opened before this process was forked and belongs to its parent" in said

    with SimBoard() as board, boards.using(board):
        assert in_child(check)
        assert hwloop.run(watch()) == 1


# Boards as arguments.


def test_a_wiring_may_be_given_in_place_of_a_file(tmp_path: Path) -> None:
    assert hwloop.run(label(), board={"label": "mine", "device": [{"type": "led", "line": 5}]}) == "mine"
    path = tmp_path / "odd.name"
    path.write_text('label = "path"')
    assert hwloop.run(label(), board=path) == "path"
    assert hwloop.run(label(), board=str(path)) == "path"


@pytest.mark.parametrize(
    ("board", "error", "message"),
    [
        ("simulated", ValueError, "unknown board 'simulated': use auto, .*; did you mean sim?"),
        ("lniux", ValueError, "did you mean linux?"),
        ("bord.toml", ValueError, "board file bord.toml: No such file"),
        ("bench", ValueError, "did you mean bench.toml?"),
        ({"devices": []}, ValueError, "wiring: unknown key devices; known are device, label, port, pwm, revision"),
        (SimBoard, TypeError, r"not SimBoard; write SimBoard\(\)"),
        (
            17,
            TypeError,
            "board= takes auto, linux, sim, an entry point, the path of a board file, a mapping like one, or a Board, "
            "not 17",
        ),
    ],
)
def test_a_board_of_a_wrong_type_raises_and_names_the_right_ones(
    board: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bench.toml").write_text("")
    with pytest.raises(error, match=message):
        hwloop.run(label(), board=board)


# Ways to the lines, and times, that don't go with a board.


def test_an_unknown_backend_raises_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> None: ...

    message = "unknown GPIO backend 'gpoid': use auto, gpiod, lgpio; did you mean gpiod?"
    for board in (None, "linux", "sim"):
        with pytest.raises(ValueError, match=message):
            hwloop.run(nothing(), board=board, backend="gpoid")  # type: ignore[arg-type]


def test_a_backend_is_for_the_real_board_and_a_program_that_names_one_may_be_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="the simulated one has no choice of them"):
        hwloop.run(label(), board="sim", backend="gpiod")
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    assert hwloop.run(label(), backend="gpiod") == "simulated board"
    with SimBoard({"label": "mine"}) as board, boards.using(board):
        assert hwloop.run(label(), backend="gpiod") == "mine"


def test_a_run_in_virtual_time_has_a_board_of_the_same_choice_in_that_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "board.toml"
    path.write_text('label = "bench"')
    assert hwloop.run(label(), clock="virtual") == "simulated board"
    monkeypatch.setenv("HWLOOP_BOARD", str(path))
    kept = boards.current()
    assert hwloop.run(label(), clock="virtual") == "bench"
    assert boards.current() is kept
    monkeypatch.delenv("HWLOOP_BOARD")
    with boards.using(path):
        assert hwloop.run(label(), clock="virtual") == "bench"


def test_a_board_on_another_clock_than_the_run_raises() -> None:
    with SimBoard() as board, boards.using(board), pytest.raises(HardwareError, match="different clocks"):
        hwloop.run(label(), clock="virtual")
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock) as board, boards.using(board):
        with pytest.raises(HardwareError, match="different clocks"):
            hwloop.run(label())
        assert hwloop.run(which(), clock=clock) is board
    with boards.using("linux"), pytest.raises(ValueError, match="real hardware knows real time only"):
        hwloop.run(label(), clock="virtual")


def test_an_empty_mapping_is_a_simulated_board_and_never_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With HWLOOP_BOARD or a GPIO chip at hand it would have been those."""

    async def main() -> bool:
        return boards.current().simulated

    monkeypatch.setenv("HWLOOP_BOARD", "linux")
    assert hwloop.run(main(), board={}) is True


def test_a_run_that_ends_closes_no_output_of_a_run_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    opened, ended = threading.Event(), threading.Event()
    levels: list[int] = []

    async def other() -> None:
        async with gpio.output(5, initial=0, safe=0) as relay:
            opened.set()
            await asyncio.to_thread(ended.wait, 10)
            relay.set(1)
            levels.append(relay.value)

    async def main() -> None:
        thread.start()
        await asyncio.to_thread(opened.wait, 10)

    thread = threading.Thread(target=lambda: hwloop.run(other()))
    hwloop.run(main())
    ended.set()
    thread.join()
    assert levels == [1]
