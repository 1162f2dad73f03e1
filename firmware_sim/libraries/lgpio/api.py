"""The lgpio module as programs see it, over a simulated chip.

`Lgpio` has lgpio 0.2.2.0's names, constants, return values and error texts, so that programs for the real module run on
it: `hwloop.boards.lgpio` does, and so do plain lgpio scripts. It behaves like lgpio where a reader can see it: reports
of 16 bytes stamped with CLOCK_MONOTONIC, in a FIFO named `.lgd-nfy<handle>` that the library holds open for reading and
writing; a report that finds it full is lost silently.

It also shares lgpio's surprises: claiming a line that the caller holds frees it first, a second claim of the same kind
changes nothing, an alert on a busy line fails with "bad event request" rather than "GPIO busy", and a transmission on a
free line claims it as open drain. One thing differs: lgpio's C thread holds reports back for 0.5 to 1.1 ms, and here
they are written immediately. The functions for I2C, SPI and serial ports are in modules of their own (`i2c`, `spi`,
`serial`), and `module` puts all of them together.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_sim.libraries.lgpio.alerts import Alert, Callback, CallbackThread, Notifications
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused
from firmware_sim.libraries.lgpio.lines import (
    ALERT,
    GROUP,
    OUTPUT,
    Held,
    LgpioLines,
    OpenChip,
    claim,
    kernel_accepts,
    status,
)
from firmware_sim.libraries.lgpio.reports import Reports
from firmware_sim.libraries.lgpio.transmissions import SLOTS, Pwm, Wave
from firmware_sim.pins import Chip
from hwloop.boards.lgpio.fifo_directory import FifoDirectory

_MAX_DEBOUNCE_MICROS = 5_000_000
_MAX_WATCHDOG_MICROS = 300_000_000
_MIN_PERIOD_MICROS = 10


@dataclass
class Pulse:
    """A step of a wave: the levels for the members of the group that the mask selects, then a delay in microseconds."""

    group_bits: int
    group_mask: int
    pulse_delay: int


class Lgpio(LgpioLines):
    """A module-shaped object with lgpio's functions over one chip, which is `/dev/gpiochip0`.

    Two of them over the same chip are like two processes. `close()` frees everything.

    Attributes:
        directory: the directory of its FIFOs: lgpio's working directory.
        reports: the way of its reports to their FIFOs, on which faults act.
        exceptions: as in lgpio, False makes the functions return negative statuses instead of raising.
    """

    pulse = Pulse

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip)
        self.reports: Reports = Reports(chip.timeline)
        self._directory = FifoDirectory()
        self.directory: str = self._directory.path
        self._process = os.getpid()
        self._thread: CallbackThread | None = None

    def close(self) -> None:
        """Free every line, close every FIFO, end the callback thread. Harmless when repeated, and in a forked child."""
        if os.getpid() != self._process:
            return
        with self._chip.timeline.lock:
            if self._closed:
                return
            self._closed = True
            self._chip.at_removal.remove(self._lose_chip)
            for opened in self.handles.values():
                if isinstance(opened, Notifications):
                    opened.close()
                elif isinstance(opened, OpenChip):
                    opened.free_all()
            self.handles.clear()
        if self._thread is not None:
            self._thread.close()
        self._directory.remove()

    def cancel_callbacks(self) -> None:
        """End the calls of all callbacks: their objects are about to be closed."""
        if self._thread is not None:
            self._thread.callbacks.clear()

    def free_lines(self) -> None:
        """Free all lines, as the kernel does when a process ends."""
        with self._chip.timeline.lock:
            for opened in self.handles.values():
                if isinstance(opened, OpenChip):
                    opened.free_all()

    def calling_thread(self) -> threading.Thread | None:
        """Return the thread in which a callback runs now; None if none runs."""
        return None if self._thread is None else self._thread.calling()

    def get_module_version(self) -> str:
        return "lgpio.py_0.2.2.0"

    # Alerts.

    @status(gone=lg.BAD_EVENT_REQUEST, order=("handle", "lFlags", "eFlags"))
    def gpio_claim_alert(
        self,
        handle: int,
        gpio: int,
        eFlags: int,
        lFlags: int = 0,
        notify_handle: int | None = None,
    ) -> int:
        held = self._held(handle, gpio)
        if held.mode & GROUP:
            raise Refused(lg.INVALID_GROUP_ALERT)
        if held.mode:
            held.free()
        if held.line.consumer is not None or not kernel_accepts(lFlags, output=False):
            raise Refused(lg.BAD_EVENT_REQUEST)
        if notify_handle is None:
            self._own_thread()
            notify_handle = 0
        claim(held.line, lFlags | eFlags << 17, None)
        held.mode = ALERT
        held.alert = Alert(
            self._chip.timeline,
            held.line,
            self.reports,
            edges=eFlags & lg.BOTH_EDGES,
            find_notifications=functools.partial(self._find_notifications, notify_handle),
            debounce_micros=held.debounce_micros,
            watchdog_micros=held.watchdog_micros,
        )
        self.reports.line_claimed()
        return lg.OKAY

    @status()
    def gpio_set_debounce_micros(self, handle: int, gpio: int, debounce_micros: int) -> int:
        if not 0 <= debounce_micros <= _MAX_DEBOUNCE_MICROS:
            raise Refused(lg.BAD_DEBOUNCE_MICS)
        held = self._held(handle, gpio)
        held.debounce_micros = debounce_micros
        if held.alert is not None:
            held.alert.debounce_ns = debounce_micros * 1000
        return lg.OKAY

    @status()
    def gpio_set_watchdog_micros(self, handle: int, gpio: int, watchdog_micros: int) -> int:
        if not 0 <= watchdog_micros <= _MAX_WATCHDOG_MICROS:
            raise Refused(lg.BAD_WATCHDOG_MICS)
        held = self._held(handle, gpio)
        held.watchdog_micros = watchdog_micros
        if held.alert is not None:
            held.alert.watchdog_ns = watchdog_micros * 1000
        return lg.OKAY

    def callback(
        self,
        handle: int,
        gpio: int,
        edge: int = lg.RISING_EDGE,
        func: Callable[[int, int, int, int], object] | None = None,
    ) -> Callback:
        """Call `func(chip, gpio, level, timestamp_ns)`, or count, at each report of an alert claimed with no handle."""
        with self._chip.timeline.lock:
            return Callback(self._own_thread(), handle >> 16, gpio, edge, func, self._chip.timeline.now_ns())

    # Notifications.

    @status(chip=False)
    def notify_open(self) -> int:
        handle = self.handles.add(None)
        try:
            self.handles[handle] = Notifications(self._fifo(handle), self._chip.timeline.clock)
        except OSError:
            del self.handles[handle]
            raise Refused(lg.BAD_PATHNAME) from None
        return handle

    @status(chip=False)
    def notify_pause(self, handle: int) -> int:
        self.handles.find(handle, Notifications).paused = True
        return lg.OKAY

    @status(chip=False)
    def notify_resume(self, handle: int) -> int:
        self.handles.find(handle, Notifications).paused = False
        return lg.OKAY

    @status(chip=False)
    def notify_close(self, handle: int) -> int:
        if not self._closed:
            self.handles.take(handle, Notifications).close()
        return lg.OKAY

    # Transmissions.

    @status()
    def tx_pulse(
        self, handle: int, gpio: int, pulse_on: int, pulse_off: int, pulse_offset: int = 0, pulse_cycles: int = 0
    ) -> int:
        held = self._sender(handle, gpio)
        sending = held.pwm is not None and held.pwm.active
        if sending and not (pulse_on or pulse_off):
            assert held.pwm is not None
            held.pwm.stop()
            return lg.OKAY
        if pulse_on + pulse_off <= _MIN_PERIOD_MICROS:
            raise Refused(lg.BAD_PWM_MICROS)
        if held.pwm is not None and sending:
            held.pwm.add(pulse_on, pulse_off, pulse_cycles)
        else:
            held.pwm = Pwm(self._chip.timeline, held.write, pulse_on, pulse_off, pulse_offset, pulse_cycles)
        return held.pwm.room

    @status()
    def tx_pwm(
        self,
        handle: int,
        gpio: int,
        pwm_frequency: float,
        pwm_duty_cycle: float,
        pulse_offset: int = 0,
        pulse_cycles: int = 0,
    ) -> int:
        if pwm_frequency == 0:
            return self.tx_pulse(handle, gpio, 0, 0)
        if not 0.1 <= pwm_frequency <= 10_000:
            raise Refused(lg.BAD_PWM_FREQ)
        if not 0 <= pwm_duty_cycle <= 100:
            raise Refused(lg.BAD_PWM_DUTY)
        period = int(1e6 / pwm_frequency + 0.5)
        on = int(pwm_duty_cycle / 100 * period + 0.5)
        return self.tx_pulse(handle, gpio, on, period - on, pulse_offset, pulse_cycles)

    @status()
    def tx_servo(
        self,
        handle: int,
        gpio: int,
        pulse_width: int,
        servo_frequency: int = 50,
        pulse_offset: int = 0,
        pulse_cycles: int = 0,
    ) -> int:
        if pulse_width == 0:
            return self.tx_pulse(handle, gpio, 0, 0)
        if not 40 <= servo_frequency <= 500:
            raise Refused(lg.BAD_SERVO_FREQ)
        period = int(1e6 / servo_frequency + 0.5)
        if not 500 <= pulse_width <= min(2500, period):
            raise Refused(lg.BAD_SERVO_WIDTH)
        return self.tx_pulse(handle, gpio, pulse_width, period - pulse_width, pulse_offset, pulse_cycles)

    @status()
    def tx_wave(self, handle: int, gpio: int, pulses: Sequence[Pulse]) -> int:
        if not pulses:
            return lg.OKAY
        steps = [(step.group_bits, step.group_mask, step.pulse_delay) for step in pulses]
        held = self._sender(handle, gpio)
        if held.wave is not None and held.wave.active:
            held.wave.add(steps)
        else:
            held.wave = Wave(self._chip.timeline, held.write_group, steps)
        return held.wave.room

    @status()
    def tx_busy(self, handle: int, gpio: int, kind: int) -> int:
        sending = self._sending(handle, gpio, kind)
        return int(sending is not None and sending.active)

    @status()
    def tx_room(self, handle: int, gpio: int, kind: int) -> int:
        sending = self._sending(handle, gpio, kind)
        return sending.room if sending is not None and sending.active else SLOTS

    # Helpers of the functions; the lock is held.

    def _fifo(self, handle: int) -> str:
        return os.path.join(self.directory, f".lgd-nfy{handle}")

    def _own_thread(self) -> CallbackThread:
        if self._thread is None:
            clock = self._chip.timeline.clock
            self.handles[0] = own = Notifications(self._fifo(0), clock)
            self._thread = CallbackThread(self._fifo(0), clock)
            own.on_written = self._thread.on_written
        return self._thread

    def _find_notifications(self, handle: int) -> Notifications | None:
        found = self.handles.get(handle)
        return found if isinstance(found, Notifications) else None

    def _sender(self, handle: int, gpio: int) -> Held:
        held = self._held(handle, gpio)
        if not held.mode & OUTPUT:
            if held.mode & GROUP:
                raise Refused(lg.GPIO_NOT_AN_OUTPUT)
            # lgpio passes the kernel's flag for "output" (8) instead of its own, in which 8 is open drain.
            self._claim(handle, [gpio], lg.SET_OPEN_DRAIN, [0])
        return held

    def _sending(self, handle: int, gpio: int, kind: int) -> Pwm | Wave | None:
        if kind not in (lg.TX_PWM, lg.TX_WAVE):
            raise Refused(lg.BAD_TX_TYPE)
        held = self._held(handle, gpio)
        return held.pwm if kind == lg.TX_PWM else held.wave
