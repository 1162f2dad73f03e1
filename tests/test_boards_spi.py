"""SPI devices of the real board: how they are opened and set up, and what their errors say."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from firmware_sim import SimBoard
from firmware_sim.libraries.spidev import spidev_module
from firmware_sim.spi_device import SpiDevice
from firmware_sim.trace import Trace
from hwloop import HardwareError
from hwloop.board import SpiRequest
from hwloop.boards import chip_discovery
from hwloop.boards.linux import LinuxBoard
from hwloop.trace_events import SpiTransfer


class Echo(SpiDevice):
    max_speed = 10_000_000

    def transfer(self, sent: bytes) -> bytes:
        return sent


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chip_discovery, "DEV", str(tmp_path))
    return tmp_path


@pytest.fixture
def spidev(dev: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The simulated spidev in the place of the real one."""
    with SimBoard() as board:
        board.spi(0).attach(0, Echo())
        module = spidev_module(board.nodes)
        monkeypatch.setitem(sys.modules, "spidev", module)
        yield module


def request(bus: int = 0, select: int = 0, **options: Any) -> SpiRequest:
    return SpiRequest(bus, select, **{"speed": 1_000_000, **options})


def test_a_device_is_opened_and_set_up(spidev: ModuleType) -> None:
    device: Any = LinuxBoard().open_spi(request(mode=3, cs_high=True, speed=2.5e6))
    assert isinstance(device, spidev.SpiDev)
    assert (device.mode, device.cshigh, device.max_speed_hz, device.bits_per_word) == (3, True, 2_500_000, 8)
    device.close()


def test_a_setting_that_the_controller_lacks_is_named_and_the_device_is_closed(spidev: ModuleType) -> None:
    with pytest.raises(HardwareError, match=r"/dev/spidev0\.0: .* does not accept bits_per_word = 16 \(.*8 bits only"):
        LinuxBoard().open_spi(request(bits=16))


@pytest.mark.parametrize(
    ("bus", "select", "advice"), [(2, 0, "dtoverlay=spi2-1cs"), (1, 2, "dtoverlay=spi1-3cs"), (0, 3, "dtparam=spi=on")]
)
def test_a_device_that_is_not_there_says_how_to_enable_it(
    dev: Path, spidev: ModuleType, bus: int, select: int, advice: str
) -> None:
    with pytest.raises(HardwareError, match=rf"spidev{bus}\.{select}: no such device; enable it with {advice}"):
        LinuxBoard().open_spi(request(bus, select))
    (dev / "spidev0.0").touch()
    with pytest.raises(HardwareError, match=rf"no such device; there are: .*/spidev0\.0; enable it with {advice}"):
        LinuxBoard().open_spi(request(bus, select))


def test_a_device_without_permission_names_the_group(spidev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: object, bus: int, select: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(spidev.SpiDev, "open", refuse)
    with pytest.raises(HardwareError, match=r"spidev0\.0: permission denied; .*spi"):
        LinuxBoard().open_spi(request())


def test_a_missing_spidev_is_named(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spidev", None)
    with pytest.raises(
        HardwareError, match=r"spidev is not installed; pip install hwloop\[spi\], or apt install python3-spidev"
    ):
        LinuxBoard().open_spi(request())


def test_a_device_of_a_board_with_a_tracer_records_its_transfers(spidev: ModuleType) -> None:
    board = LinuxBoard()
    board.tracer = trace = Trace()
    device: Any = board.open_spi(request())
    assert device.xfer2([1, 2]) == [1, 2]
    device.max_speed_hz = 500_000
    assert device.max_speed_hz == 500_000
    assert device.xfer3(b"\x05") == (5,)
    with pytest.raises(OSError, match="Invalid"):
        device.xfer2([1], 0, 0, 16)
    assert [event[2:] for event in trace.of(SpiTransfer)] == [
        (0, 0, b"\x01\x02", b"\x01\x02", ""),
        (0, 0, b"\x05", b"\x05", ""),
        (0, 0, b"\x01", b"", "EINVAL"),
    ]
    board.tracer = None
    device.xfer2([1])
    assert len(trace) == 3
    device.close()
