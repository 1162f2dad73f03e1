"""A DS3231: Maxim's real-time clock with a temperature-compensated oscillator, two alarms and a battery.

Its time runs with the board's clock, from the time that the board file gives: so a test in virtual time sees the clock
of a year go by. Source: Maxim 19-5170, rev. 10. Not simulated: the 32 kHz
output, and the aging register's effect.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.device import Connections
from firmware_sim.i2c_part import Cycle, RegisterPart, measured
from firmware_sim.limits import state

_TIME, _DAY, _ALARM_1, _ALARM_2, _CONTROL, _STATUS, _AGING, _TEMPERATURE = 0, 3, 0x07, 0x0B, 0x0E, 0x0F, 0x10, 0x11
_COUNT = 0x13
_CONVERT, _INTERRUPTS = 0x20, 0x04
_STOPPED, _BUSY = 0x80, 0x04
_SQUARE_WAVES = (1, 1024, 4096, 8192)
_SECOND = datetime.timedelta(seconds=1)
_EPOCH = datetime.datetime(2000, 1, 1)
"""Its time without a battery."""
_LONGEST_SEARCH = 62 + 24 + 60 + 60
"""Steps in the search for the next alarm: days, hours, minutes, seconds. The next 31st is 62 days away at most."""


@dataclass(eq=False)
class Ds3231(RegisterPart):
    """A DS3231 real-time clock with two alarms.

    Parameters:
        bus: the number of its I2C bus.
        address: 0x68.
        time: the time that it shows as the board begins, such as "2026-01-31 12:00:00". Assigning another sets the
            clock; `now` is the time that it shows.
        battery: whether a battery keeps its time while the board has no power. Without one it starts in the year 2000,
            and its status says that it was stopped.
        drift: how much too fast it is, in millionths; real ones keep within 2.
        temperature: around it, in °C.
        interrupt: the line of pin INT/SQW, which is open-drain: the program or a resistor pulls it up.
    """

    wiring: ClassVar[str] = "VCC 3.3 V, GND; SDA to GPIO2, SCL to GPIO3; SQW needs a pull-up; a CR2032 in the holder"
    example: ClassVar[str] = "seconds, minutes, hours = smbus.read_i2c_block_data(0x68, 0, 3)  # in BCD: 0x59 is 59"
    addresses: ClassVar[Sequence[int]] = (0x68,)
    address: int = 0x68
    time: str | datetime.datetime = state("2026-01-01 00:00:00", changed="_set_time")
    battery: bool = True
    drift: float = measured(-1000, 1000, "millionths", default=0.0)
    temperature: float = measured(-40, 85, "°C", default=25.0)
    interrupt: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._parse_time()
        self._set_up = False

    def _parse_time(self) -> None:
        try:
            self._start = datetime.datetime.fromisoformat(str(self.time))
        except ValueError:
            raise ValueError(f"time must be a time such as '2026-01-31 12:00:00', not {self.time!r}") from None
        if self._start.tzinfo is not None or not 2000 <= self._start.year <= 2199:
            raise ValueError(f"time must be in the years 2000 to 2199 and without a time zone, not {self.time!r}")

    def connect(self, board: Connections) -> None:
        self._int = self.signal(board, self.interrupt, "INT/SQW")

    def reset(self) -> None:
        """Lose the power for a moment: a battery keeps the time and the registers."""
        if self._set_up and self.battery:
            self.pointer: int = 0
            return
        super().reset()
        self._set_up = True

    def power_on(self) -> None:
        self._set(self._start if self.battery else _EPOCH, self.now_ns() if self._set_up else self._began_ns)
        self._weekday = self._start.isoweekday() if self.battery else 1
        self._twelve_hours = False
        self.registers[_CONTROL] = 0x1C
        self.registers[_STATUS] = 0x08 if self.battery else 0x88
        self._conversion = Cycle()
        self._convert()
        self._find_alarms()

    def _set_time(self) -> None:
        """Show the time that was assigned, from now on."""
        self._parse_time()
        with self.timeline.lock:
            self.update(self.now_ns())
            self._weekday = self._start.isoweekday()
            self._set(self._start, self.now_ns())
            self._find_alarms()
            self._show()

    def _set(self, time: datetime.datetime, at_ns: int) -> None:
        self._set_on = time.date()
        self._set_to_ns = (time - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
        self._set_at_ns = at_ns

    def _own_ns(self, now_ns: int) -> int:
        """Return its own time, in nanoseconds since 2000."""
        elapsed_ns = now_ns - self._set_at_ns
        return self._set_to_ns + elapsed_ns + round(elapsed_ns * self.drift * 1e-6)

    def _when_ns(self, own_ns: int) -> int:
        """Return when its own time is this, by the timeline's clock, or just after."""
        left_ns = own_ns - self._set_to_ns
        return self._set_at_ns + left_ns + math.ceil(left_ns * (1 / (1 + self.drift * 1e-6) - 1))

    @property
    def now(self) -> datetime.datetime:
        """The time that it shows, with fractions of a second."""
        return _EPOCH + datetime.timedelta(microseconds=self._own_ns(self.now_ns()) // 1000)

    def catch_up(self) -> None:
        """Bring it up to date, before its drift is changed, for instance."""
        super().catch_up()
        if self._timeline is not None:
            self._set_to_ns, self._set_at_ns = self._own_ns(self.now_ns()), self.now_ns()

    # The registers.

    def write(self, data: bytes) -> None:
        self.update(self.now_ns())
        if not data:
            return
        self.pointer = data[0] % _COUNT
        self._load_time()
        sets_time = False
        for value in data[1:]:
            sets_time |= self.pointer < _ALARM_1
            self.write_register(self.pointer, value)
            self.pointer = (self.pointer + 1) % _COUNT
        if sets_time:
            self._take_time()
        if len(data) > 1:
            self._find_alarms()
            self._show()

    def read(self, count: int) -> bytes:
        self.update(self.now_ns())
        self._load_time()  # all of one reading is of one moment (page 11)
        values = []
        for _ in range(count):
            values.append(self.registers[self.pointer])
            self.pointer = (self.pointer + 1) % _COUNT
        return bytes(values)

    def write_register(self, register: int, value: int) -> None:
        if register == _CONTROL:
            self.registers[register] = value & ~_CONVERT
            if value & _CONVERT and not self.registers[_STATUS] & _BUSY:
                self.registers[register] |= _CONVERT
                self.registers[_STATUS] |= _BUSY
                self._conversion.start(self.now_ns(), 0.2)
        elif register == _STATUS:
            kept = self.registers[register]  # flags can only be cleared
            self.registers[register] = kept & value & 0x83 | value & 0x08 | kept & _BUSY
        elif register < _TEMPERATURE:
            self.registers[register] = value

    def _load_time(self) -> None:
        now = self.now
        hours = _bcd(now.hour)
        if self._twelve_hours:
            hours = 0x40 | (0x20 if now.hour >= 12 else 0) | _bcd((now.hour - 1) % 12 + 1)
        days = (now.date() - self._set_on).days
        month = _bcd(now.month) | (0x80 if now.year >= 2100 else 0)
        self.registers[_TIME:_DAY] = bytes([_bcd(now.second), _bcd(now.minute), hours])
        date = (self._weekday - 1 + days) % 7 + 1, _bcd(now.day), month, _bcd(now.year % 100)
        self.registers[_DAY:_ALARM_1] = bytes(date)

    def _take_time(self) -> None:
        """Set the clock. A date that does not exist becomes the first of its month, where a real one does anything."""
        second, minute, _, weekday, day, month, year = (_number(value) for value in self.registers[_TIME:_ALARM_1])
        year += 2100 if self.registers[5] & 0x80 else 2000
        month = _number(self.registers[5] & 0x1F)
        self._twelve_hours = bool(self.registers[2] & 0x40)
        try:
            time = datetime.datetime(year, month, day, _hour(self.registers[2]), minute, second)
        except ValueError:
            time = datetime.datetime(year, min(max(month, 1), 12), 1, 0, minute % 60, second % 60)
        self._set(time, self.now_ns())
        self._weekday = weekday & 7 or 1

    # Alarms, the square wave, and the temperature.

    def update(self, now_ns: int) -> None:
        if self._conversion.ended(now_ns) is not None:
            self.registers[_STATUS] &= ~_BUSY
            self.registers[_CONTROL] &= ~_CONVERT
            self._convert()
        own_ns = self._own_ns(now_ns)
        if due := [alarm for alarm, due_ns in self._due_ns.items() if due_ns <= own_ns]:
            self.registers[_STATUS] |= sum(due)
            self._find_alarms()
        self._show()

    def _find_alarms(self) -> None:
        """Find when each alarm is due next, by its own time."""
        now = self.now.replace(microsecond=0)
        due = {alarm: self._next_alarm(alarm, now) for alarm in (1, 2)}
        self._due_ns = {
            alarm: (time - _EPOCH) // _SECOND * 1_000_000_000 for alarm, time in due.items() if time is not None
        }

    def _convert(self) -> None:
        """Measure the temperature, as every 64 seconds and when the program asks for it (page 15)."""
        self.registers[_TEMPERATURE : _TEMPERATURE + 2] = (round(self.temperature * 4) << 6 & 0xFFC0).to_bytes(2)
        if self._conversion.ends_ns is None:
            self._conversion.start(self.now_ns(), 64, repeats=True)

    def _next_alarm(self, alarm: int, after: datetime.datetime) -> datetime.datetime | None:
        """Return when an alarm is due after a full second; None if its registers name no time."""
        values = [0, *self.registers[_ALARM_2 : _ALARM_2 + 3]] if alarm == 2 else [*self.registers[_ALARM_1:_ALARM_2]]
        second, minute, hour = (
            None if value & 0x80 else number
            for value, number in zip(values, (*map(_number, values[:2]), _hour(values[2])), strict=False)
        )
        time = after + _SECOND
        for _ in range(_LONGEST_SEARCH):
            if not self._is_day(values[3], time):
                time = datetime.datetime.combine(time.date(), datetime.time()) + 86400 * _SECOND
            elif hour not in (None, time.hour):
                time = time.replace(minute=0, second=0) + 3600 * _SECOND
            elif minute not in (None, time.minute):
                time = time.replace(second=0) + 60 * _SECOND
            elif second not in (None, time.second):
                time += _SECOND
            else:
                return time
        return None

    def _is_day(self, value: int, time: datetime.datetime) -> bool:
        if value & 0x80:
            return True
        if value & 0x40:
            days = (time.date() - self._set_on).days
            return (self._weekday - 1 + days) % 7 + 1 == value & 0x0F
        return time.day == _number(value & 0x3F)

    def _show(self) -> None:
        """Pull INT/SQW low for an alarm that is enabled, or follow the square wave; and wake for the next change."""
        control = self.registers[_CONTROL]
        if not self._int.connected:
            return
        if control & _INTERRUPTS:
            self._int.drive(0 if self.registers[_STATUS] & control & 3 else None)
            awaited = control & ~self.registers[_STATUS]
            due_ns = [due_ns for alarm, due_ns in self._due_ns.items() if awaited & alarm]
            self.wake(self._when_ns(min(due_ns)) if due_ns else None)
            return
        frequency = 2 * _SQUARE_WAVES[control >> 3 & 3]
        halves = self._own_ns(self.now_ns()) * frequency // 1_000_000_000
        self._int.drive(0 if halves % 2 == 0 else None)
        self.wake(self._when_ns(-(-(halves + 1) * 1_000_000_000 // frequency)))


def _bcd(number: int) -> int:
    return number // 10 << 4 | number % 10


def _number(bcd: int) -> int:
    return (bcd >> 4) * 10 + (bcd & 0x0F)


def _hour(value: int) -> int:
    """Return the hour of a register, in twelve-hour mode too."""
    if value & 0x40:
        return _number(value & 0x1F) % 12 + (12 if value & 0x20 else 0)
    return _number(value & 0x3F)
