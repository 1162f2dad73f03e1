"""Device nodes and sysfs files of the simulated board, as programs open them."""

from __future__ import annotations

import builtins
import concurrent.futures
import errno
import fcntl
import glob
import io
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.nodes import Attribute, Handle, Link, Node

I2C_SLAVE, I2C_FUNCS = 0x0703, 0x0705
NAMES = {
    builtins: ("open",),
    io: ("open",),
    os: ("open", "close", "read", "write", "lseek", "stat", "lstat", "listdir", "scandir", "readlink", "access"),
    fcntl: ("ioctl",),
}


def functions() -> list[Any]:
    return [getattr(module, name) for module, names in NAMES.items() for name in names]


class Echo(Handle):
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.closed = 0

    def read(self, count: int) -> bytes:
        self.calls.append(count)
        return b"abc"[:count]

    def write(self, data: bytes) -> int:
        self.calls.append(data)
        return len(data)

    def ioctl(self, request: int, argument: Any) -> int:
        self.calls.append((request, argument if isinstance(argument, int) else bytes(argument[:4])))
        if not isinstance(argument, int):
            argument[0:2] = b"OK"
        return 7

    def close(self) -> None:
        self.closed += 1


class EchoNode(Node):
    def __init__(self) -> None:
        self.handles: list[Echo] = []

    def open(self, flags: int) -> Handle:
        self.handles.append(Echo())
        return self.handles[-1]


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard({"device": [{"type": "bme280"}]}) as board:
        yield board


def test_the_functions_are_replaced_in_the_block_only_and_those_on_descriptors_only_while_a_node_is_open(
    board: SimBoard,
) -> None:
    before = functions()
    with imports.led_to(board):
        read, write = os.read, os.write
        assert read in before
        fd = os.open("/dev/i2c-1", os.O_RDWR)
        assert os.read != read
        assert os.write != write
        other = os.open("/dev/i2c-1", os.O_RDWR)
        os.close(fd)
        assert os.read != read
        os.close(other)
        assert os.read is read
        assert os.write is write
    assert functions() == before


def test_the_functions_are_restored_after_an_exception_with_a_node_left_open(board: SimBoard) -> None:
    before = functions()
    opened = []

    def program() -> None:
        opened.append(os.open("/dev/i2c-1", os.O_RDWR))
        raise RuntimeError("the program's own")

    with pytest.raises(RuntimeError, match="the program's own"), imports.led_to(board):
        program()
    assert functions() == before
    os.close(opened[0])


def test_a_function_that_a_module_keeps_passes_everything_on_later(board: SimBoard, tmp_path: Path) -> None:
    with imports.led_to(board):
        kept_open, kept_listdir = os.open, os.listdir
    (tmp_path / "file").write_text("x")
    fd = kept_open(tmp_path / "file", os.O_RDONLY)
    assert os.read(fd, 9) == b"x"
    os.close(fd)
    assert kept_listdir(tmp_path) == ["file"]
    with pytest.raises(FileNotFoundError):
        kept_open("/dev/i2c-1", os.O_RDWR)


def test_a_handle_gets_the_calls_on_its_descriptor(board: SimBoard) -> None:
    node = EchoNode()
    board.nodes.add("/dev/echo", node)
    with imports.led_to(board):
        fd = os.open("/dev/echo", os.O_RDWR)
        assert os.read(fd, 2) == b"ab"
        assert os.write(fd, bytearray(b"xyz")) == 3
        buffer = bytearray(b"1234")
        assert fcntl.ioctl(fd, 0x10, buffer) == 7
        assert buffer == b"OK34"
        assert fcntl.ioctl(fd, 0x11, b"5678") == b"OK78"
        assert fcntl.ioctl(fd, 0x12, bytearray(b"9"), False) == b"O"
        assert fcntl.ioctl(fd, -1, 5) == 7
        with pytest.raises(OSError, match="Illegal seek"):
            os.lseek(fd, 0, os.SEEK_SET)
        os.close(fd)
    (handle,) = node.handles
    assert handle.calls == [2, b"xyz", (0x10, b"1234"), (0x11, b"5678"), (0x12, b"9\0\0\0"), (0xFFFFFFFF, 5)]
    assert handle.closed == 1


