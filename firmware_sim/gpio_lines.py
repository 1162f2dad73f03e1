"""Lines that the kernel has granted to one request: their levels, their edges, and the descriptor that has the edges.

The rules are those of gpiolib-cdev.c. The queue of events keeps the newest: a full one drops the oldest event and goes
on numbering, so a gap in the numbers shows each loss. A debounced line has the level that it had for the whole of its
debounce time, for reads too; its edge carries the time at which that time was over.
"""

from __future__ import annotations

import collections
import errno
from collections.abc import Callable

from firmware_sim import gpio_uapi as uapi
from firmware_sim.event_queue import EventQueue
from firmware_sim.gpio_uapi import Flag
from firmware_sim.nodes import os_error
from firmware_sim.pins import Chip, Line
from firmware_sim.reader_rest import ReaderRest
from firmware_sim.timeline import Event, Timeline
from hwloop.board import Drive, Pull

_EVENTS_OF_A_LINE = 16
_EVENTS_MAX = _EVENTS_OF_A_LINE * uapi.LINES_MAX
_DETECTOR = Flag.EDGES | Flag.REALTIME
_LGPIO_BITS = (  # the bits of `Line.flags`, which are lgpio's, and the kernel's flags
    (1 << 2, Flag.ACTIVE_LOW),
    (1 << 3, Flag.OPEN_DRAIN),
    (1 << 4, Flag.OPEN_SOURCE),
    (1 << 5, Flag.PULL_UP),
    (1 << 6, Flag.PULL_DOWN),
    (1 << 7, Flag.BIAS_DISABLED),
    (1 << 17, Flag.RISING),
    (1 << 18, Flag.FALLING),
    (1 << 19, Flag.REALTIME),
)


def kernel_flags(flags: int) -> int:
    """Return the kernel's flags for those of `Line.flags`."""
    return sum(kernel for bit, kernel in _LGPIO_BITS if flags & bit)


def _line_flags(flags: int) -> int:
    return sum(bit for bit, kernel in _LGPIO_BITS if flags & kernel)


