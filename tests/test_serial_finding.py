"""Serial ports by their adapters: on the simulated board, and in files like those of sysfs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop.board import using
from hwloop.errors import HardwareError
from hwloop.serial_ports import PortInfo, list_ports
from hwloop.sources import Backoff, serial

BOARD = {
    "port": [
        {"name": "/dev/ttyAMA0"},
        {"name": "/dev/ttyUSB0", "serial_number": "A50285BI"},
        {"name": "/dev/ttyUSB1", "serial_number": "A5069RR4"},
        {"name": "/dev/ttyUSB2", "vid": 0x1A86, "pid": 0x7523, "product": "CH340", "serial_number": ""},
        {"name": "/dev/ttyACM0"},
    ]
}


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard(BOARD, clock=hwloop.VirtualClock()) as board, using(board):
        yield board


def test_each_property_finds_its_port_and_a_match_is_a_path(board: SimBoard) -> None:
    for properties, path in (
        ({"serial_number": "A5069RR4"}, "/dev/ttyUSB1"),
        ({"vendor": 0x1A86}, "/dev/ttyUSB2"),
        ({"vendor": "1a86", "product": "0x7523"}, "/dev/ttyUSB2"),
        ({"vendor": 0x0403, "location": "1-1.1"}, "/dev/ttyUSB0"),
        ({"product": 0x000A, "interface": 0}, "/dev/ttyACM0"),
    ):
        assert os.fspath(serial.find(**properties)) == path  # type: ignore[arg-type]


def test_ports_lists_all_that_are_plugged_in(board: SimBoard) -> None:
    assert [port.path for port in serial.ports()] == [entry["name"] for entry in sorted(BOARD["port"], key=str)]
    board.serial("/dev/ttyUSB1").unplug()
    assert "/dev/ttyUSB1" not in [port.path for port in serial.ports()]
    assert str(serial.ports()[2]) == "/dev/ttyUSB0 (0403:6001, A50285BI, at 1-1.1)"
    assert str(serial.ports()[3]) == "/dev/ttyUSB2 (1a86:7523, no serial number, at 1-1.3)"


def test_without_a_match_the_error_lists_the_ports_there_are(board: SimBoard) -> None:
    with pytest.raises(HardwareError) as caught:
        os.fspath(serial.find(vendor=0x0403, serial_number="B1"))
    assert str(caught.value).startswith(
        "serial.find(vendor=0x0403, serial_number='B1'): no such port; there are: /dev/tty"
    )
    for port in board.ports.values():
        port.unplug()
    with pytest.raises(HardwareError, match="there is none on USB; is it plugged in"):
        os.fspath(serial.find(vendor=0x0403))


def test_several_matches_are_an_error_that_names_what_tells_them_apart(board: SimBoard) -> None:
    with pytest.raises(HardwareError, match=r"2 ports match: /dev/ttyUSB0 .*; add serial_number= or location="):
        os.fspath(serial.find(vendor=0x0403))


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({}, r"needs at least one property, such as vendor=0x0403; serial.ports\(\) lists them"),
        ({"vendor": "403"}, "vendor must be four hexadecimal digits, such as '0403', not '403'"),
        ({"product": 0x10000}, "product must be 0 to 0xffff, not 0x10000"),
        ({"vendor": 4.5}, "vendor must be a number such as 0x0403, not 4.5"),
        ({"serial_number": 5}, "serial_number must be text such as 'A50285BI', not 5"),
        ({"interface": True}, "interface must be a number from 0, not True"),
    ],
)
def test_properties_that_make_no_sense_raise_at_once(properties: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        serial.find(**properties)


@pytest.mark.parametrize("way", ["find", "by-id", "path"])
def test_a_port_that_comes_back_under_another_name_is_found_again(way: str) -> None:
    """By its own path only under the old name."""
    where = {
        "find": serial.find(vendor=0x0403, serial_number="A50285BI"),
        "by-id": "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0",
        "path": "/dev/ttyUSB0",
    }[way]
    clock = hwloop.VirtualClock()
    with SimBoard(BOARD, clock=clock) as board:

        async def main() -> None:
            loop, port = asyncio.get_running_loop(), board.serial("/dev/ttyUSB0")
            loop.set_exception_handler(lambda loop, context: None)
            async with serial.open(where, reopen=Backoff(0.1, 2, 1), framing=serial.Lines()) as source:
                port.send(b"before\n")
                assert (await anext(source)).data == b"before"
                port.unplug()
                await asyncio.sleep(2)
                board.rename_port("/dev/ttyUSB0", "/dev/ttyUSB7")
                port.replug()
                await asyncio.sleep(2)
                assert source.statistics().reopened == (way != "path")
                if way == "path":
                    board.rename_port("/dev/ttyUSB7", "/dev/ttyUSB0")
                    await asyncio.sleep(2)
                port.send(b"after\n")
                assert (await anext(source)).data == b"after"

        hwloop.run(main(), board=board, clock=clock)


def test_streams_take_a_match_too(board: SimBoard) -> None:
    async def main() -> bytes:
        reader, writer = await serial.open_serial_connection(url=serial.find(serial_number="A5069RR4"))
        board.serial("/dev/ttyUSB1").send(b"hello\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    assert hwloop.run(main(), board=board, clock=board.clock) == b"hello\n"


class Sysfs:
    """A directory with the files that udev and the kernel make for ports."""

    def __init__(self, root: Path) -> None:
        self.sys, self.dev = root / "sys", root / "dev"
        (self.sys / "class/tty").mkdir(parents=True)
        self.dev.mkdir()

    def usb(self, name: str, place: str, interface: int = 0, *, own_driver: bool = True, **texts: str) -> Path:
        adapter = self.sys / "devices/usb1" / place
        directory = adapter / f"{place}:1.{interface}"
        device = directory / name if own_driver else directory
        (device / "tty" / name).mkdir(parents=True)
        (directory / "bInterfaceNumber").write_text(f"{interface:02x}\n")
        for key, text in {"idVendor": "0403", "idProduct": "6010", **texts}.items():
            (adapter / key).write_text(text + "\n")
        return self._node(name, device)

    def other(self, name: str, kind: str | None) -> Path:
        device = self.sys / "devices/platform" / f"{name}.serial"
        (device / "tty" / name).mkdir(parents=True)
        if kind is not None:
            (device / "tty" / name / "type").write_text(kind + "\n")
        return self._node(name, device)

    def _node(self, name: str, device: Path) -> Path:
        (device / "tty" / name / "device").symlink_to(device)
        (self.sys / "class/tty" / name).symlink_to(device / "tty" / name)
        node = self.dev / name
        node.touch()
        return node

    def ports(self) -> list[PortInfo]:
        return list_ports(str(self.sys), str(self.dev))


def test_sysfs_describes_an_adapter_with_two_ports(tmp_path: Path) -> None:
    files = Sysfs(tmp_path)
    for number in (1, 0):
        texts = {"serial": "FT6S4DSP", "manufacturer": "FTDI", "product": "Dual RS232"}
        files.usb(f"ttyUSB{number + 9}", "1-1.2", number, **texts)
    first, second = files.ports()
    assert (Path(first.path).name, first.interface, Path(second.path).name, second.interface) == (
        "ttyUSB9",
        0,
        "ttyUSB10",
        1,
    )
    assert second == PortInfo(second.path, 0x0403, 0x6010, "FT6S4DSP", 1, "1-1.2", "FTDI Dual RS232")
    assert str(second).endswith("ttyUSB10 (0403:6010, FT6S4DSP, interface 1, at 1-1.2)")


def test_sysfs_describes_a_modem_and_the_ports_of_the_machine(tmp_path: Path) -> None:
    files = Sysfs(tmp_path)
    files.usb("ttyACM0", "1-1.4", own_driver=False, idVendor="2e8a", idProduct="000a")
    files.other("ttyAMA0", "32")
    files.other("ttyS0", "0")  # a PC has entries for ports that are not there
    modem, uart = files.ports()
    assert (modem.vendor, modem.serial_number, modem.description) == (0x2E8A, None, None)
    assert uart == PortInfo(str(files.dev / "ttyAMA0"))


def test_a_port_that_vanishes_while_it_is_described_is_left_out(tmp_path: Path) -> None:
    files = Sysfs(tmp_path)
    files.usb("ttyUSB0", "1-1.2").unlink()
    node = files.usb("ttyUSB1", "1-1.3")
    (tmp_path / "sys/devices/usb1/1-1.3/idVendor").unlink()
    assert files.ports() == [PortInfo(str(node), None, 0x6010, None, 0, "1-1.3", None)]
    assert list_ports(str(tmp_path / "nothing")) == []
