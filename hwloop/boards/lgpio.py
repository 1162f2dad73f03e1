"""Edges and outputs through lgpio, real or simulated, without its callback thread.

lgpio can write its reports to a FIFO of one's own, and a FIFO is a file descriptor that a loop can watch. That is
what this module does. It promises: one FIFO per stream, gone from the directory as soon as it is open; decoding of
lgpio's 16-byte records however they are cut; and an account of what was lost as far as it can be known. lgpio loses
without a word (the kernel's buffer of 16 events, its own of 2000, the FIFO), and what can be seen from outside is
this: under both edges two equal levels in a row mean that at least one edge is missing.

How lgpio itself gets imported without harm is told in `hwloop.boards.lgpio_loader`.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import struct
import termios
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hwloop.board import Bias, Drive, Edge, EdgeKind, EdgeStream, LineName, OutputLine
from hwloop.errors import HardwareError

logger = logging.getLogger("hwloop")

MAX_ALERTS = 60
"""Lines that one process may watch: lgpio polls them from an array of 64 that it does not check."""
MAX_DEBOUNCE = 5.0
"""Seconds; lgpio's limit."""

_REPORT = struct.Struct("QBBBBI")  # timestamp ns (CLOCK_MONOTONIC), chip number, line, level, flags, padding
_CHUNK = 256 * _REPORT.size  # what one read takes: about 0.2 ms of decoding, the loop's time slice
_PIPE_SIZE = 1 << 20
_TIMEOUT_LEVEL = 2
_IN_USE = 1  # bit of gpio_get_line_info's flags


class LgpioModule(Protocol):
    """What is used of lgpio: the real module, or the simulated one."""

    error: type[Exception]
    SET_ACTIVE_LOW: int
    SET_OPEN_DRAIN: int
    SET_OPEN_SOURCE: int
    SET_PULL_UP: int
    SET_PULL_DOWN: int
    SET_PULL_NONE: int
    RISING_EDGE: int
    FALLING_EDGE: int
    BOTH_EDGES: int

    def gpiochip_open(self, gpiochip: int) -> int: ...
    def gpiochip_close(self, handle: int) -> int: ...
    def gpio_get_chip_info(self, handle: int) -> list[int | str]: ...
    def gpio_get_line_info(self, handle: int, gpio: int) -> list[int | str]: ...
    def gpio_claim_output(self, handle: int, gpio: int, level: int = ..., lFlags: int = ...) -> int: ...
    def gpio_claim_alert(
        self, handle: int, gpio: int, eFlags: int, lFlags: int = ..., notify_handle: int | None = ...
    ) -> int: ...
    def gpio_free(self, handle: int, gpio: int) -> int: ...
    def gpio_read(self, handle: int, gpio: int) -> int: ...
    def gpio_write(self, handle: int, gpio: int, level: int) -> int: ...
    def gpio_set_debounce_micros(self, handle: int, gpio: int, debounce_micros: int) -> int: ...
    def notify_open(self) -> int: ...
    def notify_close(self, handle: int) -> int: ...


_alerts: weakref.WeakKeyDictionary[LgpioModule, int] = weakref.WeakKeyDictionary()
"""Lines watched through each lgpio: the real one exists once per process."""


