"""The simulated MPU-6050 (RM-MPU-6000A), TCS34725 (ams TCS3472) and VL53L0X."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

import firmware_sim
import hwloop
from firmware_sim import SimBoard

Make = Callable[..., Any]


def motion(rig: Any) -> tuple[int, ...]:
    return struct.unpack(">7h", rig.read(14, 0x3B))


def test_an_mpu6050_sleeps_and_shows_zeros_until_it_is_woken_up(make: Make) -> None:
    rig = make("mpu6050", acceleration=[0.5, -0.25, 1.0], rotation=[1.0, -2.0, 3.0], temperature=36.53)
    assert (rig.read(1, 0x75), rig.read(1, 0x6B)) == (b"\x68", b"\x40")
    rig.wait(1)
    assert motion(rig) == (0,) * 7
    rig.write(0x6B, 0x00)
    rig.wait(0.001)
    assert motion(rig) == (8192, -4096, 16384, 0, 131, -262, 393)
    rig.part.temperature = 24.53
    rig.wait(0.001)
    assert motion(rig)[3] == -4080  # registers 65 and 66: 340 a degree
    rig.write(0x6B, 0x40)
    rig.part.acceleration = [0, 0, 0]
    rig.wait(1)
    assert motion(rig)[:3] == (8192, -4096, 16384)
    rig.write(0x6B, 0x80)
    assert (rig.read(1, 0x6B), motion(rig)) == (b"\x40", (0,) * 7)


@pytest.mark.parametrize(
    ("setting", "per_g", "per_degree"), [(0, 16384, 131), (1, 8192, 65.5), (2, 4096, 32.8), (3, 2048, 16.4)]
)
def test_the_ranges_of_an_mpu6050(make: Make, setting: int, per_g: int, per_degree: float) -> None:
    rig = make("mpu6050", acceleration=[1.5, -1.5, 20.0], rotation=[100.0, -100.0, 3000.0])
    rig.write(0x6B, 0)
    rig.write(0x1B, setting << 3, setting << 3)
    rig.wait(0.001)
    x, y, z, _, a, b, c = motion(rig)
    assert (x, y, z) == (round(1.5 * per_g), round(-1.5 * per_g), 32767)
    assert (a, b, c) == (pytest.approx(100 * per_degree, rel=0.002), pytest.approx(-100 * per_degree, rel=0.002), 32767)


def test_an_mpu6050_samples_at_the_rate_that_it_is_set_to(make: Make) -> None:
    rig = make("mpu6050", acceleration=[0.0, 0.0, 1.0])
    rig.write(0x6B, 0)
    rig.write(0x19, 99, 0x01)  # 10 Hz, with the filter on
    rig.wait(0.1)
    assert motion(rig)[2] == 16384
    rig.part.acceleration = [0.0, 0.0, 0.5]
    rig.wait(0.09)
    assert motion(rig)[2] == 16384
    rig.wait(0.01)
    assert motion(rig)[2] == 8192
    assert rig.read(1, 0x3A) == b"\x01"
    assert rig.read(1, 0x3A) == b"\0"


@pytest.mark.parametrize(
    ("config", "idle", "samples"),
    [
        (0x00, 0, [1, 0, 1, 0]),  # a pulse of 50 µs
        (0x80, 1, [0, 1, 0, 1]),
        (0x20, 0, [1]),  # latched until the status is read
        (0xE0, 1, [0]),  # open-drain, active low
    ],
)
def test_the_interrupt_of_an_mpu6050(make: Make, config: int, idle: int, samples: list[int]) -> None:
    rig = make("mpu6050", interrupt=22)
    line = rig.board.line(22)
    line.pull("up")
    rig.write(0x37, config, 0x01)
    assert line.level == idle
    seen: list[int] = []
    line.observe(lambda level, when_ns: seen.append(level))
    rig.write(0x19, 99, 0x01)
    rig.write(0x6B, 0)
    rig.wait(0.21)
    assert seen == samples
    if config & 0x20:
        rig.read(1, 0x3A)
        assert line.level == idle


@pytest.mark.parametrize("value", [[1.0, 2.0], [1.0, 2.0, 1e9], [1.0, 2.0, float("nan")], 5])
def test_an_acceleration_that_is_none_raises_and_changes_nothing(make: Make, value: object) -> None:
    rig = make("mpu6050")
    with pytest.raises(ValueError, match=r"^acceleration(\[2\])? must be"):
        rig.part.acceleration = value
    assert rig.part.acceleration == [0.0, 0.0, 1.0]


# TCS34725


def colours(rig: Any) -> tuple[int, ...]:
    return struct.unpack("<4H", rig.read(8, 0xB4))


def test_a_tcs34725_counts_the_light_of_its_integration_time(make: Make) -> None:
    rig = make("tcs34725", clear=10.0, red=5.0, green=4.0, blue=1.0)
    assert rig.read(1, 0x92) == b"\x44"
    rig.write(0x81, 0xF6)  # 24 ms
    rig.write(0x8F, 0x01)  # gain 4
    rig.write(0x80, 0x03)
    rig.wait(0.026)
    assert (colours(rig), rig.read(1, 0x93)[0] & 1) == ((0, 0, 0, 0), 0)
    rig.wait(0.001)
    assert (colours(rig), rig.read(1, 0x93)[0] & 1) == ((960, 480, 384, 96), 1)
    rig.write(0x80, 0x00)
    rig.part.clear = 0.0
    rig.wait(1)
    assert colours(rig)[0] == 960


@pytest.mark.parametrize(("time", "most"), [(0xFF, 1024), (0xF6, 10240), (0xC0, 65535), (0x00, 65535)])
def test_a_tcs34725_counts_up_to_1024_every_2_4_ms(make: Make, time: int, most: int) -> None:
    rig = make("tcs34725", clear=1e6)
    rig.write(0x81, time)
    rig.write(0x80, 0x03)
    rig.wait(1)
    assert colours(rig)[0] == most


def test_the_interrupt_of_a_tcs34725_waits_for_several_values_beyond_the_limits(make: Make) -> None:
    rig = make("tcs34725", clear=10.0, interrupt=23)
    rig.board.line(23).pull("up")
    rig.write(0x84, 0, 0, 100, 0)  # up to 100
    rig.write(0x8C, 0x03)
    rig.write(0x81, 0xFF)
    rig.write(0x80, 0x13)
    rig.wait(0.1)
    assert rig.level(23) == 1
    rig.part.clear = 100.0
    rig.wait(0.008)
    assert rig.level(23) == 1
    rig.wait(0.005)
    assert rig.level(23) == 0
    rig.part.clear = 10.0
    rig.wait(0.1)
    assert (rig.level(23), rig.read(1, 0x93)[0] & 0x10) == (0, 0x10)
    rig.write(0xE6)
    assert rig.level(23) == 1


# VL53L0X


def test_a_vl53l0x_measures_for_33_ms(make: Make) -> None:
    rig = make("vl53l0x", distance=432.0)
    assert rig.read(3, 0xC0) == b"\xee\xaa\x10"
    rig.write(0x00, 0x01)
    assert rig.read(1, 0x00)[0] & 1 == 0
    rig.wait(0.032)
    assert rig.read(1, 0x13)[0] & 7 == 0
    rig.wait(0.001)
    assert rig.read(1, 0x13)[0] & 7 == 4
    assert int.from_bytes(rig.read(2, 0x1E)) == 432
    assert rig.read(1, 0x14)[0] >> 3 == 11
    rig.write(0x0B, 0x01)
    rig.wait(1)
    assert rig.read(1, 0x13)[0] & 7 == 0


def test_a_vl53l0x_without_a_target(make: Make) -> None:
    rig = make("vl53l0x", distance=2500.0)
    rig.write(0x00, 0x01)
    rig.wait(0.04)
    assert (int.from_bytes(rig.read(2, 0x1E)), rig.read(1, 0x14)[0] >> 3) == (8190, 4)


def test_a_vl53l0x_measures_again_and_again_and_pulls_its_pin_low(make: Make) -> None:
    rig = make("vl53l0x", interrupt=26)
    rig.board.line(26).pull("up")
    rig.write(0x0A, 0x04)
    rig.write(0x84, 0x00)
    rig.write(0x00, 0x02)
    for distance in (100.0, 200.0):
        rig.part.distance = distance
        assert rig.level(26) == 1
        rig.wait(0.034)
        assert rig.level(26) == 0
        assert int.from_bytes(rig.read(2, 0x1E)) == distance
        rig.write(0x0B, 0x01)
    rig.write(0x00, 0x01)
    rig.wait(1)
    rig.write(0x0B, 0x01)
    rig.part.distance = 300.0
    rig.wait(1)
    assert int.from_bytes(rig.read(2, 0x1E)) == 200
    rig.write(0x04, 0, 0, 0x03, 0xE8)  # every second
    rig.write(0x00, 0x04)
    rig.wait(0.9)
    rig.write(0x0B, 0x01)
    rig.wait(0.12)
    assert rig.read(1, 0x13)[0] & 7 == 0
    rig.wait(0.04)
    assert rig.read(1, 0x13)[0] & 7 == 4


def test_other_pages_of_a_vl53l0x_are_other_registers(make: Make) -> None:
    rig = make("vl53l0x")
    rig.write(0xFF, 0x07)
    rig.write(0x00, 0x01)  # no measurement
    assert rig.read(1, 0x83)[0]
    assert rig.read(1, 0x92) == b"\x85"
    rig.write(0xFF, 0x00)
    rig.wait(0.1)
    assert rig.read(1, 0x13) == b"\0"
    assert rig.read(1, 0xC0) == b"\xee"


def test_two_vl53l0x_share_a_bus_once_the_program_has_given_one_a_new_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    devices = [
        {"type": "vl53l0x", "name": name, "shutdown": line, "distance": distance}
        for name, line, distance in (("left", 5, 100.0), ("right", 6, 200.0))
    ]
    with SimBoard({"device": devices}, clock=hwloop.VirtualClock()) as board:
        smbus = firmware_sim.SMBus(1, board)
        for line in (5, 6):
            board.line(line).claim("test", output=0)
        with pytest.raises(OSError, match="Remote I/O"):
            smbus.read_byte_data(0x29, 0xC0)
        board.line(5).set_output(1)
        smbus.write_byte_data(0x29, 0x8A, 0x30)
        board.line(6).set_output(1)
        for address in (0x30, 0x29):
            smbus.write_byte_data(address, 0x00, 0x01)
        board.timeline.clock.sleep(0.04)
        found = [smbus.read_i2c_block_data(address, 0x1E, 2) for address in (0x30, 0x29)]
        assert found == [[0, 100], [0, 200]]
        assert not caplog.records
        board.line(5).set_output(0)
        board.line(5).set_output(1)  # it has its first address again, which is the other one's
        assert "a VL53L0X left shutdown: I2C bus 1: address 0x29 is used already" in caplog.text
        smbus.close()
