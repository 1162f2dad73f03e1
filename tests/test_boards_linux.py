"""The real board, as far as a machine without its hardware can show it: choices and refusals."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.libraries.lgpio.api import Lgpio
from firmware_sim.pins import Chip
from firmware_sim.timeline import Timeline
from hwloop import board as boards
from hwloop.board import EdgeRequest, OutputRequest
from hwloop.boards import chip_discovery, linux
from hwloop.boards.chip_discovery import ChipInfo, choose_chip, list_chips
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.boards.linux import LinuxBoard
from hwloop.errors import HardwareError

NOBODY = 65534
ADVICE = [(0, "group {} may not use it; a udev rule"), (0o060, "add the user to group {} ")]
"""The advice by a device node's mode: it names the group that the node has, not one that it might have."""


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the board takes for /dev."""
    path = tmp_path / "dev"
    path.mkdir()
    monkeypatch.setattr(chip_discovery, "DEV", str(path))
    return path


@contextlib.contextmanager
def unprivileged(path: Path, mode: int) -> Iterator[None]:
    """Be a user who may not open `path`: as root, by taking another effective user for a while."""
    path.chmod(mode)
    if os.geteuid() != 0:
        yield
        return
    closed = [(parent, mode) for parent in path.parents if not (mode := parent.stat().st_mode) & 1]
    for parent, mode in closed:
        parent.chmod(mode | 0o055)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        for parent, mode in closed:
            parent.chmod(mode)


def labelled(*labels: str) -> list[ChipInfo]:
    return [ChipInfo(f"/dev/gpiochip{number}", number, label, 8) for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "number"),
    [
        (["gpio-brcmstb@1", "pinctrl-rp1"], 1),
        (["raspberrypi-exp-gpio", "other", "pinctrl-bcm2711"], 2),
        (["pinctrl-bcm2835", "raspberrypi-exp-gpio"], 0),
        (["gpio-sim.0"], 0),
    ],
)
def test_the_headers_chip_is_known_by_its_label(labels: list[str], number: int) -> None:
    assert choose_chip(labelled(*labels)).number == number


def test_chips_without_lines_do_not_count() -> None:
    assert choose_chip([ChipInfo("/dev/gpiochip0", 0, "empty", 0), *labelled("x", "y")[1:]]).label == "y"


def test_several_unknown_chips_raise_instead_of_a_guess() -> None:
    with pytest.raises(
        HardwareError, match=r"several GPIO chips, .*: /dev/gpiochip0 \(a, 8 lines\), /dev/gpiochip1 \(b"
    ):
        choose_chip(labelled("a", "b"))


def test_chips_are_asked_for_their_labels(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gpiochip10", "gpiochip4", "gpiomem"):
        (dev / name).touch()

    def ioctl(fd: int, request: int, argument: bytes) -> bytes:
        assert request == 0x80000000 | struct.calcsize("32s32sI") << 16 | 0xB4 << 8 | 1  # _IOR(0xB4, 1, gpiochip_info)
        name = os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2]
        return struct.pack("32s32sI", name.encode(), f"label of {name}".encode(), 54)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert list_chips() == [
        ChipInfo(f"{dev}/gpiochip4", 4, "label of gpiochip4", 54),
        ChipInfo(f"{dev}/gpiochip10", 10, "label of gpiochip10", 54),
    ]


def test_a_device_that_is_no_chip_raises(dev: Path) -> None:
    (dev / "gpiochip0").touch()
    with pytest.raises(HardwareError, match="gpiochip0: inappropriate ioctl for device"):
        list_chips()


def claims() -> list[Callable[[LinuxBoard], Any]]:
    return [
        lambda board: board.open_edges(EdgeRequest([17], consumer="the test", pull="up")),
        lambda board: board.open_output(OutputRequest(27, consumer="the test")),
    ]


@pytest.mark.parametrize("claim", claims())
def test_without_a_gpiochip_only_asking_for_a_line_fails(dev: Path, claim: Callable[[LinuxBoard], Any]) -> None:
    (dev / "ttyUSB0").touch()
    with boards.open_board("linux") as board:
        assert isinstance(board, LinuxBoard)
        assert board.serial_port(str(dev / "ttyUSB0")) == str(dev / "ttyUSB0")
        with pytest.raises(HardwareError, match=r"gpiochip\*: no GPIO chip on this machine; .*HWLOOP_BOARD=sim"):
            claim(board)
    assert "lgpio" not in sys.modules


def of_the_group(path: Path, advice: str) -> str:
    return advice.format(grp.getgrgid(path.stat().st_gid).gr_name)


@pytest.mark.parametrize(("mode", "advice"), ADVICE)
@pytest.mark.parametrize("claim", claims())
def test_no_permission_names_the_group(dev: Path, claim: Callable[[LinuxBoard], Any], mode: int, advice: str) -> None:
    chip = dev / "gpiochip0"
    chip.touch()
    with (
        unprivileged(chip, mode),
        LinuxBoard() as board,
        pytest.raises(HardwareError, match="gpiochip0: permission denied; " + of_the_group(chip, advice)) as caught,
    ):
        claim(board)
    assert caught.value.errno == 13


def test_the_label_is_the_model_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    monkeypatch.setattr(linux, "_MODEL", str(model))
    assert LinuxBoard().label == "Raspberry Pi 5 Model B Rev 1.0"
    model.unlink()
    assert LinuxBoard().label == "Linux"


def test_a_port_that_is_not_there_is_answered_with_those_that_are(dev: Path) -> None:
    board = LinuxBoard()
    with pytest.raises(HardwareError, match="ttyUSB7: no such port; there is none; is the UART enabled"):
        board.serial_port("/dev/ttyUSB7")
    (dev / "serial" / "by-id").mkdir(parents=True)
    for name in ("ttyAMA0", "ttyACM1", "ttyS0", "serial/by-id/usb-FTDI-if00"):
        (dev / name).touch()
    with pytest.raises(HardwareError) as caught:
        board.serial_port(str(dev / "ttyUSB7"))
    listed = ", ".join(str(dev / name) for name in ("serial/by-id/usb-FTDI-if00", "ttyACM1", "ttyAMA0"))
    assert str(caught.value) == f"{dev}/ttyUSB7: no such port; there are: {listed}"
    assert board.serial_port("ttyAMA0") == str(dev / "ttyAMA0")


def test_a_bus_that_is_not_there_says_how_to_enable_it(dev: Path) -> None:
    board = LinuxBoard()
    with pytest.raises(HardwareError, match=r"i2c-1: no such bus; enable it with dtparam=i2c_arm=on .* raspi-config"):
        board.open_bus(1)
    (dev / "i2c-20").touch()
    with pytest.raises(HardwareError, match=r"i2c-1: no such bus; there are: .*/i2c-20; enable it"):
        board.open_bus(1)


@pytest.mark.parametrize(("mode", "advice"), ADVICE)
def test_a_bus_without_permission_names_the_group(dev: Path, mode: int, advice: str) -> None:
    bus = dev / "i2c-1"
    bus.touch()
    with (
        unprivileged(bus, mode),
        pytest.raises(HardwareError, match="i2c-1: permission denied; " + of_the_group(bus, advice)) as caught,
    ):
        LinuxBoard().open_bus(1)
    assert caught.value.errno == 13


def test_a_device_that_is_no_bus_raises_and_is_closed(dev: Path) -> None:
    (dev / "i2c-1").touch()
    with pytest.raises(HardwareError, match="i2c-1: inappropriate ioctl for device"):
        LinuxBoard().open_bus(1)


def test_a_missing_smbus2_is_named(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smbus2", None)
    with pytest.raises(
        HardwareError, match="smbus2 is not installed; pip install smbus2, or apt install python3-smbus2"
    ):
        LinuxBoard().open_bus(1)


def test_importing_the_board_imports_no_hardware_package() -> None:
    code = "import sys; import hwloop.boards.linux; print({'lgpio', 'smbus2', 'serial', 'gpiod'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"set()\n"


def test_the_chip_is_opened_once_and_closed_with_the_board(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = Chip(Timeline(), label="pinctrl-bcm2711", lines=58)
    lgpio = Lgpio(chip)
    monkeypatch.setattr(chip_discovery, "list_chips", lambda: labelled("pinctrl-bcm2711"))
    monkeypatch.setattr(linux, "load_lgpio", lambda: (lgpio, lgpio.directory))
    board: Any = LinuxBoard("lgpio")
    stream, output = (claim(board) for claim in claims())
    assert (chip.line(17).consumer, chip.line(27).consumer) == ("lg", "lg")
    stream.close()
    output.close()
    board.close()
    board.close()
    lgpio.close()


# Backends.


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A machine with one chip, and what its board has opened it with, by name of the library."""
    opened: dict[str, Any] = {}
    lgpio = Lgpio(Chip(Timeline(), label="pinctrl-bcm2711", lines=58))
    monkeypatch.delenv("HWLOOP_GPIO", raising=False)
    monkeypatch.setattr(chip_discovery, "list_chips", lambda: labelled("pinctrl-bcm2711"))
    monkeypatch.setattr(linux, "load_lgpio", lambda: (lgpio, lgpio.directory))
    monkeypatch.setattr(linux, "load_gpiod", lambda: opened.setdefault("module", object()))
    monkeypatch.setattr(linux, "GpiodChip", lambda module, path: opened.setdefault("gpiod", Bystander(module, path)))
    yield opened
    lgpio.close()


