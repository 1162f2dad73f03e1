"""Outages during a test: one that the test has caused, and that a source gets over by itself, fails nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from hwloop import Backoff, gpio, i2c, serial

pytest_plugins = ["pytester"]

PORT = "/dev/ttyUSB0"
BOARD = {"device": [{"type": "lm75", "name": "room"}, {"type": "gps", "name": "gps", "port": PORT}]}
WORKS_AGAIN = Backoff(0.1, maximum=1)

PROGRAM = f"""
import asyncio
import pytest
from hwloop import gpio, i2c, serial

BOARD = {BOARD!r}
pytestmark = pytest.mark.hwloop(board=BOARD)
"""


async def heat(address: int = 0x48) -> None:
    """Heat while there are readings."""
    async with i2c.open(1) as bus, gpio.output(17, initial=0, safe=0) as heater:
        chip = bus.device(address)
        async with bus.poll(lambda: chip.read_word(0, "big"), every=1) as readings:
            while True:
                try:
                    async with asyncio.timeout(5):
                        await anext(readings)
                    heater.on()
                except TimeoutError:
                    heater.off()


async def follow(lines: list[bytes]) -> None:
    async with serial.open(PORT, reopen=WORKS_AGAIN, framing=serial.Lines()) as port:
        async for line in port:
            lines.append(line.data)


@pytest.mark.hwloop(board=BOARD)
async def test_a_poll_goes_on_after_a_fault_of_the_test(board, caplog):
    async with board.run(heat()):
        await asyncio.sleep(3)
        assert board.outputs[17] == 1
        with board.faults.inject("i2c-nack", address="room"):
            await asyncio.sleep(10)
            assert board.outputs[17] == 0
        await board.until(lambda: board.outputs[17] == 1, within=1.1)
    [report] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "a reading failed (test_outages.py:" in report
    assert "no answer" in report


@pytest.mark.hwloop(board=BOARD)
async def test_a_port_comes_back_after_a_fault_of_the_test(board):
    lines: list[bytes] = []
    async with board.run(follow(lines)):
        board.faults.inject("serial-unplug", port="gps", after=2, duration=3)
        await asyncio.sleep(5)
        before = len(lines)
        await board.until(lambda: len(lines) > before, within=5)


@pytest.mark.hwloop(board=BOARD)
async def test_a_port_comes_back_that_the_test_has_unplugged_and_plugged_in(board):
    lines: list[bytes] = []
    async with board.run(follow(lines)):
        await asyncio.sleep(2)
        board.serial(PORT).unplug()
        await asyncio.sleep(2)
        before = len(lines)
        board.serial(PORT).replug()
        await board.until(lambda: len(lines) > before, within=5)


@pytest.mark.hwloop(board=BOARD)
async def test_a_poll_goes_on_after_the_test_has_held_its_bus(board):
    async with board.run(heat()):
        await asyncio.sleep(2)
        board.i2c(1).hang()
        await board.until(lambda: board.outputs[17] == 0, within=10)
        board.i2c(1).release()
        await board.until(lambda: board.outputs[17] == 1, within=60)


def test_a_reading_that_fails_without_a_fault_is_a_failure_and_the_report_says_why(suite):
    tests = f"""{PROGRAM}
async def test_a_wrong_address(board):
    async with i2c.open(1) as bus:
        chip = bus.device(0x49)
        async with bus.poll(lambda: chip.read_word(0, "big"), every=1):
            await asyncio.sleep(3)
"""
    result = suite(tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*HardwareError: I2C bus 1, address 0x49: no answer*",
            "E*a reading failed (test_suite.py:*",
            "E*no fault of board.faults had begun; an outage after one would be no failure of the test",
        ]
    )


FAILURES_UNDER_FAULTS = {
    "a port without reopen= that fails while nobody waits": """
        async with serial.open("/dev/ttyUSB0") as port:
            port.add_callback(len)
            await asyncio.sleep(2)
""",
    "an exception of a callback": """
        async with bus.poll(lambda: chip.read_word(0, "big"), every=0.1) as readings:
            readings.add_callback(lambda reading: 1 / 0)
            await asyncio.sleep(2)
""",
    "an exception of a poll's function that is no error of a device": """
        async with bus.poll(broken, every=0.1) as readings:
            await asyncio.sleep(2)
""",
    "an exception of a task": """
        task = asyncio.create_task(chip.read_word(0, "big"))
        await asyncio.sleep(2)
        del task
""",
}


@pytest.mark.parametrize("block", FAILURES_UNDER_FAULTS.values(), ids=FAILURES_UNDER_FAULTS)
def test_under_a_fault_other_failures_stay_failures(suite, block):
    tests = f"""{PROGRAM}
async def broken():
    raise ValueError("not a number")

async def test_it(board):
    board.faults.inject("serial-unplug", port="gps", after=0.5, duration=0.5)
    async with i2c.open(1) as bus:
        chip = bus.device(0x48)
        if "create_task" in {block!r}:
            board.faults.inject("i2c-nack", address="room", duration=0.5)
{block}
"""
    result = suite(tests)
    result.assert_outcomes(failed=1)
    assert "no fault of board.faults" not in result.stdout.str()


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "outcome"), [(1, "passed"), (None, "failed")])
def test_the_bug_hunter_blames_only_the_heater_that_waits_for_readings_without_a_limit(suite, limit, outcome):
    tests = f"""{PROGRAM}
async def heat(answered):
    async with i2c.open(1) as bus, gpio.output(17, initial=0, safe=0) as heater:
        chip = bus.device(0x48)
        async with bus.poll(lambda: chip.read_word(0, "big"), every=0.1) as readings:
            while True:
                try:
                    async with asyncio.timeout({limit}):
                        await anext(readings)
                    answered.append(asyncio.get_running_loop().time())
                    heater.on()
                except TimeoutError:
                    heater.off()

@pytest.mark.hwloop(explore=60, faults=["i2c-nack"])
async def test_the_heater_is_off_two_seconds_after_the_last_reading(board):
    answered = [0.0]
    async with board.run(heat(answered)):
        for _ in range(40):
            await asyncio.sleep(0.2)
            if board.loop.time() - answered[-1] > 2:
                assert board.outputs.get(17, 0) == 0
"""
    result = suite(tests)
    result.assert_outcomes(**{outcome: 1})
    if outcome == "failed":
        result.stdout.fnmatch_lines(["*assert 1 == 0*", "seed 0", "  i2c-nack after=* duration=3.0 bus=1 address=0x48"])
