"""gpiozero's documentation examples, unmodified: each does what its text says, in virtual time.

The table has a line of steps for each example; `hwloop sim` plays them. `low 2` drives a line from outside, `free 2`
stops that, `17=1` expects a level, `say words` a line of output, `pump.speed=0.5` a value of a part, and `3s` lets time
pass. An example that needs more than a board ends with an error that says so, which is tested too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

MOTORS = """
left: l298n in1=4 in2=14
right: l298n in1=17 in2=18
"""
FORWARD, BACKWARD, STOPPED = (f"left.speed={n} right.speed={n}" for n in (1, -1, 0))
LEFT, RIGHT = "left.speed=-1 right.speed=1", "left.speed=1 right.speed=-1"
FISH = "high 7 9=1 22=1 4=1 8=1 low 7 9=0 22=0 4=0 8=0"
ADC = "adc: mcp3008 inputs={}"

BEHAVE: dict[str, tuple[str, str]] = {
    "all_on_1": (FISH, ""),
    "all_on_2": ("low 25 24=1 23=1 22=1 5=1 free 25 24=0 23=0 22=0 5=0", ""),
    "all_on_3": ("low 2 3=1 4=1 5=1 6=1 free 2 3=0 4=0 5=0 6=0", ""),
    "angular_servo": ("arm.angle<50 3s arm.angle<80 8s arm.angle>110", "arm: servo line=17"),
    "button_1": ("say 'Button is not pressed' low 2 say 'Button is pressed' free 2 say 'Button is not pressed'", ""),
    "button_2": ("1s low 2 say 'Button was pressed'", ""),
    "button_3": ("low 2 say Hello! free 2 1s low 2 say Hello!", ""),
    "button_4": ("low 2 say Hello! free 2 say Goodbye!", ""),
    "button_led_1": ("low 2 17=1 free 2 17=0", ""),
    "button_led_2": ("low 2 17=1 free 2 17=0", ""),
    "button_shutdown": ("low 17 1s free 17 quiet", ""),
    "color_picker": (
        "say 'Hold the button to exit' turn 90 high 21 low 21 say 'Hue' high 21 2s say Exiting",
        "",
    ),
    "combining_sources": ("low 2 1s 17=0 low 3 17=1 free 2 17=0", ""),
    "cpu_temperature_bar_graph": ("1s 8=0", ""),
    "custom_generator": ("rising 17 falling 17", ""),
    "custom_generator_finite": ("falling 17 rising 17 2s falling 17", ""),
    "disk_usage_bar_graph": ("2=1", ""),
    "distance_sensor_1": ("say '0.3' 1s say '0.3'", "eye: hc-sr04 trigger=24 echo=23 distance=0.3"),
    "distance_sensor_2": (
        "1s 16=0 set eye.distance 0.1 16=1 set eye.distance 0.5 16=0",
        "eye: hc-sr04 trigger=24 echo=23 distance=0.8",
    ),
    "garden_light": ("high 4 1s 2=1 low 4 2=0", ""),
    "internet_status_indicator": ("18=1 17=0", ""),
    "led_1": ("falling 17 rising 17 falling 17", ""),
    "led_2": ("falling 17 rising 17 falling 17", ""),
    "led_bargraph_1": ("20=1 20=0 5=1 5=0 26=1 26=0 5=1 20=1", ""),
    "led_bargraph_2": ("rising 5 1s 5=1 1s 26=1", ""),
    "led_board_1": ("26=1 6=0 6=0 5=1 26=1 rising 6 falling 6", ""),
    "led_board_2": ("rising 5 falling 5 26=1", ""),
    "led_board_3": ("falling 5 rising 6 falling 6 rising 26 falling 26", ""),
    "led_board_4": ("2=1 rising 9 falling 9", ""),
    "led_board_5": ("9=1 2=0 rising 2 falling 2 rising 2 falling 2 rising 3", ""),
    "led_board_6": ("2=1 rising 3 rising 4", ""),
    "led_board_7": ("3=1 rising 5 falling 5 rising 2 rising 5", ""),
    "led_button": ("low 2 17=1 free 2 17=0", ""),
    "led_button_loop": ("low 2 17=1 free 2 17=0", ""),
    "led_char_display": ("21=1 20=1 12=1 rising 24 1s falling 21", ""),
    "led_char_source": ("21=1 rising 24", ""),
    "led_pulse": ("rising 17 falling 17 rising 17", ""),
    "led_variable_brightness": ("rising 17 falling 17 rising 17 1s 17=1 falling 17", ""),
    "light_sensor_1": ("say light set eye.resistance 100000 say dark", "eye: photoresistor line=18"),
    "light_sensor_2": (
        "1s set eye.resistance 100000 16=1 set eye.resistance 3000 16=0",
        "eye: photoresistor line=18",
    ),
    "light_sensor_3": ("rising 16 falling 16", "eye: photoresistor line=18"),
    "matching_leds": ("low 17 14=1 15=1 free 17 14=0 15=0", ""),
    "motion_sensor": ("1s high 4 16=1 low 4 16=0", ""),
    "motor": ("4=1 14=0 5s 14=1 4=0 4=1", ""),
    "negated": ("4=1 low 17 4=0 free 17 4=1", ""),
    "pot_1": ("say '0.5'", ADC.format([1.65])),
    "pot_2": ("5=1 6=1 rising 13 26=0", ADC.format([1.65])),
    "pwmled_pot": ("rising 17 falling 17", ADC.format([1.65])),
    "pwmled_pot_values": ("rising 17 falling 17", ADC.format([1.65])),
    "random_values": ("rising 4 falling 4 rising 4", ""),
    "reaction_game": ("rising 17 low 3 say 'Player 2 wins!'", ""),
    "rgbled": ("9=1 rising 9 falling 9 10=1 11=1 9=1 10=0 10=1 11=0 11=1 9=0 9=1 11=1 9=0 10=0 11=0 rising 11", ""),
    "rgbled_pot_1": ("2=1 rising 3 falling 3 4=0", ADC.format([3.3, 1.65, 0])),
    "rgbled_pot_2": ("2=1 rising 3 falling 3 4=0", ADC.format([3.3, 1.65, 0])),
    "robot_1": (f"{FORWARD} 10s {RIGHT} {FORWARD}", MOTORS),
    "robot_2": (
        f"1s set eye.distance 0.1 {BACKWARD} set eye.distance 0.9 {STOPPED}",
        "eye: hc-sr04 trigger=24 echo=23 distance=0.8" + MOTORS,
    ),
    "robot_buttons_1": (
        f"low 21 {FORWARD} free 21 {STOPPED} low 26 {LEFT} free 26 low 16 {RIGHT} free 16 "
        f"low 20 {BACKWARD} free 20 {STOPPED}",
        MOTORS,
    ),
    "robot_buttons_2": (
        "low 2 free 2 low 4 free 4 low 6 left.speed=-1 right.speed=1 left.speed=1 right.speed=1 left.speed=0",
        "left: l298n in1=17 in2=18\nright: l298n in1=22 in2=23",
    ),
    "robot_motion_1": (f"1s high 5 {FORWARD} low 5 {STOPPED}", MOTORS),
    "robot_motion_2": (f"1s high 5 {FORWARD} low 5 {STOPPED}", MOTORS),
    "robot_pots_1": ("left.speed=1 right.speed=0", ADC.format([3.3, 0]) + MOTORS),
    "robot_pots_2": ("left.speed=1 right.speed=-1", ADC.format([3.3, 0]) + MOTORS),
    "servo_1": ("arm.angle<60 2s arm.angle>70 2s arm.angle>120", "arm: servo line=17"),
    "servo_2": ("arm.angle<60 low 14 arm.angle>120 free 14 1s low 14 arm.angle<60", "arm: servo line=17"),
    "servo_sweep": ("arm.angle>120 arm.angle<60 arm.angle>120", "arm: servo line=17"),
    "sin_values": ("arm.angle>120 arm.angle<60 rising 5 rising 3", "arm: servo line=4"),
    "source_value_processing": ("4=1 low 17 4=0 free 17 4=1", ""),
    "thermometer": ("say '24.9' 1s say '24.9'", ADC.format([0.75])),
    "timed_heat_lamp": ("1s quiet", ""),
    "traffic_lights_1": ("4=1 10s 3=1 4=0 2=1 3=0 3=1 4=1 2=0", ""),
    "traffic_lights_2": ("4=1 10s 3=1 4=0 2=1 3=0 3=1 4=1 2=0", ""),
    "traffic_lights_3": ("4=1 10s 3=1 4=0 2=1 3=0 3=1 4=1 2=0", ""),
    "whos_home_leds": ("15=1 17=1 21=1 14=0", ""),
    "whos_home_status": ("17=1 27=1 10=1 4=0", ""),
}
"""For each example, the steps, and the parts of its board."""

REAL_TIME = ("light_sensor_1", "light_sensor_2", "light_sensor_3")
"""Played in real time, on hwloop's pin factory: gpiozero's own for lgpio has lost the line's events by then."""

