"""The hardware PWM of the simulated board: sysfs, and the pulses on the lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard, imports
from firmware_sim.errors import WiringError

CHIP = Path("/sys/class/pwm/pwmchip0")


class Rig:
    def __init__(self, **keys: Any) -> None:
        self.clock = hwloop.VirtualClock()
        self.board = SimBoard(keys, clock=self.clock)
        self.edges: list[tuple[int, int]] = []
        self.line = self.board.line(18)
        self.line.observe(lambda level, when_ns: self.edges.append((when_ns, level)))

    def write(self, **values: object) -> None:
        for name, value in values.items():
            (CHIP / "pwm0" / name).write_text(f"{value}\n")

    def widths(self, seconds: float) -> list[int]:
        """Return the nanoseconds between the edges of the next seconds, the first high one first."""
        self.edges.clear()
        self.clock.sleep(seconds)
        return [later - earlier for (earlier, _), (later, _) in zip(self.edges, self.edges[1:], strict=False)]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(device=[{"type": "servo", "name": "servo", "line": 19}])
    with imports.led_to(rig.board):
        (CHIP / "export").write_text("0")
        yield rig
    rig.board.close()


def test_a_channel_is_exported_once_and_its_files_are_there_until_it_is_unexported(rig: Rig) -> None:
    assert (CHIP / "npwm").read_text() == "2\n"
    assert sorted(os.listdir(CHIP)) == ["export", "npwm", "pwm0", "unexport"]
    assert sorted(os.listdir(CHIP / "pwm0")) == ["duty_cycle", "enable", "period", "polarity"]
    for name, text, message in (
        ("export", "0", "Device or resource busy"),
        ("export", "2", "No such device"),
        ("export", "-1", "Invalid argument"),
        ("export", "x", "Invalid argument"),
        ("unexport", "1", "No such device"),
        ("unexport", "9", "No such device"),
    ):
        with pytest.raises(OSError, match=message):
            (CHIP / name).write_text(text)
    (CHIP / "export").write_text("0x1\n")
    (CHIP / "unexport").write_text("1")
    (CHIP / "unexport").write_text("0")
    assert not (CHIP / "pwm0").exists()
    with pytest.raises(PermissionError):
        (CHIP / "export").read_text()
    with pytest.raises(FileNotFoundError):
        (CHIP / "pwm0/period").read_text()


def test_the_period_comes_first_and_no_duty_cycle_is_longer(rig: Rig) -> None:
    for name, value in (("duty_cycle", 0), ("enable", 1), ("polarity", "inversed"), ("period", 0), ("period", 1 << 32)):
        with pytest.raises(OSError, match="Invalid argument"):
            rig.write(**{name: value})
    rig.write(period=1000)
    for name, value in (
        ("duty_cycle", 1001),
        ("duty_cycle", -1),
        ("enable", 2),
        ("polarity", "odd"),
        ("enable", "yes"),
    ):
        with pytest.raises(OSError, match="Invalid argument"):
            rig.write(**{name: value})
    rig.write(duty_cycle=1000)
    with pytest.raises(OSError, match="Invalid argument"):
        rig.write(period=999)
    rig.write(polarity="inversed", enable=0)
    read = {name: (CHIP / "pwm0" / name).read_text() for name in ("period", "duty_cycle", "enable", "polarity")}
    assert read == {"period": "1000\n", "duty_cycle": "1000\n", "enable": "0\n", "polarity": "inversed\n"}


def test_the_line_has_the_pulses_and_new_settings_count_from_the_next_period(rig: Rig) -> None:
    rig.write(period=20_000_000, duty_cycle=1_500_000, enable=1)
    assert rig.line.level == 1
    assert rig.widths(0.05) == [18_500_000, 1_500_000, 18_500_000, 1_500_000]  # it fell first
    rig.clock.sleep(0.0105)  # just into a pulse
    assert rig.line.level == 1
    rig.write(duty_cycle=5_000_000)
    assert rig.widths(0.03)[:2] == [18_500_000, 5_000_000]
    rig.write(period=10_000_000)
    rig.clock.sleep(0.02)
    assert rig.widths(0.021) == [5_000_000] * 3
    rig.write(enable=0)
    assert rig.line.level == 0
    assert rig.widths(1) == []


def test_full_and_no_duty_cycle_are_levels_and_inversed_ones_the_other_way_round(rig: Rig) -> None:
    rig.write(period=1_000_000, duty_cycle=1_000_000, enable=1)
    assert (rig.line.level, rig.widths(0.1)) == (1, [])
    rig.write(polarity="inversed")
    assert (rig.line.level, rig.widths(0.1)) == (0, [])
    rig.write(duty_cycle=0)
    assert (rig.line.level, rig.widths(0.1)) == (1, [])
    rig.write(duty_cycle=250_000)
    assert rig.widths(0.0011)[:1] == [750_000]
    (CHIP / "unexport").write_text("0")
    assert (rig.line.level, rig.widths(0.1)) == (0, [])


def test_a_servo_follows_the_pulses(rig: Rig) -> None:
    (CHIP / "export").write_text("1")
    for name, value in (("period", 20_000_000), ("duty_cycle", 500_000), ("enable", 1)):
        (CHIP / "pwm1" / name).write_text(str(value))
    rig.clock.sleep(0.1)
    assert rig.board["servo"].angle == 0
    (CHIP / "pwm1/duty_cycle").write_text("2400000")
    rig.clock.sleep(0.1)
    assert rig.board["servo"].angle == 180


def test_pulses_that_are_too_fast_for_edges_are_seen_as_duty_cycle() -> None:
    rig = Rig(device=[{"type": "rgb-led", "name": "part", "red": 18, "green": 22, "blue": 23}])
    with rig.board, imports.led_to(rig.board):
        (CHIP / "export").write_text("0")
        rig.write(period=40_000, duty_cycle=30_000, enable=1)
        assert (rig.line.level, rig.line.fast_pulses, rig.widths(0.01)) == (1, (40_000, 30_000), [])
        assert rig.board["part"].color == (0.75, 0.0, 0.0)
        rig.write(polarity="inversed")
        assert rig.line.fast_pulses == (40_000, 10_000)
        rig.write(enable=0)
        assert rig.line.fast_pulses is None


def test_a_line_that_is_claimed_has_no_pulses_and_the_log_says_why(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    lgpio = rig.board.lgpio
    handle = lgpio.gpiochip_open(0)
    lgpio.gpio_claim_output(handle, 18, 0)
    with caplog.at_level(logging.WARNING):
        rig.write(period=1_000_000, duty_cycle=500_000, enable=1)
        assert rig.widths(0.01) == []
    assert len(caplog.records) == 1
    assert "line 18" in caplog.text
    lgpio.gpio_free(handle, 18)
    assert len(rig.widths(0.01)) > 10


@pytest.mark.parametrize(
    ("keys", "lines"),
    [({}, (18, 19)), ({"revision": "c04170"}, (12, 13, 18, 19)), ({"pwm": [12, 13]}, (12, 13)), ({"pwm": []}, ())],
)
def test_the_lines_are_those_of_the_model_or_of_the_board_file(keys: dict[str, Any], lines: tuple[int, ...]) -> None:
    with SimBoard(keys) as board:
        assert tuple(channel.line.number for channel in board.pwm.channels) == lines
        found = [board.pwm.channel(line) is not None for line in (12, 13, 18, 19)]
        assert found == [line in lines for line in (12, 13, 18, 19)]


@pytest.mark.parametrize("lines", [[4], [18, 18], 18, ["18"]])
def test_other_lines_have_no_pwm(lines: object) -> None:
    with pytest.raises(WiringError, match="pwm must be the lines of the PWM channels, each one of 12, 13, 18, 19"):
        SimBoard({"pwm": lines})