class RequestedLines:
    """Lines of a chip that one request holds.

    Parameters:
        date_ns: returns a time of the board's clock as the time of day.
        rest: the faults during which its events are not read.

    Attributes:
        events: the queue of edges (struct gpio_v2_line_event); its `fd` is the descriptor of the request.
    """

    def __init__(self, chip: Chip, wanted: uapi.LineRequest, date_ns: Callable[[int], int], rest: ReaderRest) -> None:
        _validate(wanted.config, len(wanted.offsets))
        self._chip = chip
        self._timeline = chip.timeline
        self._wanted = wanted
        self._date_ns = date_ns
        self._rest = rest
        self._unread = collections.deque[tuple[Line, bytes]]()
        rest.at_end.append(self._hand_over)
        self._ended = False
        self._claimed: list[_Watched] = []
        self._seqno = 0
        size = wanted.event_buffer_size or _EVENTS_OF_A_LINE * len(wanted.offsets)
        capacity = 1 << (min(size, _EVENTS_MAX) - 1).bit_length()  # kfifo_alloc() rounds up to a power of two
        self.events: EventQueue = EventQueue(self._timeline.clock, uapi.LINE_EVENT.size, capacity)

    def claim(self) -> None:
        """Claim the lines. Raises OSError where one is busy; then `free` gives back the others."""
        consumer = self._wanted.consumer or "?"
        for place, offset in enumerate(self._wanted.offsets):
            if offset >= len(self._chip):
                raise os_error(errno.EINVAL)
            line = self._chip.line(offset)
            if line.consumer is not None:
                raise os_error(errno.EBUSY)
            watched = _Watched(line, self._timeline, self._put)
            self._claimed.append(watched)
            line.find_kept()
            watched.configure(consumer, self._wanted.config, place)

    def holds(self, line: Line) -> bool:
        """Return whether it holds this line."""
        return any(each.line is line for each in self._claimed)

    def debounce_us(self, line: Line) -> int:
        """Return the debounce time of a line in microseconds; 0 if it has none."""
        return next((each.debounce_ns // 1000 for each in self._claimed if each.line is line), 0)

    def get_values(self, mask: int) -> int:
        """Return the logical levels of the lines whose bits are set in `mask`. Raises OSError. The lock is held."""
        bits = 0
        for place, each in self._chosen(mask):
            bits |= each.value << place
        return bits

    def set_values(self, bits: int, mask: int) -> None:
        """Drive the lines whose bits are set in `mask`. Raises OSError. The lock is held."""
        chosen = self._chosen(mask)
        if any(each.line.output is None for _, each in chosen):
            raise os_error(errno.EPERM)
        for place, each in chosen:
            each.line.set_output((bits >> place & 1) ^ each.line.active_low)

    def configure(self, config: uapi.LineConfig | None) -> None:
        """Change the settings of lines; one for which `config` has no direction keeps its own. Raises OSError."""
        self._check_held()
        if config is None:
            raise os_error(errno.EINVAL)
        _validate(config, len(self._claimed))
        for place, each in enumerate(self._claimed):
            if config.flags_of(place) & Flag.DIRECTIONS:
                each.configure(each.line.consumer or "?", config, place)

    def _check_held(self) -> None:
        if self._ended:
            raise os_error(errno.ENODEV)

    def _chosen(self, mask: int) -> list[tuple[int, _Watched]]:
        self._check_held()
        chosen = [(place, each) for place, each in enumerate(self._claimed) if mask >> place & 1]
        if not chosen:
            raise os_error(errno.EINVAL)
        return chosen

    def free(self) -> None:
        """Give the lines back; a reader finds the end. Harmless when repeated. The lock is held."""
        if not self._ended:
            self._ended = True
            self._rest.at_end.remove(self._hand_over)
        claimed, self._claimed = self._claimed, []
        for each in claimed:
            each.stop()
            each.line.release()
        self.events.end()

    def _put(self, line: Line, level: int, when_ns: int, line_seqno: int, realtime: bool) -> None:
        """Queue an event with its logical level."""
        self._seqno = line_seqno if len(self._wanted.offsets) == 1 else self._seqno + 1
        if realtime:
            when_ns = self._date_ns(when_ns)
        kind = uapi.EDGE_RISING if level else uapi.EDGE_FALLING
        numbers = self._seqno & 0xFFFF_FFFF, line_seqno & 0xFFFF_FFFF
        record = uapi.LINE_EVENT.pack(when_ns, kind, line.number, *numbers)
        if (keep := self._rest.keep) is None:
            self._queue(line, record)
            return
        self._unread.append((line, record))
        if len(self._unread) > keep * len(self._wanted.offsets):
            self._unread.popleft()[0].reports_lost += 1

    def _hand_over(self) -> None:
        """Let the program read the events that have waited."""
        while self._unread:
            self._queue(*self._unread.popleft())

    def _queue(self, line: Line, record: bytes) -> None:
        if self.events.full and (dropped := self.events.drop_oldest()):
            lost = self._chip.line(uapi.LINE_EVENT.unpack(dropped)[2])
            lost.reports_lost += 1
            lost.reports -= 1
        self.events.put(record)
        line.reports += 1


class _Watched:
    """One line of a request: its settings, and its edges on the way to the request's queue.

    Attributes:
        debounce_ns: its debounce time; 0 if it has none.
    """

    def __init__(self, line: Line, timeline: Timeline, put: Callable[[Line, int, int, int, bool], object]) -> None:
        self.line = line
        self.debounce_ns = 0
        self._timeline = timeline
        self._put = put
        self._flags = 0
        self._seqno = 0
        self._watching = False
        self._stable = 0
        self._settling: Event | None = None

    @property
    def value(self) -> int:
        """The logical level, of a debounced line the stable one."""
        return (self._stable if self.debounce_ns else self.line.level) ^ self.line.active_low

    def configure(self, consumer: str, config: uapi.LineConfig, place: int) -> None:
        """Claim the line with new settings."""
        flags, line = config.flags_of(place), self.line
        active_low = flags & Flag.ACTIVE_LOW != 0
        debounce_ns = (config.debounce_us_of(place) or 0) * 1000
        output = line.chip_output
        if flags & Flag.DIRECTIONS:
            output = config.output_of(place) ^ active_low if flags & Flag.OUTPUT else None
        changes = flags & _DETECTOR != self._flags & _DETECTOR or debounce_ns != self.debounce_ns
        if not flags & Flag.INPUT or (changes and not (debounce_ns and self.debounce_ns)):
            self.stop()
        self.debounce_ns = debounce_ns
        self._flags = flags
        line.claim(
            consumer,
            flags=_line_flags(flags),
            output=output,
            drive=_drive(flags),
            bias=_bias(flags),
            active_low=active_low,
        )
        if (flags & Flag.EDGES or debounce_ns) and not self._watching:
            self._stable = line.level
            self._watching = True
            line.observe(self._changed)

    def stop(self) -> None:
        """Detect no more edges."""
        if self._watching:
            self._watching = False
            self.line.forget(self._changed)
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self.debounce_ns = 0

    def _changed(self, level: int, when_ns: int) -> None:
        if not self.debounce_ns:
            self._report(level, when_ns)
            return
        if self._settling is not None:
            self._settling.cancel()
        self._settling = self._timeline.at(when_ns + self.debounce_ns, self._settle)

    def _settle(self) -> None:
        self._settling = None
        if (level := self.line.net.level) != self._stable:
            self._stable = level
            self._report(level, self._timeline.moment_ns())

    def _report(self, electrical: int, when_ns: int) -> None:
        level = electrical ^ self.line.active_low
        if self._flags & (Flag.RISING if level else Flag.FALLING):
            self._seqno += 1
            self._put(self.line, level, when_ns, self._seqno, self._flags & Flag.REALTIME != 0)


def _validate(config: uapi.LineConfig, lines: int) -> None:
    """Raise OSError as gpio_v2_line_config_validate() in gpiolib-cdev.c would fail."""
    for place in range(lines):
        flags = config.flags_of(place)
        if flags & ~Flag.ALL:
            raise os_error(errno.EINVAL)
        if flags & Flag.HTE:  # CONFIG_HTE is not set on a Raspberry Pi
            raise os_error(errno.EOPNOTSUPP)
        biases = (flags & Flag.BIASES).bit_count()
        if (
            flags & Flag.DIRECTIONS == Flag.DIRECTIONS
            or (flags & Flag.EDGES and not flags & Flag.INPUT)
            or flags & Flag.DRIVES == Flag.DRIVES
            or (flags & Flag.DRIVES and not flags & Flag.OUTPUT)
            or (biases and not flags & Flag.DIRECTIONS)
            or biases > 1
            or (config.debounce_us_of(place) is not None and not flags & Flag.INPUT)
        ):
            raise os_error(errno.EINVAL)


def _drive(flags: int) -> Drive:
    return "open-drain" if flags & Flag.OPEN_DRAIN else "open-source" if flags & Flag.OPEN_SOURCE else "push-pull"


def _bias(flags: int) -> Pull | None:
    if flags & Flag.BIAS_DISABLED:
        return "none"
    return "up" if flags & Flag.PULL_UP else "down" if flags & Flag.PULL_DOWN else None
