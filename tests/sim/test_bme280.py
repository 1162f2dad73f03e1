"""The simulated BME280, against the datasheet and against drivers that know nothing of it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import firmware_sim
from firmware_sim import SimBoard, WiringError
from firmware_sim.bosch import celsius, fine_temperature, near_celsius, pascal, solve
from firmware_sim.devices.bme280 import Bme280, near_percent, percent

ADDRESS = 0x76
FORCED_ALL_ONCE = 0b001_001_01


class Rig:
    """A board with a BME280 and a clock that only the test moves."""

    def __init__(self, **device: object) -> None:
        self.board = SimBoard({"device": [{"type": "bme280", **device}]})
        self.now_ns = 1_000_000_000_000
        self.board.timeline.now_ns = lambda: self.now_ns
        self.board.bus(1).clock = 100_000_000
        sensor = self.board.devices[0]
        assert isinstance(sensor, Bme280)
        self.sensor = sensor
        self.board.bus(1).detach(ADDRESS)
        sensor.attach(self.board)  # again, by the clock of this rig
        self.smbus = firmware_sim.SMBus(1, self.board)

    def wait(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * 1e6)

    def write(self, register: int, value: int) -> None:
        self.smbus.write_byte_data(ADDRESS, register, value)

    def read(self, register: int) -> int:
        return self.smbus.read_byte_data(ADDRESS, register)

    def block(self, register: int, length: int) -> bytes:
        return bytes(self.smbus.read_i2c_block_data(ADDRESS, register, length))

    def measure(self, ctrl_hum: int = 1, ctrl_meas: int = FORCED_ALL_ONCE) -> None:
        self.write(0xF2, ctrl_hum)
        self.write(0xF4, ctrl_meas)
        self.wait(1000)

    def close(self) -> None:
        self.smbus.close()
        self.board.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with contextlib.closing(Rig()) as rig:
        yield rig


def as_bosch_computes_it(rig: Rig) -> tuple[float, float, float]:
    """°C, %RH and hPa by the datasheet's other formulas, those in whole numbers (section 4.2.3)."""
    t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9 = struct.unpack("<Hhh Hhhhhhhhh", rig.block(0x88, 24))
    h1 = rig.read(0xA1)
    h2, h3, e4, e5, e6, h6 = struct.unpack("<hBbBbb", rig.block(0xE1, 7))
    h4, h5 = e4 << 4 | e5 & 0xF, e6 << 4 | e5 >> 4
    data = rig.block(0xF7, 8)
    adc_p, adc_t = int.from_bytes(data[0:3]) >> 4, int.from_bytes(data[3:6]) >> 4
    adc_h = int.from_bytes(data[6:8])

    var1 = (((adc_t >> 3) - (t1 << 1)) * t2) >> 11
    var2 = (((((adc_t >> 4) - t1) * ((adc_t >> 4) - t1)) >> 12) * t3) >> 14
    t_fine = var1 + var2
    temperature = ((t_fine * 5 + 128) >> 8) / 100

    var1 = t_fine - 128000
    var2 = var1 * var1 * p6 + ((var1 * p5) << 17) + (p4 << 35)
    var1 = ((var1 * var1 * p3) >> 8) + ((var1 * p2) << 12)
    var1 = (((1 << 47) + var1) * p1) >> 33
    p = (((1048576 - adc_p) << 31) - var2) * 3125 // var1
    pressure = ((p + ((p9 * (p >> 13) * (p >> 13)) >> 25) + ((p8 * p) >> 19)) >> 8) + (p7 << 4)

    v = t_fine - 76800
    v = ((((adc_h << 14) - (h4 << 20) - (h5 * v)) + 16384) >> 15) * (
        ((((((v * h6) >> 10) * (((v * h3) >> 11) + 32768)) >> 10) + 2097152) * h2 + 8192) >> 14
    )
    v -= ((((v >> 15) * (v >> 15)) >> 7) * h1) >> 4
    humidity = (min(max(v, 0), 419430400) >> 12) / 1024
    return temperature, humidity, pressure / 256 / 100


def test_the_formulas_give_the_datasheets_worked_example() -> None:
    # BST-BMP280-DS001, section 3.12: t_fine 128422, 25.08 °C, 100653.27 Pa.
    assert int(fine_temperature(519888)) == 128422
    assert round(celsius(519888), 2) == 25.08
    assert round(pascal(415148, fine_temperature(519888)), 2) == 100653.27


