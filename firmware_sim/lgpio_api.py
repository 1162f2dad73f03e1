"""The lgpio module as programs see it, over a simulated chip.

`Lgpio` has lgpio 0.2.2.0's names, constants, return values and error texts, so that what was written for the real
module runs on it: `hwloop.boards.lgpio` does, and so do plain lgpio scripts. It keeps lgpio's manners where a reader
can see them: reports of 16 bytes stamped with CLOCK_MONOTONIC, in a FIFO named `.lgd-nfy<handle>` that the library
holds open for reading and writing; a report that finds it full is gone without a sign.

Where lgpio surprises, this does too: claiming a line that one holds frees it first, a second claim of the same kind
changes nothing, a busy line refuses an alert with "bad event request" rather than "GPIO busy", and a transmission on
a free line claims it as open drain. Not imitated: lgpio's C thread holds reports back for 0.5 to 1.1 ms, here they
are written at once; its I2C, SPI and serial functions are not there, the simulated board has these parts itself.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from firmware_sim.lgpio_alerts import Alert, Callback, CallbackThread, Notifications
from firmware_sim.lgpio_constants import TEXTS, Refused
from firmware_sim.lgpio_constants import Constants as lg
from firmware_sim.lgpio_constants import error as lgpio_error
from firmware_sim.pins import Chip, Line, Pull
from firmware_sim.transmit import SLOTS, Pwm, Wave
from hwloop.board import Drive

P = ParamSpec("P")
R = TypeVar("R")

_INPUT, _OUTPUT, _ALERT, _GROUP = 1, 2, 4, 8
_HANDLES = 1024
_MAX_GROUP = 64
_MAX_DEBOUNCE_MICROS = 5_000_000
_MAX_WATCHDOG_MICROS = 300_000_000
_MIN_PERIOD_MICROS = 10
_PULLS: dict[int, Pull] = {lg.SET_PULL_UP: "up", lg.SET_PULL_DOWN: "down", lg.SET_PULL_NONE: "none"}
_DRIVES: dict[int, Drive] = {0: "push-pull", lg.SET_OPEN_DRAIN: "open-drain", lg.SET_OPEN_SOURCE: "open-source"}


@dataclasses.dataclass
class Pulse:
    """A step of a wave: the levels for the members of the group that the mask selects, then a delay in microseconds."""

    group_bits: int
    group_mask: int
    pulse_delay: int


class _Held:
    """What one chip handle knows of one line."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.mode = 0
        self.group: tuple[_Held, ...] = (self,)
        self.debounce_micros = 0
        self.watchdog_micros = 0
        self.alert: Alert | None = None
        self.pwm: Pwm | None = None
        self.wave: Wave | None = None

    @property
    def leads(self) -> bool:
        return self.group[0] is self

    def read(self) -> int:
        return self.line.level ^ self.line.active_low

    def write(self, level: int) -> None:
        self.line.set_output(level ^ self.line.active_low)

    def write_group(self, bits: int, mask: int) -> None:
        for place, member in enumerate(self.group):
            if mask >> place & 1:
                member.write(bits >> place & 1)

    def free(self) -> None:
        for member in self.group:
            for sending in (member.pwm, member.wave):
                if sending is not None:
                    sending.stop()
            if member.alert is not None:
                member.alert.stop()
                member.alert = None
            member.line.consumer = None
            member.mode = 0
            member.group = (member,)