class LgpioChip:
    """One GPIO chip, opened through lgpio.

    Parameters:
        lgpio: the module (`load_lgpio()`) or `firmware_sim`'s.
        number: the chip's number: 0 for /dev/gpiochip0.
        workdir: the directory in which this lgpio makes its FIFOs.
        time_ns: the clock of its reports, in nanoseconds.

    Raises `HardwareError` where the chip can't be opened.
    """

    def __init__(
        self, lgpio: LgpioModule, *, number: int, workdir: str, time_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.lgpio = lgpio
        self.time_ns = time_ns
        self.number = number
        self.workdir = workdir
        self._users: dict[int, str] = {}
        self._watched: set[int] = set()
        self._closed = False
        before = _thread_ids()
        try:
            self.handle = lgpio.gpiochip_open(number)
        except lgpio.error as error:
            raise HardwareError(f"/dev/gpiochip{number}", f"lgpio: {_text(error)}", "see 'gpiodetect'") from error
        self._threads = _thread_ids() - before
        self.lines = int(lgpio.gpio_get_chip_info(self.handle)[1])

    def close(self) -> None:
        """Free what is still claimed and close the chip. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._users.clear()
        _alerts[self.lgpio] = _alerts.get(self.lgpio, 0) - len(self._watched)
        try:
            self.lgpio.gpiochip_close(self.handle)
        except self.lgpio.error:
            pass  # the simulated lgpio was closed as a whole

    def open_edges(
        self,
        lines: Sequence[LineName],
        *,
        edges: EdgeKind,
        bias: Bias,
        active_low: bool,
        debounce: float,
        consumer: str,
    ) -> EdgeStream:
        """Watch `lines`. Raises `HardwareError`, or ValueError for arguments that can't be; leaves nothing then."""
        if not 0 <= debounce <= MAX_DEBOUNCE:
            raise ValueError(f"debounce must be 0 to {MAX_DEBOUNCE:g} seconds, not {debounce!r}")
        numbers = {self._find(line): line for line in lines}
        if len(numbers) < len(lines):
            raise ValueError(f"the same line twice in {list(lines)!r}")
        for number, line in numbers.items():
            self._check_free(number, line)
        watched = _alerts.get(self.lgpio, 0)
        if watched + len(numbers) > MAX_ALERTS:
            raise HardwareError(
                f"lines {', '.join(map(str, lines))}",
                f"lgpio can watch {MAX_ALERTS} lines in one process, and {watched} are watched already",
                "close some first",
            )
        return _Edges(self, numbers, edges, bias, active_low, debounce, consumer)

    def open_output(self, line: LineName, *, initial: int, drive: Drive, active_low: bool, consumer: str) -> OutputLine:
        """Drive `line`. Raises `HardwareError`."""
        number = self._find(line)
        self._check_free(number, line)
        flags = {
            "push-pull": 0,
            "open-drain": self.lgpio.SET_OPEN_DRAIN,
            "open-source": self.lgpio.SET_OPEN_SOURCE,
        }[drive]
        if active_low:
            flags |= self.lgpio.SET_ACTIVE_LOW
        try:
            self.lgpio.gpio_claim_output(self.handle, number, initial, flags)
        except self.lgpio.error as error:
            raise self._claim_error(line, number, error) from error
        self._users[number] = consumer
        return _Output(self, number, line)

    # For streams and outputs.

    def claim_alert(self, number: int, line: LineName, *, flags: int, edges: int, notify: int, consumer: str) -> None:
        """Have lgpio report a line's edges to the FIFO of `notify`. Raises `HardwareError`."""
        if not _alerts.get(self.lgpio, 0):
            self._await_idle_threads()
        try:
            self.lgpio.gpio_claim_alert(self.handle, number, edges, flags, notify)
        except self.lgpio.error as error:
            raise self._claim_error(line, number, error) from error
        self._users[number] = consumer
        self._watched.add(number)
        _alerts[self.lgpio] = _alerts.get(self.lgpio, 0) + 1

    def free(self, number: int) -> None:
        """Give a line back. Harmless if the chip, or the simulated lgpio, was closed before, which frees all."""
        if self._closed:
            return
        del self._users[number]
        if number in self._watched:
            self._watched.remove(number)
            _alerts[self.lgpio] -= 1
        try:
            self.lgpio.gpio_free(self.handle, number)
        except self.lgpio.error:
            pass

    def read(self, number: int, line: LineName) -> int:
        """The logical level of a claimed line. Raises `HardwareError`."""
        self._check_open(line)
        try:
            return self.lgpio.gpio_read(self.handle, number)
        except self.lgpio.error as error:
            raise HardwareError(f"line {line}", f"can't be read (lgpio: {_text(error)})") from error

    def write(self, number: int, line: LineName, value: int) -> None:
        """Set the logical level of a claimed output. Raises `HardwareError`."""
        self._check_open(line)
        try:
            self.lgpio.gpio_write(self.handle, number, value)
        except self.lgpio.error as error:
            raise HardwareError(f"line {line}", f"can't be set (lgpio: {_text(error)})") from error

    def _check_open(self, line: LineName) -> None:
        if self._closed:
            raise HardwareError(f"line {line}", "its board is closed", "keep the board open while lines are in use")

    def _find(self, line: LineName) -> int:
        """The number of a line given by number or by name."""
        if isinstance(line, str):
            for number in range(self.lines):
                if self.lgpio.gpio_get_line_info(self.handle, number)[3] == line:
                    return number
            raise HardwareError(
                f"line {line!r}", f"no line of that name on /dev/gpiochip{self.number}", "see 'gpioinfo'"
            )
        if not 0 <= line < self.lines:
            raise HardwareError(
                f"line {line}", f"no such line on /dev/gpiochip{self.number}", f"its lines are 0 to {self.lines - 1}"
            )
        return line

    def _check_free(self, number: int, line: LineName) -> None:
        # lgpio would free the line under its first user's feet and claim it again.
        if number in self._users:
            raise HardwareError(
                f"line {line}",
                f"in use by this program already, as {self._users[number]}",
                "close that first",
                errno=errno.EBUSY,
            )

    def _claim_error(self, line: LineName, number: int, error: Exception) -> HardwareError:
        """What a refused claim means. For alerts lgpio says the same whatever the kernel said, so look at the line."""
        flags, _, user = self.lgpio.gpio_get_line_info(self.handle, number)[2:5]
        if int(flags) & _IN_USE:
            by = f" (which calls itself {user!r})" if user else ""
            return HardwareError(
                f"line {line}", f"in use by another process{by}", "stop it, or see 'gpioinfo'", errno=errno.EBUSY
            )
        return HardwareError(
            f"line {line}",
            f"the kernel refused it (lgpio: {_text(error)})",
            "not every line has interrupts, pull resistors or every kind of drive",
        )

    def _await_idle_threads(self) -> None:
        """Let lgpio's alert thread go to sleep before the first line is claimed.

        It looks whether there are lines, then waits for a signal, and a claim between the two is never noticed: about
        one process in 449 got no edge at all. Once its threads sleep, that moment has passed.
        """
        give_up = time.monotonic() + 0.05
        while any(_is_running(thread) for thread in self._threads) and time.monotonic() < give_up:
            time.sleep(0.0002)


class _LineState:
    """What a stream knows of one of its lines."""

    __slots__ = ("claimed_ns", "level", "line", "made_up_ns", "read_ns", "reported", "suspect")

    def __init__(self, line: LineName, claimed_ns: int) -> None:
        self.line = line
        self.claimed_ns = claimed_ns
        self.level = 0
        """Last level reported, or before any report the one read after the claim; logical."""
        self.read_ns = 0
        """When it was read after the claim."""
        self.reported = False
        self.suspect = False
        self.made_up_ns = 0
        """When `recheck` last told of an edge that no report had told of."""


class _Edges(EdgeStream):
    """A FIFO of reports, and the lines that report to it."""

    def __init__(
        self,
        chip: LgpioChip,
        lines: Mapping[int, LineName],
        edges: EdgeKind,
        bias: Bias,
        active_low: bool,
        debounce: float,
        consumer: str,
    ) -> None:
        lgpio = chip.lgpio
        self._chip = chip
        self._consumer = consumer
        self._debounced = debounce > 0
        self._both = edges == "both"
        self._numbers = {line: number for number, line in lines.items()}
        self._lines: dict[int, _LineState] = {}
        self._fd = -1
        self._rest = b""
        self._overflowed = False
        self._closed = False
        flags = {"as-is": 0, "up": lgpio.SET_PULL_UP, "down": lgpio.SET_PULL_DOWN, "none": lgpio.SET_PULL_NONE}[bias]
        if active_low:
            flags |= lgpio.SET_ACTIVE_LOW
        kind = {"rising": lgpio.RISING_EDGE, "falling": lgpio.FALLING_EDGE, "both": lgpio.BOTH_EDGES}[edges]
        try:
            self._notify = lgpio.notify_open()
        except lgpio.error as error:
            raise HardwareError("lgpio's FIFO", _text(error), f"it is made in {chip.workdir}: look there") from error
        try:
            self._open_fifo()
            for number, line in lines.items():
                # Set even if it is 0, for lgpio remembers what the line's last user set.
                lgpio.gpio_set_debounce_micros(chip.handle, number, round(debounce * 1e6))
                state = _LineState(line, chip.time_ns())
                chip.claim_alert(number, line, flags=flags, edges=kind, notify=self._notify, consumer=consumer)
                self._lines[number] = state
                state.level = chip.read(number, line)
                state.read_ns = chip.time_ns()
        except BaseException:
            self.close()
            raise

    def _open_fifo(self) -> None:
        path = os.path.join(self._chip.workdir, f".lgd-nfy{self._notify}")
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise HardwareError(
                path, error.strerror or str(error), "lgpio made it a moment ago", errno=error.errno
            ) from error
        # lgpio never removes it.
        os.unlink(path)
        self._capacity = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)
        size = _PIPE_SIZE
        while size > self._capacity:
            try:
                self._capacity = fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, size)
            except PermissionError:
                size //= 2  # above /proc/sys/fs/pipe-max-size, or the user's share is used up

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Edge]:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return []
        received_ns = self._chip.time_ns()
        if not data:
            raise HardwareError("lgpio's FIFO", "lgpio has closed it", "watch the lines anew")
        if len(data) == _CHUNK:
            self._note_backlog()
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % _REPORT.size
        self._rest = data[whole:]
        edges = []
        for timestamp_ns, chip, number, level, _, _ in _REPORT.iter_unpack(data[:whole]):
            state = self._lines.get(number)
            # lgpio may still hold reports of a line's last user, and hand them to a new FIFO of the same number.
            if state is None or level == _TIMEOUT_LEVEL or chip != self._chip.number or timestamp_ns < state.claimed_ns:
                continue
            lost = 0
            if self._both and level == state.level:
                if timestamp_ns <= state.made_up_ns:
                    continue  # the late report of an edge that was told of already
                if state.reported or not (self._debounced or timestamp_ns <= state.read_ns):
                    lost = 1
                elif self._debounced:
                    continue  # a glitch at the moment of the claim: the level is the one that was read then
            state.level, state.reported, state.suspect = level, True, False
            edges.append(Edge(state.line, level, timestamp_ns, received_ns, lost))
        return edges

    def recheck(self) -> list[Edge]:
        if not self._both or self._debounced or _waiting(self._fd):
            return []
        edges = []
        for number, state in self._lines.items():
            level = self._chip.read(number, state.line)
            if level == state.level:
                state.suspect = False
            elif not state.suspect:
                state.suspect = True
            else:
                now_ns = self._chip.time_ns()
                state.level, state.reported, state.suspect, state.made_up_ns = level, True, False, now_ns
                edges.append(Edge(state.line, level, now_ns, now_ns, 0))
        return edges

    def level(self, line: LineName) -> int:
        return self._chip.read(self._numbers[line], line)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # First no more reports, then our end of the FIFO, then lgpio's.
        for number in self._lines:
            self._chip.free(number)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            self._chip.lgpio.notify_close(self._notify)
        except self._chip.lgpio.error:
            pass  # the simulated lgpio was closed as a whole

    def _note_backlog(self) -> None:
        """Say once that lgpio may have dropped reports. It fills pages in batches, so half full may be full."""
        if not self._overflowed and _waiting(self._fd) + _CHUNK >= self._capacity // 2:
            self._overflowed = True
            logger.warning(
                "%s: edges come faster than they are read; lgpio's FIFO of %d bytes has filled up, so edges may be "
                "lost that nothing tells of",
                self._consumer,
                self._capacity,
            )


class _Output(OutputLine):
    """One line that we drive."""

    def __init__(self, chip: LgpioChip, number: int, line: LineName) -> None:
        self._chip = chip
        self._number = number
        self._line = line
        self._closed = False

    def set(self, value: int) -> None:
        self._check_open()
        self._chip.write(self._number, self._line, value)

    def get(self) -> int:
        self._check_open()
        return self._chip.read(self._number, self._line)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._chip.free(self._number)

    def _check_open(self) -> None:
        if self._closed:
            raise HardwareError(f"line {self._line}", "this output is closed", "open a new one")


def _waiting(fd: int) -> int:
    """Bytes that wait in a FIFO."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def _thread_ids() -> frozenset[str]:
    return frozenset(os.listdir("/proc/self/task"))


def _is_running(thread: str) -> bool:
    """Whether a thread of this process does not sleep (proc(5): the state follows the name in parentheses)."""
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] != b"S"
    except OSError:
        return False  # it has ended


def _text(error: Exception) -> str:
    """lgpio's text without the quotation marks that its str() puts around it."""
    return str(error.args[0]) if error.args else str(error)
