"""Outputs on lines that the kernel's PWM drives: on the simulated board, and on the files of a Raspberry Pi."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.trace import Trace
from hwloop import HardwareError, gpio
from hwloop import board as boards
from hwloop.board import OutputRequest
from hwloop.boards.pwm_discovery import find_channel
from hwloop.boards.pwm_output import PwmChannel, PwmFiles, PwmOutput, SysfsPwmFiles
from hwloop.service.abandoned_outputs import AbandonedOutputs
from hwloop.service.guard_records import GuardedOutput


@pytest.fixture
def board() -> Iterator[SimBoard]:
    clock = hwloop.VirtualClock()
    with SimBoard({"pwm": [12, 13]}, clock=clock, tracer=Trace()) as board:
        yield board


def on(board: SimBoard, main: object) -> None:
    hwloop.run(main(), board=board, clock=board.clock)  # type: ignore[operator, arg-type]


# On the simulated board.


def test_pulses_come_from_the_pwm_and_do_not_jitter(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output(12, safe=0) as servo:
            assert board.line(12).consumer is None
            servo.pwm(0.075, frequency=50)
            await asyncio.sleep(1)
            assert servo.value == 1
        assert board.line(12).level == 0

    on(board, main)
    trace = board.tracer
    assert isinstance(trace, Trace)
    widths = trace.pulses(12)
    assert len(widths) >= 49
    assert set(widths[:-1]) == {1_500_000}
    assert not board.pwm.channels[0].enabled


def test_levels_are_a_duty_cycle_of_all_or_nothing(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output("GPIO13", initial=1) as lamp:
            assert (lamp.value, board.line(13).level) == (1, 1)
            lamp.off()
            assert (lamp.value, board.line(13).level) == (0, 0)
            lamp.pulse(0.5)
            await asyncio.sleep(0.1)
            assert board.line(13).level == 1
            await asyncio.sleep(1)
            assert board.line(13).level == 0
            lamp.on()
        assert board.line(13).level == 1  # without a safe level it keeps its last one
        async with gpio.output(13, initial=None) as lamp:
            assert (lamp.value, board.line(13).level) == (1, 1)
            lamp.pwm(0.5)
        assert board.line(13).level == 0  # pulses end

    on(board, main)


def test_an_active_low_output_is_inverted(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output(12, active_low=True, initial=0, safe=0) as lamp:
            assert board.line(12).level == 1
            lamp.on()
            assert board.line(12).level == 0
            lamp.pwm(0.25, frequency=100)
            assert board.pwm.channels[0].duty_ns == 7_500_000
            await asyncio.sleep(0.1)
        assert board.line(12).level == 1

    on(board, main)


def test_the_period_changes_without_an_invalid_state(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output(12) as lamp:
            for frequency, duty in ((1000, 0.9), (0.25, 0.5), (10_000, 1), (50, 0), (100, 0.999)):
                lamp.pwm(duty, frequency=frequency)
                channel = board.pwm.channels[0]
                assert (channel.period_ns, channel.duty_ns) == (round(1e9 / frequency), round(1e9 / frequency * duty))

            with pytest.raises(HardwareError, match="the PWM does not have this period; choose another frequency"):
                lamp.pwm(0.5, frequency=0.1)

    on(board, main)


def test_a_line_is_opened_once(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output(12):
            with pytest.raises(HardwareError, match="line 12: this program has it open already"):
                gpio.output(12).open()
        gpio.output(12).open().close()

    on(board, main)


def test_other_outputs_claim_their_lines(board: SimBoard) -> None:
    async def main() -> None:
        async with gpio.output(12, drive="open-drain"), gpio.output(27):
            assert [bool(board.line(number).consumer) for number in (12, 27)] == [True, True]

    on(board, main)
    with SimBoard() as plain, hwloop.board.using(plain), gpio.output(18):
        assert plain.line(18).consumer


def test_the_device_of_another_output_is_safe_when_the_board_closes(board: SimBoard) -> None:
    with hwloop.board.using(board):
        lamp = gpio.output(12, safe=0).open()
        lamp.on()
        board.close()
    assert board.line(12).level == 0


@pytest.mark.parametrize(("active_low", "safe", "level"), [(False, 0, 0), (False, 1, 1), (True, 0, 1)])
def test_the_guardian_ends_the_pulses_of_a_program_that_was_killed(
    board: SimBoard, monkeypatch: pytest.MonkeyPatch, active_low: bool, safe: Literal[0, 1], level: int
) -> None:
    """A PWM has no owner: it sends pulses until somebody stops it."""
    request = OutputRequest(12, consumer="pump", initial=0, active_low=active_low)
    board.open_output(request).pwm(1000, 0.5)
    channel = board.pwm.channels[0]
    assert (channel.enabled, channel.duty_ns) == (True, 500_000)
    board.pwm._files.open.clear()  # another process has opened nothing
    monkeypatch.setattr(boards, "reached", lambda address: board)
    abandoned = AbandonedOutputs()
    abandoned.take([GuardedOutput(12, safe, "push-pull", active_low, None)])
    abandoned.drive()
    assert (abandoned.failed, abandoned.waiting) == (0, False)
    assert board.line(12).level == level
    assert channel.duty_ns in (0, channel.period_ns) or not channel.enabled
    abandoned.close()
    assert board.line(12).level == level


# On the files of a machine.


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    """The directory of a PWM chip with an exported channel 1, as plain files."""
    for name, text in {"export": "", "pwm1/period": "0", "pwm1/duty_cycle": "0", "pwm1/enable": "0"}.items():
        (tmp_path / "pwmchip0" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pwmchip0" / name).write_text(text)
    return tmp_path / "pwmchip0"


def opened(chip: Path, files: PwmFiles, initial: int | None = 0) -> PwmOutput:
    request = OutputRequest(13, consumer="test", initial=initial)  # type: ignore[arg-type]
    return PwmOutput(files, PwmChannel(str(chip), 1), request, sleep=lambda seconds: None)


def settings(chip: Path) -> list[str]:
    return [(chip / "pwm1" / name).read_text() for name in ("period", "duty_cycle", "enable")]


def test_the_files_of_a_machine_are_written(chip: Path) -> None:
    output = opened(chip, SysfsPwmFiles())
    assert (chip / "export").read_text() == "1"
    assert settings(chip) == ["10000000", "0", "0"]
    output.pwm(50, 0.075)
    assert settings(chip) == ["20000000", "1500000", "1"]
    output.set(1)
    assert settings(chip) == ["20000000", "20000000", "1"]
    output.close()
    output.close()
    assert settings(chip) == ["20000000", "20000000", "1"]
    with pytest.raises(HardwareError, match="line 13: it has been closed"):
        output.set(0)


def test_a_pwm_that_an_earlier_program_has_left_is_taken_over(chip: Path) -> None:
    for name, text in {"period": "20000000", "duty_cycle": "15000000", "enable": "1"}.items():
        (chip / "pwm1" / name).write_text(text)
    output = opened(chip, SysfsPwmFiles(), initial=None)
    assert output.get() == 1
    assert settings(chip) == ["20000000", "20000000", "1"]
    output.set(0)
    assert settings(chip)[2] == "0"
    output.close()


class Refusing(SysfsPwmFiles):
    """Refuses the first writes of a file with an error."""

    def __init__(self, file: str, number: int, times: int) -> None:
        super().__init__()
        self.file, self.number, self.times = file, number, times

    def write(self, path: str, text: str) -> None:
        if path.endswith(self.file) and self.times > 0:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number), path)
        super().write(path, text)


@pytest.mark.parametrize(
    ("file", "number"), [("enable", errno.EACCES), ("enable", errno.EINVAL), ("export", errno.EBUSY)]
)
def test_a_channel_that_is_exported_already_or_has_yet_to_get_its_rights_is_opened(
    chip: Path, file: str, number: int
) -> None:
    opened(chip, Refusing(file, number, 1 if number == errno.EINVAL else 3)).close()


@pytest.mark.parametrize(
    ("file", "number", "message"),
    [
        ("export", errno.EACCES, "line 13, PWM .*/pwm1: permission denied; add the user to group gpio"),
        ("export", errno.ENODEV, "no such device; is its overlay loaded?"),
        ("enable", errno.EACCES, "permission denied; add the user to group gpio"),
        ("period", errno.EINVAL, "invalid argument"),
    ],
)
def test_files_that_can_not_be_used_say_what_to_do(chip: Path, file: str, number: int, message: str) -> None:
    with pytest.raises(HardwareError, match=message) as caught:
        opened(chip, Refusing(file, number, 1000))
    assert caught.value.errno == number


# The device tree.


def tree_of(root: Path, compatible: bytes, group: str, pins: dict[str, bytes]) -> tuple[str, str]:
    """Make the files of a PWM chip and of a group of pins; return their directories."""
    node = root / "sys" / "pwmchip0" / "device" / "of_node"
    where = root / "tree" / group
    node.mkdir(parents=True)
    where.mkdir(parents=True)
    (node / "compatible").write_bytes(compatible)
    (node / "pinctrl-0").write_bytes(struct.pack(">I", 7))
    (where / "phandle").write_bytes(struct.pack(">I", 7))
    for name, data in pins.items():
        (where / name).write_bytes(data)
    unused = where.parent / "other_pins"
    unused.mkdir()
    (unused / "phandle").write_bytes(struct.pack(">I", 8))
    (unused / "brcm,pins").write_bytes(struct.pack(">I", 13))
    return str(root / "sys"), str(root / "tree")


def test_an_overlay_is_found_on_a_pi_4(tmp_path: Path) -> None:
    pins = {"brcm,pins": struct.pack(">2I", 12, 19)}
    places = tree_of(tmp_path, b"brcm,bcm2835-pwm\0", "soc/gpio@7e200000/pwm_pins", pins)
    chip = f"{places[0]}/pwmchip0"
    assert [find_channel(line, *places) for line in (12, 19, 13, 17)] == [(chip, 0), (chip, 1), None, None]


def test_an_overlay_is_found_on_a_pi_5(tmp_path: Path) -> None:
    group = "axi/pcie@1000120000/rp1/gpio@d0000/rp1_pwm0"
    places = tree_of(tmp_path, b"raspberrypi,rp1-pwm\0", group, {"pins": b"gpio12\0gpio19\0"})
    chip = f"{places[0]}/pwmchip0"
    assert [find_channel(line, *places) for line in (12, 19, 1)] == [(chip, 0), (chip, 3), None]


def test_a_machine_without_an_overlay_has_no_channel(tmp_path: Path) -> None:
    assert find_channel(12, str(tmp_path), str(tmp_path)) is None
    (tmp_path / "pwmchip0").mkdir()
    assert find_channel(12, str(tmp_path), str(tmp_path)) is None
