"""The simulated INA219, against its datasheet (TI SBOS448G)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]


def test_the_datasheets_worked_example(make: Make) -> None:
    # Section 8.5.2, figure 27 and table 8: 2 mΩ, 10 A, 11.98 V, a calibration for 1 mA a step.
    rig = make("ina219", voltage=11.98, current=10.0, shunt=0.002)
    assert rig.word(0) == 0x399F
    rig.write(5, 0x50, 0x00)
    rig.wait(0.002)
    assert rig.word(1) == 0x07D0
    assert rig.word(2) == 0x5D98 | 2
    assert rig.word(4) == 0x2710
    assert rig.word(3) == 0x1766
    assert rig.word(2) == 0x5D98  # reading the power ends the ready flag


def test_current_and_power_are_0_without_a_calibration(make: Make) -> None:
    rig = make("ina219")
    rig.wait(0.01)
    assert (rig.word(1), rig.word(4), rig.word(3)) == (5000, 0, 0)


@pytest.mark.parametrize(
    ("config", "volts", "amperes", "shunt", "bus"),
    [
        (0x399F, 5.0, -0.5, -5000 & 0xFFFF, 1250),
        (0x219F, 5.0, 2.0, 4000, 1250),  # ±40 mV
        (0x299F, 5.0, -2.0, -8000 & 0xFFFF, 1250),  # ±80 mV
        (0x199F, 24.0, 1.0, 10000, 4000),  # 16 V
        (0x399F, 24.0, 1.0, 10000, 6000),
    ],
)
def test_ranges_clip(make: Make, config: int, volts: float, amperes: float, shunt: int, bus: int) -> None:
    rig = make("ina219", voltage=volts, current=amperes)
    rig.write(0, *config.to_bytes(2))
    rig.wait(0.01)
    assert (rig.word(1), rig.word(2) >> 3) == (shunt, bus)


@pytest.mark.parametrize(
    ("config", "seconds"), [(0x399B, 1064e-6), (0x3999, 532e-6), (0x399A, 532e-6), (0x3FFB, 136.2e-3), (0x380B, 232e-6)]
)
def test_a_triggered_conversion_takes_its_time_and_is_the_only_one(make: Make, config: int, seconds: float) -> None:
    rig = make("ina219", voltage=3.3, current=0.1)
    rig.write(0, 0, 0)
    rig.wait(0.01)
    rig.write(0, *config.to_bytes(2))
    rig.wait(seconds - 20e-6)
    assert rig.word(2) & 2 == 0
    rig.wait(20e-6)
    assert rig.word(2) & 2
    before = rig.word(1), rig.word(2)
    rig.part.current = 1.0
    rig.wait(1)
    assert (rig.word(1), rig.word(2)) == before


def test_the_overflow_flag(make: Make) -> None:
    rig = make("ina219", current=3.0)
    rig.write(5, 0xFF, 0xFE)
    rig.wait(0.01)
    assert rig.word(2) & 1
    rig.part.current = 0.1
    rig.wait(0.01)
    assert rig.word(2) & 1 == 0


def test_the_reset_bit(make: Make) -> None:
    rig = make("ina219")
    rig.write(5, 0x10, 0x01)
    rig.write(0, 0x01, 0x9F)
    assert (rig.word(5), rig.word(0)) == (0x1000, 0x019F)
    rig.write(0, 0x80, 0x00)
    assert (rig.word(5), rig.word(0)) == (0, 0x399F)