@given(
    temperature=st.floats(-40, 85),
    humidity=st.floats(0, 100),
    pressure=st.floats(300, 1100),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_driver_that_computes_in_whole_numbers_reads_the_values_set_here(
    rig: Rig, temperature: float, humidity: float, pressure: float
) -> None:
    rig.sensor.temperature, rig.sensor.humidity, rig.sensor.pressure = temperature, humidity, pressure
    rig.measure(ctrl_hum=5, ctrl_meas=0b101_101_01)  # sixteen samples: all 20 bits
    t, h, p = as_bosch_computes_it(rig)
    assert t == pytest.approx(temperature, abs=0.011)
    assert h == pytest.approx(humidity, abs=0.03)
    assert p == pytest.approx(pressure, abs=0.02)


@given(temperature=st.floats(-40, 85), humidity=st.floats(0, 100))
def test_the_raw_value_is_the_least_one_that_reads_no_less(temperature: float, humidity: float) -> None:
    raw = solve(celsius, temperature, near_celsius(temperature), 1 << 20)
    assert celsius(raw - 1) < temperature <= celsius(raw)
    t_fine = fine_temperature(raw)
    raw = solve(lambda raw: percent(raw, t_fine), humidity, near_percent(humidity, t_fine), 1 << 16)
    assert raw == 0 or percent(raw - 1, t_fine) < humidity
    assert raw == (1 << 16) - 1 or humidity <= percent(raw, t_fine)


@given(raw=st.integers(0, (1 << 20) - 1))
def test_a_value_that_is_read_gives_its_raw_value(raw: int) -> None:
    # The solved formula gives the whole number but for a rounding error, on either side.
    assert solve(celsius, celsius(raw), near_celsius(celsius(raw)), 1 << 20) == raw


@pytest.mark.parametrize(("value", "raw"), [(-0.5, 0), (9.5, 10), (15.5, 15)])
def test_a_raw_value_stays_within_its_bits(value: float, raw: int) -> None:
    assert solve(lambda raw: raw, value, value, 16) == raw


def test_one_sample_has_sixteen_bits_and_the_filter_has_twenty(rig: Rig) -> None:
    def low_bits() -> tuple[int, int]:
        data = rig.block(0xF7, 6)
        return data[2] >> 4, data[5] >> 4

    rig.sensor.temperature = 21.4321
    rig.measure()
    assert low_bits() == (0, 0)
    rig.write(0xF5, 0b000_001_00)
    rig.measure()
    assert low_bits() != (0, 0)


def test_after_power_on_it_sleeps_with_the_values_of_no_measurement(rig: Rig) -> None:
    assert rig.read(0xD0) == 0x60
    assert rig.read(0xF4) == 0
    assert rig.block(0xF7, 8) == bytes.fromhex("800000 800000 8000")


def test_its_memory_is_being_copied_for_two_milliseconds_after_a_reset(rig: Rig) -> None:
    rig.measure()
    rig.write(0xE0, 0xB6)
    assert rig.read(0xF3) == 0x01
    assert rig.block(0xF7, 8) == bytes.fromhex("800000 800000 8000")
    assert rig.read(0xF2) == 0
    rig.wait(2)
    assert rig.read(0xF3) == 0


@pytest.mark.parametrize(
    ("ctrl_hum", "ctrl_meas", "milliseconds"),
    [
        (0b001, 0b001_001_01, 8.0),
        (0b001, 0b001_000_01, 5.5),
        (0b000, 0b001_000_10, 3.0),
        (0b101, 0b101_101_01, 98.0),
        (0b111, 0b111_111_01, 98.0),
    ],
)
def test_a_forced_measurement_takes_the_typical_time_and_then_it_sleeps(
    rig: Rig, ctrl_hum: int, ctrl_meas: int, milliseconds: float
) -> None:
    rig.write(0xF2, ctrl_hum)
    rig.write(0xF4, ctrl_meas)
    rig.wait(milliseconds - 0.001)
    assert rig.read(0xF3) == 0x08
    assert rig.block(0xF7, 8) == bytes.fromhex("800000 800000 8000")
    rig.wait(0.001)
    assert rig.read(0xF3) == 0
    assert rig.read(0xF4) == ctrl_meas & ~3
    assert rig.block(0xF7, 8) != bytes.fromhex("800000 800000 8000")
    measured = rig.block(0xF7, 8)
    rig.sensor.temperature = 30
    rig.wait(1000)
    assert rig.block(0xF7, 8) == measured


def test_a_value_without_samples_is_not_measured(rig: Rig) -> None:
    rig.measure(ctrl_hum=0, ctrl_meas=0b001_000_01)
    data = rig.block(0xF7, 8)
    assert (data[0:3], data[6:8]) == (b"\x80\0\0", b"\x80\0")
    assert data[3:6] != b"\x80\0\0"


def test_the_humidity_setting_takes_effect_with_the_next_write_to_ctrl_meas(rig: Rig) -> None:
    rig.write(0xF4, 0b001_001_11)
    rig.write(0xF2, 1)
    rig.wait(100)
    assert rig.block(0xFD, 2) == b"\x80\0"
    rig.write(0xF4, 0b001_001_11)
    rig.wait(100)
    assert rig.block(0xFD, 2) != b"\x80\0"


def test_normal_mode_measures_again_and_again_with_a_pause_between(rig: Rig) -> None:
    rig.write(0xF5, 0b001_000_00)  # 62.5 ms between 8 ms measurements
    rig.write(0xF2, 1)
    rig.write(0xF4, 0b001_001_11)
    rig.wait(8)
    first = as_bosch_computes_it(rig)
    rig.sensor.temperature = 30
    rig.wait(62.4)
    assert (rig.read(0xF3), as_bosch_computes_it(rig)) == (0, first)
    rig.wait(0.2)
    assert (rig.read(0xF3), as_bosch_computes_it(rig)) == (8, first)
    rig.wait(7.9)
    assert as_bosch_computes_it(rig)[0] == pytest.approx(30, abs=0.01)
    assert rig.read(0xF4) & 3 == 3
    rig.write(0xF4, 0b001_001_00)
    rig.sensor.temperature = 10
    rig.wait(1000)
    assert as_bosch_computes_it(rig)[0] == pytest.approx(30, abs=0.01)


def test_a_value_assigned_later_does_not_change_what_was_measured_before(rig: Rig) -> None:
    rig.measure()
    rig.sensor.temperature = 80
    assert as_bosch_computes_it(rig)[0] == pytest.approx(21.5, abs=0.01)


def test_several_registers_are_written_in_pairs(rig: Rig) -> None:
    rig.smbus.write_i2c_block_data(ADDRESS, 0xF2, [1, 0xF5, 0x20, 0xF4, FORCED_ALL_ONCE])
    assert (rig.read(0xF2), rig.read(0xF5), rig.read(0xF4)) == (1, 0x20, FORCED_ALL_ONCE)


def test_registers_that_are_to_be_read_only_keep_their_value(rig: Rig) -> None:
    for register in (0x88, 0xD0, 0xE1, 0xF3, 0xFA):
        before = rig.read(register)
        rig.write(register, 0x55)
        assert rig.read(register) == before
    rig.measure()
    rig.write(0xE0, 0x55)
    assert rig.read(0xF2) == 1


def test_the_air_swings_when_asked_to_and_a_reading_shows_it() -> None:
    with contextlib.closing(Rig(temperature_swing=2.0, humidity_swing=60.0, pressure_swing=1.0, period=40.0)) as rig:
        epoch_ns = rig.now_ns
        assert rig.sensor.conditions(epoch_ns) == (21.5, 45.0, 1013.25)
        assert rig.sensor.conditions(epoch_ns + 10_000_000_000) == pytest.approx((23.5, 100.0, 1014.25))
        assert rig.sensor.conditions(epoch_ns + 30_000_000_000) == pytest.approx((19.5, 0.0, 1012.25))
        rig.wait(9992)
        rig.write(0xF2, 1)
        rig.write(0xF4, FORCED_ALL_ONCE)
        rig.wait(10_000)
        assert as_bosch_computes_it(rig)[0] == pytest.approx(23.5, abs=0.01)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ({"address": 0x50}, "0x76 or 0x77, not 0x50"),
        ({"temperature": 200.0}, "temperature must be -40 to 85 °C, not 200.0"),
        ({"humidity": float("nan")}, "humidity must be a number that a board can mean, not nan"),
        ({"pressure": "high"}, "pressure must be a number, not 'high'"),
        ({"period": 0}, "period must be 0.001 to 1000000000 seconds, not 0"),
        ({"stretch": -1}, "stretch must be 0 to 3600 seconds, not -1"),
        ({"pressure_swing": 1e6}, "pressure_swing must be -800 to 800 hPa, not 1000000.0"),
        ({"bus": -1}, "bus must be 0 to 255, as in /dev/i2c-1, not -1"),
        ({"drift": 1}, "unknown key drift; known are address, bus,"),
    ],
)
def test_a_board_file_with_an_impossible_sensor_raises(device: dict[str, object], message: str) -> None:
    with pytest.raises(WiringError, match=message):
        SimBoard({"device": [{"type": "bme280", **device}]})


