"""Scripts in the style of starter kits, on RPi.GPIO, in real and in virtual time: each prints what its parts do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.kind("scripts in the style of starter kits")
Run = Callable[..., subprocess.CompletedProcess[str]]

BLINK = """
import RPi.GPIO as GPIO
import time

LedPin = 11    # BOARD numbering: GPIO 17

def setup():
    GPIO.setwarnings(False)
    GPIO.setmode(GPIO.BOARD)
    GPIO.setup(LedPin, GPIO.OUT, initial=GPIO.HIGH)

def loop():
    for _ in range(3):
        GPIO.output(LedPin, GPIO.LOW)
        print('led off')
        time.sleep(0.5)
        GPIO.output(LedPin, GPIO.HIGH)
        print('led on')
        time.sleep(0.5)

def destroy():
    GPIO.output(LedPin, GPIO.HIGH)
    GPIO.cleanup()

if __name__ == '__main__':
    setup()
    try:
        loop()
    finally:
        destroy()
"""

BUTTON = """
import RPi.GPIO as GPIO
import time
GPIO.setmode(GPIO.BCM)
GPIO.setup(18, GPIO.IN, pull_up_down=GPIO.PUD_UP)
GPIO.setup(17, GPIO.OUT)
pressed = 0
while pressed < 3:
    if GPIO.input(18) == GPIO.LOW:
        GPIO.output(17, 1)
        pressed += 1
        print('button is pressed')
        while GPIO.input(18) == GPIO.LOW:
            time.sleep(0.01)
        GPIO.output(17, 0)
    time.sleep(0.01)
GPIO.cleanup()
"""

CALLBACK = """
import RPi.GPIO as GPIO
import time
presses = []
def on_press(channel):
    presses.append(channel)
    print('pressed', channel)
GPIO.setmode(GPIO.BCM)
GPIO.setup(18, GPIO.IN, pull_up_down=GPIO.PUD_UP)
GPIO.add_event_detect(18, GPIO.FALLING, callback=on_press, bouncetime=50)
while len(presses) < 2:
    time.sleep(0.1)
GPIO.remove_event_detect(18)
print(GPIO.wait_for_edge(18, GPIO.FALLING, timeout=5000))
GPIO.cleanup()
"""

FADE = """
import RPi.GPIO as GPIO
import time
GPIO.setmode(GPIO.BCM)
GPIO.setup(17, GPIO.OUT)
GPIO.setup(27, GPIO.IN)
p = GPIO.PWM(17, 100)
p.start(0)
for dc in (0, 25, 50, 75, 100):
    p.ChangeDutyCycle(dc)
    time.sleep(0.5)
    high = 0
    for _ in range(400):
        high += GPIO.input(27)
        time.sleep(0.0013)
    print(dc, abs(high / 4 - dc) < 15)
p.stop()
GPIO.cleanup()
"""

ULTRASONIC = """
import RPi.GPIO as GPIO
import time
trigPin, echoPin = 23, 24
MAX_DISTANCE = 220
timeOut = MAX_DISTANCE * 60

def pulseIn(pin, level, timeOut):
    t0 = time.time()
    while GPIO.input(pin) != level:
        if (time.time() - t0) > timeOut * 0.000001:
            return 0
    t0 = time.time()
    while GPIO.input(pin) == level:
        if (time.time() - t0) > timeOut * 0.000001:
            return 0
    return (time.time() - t0) * 1000000

def getSonar():
    GPIO.output(trigPin, GPIO.HIGH)
    time.sleep(0.00001)
    GPIO.output(trigPin, GPIO.LOW)
    return pulseIn(echoPin, GPIO.HIGH, timeOut) * 340.0 / 2.0 / 10000.0

GPIO.setmode(GPIO.BCM)
GPIO.setup(trigPin, GPIO.OUT)
GPIO.setup(echoPin, GPIO.IN)
for _ in range(3):
    print(abs(getSonar() - 50) < 5)
    time.sleep(0.1)
GPIO.cleanup()
"""

SERVO = """
import RPi.GPIO as GPIO
import time
import importlib
board = importlib.import_module('hwloop.board')
GPIO.setmode(GPIO.BCM)
GPIO.setup(18, GPIO.OUT)
pwm = GPIO.PWM(18, 50)
pwm.start(2.5)
for angle in (0, 90, 180):
    pwm.ChangeDutyCycle(2.5 + angle / 18)
    time.sleep(0.5)
    print(round(board.current()['arm'].angle / 10) * 10)