def _status(*rest: object) -> Callable[[Callable[Concatenate[Lgpio, P], R]], Callable[Concatenate[Lgpio, P], R]]:
    """Run a function under the board's lock and answer a refusal as lgpio does.

    That is an `error`, or with `exceptions` set to False the negative status itself, followed by `rest` in a list
    where the function returns a list.
    """

    def decorate(function: Callable[Concatenate[Lgpio, P], R]) -> Callable[Concatenate[Lgpio, P], R]:
        @functools.wraps(function)
        def call(self: Lgpio, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with self._chip.timeline.lock:
                try:
                    return function(self, *args, **kwargs)
                except Refused as refused:
                    if self.exceptions:
                        raise lgpio_error(self.error_text(refused.code)) from None
                    return [refused.code, *rest] if rest else refused.code  # type: ignore[return-value]

        return call

    return decorate


class Lgpio(lg):
    """A module-shaped object with lgpio's functions over one chip, which is `/dev/gpiochip0`.

    Each object is like one process: two over the same chip find each other's lines busy. `close()` gives back all.

    Attributes:
        directory: where its FIFOs are: lgpio's working directory.
        exceptions: as in lgpio: set it to False to get negative statuses in place of exceptions.
    """

    error: type[Exception] = lgpio_error
    pulse = Pulse

    def __init__(self, chip: Chip) -> None:
        self.exceptions = True
        self._chip = chip
        self._temporary = tempfile.TemporaryDirectory(prefix="hwloop-lgpio-")
        self.directory = self._temporary.name
        # Handle 0 belongs to the callback thread, as in lgpio; here it is made when the first callback wants it.
        self._handles: dict[int, dict[int, _Held] | Notifications | None] = {0: None}
        self._thread: CallbackThread | None = None
        self._closed = False

    def close(self) -> None:
        """Free every line, close every FIFO, end the callback thread. Harmless when repeated."""
        with self._chip.timeline.lock:
            if self._closed:
                return
            self._closed = True
            for held in self._handles.values():
                if isinstance(held, Notifications):
                    held.close()
                elif held is not None:
                    _free_all(held)
            self._handles = {0: None}
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._temporary.cleanup()

    # Chips and lines.

    @_status()
    def gpiochip_open(self, gpiochip: int) -> int:
        if gpiochip < 0:
            raise Refused(lg.BAD_GPIOCHIP)
        if gpiochip != 0:
            raise Refused(lg.CANNOT_OPEN_CHIP)
        lines: dict[int, _Held] = {number: _Held(self._chip.line(number)) for number in range(len(self._chip))}
        return self._new_handle(lines) | gpiochip << 16

    @_status()
    def gpiochip_close(self, handle: int) -> int:
        _free_all(self._lines(handle))
        del self._handles[handle & 0xFFFF]
        return lg.OKAY

    @_status(0, "", "")
    def gpio_get_chip_info(self, handle: int) -> list[int | str]:
        return [lg.OKAY, len(self._lines(handle)), "gpiochip0", self._chip.label]

    @_status(0, 0, "", "")
    def gpio_get_line_info(self, handle: int, gpio: int) -> list[int | str]:
        held = self._held(handle, gpio)
        return [lg.OKAY, gpio, _mode(held), held.line.name, held.line.consumer or ""]

    @_status()
    def gpio_get_mode(self, handle: int, gpio: int) -> int:
        return _mode(self._held(handle, gpio))

    # Claims.

    @_status()
    def gpio_claim_input(self, handle: int, gpio: int, lFlags: int = 0) -> int:
        return self._claim(handle, [gpio], lFlags, None)

    @_status()
    def gpio_claim_output(self, handle: int, gpio: int, level: int = 0, lFlags: int = 0) -> int:
        return self._claim(handle, [gpio], lFlags, [level])

    @_status()
    def group_claim_input(self, handle: int, gpio: Sequence[int], lFlags: int = 0) -> int:
        return self._claim(handle, gpio, lFlags, None)

    @_status()
    def group_claim_output(
        self,
        handle: int,
        gpio: Sequence[int],
        levels: Sequence[int] = (0,),
        lFlags: int = 0,
    ) -> int:
        return self._claim(handle, gpio, lFlags, [*levels, *[0] * (len(gpio) - len(levels))])

    @_status()
    def gpio_claim_alert(
        self,
        handle: int,
        gpio: int,
        eFlags: int,
        lFlags: int = 0,
        notify_handle: int | None = None,
    ) -> int:
        held = self._held(handle, gpio)
        if held.mode & _GROUP:
            raise Refused(lg.INVALID_GROUP_ALERT)
        if held.mode:
            held.free()
        if held.line.consumer is not None or not _kernel_accepts(lFlags, output=False):
            raise Refused(lg.BAD_EVENT_REQUEST)
        if notify_handle is None:
            self._own_thread()
            notify_handle = 0
        held.line.consumer = "lg"
        held.line.configure(output=None, bias=_pull(lFlags), active_low=bool(lFlags & lg.SET_ACTIVE_LOW))
        held.mode = _ALERT
        held.alert = Alert(
            self._chip.timeline,
            held.line,
            edges=eFlags & lg.BOTH_EDGES,
            find_notifications=functools.partial(self._find_notifications, notify_handle),
            debounce_micros=held.debounce_micros,
            watchdog_micros=held.watchdog_micros,
        )
        return lg.OKAY

    @_status()
    def gpio_free(self, handle: int, gpio: int) -> int:
        held = self._held(handle, gpio)
        if not held.mode:
            raise Refused(lg.GPIO_NOT_ALLOCATED)
        if not held.leads:
            raise Refused(lg.NOT_GROUP_LEADER)
        held.free()
        return lg.OKAY

    def group_free(self, handle: int, gpio: int) -> int:
        return self.gpio_free(handle, gpio)

    # Levels.

    @_status()
    def gpio_read(self, handle: int, gpio: int) -> int:
        held = self._held(handle, gpio)
        if not held.mode:
            self._claim(handle, [gpio], 0, None)
        return held.read()

    @_status()
    def gpio_write(self, handle: int, gpio: int, level: int) -> int:
        held = self._held(handle, gpio)
        if held.mode & _OUTPUT:
            held.write(1 if level else 0)
            return lg.OKAY
        if held.mode & _GROUP:
            raise Refused(lg.GPIO_NOT_AN_OUTPUT)
        return self._claim(handle, [gpio], 0, [level])

    @_status(0)
    def group_read(self, handle: int, gpio: int) -> list[int]:
        group = self._leader(handle, gpio).group
        return [len(group), sum(member.read() << place for place, member in enumerate(group))]

    @_status()
    def group_write(self, handle: int, gpio: int, group_bits: int, group_mask: int = lg.GROUP_ALL) -> int:
        held = self._leader(handle, gpio)
        if not held.mode & _OUTPUT or not group_mask & (1 << len(held.group)) - 1:
            raise Refused(lg.BAD_WRITE)
        held.write_group(group_bits, group_mask)
        return len(held.group)

    # Transmissions.

    @_status()
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

    @_status()
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

    @_status()
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

    @_status()
    def tx_wave(self, handle: int, gpio: int, pulses: Sequence[Pulse]) -> int:
        if not pulses:
            return lg.OKAY
        held = self._sender(handle, gpio)
        steps = [(step.group_bits, step.group_mask, step.pulse_delay) for step in pulses]
        if held.wave is not None and held.wave.active:
            held.wave.add(steps)
        else:
            held.wave = Wave(self._chip.timeline, held.write_group, steps)
        return held.wave.room

    @_status()
    def tx_busy(self, handle: int, gpio: int, kind: int) -> int:
        sending = self._sending(handle, gpio, kind)
        return int(sending is not None and sending.active)

    @_status()
    def tx_room(self, handle: int, gpio: int, kind: int) -> int:
        sending = self._sending(handle, gpio, kind)
        return sending.room if sending is not None and sending.active else SLOTS

    # Alerts.

    @_status()
    def gpio_set_debounce_micros(self, handle: int, gpio: int, debounce_micros: int) -> int:
        if not 0 <= debounce_micros <= _MAX_DEBOUNCE_MICROS:
            raise Refused(lg.BAD_DEBOUNCE_MICS)
        held = self._held(handle, gpio)
        held.debounce_micros = debounce_micros
        if held.alert is not None:
            held.alert.debounce_ns = debounce_micros * 1000
        return lg.OKAY

    @_status()
    def gpio_set_watchdog_micros(self, handle: int, gpio: int, watchdog_micros: int) -> int:
        if not 0 <= watchdog_micros <= _MAX_WATCHDOG_MICROS:
            raise Refused(lg.BAD_WATCHDOG_MICS)
        held = self._held(handle, gpio)
        held.watchdog_micros = watchdog_micros
        if held.alert is not None:
            held.alert.watchdog_ns = watchdog_micros * 1000
        return lg.OKAY

    @_status()
    def notify_open(self) -> int:
        handle = self._new_handle(None)
        self._handles[handle] = Notifications(self._fifo(handle))
        return handle

    @_status()
    def notify_pause(self, handle: int) -> int:
        self._notifications(handle).paused = True
        return lg.OKAY

    @_status()
    def notify_resume(self, handle: int) -> int:
        self._notifications(handle).paused = False
        return lg.OKAY

    @_status()
    def notify_close(self, handle: int) -> int:
        self._notifications(handle).close()
        del self._handles[handle]
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
            return Callback(self._own_thread(), handle >> 16, gpio, edge, func)

    def error_text(self, errnum: int) -> str:
        """The text of a negative status."""
        return TEXTS.get(errnum, "unknown error")

    def get_module_version(self) -> str:
        return "lgpio.py_0.2.2.0"

    # What the functions share; the lock is held.

    def _new_handle(self, what: dict[int, _Held] | None) -> int:
        handle = next((number for number in range(_HANDLES) if number not in self._handles), None)
        if handle is None:
            raise Refused(lg.NO_HANDLE)
        self._handles[handle] = what
        return handle

    def _fifo(self, handle: int) -> str:
        return os.path.join(self.directory, f".lgd-nfy{handle}")

    def _own_thread(self) -> CallbackThread:
        if self._thread is None:
            self._handles[0] = Notifications(self._fifo(0))
            self._thread = CallbackThread(self._fifo(0))
        return self._thread

    def _notifications(self, handle: int) -> Notifications:
        found = self._handles.get(handle)
        if not isinstance(found, Notifications):
            raise Refused(lg.BAD_HANDLE)
        return found

    def _find_notifications(self, handle: int) -> Notifications | None:
        found = self._handles.get(handle)
        return found if isinstance(found, Notifications) else None

    def _lines(self, handle: int) -> dict[int, _Held]:
        found = self._handles.get(handle & 0xFFFF)
        if not isinstance(found, dict):
            raise Refused(lg.BAD_HANDLE)
        return found

    def _held(self, handle: int, gpio: int) -> _Held:
        held = self._lines(handle).get(gpio)
        if held is None:
            raise Refused(lg.BAD_GPIO_NUMBER)
        return held

    def _leader(self, handle: int, gpio: int) -> _Held:
        held = self._held(handle, gpio)
        if not held.leads:
            raise Refused(lg.NOT_GROUP_LEADER)
        if not held.mode:
            raise Refused(lg.GPIO_NOT_ALLOCATED)
        return held

    def _sender(self, handle: int, gpio: int) -> _Held:
        held = self._held(handle, gpio)
        if not held.mode & _OUTPUT:
            if held.mode & _GROUP:
                raise Refused(lg.GPIO_NOT_AN_OUTPUT)
            # lgpio passes the kernel's flag for "output" (8) where it takes its own, and there 8 is open drain.
            self._claim(handle, [gpio], lg.SET_OPEN_DRAIN, [0])
        return held

    def _sending(self, handle: int, gpio: int, kind: int) -> Pwm | Wave | None:
        if kind not in (lg.TX_PWM, lg.TX_WAVE):
            raise Refused(lg.BAD_TX_TYPE)
        held = self._held(handle, gpio)
        return held.pwm if kind == lg.TX_PWM else held.wave

    def _claim(self, handle: int, numbers: Sequence[int], flags: int, levels: Sequence[int] | None) -> int:
        """Claim lines as inputs, or with `levels` as outputs."""
        lines = self._lines(handle)
        if not numbers:
            return lg.OKAY
        if len(numbers) > _MAX_GROUP:
            raise ValueError("Expecting 1-64 GPIO")
        if any(number not in lines for number in numbers):
            raise Refused(lg.NOT_PERMITTED)
        group = tuple(lines[number] for number in numbers)
        kind = _INPUT if levels is None else _OUTPUT
        if len(group) == 1:
            if group[0].mode & kind:
                return lg.OKAY
            if group[0].mode and not group[0].mode & _GROUP:
                group[0].free()
        if len(set(numbers)) < len(numbers) or any(member.line.consumer is not None for member in group):
            raise Refused(lg.GPIO_BUSY)
        if not _kernel_accepts(flags, output=levels is not None):
            raise Refused(lg.UNEGPECTED_ERROR)
        active_low = bool(flags & lg.SET_ACTIVE_LOW)
        for place, member in enumerate(group):
            member.mode = kind | (_GROUP if len(group) > 1 else 0)
            member.group = group
            member.line.consumer = "lg"
            member.line.configure(
                output=None if levels is None else (1 if levels[place] else 0) ^ active_low,
                drive_mode=_DRIVES[flags & (lg.SET_OPEN_DRAIN | lg.SET_OPEN_SOURCE)],
                bias=_pull(flags),
                active_low=active_low,
            )
        return lg.OKAY


def _free_all(lines: dict[int, _Held]) -> None:
    for held in lines.values():
        if held.mode and held.leads:
            held.free()


def _kernel_accepts(flags: int, *, output: bool) -> bool:
    """Whether the kernel takes these flags: one pull at most, one drive at most, and that for outputs only."""
    pulls = sum(bool(flags & pull) for pull in _PULLS)
    drive = flags & (lg.SET_OPEN_DRAIN | lg.SET_OPEN_SOURCE)
    return pulls <= 1 and drive in _DRIVES and (output or not drive)


def _pull(flags: int) -> Pull | None:
    return next((pull for flag, pull in _PULLS.items() if flags & flag), None)


def _mode(held: _Held) -> int:
    """The bits of gpio_get_mode: 0 to 7 the kernel's, 8 to 11 lgpio's own, 16 to 18 the kernel's again."""
    line = held.line
    mode = held.mode << 8
    if line.consumer is not None:
        mode |= 1
    mode |= 65536 if line.output is None else 2
    if line.active_low:
        mode |= lg.SET_ACTIVE_LOW
    if line.output is not None:
        mode |= next(flag for flag, drive in _DRIVES.items() if drive == line.drive_mode)
    mode |= next(flag for flag, pull in _PULLS.items() if pull == line.bias)
    if held.alert is not None:
        mode |= held.alert.edges << 17
    return mode
