"""Parts that a program drives: they show what it did to them, and what would have harmed them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

HALF = ("1000", "1100", "0100", "0110", "0010", "0011", "0001", "1001")
FULL = ("1100", "0110", "0011", "1001")
WAVE = ("1000", "0100", "0010", "0001")
COILS = (17, 18, 27, 22)


def drive_coils(bench: Any, patterns: list[str], pause: float) -> None:
    for pattern in patterns:
        for line, level in zip(COILS, pattern, strict=True):
            bench.board.line(line).set_output(int(level))
        bench.wait(pause)


def pwm(bench: Any, line: int, duty: float, cycles: int = 5, period: float = 0.01) -> None:
    for _ in range(cycles):
        bench.set(line, 1, hold=duty * period)
        bench.set(line, 0, hold=(1 - duty) * period)


@pytest.mark.parametrize(
    ("table", "half_steps"), [(HALF, 1), (FULL, 2), (WAVE, 2)], ids=["half steps", "full steps", "wave"]
)
def test_a_stepper_follows_its_coils_both_ways(bench: Any, table: tuple[str, ...], half_steps: int) -> None:
    motor = bench.put("28byj-48", lines=list(COILS))
    bench.output(*COILS)
    drive_coils(bench, [*table, *table, table[0]], 0.003)
    start = 0 if half_steps == 1 or table is WAVE else 1
    assert motor.position == pytest.approx(16 + start)
    assert motor.angle == pytest.approx((16 + start) * 360 / 4096)
    drive_coils(bench, [table[0], *reversed(table)], 0.003)
    assert motor.position == pytest.approx(8 + start)
    assert (motor.lost_steps, motor.powered) == (0, True)
    drive_coils(bench, ["0000"], 0)
    assert not motor.powered


@pytest.mark.parametrize(("pause", "lost"), [(0.002, 0), (0.0011, 0), (0.0005, 256), (0.0001, 248)])
def test_a_stepper_loses_steps_that_are_too_fast(bench: Any, pause: float, lost: int) -> None:
    motor = bench.put("28byj-48", lines=list(COILS))
    bench.output(*COILS)
    drive_coils(bench, list(HALF) * 64, pause)
    bench.wait(1)
    assert (motor.lost_steps > 100) == bool(lost)
    assert motor.position == pytest.approx(511 - motor.lost_steps)  # it falls back to the same direction of the field
    for line in COILS:
        bench.board.line(line).set_output(0)  # one after the other, which moves the field, but not the rotor
    assert motor.position == pytest.approx(511 - motor.lost_steps)


def test_a_stepper_needs_four_lines(bench: Any) -> None:
    with pytest.raises(ValueError, match=r"lines must be the four lines of IN1 to IN4, not \[1, 2\]"):
        bench.put("28byj-48", lines=[1, 2])


def test_a_stepper_driver_counts_steps_and_loses_those_that_are_too_fast(bench: Any) -> None:
    motor = bench.put("a4988", step=17, direction=27, enable=22, microsteps=2, max_rate=500)
    bench.output(17, 27, 22)
    bench.set(27, 1)
    bench.set(17, *(1, 0) * 100, hold=0.0005)
    assert (motor.position, motor.angle, motor.lost_steps) == (100, 90.0, 0)
    bench.set(27, 0)
    bench.set(17, *(1, 0) * 50, hold=0.0005)
    assert motor.position == 50
    bench.set(17, *(1, 0) * 10, hold=0.0001)  # 5000 microsteps a second
    assert (motor.position, motor.lost_steps) == (49, 9)  # all but the first of them
    bench.set(22, 1)
    bench.set(17, 1, 0, hold=0.001)
    assert (motor.position, motor.ignored_steps) == (49, 1)
    with pytest.raises(ValueError, match="microsteps must be 1, 2, 4, 8, 16 or 32, not 3"):
        bench.put("a4988", step=5, direction=6, microsteps=3)


def test_a_pulse_too_short_for_the_driver_is_lost(bench: Any) -> None:
    motor = bench.put("a4988", step=17, direction=27)
    bench.output(17, 27)
    bench.wait(0.01)
    bench.set(17, 1, 0, hold=2e-6)
    assert (abs(motor.position), motor.lost_steps) == (1, 0)
    bench.set(17, 1, hold=0.01)
    bench.set(17, 0, hold=0.5e-6)
    bench.set(17, 1, hold=0.01)
    assert motor.lost_steps == 1 + 1  # the second step of the two comes 2 µs after the first, too


@pytest.mark.parametrize(
    ("micros", "angle", "out"),
    [(500, 0, 0), (1450, 90, 0), (2400, 180, 0), (300, 0, 1), (3000, 180, 1)],
)
def test_a_servo_turns_to_the_width_of_its_pulses(bench: Any, micros: int, angle: float, out: int) -> None:
    servo = bench.put("servo", line=17)
    assert (servo.angle, servo.powered) == (None, False)
    bench.output(17)
    pwm(bench, 17, micros / 20_000, cycles=2, period=0.02)
    assert servo.angle == pytest.approx(angle)
    assert (servo.out_of_range, servo.powered) == (2 * out, True)
    bench.wait(0.1)
    assert not servo.powered


def test_a_servo_with_its_ends_exchanged_is_rejected(bench: Any) -> None:
    with pytest.raises(ValueError, match=r"max_pulse must be longer than min_pulse 0.002, not 0.001"):
        bench.put("servo", line=17, min_pulse=0.002, max_pulse=0.001)


@pytest.mark.parametrize("active_low", [False, True])
def test_a_relay_switches_some_milliseconds_later(bench: Any, active_low: bool) -> None:
    relay = bench.put("relay", line=17, active_low=active_low)
    bench.output(17, level=int(active_low))
    bench.set(17, 1 - active_low, hold=0.009)
    assert not relay.closed
    bench.wait(0.002)
    assert relay.closed
    bench.set(17, int(active_low), hold=0.006)
    assert (relay.closed, relay.clicks) == (False, 2)


def test_a_relay_does_not_follow_pulses_shorter_than_it_needs(bench: Any) -> None:
    relay = bench.put("relay", line=17)
    bench.output(17)
    bench.set(17, *(1, 0) * 20, hold=0.004)
    assert relay.clicks == 0


def test_a_relay_that_is_on_at_the_start_closes(bench: Any) -> None:
    bench.output(17, level=1)
    relay = bench.put("relay", line=17)
    bench.wait(0.02)
    assert relay.closed


def test_the_coil_of_a_bare_relay_is_too_much_for_a_pin(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("relay", line=17, driver=False)
    bench.output(17, level=1)
    assert "overload: the relay on line 17 draws 71 mA from line 17, and a pin gives 16 mA" in caplog.text


def test_a_passive_buzzer_sounds_at_the_frequency_of_its_line(bench: Any) -> None:
    buzzer = bench.put("buzzer", line=17)
    bench.output(17)
    assert buzzer.frequency == 0
    pwm(bench, 17, 0.5, cycles=20, period=1 / 440)
    assert buzzer.frequency == pytest.approx(440, rel=1e-3)
    bench.wait(1)
    assert buzzer.frequency == 0
    pwm(bench, 17, 0.5, cycles=20, period=1 / 880)
    assert [round(frequency) for _, frequency in buzzer.heard] == [440, 880]
    pwm(bench, 17, 0.5, cycles=3, period=0.2)  # clicks, no tone
    assert len(buzzer.heard) == 2


def test_an_active_buzzer_sounds_while_its_line_is_high(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    buzzer = bench.put("buzzer", line=17, pitch=2300, current=30)
    bench.output(17)
    bench.set(17, 1)
    assert buzzer.frequency == 2300
    bench.set(17, 0, 1)
    assert [frequency for _, frequency in buzzer.heard] == [2300, 2300]
    assert "overload: the buzzer on line 17 draws 30 mA" in caplog.text


def scan(bench: Any, keypad: Any) -> list[str]:
    """Scan a keypad as libraries do: drive one column low at a time, and read the rows."""
    found = []
    for place, column in enumerate(keypad.columns):
        bench.board.line(column).claim("test", output=0)
        found += [
            keypad.keys[number * len(keypad.columns) + place]
            for number, row in enumerate(keypad.rows)
            if bench.board.line(row).level == 0
        ]
        bench.board.line(column).claim("test", bias="none")
    return found


@pytest.mark.parametrize("keys", ["5", "1", "D", "#", "19", "147*", ""])
def test_a_pressed_key_joins_its_row_and_its_column(bench: Any, keys: str) -> None:
    keypad = bench.put("keypad", rows=[5, 6, 13, 19], columns=[12, 16, 20, 21])
    bench.input(*keypad.rows, bias="up")
    bench.input(*keypad.columns)
    for key in keys:
        keypad.press(key)
    assert sorted(scan(bench, keypad)) == sorted(keys)
    for key in keys:
        keypad.release(key)
    assert (scan(bench, keypad), keypad.pressed) == ([], [])


def test_three_keys_of_a_rectangle_show_a_fourth(bench: Any) -> None:
    keypad = bench.put("keypad", rows=[5, 6, 13, 19], columns=[12, 16, 20, 21])
    bench.input(*keypad.rows, bias="up")
    bench.input(*keypad.columns)
    for key in "125":
        keypad.press(key)
    assert sorted(scan(bench, keypad)) == ["1", "2", "4", "5"]  # a matrix without diodes has ghosts


def test_keys_are_typed_one_after_the_other(bench: Any) -> None:
    keypad = bench.put("keypad", rows=[5, 6, 13, 19], columns=[12, 16, 20, 21], bounce=0.005)
    bench.input(*keypad.rows, bias="up")
    bench.output(*keypad.columns)
    falls = [seen for row in keypad.rows if (seen := bench.record(row)) is not None]
    keypad.type("1*")
    bench.wait(0.05)
    assert keypad.pressed == ["1"]
    bench.wait(0.1)
    assert keypad.pressed == []
    bench.wait(0.1)
    assert keypad.pressed == ["*"]
    bench.wait(0.2)
    assert len(falls[0]) >= 6  # it bounces
    with pytest.raises(ValueError, match="the keypad has no key 'X'; its keys are 123A456B789C"):
        keypad.press("X")
    with pytest.raises(ValueError, match="keys must be 4 different characters"):
        bench.put("keypad", rows=[2, 3], columns=[4, 7], keys="112")


class TwoWires:
    """A driver of a TM1637, as libraries write it: with open-drain outputs."""

    def __init__(self, bench: Any, clock: int, data: int) -> None:
        self.bench, self.clock, self.data = bench, clock, data
        for line in (clock, data):
            bench.board.line(line).claim("test", output=1, drive="open-drain", bias="up")

    def send(self, *data: int) -> list[int]:
        """Send bytes between a start and an end, and return the acknowledgements."""
        self.bench.set(self.data, 0)
        acknowledged = []
        for byte in data:
            for place in range(8):
                self.bench.set(self.clock, 0)
                self.bench.set(self.data, byte >> place & 1)
                self.bench.set(self.clock, 1)
            self.bench.set(self.clock, 0)
            self.bench.set(self.data, 1)
            self.bench.set(self.clock, 1)
            acknowledged.append(self.bench.board.line(self.data).level)
            self.bench.set(self.clock, 0)
        self.bench.set(self.data, 0)
        self.bench.set(self.clock, 1)
        self.bench.set(self.data, 1)
        return acknowledged


def test_a_tm1637_shows_digits_and_acknowledges(bench: Any) -> None:
    display = bench.put("tm1637", clock=17, data=27)
    wires = TwoWires(bench, 17, 27)
    assert wires.send(0x40) == [0]
    assert wires.send(0xC0, 0x06, 0xDB, 0x6D, 0x6F) == [0] * 5
    assert display.text == "    "  # still off
    assert wires.send(0x8F) == [0]
    assert (display.text, display.on, display.brightness, display.commands) == ("12:59", True, 7, 7)
    wires.send(0x44)  # to a fixed address
    wires.send(0xC3, 0x3F, 0x40)
    assert (display.text, display.segments[4]) == ("12:5-", 0)
    wires.send(0x80)
    assert display.text == "    "
    assert bench.board.chip.short_circuits == 0


def test_a_tm1637_has_one_to_six_digits(bench: Any) -> None:
    with pytest.raises(ValueError, match="digits must be 1 to 6, not 7"):
        bench.put("tm1637", clock=17, data=27, digits=7)


@pytest.mark.parametrize("name", ["l298n", "drv8833"])
def test_a_motor_turns_as_its_inputs_say(bench: Any, name: str) -> None:
    motor = bench.put(name, in1=17, in2=27)
    bench.output(17, 27)
    assert (motor.speed, motor.direction) == (0, "stopped")
    bench.set(17, 1)
    assert (motor.speed, motor.direction) == (1, "forward")
    bench.set(27, 1)
    assert (motor.speed, motor.braked) == (0, True)
    bench.set(17, 0)
    assert (motor.speed, motor.direction, motor.braked) == (-1, "backward", False)
    bench.set(27, 0)
    pwm(bench, 17, 0.25)
    assert motor.speed == pytest.approx(0.25, rel=1e-3)
    bench.wait(0.1)
    assert motor.speed == 0
    assert motor.braked == (name == "l298n")


def test_the_enable_input_sets_the_speed(bench: Any) -> None:
    motor = bench.put("l298n", in1=17, in2=27, enable=22)
    bench.output(17, 27, 22)
    bench.set(27, 1)
    assert (motor.speed, motor.braked) == (0, False)
    pwm(bench, 22, 0.6)
    assert motor.speed == pytest.approx(-0.6, rel=1e-3)


def test_a_bridge_of_transistors_reports_a_shoot_through(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    motor = bench.put("h-bridge", left_high=17, left_low=27, right_high=22, right_low=5)
    bench.output(17, 27, 22, 5)
    bench.set(17, 1)
    bench.set(5, 1)
    assert (motor.speed, motor.shoot_throughs) == (1, 0)
    bench.set(27, 1)  # before line 17 is low
    bench.set(17, 0)
    assert motor.shoot_throughs == 1
    assert "shoot-through: the left upper transistor on line 17 and the left lower transistor on line 27" in caplog.text


@pytest.mark.parametrize("common_anode", [False, True])
def test_an_rgb_led_has_the_color_of_its_duty_cycles(bench: Any, common_anode: bool) -> None:
    led = bench.put("rgb-led", red=17, green=27, blue=22, common_anode=common_anode)
    bench.output(17, 27, 22, level=int(common_anode))
    assert led.color == (0, 0, 0)
    bench.set(17, 1 - common_anode)
    pwm(bench, 22, 0.75 if common_anode else 0.25)
    assert led.color == pytest.approx((1, 0, 0.25), abs=0.01)


def test_an_rgb_led_without_resistors_is_reported(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("rgb-led", red=17, green=27, blue=22, resistor=0)
    bench.output(17, level=1)
    assert "overload: the red LED on line 17 draws 29 mA" in caplog.text


def shift(bench: Any, data: int, clock: int, bits: str) -> None:
    for bit in bits:
        bench.set(data, int(bit))
        bench.set(clock, 1, 0)


def test_a_shift_register_shows_what_was_latched(bench: Any) -> None:
    register = bench.put("74hc595", data=17, clock=27, latch=22, enable=5, clear=6, chips=2)
    bench.output(17, 27, 22, 5)
    bench.output(6, level=1)
    shift(bench, 17, 27, "0000011001011011")
    assert register.value == 0
    bench.set(22, 1, 0)
    assert (register.value, register.text) == (0x065B, "12")
    assert register.outputs[:8] == [1, 1, 0, 1, 1, 0, 1, 0]
    shift(bench, 17, 27, "1")
    assert register.value == 0x065B
    bench.set(6, 0)
    shift(bench, 17, 27, "1")  # while SRCLR is low
    bench.set(6, 1)
    bench.set(22, 1, 0)
    assert register.value == 0
    bench.set(5, 1)
    assert register.outputs == [None] * 16
    with pytest.raises(ValueError, match="chips must be 1 to 100, not 0"):
        bench.put("74hc595", data=12, clock=13, latch=19, chips=0)


def test_a_remote_control_sends_nec_codes(bench: Any) -> None:
    remote = bench.put("ir-receiver", line=17)
    seen = bench.record(17)
    remote.send(0x59, 0x16, repeats=1)
    bench.wait(0.3)
    falls = [when for when, level in seen if level == 0]
    gaps = [round((later - earlier) * 1e6, 1) for earlier, later in pairwise(falls)]
    assert gaps[0] == 13500.0
    bits = ["1" if gap == 2250 else "0" if gap == 1125 else "?" for gap in gaps[1:33]]
    assert int("".join(reversed(bits)), 2) == 0x59 | 0xA6 << 8 | 0x16 << 16 | 0xE9 << 24
    assert falls[-2] - falls[0] == pytest.approx(0.11)  # the repetition
    assert (remote.sent, bench.board.line(17).level) == (2, 1)


def test_an_extended_address_has_sixteen_bits(bench: Any) -> None:
    remote = bench.put("ir-receiver", line=17)
    seen = bench.record(17)
    remote.send(0x1234, 0xFF)
    bench.wait(0.2)
    falls = [when for when, level in seen if level == 0]
    bits = ["1" if later - earlier > 0.002 else "0" for earlier, later in pairwise(falls)][1:17]
    assert int("".join(reversed(bits)), 2) == 0x1234
    with pytest.raises(ValueError, match="an address has 16 bits and a command 8, not 0x12345 and 0x0"):
        remote.send(0x12345, 0)
