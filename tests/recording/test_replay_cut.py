"""Recordings that end too early, because the program was killed or the disk was full, are replayed up to the cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwloop import recording
from hwloop.cli import main
from hwloop.trace_events import I2cTransfer, LineChange, SerialData, SerialFrame, SpiTransfer

BOARD = """
[[device]]
type = "button"
line = 17
press_every = 0.07
hold = 0.03

[[device]]
type = "modbus-temperature"
port = "/dev/ttyUSB0"
reply_delay = 0.02

[[device]]
type = "bme280"
bus = 1

[[device]]
type = "mcp3008"
"""
STATION = """
import asyncio, sys
import hwloop
from hwloop import gpio, i2c, serial, spi

async def main():
    async with (
        gpio.watch(17, pull="up") as door, gpio.output(27, initial=0, safe=0) as lamp, gpio.output(22) as led,
        serial.open("/dev/ttyUSB0", 19200, framing=serial.IdleGap()) as port, i2c.open(1) as bus, spi.open(0, 0) as adc,
    ):
        async def follow():
            async for edge in door:
                lamp.set(1 - edge.value)

        async def ask():
            async for _ in hwloop.every(0.05):
                port.write(bytes.fromhex("010400000001 31ca"))
                led.toggle()

        async def listen():
            async for frame in port:
                led.toggle()

        async def measure():
            async for _ in hwloop.every(0.04):
                await bus.device(0x76).read_register(0xD0)
                led.toggle()
                await adc.transfer(b"\\x01\\x80\\x00")
                try:
                    await bus.device(0x20).read(1)
                except hwloop.HardwareError:
                    led.toggle()

        async with asyncio.timeout(float(sys.argv[1])):
            await asyncio.gather(follow(), ask(), listen(), measure())

hwloop.run(main())
"""


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(BOARD)
    (tmp_path / "station.py").write_text(STATION)
    for name in ("HWLOOP_BOARD", "HWLOOP_SEED", "HWLOOP_LIMIT"):
        monkeypatch.delenv(name, raising=False)


def cuts(content: bytes) -> Iterator[bytes]:
    """Yield the file, cut at each byte at which another number of its events is left."""
    left = -1
    for size in range(len(content)):
        Path("cut.hwlog").write_bytes(content[:size])
        try:
            [run] = recording.read("cut.hwlog")
        except recording.RecordingError:
            continue  # cut in the header
        events = len(list(run))
        if events != left:
            left = events
            yield content[:size]


@pytest.mark.parametrize("virtual", [True, False])
def test_a_recording_that_is_cut_anywhere_is_replayed_without_a_difference(
    virtual: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["record", "--out", "run.hwlog", "--board", "board.toml", "--clock", "virtual", "station.py", "--", "0.15"])
    [run] = recording.read("run.hwlog")
    assert {type(event) for event in run} >= {LineChange, SerialData, SerialFrame, I2cTransfer, SpiTransfer}
    if not virtual:  # as if its times were not exact
        file = recording.RecordingFile("run.hwlog", overwrite=True)
        events = list(run)
        file.begin(replace(run.header, virtual=False))
        for event in events:
            file.write(event)
        file.close()
    capsys.readouterr()
    differences = []
    for content in cuts(Path("run.hwlog").read_bytes()):
        Path("cut.hwlog").write_bytes(content)
        if main(["replay", "cut.hwlog"]):
            differences.append(capsys.readouterr().err)
    assert differences == []
