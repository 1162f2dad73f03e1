#!/usr/bin/env python3
"""A reading lamp: a click switches it, holding the button dims it for as long as it is held, and a timer ends it."""

from signal import pause
from threading import Lock, Timer
from time import sleep

from gpiozero import PWMLED, Button

STEP = 0.05
BEDTIME = 45 * 60

lamp = PWMLED(18)
button = Button(2, hold_time=0.8)
lock = Lock()
timer = None
brightness = 1.0
dimmed = False


def switch_off():
    with lock:
        for _ in range(20):  # fade away
            lamp.value = max(0, lamp.value - STEP)
            sleep(0.1)
        lamp.off()


def clicked():
    global timer, dimmed
    if dimmed:
        dimmed = False
        return
    if timer is not None:
        timer.cancel()
    with lock:
        lamp.value = 0 if lamp.is_lit else brightness
    timer = Timer(BEDTIME, switch_off)
    timer.start()


def dim():
    global brightness, dimmed
    dimmed = True
    direction = -STEP
    while button.is_pressed:
        brightness = min(1, max(STEP, brightness + direction))
        if brightness in (STEP, 1):
            direction = -direction
        lamp.value = brightness
        sleep(0.1)


button.when_released = clicked
button.when_held = dim
pause()
