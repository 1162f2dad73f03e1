"""A simulated board reports all that happens on its lines, ports and buses to its tracer."""

from __future__ import annotations

import pytest

import hwloop
from firmware_sim import SimBoard, WiringError
from firmware_sim.trace import Trace
from hwloop import gpio, i2c, serial
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange, SerialData

BOARD = {
    "device": [
        {"type": "button", "name": "door", "line": 17, "resistor": True},
        {"type": "led", "name": "lamp", "line": 27},
        {"type": "bme280", "name": "climate"},
        {"type": "modbus-temperature", "port": "/dev/ttyUSB0"},
    ]
}


def traced(main):
    trace = Trace()
    clock = hwloop.VirtualClock()
    with SimBoard(BOARD, clock=clock, tracer=trace) as board:
        hwloop.run(main(board), board=board, clock=clock)
    return trace


def test_a_line_change_names_what_caused_it():
    async def main(board):
        async with gpio.output(27) as lamp, gpio.watch(17):
            board["door"].press()
            lamp.set(1)
            board.line(5).drive(0)

    changes = [(it.line, it.level, it.by) for it in traced(main).of(LineChange)]
    assert changes == [
        (17, 1, "the button on line 17"),
        (17, 0, "the button on line 17"),
        (27, 1, "program"),
        (5, 0, "outside"),
    ]


def test_serial_data_in_both_directions():
    request = bytes.fromhex("010300000001840a")

    async def main(board):
        async with serial.open("/dev/ttyUSB0", 19200) as port:
            port.write(request)
            await anext(port)

    data = traced(main).of(SerialData)
    assert b"".join(it.data for it in data if it.direction == "sent") == request
    assert b"".join(it.data for it in data if it.direction == "received").startswith(b"\x01\x03")
    assert {it.port for it in data} == {"/dev/ttyUSB0"}
    assert data == sorted(data, key=lambda it: it.when_ns)


def test_a_transfer_has_its_messages_its_time_and_its_failure():
    async def main(board):
        async with i2c.open(1) as bus:
            await bus.run(lambda it: it.read_i2c_block_data(0x76, 0xD0, 1))
            with pytest.raises(OSError, match="Remote I/O error"):
                await bus.run(lambda it: it.read_byte(0x20))

    good, bad = traced(main).of(I2cTransfer)
    assert good.messages == (I2cMessage(0x76, "sent", b"\xd0"), I2cMessage(0x76, "received", b"\x60"))
    assert (good.bus, good.error) == (1, "")
    assert good.end_ns - good.when_ns == 4 * 9 * 10_000
    assert bad.messages == (I2cMessage(0x20, "received", b""),)
    assert bad.error == "EREMOTEIO"


def test_a_device_is_found_by_its_name():
    with SimBoard(BOARD) as board:
        assert board["lamp"] is board.devices[1]
        assert board.i2c(1)[0x76] is board["climate"]
        assert board.serial("/dev/ttyUSB0").name == "/dev/ttyUSB0"


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda board: board["dor"], "no device 'dor' on simulated board; there are: climate, door, lamp"),
        (lambda board: board.i2c(3), "no I2C bus 3 on simulated board; there are: 1"),
        (lambda board: board.i2c(1)[0x20], "no device at 0x20 on I2C bus 1; there are: 0x76"),
        (lambda board: board.serial("ttyUSB0"), "no port 'ttyUSB0' on simulated board; there are: /dev/ttyUSB0"),
    ],
)
def test_an_unknown_name_raises_an_error_that_lists_the_known_ones(find, message):
    with SimBoard(BOARD) as board, pytest.raises(KeyError) as raised:
        find(board)
    assert raised.value.args == (message,)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["door", "door"], "wiring: device 2: the name 'door' is used already, by device 1"),
        (["door", ""], "wiring: device 2: name must be a string that is not empty, not ''"),
        ([4], "wiring: device 1: name must be a string that is not empty, not 4"),
    ],
)
def test_names_are_checked(names, message):
    devices = [{"type": "led", "line": line, "name": name} for line, name in enumerate(names)]
    with pytest.raises(WiringError, match=f"^{message}$"):
        SimBoard({"device": devices})
