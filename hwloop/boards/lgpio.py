"""Edges and outputs through lgpio, real or simulated, without its callback thread.

The chip, what is claimed on it and by whom, and what lgpio's refusals mean. The one fact that shaped it: lgpio frees
a line under its first user's feet when the same process claims it again, and it refuses without saying why; so
nothing is claimed twice, and a refusal is followed by a look at the line.

The edges themselves are in `hwloop.boards.lgpio_edges`; how lgpio is imported without harm, in `lgpio_loader`.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Collection, Set
from typing import NamedTuple, Protocol

from hwloop.board import EdgeRequest, EdgeStream, LineName, OutputLine, OutputRequest
from hwloop.boards.as_is import read_level
from hwloop.boards.chip import GpioChip, LineInfo
from hwloop.boards.lgpio_edges import Edges, text_of
from hwloop.boards.lgpio_fifos import Fifo, Fifos
from hwloop.boards.lgpio_output import LgpioOutput
from hwloop.errors import HardwareError

MAX_ALERTS = 60
"""Lines that one process may watch: lgpio polls them from an array of 64 that it does not check."""
_IN_USE = 1  # bit of gpio_get_line_info's flags
_LETTING_GO = 0.5  # seconds for which a line that we had may still seem taken
_CLAIMS = 3  # times that a line is claimed until lgpio's thread is awake
_PROOF = 0.1  # seconds that it is given for that
_WAKES = 8  # what it must have slept in them; its other threads can't do that


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
    def tx_pwm(self, handle: int, gpio: int, pwm_frequency: float, pwm_duty_cycle: float) -> int: ...
    def notify_open(self) -> int: ...
    def notify_close(self, handle: int) -> int: ...


_alerts: weakref.WeakKeyDictionary[LgpioModule, int] = weakref.WeakKeyDictionary()
"""Lines watched through each lgpio: the real one exists once per process."""


class _Threads(NamedTuple):
    """What an lgpio started when the first chip was opened, and where."""

    process: int
    threads: Set[str]


_threads: weakref.WeakKeyDictionary[LgpioModule, _Threads] = weakref.WeakKeyDictionary()


class LgpioChip(GpioChip):
    """One GPIO chip, opened through lgpio.

    Parameters:
        lgpio: the module (`load_lgpio()`) or `firmware_sim`'s.
        number: the chip's number: 0 for /dev/gpiochip0.
        workdir: the directory in which this lgpio makes its FIFOs.
        time_ns: the clock of its reports, in nanoseconds.
        node, revision: see `GpioChip`.
        level_of: the electrical level of a line that nobody has; by default the kernel reads it at `node`.

    Raises `HardwareError` where the chip can't be opened.
    """

    def __init__(
        self,
        lgpio: LgpioModule,
        *,
        number: int,
        workdir: str,
        time_ns: Callable[[], int] = time.monotonic_ns,
        node: str = "",
        revision: int | None = None,
        level_of: Callable[[int], int] | None = None,
    ) -> None:
        self._level_of = level_of or (lambda number: read_level(node, number))
        self.lgpio = lgpio
        self.time_ns = time_ns
        self.number = number
        self.workdir = workdir
        self.alerts: set[int] = set()
        """Lines whose edges lgpio reports."""
        self._freed: dict[int, float] = {}
        self._fifos = Fifos(lgpio, workdir)
        self._closed = False
        before = set(os.listdir("/proc/self/task"))
        try:
            self.handle = lgpio.gpiochip_open(number)
        except lgpio.error as error:
            raise HardwareError(f"/dev/gpiochip{number}", f"lgpio: {text_of(error)}", "see 'gpiodetect'") from error
        started = set(os.listdir("/proc/self/task")) - before
        _threads.setdefault(lgpio, _Threads(os.getpid(), started))
        lines, _, label = lgpio.gpio_get_chip_info(self.handle)[1:4]
        super().__init__(f"/dev/gpiochip{number}", node=node, label=str(label), lines=int(lines), revision=revision)

    def close(self) -> None:
        """Free what is still claimed and close the chip, which takes lgpio 0.1 s. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self.users.clear()
        _alerts[self.lgpio] = _alerts.get(self.lgpio, 0) - len(self.alerts)
        if not self.forked:  # where lgpio would wait for its threads, which only the parent has
            try:
                self.lgpio.gpiochip_close(self.handle)
            except self.lgpio.error:
                pass  # the simulated lgpio was closed as a whole
        self._fifos.close(forked=self.forked)

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        numbers = self.find_all(request)
        self.check_alerts(request.lines)
        return Edges(self, numbers, request)

    def open_output(self, request: OutputRequest) -> OutputLine:
        number = self.find(request.line)
        self.check_free({number: request.line})
        flags = {
            "push-pull": 0,
            "open-drain": self.lgpio.SET_OPEN_DRAIN,
            "open-source": self.lgpio.SET_OPEN_SOURCE,
        }[request.drive]
        if request.active_low:
            flags |= self.lgpio.SET_ACTIVE_LOW

        def claim() -> int:
            level = request.initial if request.initial is not None else self._level_of(number) ^ request.active_low
            return self.lgpio.gpio_claim_output(self.handle, number, level, flags)

        self._claim(number, request.line, claim)
        self.users[number] = request.consumer
        return LgpioOutput(self, number, request, flags)

    def gone(self) -> bool:
        try:
            self.lgpio.gpio_get_line_info(self.handle, 0)
        except self.lgpio.error:
            return True
        return False

    def line_info(self, number: int) -> LineInfo:
        flags, name, user = self.lgpio.gpio_get_line_info(self.handle, number)[2:5]
        return LineInfo(str(name), bool(int(flags) & _IN_USE), str(user))

    # For streams and outputs.

    def claim_alert(self, number: int, line: LineName, *, flags: int, edges: int, notify: int, consumer: str) -> None:
        """Have lgpio report a line's edges to the FIFO of `notify`. Raises `HardwareError`.

        When the first line is claimed lgpio's thread may sleep on: it looks whether there are lines, then waits for a
        signal, and a claim between the two is never noticed (about one process in 449 got no edge at all). So that it
        works is proved; claiming the line anew signals again.
        """
        for _ in range(1 if _alerts.get(self.lgpio, 0) else _CLAIMS):
            self._claim(number, line, lambda: self.lgpio.gpio_claim_alert(self.handle, number, edges, flags, notify))
            self._freed[number] = time.monotonic()  # by the next claim, if there is one
            if _is_awake(_threads[self.lgpio].threads):
                break
        self.users[number] = consumer
        self.alerts.add(number)
        _alerts[self.lgpio] = _alerts.get(self.lgpio, 0) + 1

    def check_alerts(self, lines: Collection[LineName]) -> None:
        """Raise `HardwareError` where lgpio can't report the edges of so many lines more."""
        named = f"lines {', '.join(map(str, lines))}"
        if _threads[self.lgpio].process != os.getpid():
            raise HardwareError(
                named,
                "lgpio was in use before this process was forked; its threads, which report edges, are the parent's",
                "use gpiod (HWLOOP_GPIO=gpiod), or have the child start afresh: multiprocessing's 'spawn'",
            )
        watched = _alerts.get(self.lgpio, 0)
        if watched + len(lines) > MAX_ALERTS:
            raise HardwareError(
                named,
                f"lgpio can watch {MAX_ALERTS} lines in one process, and {watched} are watched already",
                "close some first",
            )

    def switch(self, number: int, line: LineName, claim: Callable[[], int], *, alert: bool) -> None:
        """Claim a line of ours anew, which frees it first: as an output, or as an alert. Raises `HardwareError`."""
        self._check_open(line)
        self._freed[number] = time.monotonic()
        self._claim(number, line, claim)
        if alert != (number in self.alerts):
            (self.alerts.add if alert else self.alerts.discard)(number)
            _alerts[self.lgpio] = _alerts.get(self.lgpio, 0) + (1 if alert else -1)

    def _claim(self, number: int, line: LineName, claim: Callable[[], int]) -> None:
        """Claim a line that we may have had a moment ago: the kernel has it back once lgpio's thread looks up."""
        while True:
            try:
                claim()
                return
            except (self.lgpio.error, OSError) as error:
                if time.monotonic() > self._freed.get(number, -_LETTING_GO) + _LETTING_GO:
                    if isinstance(error, OSError):
                        raise self.refusal({number: line}, str(error.strerror).lower(), error.errno) from error
                    raise self.refusal({number: line}, f"lgpio: {text_of(error)}") from error
            time.sleep(0.002)

    def take_fifo(self) -> Fifo:
        """A FIFO for a stream. Raises `HardwareError`."""
        return self._fifos.take(thread_sleeps=not _alerts.get(self.lgpio, 0))

    def give_fifo(self, fifo: Fifo, *, usable: bool) -> None:
        """A stream has done with its FIFO."""
        if self.forked:
            os.close(fifo.fd)
        elif usable and not self._closed:
            self._fifos.give_back(fifo)
        else:
            self._fifos.discard(fifo)

    def free(self, number: int) -> None:
        """Give a line back. Harmless if the chip, or the simulated lgpio, was closed before, which frees all."""
        if self._closed:
            return
        del self.users[number]
        if number in self.alerts:
            self.alerts.remove(number)
            _alerts[self.lgpio] -= 1
        if self.forked:
            return
        self._freed[number] = time.monotonic()
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
            raise self._failure(line, "can't be read", error) from error

    def write(self, number: int, line: LineName, value: int) -> None:
        """Set the logical level of a claimed output. Raises `HardwareError`."""
        self._check_open(line)
        try:
            self.lgpio.gpio_write(self.handle, number, value)
        except self.lgpio.error as error:
            raise self._failure(line, "can't be set", error) from error

    def _failure(self, line: LineName, what: str, error: Exception) -> HardwareError:
        if self.gone():
            return self.vanished(f"line {line}")
        return HardwareError(f"line {line}", f"{what} (lgpio: {text_of(error)})")

    def send_pwm(self, number: int, line: LineName, frequency: float, duty: float) -> None:
        """Have lgpio's thread send pulses on a claimed output; with frequency 0 no more. Raises `HardwareError`."""
        self._check_open(line)
        try:
            self.lgpio.tx_pwm(self.handle, number, frequency, 100 * duty)
        except self.lgpio.error as error:
            raise self._failure(line, "can't send pulses", error) from error

    def _check_open(self, line: LineName) -> None:
        self.check_process(f"line {line}")
        if self._closed:
            raise HardwareError(f"line {line}", "its board is closed", "keep the board open while lines are in use")


def _is_awake(threads: Set[str]) -> bool:
    """Whether one of lgpio's threads looks at lines: every 0.5 ms then, where the others wake every 20 ms or never.

    True as well if it has none: the simulated one, or one whose threads were started before we had it.
    """
    before = {thread: _switches(thread) for thread in threads}
    give_up = time.monotonic() + _PROOF
    while before and not any(_switches(thread) >= count + _WAKES for thread, count in before.items()):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.001)
    return True


def _switches(thread: str) -> int:
    """How often a thread of this process has gone to sleep (proc(5), voluntary_ctxt_switches)."""
    try:
        with open(f"/proc/self/task/{thread}/status", "rb") as file:
            return int(file.read().partition(b"\nvoluntary_ctxt_switches:")[2].split()[0])
    except OSError:
        return 0  # it has ended
