"""lgpio's reports of edges: FIFOs of 16-byte records, debounce, watchdog, and the thread that calls callbacks.

The rules are those of lgpio 0.2.2.0's alert thread, on the board's timeline. An edge is reported immediately. With a
debounce time it is reported once no further edge came for that time, stamped with the last edge's time plus the
debounce time, and under both edges only if the level differs from the last reported one. A watchdog reports level 2
once per silence, and never before the first edge.
"""

from __future__ import annotations

import array
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Callable

from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.reports import Reports
from firmware_sim.pins import Line
from firmware_sim.timeline import Event, Timeline
from hwloop.core.clock import REAL, Clock

REPORT = struct.Struct("QBBBBI")  # timestamp ns, chip number, line, level, flags (0), padding


class Notifications:
    """One notification handle: a FIFO that lgpio holds open for reading and writing, so that it never breaks."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.paused = False
        self.on_written: Callable[[], object] | None = None
        """Called after each write."""
        self._clock = clock
        if os.path.lexists(path):
            os.unlink(path)
        os.mkfifo(path, 0o664)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        clock.claim(self._fd, announced=True)

    def write(self, data: bytes, room: int | None) -> bool:
        """Write a report whole. False if the FIFO is full, or would hold more than `room` bytes: then it is lost."""
        if self._fd < 0:
            return False
        if room is not None:
            waiting = array.array("i", [0])
            fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
            if waiting[0] + len(data) > room:
                return False
        try:
            os.write(self._fd, data)
        except BlockingIOError:
            return False
        self._clock.announce()
        if self.on_written is not None:
            self.on_written()
        return True

    def close(self) -> None:
        self._clock.disclaim(self._fd)
        os.close(self._fd)
        self._fd = -1


class Alert:
    """A line whose edges are reported. The timeline's lock is held in every method."""

    def __init__(
        self,
        timeline: Timeline,
        line: Line,
        reports: Reports,
        *,
        edges: int,
        find_notifications: Callable[[], Notifications | None],
        debounce_micros: int,
        watchdog_micros: int,
    ) -> None:
        self.debounce_ns: int = debounce_micros * 1000
        self.watchdog_ns: int = watchdog_micros * 1000
        self._timeline = timeline
        self._line = line
        self._reports = reports
        self._edges = edges
        self._find_notifications = find_notifications
        self._event_ns = self._report_ns = 0
        self._event_level = 0
        self._report_level = -1
        self._settled = True
        self._watching = False
        self._check: Event | None = None
        line.observe(self._on_change)

    def stop(self) -> None:
        """Report no more."""
        self._line.forget(self._on_change)
        if self._check is not None:
            self._check.cancel()

    def _on_change(self, electrical: int, when_ns: int) -> None:
        level = electrical ^ self._line.active_low
        if not self._edges & (lg.RISING_EDGE if level else lg.FALLING_EDGE):
            return
        is_timed = self.debounce_ns or self.watchdog_ns
        if is_timed:
            self._report_due(when_ns)
        self._event_ns = self._report_ns = when_ns
        self._event_level = level
        self._settled = False
        if not self.debounce_ns:
            self._report(level, when_ns)
            self._watching = True
        if is_timed:
            self._plan()

    def _report_due(self, now_ns: int) -> None:
        """Write the reports of debounce and watchdog that are due by now."""
        if self.debounce_ns and not self._settled and now_ns - self._event_ns >= self.debounce_ns:
            self._settled = True
            if self._edges != lg.BOTH_EDGES or self._report_level != self._event_level:
                self._report(self._event_level, self._event_ns + self.debounce_ns)
                self._watching = True
        if self.watchdog_ns and self._watching and now_ns - self._report_ns >= self.watchdog_ns:
            self._watching = False
            self._report(lg.TIMEOUT, self._report_ns + self.watchdog_ns)

    def _plan(self) -> None:
        """Plan the next check, for when one of them may be due."""
        if self._check is not None:
            self._check.cancel()
            self._check = None
        due = []
        if self.debounce_ns and not self._settled:
            due.append(self._event_ns + self.debounce_ns)
        if self.watchdog_ns and self._watching:
            due.append(self._report_ns + self.watchdog_ns)
        if due:
            self._check = self._timeline.at(min(due), self._look)

    def _look(self) -> None:
        self._report_due(self._timeline.moment_ns())
        self._plan()

    def _report(self, level: int, when_ns: int) -> None:
        self._report_ns, self._report_level = when_ns, level
        record = REPORT.pack(when_ns, 0, self._line.number, level, 0, 0)
        self._reports.send(self._line, when_ns, level, self._find_notifications, record)


class CallbackThread:
    """lgpio's own reader of notifications, which calls callbacks. As in lgpio, a callback that raises ends it.

    Between two reports it waits on the board's clock, so that a program in virtual time gets its calls in time.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self.callbacks: list[Callback] = []
        self._clock = clock
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._written = clock.condition()
        self._closed = self._calling = False
        self._thread = clock.start(self._run, "lgpio callbacks")

    def calling(self) -> threading.Thread | None:
        """Return the thread if a callback runs in it now."""
        return self._thread if self._calling else None

    def on_written(self) -> None:
        """Look for reports, because something was written. The timeline's lock may be held."""
        with self._written:
            self._written.notify()

    def close(self) -> None:
        """End, after the callback that runs now, which may take its time."""
        self._closed = True
        self.on_written()
        if self._thread is threading.current_thread():
            return
        if self._clock is REAL:
            self._thread.join(1)
        elif not self._calling:
            self._clock.join(self._thread)

    def _run(self) -> None:
        with open(self._fd, "rb", buffering=0) as fifo:
            report = b""
            while True:
                with self._written:
                    while not (part := fifo.read(REPORT.size - len(report))):
                        if self._closed:
                            return
                        self._written.wait()
                report += part
                if len(report) == REPORT.size:
                    self._report(report)
                    report = b""

    def _report(self, report: bytes) -> None:
        timestamp, chip, gpio, level, _, _ = REPORT.unpack(report)
        for callback in tuple(self.callbacks):
            if callback.chip == chip and callback.gpio == gpio and callback.made_ns <= timestamp:
                self._calling = True
                try:
                    callback.func(chip, gpio, level, timestamp)
                except BaseException:
                    if callback in self.callbacks:
                        raise
                    # Cancelled meanwhile: the object that it belongs to is closed.
                finally:
                    self._calling = False


class Callback:
    """The result of `lgpio.callback`. `edge` is kept and, as in lgpio, ignored.

    Reports of edges from before `made_ns` may still be on their way, from an earlier claim; they are not passed on.
    """

    def __init__(
        self,
        thread: CallbackThread,
        chip: int,
        gpio: int,
        edge: int,
        func: Callable[[int, int, int, int], object] | None,
        made_ns: int,
    ) -> None:
        self.made_ns = made_ns
        self.chip = chip
        self.gpio = gpio
        self.edge = edge
        self.func: Callable[[int, int, int, int], object] = func or self._tally
        self.count: int = 0
        self._reset = False
        self._thread = thread
        thread.callbacks.append(self)

    def cancel(self) -> None:
        """End the calls. Harmless when repeated."""
        if self in self._thread.callbacks:
            self._thread.callbacks.remove(self)

    def tally(self) -> int:
        """Return how many reports came; only a callback without a function counts them."""
        return self.count

    def reset_tally(self) -> None:
        """Start counting from 0 again."""
        self._reset = True
        self.count = 0

    def _tally(self, chip: int, gpio: int, level: int, timestamp: int) -> None:
        if self._reset:
            self._reset = False
            self.count = 0
        self.count += 1