PIGPIO = "pigpio"
REFUSED: dict[str, str] = {
    **dict.fromkeys(("button_camera_1", "button_camera_2", "button_stop_motion"), "picamera"),
    **dict.fromkeys(("bluedot_led", "bluedot_robot_1", "bluedot_robot_2"), "bluedot"),
    **dict.fromkeys(
        (
            *("led_button_remote_1", "led_button_remote_2", "led_remote_1", "led_remote_2", "led_remote_3"),
            *("led_remote_5", "multi_room_doorbell", "multi_room_motion_alert", "remote_button_robot"),
            *("sense_hat_remote", "sense_hat_remote_2", "traffichat_remote_1", "traffichat_remote_2"),
        ),
        PIGPIO,
    ),
}
"""Examples that need what is not simulated, and the library that the error names."""

ELSEWHERE: dict[str, str] = {
    "led_builtin": "pins that gpiozero 2 does not know; it fails on gpiozero's mock too",
    "multichar_scroll": "a name that it does not import; it fails on gpiozero's mock too",
    "led_remote_4": "drives a line of another Pi through pigpio, named in the environment",
    "led_travis": "a web service that has ended, through the package travispy",
    "music_box": "sound, through pygame",
    "robot_keyboard_1": "the keys of a terminal, through curses",
    "robot_keyboard_2": "a keyboard of the machine, through evdev",
}
"""Examples that need something besides a board."""


