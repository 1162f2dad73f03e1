"""`hwloop monitor`: what is printed, in which shape, and when it ends."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_sim import SimBoard
from firmware_sim.bus import RegisterDevice
from hwloop.cli import main, monitor, process
from hwloop.cli.term import Terminal
from hwloop.core import registry

ROOT = Path(__file__).parents[1]
BOARD = """
[[device]]
type = "button"
line = 17
press_every = 0.02
hold = 0.01

[[device]]
type = "gps"
port = "/dev/ttyAMA0"
baudrate = 115200
interval = 0.1

[[device]]
type = "bme280"
"""
Monitor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def wiring(tmp_path: Path) -> str:
    path = tmp_path / "board.toml"
    path.write_text(BOARD, encoding="utf-8")
    return str(path)


@pytest.fixture
def watch(wiring: str, capsys: pytest.CaptureFixture[str]) -> Monitor:
    """`watch("gpio:17")` gives the status and the lines of `hwloop monitor` on the board above."""

    def watch(*arguments: str) -> tuple[int, list[str]]:
        status = main(["monitor", "--board", wiring, *arguments])
        said = capsys.readouterr()
        assert said.err == ""
        return status, said.out.splitlines()

    return watch


def test_edges_are_printed_with_their_time_one_on_each_line(watch: Monitor) -> None:
    status, lines = watch("gpio:17,up", "--num-events", "4")
    assert status == 0
    # The button may be up or down when the watch begins.
    assert sorted(re.sub(r"^\d\d:\d\d:\d\d\.\d{6}  ", "", line) for line in lines) == [
        "gpio:17,up  falling    0",
        "gpio:17,up  falling    0",
        "gpio:17,up  rising     1",
        "gpio:17,up  rising     1",
    ]


def test_several_sources_are_followed_at_once(watch: Monitor) -> None:
    _, lines = watch("gpio:GPIO17,up", "serial:/dev/ttyAMA0,115200", "i2c:1:0x76:0xD0@0.02", "--num-events", "60")
    assert {line.split()[1] for line in lines} == {
        "gpio:GPIO17,up",
        "serial:/dev/ttyAMA0,115200",
        "i2c:1:0x76:0xD0@0.02",
    }


def test_a_line_of_text_is_one_event(watch: Monitor) -> None:
    _, lines = watch("serial:/dev/ttyAMA0", "--num-events", "8", "--format", "{event} {value}")
    # The first one is the rest of a sentence if the port was opened in the middle of it; and of one in whose middle the
    # machine stands still, the monitor makes two.
    sentences = [line for line in lines if re.fullmatch(r"data \$GP[A-Z]{3},[^$]*\*[0-9A-F]{2}", line)]
    assert len(sentences) >= 2
    assert all(line.count("$") <= 1 for line in lines)


def test_a_port_is_found_by_the_numbers_of_lsusb(wiring: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "--board", wiring, "serial:0403:6001:nobody,19200"]) != 0
    assert "serial.find(vendor=0x0403, product=0x6001, serial_number='nobody'): no such port" in capsys.readouterr().err


def test_a_device_is_read_or_asked_whether_it_is_there(watch: Monitor) -> None:
    status, lines = watch(
        "i2c:1:0x76:0xD0@0.005", "i2c:1:0x76@0.005", "i2c:1:0x20@0.005", "i2c:1:0x76:0x88,3@0.005",
        "--num-events", "20", "--format", "{source} {event} {value}",
    )  # fmt: skip
    assert status == 0
    assert lines.count("i2c:1:0x76@0.005 answers ") == 1
    assert lines.count("i2c:1:0x20@0.005 no-answer no answer (Remote I/O error)") == 1
    assert lines.count("i2c:1:0x76:0xD0@0.005 reading 60") > 2
    assert lines.count("i2c:1:0x76:0x88,3@0.005 reading 70 6b 43") > 2


def test_a_device_that_goes_and_comes_back_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ("i2c:1:0x76@0.002", "i2c:1:0x76:0xD0@0.002")
    specs = [monitor.parse(text) for text in texts]
    seen: list[str] = []

    def show(event: monitor.Event) -> str:
        seen.append(f"{event.source} {event.event}")
        if seen.count("i2c:1:0x76@0.002 answers") == 1 and seen[-1].endswith("reading") and not away:
            away.append(board.bus(1).detach(0x76))
        if away and not back and {f"{spec} no-answer" for spec in texts} <= set(seen):
            back.append(True)
            board.bus(1).attach(0x76, away[0])
        return ""

    away: list[object] = []
    back: list[bool] = []
    with SimBoard({"device": [{"type": "bme280"}]}) as board, process.hosted(board) as host:
        host.run(monitor.Monitor(specs, show, 25, None).run)
    presence = [line for line in seen if line.startswith("i2c:1:0x76@")]
    assert [line.split()[1] for line in presence] == ["answers", "no-answer", "answers"]
    assert "i2c:1:0x76:0xD0@0.002 no-answer" in seen


class Sensor(RegisterDevice):
    """A part with an identity, a mode register, and data registers with their reset value."""

    def __init__(self, identity: tuple[int, int], mode: tuple[int, int], data: int, reset: bytes) -> None:
        super().__init__()
        self.registers[identity[0]] = identity[1]
        self.registers[mode[0]] = mode[1]
        self.registers[data : data + len(reset)] = reset


BMX_RESET = bytes.fromhex("800000 800000 8000")
SLEEPING = {
    "BME280": (0x76, ((0xD0, 0x60), (0xF4, 0x00), 0xF7, BMX_RESET), "0xF7,8", "0xf4 0x27"),
    "BME280 temperature": (0x77, ((0xD0, 0x60), (0xF4, 0x00), 0xF7, BMX_RESET), "0xFA,3", "0xf4 0x27"),
    "BME280 humidity": (0x77, ((0xD0, 0x60), (0xF4, 0xFC), 0xF7, BMX_RESET), "0xFD,2", "0xf4 0x27"),
    "BME280 all": (0x76, ((0xD0, 0x60), (0xF4, 0x00), 0xF7, BMX_RESET), "0xF0,16", "0xf4 0x27"),
    "BMP280": (0x76, ((0xD0, 0x58), (0xF4, 0x00), 0xF7, BMX_RESET[:6]), "0xF7,6", "0xf4 0x27"),
    "MPU-6050": (0x68, ((0x75, 0x68), (0x6B, 0x40), 0x3B, bytes(14)), "0x3B,6", "0x6b 0x00"),
    "ADXL345": (0x53, ((0x00, 0xE5), (0x2D, 0x00), 0x32, bytes(6)), "0x32,6", "0x2d 0x08"),
}


@pytest.mark.parametrize("part", SLEEPING)
def test_a_sensor_that_sleeps_is_said_to_once_and_read_when_it_measures(part: str) -> None:
    address, registers, block, command = SLEEPING[part]
    spec = monitor.parse(f"i2c:1:{address:#04x}:{block}@0.002")
    sensor = Sensor(*registers)
    seen: list[tuple[str, int | str]] = []

    def show(event: monitor.Event) -> str:
        seen.append((event.event, event.value))
        if event.event == "asleep":
            _, (mode, _), data, reset = registers
            sensor.registers[mode] = int(command.split()[1], 16)
            sensor.registers[data : data + len(reset)] = b"\x55" * len(reset)
        elif len(seen) == 4:  # asleep again; what it measured stays, and is shown
            sensor.registers[registers[1][0]] = registers[1][1]
        return ""

    with SimBoard() as board, process.hosted(board) as host:
        board.bus(1).attach(address, sensor)
        host.run(monitor.Monitor([spec], show, 8, None).run)
    name = part.split()[0]
    assert seen[0] == (
        "asleep",
        f"{name} sleeps and has measured nothing yet; wake it with i2cset -y 1 {address:#04x} {command}",
    )
    assert [event for event, _ in seen[1:]] == ["reading"] * 7


@pytest.mark.parametrize(
    ("identity", "mode"), [(0x60, 0x27), (0x12, 0x00)], ids=["it measures just that", "another part"]
)
def test_a_reading_that_looks_like_a_reset_value_and_is_none_is_a_reading(identity: int, mode: int) -> None:
    spec = monitor.parse("i2c:1:0x76:0xF7,8@0.002")
    seen: list[str] = []

    def show(event: monitor.Event) -> str:
        seen.append(f"{event.event} {event.value}")
        return ""

    with SimBoard() as board, process.hosted(board) as host:
        board.bus(1).attach(0x76, Sensor((0xD0, identity), (0xF4, mode), 0xF7, BMX_RESET))
        host.run(monitor.Monitor([spec], show, 3, None).run)
    assert seen == ["reading 80 00 00 80 00 00 80 00"] * 3


def test_json_has_an_object_on_each_line(watch: Monitor) -> None:
    _, lines = watch("gpio:17,up", "i2c:1:0x76:0xD0", "--json", "--num-events", "40")
    events = [json.loads(line) for line in lines]
    assert all(list(event) == ["time", "timestamp", "source", "event", "value", "lost"] for event in events)
    by_source = {event["source"]: event for event in events}
    assert by_source["i2c:1:0x76:0xD0"]["value"] == "60"
    edge = by_source["gpio:17,up"]
    assert edge["value"] in (0, 1)
    assert edge["lost"] == 0
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(edge["time"])
    assert abs(age) < datetime.timedelta(seconds=60)
    assert 0 <= time.monotonic() - edge["timestamp"] < 60


def test_a_template_decides_how_a_line_looks(watch: Monitor) -> None:
    _, lines = watch("gpio:17,up", "--num-events", "2", "--format", "{{{time:%Y}}} {timestamp:.6f} {value:02d}{lost}")
    assert {re.sub(r"\{20\d\d\} \d+\.\d{6}", "-", line) for line in lines} == {"- 000", "- 010"}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{foo}", "there is no field 'foo'; the fields are time, timestamp, source, event, value, lost"),
        ("{}", "there is no field ''; the fields are "),
        ("{time.year}", "there is no field 'time.year'; the fields are "),
        ("{value", "expected '}' before end of string; write '{{' for a brace; the fields are "),
        ("{value:s}", "can't show an event of gpio:17: "),
        ("{value:{width}}", "can't show an event of gpio:17: 'width'; the fields are "),
    ],
)
def test_a_template_that_can_not_be_filled_is_rejected(
    template: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", "gpio:17", "--format", template]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hwloop monitor: --format {template!r}")
    assert message in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: SOURCE"),
        (["gpio"], "'gpio' is not a source; write sources as gpio:17[,up], serial:/dev/ttyUSB0[,9600], i2c:1:0x76["),
        (["spi:0"], "'spi:0' is not a source; write sources as gpio:17[,up]"),
        (
            ["gpio:"],
            "'gpio:': a line is a BCM number such as 17, or a name such as 'GPIO17' or 'J8:11', not ''; write sources ",
        ),
        (["gpio:17,high"], "'gpio:17,high': a pull is up, down or none, not 'high'; write sources as "),
        (["serial:"], "'serial:': a port has a name; write sources as "),
        (["serial:/dev/ttyUSB0,fast"], "'serial:/dev/ttyUSB0,fast': a baud rate is a whole number, not 'fast'; "),
        (["serial:/dev/ttyUSB0,0"], "'serial:/dev/ttyUSB0,0': a baud rate is a whole number, not '0'; "),
        (["i2c:1"], "'i2c:1': an I2C device is BUS:ADDRESS, and perhaps a register; "),
        (["i2c:1:2:3:4"], "'i2c:1:2:3:4': an I2C device is BUS:ADDRESS, and perhaps a register; "),
        (["i2c:x:0x76"], "'i2c:x:0x76': a bus is a number such as 1 or 0x76, not 'x'; "),
        (["i2c:1:0x78"], "'i2c:1:0x78': an address is 0x3 to 0x77, not 0x78; "),
        (["i2c:1:0x76:256"], "'i2c:1:0x76:256': a register is 0x0 to 0xff, not 256; "),
        (["i2c:1:0x76:0xF7,"], "'i2c:1:0x76:0xF7,': a length is a number such as 1 or 0x76, not ''; "),
        (["i2c:1:0x76@"], "'i2c:1:0x76@': an interval must be more than 0 seconds, not ''; "),
        (["i2c:1:0x76@-1"], "'i2c:1:0x76@-1': an interval must be more than 0 seconds, not '-1'; "),
        (["gpio:17", "--num-events", "0"], "--num-events must be 1 or more, not 0"),
        (["gpio:17", "--idle-timeout", "0"], "--idle-timeout must be more than 0, not 0"),
        (["gpio:17", "--json", "--format", "{value}"], "argument --format: not allowed with argument --json"),
    ],
)
def test_wrong_arguments_say_how_to_correct_them(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"hwloop monitor: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpio:99"], "line 99: no such line on /dev/gpiochip0; its lines are 0 to 53"),
        (["serial:/dev/ttyX"], "/dev/ttyX: no such port on the simulated board; its ports are: /dev/ttyAMA0"),
        (["i2c:7:0x76"], "/dev/i2c-7: no such bus on the simulated board; its buses are: 1"),
        (["gpio:17", "gpio:GPIO17"], "line GPIO17: in use by this program already, as gpio:17; close that first"),
    ],
)
def test_hardware_that_is_not_there_ends_it(
    wiring: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", "--board", wiring, *arguments]) == 1
    assert capsys.readouterr().err == f"hwloop monitor: {message}\n"


def test_it_ends_when_nothing_happens_any_more(watch: Monitor) -> None:
    before = time.monotonic()
    assert watch("gpio:5", "--idle-timeout", "0.05") == (0, [])
    assert time.monotonic() - before >= 0.05


@pytest.mark.slow
def test_readings_keep_it_going_until_the_events_are_enough(watch: Monitor) -> None:
    status, lines = watch("i2c:1:0x76:0xD0@0.1", "--idle-timeout", "1.5", "--num-events", "20")
    assert (status, len(lines)) == (0, 20)


def test_a_port_that_is_pulled_out_is_reported_and_followed_again(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[monitor.Event] = []

    def show(event: monitor.Event) -> str:
        seen.append(event)
        if len(seen) == 1:
            board.ports["gps"].unplug()
            board.ports["gps"].replug()
        return ""

    gps = {"type": "gps", "port": "gps", "baudrate": 921600, "interval": 0.05}
    with SimBoard({"device": [gps]}) as board, process.hosted(board) as host:
        host.run(monitor.Monitor([monitor.parse("serial:gps")], show, 10, None).run)
    assert len(seen) == 10
    said = capsys.readouterr().err
    assert said.startswith("hwloop monitor: serial:gps failed; it is reopened as soon as that works: ")
    assert said.count("\n") == 1


def test_bytes_that_are_no_text_are_escaped_and_come_after_a_silence() -> None:
    framing = monitor.LinesAndRests(0.01)
    assert [frame.data for frame in framing.feed(b"one\r\ntwo\nthr", 0)] == [b"one", b"two"]
    assert framing.flush(9_000_000) == []
    assert [frame.data for frame in framing.flush(10_000_000)] == [b"thr"]
    assert framing.deadline_ns is None
    assert monitor.printable(b"ok \x1b[31m\\\xff\0") == r"ok \x1b[31m\x5c\xff\x00"


def test_lost_events_are_printed() -> None:
    show = monitor.as_text(Terminal(sys.stdout), 7)
    assert show(monitor.Event("gpio:17", "rising", 1, 0, 3)).endswith("gpio:17  rising     1  (3 lost before)")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(number: signal.Signals, wiring: str, capsys: pytest.CaptureFixture[str]) -> None:
    def send() -> None:
        give_up = time.monotonic() + 20
        while not any(loop.is_running() for loop in registry.loops()):
            assert time.monotonic() < give_up
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    assert main(["monitor", "--board", wiring, "gpio:5"]) == 128 + number
    assert capsys.readouterr() == ("", "")


def test_nobody_reading_any_more_ends_it_quietly(wiring: str) -> None:
    command = [sys.executable, "-m", "hwloop", "monitor", "--board", wiring, "gpio:17,up"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(20) == 128 + signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_has_no_room_is_reported_and_ends_it(wiring: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "hwloop", "monitor", "--board", wiring, "gpio:17,up"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=20,
        )
    assert ended.stderr == "hwloop monitor: standard output: no space left on device; what was to come is lost\n"
    assert ended.returncode == 1
