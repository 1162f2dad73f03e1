"""sigrok-cli decodes the UART, I2C and SPI lines of a trace's VCD, and finds all that the simulated board counted.

sigrok's decoders know nothing of hwloop. `make test-sigrok` installs sigrok-cli where it is missing (apt, root) and
runs these tests. So does .ci/run, which says so where it can't be installed.
"""

from __future__ import annotations

import asyncio
import collections
import random
import re
import shutil
import subprocess
import warnings

import gpiozero
import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.bus import Nack, RegisterDevice
from firmware_sim.trace import Trace, write
from hwloop import HardwareError, gpio, i2c, serial
from hwloop.pins import SimFactory
from hwloop.trace_events import I2cMessage, SpiTransfer

pytestmark = pytest.mark.skipif(shutil.which("sigrok-cli") is None, reason="needs sigrok-cli; run make test-sigrok")


@pytest.fixture
def stage(tmp_path):
    """A board in virtual time with a trace, and a function that decodes the trace with sigrok."""
    return Stage(tmp_path / "run.vcd")


class Stage:
    def __init__(self, file):
        self.file = file
        self.trace = Trace()

    def run(self, main, *parts):
        clock = hwloop.VirtualClock()
        with SimBoard({"device": list(parts)}, clock=clock, tracer=self.trace) as board:
            hwloop.run(main(board), board=board, clock=clock)
        write(self.trace, self.file)

    def decode(self, decoder):
        """Return the annotations of a decoder: their classes and texts."""
        # Log level 4 adds the classes of the annotations.
        call = ["sigrok-cli", "-l", "4", "-i", self.file, "-P", decoder]
        done = subprocess.run(
            call, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120
        )
        found = re.findall(r"^\d+-\d+ [\w-]+: ([\w-]+):((?: \"[^\"]*\")+)$", done.stdout, re.MULTILINE)
        assert len(found) == len(done.stdout.splitlines())
        return [(kind, texts.split('"')[-2]) for kind, texts in found]  # the last text is the shortest

    def uart(self, wire, direction, **settings):
        """Return the bytes that the UART decoder finds on a wire, and all its complaints."""
        options = ":".join(f"{name}={value}" for name, value in settings.items())
        found = self.decode(f"uart:{direction}={wire}:{options}")
        data = bytes(int(text, 16) for kind, text in found if kind == f"{direction}-data")
        bad = [kind for kind, _ in found if kind.endswith(("parity-err", "warnings", "break"))]
        return data, bad


GPS = {"type": "gps", "port": "/dev/ttyAMA0"}
MODBUS = {"type": "modbus-temperature", "port": "/dev/ttyUSB0", "parity": "E"}


def test_every_byte_of_a_serial_port_is_decoded(stage):
    async def main(board):
        async with (
            serial.open("/dev/ttyAMA0", 9600, framing=serial.Lines()) as gps,
            serial.open("/dev/ttyUSB0", 19200, parity="even") as modbus,
        ):
            for number in range(20):
                modbus.write(bytes.fromhex("010300000001840a"))
                await anext(modbus)
                await asyncio.sleep(0.005 * (number % 3))
            await anext(gps)
            await asyncio.sleep(2)
            ports.update({port.name: (port.bytes_out, port.bytes_in) for port in board.ports.values()})

    ports = {}
    stage.run(main, GPS, MODBUS)
    data, bad = stage.uart("ttyAMA0_rx", "rx", baudrate=9600)
    assert not bad
    assert data == stage.trace.data("/dev/ttyAMA0", "received")
    assert (len(data), 0) == ports["/dev/ttyAMA0"]
    for wire, direction, name, count in (("rx", "rx", "received", 0), ("tx", "tx", "sent", 1)):
        data, bad = stage.uart(f"ttyUSB0_{wire}", direction, baudrate=19200, parity="even")
        assert not bad
        assert data == stage.trace.data("/dev/ttyUSB0", name)
        assert len(data) == ports["/dev/ttyUSB0"][count] > 100


PARITIES = {"N": "none", "E": "even", "O": "odd", "M": "one", "S": "zero"}


