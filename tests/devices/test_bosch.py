"""The simulated BMP280 (BST-BMP280-DS001) and BME680 (BST-BME680-DS001); tests/sim/test_bme280.py has the BME280."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from firmware_sim.devices import bme680

Make = Callable[..., Any]
BUSY = 0x08


def test_a_bmp280_has_no_humidity_and_an_id_of_its_own(make: Make) -> None:
    rig = make("bmp280")
    assert rig.read(1, 0xD0) == b"\x58"
    rig.write(0xF2, 0x01)
    rig.write(0xF4, 0b001_001_01)
    rig.wait(0.1)
    assert rig.read(1, 0xF2) == b"\0"
    assert rig.read(3, 0xFD) == b"\0\0\0"


def test_the_worked_example_of_the_bmp280(make: Make) -> None:
    """Section 3.12: the raw values 519888 and 415148 are 25.08 °C and 100653.27 Pa."""
    rig = make("bmp280", temperature=25.0825, pressure=1006.5327)
    calibration = (27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
    assert struct.unpack("<HhhHhhhhhhhh", rig.read(24, 0x88)) == calibration
    rig.write(0xF5, 0b000_010_00)  # the filter gives all 20 bits
    rig.write(0xF4, 0b101_101_01)
    rig.wait(0.1)
    data = rig.read(6, 0xF7)
    assert int.from_bytes(data[3:]) >> 4 == pytest.approx(519888, abs=2)
    assert int.from_bytes(data[:3]) >> 4 == pytest.approx(415148, abs=3)


@pytest.mark.parametrize(
    ("control", "milliseconds"),  # section 3.8.1, table 13: typical times
    [(0b001_001_01, 5.5), (0b001_010_01, 7.5), (0b001_011_01, 11.5), (0b001_100_01, 19.5), (0b010_101_01, 37.5)],
)
def test_a_bmp280_measures_for_the_typical_time(make: Make, control: int, milliseconds: float) -> None:
    rig = make("bmp280")
    rig.write(0xF4, control)
    rig.wait(milliseconds / 1e3 - 1e-4)
    assert rig.read(1, 0xF3)[0] & BUSY
    rig.wait(2e-4)
    assert rig.read(1, 0xF3) == b"\0"


def test_the_longest_pause_of_a_bmp280_is_four_seconds(make: Make) -> None:
    rig = make("bmp280", temperature=20.0)
    rig.write(0xF5, 0b111_000_00)
    rig.write(0xF4, 0b001_001_11)
    rig.wait(0.01)
    before = rig.read(6, 0xF7)
    rig.part.temperature = 30.0
    rig.wait(3.9)
    assert rig.read(6, 0xF7) == before
    rig.wait(0.2)
    assert rig.read(6, 0xF7) != before


def test_a_swing_of_a_bmp280(make: Make) -> None:
    rig = make("bmp280", temperature=20.0, temperature_swing=5.0, pressure_swing=10.0, period=40.0)
    assert rig.part.air(rig.board.timeline.now_ns()) == pytest.approx((20.0, 1013.25), abs=0.01)
    rig.wait(10)
    assert rig.part.air(rig.board.timeline.now_ns()) == pytest.approx((25.0, 1023.25), abs=0.01)


# BME680


def measure(rig: Any, *, gas: bool = True) -> bytes:
    rig.write(0x72, 0x01, 0x5A, 0x73, 0x64, 0x59, 0x71, 0x10 if gas else 0x00, 0x74, 0b001_001_01)
    rig.wait(1)
    return bytes(rig.read(17, 0x1D))


def bosch(rig: Any, data: bytes) -> tuple[float, float, float]:
    """°C, hPa and %RH by the formulas in whole numbers (3.3), which are others than those of the model."""
    first, second = rig.read(25, 0x89), rig.read(16, 0xE1)
    t1, t2, t3 = struct.unpack_from("<H", second, 8)[0], *struct.unpack_from("<hb", first, 1)
    p1, p2, p3, p4, p5, p7, p6, p8, p9, p10 = struct.unpack("<HhbxhhbbxxhhB", first[5:24])
    h1, h2 = second[2] << 4 | second[1] & 0x0F, second[0] << 4 | second[1] >> 4
    h3, h4, h5, h6, h7 = struct.unpack_from("<bbbBb", second, 3)
    raw_p, raw_t = int.from_bytes(data[2:5]) >> 4, int.from_bytes(data[5:8]) >> 4
    raw_h = int.from_bytes(data[8:10])
    v1 = (raw_t >> 3) - (t1 << 1)
    fine = (v1 * t2 >> 11) + ((((v1 >> 1) * (v1 >> 1) >> 12) * (t3 << 4)) >> 14)
    celsius = (fine * 5 + 128 >> 8) / 100
    v1 = (fine >> 1) - 64000
    v2 = ((((v1 >> 2) * (v1 >> 2)) >> 11) * p6 >> 2) + (v1 * p5 << 1)
    v2 = (v2 >> 2) + (p4 << 16)
    v1 = (((((v1 >> 2) * (v1 >> 2)) >> 13) * (p3 << 5)) >> 3) + (p2 * v1 >> 1)
    v1 = (32768 + (v1 >> 18)) * p1 >> 15
    pressure = ((1048576 - raw_p - (v2 >> 12)) * 3125 << 1) // v1
    v1, v2 = p9 * ((pressure >> 3) * (pressure >> 3) >> 13) >> 12, (pressure >> 2) * p8 >> 13
    pressure += (v1 + v2 + ((pressure >> 8) ** 3 * p10 >> 17) + (p7 << 7)) >> 4
    t = fine * 5 + 128 >> 8
    v1 = raw_h - (h1 << 4) - (t * h3 // 100 >> 1)
    v2 = (h2 * ((t * h4 // 100) + ((t * (t * h5 // 100) >> 6) // 100) + (1 << 14))) >> 10
    v3 = v1 * v2
    v4 = ((h6 << 7) + (t * h7 // 100)) >> 4
    humidity = ((v3 + (v4 * ((v3 >> 14) * (v3 >> 14) >> 10) >> 1)) >> 10) * 1000 >> 12
    return celsius, pressure / 100, humidity / 1000


@pytest.mark.parametrize(
    ("temperature", "pressure", "humidity"),
    [(21.5, 1013.25, 45.0), (-20.0, 900.0, 90.0), (60.0, 1080.0, 5.0), (0.0, 700.0, 100.0)],
)
def test_a_driver_that_computes_in_whole_numbers_reads_the_values_of_a_bme680(
    make: Make, temperature: float, pressure: float, humidity: float
) -> None:
    rig = make("bme680", temperature=temperature, pressure=pressure, humidity=humidity)
    assert rig.read(1, 0xD0) == b"\x61"
    found = bosch(rig, measure(rig))
    assert found == (
        pytest.approx(temperature, abs=0.02),
        pytest.approx(pressure, abs=0.25),
        pytest.approx(humidity, abs=0.2),
    )


@pytest.mark.parametrize("ohms", [300.0, 12_345.0, 100_000.0, 1e6, 1e7])
def test_the_gas_resistance_of_a_bme680(make: Make, ohms: float) -> None:
    rig = make("bme680", gas_resistance=ohms)
    data = measure(rig)
    assert data[14] & 0x30 == 0x30  # valid, and the heater was stable
    raw, gas_range = data[13] << 2 | data[14] >> 6, data[14] & 0x0F
    # 3.4.1, with the constants of the range
    k1, k2 = (0, 0, 0, 0, 0, -1, 0, -0.8, 0, 0, -0.2, -0.5, 0, -1, 0, 0), (0, 0, 0, 0, 0.1, 0.7, 0, -0.8, -0.1)
    gain = 1 + ((*k2, *[0] * 7)[gas_range]) / 100
    found = 1 / (gain * 1.25e-7 * (1 << gas_range) * ((raw - 512) / (1340 * (1 + k1[gas_range] / 100)) + 1))
    assert found == pytest.approx(ohms, rel=0.002)


def test_a_bme680_shows_how_far_it_is(make: Make) -> None:
    rig = make("bme680")
    assert rig.read(1, 0x1D) == b"\0"
    assert rig.read(8, 0x1F) == bytes.fromhex("800000 800000 8000")
    rig.write(0x72, 0x01, 0x5A, 0x73, 0x64, 0x59, 0x71, 0x10, 0x74, 0b001_001_01)  # heats for 100 ms
    assert rig.read(1, 0x1D) == b"\x20"
    rig.wait(0.009)
    assert rig.read(1, 0x1D) == b"\x60"
    assert rig.read(1, 0x74)[0] & 3 == 1
    rig.wait(0.105)
    assert rig.read(1, 0x1D) == b"\x80"
    assert rig.read(1, 0x1D) == b"\0"  # it has been seen
    assert rig.read(1, 0x74)[0] & 3 == 0
    assert rig.part.measurements == 1


def test_a_bme680_that_does_not_heat_has_no_stable_gas_reading(make: Make) -> None:
    rig = make("bme680")
    assert measure(rig, gas=False)[14] & 0x30 == 0
    rig.write(0x70, 0x08)
    assert measure(rig)[14] & 0x30 == 0x20
    rig.write(0x70, 0x00)
    rig.write(0x5B, 0x73, 0x65, 0x43, 0x71, 0x11, 0x74, 0b001_001_01)  # the second profile heats for 12 ms only
    rig.wait(0.025)
    assert (rig.read(1, 0x1D), rig.read(1, 0x2B)[0] & 0x30) == (b"\x81", 0x20)
    rig.write(0xE0, 0xB6)
    assert rig.read(1, 0x70) == b"\0"
    assert bme680.gas_raw(1.0) == (1023, 15)
