"""The simulated PCF8591 (NXP, rev. 7) and ADS7830 (TI SBAS302C), against their datasheets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]


def test_a_pcf8591_reads_the_conversion_before(make: Make) -> None:
    rig = make("pcf8591", inputs=[0.5, 1.0, 2.0, 3.0], reference=2.56)
    assert rig.read(2) == bytes([0x80, 50])  # 8.4: after power-on the first byte is 80h
    rig.write(0x41)
    assert rig.read(2) == bytes([50, 100])
    rig.write(0x42)
    assert rig.read(1) == bytes([100])
    assert rig.read(1) == bytes([200])


@pytest.mark.parametrize(
    ("control", "codes"),  # figure 4; each channel in turn
    [
        (0x44, [50, 100, 200, 255, 50]),
        (0x54, [0x80, 0x80, 0x9C, 0x80]),
        (0x64, [50, 100, 0x9C, 50]),
        (0x74, [0xCE, 0x9C, 0xCE]),
    ],
)
def test_a_pcf8591_goes_through_its_channels(make: Make, control: int, codes: list[int]) -> None:
    rig = make("pcf8591", inputs=[0.5, 1.0, 2.0, 3.0], reference=2.56)
    rig.write(control)
    assert list(rig.read(len(codes) + 1))[1:] == codes


def test_a_pcf8591_takes_the_highest_channel_for_one_that_does_not_exist(make: Make) -> None:
    rig = make("pcf8591", inputs=[0.5, 1.0, 2.0, 3.0], reference=2.56)
    rig.write(0x73)  # two differential inputs: there is no channel 3
    assert rig.read(2)[1] == 0x9C


def test_the_dac_of_a_pcf8591(make: Make) -> None:
    rig = make("pcf8591", reference=2.56)
    assert rig.part.output is None
    rig.write(0x40, 10, 20, 128)
    assert rig.part.output == pytest.approx(1.28)
    rig.write(0x00)
    assert rig.part.output is None


@pytest.mark.parametrize("channel", range(8))
def test_an_ads7830_numbers_its_channels_in_an_order_of_its_own(make: Make, channel: int) -> None:
    rig = make("ads7830", inputs=[0.1 * n for n in range(8)], reference=2.56)
    selected = [0, 4, 1, 5, 2, 6, 3, 7][channel]  # table 2
    assert rig.read(1, 0x84 | selected << 4) == bytes([int(10 * channel + 1e-6)])


@pytest.mark.parametrize(("selected", "code"), [(0, 0), (4, 50), (1, 0), (5, 50), (3, 0), (7, 50)])
def test_an_ads7830_measures_differences(make: Make, selected: int, code: int) -> None:
    rig = make("ads7830", inputs=[0.5, 1.0, 0.5, 1.0, 0.5, 1.0, 0.5, 1.0], reference=2.56)
    assert rig.read(2, 0x04 | selected << 4) == bytes([code, code])


def test_the_internal_reference_of_an_ads7830(make: Make) -> None:
    rig = make("ads7830", inputs=[1.25])
    assert rig.read(1, 0x84) == bytes([96])  # of 3.3 V
    assert rig.read(1, 0x8C) == bytes([128])  # of 2.5 V
    rig.part.inputs[0] = 3.0
    assert rig.read(1, 0x8C) == bytes([255])
