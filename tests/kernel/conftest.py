"""Tests on a real kernel: a GPIO chip of gpio-sim, opened by what opens a Pi's (docs/testing.md, `make test-kernel`).

They take the machine's GPIO chips, so they run only where gpio-sim is loaded and the user is root, as in the guest.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest
from gpio_sim import CONFIGFS, GpioSim

from hwloop.boards.lgpio.module import load_lgpio
from hwloop.boards.linux import LinuxBoard

HERE = CONFIGFS.is_dir() and os.access(CONFIGFS, os.W_OK)
if not HERE:
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not HERE:
        terminalreporter.section("tests/kernel was left out", yellow=True)
        terminalreporter.line("They need gpio-sim; 'make test-kernel' runs them in an emulated machine that has it.")


LGPIO = importlib.util.find_spec("lgpio") is not None


@pytest.fixture(scope="session", autouse=True)
def lgpio_imported() -> None:
    """Its import starts a thread that stays, which would be held against the first test that does it."""
    if LGPIO:
        load_lgpio()


@pytest.fixture
def chip() -> Iterator[GpioSim]:
    """A chip with the lines of a Raspberry Pi 4."""
    chip = GpioSim()
    yield chip
    chip.close()


@pytest.fixture(
    params=[
        pytest.param("lgpio", marks=pytest.mark.skipif(not LGPIO, reason="lgpio is not installed: PyPI has none")),
        "gpiod",
    ]
)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each library in turn that edges and outputs may come through."""
    monkeypatch.setenv("HWLOOP_GPIO", request.param)
    return request.param


@pytest.fixture
def board(chip: GpioSim, backend: str) -> Iterator[LinuxBoard]:
    """The board as a program gets it, on the simulated chip, through one library."""
    with LinuxBoard() as board:
        yield board
