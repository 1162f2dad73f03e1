"""The simulated PCA9685, against its datasheet (NXP, rev. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]
ON = 0x20


def test_it_sleeps_after_power_on_with_all_channels_off(make: Make) -> None:
    rig = make("pca9685")
    assert rig.read(1, 0x00) == b"\x11"  # table 5
    assert rig.read(1, 0x01) == b"\x04"
    assert rig.read(1, 0xFE) == b"\x1e"
    rig.write(0x06, 0xFF)
    assert rig.read(4, 0x06) == b"\xff" * 4  # without AI the pointer stays
    assert rig.part.duty_cycle(0) == 0


def test_the_frequency_of_the_datasheets_example(make: Make) -> None:
    rig = make("pca9685")
    rig.write(0xFE, 0x1E)  # 7.3.5: 200 Hz
    assert rig.part.frequency == pytest.approx(200, rel=0.02)
    rig.write(0x00, ON)
    rig.write(0xFE, 0x79)  # awake: no effect
    assert rig.read(1, 0xFE) == b"\x1e"
    rig.write(0x00, ON | 0x10)
    rig.write(0xFE, 0x79)
    assert rig.part.frequency == pytest.approx(50, rel=0.001)
    rig.write(0xFE, 0x00)
    assert rig.read(1, 0xFE) == b"\x03"


@pytest.mark.parametrize(
    ("registers", "duty"),
    [
        ("9901cc04", 0.2),  # 7.3.3, example 1: on at 10 %, for 20 %
        ("ff0fcc04", (0x4CC - 0xFFF) % 4096 / 4096),  # example 3: around the end of the period
        ("00100000", 1.0),
        ("00100010", 0.0),  # off wins
        ("00000010", 0.0),
    ],
)
def test_the_duty_cycle_of_a_channel(make: Make, registers: str, duty: float) -> None:
    rig = make("pca9685")
    rig.write(0x00, ON)
    rig.wait(0.001)
    rig.write(0x06 + 4 * 3, *bytes.fromhex(registers))
    assert rig.part.duty_cycle(3) == pytest.approx(duty, abs=0.001)
    assert rig.part.duty_cycle(2) == 0
    rig.write(0xFA, *bytes.fromhex(registers))
    assert rig.part.duty_cycle(2) == pytest.approx(duty, abs=0.001)
    assert rig.read(4, 0xFA) == bytes(4)


def test_a_servos_pulse(make: Make) -> None:
    rig = make("pca9685")
    rig.write(0xFE, 0x79)
    rig.write(0x00, ON)
    rig.write(0x06, 0, 0, *(307).to_bytes(2, "little"))
    assert rig.part.pulse_width(0) == pytest.approx(0.0015, abs=1e-5)
    with pytest.raises(IndexError, match="there is no channel 16; the channels are 0 to 15"):
        rig.part.pulse_width(16)


def test_channels_go_on_after_a_restart_that_waits_for_the_oscillator(make: Make) -> None:
    rig = make("pca9685")
    rig.write(0x00, ON)
    rig.write(0x06, 0, 0, 0, 0x08)
    rig.write(0x00, ON | 0x10)
    assert rig.read(1, 0x00) == bytes([ON | 0x90])  # it can be restarted
    assert rig.part.duty_cycle(0) == 0
    rig.write(0x00, ON)
    rig.write(0x00, ON | 0x80)  # too early
    assert rig.read(1, 0x00) == bytes([ON | 0x80])
    assert rig.part.duty_cycle(0) == 0
    rig.wait(0.0005)
    rig.write(0x00, ON | 0x80)
    assert rig.read(1, 0x00) == bytes([ON])
    assert rig.part.duty_cycle(0) == 0.5


def test_the_pointer_returns_from_the_last_channel_to_the_first_register(make: Make) -> None:
    rig = make("pca9685")
    rig.write(0x00, ON)
    assert rig.read(3, 0x44) == bytes([0, 0x10, ON])
