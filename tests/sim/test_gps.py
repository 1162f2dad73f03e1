"""The simulated GPS: a plausible log, sent burst by burst at the pace of the wire."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard
from firmware_sim.devices.gps import Gps
from firmware_sim.errors import WiringError
from firmware_sim.nmea import sentence, walk
from hwloop.board import using
from hwloop.sources import serial

Run = Callable[[Coroutine[Any, Any, None]], None]
NAME = "/dev/ttyAMA0"


def degrees(text: str, hemisphere: str) -> float:
    """Decimal degrees from NMEA's dddmm.mmmm."""
    point = text.index(".")
    value = int(text[: point - 2]) + float(text[point - 2 :]) / 60
    return value if hemisphere in "NE" else -value


def test_a_sentence_has_the_checksum_of_the_literature() -> None:
    assert sentence("GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,").endswith(b",,*47\r\n")


def test_the_walk_has_sixty_fixes_and_more_with_right_checksums() -> None:
    lines = list(walk())
    assert all(line.endswith(b"\r\n") and len(line) <= 82 for line in lines)  # the standard's longest sentence
    assert all(serial.nmea_checksum(line.strip()) for line in lines)
    kinds = [line[1:6].decode() for line in lines]
    assert kinds == ["GPRMC", "GPVTG", "GPGGA", "GPGSA", "GPGSV", "GPGSV"] * 120


def test_the_walk_moves_as_fast_and_where_it_says() -> None:
    fixes = []
    for line in walk():
        fields = line.decode().split("*")[0].split(",")
        if fields[0] == "$GPRMC":
            place = degrees(fields[3], fields[4]), degrees(fields[5], fields[6])
            fixes.append((fields[1], place, float(fields[7]) * 0.514444, float(fields[8])))
        elif fields[0] == "$GPGGA":  # says the same as RMC
            assert fields[1] == fixes[-1][0]
            assert (degrees(fields[2], fields[3]), degrees(fields[4], fields[5])) == fixes[-1][1]
    assert fixes[0][1] == pytest.approx((48.1173 + 30 / 111_195, 11.5167), abs=1e-6)
    for (_, here, speed, course), (_, there, _, _) in pairwise(fixes):
        north = (there[0] - here[0]) * 111_195
        east = (there[1] - here[1]) * 111_195 * math.cos(math.radians(here[0]))
        assert math.hypot(north, east) == pytest.approx(speed, rel=0.02)
        bearing = math.degrees(math.atan2(east, north)) % 360
        assert abs((bearing - course + 180) % 360 - 180) < 3


def test_a_burst_comes_every_interval_and_every_sentence_is_whole(run: Run) -> None:
    wiring = {"device": [{"type": "gps", "port": NAME, "baudrate": 115200, "interval": 0.05}]}

    async def main() -> None:
        framing = serial.Lines(check=serial.nmea_checksum)
        async with serial.open(NAME, 115200, framing=framing) as source, asyncio.timeout(5):
            frames = [await anext(source) for _ in range(18)]
        wanted = [line.strip() for line in walk()]
        # The port may have been opened late, in the middle of a burst; no other sentence has the time of its burst.
        timed = next(place for place, frame in enumerate(frames) if frame.data.startswith(b"$GPRMC"))
        first = wanted.index(frames[timed].data) - timed
        assert [frame.data for frame in frames] == wanted[first : first + 18]
        assert sum(frame.lost for frame in frames[1:]) == 0

    with SimBoard(wiring) as board, using(board):
        run(main())
        [gps] = board.devices
        assert isinstance(gps, Gps)
        assert gps.sentences_sent >= 18
        assert gps.sentences_sent % 6 == 0


def test_a_log_is_sent_unchanged_and_repeated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.nmea").write_text("a note\n$GPRMC,1*00\n\n$GPGGA,wrong*FF\n$GPRMC,2*00\n!AIVDM,x*00\n")
    (tmp_path / "board.toml").write_text(
        f'[[device]]\ntype = "gps"\nport = "{NAME}"\nlog = "log.nmea"\nbaudrate = 115200\ninterval = 0.01\n'
    )

    async def main() -> None:
        async with serial.open(NAME, 115200, framing=serial.Lines()) as source, asyncio.timeout(5):
            while (await anext(source)).data != b"!AIVDM,x*00":
                pass
            frames = [(await anext(source)).data for _ in range(5)]
        assert frames == [b"$GPRMC,1*00", b"$GPGGA,wrong*FF", b"$GPRMC,2*00", b"!AIVDM,x*00", b"$GPRMC,1*00"]

    with SimBoard(tmp_path / "board.toml") as board, using(board):
        run(main())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"interval": 0}, r"\(gps\): interval must be 0.001 to 1000000000 seconds, not 0"),
        ({"interval": 1e-6, "baudrate": 12_000_000}, "interval must be 0.001 to"),
        ({"baudrate": 0}, "baudrate must be 50 to 12000000 bits a second, not 0"),
        ({"baudrate": 10**18}, "baudrate must be 50 to 12000000 bits a second, not 1000000000000000000"),
        ({"baudrate": 1200}, r"a burst takes 3\.\d+ s at 1200 baud, more than the interval of 1.0 s"),
        ({"log": "nowhere.nmea"}, "gps log nowhere.nmea: No such file"),
        ({"log": "/dev/null"}, "no NMEA sentence in it"),
    ],
)
def test_a_receiver_with_impossible_values_raises(keys: dict[str, object], words: str) -> None:
    with pytest.raises(WiringError, match=words):
        SimBoard({"device": [{"type": "gps", "port": NAME, **keys}]})


def test_two_devices_on_one_port_raise() -> None:
    with pytest.raises(WiringError, match=f"port {NAME} is used already"):
        SimBoard({"device": [{"type": "gps", "port": NAME}, {"type": "modbus-temperature", "port": NAME}]})