def test_two_sensors_at_one_address_raise() -> None:
    with pytest.raises(WiringError, match=r"I2C bus 1: address 0x76 is used already, by the part Bme280; give"):
        SimBoard({"device": [{"type": "bme280"}, {"type": "bme280"}]})
    SimBoard(
        {"device": [{"type": "bme280"}, {"type": "bme280", "address": 0x77}, {"type": "bme280", "bus": 3}]}
    ).close()


def test_assigning_an_impossible_value_raises(rig: Rig) -> None:
    with pytest.raises(ValueError, match="humidity"):
        rig.sensor.humidity = 101
    assert rig.sensor.humidity == 45.0


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # the driver's
def test_the_driver_rpi_bme280_reads_the_values_set_here() -> None:
    driver = pytest.importorskip("bme280", reason="needs the driver: pip install RPi.bme280")
    if not hasattr(driver, "load_calibration_params"):
        pytest.skip("the bme280 module installed is not that of RPi.bme280")
    with SimBoard({"device": [{"type": "bme280", "temperature": -3.2, "humidity": 67.8, "pressure": 987.6}]}) as board:
        with firmware_sim.SMBus(1, board) as smbus:
            sample = driver.sample(smbus, ADDRESS, driver.load_calibration_params(smbus, ADDRESS))
        assert sample.temperature == pytest.approx(-3.2, abs=0.01)
        assert sample.humidity == pytest.approx(67.8, abs=0.02)
        assert sample.pressure == pytest.approx(987.6, abs=0.05)