@pytest.mark.parametrize(
    ("baudrate", "bytesize", "parity", "stopbits"),
    [(300, 8, "N", 1), (115200, 7, "E", 1), (9600, 8, "O", 2), (1_000_000, 5, "M", 1), (250_000, 6, "S", 2)],
)
def test_bytes_are_decoded_at_all_settings(stage, baudrate, bytesize, parity, stopbits):
    source = random.Random(baudrate)
    sent = bytes(source.randrange(1 << bytesize) for _ in range(100))

    async def main(board):
        board.add_port("/dev/ttyS7").attach(Deaf())
        settings = {"bytesize": bytesize, "parity": parity, "stopbits": stopbits}
        async with serial.open("/dev/ttyS7", baudrate, **settings) as port:
            for start in range(0, 100, 25):
                port.write(sent[start : start + 25])
                await asyncio.sleep(0.01 * start / 25)

    stage.run(main)
    options = {"data_bits": bytesize, "parity": PARITIES[parity], "stop_bits": "1.0"}
    assert stage.uart("ttyS7_tx", "tx", baudrate=baudrate, **options) == (sent, [])


class Deaf:
    def receive(self, data):
        pass


class Stubborn(RegisterDevice):
    """Rejects a byte 0xFF."""

    def write(self, data):
        if b"\xff" in data:
            raise Nack
        super().write(data)


def decoded_transfers(annotations):
    """Return the transfers that the I2C decoder has seen, as messages with their acknowledge bits."""
    transfers = []
    for kind, text in annotations:
        if text in ("W", "R"):  # the direction, which the next annotation has as well
            continue
        value = int(text, 16) if kind.startswith(("address", "data")) else None
        if kind == "start":
            transfers.append([])
        elif kind in ("address-read", "address-write"):
            transfers[-1].append((value, "received" if kind == "address-read" else "sent", bytearray(), []))
        elif kind.startswith("data"):
            transfers[-1][-1][2].append(value)
        elif kind in ("ack", "nack"):
            transfers[-1][-1][3].append(kind == "ack")
    return transfers


def test_every_message_of_an_i2c_bus_is_decoded(stage):
    async def main(board):
        board.bus(1).attach(0x20, Stubborn())
        async with i2c.open(1) as bus:
            chip, stubborn = bus.device(0x76), bus.device(0x20)
            for number in range(20):
                await chip.read_block(0xF7, 8)
                await stubborn.write_register(number, 12 * number)
                await asyncio.sleep(0.001 * (number % 3))
                with pytest.raises(HardwareError):
                    await bus.device(0x55).read_register(1)
                with pytest.raises(HardwareError):
                    await stubborn.write_register(number, 255)
            await bus.scan()
            board.i2c(1)[0x20].stretch = 0.01
            await stubborn.read_register(5)
        wire = board.i2c(1)
        counted.update(transfers=wire.transfers, bytes=wire.bytes, nacks=wire.nacks)

    counted = collections.Counter()
    stage.run(main, {"type": "bme280"})
    annotations = stage.decode("i2c:scl=i2c1_scl:sda=i2c1_sda")
    kinds = collections.Counter(kind for kind, _ in annotations)
    assert kinds["warnings"] == 0
    assert kinds["start"] == kinds["stop"] == counted["transfers"] > 180
    assert kinds["ack"] + kinds["nack"] == counted["bytes"]
    found, recorded = decoded_transfers(annotations), stage.trace.transfers(1)
    assert [
        [I2cMessage(address, direction, bytes(data)) for address, direction, data, _ in each] for each in found
    ] == [list(transfer.messages) for transfer in recorded]
    # A reader does not acknowledge its last byte; any other byte that is not acknowledged is a failure.
    failures = 0
    for address, direction, data, acknowledged in (message for each in found for message in each):
        assert all(acknowledged[:-1]), (address, direction, data)
        failures += not acknowledged[-1] and not (direction == "received" and data)
    assert failures == counted["nacks"] == sum(bool(transfer.error) for transfer in recorded)


