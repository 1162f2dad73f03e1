"""pymodbus, unchanged: its asynchronous serial client asks the simulated thermometer, over a pseudo-terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from firmware_sim import SimBoard
from firmware_sim.devices.modbus import ModbusTemperature

pytest.importorskip("pymodbus", reason="pip install pymodbus")
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.exceptions import ModbusIOException

Run = Callable[[Coroutine[Any, Any, Any]], Any]
UNIT = 7


@pytest.fixture
def board() -> Iterator[SimBoard]:
    with SimBoard() as board:
        ModbusTemperature("/dev/ttyUSB0", unit=UNIT, baudrate=115200, temperature=-3.4, reply_delay=0).attach(board)
        yield board


async def with_client(board: SimBoard, program: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    client = AsyncModbusSerialClient(board.serial_port("/dev/ttyUSB0"), baudrate=115200, timeout=0.1, retries=0)
    assert await client.connect()
    try:
        return await program(client)
    finally:
        client.close()
        await asyncio.sleep(0)


def test_registers_are_read_and_written(run: Run, board: SimBoard) -> None:
    async def program(client: Any) -> list[list[int]]:
        before = await client.read_input_registers(0, count=2, device_id=UNIT)
        assert not (await client.write_register(0, 20, device_id=UNIT)).isError()
        assert not (await client.write_registers(1, [5, 300], device_id=UNIT)).isError()
        after = await client.read_input_registers(0, count=2, device_id=UNIT)
        holding = await client.read_holding_registers(0, count=3, device_id=UNIT)
        return [before.registers, after.registers, holding.registers]

    before, after, holding = run(with_client(board, program))
    assert before == [0x10000 - 34, 1]
    assert after == [0x10000 - 14, 1]
    assert holding == [20, 5, 300]


def test_a_rejected_request_returns_an_exception_code(run: Run, board: SimBoard) -> None:
    async def program(client: Any) -> Any:
        return await client.read_input_registers(100, count=1, device_id=UNIT)

    answer = run(with_client(board, program))
    assert answer.isError()
    assert answer.exception_code == 2


def test_a_request_without_an_answer_times_out_and_the_line_stays_usable(run: Run, board: SimBoard) -> None:
    async def program(client: Any) -> Any:
        with pytest.raises(ModbusIOException):
            await client.read_input_registers(0, count=1, device_id=UNIT + 1)
        return await client.read_input_registers(0, count=1, device_id=UNIT)

    assert run(with_client(board, program)).registers == [0x10000 - 34]
