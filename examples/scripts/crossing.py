#!/usr/bin/env python3
"""Traffic lights with a button for pedestrians. The handler of the button plays the whole crossing."""

from signal import pause
from time import sleep

from gpiozero import Button, Buzzer, TrafficLights

lights = TrafficLights(red=9, amber=10, green=11)
buzzer = Buzzer(15)
button = Button(21)
waiting = False


def stop_the_cars():
    lights.green.off()
    lights.amber.on()
    sleep(3)
    lights.amber.off()
    lights.red.on()


def go():
    lights.amber.blink(on_time=0.5, off_time=0.5, n=3, background=False)
    lights.red.off()
    lights.green.on()


def cross():
    print("wait")
    sleep(2)
    stop_the_cars()
    sleep(1)
    for _ in range(10):
        buzzer.on()
        sleep(0.1)
        buzzer.off()
        sleep(0.4)
    go()
    print("drive")


lights.green.on()
button.when_pressed = cross
pause()
