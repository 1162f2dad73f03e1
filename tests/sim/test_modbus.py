"""The simulated Modbus RTU thermometer, by the specification, and over its wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim import SimBoard
from firmware_sim.devices.modbus import ModbusTemperature, crc16
from firmware_sim.errors import WiringError
from hwloop.board import using
from hwloop.sources import serial

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "/dev/ttyUSB0"


def frame(text: str) -> bytes:
    """A frame from its bytes in hexadecimal, with the CRC added."""
    data = bytes.fromhex(text)
    return data + crc16(data)


@pytest.fixture
def slave() -> ModbusTemperature:
    return ModbusTemperature(NAME)


def test_the_crc_is_that_of_the_specification() -> None:
    # "MODBUS over Serial Line" 1.02, appendix B: 02 07 gives 1241 hex, low byte first on the wire.
    assert crc16(b"\x02\x07") == b"\x41\x12"
    assert crc16(b"") == b"\xff\xff"


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("01 04 0000 0001", "01 04 02 00D7"),
        ("01 04 0000 0002", "01 04 04 00D7 0000"),
        ("01 03 0000 0003", "01 03 06 0000 0000 0190"),
        ("01 03 0002 0001", "01 03 02 0190"),
        ("01 06 0001 FFCE", "01 06 0001 FFCE"),
        ("01 10 0001 0002 04 0064 00C8", "01 10 0001 0002"),
        ("01 06 0002 0190", "01 06 0002 0190"),
        ("01 05 0000 FF00", "01 85 01"),  # a function it does not have
        ("01 04 0002 0001", "01 84 02"),
        ("01 03 0002 0002", "01 83 02"),
        ("01 03 FFFF 0001", "01 83 02"),
        ("01 06 0003 0000", "01 86 02"),
        ("01 10 0002 0002 04 0000 0000", "01 90 02"),
        ("01 03 0000 0000", "01 83 03"),
        ("01 03 0000 007E", "01 83 03"),
        ("01 03 0000", "01 83 03"),
        ("01 06 0000 0065", "01 86 03"),  # an offset of more than ten degrees
        ("01 10 0000 0000 00", "01 90 03"),
        ("01 10 0000 0001 04 0000 0000", "01 90 03"),
        ("01 10 0000 0002 04 0000", "01 90 03"),
        ("01 10 0000", "01 90 03"),
    ],
)
def test_requests_get_the_replies_of_the_specification(slave: ModbusTemperature, request_: str, reply: str) -> None:
    assert slave.respond(frame(request_)) == frame(reply)


def test_written_values_can_be_read_and_change_the_reading(slave: ModbusTemperature) -> None:
    slave.respond(frame("01 10 0000 0003 06 FFF6 FF38 00C8"))
    assert slave.holding == [-10, -200, 200]
    assert slave.respond(frame("01 04 0000 0002")) == frame("01 04 04 00CD 0002")  # 20.5 °C: too hot
    slave.temperature = -20.0
    assert slave.respond(frame("01 04 0000 0002")) == frame("01 04 04 FF2E 0001")  # -21.0 °C: too cold


def test_a_refused_write_changes_nothing(slave: ModbusTemperature) -> None:
    slave.respond(frame("01 10 0000 0002 04 7FFF 0001"))
    slave.respond(frame("01 10 0001 0003 06 0001 0002 0003"))
    assert slave.holding == [0, 0, 400]


def test_a_broadcast_is_obeyed_and_not_answered(slave: ModbusTemperature) -> None:
    assert slave.respond(frame("00 06 0002 0001")) == b""
    assert slave.holding[2] == 1


@pytest.mark.parametrize(
    "request_", [b"", b"\x01", frame("02 04 0000 0001"), frame("01 04 0000 0001")[:-1] + b"\0", frame("00" * 300)]
)
def test_a_damaged_request_or_one_for_another_unit_gets_no_answer(slave: ModbusTemperature, request_: bytes) -> None:
    assert slave.respond(request_) == b""


@settings(max_examples=200, derandomize=True)
@given(body=st.binary(max_size=260))
def test_no_request_breaks_it(body: bytes) -> None:
    slave = ModbusTemperature(NAME)
    reply = slave.respond(b"\x01" + body + crc16(b"\x01" + body))
    assert reply == b"" or (reply[0] == 1 and crc16(reply[:-2]) == reply[-2:])
    assert slave.respond(body) == b"" or crc16(body[:-2]) == body[-2:]


class TestOnTheWire:
    @pytest.fixture
    def board(self) -> Any:
        wiring = {"device": [{"type": "modbus-temperature", "port": NAME, "baudrate": 115200, "reply_delay": 0.001}]}
        with SimBoard(wiring) as board, using(board):
            yield board

    @asynccontextmanager
    async def line(self) -> AsyncIterator[serial.SerialPort]:
        framing = serial.IdleGap(0.005, check=lambda reply: crc16(reply[:-2]) == reply[-2:])
        async with serial.open(NAME, 115200, framing=framing) as line, asyncio.timeout(5):
            yield line

    def test_it_answers(self, run: Run, board: SimBoard) -> None:
        async def main() -> None:
            async with self.line() as line:
                for _ in range(3):
                    line.write(frame("01 04 0000 0001"))
                    assert (await anext(line)).data == frame("01 04 02 00D7")

        run(main())

    def test_garbage_and_half_a_request_are_ignored_and_the_next_is_answered(self, run: Run, board: SimBoard) -> None:
        async def main() -> None:
            [slave] = board.devices
            assert isinstance(slave, ModbusTemperature)
            async with self.line() as line:
                for nonsense in (b"\xff" * 300, frame("01 04 0000 0001")[:5], frame("09 04 0000 0001")):
                    ignored = slave.ignored
                    line.write(nonsense)
                    while slave.ignored == ignored:
                        await asyncio.sleep(0.001)
                line.write(frame("01 04 0000 0001"))
                assert (await anext(line)).data == frame("01 04 02 00D7")
                assert (slave.ignored, slave.answered) == (3, 1)

        run(main())

    def test_a_request_in_pieces_is_one_request(self, run: Run, board: SimBoard) -> None:
        async def main() -> None:
            [slave] = board.devices
            assert isinstance(slave, ModbusTemperature)
            async with self.line() as line:
                request = frame("01 04 0000 0001")
                with board.timeline.lock:
                    slave.wire.receive(request[:3])
                    slave.wire.receive(request[3:])
                assert (await anext(line)).data == frame("01 04 02 00D7")
                assert (slave.answered, slave.ignored) == (1, 0)

        run(main())

    def test_endless_noise_is_not_kept(self, board: SimBoard) -> None:
        [slave] = board.devices
        assert isinstance(slave, ModbusTemperature)
        with board.timeline.lock:
            slave.wire.receive(bytes(10_000))
            assert len(slave.wire._request) <= 257

    def test_two_requests_without_silence_between_them_are_one_bad_frame(self, run: Run, board: SimBoard) -> None:
        async def main() -> None:
            [slave] = board.devices
            assert isinstance(slave, ModbusTemperature)
            async with self.line() as line:
                line.write(frame("01 04 0000 0001") * 2)
                while not slave.ignored:
                    await asyncio.sleep(0.001)
                assert slave.answered == 0

        run(main())


@pytest.mark.parametrize("keys", [{"unit": 0}, {"unit": 248}, {"baudrate": 0}, {"reply_delay": -1}])
def test_a_slave_with_impossible_values_raises(keys: dict[str, object]) -> None:
    with pytest.raises(WiringError, match="must be"):
        SimBoard({"device": [{"type": "modbus-temperature", "port": NAME, **keys}]})


@pytest.mark.parametrize(
    ("settings", "answered"),
    [
        ({"parity": "E"}, 1),
        ({"parity": "N"}, 0),
        ({"parity": "O"}, 0),
        ({"parity": "E", "bytesize": 7}, 0),
        ({"parity": "E", "baudrate": 9600}, 0),
    ],
)
def test_with_a_set_parity_it_ignores_requests_at_other_line_settings(
    run: Run, settings: dict[str, Any], answered: int
) -> None:
    slave = ModbusTemperature(NAME, baudrate=115200, parity="E", reply_delay=0)

    async def main() -> None:
        async with serial.open(NAME, **({"baudrate": 115200} | settings)) as port:
            port.write(frame("01 04 0000 0001"))
            while not slave.answered + slave.ignored:
                await asyncio.sleep(0.001)

    with SimBoard() as board, using(board):
        slave.attach(board)
        run(main())
    assert (slave.answered, slave.ignored) == (answered, 1 - answered)


def test_an_unknown_parity_raises() -> None:
    with pytest.raises(ValueError, match="parity must be 'E', 'O' or 'N', not 'even'"):
        ModbusTemperature(NAME, parity="even")  # type: ignore[arg-type]
