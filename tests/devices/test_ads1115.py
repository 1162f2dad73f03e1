"""The simulated ADS1115, against its datasheet (TI SBAS444E)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SINGLE, CONTINUOUS = 0x8100, 0x0000
AIN0, AIN1 = 0x4000, 0x5000
MOST, GAIN_2_048 = 0x0000, 0x0400
RATE_8, RATE_128 = 0x00, 0x80
NO_COMPARATOR = 3

Make = Callable[..., Any]


def configure(rig: Any, config: int) -> None:
    rig.write(1, config >> 8, config & 0xFF)


@pytest.mark.parametrize(
    ("volts", "code"),  # table 7-3, input signal versus ideal output code, at ±2.048 V
    [
        *((2.048, 0x7FFF), (2.048 * 32767 / 32768, 0x7FFF), (2.048 / 32768, 1), (0, 0), (-2.048 / 32768, 0xFFFF)),
        *((-2.048, 0x8000), (2.7, 0x7FFF), (-2.4, 0x8000)),
    ],
)
def test_a_difference_of_inputs_gives_the_code_of_the_datasheet(make: Make, volts: float, code: int) -> None:
    rig = make("ads1115", inputs=[2.5 + volts, 2.5] if volts > 0 else [2.5, 2.5 - volts])
    assert rig.word(1) == 0x8583  # table 8-3: the reset value, ±2.048 V, AIN0 against AIN1
    configure(rig, 0x8583)
    rig.wait(0.1)
    assert rig.word(0) == code


def test_an_ads1015_has_twelve_bits_and_is_faster(make: Make) -> None:
    rig = make("ads1015", inputs=[2.048, 1.0005])
    configure(rig, SINGLE | AIN0 | GAIN_2_048 | 0x80 | NO_COMPARATOR)  # 1600 a second
    rig.wait(1 / 1600)
    assert rig.word(0) == 0
    rig.wait(26e-6)
    assert rig.word(0) == 0x7FF0  # SBAS473E, table 3
    configure(rig, SINGLE | AIN1 | GAIN_2_048 | 0x80 | NO_COMPARATOR)
    rig.wait(0.001)
    assert rig.word(0) == 0x3E80  # 1 V: the step is 1 mV


def test_the_quick_start_guide_converts_continuously(make: Make) -> None:
    rig = make("ads1115", inputs=[1.5, 0.5])
    rig.write(0x01, 0x84, 0x83)  # section 8.1.2
    rig.write(0x00)
    assert rig.read(2) == b"\0\0"
    rig.wait(0.008)
    assert rig.read(2) == (16000).to_bytes(2)
    rig.part.inputs[0] = 0.75
    assert rig.read(2) == (16000).to_bytes(2)
    rig.wait(0.0079)
    assert rig.read(2) == (4000).to_bytes(2)


def test_a_conversion_takes_its_time_and_the_old_value_is_read_until_then(make: Make) -> None:
    rig = make("ads1115", inputs=[1.0, 2.0])
    for config, ends in (
        (SINGLE | AIN0 | GAIN_2_048 | RATE_8, 0.125),
        (SINGLE | AIN1 | GAIN_2_048 | RATE_128, 1 / 128),
    ):
        before = rig.word(0)
        configure(rig, config | NO_COMPARATOR)
        assert rig.word(1) & 0x8000 == 0
        rig.wait(ends)
        assert (rig.word(0), rig.word(1) & 0x8000) == (before, 0)
        rig.wait(26e-6)
        assert rig.word(1) & 0x8000
        assert rig.word(0) != before
    assert rig.part.conversions == 2


def test_a_start_while_it_converts_has_no_effect(make: Make) -> None:
    rig = make("ads1115", inputs=[1.0, 2.0])
    configure(rig, SINGLE | AIN0 | GAIN_2_048 | RATE_8 | NO_COMPARATOR)
    rig.wait(0.1)
    configure(rig, SINGLE | AIN1 | GAIN_2_048 | RATE_8 | NO_COMPARATOR)
    rig.wait(0.03)
    assert rig.word(0) == 16000


def test_after_another_input_was_chosen_the_next_continuous_conversion_is_still_of_the_old_one(make: Make) -> None:
    rig = make("ads1115", inputs=[1.0, 2.0])
    configure(rig, CONTINUOUS | AIN0 | GAIN_2_048 | RATE_128 | NO_COMPARATOR)
    rig.wait(0.1)
    configure(rig, CONTINUOUS | AIN1 | GAIN_2_048 | RATE_128 | NO_COMPARATOR)
    rig.wait(1 / 128)
    assert rig.word(0) == 16000
    rig.wait(1 / 128)
    assert rig.word(0) == 32000


def test_an_input_may_be_a_function_of_time(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    rig = make("ads1115")
    rig.part.inputs[0] = lambda seconds: seconds / 10
    configure(rig, CONTINUOUS | AIN0 | GAIN_2_048 | RATE_8 | NO_COMPARATOR)
    rig.wait(10.01)
    assert rig.word(0) == pytest.approx(16000, abs=10)  # of the conversion that ended at 10.000025 s
    rig.part.inputs[0] = lambda seconds: 1 / 0
    rig.wait(1)
    assert (rig.word(0), rig.word(0)) == (0, 0)
    rig.wait(1)
    assert rig.word(0) == 0
    [record] = caplog.records
    assert "of analog input 0 failed: " in record.message
    assert "division by zero" in record.message


def test_the_ready_pin_reports_the_end_of_a_single_conversion(make: Make) -> None:
    rig = make("ads1115", inputs=[1.0], interrupt=24)
    rig.board.line(24).pull("up")
    rig.write(3, 0x80, 0x00)  # section 7.3.8: the high threshold's highest bit is 1, the low one's 0
    rig.write(2, 0x00, 0x00)
    configure(rig, SINGLE | AIN0 | GAIN_2_048 | RATE_8)
    rig.wait(0.12)
    assert rig.level(24) == 1
    rig.wait(0.006)
    assert rig.level(24) == 0
    configure(rig, SINGLE | AIN0 | GAIN_2_048 | RATE_8)
    assert rig.level(24) == 1


def test_the_ready_pin_pulses_for_8_us_after_each_continuous_conversion(make: Make) -> None:
    rig = make("ads1115", interrupt=24)
    line = rig.board.line(24)
    line.pull("up")
    rig.write(3, 0x80, 0x00)
    rig.write(2, 0x00, 0x00)
    levels: list[tuple[int, int]] = []
    line.observe(lambda level, when_ns: levels.append((level, when_ns)))
    configure(rig, CONTINUOUS | AIN0 | GAIN_2_048 | RATE_128)
    rig.wait(0.1)
    assert [level for level, _ in levels] == [0, 1] * 12
    assert levels[1][1] - levels[0][1] == 8000
    assert levels[2][1] - levels[0][1] == 7_812_500


@pytest.mark.parametrize(
    ("bits", "voltages", "levels"),  # one level after each conversion
    [
        (0b00000, [0.5, 1.6, 1.2, 0.9], [1, 0, 0, 1]),  # traditional, with hysteresis
        (0b01000, [0.5, 1.6, 1.2, 0.9], [0, 1, 1, 0]),  # active high
        (0b10000, [0.5, 1.2, 1.6, 1.2], [0, 1, 0, 1]),  # window
        (0b00001, [1.6, 1.6, 0.5, 1.6, 1.6], [1, 0, 1, 1, 0]),  # after two conversions
        (0b00011, [1.6, 1.6], [1, 1]),  # disabled
    ],
)
def test_the_comparator_drives_the_alert_pin(make: Make, bits: int, voltages: list[float], levels: list[int]) -> None:
    rig = make("ads1115", interrupt=24)
    rig.board.line(24).pull("up")
    rig.write(3, *(24000).to_bytes(2))
    rig.write(2, *(16000).to_bytes(2))
    found = []
    rig.part.inputs[0] = voltages[0]
    configure(rig, CONTINUOUS | AIN0 | GAIN_2_048 | RATE_128 | bits)
    rig.wait(2e-5)  # most of the time that it takes to wake up
    for volts in voltages:
        rig.part.inputs[0] = volts
        rig.wait(1 / 128 + 1e-5)
        found.append(rig.level(24))
    assert found == levels


def test_a_latched_alert_ends_when_the_conversion_is_read(make: Make) -> None:
    rig = make("ads1115", interrupt=24, inputs=[1.6])
    rig.board.line(24).pull("up")
    rig.write(3, *(24000).to_bytes(2))
    configure(rig, CONTINUOUS | AIN0 | GAIN_2_048 | RATE_128 | 0b100)
    rig.wait(0.01)
    rig.part.inputs[0] = 0.5
    rig.wait(0.01)
    assert rig.level(24) == 0
    rig.word(0)
    assert rig.level(24) == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([1.0] * 5, "inputs must be a list of 4 voltages or fewer"),
        ([1.0, 24.0], r"inputs\[1\] must be -0.3 to 5.3 volts, not 24"),
        ([1.0, "high"], "inputs must be a list, each a number, not"),
        (1.0, "inputs must be a list, each a number, not 1.0"),
    ],
)
def test_voltages_that_no_pin_stands_raise(make: Make, inputs: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("ads1115", inputs=inputs)


def test_a_voltage_out_of_limits_raises_and_changes_nothing(make: Make) -> None:
    rig = make("ads1115", inputs=[1.0])
    with pytest.raises(ValueError, match=r"inputs\[0\] must be -0.3 to 5.3 volts, not 12"):
        rig.part.inputs[0] = 12
    with pytest.raises(IndexError, match="there is no input 4; the inputs are 0 to 3"):
        rig.part.inputs[4] = 1.0
    assert rig.part.inputs == [1.0, 0.0, 0.0, 0.0]
