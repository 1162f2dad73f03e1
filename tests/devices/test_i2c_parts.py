"""Failures that every I2C part knows: a wrong or used address, no acknowledgement, a power cycle, damaged bytes.

Each part has one measurement here, as a program makes it: the messages, and the value that it reads.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from firmware_sim import SimBoard, WiringError, wiring
from firmware_sim.i2c_part import I2cPart
from firmware_sim.sensirion import crc8
from firmware_sim.wiring import DEVICES
from hwloop import plugins

Make = Callable[..., Any]
KINDS: dict[str, Any] = {name: plugins.load_class(path) for name, path in DEVICES.items()}
I2C_PARTS = {name: kind for name, kind in KINDS.items() if issubclass(kind, I2cPart)}


def checked(data: bytes, initial: int = 0xFF) -> int:
    """Return the word before a checksum."""
    if crc8(data[:2], initial) != data[2]:
        raise ValueError("wrong checksum")
    return int.from_bytes(data[:2])


def ads1115(rig: Any) -> float:
    rig.write(1, 0xC3, 0x83)
    rig.wait(0.01)
    return float(rig.word(0) * 4.096 / 32768)


def ads7830(rig: Any) -> float:
    return rig.read(1, 0x84)[0] * 3.3 / 256


def aht20(rig: Any) -> float:
    rig.write(0xAC, 0x33, 0)
    rig.wait(0.08)
    data = rig.read(7)
    if crc8(data[:6]) != data[6]:
        raise ValueError("wrong checksum")
    return (int.from_bytes(data[3:6]) & 0xFFFFF) * 200 / (1 << 20) - 50


def bosch(rig: Any) -> float:
    """Return t_fine / 5120 of a BME280 or a BMP280 (section 8.1)."""
    rig.write(0xF4, 0b101_001_01)
    rig.wait(0.1)
    t1, t2, t3 = struct.unpack("<Hhh", rig.read(6, 0x88))
    offset = (int.from_bytes(rig.read(3, 0xFA)) >> 4) / 16384 - t1 / 1024
    return float(offset * t2 + (offset / 8) ** 2 * t3) / 5120


def bme680(rig: Any) -> float:
    rig.write(0x74, 0b101_001_01)
    rig.wait(0.2)
    t2, t3 = struct.unpack("<hb", rig.read(3, 0x8A))
    (t1,) = struct.unpack("<H", rig.read(2, 0xE9))
    offset = (int.from_bytes(rig.read(3, 0x22)) >> 4) / 16384 - t1 / 1024
    return float(offset * t2 + (offset / 8) ** 2 * t3 * 16) / 5120


def ds3231(rig: Any) -> float:
    rig.write(0x00, 0x30, 0x15, 0x09)
    rig.wait(2)
    return float(rig.read(3, 0x00).hex()[0:2])


def htu21d(rig: Any) -> float:
    rig.write(0xF3)
    rig.wait(0.05)
    return (checked(rig.read(3), 0) & 0xFFFC) * 175.72 / 65536 - 46.85


def ina219(rig: Any) -> float:
    rig.write(0, 0x39, 0x9F)
    rig.wait(0.002)
    return (rig.word(2) >> 3) * 0.004


def lcd1602(rig: Any) -> float:
    rig.wait(0.05)
    for byte in (0x30, 0x30, 0x30, 0x20, 0x20, 0x80, 0x00, 0xC0, 0x00, 0x10):
        rig.write(byte, byte | 4, byte)
        rig.wait(0.005)
    for byte in (0x30, 0x70):
        rig.write(byte | 1, byte | 5, byte | 1)
    return float(rig.part.text()[0])


def lm75(rig: Any) -> float:
    rig.write(1, 0)
    rig.wait(0.1)
    return rig.word(0) / 256


def mcp9808(rig: Any) -> float:
    rig.write(1, 0, 0)
    rig.wait(0.25)
    return (rig.word(5) & 0xFFF) / 16


def mcp23017(rig: Any) -> float:
    rig.write(0x00, 0xF0)
    rig.write(0x12, 0x05)
    return rig.read(1, 0x12)[0]


def mpu6050(rig: Any) -> float:
    rig.write(0x6B, 0)
    rig.wait(0.01)
    return int.from_bytes(rig.read(2, 0x3B), signed=True) / 16384


def pca9685(rig: Any) -> float:
    rig.write(0x00, 0x20)
    rig.wait(0.001)
    rig.write(0x06, 0, 0, 0, 0x04)
    assert rig.read(4, 0x06) == bytes([0, 0, 0, 0x04])
    return float(rig.part.duty_cycle(0))


def pcf8574(rig: Any) -> float:
    rig.write(0xF5)
    return rig.read(1)[0]


def pcf8591(rig: Any) -> float:
    rig.write(0x41)
    return rig.read(2)[1] * 3.3 / 256


def scd40(rig: Any) -> float:
    rig.write(0x3F, 0x86)
    rig.wait(0.5)
    rig.write(0x21, 0xB1)
    rig.wait(5)
    rig.write(0xEC, 0x05)
    rig.wait(0.001)
    data = rig.read(9)
    co2, *_ = [checked(data[index : index + 3]) for index in (0, 3, 6)]
    return co2


def sht31(rig: Any) -> float:
    rig.write(0x24, 0)
    rig.wait(0.015)
    data = rig.read(6)
    checked(data[3:])
    return checked(data[:3]) * 175 / 65535 - 45


def ssd1306(rig: Any) -> float:
    rig.write(0x00, 0xA1, 0xC8, 0x8D, 0x14, 0xAF, 0xB0, 0x00, 0x10)
    rig.write(0x40, 0x07)
    return sum(rig.part.picture().dots)


def tcs34725(rig: Any) -> float:
    rig.write(0x81, 0xF6)
    rig.write(0x80, 0x03)
    rig.wait(0.1)
    return int.from_bytes(rig.read(2, 0xB6), "little") / 24


def vl53l0x(rig: Any) -> float:
    rig.write(0x00, 0x01)
    rig.wait(0.05)
    return int.from_bytes(rig.read(2, 0x1E))


class Measurement(NamedTuple):
    measure: Callable[[Any], float]
    keys: dict[str, object]
    value: float
    checks: bool = False
    """Whether a checksum protects it."""


MEASUREMENTS = {
    "ads1015": Measurement(ads1115, {"inputs": [1.25]}, 1.25),
    "ads1115": Measurement(ads1115, {"inputs": [1.25]}, 1.25),
    "ads7830": Measurement(ads7830, {"inputs": [1.65]}, 1.65),
    "aht20": Measurement(aht20, {"temperature": 25.0}, 25.0, checks=True),
    "bme280": Measurement(bosch, {"temperature": 25.0}, 25.0),
    "bme680": Measurement(bme680, {"temperature": 25.0}, 25.0),
    "bmp280": Measurement(bosch, {"temperature": 25.0}, 25.0),
    "ds3231": Measurement(ds3231, {}, 32.0),
    "htu21d": Measurement(htu21d, {"temperature": 25.0}, 25.0, checks=True),
    "ina219": Measurement(ina219, {"voltage": 12.0}, 12.0),
    "lcd1602": Measurement(lcd1602, {}, 7.0),
    "lm75": Measurement(lm75, {"temperature": 25.0}, 25.0),
    "mcp9808": Measurement(mcp9808, {"temperature": 25.0}, 25.0),
    "mcp23017": Measurement(mcp23017, {}, 5),
    "mpu6050": Measurement(mpu6050, {"acceleration": [0.75, 0.0, 0.0]}, 0.75),
    "pca9685": Measurement(pca9685, {}, 0.25),
    "pcf8574": Measurement(pcf8574, {}, 0xF5),
    "pcf8591": Measurement(pcf8591, {"inputs": [0.0, 1.65]}, 1.65),
    "scd40": Measurement(scd40, {"co2": 615.0}, 615.0, checks=True),
    "sht31": Measurement(sht31, {"temperature": 25.0}, 25.0, checks=True),
    "ssd1306": Measurement(ssd1306, {}, 3.0),
    "tcs34725": Measurement(tcs34725, {"red": 4.0}, 4.0),
    "vl53l0x": Measurement(vl53l0x, {"distance": 250.0}, 250.0),
}


@pytest.fixture(params=MEASUREMENTS)
def measurement(request: pytest.FixtureRequest) -> tuple[str, Measurement]:
    return request.param, MEASUREMENTS[request.param]


def test_every_i2c_part_is_measured_here() -> None:
    assert MEASUREMENTS.keys() == I2C_PARTS.keys()


def test_it_reads_the_value_that_was_set(make: Make, measurement: tuple[str, Measurement]) -> None:
    name, (measure, keys, value, _) = measurement
    assert measure(make(name, **keys)) == pytest.approx(value, abs=0.01)


def test_a_device_that_does_not_acknowledge_reads_the_right_value_afterwards(
    make: Make, measurement: tuple[str, Measurement]
) -> None:
    name, (measure, keys, value, _) = measurement
    rig = make(name, **keys)
    fault = rig.board.faults.inject("i2c-nack", address="part")
    with pytest.raises(OSError, match="Remote I/O"):
        measure(rig)
    fault.end()
    assert measure(rig) == pytest.approx(value, abs=0.01)


def test_a_failure_in_the_middle_does_no_lasting_harm(make: Make, measurement: tuple[str, Measurement]) -> None:
    name, (measure, keys, value, _) = measurement
    rig = make(name, **keys)
    for _ in range(5):
        fault = rig.board.faults.inject("i2c-nack", address="part", probability=0.5)
        try:
            measure(rig)
        except OSError:
            pass
        fault.end()
        rig.wait(1)
        assert measure(rig) == pytest.approx(value, abs=0.01)


def test_a_power_cycle_forgets_the_settings_and_a_new_start_helps(
    make: Make, measurement: tuple[str, Measurement]
) -> None:
    name, (measure, keys, value, _) = measurement
    rig = make(name, **keys)
    measure(rig)
    rig.board.faults.inject("i2c-device-reset", address="part")
    rig.wait(1)
    assert measure(rig) == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("answer", ["flipped", "ones", "zeros"])
@pytest.mark.parametrize("name", [name for name, each in MEASUREMENTS.items() if each.checks])
def test_a_checksum_reveals_damaged_bytes(make: Make, name: str, answer: str) -> None:
    measure, keys, _, _ = MEASUREMENTS[name]
    rig = make(name, **keys)
    rig.board.faults.inject("i2c-wrong-answer", address="part", answer=answer)
    if answer == "zeros" and name == "htu21d":
        assert measure(rig) < -46  # its checksum of zeros is zero
        return
    with pytest.raises(ValueError, match="checksum"):
        measure(rig)


@pytest.mark.parametrize("name", I2C_PARTS)
def test_an_address_that_its_pins_can_not_give_it_raises_and_names_those_that_they_can(name: str) -> None:
    addresses = I2C_PARTS[name].addresses
    wrong = next(address for address in range(0x03, 0x78) if address not in addresses)
    with pytest.raises(WiringError, match=rf"address must be .*{max(addresses):#04x}, not {wrong:#04x}"):
        SimBoard({"device": [{"type": name, "address": wrong}]})
    for address in addresses:
        wiring.parse({"device": [{"type": name, "address": address}]})


@pytest.mark.parametrize("name", I2C_PARTS)
def test_two_parts_at_one_address_raise(name: str) -> None:
    kind = I2C_PARTS[name]
    free = [f"{address:#04x}" for address in kind.addresses if address != kind.address]
    advice = rf"give one of them another address \(.*{free[-1]}\), or another bus" if free else "them another bus"
    with pytest.raises(
        WiringError, match=rf"address {kind.address:#04x} is used already, by the part {kind.__name__}.*{advice}"
    ):
        SimBoard({"device": [{"type": name}, {"type": name}]})
    SimBoard({"device": [{"type": name}, {"type": name, "bus": 3}]}).close()


@pytest.mark.parametrize("name", I2C_PARTS)
def test_a_part_forgets_nothing_but_its_settings_on_a_power_cycle(make: Make, name: str) -> None:
    """The quantities that it measures are those of the world around it."""
    rig = make(name)
    before = {key: getattr(rig.part, key) for key in inspect.signature(I2C_PARTS[name]).parameters}
    rig.part.reset()
    assert {key: getattr(rig.part, key) for key in before} == before


@pytest.mark.parametrize("name", [name for name, kind in I2C_PARTS.items() if kind.reset_by_general_call])
def test_a_general_call_resets_the_parts_that_hear_it(make: Make, name: str) -> None:
    rig = make(name)
    resets = []
    rig.part.power_on = lambda: resets.append(1)
    rig.smbus.write_byte(0x00, 0x06)
    assert resets == [1]
    with pytest.raises(OSError, match="Remote I/O"):
        rig.smbus.write_byte(0x00, 0x04)


def test_a_general_call_that_nobody_hears_is_not_acknowledged(make: Make) -> None:
    rig = make("lm75")
    for call in (lambda: rig.smbus.write_byte(0, 6), lambda: rig.smbus.read_byte(0)):
        with pytest.raises(OSError, match="Remote I/O"):
            call()