def test_a_number_that_was_closed_behind_the_table_belongs_to_its_next_user(board: SimBoard, tmp_path: Path) -> None:
    node = EchoNode()
    board.nodes.add("/dev/echo", node)
    path = tmp_path / "file"
    path.write_text("real")
    with imports.led_to(board):
        fd = os.open("/dev/echo", os.O_RDWR)
        os.closerange(fd, fd + 1)
        assert os.open(path, os.O_RDONLY) == fd
        assert os.read(fd, 9) == b"real"
        assert node.handles[0].closed == 1
        os.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_number_belongs_to_its_node_however_often_c_code_seeks_in_it(board: SimBoard) -> None:
    real_seek = os.lseek
    board.nodes.add("/dev/echo", EchoNode())
    board.nodes.add("/dev/other", EchoNode())
    with imports.led_to(board):
        fd, other = os.open("/dev/echo", os.O_RDWR), os.open("/dev/other", os.O_RDWR)
        for offset in (0, real_seek(other, 0, os.SEEK_CUR)):
            real_seek(fd, offset, os.SEEK_SET)
            assert os.read(fd, 9)
        os.close(fd)
        os.close(other)


def test_a_file_object_of_a_node_reads_writes_and_closes_it(board: SimBoard) -> None:
    node = EchoNode()
    board.nodes.add("/dev/echo", node)
    with imports.led_to(board):
        with open("/dev/echo", "r+b", buffering=0) as file:
            assert isinstance(file.fileno(), int)
            assert file.name == "/dev/echo"
            assert file.write(b"x") == 1
            assert file.read(3) == b"abc"
            assert fcntl.ioctl(file, 0x10, 1) == 7
        with pytest.raises(io.UnsupportedOperation, match="not seekable"), open("/dev/echo", "r+b"):
            pass
        with pytest.raises(ValueError, match="mode"), open("/dev/echo", "q"):
            pass
        with Path("/dev/echo").open("wb") as written:
            written.write(b"one ")
            written.write(b"piece")
        with os.fdopen(os.open("/dev/echo", os.O_RDONLY), "rb", 0) as reopened:
            assert reopened.read(1) == b"a"
    assert [handle.calls for handle in node.handles] == [[b"x", 3, (0x10, 1)], [], [b"one piece"], [1]]
    assert [handle.closed for handle in node.handles] == [1, 1, 1, 1]


def test_an_attribute_is_read_and_written_whole(board: SimBoard) -> None:
    values = ["1", "rejected"]

    def store(text: str) -> None:
        if not text.isdigit():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        values[0] = text

    board.nodes.add("/sys/class/thing/value", Attribute(lambda: values[0], store))
    board.nodes.add("/sys/class/thing/constant", Attribute(lambda: "text"))
    board.nodes.add("/sys/class/thing/trigger", Attribute(store=store))
    with imports.led_to(board):
        value = Path("/sys/class/thing/value")
        assert value.read_text() == "1\n"
        value.write_text("23\n")
        assert values[0] == "23"
        with open(value) as file:
            assert file.read() == "23\n"
            values[0] = "24"
            file.seek(0)
            assert file.read() == "24\n"
        fd = os.open(value, os.O_RDWR)
        assert (os.read(fd, 1), os.read(fd, 9), os.read(fd, 9)) == (b"2", b"4\n", b"")
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.read(fd, 9) == b"24\n"
        os.close(fd)
        with pytest.raises(OSError, match="Invalid argument"):
            value.write_text("x")
        for path, mode in (("constant", "w"), ("trigger", "r")):
            with (
                pytest.raises(PermissionError, match=f"/sys/class/thing/{path}"),
                open(f"/sys/class/thing/{path}", mode),
            ):
                pass


def test_directories_show_the_boards_files_beside_the_real_ones(board: SimBoard) -> None:
    board.nodes.add("/sys/class/thing/value", Attribute(lambda: "1"))
    board.nodes.add("/sys/class/link", Link("thing"))
    board.nodes.add("/dev/serial0", Link("ttyAMA0"))
    board.nodes.add("/dev/loop", Link("loop"))
    board.add_port("/dev/ttyAMA0")
    with imports.led_to(board):
        assert {"null", "i2c-1", "ttyAMA0", "serial0"} <= set(os.listdir("/dev"))
        assert os.listdir("/sys/class/thing") == ["value"]
        assert b"i2c-1" in os.listdir(b"/dev")
        assert glob.glob("/dev/i2c-*") == ["/dev/i2c-1"]
        assert glob.glob("/sys/class/thin*/*") == ["/sys/class/thing/value"]
        assert list(Path("/sys/class/thing").iterdir()) == [Path("/sys/class/thing/value")]
        assert list(Path("/sys/class/thing").glob("v*")) == [Path("/sys/class/thing/value")]
        assert os.path.exists("/dev/i2c-1")
        assert not os.path.exists("/dev/i2c-2")
        assert os.path.isdir("/sys/class/thing")
        assert os.path.isfile("/sys/class/thing/value")
        assert os.path.realpath("/dev/serial0") == "/dev/ttyAMA0"
        assert os.path.realpath("/sys/class/link/value") == "/sys/class/thing/value"
        assert Path("/sys/class/link/value").read_text() == "1\n"
        assert os.access("/dev/i2c-1", os.R_OK | os.W_OK)
        assert not os.access("/sys/class/thing/value", os.W_OK)
        found = os.stat("/dev/i2c-1")
        assert stat.S_ISCHR(found.st_mode)
        assert found.st_rdev == os.makedev(89, 1)
        with pytest.raises(OSError, match="symbolic links"):
            os.stat("/dev/loop")
    assert not os.path.exists("/sys/class/thing")


