"""Serial ports as device nodes: opened raw, through links, listed as sysfs describes them."""

from __future__ import annotations

import array
import fcntl
import os
import select
import struct
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.errors import WiringError
from hwloop.errors import HardwareError

TCGETS2, TCSETS2 = 0x802C542A, 0x402C542B
BOARD = {
    "port": [
        {"name": "/dev/ttyAMA0"},
        {"name": "/dev/ttyUSB0", "serial_number": "A50285BI", "links": ["/dev/gps", "/dev/my/gps"]},
        {"name": "/dev/ttyUSB1", "vid": 0x10C4, "pid": 0xEA60, "manufacturer": "Silicon Labs", "product": "CP2102 (x)"},
        {"name": "/dev/ttyACM0"},
        {"name": "modem"},
    ]
}


class Echo:
    """Sends back what it receives, in capitals; notes the modem lines."""

    def __init__(self, board: SimBoard, name: str) -> None:
        self.port = board.serial(name)
        self.lines: list[tuple[bool, bool]] = []
        self.port.attach(self)

    def receive(self, data: bytes) -> None:
        self.port.send(data.upper())

    def modem_lines(self, dtr: bool, rts: bool) -> None:
        self.lines.append((dtr, rts))


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard(BOARD) as board, imports.led_to(board):
        yield board