def steps_of(text: str) -> Iterator[str]:
    """Yield the steps of a scenario file for a line of the table."""
    words = iter(_words(text))
    for word in words:
        if word in ("low", "high"):
            yield f'{{ set = "line {next(words)}", to = {int(word == "high")} }}'
        elif word == "free":
            yield f'{{ release = "line {next(words)}" }}'
        elif word == "set":
            yield f'{{ set = "{next(words)}", to = {next(words)} }}'
        elif word == "turn":
            yield f'{{ turn = ["line 16", "line 20"], steps = {next(words)}, period = "4ms" }}, {{ wait = "1s" }}'
        elif word == "say":
            yield f"{{ expect_output = {json.dumps(next(words))}, regex = true }}"
        elif word in ("rising", "falling"):
            yield f'{{ expect_edges = "line {next(words)}", edge = "{word}" }}'
        elif word == "quiet":
            yield '{ expect_quiet = "output", during = "1s" }'
        elif word.endswith("s") and word[:-1].isdigit():
            yield f'{{ wait = "{word}" }}'
        else:
            sign = next(each for each in "=<>" if each in word)
            what, _, value = word.partition(sign)
            if "." not in what:
                yield f'{{ expect = "line {what}", equals = {value} }}'
            elif sign == "=":
                middle = float(value)
                yield f'{{ expect = "{what}", above = {middle - 0.02}, below = {middle + 0.02} }}'
            else:
                yield f'{{ expect = "{what}", {"below" if sign == "<" else "above"} = {value} }}'


def _words(text: str) -> Iterator[str]:
    while text := text.strip():
        if text.startswith("'"):
            word, _, text = text[1:].partition("'")
        else:
            word, _, text = text.partition(" ")
        yield word


def board_of(text: str) -> str:
    """Return the board file for the parts of a line of the table: `name: type key=value ...`."""
    parts = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(": ")
        kind, *keys = rest.split(" ", 1)
        values = "\n".join(keys[0].replace("inputs=", "inputs = ").split(" ") if "[" not in rest else [keys[0]])
        parts.append(f'[[device]]\ntype = "{kind}"\nname = "{name}"\n{values}\n')
    return "\n".join(parts)


@pytest.mark.kind("gpiozero examples")
@pytest.mark.parametrize("name", BEHAVE)
def test_an_example_behaves(name: str, source: Callable[[str], Path], tmp_path: Path) -> None:
    steps, parts = BEHAVE[name]
    (tmp_path / "board.toml").write_text(board_of(parts))
    lines = ",\n  ".join(steps_of(steps))
    (tmp_path / "steps.toml").write_text(f'within = "40s"\nsteps = [\n  {lines},\n]\n')
    ping = tmp_path / "ping"
    ping.write_text('#!/bin/sh\ncase "$*" in *1.5) exit 0;; esac; exit 1\n')
    ping.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    program = source("gpiozero-examples") / f"{name}.py"
    command = [sys.executable, "-m", "hwloop", "sim", str(program), "--scenario", "steps.toml", "--board", "board.toml"]
    command += ["--realtime"] * (name in REAL_TIME)
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=environment
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.kind("gpiozero examples that need what is not simulated, and say so")
@pytest.mark.parametrize("name", REFUSED)
def test_an_example_that_needs_more_says_so(name: str, source: Callable[[str], Path], run_script: Run) -> None:
    done = run_script(source("gpiozero-examples") / f"{name}.py", status=2)
    assert REFUSED[name] in done.stderr.splitlines()[-1]
    assert "simulated board" in done.stderr.splitlines()[-1]


@pytest.mark.kind("gpiozero examples: the list")
def test_every_example_is_in_one_of_the_lists(source: Callable[[str], Path]) -> None:
    there = {path.stem for path in source("gpiozero-examples").glob("*.py")}
    assert there == {*BEHAVE, *REFUSED, *ELSEWHERE}
    assert len(there) == len(BEHAVE) + len(REFUSED) + len(ELSEWHERE)