def test_nothing_is_decoded_while_the_bus_hangs(stage):
    async def main(board):
        async with i2c.open(1, timeout=5) as bus:
            board.i2c(1).hang()
            with pytest.raises(HardwareError):
                await bus.device(0x76).read_register(0xD0)
            board.i2c(1).release()
            await bus.device(0x76).read_register(0xD0)

    stage.run(main, {"type": "bme280"})
    kinds = [
        kind
        for kind, text in stage.decode("i2c:scl=i2c1_scl:sda=i2c1_sda")
        if text not in ("R", "W") and kind in ("start", "stop", "address-write", "address-read")
    ]
    assert kinds == ["start", "address-write", "address-read", "stop"]


class Mcp3008:
    """An analog-digital converter on the chip's lines, which counts the bytes that it exchanges."""

    def __init__(self, board):
        self.clock, self.out, self.into, self.select = map(board.line, (11, 9, 10, 8))
        self.received, self.sent = bytearray(), bytearray()
        self.random = random.Random(3008)
        self.byte = self.random.randrange(256)
        self.clock.observe(self.on_clock)
        self.select.observe(self.on_select)
        self.bits = []

    def on_select(self, level, when_ns):
        self.bits = []
        self.out.drive(None if level else self.next_bit())

    def next_bit(self):
        return self.byte >> (7 - len(self.bits)) & 1

    def on_clock(self, level, when_ns):
        if self.select.level:
            return
        if level:
            self.bits.append(self.into.level)
            if len(self.bits) == 8:
                self.received.append(int("".join(map(str, self.bits)), 2))
                self.sent.append(self.byte)
                self.byte = self.random.randrange(256)
                self.bits = []
        else:
            self.out.drive(self.next_bit())


def test_every_byte_of_an_spi_bus_is_decoded(stage, monkeypatch):
    clock = hwloop.VirtualClock()
    with SimBoard(clock=clock, tracer=stage.trace) as board, SimFactory(board=board) as factory:
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        chip = Mcp3008(board)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the software SPI is the subject here
            adc = gpiozero.MCP3008(3)
        with adc:
            values = [adc.raw_value for _ in range(50)]
        assert len(set(values)) > 30
    write(stage.trace, stage.file)
    annotations = stage.decode("spi:clk=line11:miso=line9:mosi=line10:cs=line8")
    kinds = collections.defaultdict(bytearray)
    for kind, text in annotations:
        if kind in ("mosi-data", "miso-data"):
            kinds[kind].append(int(text, 16))
        assert kind != "warnings"
    assert kinds["mosi-data"] == chip.received
    assert len(chip.received) >= 100
    assert kinds["miso-data"] == chip.sent


def test_an_edge_of_a_watched_line_is_a_change_in_the_file(stage):
    async def main(board):
        async with gpio.watch(17):
            for number in range(100):
                board.line(17).drive(1 - number % 2)
                await asyncio.sleep(0.0001 * (1 + number % 7))
        counted.append(board.line(17).changes)

    counted = []
    stage.run(main)
    found = stage.decode("counter:data=line17:data_edge=any")
    assert len([kind for kind, _ in found if kind == "edge_count"]) == counted[0] >= 100


def test_every_byte_of_recorded_spi_transfers_is_decoded(stage):
    source = random.Random(8)
    stage.trace.record(SpiTransfer(1000, 25_000, 0, 0, b"\x01\x80\x00", b"\x00\x02\xa0", ""))
    for number in range(1, 50):
        sent, received = source.randbytes(number), source.randbytes(number)
        start_ns = number * 1_000_000
        stage.trace.record(SpiTransfer(start_ns, start_ns + 8000 * number, 0, number % 2, sent, received, ""))
    write(stage.trace, stage.file)
    for select in (0, 1):
        wires = "clk=spi0_sclk:mosi=spi0_mosi:miso=spi0_miso"
        found = stage.decode(f"spi:{wires}:cs=spi0_ce{select}")
        for kind, name in (("mosi-data", "sent"), ("miso-data", "received")):
            data = bytes(int(text, 16) for each, text in found if each == kind)
            assert data == b"".join(getattr(event, name) for event in stage.trace.exchanges(0, select))
