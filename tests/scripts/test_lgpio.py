"""The simulated lgpio against the real one: names, signatures, statuses, texts, and lgpio's own error tests."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from firmware_sim import SimBoard, imports

pytestmark = pytest.mark.kind("lgpio")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The real lgpio, which makes its FIFO in the working directory when it is imported."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("lgpio"))
    try:
        return pytest.importorskip("lgpio", reason="NOT RUN: lgpio has no wheel for this Python")
    finally:
        os.chdir(before)


@pytest.fixture
def simulated(real: ModuleType) -> Iterator[ModuleType]:
    with SimBoard() as board, imports.led_to(board):
        yield sys.modules["lgpio"]


def public(module: ModuleType) -> set[str]:
    return {name for name in dir(module) if not name.startswith("_")}


def test_every_public_name_is_there_and_no_other(real: ModuleType, simulated: ModuleType) -> None:
    assert public(simulated) == public(real)
    for name in public(real):
        kinds = [type(getattr(each, name)) for each in (real, simulated)]
        assert kinds[0] is kinds[1] or all(callable(getattr(each, name)) for each in (real, simulated)), name


def test_constants_have_the_same_values(real: ModuleType, simulated: ModuleType) -> None:
    for name in public(real):
        if isinstance(getattr(real, name), int):
            assert getattr(simulated, name) == getattr(real, name), name


def test_functions_have_the_same_parameters_and_defaults(real: ModuleType, simulated: ModuleType) -> None:
    def parameters(function: Any) -> list[tuple[str, object]]:
        return [(each.name, each.default) for each in inspect.signature(function).parameters.values()]

    for name in public(real):
        if inspect.isfunction(getattr(real, name)):
            assert parameters(getattr(simulated, name)) == parameters(getattr(real, name)), name


def test_every_status_has_the_same_text(real: ModuleType, simulated: ModuleType) -> None:
    for status in range(-150, 20):
        assert simulated.error_text(status) == real.error_text(status)


WRONG: list[tuple[Any, ...]] = [
    *[(name, 9999) for name in ("i2c_close", "i2c_read_byte", "notify_close", "notify_pause", "notify_resume")],
    *[(name, 9999) for name in ("serial_close", "serial_data_available", "serial_read_byte", "spi_close")],
    *[(name, 9999) for name in ("gpiochip_close", "gpio_get_chip_info")],
    *[(name, 9999, 17) for name in ("gpio_get_line_info", "gpio_get_mode", "gpio_free", "gpio_read")],
    *[(name, 0, 17) for name in ("gpio_get_line_info", "gpio_get_mode", "gpio_free", "gpio_read")],
    *[(name, "0", 17) for name in ("gpio_get_mode", "gpio_claim_input", "gpio_claim_output", "gpio_free")],
    *[(name, 1.5, 17) for name in ("gpio_read", "gpio_free")],
    *[(name, None, 17) for name in ("gpio_read", "group_free", "i2c_write_byte", "serial_write_byte", "spi_read")],
    *[(name, 9999, "17") for name in ("gpio_read", "gpio_claim_input", "gpio_claim_output", "gpio_free", "group_free")],
    *[(name, 9999, 2**40) for name in ("gpio_read", "gpio_claim_input", "gpio_claim_output", "gpio_get_mode")],
    *[
        (name, 9999, -1)
        for name in ("i2c_write_byte", "i2c_read_byte_data", "i2c_read_word_data", "i2c_read_block_data")
    ],
    *[
        (name, 9999, 256)
        for name in ("i2c_write_byte", "i2c_read_byte_data", "i2c_read_word_data", "serial_write_byte")
    ],
    *[(name, 9999, 5, value) for name in ("i2c_write_byte_data", "i2c_write_word_data") for value in (-1, 255, 65536)],
    *[
        (name, 9999, reg, b"ab")
        for name in ("i2c_write_block_data", "i2c_write_i2c_block_data")
        for reg in (-1, 5, 256)
    ],
    *[(name, 9999, 5, data) for name in ("i2c_write_block_data", "i2c_block_process_call") for data in ("", b"", 5)],
    *[(name, 9999, 5, bytes(33)) for name in ("i2c_write_block_data", "i2c_write_i2c_block_data")],
    *[("i2c_block_process_call", 9999, 5, data) for data in (bytes(33), [1, 2, 3], (1,), "é", None)],
    *[("i2c_read_i2c_block_data", 9999, 5, count) for count in (0, 1, 32, 33, -1, "4", 1.0)],
    *[
        (name, 9999, count)
        for name in ("i2c_read_device", "serial_read", "spi_read")
        for count in (0, 1, -1, "4", 70000)
    ],
    *[
        (name, 9999, data)
        for name in ("i2c_write_device", "serial_write", "spi_write")
        for data in (b"", b"ab", "x", 3)
    ],
    *[(name, 9999, data) for name in ("i2c_zip", "spi_xfer") for data in (b"", b"ab", [1, 2], None)],
    *[("i2c_open", 1, address) for address in (-1, 128, "x", 2**31)],
    *[("i2c_open", 999, 0x40), ("i2c_open", 1, 0x40, 1), ("i2c_open", "1", 0x40), ("i2c_open", -1, 3)],
    *[("i2c_write_quick", 9999, 2), ("i2c_write_quick", 9999, 1), ("i2c_process_call", 9999, 5, 70000)],
    *[("spi_open", 9, 0, 50000), ("spi_open", -1, 0, 0), ("spi_open", 0, "0", 0), ("spi_open", 9, 9)],
    *[("serial_open", "/dev/none", baud) for baud in (9600, 9601, "9600")],
    *[("serial_open", "none", 9600, 1), ("serial_open", 5, 9600), ("serial_open", b"none", 9600)],
    *[("gpiochip_open", number) for number in (-1, 99, "0", 0.5)],
    *[("group_claim_input", 9999, lines) for lines in ([], [1], [1] * 65)],
    *[("group_claim_output", 9999, lines) for lines in ([], [1], [1] * 65)],
    *[("group_write", 9999, 17, bits) for bits in (-1, 5, 2**64, "1")],
    *[("group_write", 9999, 17, 5, mask) for mask in (-1, 5, 2**64, 1.0)],
    *[("gpio_write", 9999, 17, level) for level in (0, "1", 1.0, None)],
    *[("gpio_claim_alert", 9999, 17, *rest) for rest in ((3,), ("3",), (3, "0"), (3, 0, "0"), (3, 0, 5555))],
    *[("tx_pulse", 9999, 17, *rest) for rest in ((5, 5), (0, 0), ("5", 5), (5, 5, 0, 1.0))],
    *[
        ("tx_pwm", 9999, 17, *rest)
        for rest in ((0, 0), (20000, 5), (100, 101), (100, 50.5), ("100", 50), (100, 50, 0.5))
    ],
    *[("tx_servo", 9999, 17, *rest) for rest in ((0,), (1500,), (499,), (1500, 39), (1500.0,))],
    *[(name, 9999, 17, kind) for name in ("tx_busy", "tx_room") for kind in (0, 1, 2, "0")],
    *[("tx_wave", 9999, 17, []), ("tx_wave", 9999, 17, [3])],
    *[("gpio_set_debounce_micros", 9999, 17, micros) for micros in (-1, 0, 5_000_001, "1")],
    *[("gpio_set_watchdog_micros", 9999, 17, micros) for micros in (-1, 0, 300_000_001, 1.0)],
    *[("get_internal", setting) for setting in (0, 1, 2, "0")],
    *[("set_internal", *values) for values in ((0, 2), (0, 0), (1, 1001), (1, 10), (2, 0), (0, -1), (0, "1"))],
    *[("error_text", number) for number in (0, -1, -5, 1, "0")],
    *[("u2i", number) for number in (4294967272, 37, -1)],
    *[("gpio_read",), ("gpio_read", 1), ("gpio_read", 1, 2, 3), ("i2c_open", 1), ("get_module_version",), ("xref",)],
]


def outcome(module: ModuleType, call: tuple[Any, ...]) -> object:
    try:
        return getattr(module, call[0])(*call[1:])
    except Exception as error:
        text = str(error)
        if "positional argument" in text:  # a method counts and names itself too
            text = "wrong number of arguments"
        return type(error).__name__, text


@pytest.mark.parametrize("exceptions", [True, False])
def test_wrong_calls_get_the_same_statuses_and_exceptions(
    real: ModuleType, simulated: ModuleType, exceptions: bool
) -> None:
    """Those that lgpio answers before it reaches the hardware, which this machine lacks."""
    real.exceptions = simulated.exceptions = exceptions
    try:
        different = [
            (call, ours, theirs)
            for call in WRONG
            if (ours := outcome(simulated, call)) != (theirs := outcome(real, call))
        ]
    finally:
        real.exceptions = True
    assert not different, "\n".join(map(repr, different))


def test_a_serial_port_is_read_and_written_as_with_the_real_library(real: ModuleType, simulated: ModuleType) -> None:
    def use(lgpio: ModuleType) -> list[object]:
        ours, theirs = os.openpty()
        found: list[object] = []
        handle = lgpio.serial_open(os.ttyname(theirs), 9600)
        lgpio.exceptions = False
        try:
            found += [lgpio.serial_read(handle, 10), lgpio.serial_read_byte(handle)]
            found.append(lgpio.serial_data_available(handle))
            os.write(ours, b"\x03hello\r\n")
            while lgpio.serial_data_available(handle) < 8:
                pass
            found += [lgpio.serial_read_byte(handle), lgpio.serial_read(handle, 3), lgpio.serial_read(handle)]
            found += [lgpio.serial_write(handle, "a\n"), lgpio.serial_write_byte(handle, 13)]
            found.append(b"".join(os.read(ours, 1) for _ in range(3)))
            found += [lgpio.serial_close(handle), lgpio.serial_close(handle), lgpio.serial_read(handle)]
        finally:
            lgpio.exceptions = True
            os.close(ours)
            os.close(theirs)
        return found

    assert use(simulated) == use(real)


def run_real(program: Path, directory: Path) -> list[str]:
    command = [sys.executable, str(program)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_the_error_tests_of_lgpio_print_the_same(
    real: ModuleType, run_script: Run, source: Callable[[str], Path], tmp_path: Path
) -> None:
    program = source("lgpio-examples") / "errors.py"
    ours, theirs = run_script(program).stdout.splitlines(), run_real(program, tmp_path)
    assert len(theirs) > 100
    assert ours == theirs
    assert not [line for line in ours if line.startswith("FAIL")]
