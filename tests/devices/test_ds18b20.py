"""The DS18B20, as the kernel shows it below /sys/bus/w1/devices; values of the datasheet's table 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hwloop
from firmware_sim import SimBoard, imports
from firmware_sim.errors import WiringError
from firmware_sim.onewire import OneWireDevice, crc8

DEVICES = Path("/sys/bus/w1/devices")
MASTER = DEVICES / "w1_bus_master1"
SENSOR = DEVICES / "28-0316a2794b1c"


class Rig:
    def __init__(self, *sensors: dict[str, object]) -> None:
        self.clock = hwloop.VirtualClock()
        entries = [{"type": "ds18b20", **keys} for keys in sensors or ({"serial": 0x0316A2794B1C},)]
        self.board = SimBoard({"device": entries}, clock=self.clock)
        self.sensor = self.board.devices[0]
        self.bus = self.board.onewire(4)

    def seconds(self) -> float:
        return self.clock.now_ns() / 1e9


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []
    leading = []

    def make_rig(*sensors: dict[str, object]) -> Rig:
        rigs.append(Rig(*sensors))
        leading.append(imports.led_to(rigs[-1].board))
        leading[-1].__enter__()
        return rigs[-1]

    yield make_rig
    for each in reversed(leading):
        each.__exit__(None, None, None)
    for rig in rigs:
        rig.board.close()


@pytest.mark.parametrize(
    ("degrees", "low", "high", "thousandths"),
    [  # table 1 of the datasheet; the driver cuts off the fourth decimal
        (125.0, 0xD0, 0x07, "125000"),
        (85.0, 0x50, 0x05, "85000"),
        (25.0625, 0x91, 0x01, "25062"),
        (10.125, 0xA2, 0x00, "10125"),
        (0.5, 0x08, 0x00, "500"),
        (0.0, 0x00, 0x00, "0"),
        (-0.5, 0xF8, 0xFF, "-500"),
        (-10.125, 0x5E, 0xFF, "-10125"),
        (-25.0625, 0x6F, 0xFE, "-25062"),
        (-55.0, 0x90, 0xFC, "-55000"),
    ],
)
def test_the_datasheets_table_of_temperatures(
    make: Callable[..., Rig], degrees: float, low: int, high: int, thousandths: str
) -> None:
    rig = make()
    rig.sensor.temperature = degrees
    first, second = (SENSOR / "w1_slave").read_text().splitlines()
    data = bytes.fromhex(first[:26])
    assert (data[0], data[1]) == (low, high)
    assert first[26:] == f" : crc={crc8(data[:8]):02x} YES"
    assert second == f"{first[:26]} t={thousandths}"
    assert (SENSOR / "temperature").read_text() == f"{thousandths}\n"


def test_the_crc_of_the_application_note() -> None:
    assert crc8(bytes.fromhex("021cb801000000")) == 0xA2  # application note 27, figure 3
    assert crc8(bytes.fromhex("021cb801000000a2")) == 0


@pytest.mark.parametrize(
    ("bits", "milliseconds", "read"), [(9, 95, 23.5), (10, 190, 23.5), (11, 375, 23.375), (12, 750, 23.4375)]
)
def test_a_reading_takes_as_long_as_its_resolution(
    make: Callable[..., Rig], bits: int, milliseconds: int, read: float
) -> None:
    rig = make()
    (SENSOR / "resolution").write_text(f"{bits}\n")
    assert (SENSOR / "resolution").read_text() == f"{bits}\n"
    assert (SENSOR / "conv_time").read_text() == f"{milliseconds}\n"
    rig.sensor.temperature = 23.42
    before = rig.seconds()
    assert float((SENSOR / "temperature").read_text()) == read * 1000 // 1
    assert milliseconds / 1e3 < rig.seconds() - before < milliseconds / 1e3 + 0.03


def test_85_degrees_until_the_first_conversion_is_over(make: Callable[..., Rig]) -> None:
    rig = make()
    assert rig.bus.transfer(rig.sensor.rom, b"\xbe", 9)[:2] == b"\x50\x05"
    (SENSOR / "conv_time").write_text("100")  # too short for 12 bits
    assert (SENSOR / "temperature").read_text() == "85000\n"
    (SENSOR / "features").write_text("1")  # check the result
    rig.sensor.reset()
    assert (SENSOR / "temperature").read_text() == ""
    (SENSOR / "resolution").write_text("12")  # which sets the time for it
    assert (SENSOR / "temperature").read_text() == "21500\n"


def test_reading_slots_are_zeros_during_a_conversion(make: Callable[..., Rig]) -> None:
    rig = make()
    assert rig.bus.transfer(rig.sensor.rom, b"\x44", 1) == b"\0"
    rig.clock.sleep(0.75)
    assert rig.bus.transfer(rig.sensor.rom, b"\xb4", 1) == b"\xff"


def test_settings_survive_a_power_cycle_only_in_the_eeprom(make: Callable[..., Rig]) -> None:
    rig = make({"serial": 0x0316A2794B1C, "resolution": 10})
    assert (SENSOR / "resolution").read_text() == "10\n"
    (SENSOR / "alarms").write_text("30 -5\n")
    assert (SENSOR / "alarms").read_text() == "-5 30\n"
    (SENSOR / "resolution").write_text("11")
    rig.sensor.reset()
    assert (SENSOR / "alarms").read_text() == "70 75\n"
    assert (SENSOR / "resolution").read_text() == "10\n"
    (SENSOR / "alarms").write_text("1 2")
    (SENSOR / "eeprom_cmd").write_text("save\n")
    (SENSOR / "alarms").write_text("3 4")
    (SENSOR / "eeprom_cmd").write_text("restore\n")
    assert (SENSOR / "alarms").read_text() == "1 2\n"
    (SENSOR / "w1_slave").write_text("9\n")
    (SENSOR / "w1_slave").write_text("0\n")  # the old way to save
    rig.sensor.reset()
    assert (SENSOR / "resolution").read_text() == "9\n"


def test_values_that_the_driver_rejects_or_ignores(make: Callable[..., Rig]) -> None:
    make()
    for name, text in (("resolution", "8"), ("resolution", "13"), ("conv_time", "x"), ("features", "4")):
        with pytest.raises(OSError, match="Invalid argument"):
            (SENSOR / name).write_text(text)
    for name, text in (("resolution", "many"), ("alarms", "5"), ("alarms", "a b"), ("eeprom_cmd", "erase")):
        (SENSOR / name).write_text(text)
    with pytest.raises(PermissionError):
        (SENSOR / "temperature").write_text("20")
    assert (SENSOR / "resolution").read_text() == "12\n"


def test_a_disturbed_answer_is_read_again_and_after_five_the_file_is_empty(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.sensor.bad_checksums = 4
    assert (SENSOR / "temperature").read_text() == "21500\n"
    rig.sensor.bad_checksums = 5
    assert (SENSOR / "temperature").read_text() == ""
    rig.sensor.bad_checksums = 5
    assert (SENSOR / "w1_slave").read_text() == ""


def test_kernels_before_5_8_show_a_bad_checksum_with_no_and_the_last_good_bytes(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.bus.shows_bad_checksums = True
    good = (SENSOR / "w1_slave").read_text().splitlines()[0]
    rig.sensor.bad_checksums = 5
    bad, last = (SENSOR / "w1_slave").read_text().splitlines()
    assert bad.endswith("NO")
    assert bad[:2] != good[:2]
    assert last.startswith(good[:26])


def test_an_unplugged_sensor_reads_empty_and_is_forgotten_after_ten_searches(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.sensor.unplug()
    assert (SENSOR / "w1_slave").read_text() == ""
    assert (SENSOR / "ext_power").read_text() == "-19\n"
    assert (SENSOR / "resolution").read_text() == "-19\n"
    rig.clock.sleep(50)
    rig.sensor.replug()
    rig.clock.sleep(60)
    assert SENSOR.is_dir()
    assert (SENSOR / "temperature").read_text() == "21500\n"
    rig.sensor.unplug()
    rig.clock.sleep(101)
    assert not SENSOR.exists()
    assert (MASTER / "w1_master_slaves").read_text() == "not found.\n"
    rig.sensor.replug()
    assert (SENSOR / "temperature").read_text() == "21500\n"


def test_a_line_that_is_shorted_to_ground_reads_as_zero_degrees_with_a_good_checksum(make: Callable[..., Rig]) -> None:
    rig = make()
    fault = rig.board.faults.inject("stuck-line", line=4, level=0)
    assert (SENSOR / "w1_slave").read_text() == "00 " * 8 + "00 : crc=00 YES\n" + "00 " * 9 + "t=0\n"
    fault.end()
    fault = rig.board.faults.inject("stuck-line", line=4, level=1)
    assert (SENSOR / "w1_slave").read_text() == ""
    fault.end()
    assert (SENSOR / "temperature").read_text() == "21500\n"


def test_several_sensors_on_one_line_convert_together(make: Callable[..., Rig]) -> None:
    rig = make({"temperature": 1.0}, {"temperature": 2.0, "parasite": True}, {"serial": 0x0316A2794B1C})
    names = ["28-031602790001", "28-031602790002", "28-0316a2794b1c"]
    assert sorted(os.listdir(DEVICES)) == [*names, "w1_bus_master1"]
    assert (MASTER / "w1_master_slave_count").read_text() == "3\n"
    assert (MASTER / "w1_master_slaves").read_text().split() == names
    assert [(DEVICES / name / "ext_power").read_text() for name in names] == ["1\n", "0\n", "1\n"]
    assert (DEVICES / names[2] / "id").read_bytes() == rig.board.devices[2].rom
    before = rig.seconds()
    (MASTER / "therm_bulk_read").write_text("trigger\n")
    assert (MASTER / "therm_bulk_read").read_text() == "1\n"
    assert [(DEVICES / name / "temperature").read_text() for name in names] == ["1000\n", "2000\n", "21500\n"]
    assert rig.seconds() - before < 1
    assert (MASTER / "therm_bulk_read").read_text() == "0\n"


def test_the_line_belongs_to_the_bus(make: Callable[..., Rig]) -> None:
    rig = make()
    lgpio = rig.board.lgpio
    lgpio.exceptions = False
    handle = lgpio.gpiochip_open(0)
    assert lgpio.gpio_claim_input(handle, 4) == lgpio.GPIO_BUSY


def test_wrong_wiring_is_an_error_of_the_board_file() -> None:
    for sensors, message in (
        ([{"serial": 5}, {"serial": 5}], "serial 0x000000000005 is used already"),
        ([{"serial": 1 << 48}], "serial must be"),
        ([{"line": 54}], "line 54 is not on the board"),
        ([{"resolution": 8}], "resolution must be 9 to 12 bits"),
    ):
        with pytest.raises(WiringError, match=message):
            SimBoard({"device": [{"type": "ds18b20", **keys} for keys in sensors]})


def test_other_devices_on_the_bus_have_a_name_and_an_id_only(make: Callable[..., Rig]) -> None:
    class Switch(OneWireDevice):
        family = 0x12
        rom_serial = 7

    rig = make()
    rig.bus.attach(Switch())
    assert sorted(os.listdir(DEVICES / "12-000000000007")) == ["id", "name"]
    assert rig.bus.transfer(Switch().rom, b"\xf0", 2) == b"\xff\xff"