def read_all(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        assert select.select([fd], [], [], 10)[0]
        data += os.read(fd, count)
    return data


@pytest.mark.parametrize("path", ["/dev/ttyUSB0", "/dev/gps", "/dev/my/gps", "modem"])
def test_a_raw_port_echoes_whatever_it_is_called(board: SimBoard, path: str) -> None:
    Echo(board, "/dev/ttyUSB0" if path.startswith("/dev") else "modem")
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    os.write(fd, b"hello")
    assert read_all(fd, 5) == b"HELLO"
    os.close(fd)


def test_a_port_as_file_object_reads_and_writes(board: SimBoard) -> None:
    Echo(board, "/dev/ttyAMA0")
    with open("/dev/serial0", "r+b", buffering=0) as port:
        port.write(b"line\n")
        assert read_all(port.fileno(), 5) == b"LINE\n"
        os.set_blocking(port.fileno(), False)
        assert port.read(1) is None
        assert os.isatty(port.fileno())


def test_termios_settings_stay_as_a_uart_keeps_them(board: SimBoard) -> None:
    port = board.serial("/dev/ttyAMA0")
    fd = os.open("/dev/ttyAMA0", os.O_RDWR | os.O_NOCTTY)
    for _ in range(2):  # a pseudo-terminal rejects parity the second time
        attributes = termios.tcgetattr(fd)
        attributes[2] = termios.CS7 | termios.PARENB | termios.CSTOPB | termios.CREAD | termios.CLOCAL
        attributes[4] = attributes[5] = termios.B19200
        termios.tcsetattr(fd, termios.TCSANOW, attributes)
    assert termios.tcgetattr(fd)[2] & (termios.CSIZE | termios.PARENB) == termios.CS7 | termios.PARENB
    settings = port.settings
    assert settings is not None
    assert tuple(settings) == (19200, 7, "E", 2)
    # The same by the ioctls for rates without a constant.
    buffer = bytearray(44)
    fcntl.ioctl(fd, TCGETS2, buffer)
    flags = struct.unpack_from("I", buffer, 8)[0]
    assert flags & termios.PARENB
    struct.pack_into("I", buffer, 8, flags & ~0o10017 & ~termios.PARENB | 0o10000)  # BOTHER, no parity
    struct.pack_into("II", buffer, 36, 250_000, 250_000)
    fcntl.ioctl(fd, TCSETS2, buffer)
    settings = port.settings
    assert settings is not None
    assert tuple(settings) == (250_000, 7, "N", 2)
    os.close(fd)
    assert port.settings is None


def test_modem_lines_rise_with_the_first_user_and_fall_with_the_last(board: SimBoard) -> None:
    echo = Echo(board, "/dev/ttyUSB0")
    port = echo.port
    fd = os.open("/dev/ttyUSB0", os.O_RDWR | os.O_NOCTTY)
    assert (port.dtr, port.rts) == (True, True)
    second = os.open("/dev/gps", os.O_RDWR | os.O_NOCTTY)
    port.set_modem_lines(cts=True)
    bits = array.array("i", [0])
    fcntl.ioctl(fd, termios.TIOCMGET, bits)
    assert bits[0] == termios.TIOCM_DTR | termios.TIOCM_RTS | termios.TIOCM_CTS
    fcntl.ioctl(fd, termios.TIOCMBIC, struct.pack("I", termios.TIOCM_RTS))
    assert (port.dtr, port.rts) == (True, False)
    os.close(fd)
    assert port.dtr
    os.close(second)
    assert not port.dtr


def test_an_unplugged_adapter_has_no_files_and_comes_back_with_all(board: SimBoard) -> None:
    port = board.serial("/dev/ttyUSB0")
    fd = os.open("/dev/ttyUSB0", os.O_RDWR | os.O_NOCTTY)
    port.unplug()
    assert not any(name.startswith("ttyUSB0") for name in os.listdir("/dev"))
    assert not os.path.exists("/dev/gps")
    assert not os.path.exists("/sys/class/tty/ttyUSB0")
    with pytest.raises(FileNotFoundError, match="its ports are: /dev/ttyACM0, /dev/ttyAMA0, /dev/ttyUSB1, modem"):
        os.open("/dev/ttyUSB0", os.O_RDWR)
    with pytest.raises(OSError, match="Input/output error"):
        fcntl.ioctl(fd, termios.TIOCMGET, bytearray(4))
    port.replug()
    second = os.open("/dev/ttyUSB0", os.O_RDWR | os.O_NOCTTY)
    os.close(fd)
    assert port.dtr
    os.close(second)


def test_a_renamed_port_takes_its_identity_along(board: SimBoard) -> None:
    by_id = "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"
    assert os.path.realpath(by_id) == "/dev/ttyUSB0"
    board.rename_port("/dev/ttyUSB0", "/dev/ttyUSB5")
    assert os.path.realpath(by_id) == "/dev/ttyUSB5"
    assert os.path.realpath("/dev/gps") == "/dev/ttyUSB5"
    assert not os.path.exists("/dev/ttyUSB0")


def test_the_ports_of_the_header_are_serial0_and_serial1() -> None:
    for names, links in (
        (["/dev/ttyAMA0"], ["/dev/ttyAMA0", None]),
        (["/dev/ttyS0"], ["/dev/ttyS0", None]),
        (["/dev/ttyAMA0", "/dev/ttyS0"], ["/dev/ttyS0", "/dev/ttyAMA0"]),
        (["/dev/ttyUSB0"], [None, None]),
    ):
        with SimBoard({"port": [{"name": name} for name in names]}) as board, imports.led_to(board):
            for number, target in enumerate(links):
                path = f"/dev/serial{number}"
                assert (os.path.realpath(path) if os.path.exists(path) else None) == target
                if target is not None:
                    assert board.serial_port(path) == board.serial(target).path
    overridden: dict[str, Any] = {
        "port": [{"name": "/dev/ttyAMA0"}, {"name": "/dev/ttyAMA3", "links": ["/dev/serial0"]}]
    }
    with SimBoard(overridden) as board, imports.led_to(board):
        assert os.path.realpath("/dev/serial0") == "/dev/ttyAMA3"
        with pytest.raises(HardwareError, match="no such port"):
            board.serial_port("/dev/serial9")


def test_pyserial_lists_the_ports_with_what_sysfs_says(board: SimBoard) -> None:
    list_ports = pytest.importorskip("serial.tools.list_ports")
    found = {each.device: each for each in list_ports.comports(include_links=True)}
    assert set(found) == {
        *("/dev/ttyAMA0", "/dev/ttyACM0", "/dev/ttyUSB0", "/dev/ttyUSB1", "/dev/serial0", "/dev/gps"),
    } | {path for path in found if "by-" in path}
    usb = found["/dev/ttyUSB0"]
    assert (usb.vid, usb.pid, usb.serial_number, usb.location) == (0x0403, 0x6001, "A50285BI", "1-1.1")
    assert (usb.manufacturer, usb.product, usb.description) == ("FTDI", "FT232R USB UART", "FT232R USB UART")
    assert usb.hwid == "USB VID:PID=0403:6001 SER=A50285BI LOCATION=1-1.1"
    assert (found["/dev/ttyUSB1"].vid, found["/dev/ttyUSB1"].product) == (0x10C4, "CP2102 (x)")
    assert (found["/dev/ttyACM0"].pid, found["/dev/ttyACM0"].product) == (0x000A, "Pico")
    assert (found["/dev/ttyAMA0"].hwid, found["/dev/ttyAMA0"].vid) == ("fe201000.serial", None)
    assert [port.device for port in list_ports.grep("CP2102")] == ["/dev/ttyUSB1"]


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ("x", r"written as \[\[port\]\] tables"),
        ([{}], "port 1: missing key name"),
        ([{"name": "/dev/ttyUSB0", "speed": 9600}], "port 1: unknown key speed"),
        ([{"name": "/dev/ttyUSB0", "vid": 1 << 16}], "port 1: vid must be 0 to 65535"),
        ([{"name": "/dev/ttyUSB0", "links": ["gps"]}], "port 1: links must be names below /dev"),
        ([{"name": "/dev/ttyUSB0"}, {"name": "/dev/ttyUSB0"}], "port 2: there is a port /dev/ttyUSB0 already"),
        ([{"name": " "}], "port must be the name that programs open"),
        ([{"name": "ttyAMA0"}], "port must be the name that programs open, '/dev/ttyAMA0', not 'ttyAMA0'"),
        ([{"name": "/dev/i2c-1"}], "/dev/i2c-1 is used already"),
    ],
)
def test_a_wrong_port_table_is_an_error_that_names_it(ports: object, message: str) -> None:
    with pytest.raises(WiringError, match=message):
        SimBoard({"port": ports})


def test_sysfs_files_are_text(board: SimBoard) -> None:
    device = Path("/sys/class/tty/ttyUSB0/device").resolve()
    assert device.name == "ttyUSB0"
    assert (device / "subsystem").resolve() == Path("/sys/bus/usb-serial")
    assert (device.parents[1] / "idVendor").read_text() == "0403\n"
