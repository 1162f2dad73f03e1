#!/usr/bin/env python3
"""A damp cellar: a thread reads a BME280, a fan runs while it is damp, and a lamp blinks an alarm after a while."""

import csv
import threading
import time

import bme280
import smbus2
from gpiozero import LED, OutputDevice

DAMP, DRY = 65.0, 55.0
PERIOD = 30

fan = OutputDevice(24, active_high=False)
alarm = LED(25)
bus = smbus2.SMBus(1)
calibration = bme280.load_calibration_params(bus, 0x76)
humidity = None
damp_since = None


def read_sensor():
    global humidity
    while True:
        humidity = bme280.sample(bus, 0x76, calibration).humidity
        with open("cellar.csv", "a", newline="") as file:
            csv.writer(file).writerow([time.strftime("%H:%M:%S"), f"{humidity:.1f}"])
        time.sleep(PERIOD)


threading.Thread(target=read_sensor, daemon=True).start()
try:
    while True:
        time.sleep(1)
        if humidity is None:
            continue
        if humidity > DAMP and not fan.value:
            fan.on()
            damp_since = time.monotonic()
        elif humidity < DRY and fan.value:
            fan.off()
            alarm.off()
            damp_since = None
        if damp_since is not None and time.monotonic() - damp_since > 3600 and not alarm.is_lit:
            alarm.blink(0.2, 0.8)
            damp_since += 3600
except KeyboardInterrupt:
    print("bye")
finally:
    fan.off()