class Bystander:
    """A chip that only tells how it was opened."""

    forked = False

    def __init__(self, *how: object) -> None:
        self.how = how
        self.is_gone = False
        self.closed = False

    def gone(self) -> bool:
        return self.is_gone

    def close(self) -> None:
        self.closed = True


def no_gpiod() -> Any:
    raise HardwareError("import gpiod", "the package is not installed", "pip install gpiod")


def test_gpiod_is_taken_where_it_is_installed(found: dict[str, Any]) -> None:
    with LinuxBoard() as board:
        assert board.gpio() is found["gpiod"]
        assert found["gpiod"].how == (found["module"], "/dev/gpiochip0")
        assert board.gpio() is found["gpiod"]
    assert found["gpiod"].closed


def test_a_library_is_loaded_before_a_chip_is_opened(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(linux, "load_gpiod", lambda: loaded.append("gpiod"))
    monkeypatch.setattr(linux, "load_lgpio", lambda: (loaded.append("lgpio"), ""))
    for backend in ("auto", "gpiod", "lgpio"):
        with LinuxBoard(backend) as board:
            board.load()
    assert loaded == ["gpiod", "gpiod", "lgpio"]
    monkeypatch.setattr(linux, "load_gpiod", no_gpiod)
    with LinuxBoard("gpiod") as board, pytest.raises(HardwareError, match="import gpiod"):
        board.load()


def test_lgpio_is_taken_where_gpiod_is_not_installed(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "load_gpiod", no_gpiod)
    with LinuxBoard() as board:
        assert isinstance(board.gpio(), LgpioChip)


def test_where_neither_is_installed_both_are_named(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lgpio() -> Any:
        raise HardwareError("import lgpio", "the package is not installed", "pip install lgpio")

    monkeypatch.setattr(linux, "load_gpiod", no_gpiod)
    monkeypatch.setattr(linux, "load_lgpio", no_lgpio)
    with (
        LinuxBoard() as board,
        pytest.raises(
            HardwareError,
            match=r"neither gpiod \(the package is not installed\) nor lgpio \(the package is not installed\)",
        ),
    ):
        board.gpio()


def test_an_explicit_backend_is_not_replaced_by_another(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "load_gpiod", no_gpiod)
    with LinuxBoard("gpiod") as board, pytest.raises(HardwareError, match="import gpiod: the package is not installed"):
        board.gpio()
    monkeypatch.setenv("HWLOOP_GPIO", "lgpio")
    with LinuxBoard() as board:
        assert isinstance(board.gpio(), LgpioChip)
    with LinuxBoard("gpiod") as board, pytest.raises(HardwareError, match="import gpiod: the package is not installed"):
        board.gpio()


def test_an_unknown_backend_raises_and_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown GPIO backend 'pigpio': use auto, gpiod, lgpio"):
        boards.open_board("linux", backend="pigpio")  # type: ignore[arg-type]
    monkeypatch.setenv("HWLOOP_GPIO", "rpi")
    with pytest.raises(ValueError, match=r"unknown GPIO backend 'rpi' \(HWLOOP_GPIO\): use auto, gpiod, lgpio"):
        LinuxBoard()
    with pytest.raises(ValueError, match="backend='gpiod' is for the real board; the simulated one has no choice"):
        boards.open_board("sim", backend="gpiod")
    with (
        LinuxBoard("lgpio") as board,
        pytest.raises(ValueError, match="the one given was made with its own"),
        boards.using(board, backend="lgpio"),
    ):
        pass


def test_a_chip_that_is_gone_is_closed_and_looked_for_again(found: dict[str, Any]) -> None:
    with LinuxBoard() as board:
        first: Any = board.gpio()
        del found["gpiod"]
        first.is_gone = True
        second = board.gpio()
        assert second is not first
        assert first.closed


def test_a_chip_is_chosen_by_label_or_path() -> None:
    two = labelled("pinctrl-rp1", "ftdi-cbus")
    assert choose_chip(two, "ftdi-cbus") == choose_chip(two, "/dev/gpiochip1") == two[1]
    with pytest.raises(
        HardwareError,
        match=r"chip 'mcp23017': no chip of that label or path; there are: /dev/gpiochip0 \(pinctrl-rp1, 8",
    ):
        choose_chip(two, "mcp23017")
    with pytest.raises(HardwareError, match=r"several have that label: .*gpiochip0 .*gpiochip1 .*; use a path"):
        choose_chip(labelled("ftdi-cbus", "ftdi-cbus"), "ftdi-cbus")
    with pytest.raises(HardwareError, match="no chip of that label or path; there is none on this machine"):
        choose_chip([], "ftdi-cbus")