pwm.stop()
GPIO.cleanup()
"""

SHIFT_REGISTER = """
import RPi.GPIO as GPIO
import time
SDI, RCLK, SRCLK = 17, 18, 27
GPIO.setmode(GPIO.BCM)
for pin in (SDI, RCLK, SRCLK):
    GPIO.setup(pin, GPIO.OUT, initial=GPIO.LOW)

def hc595_shift(dat):
    for bit in range(0, 8):
        GPIO.output(SDI, 0x80 & (dat << bit))
        GPIO.output(SRCLK, GPIO.HIGH)
        time.sleep(0.001)
        GPIO.output(SRCLK, GPIO.LOW)
    GPIO.output(RCLK, GPIO.HIGH)
    time.sleep(0.001)
    GPIO.output(RCLK, GPIO.LOW)

import importlib
board = importlib.import_module('hwloop.board')
for code in (0x3f, 0x06, 0x5b, 0x4f):
    hc595_shift(code)
    print(f'{sum(bit << place for place, bit in enumerate(board.current()["register"].outputs)):#04x}')
GPIO.cleanup()
"""

KEYPAD = """
import RPi.GPIO as GPIO
import time
KEYS = ['1', '2', '3', 'A', '4', '5', '6', 'B', '7', '8', '9', 'C', '*', '0', '#', 'D']
rows, cols = [18, 23, 24, 25], [10, 22, 27, 17]
GPIO.setmode(GPIO.BCM)
GPIO.setup(rows, GPIO.OUT, initial=GPIO.HIGH)
GPIO.setup(cols, GPIO.IN, pull_up_down=GPIO.PUD_UP)

def scan():
    for r, row in enumerate(rows):
        GPIO.output(row, GPIO.LOW)
        for c, col in enumerate(cols):
            if GPIO.input(col) == 0:
                GPIO.output(row, GPIO.HIGH)
                return KEYS[4 * r + c]
        GPIO.output(row, GPIO.HIGH)

import importlib
board = importlib.import_module('hwloop.board')
pad = board.current()['pad']
for key in '5A#':
    pad.press(key)
    print(scan())
    pad.release(key)
    time.sleep(0.1)
print(scan())
GPIO.cleanup()
"""

PUSH = 'type = "button"\nline = 18\npress_every = 0.6\nhold = 0.2'
KITS: dict[str, tuple[str, str, list[str]]] = {
    "blink": (BLINK, 'type = "led"\nline = 17', ["led off", "led on"] * 3),
    "button": (BUTTON, PUSH, ["button is pressed"] * 3),
    "event_detect": (CALLBACK, PUSH, ["pressed 18", "pressed 18", "18"]),
    "fade": (FADE, 'type = "wire"\nlines = [17, 27]', [f"{duty} True" for duty in (0, 25, 50, 75, 100)]),
    "ultrasonic": (ULTRASONIC, 'type = "hc-sr04"\ntrigger = 23\necho = 24\ndistance = 0.5', ["True"] * 3),
    "servo": (
        SERVO,
        'type = "servo"\nname = "arm"\nline = 18\nmin_pulse = 0.0005\nmax_pulse = 0.0025',
        ["0", "90", "180"],
    ),
    "shift_register": (
        SHIFT_REGISTER,
        'type = "74hc595"\nname = "register"\ndata = 17\nlatch = 18\nclock = 27',
        ["0x3f", "0x06", "0x5b", "0x4f"],
    ),
    "keypad": (
        KEYPAD,
        'type = "keypad"\nname = "pad"\nrows = [18, 23, 24, 25]\ncolumns = [10, 22, 27, 17]',
        ["5", "A", "#", "None"],
    ),
}


MEASURE = {"fade", "ultrasonic"}
"""Scripts that measure short times themselves, which a busy machine makes longer in real time."""


@pytest.mark.parametrize(
    ("name", "clock"),
    [*((name, "virtual") for name in KITS), *((name, "real") for name in KITS if name not in MEASURE)],
)
def test_a_kit_script(run_script: Run, name: str, clock: str) -> None:
    script, part, lines = KITS[name]
    # A script that looks at a part imports hwloop by name: with an import statement it would count as one with a loop.
    done = run_script(script, f"[[device]]\n{part}\n", "--clock", clock)
    assert done.stdout.splitlines() == lines
