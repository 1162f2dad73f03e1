"""Requests that the kernel refuses: the error says why, and nothing is left open."""

from __future__ import annotations

import contextlib
import grp  # noqa: F401  # what is imported late may be out of an ordinary user's reach
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from gpio_sim import GpioSim

import hwloop
from hwloop import gpio
from hwloop.boards.linux import LinuxBoard
from hwloop.errors import HardwareError

NOBODY = 65534

HOLDER = """
import sys, gpiod
lines = gpiod.request_lines(sys.argv[1], consumer="gpiomon", config={int(sys.argv[2]): gpiod.LineSettings()})
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another_program(chip: GpioSim, line: int) -> Iterator[None]:
    arguments = [sys.executable, "-c", HOLDER, chip.path, str(line)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate()


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Be nobody, to the kernel's checks of permission."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refused(board: LinuxBoard, *lines: gpio.LineName, **options: Any) -> HardwareError:
    """Why these lines can't be watched; nothing is left open by the attempt."""

    async def main() -> HardwareError:
        with pytest.raises(HardwareError) as caught:
            gpio.watch(*lines, **options).open()
        return caught.value

    return hwloop.run(main(), board=board)


def given(board: LinuxBoard, *lines: gpio.LineName, **options: Any) -> list[int]:
    """The levels of these lines, which can be watched."""

    async def main() -> list[int]:
        async with gpio.watch(*lines, **options) as watch:
            return [watch.level(line) for line in watch.lines]

    return hwloop.run(main(), board=board)


def test_a_machine_without_a_chip_says_so(backend: str) -> None:
    with LinuxBoard() as board:
        assert str(refused(board, 17)) == (
            "/dev/gpiochip*: no GPIO chip on this machine; on a desktop use the simulated board: HWLOOP_BOARD=sim"
        )
    with pytest.raises(HardwareError, match="no GPIO chip on this machine"):
        hwloop.board.open_board()


def test_the_header_is_found_by_its_chips_label_among_others(backend: str) -> None:
    with contextlib.ExitStack() as stack:
        chips = [GpioSim(label, lines=8, names={}) for label in ("expander", "pinctrl-rp1", "other")]
        for chip in chips:
            stack.callback(chip.close)
        board = stack.enter_context(LinuxBoard())
        chips[1].drive(5, 1)
        assert given(board, 5) == [1]
        assert given(board, 5, chip="expander") == [0]
        assert given(board, 5, chip=chips[1].path) == [1]
        error = refused(board, 5, chip="nowhere")
        assert str(error).startswith("chip 'nowhere': no chip of that label or path; there are: ")
        assert f"{chips[0].path} (expander, 8 lines)" in str(error)


def test_several_unknown_chips_are_listed_rather_than_guessed_among(backend: str) -> None:
    with contextlib.ExitStack() as stack:
        for label in ("expander", "other"):
            stack.callback(GpioSim(label, lines=8, names={}).close)
        error = refused(stack.enter_context(LinuxBoard()), 5)
        assert "several GPIO chips, and none is known to be a Raspberry Pi's" in error.reason
        assert "(expander, 8 lines)" in error.reason


def test_a_line_out_of_range_is_answered_with_those_there_are(chip: GpioSim, board: LinuxBoard) -> None:
    assert str(refused(board, 58)) == f"line 58: no such line on {chip.path}; its lines are 0 to 57"
    assert given(board, 57) == [0]


def test_the_error_for_a_line_of_another_program_names_its_user(chip: GpioSim, board: LinuxBoard) -> None:
    with held_by_another_program(chip, 17):
        message = "line 17: in use by another process (which calls itself 'gpiomon'); stop it, or see 'gpioinfo'"
        for lines in ((17,), (22, 17)):
            error = refused(board, *lines)
            assert (str(error), error.errno) == (message, 16)
        with pytest.raises(HardwareError, match="line 17: in use by another process"), hwloop.board.using(board):
            gpio.output(17).open()
        assert given(board, 22) == [0]
    assert given(board, 22, 17) == [0, 0]


def test_the_error_for_a_line_of_the_kernel_names_its_user(backend: str) -> None:
    with contextlib.closing(GpioSim(taken={17: "activity LED"})), LinuxBoard() as board:
        assert "in use" in refused(board, 17).reason
        assert "'activity LED'" in refused(board, 17).reason
        assert given(board, 27) == [0]


def test_the_error_for_an_ordinary_user_says_what_would_give_access(
    chip: GpioSim, board: LinuxBoard, backend: str
) -> None:
    given(board, 17)  # so that all is imported
    board.close()
    with LinuxBoard() as other, ordinary_user():
        error = refused(other, 17)
    assert str(error).startswith(f"{chip.path}: permission denied; ")
    assert error.errno == 13
    assert error.hint
    os.chown(chip.path, NOBODY, NOBODY)
    if backend == "gpiod":  # lgpio was imported by root, and its directory is root's
        with ordinary_user(), LinuxBoard() as other:
            assert given(other, 17) == [0]


@pytest.mark.parametrize("debounce", [5.001, 3600, float("inf"), -0.001])
def test_a_debounce_that_no_backend_can_keep_raises(board: LinuxBoard, debounce: float) -> None:
    with pytest.raises(ValueError, match="debounce must be 0 to 5 seconds"):
        gpio.watch(17, debounce=debounce)
    assert given(board, 17, debounce=5) == [0]


@pytest.mark.parametrize("level", [0, 1])
def test_a_bias_that_the_chip_does_not_have_leaves_the_line_as_it_was(
    chip: GpioSim, board: LinuxBoard, level: int
) -> None:
    """gpio-sim can't switch its bias off; the kernel passes over that, and so do we (gpiolib's gpio_set_bias)."""
    chip.drive(17, level)
    assert given(board, 17, pull="none") == [level]


def test_as_many_lines_as_the_backend_can_watch_and_one_more(backend: str) -> None:
    most = {"lgpio": 60, "gpiod": 64}[backend]
    with contextlib.closing(GpioSim(lines=80, names={})), LinuxBoard() as board:
        assert f"{most} lines" in str(refused(board, *range(most + 1)))
        assert given(board, *range(most)) == [0] * most