def test_a_relative_path_leads_to_a_node_where_the_working_directory_is_above_it(
    board: SimBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with imports.led_to(board):
        monkeypatch.chdir("/dev")
        for path in ("i2c-1", "./i2c-1", "../dev/i2c-1"):
            os.close(os.open(path, os.O_RDWR))
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert not os.path.exists("i2c-1")


def test_a_raw_bus_answers_ioctls_and_plain_transfers(board: SimBoard) -> None:
    with imports.led_to(board):
        fd = os.open("/dev/i2c-1", os.O_RDWR)
        functions = bytearray(8)
        fcntl.ioctl(fd, I2C_FUNCS, functions)
        assert struct.unpack("Q", functions)[0] & 1
        fcntl.ioctl(fd, I2C_SLAVE, 0x76)
        assert os.write(fd, b"\xd0") == 1
        assert os.read(fd, 1) == b"\x60"
        fcntl.ioctl(fd, I2C_SLAVE, 0x50)
        with pytest.raises(OSError, match="Remote I/O error"):
            os.read(fd, 1)
        with pytest.raises(OSError, match="Invalid argument"):
            fcntl.ioctl(fd, I2C_SLAVE, 0x80)
        os.close(fd)


def test_a_bus_that_the_board_lacks_says_so(board: SimBoard) -> None:
    class Can:
        family = socket.AF_CAN

    with imports.led_to(board), pytest.raises(OSError, match="the simulated board has no CAN bus"):
        sys.audit("socket.bind", Can(), ("can0",))
    sys.audit("socket.bind", Can(), ("can0",))


def test_threads_open_and_close_nodes_and_files_at_the_same_time(board: SimBoard, tmp_path: Path) -> None:
    node = EchoNode()
    board.nodes.add("/dev/echo", node)
    path = tmp_path / "file"
    path.write_text("real")
    failures: list[object] = []

    def use(_: int) -> None:
        for _ in range(50):
            fd = os.open("/dev/echo", os.O_RDWR)
            real = os.open(path, os.O_RDONLY)
            if (os.read(fd, 3), os.read(real, 9)) != (b"abc", b"real"):
                failures.append((fd, real))
            os.close(real)
            if os.read(fd, 1) != b"a":
                failures.append(fd)
            os.close(fd)

    with imports.led_to(board), concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
        read = os.read
    assert failures == []
    assert os.read is read
    assert [handle.closed for handle in node.handles] == [1] * 400


def test_a_block_within_a_block_has_the_inner_board(board: SimBoard) -> None:
    with SimBoard() as inner, imports.led_to(board):
        board.nodes.add("/dev/outer", EchoNode())
        with imports.led_to(inner):
            assert not os.path.exists("/dev/outer")
        assert os.path.exists("/dev/outer")


def test_strange_arguments_get_pythons_own_errors(board: SimBoard) -> None:
    board.nodes.add("/dev/echo", EchoNode())
    with imports.led_to(board):
        for function, arguments, options, kind in (
            (os.open, ("/dev/echo\0", os.O_RDONLY), {}, ValueError),
            (open, ("/dev/echo\0",), {}, ValueError),
            (open, ("/dev/echo", "rb"), {"encoding": "utf-8"}, ValueError),
            (open, ("/dev/echo",), {"buffering": 0}, ValueError),
            (open, ("/dev/echo",), {"closefd": False}, ValueError),
            (open, ("/dev/echo", "x"), {}, FileExistsError),
            (os.open, (None, os.O_RDONLY), {}, TypeError),
            (os.listdir, ("/dev/echo",), {}, NotADirectoryError),
            (os.scandir, ("/dev/echo",), {}, NotADirectoryError),
            (os.readlink, ("/dev/echo",), {}, OSError),
            (fcntl.ioctl, ("x", 1), {}, (TypeError, ValueError)),
            (fcntl.ioctl, (-1, 1), {}, (OSError, ValueError)),
            (os.close, (10_000,), {}, OSError),
            (os.read, (10_000, 1), {}, OSError),
        ):
            call: Any = function
            with pytest.raises(kind):
                call(*arguments, **options)
        file = open("/dev/echo", "rb", 0)  # noqa: SIM115
        with pytest.raises(io.UnsupportedOperation, match="not open for writing"):
            file.write(b"x")
        file.close()
        with pytest.raises(ValueError, match="closed file"):
            file.read(1)
