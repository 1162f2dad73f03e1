"""A GPIO chip opened through lgpio, real or simulated, and the lines that are claimed on it.

The one fact that shaped it: lgpio frees a line under its first user's feet when the same process claims it again, and
it refuses without a reason. So no line is claimed twice, and a refusal is followed by a look at the line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hwloop.boards.chip import GpioChip, LineInfo
from hwloop.boards.lgpio.alert_thread import AlertThread, alert_thread
from hwloop.boards.lgpio.fifos import Fifo, Fifos
from hwloop.boards.lgpio.module import LgpioModule, text_of
from hwloop.boards.removal_watch import Removal
from hwloop.boards.unclaimed_line import read_unclaimed
from hwloop.errors import HardwareError
from hwloop.lines import LineName

_IN_USE = 1  # bit of gpio_get_line_info's flags
_FREED_FOR = 0.5  # seconds for which a line that was freed may still seem to be in use
_CLAIMS = 3  # times that a line is claimed until lgpio's thread is awake


class LgpioChip(GpioChip):
    """One GPIO chip, opened through lgpio.

    Parameters:
        lgpio: the module (`load_lgpio()`) or `firmware_sim`'s.
        number: the chip's number: 0 for /dev/gpiochip0.
        workdir: the directory in which this lgpio makes its FIFOs.
        time_ns: the clock of its reports, in nanoseconds.
        node, revision: see `GpioChip`.
        level_of: the electrical level of a line that nobody has claimed; by default the kernel reads it at `node`.
        watch_removal: notices of the chip's removal; by default that of `node`.

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
        watch_removal: Callable[[], Removal] | None = None,
    ) -> None:
        self.lgpio = lgpio
        self.time_ns = time_ns
        self.number = number
        self.workdir = workdir
        self.level_of: Callable[[int], int] = level_of or (lambda number: read_unclaimed(node, number))
        self._watch_removal = watch_removal
        self.alerts: set[int] = set()
        """Lines whose edges lgpio reports."""
        self._freed: dict[int, float] = {}
        self._fifos = Fifos(lgpio, workdir)
        self._closed = self._vanished = False
        before = set(os.listdir("/proc/self/task"))
        try:
            self.handle: int = lgpio.gpiochip_open(number)
        except lgpio.error as error:
            raise HardwareError(f"/dev/gpiochip{number}", f"lgpio: {text_of(error)}", "see 'gpiodetect'") from error
        self.alert_thread: AlertThread = alert_thread(lgpio, set(os.listdir("/proc/self/task")) - before)
        lines, _, label = lgpio.gpio_get_chip_info(self.handle)[1:4]
        super().__init__(f"/dev/gpiochip{number}", node=node, label=str(label), lines=int(lines), revision=revision)

    def close(self) -> None:
        """Free all lines that are still claimed and close the chip, which takes lgpio 0.1 s. Harmless when repeated."""
        if self._closed:
            return
        self._vanished = not self.forked and self.gone()
        self._closed = True
        self.users.clear()
        self.alert_thread.lines -= len(self.alerts)
        if not self.forked:  # where lgpio would wait for its threads, which only the parent has
            try:
                self.lgpio.gpiochip_close(self.handle)
            except self.lgpio.error:
                pass  # the simulated lgpio was closed as a whole
        self._fifos.close(forked=self.forked)

    def gone(self) -> bool:
        try:
            self.lgpio.gpio_get_line_info(self.handle, 0)
        except self.lgpio.error:
            return True
        return False

    def watch_removal(self) -> Removal:
        return super().watch_removal() if self._watch_removal is None else self._watch_removal()

    def line_info(self, number: int) -> LineInfo:
        flags, name, user = self.lgpio.gpio_get_line_info(self.handle, number)[2:5]
        return LineInfo(str(name), bool(int(flags) & _IN_USE), str(user))

    def claim_alert(self, number: int, line: LineName, *, flags: int, edges: int, notify: int, consumer: str) -> None:
        """Have lgpio report a line's edges to the FIFO of `notify`. Raises `HardwareError`.

        The first claim may leave lgpio's thread asleep (`hwloop.boards.lgpio.alert_thread`); the next one wakes it.
        """
        for _ in range(1 if self.alert_thread.lines else _CLAIMS):
            self.claim(number, line, lambda: self.lgpio.gpio_claim_alert(self.handle, number, edges, flags, notify))
            self._freed[number] = time.monotonic()  # by the next claim, if there is one
            if self.alert_thread.is_awake():
                break
        self.users[number] = consumer
        self._count_alert(number, watched=True)

    def claim_input(self, number: int, line: LineName, *, flags: int, consumer: str) -> None:
        """Claim a line that is only read, which needs no thread of lgpio. Raises `HardwareError`."""
        self.claim(number, line, lambda: self.lgpio.gpio_claim_input(self.handle, number, flags))
        self.users[number] = consumer

    def switch(self, number: int, line: LineName, claim: Callable[[], int], *, alert: bool) -> None:
        """Claim a claimed line anew, which frees it first: as an output, or as an alert. Raises `HardwareError`."""
        self._check_open(line)
        self._freed[number] = time.monotonic()
        self.claim(number, line, claim)
        self._count_alert(number, watched=alert)

    def claim(self, number: int, line: LineName, claim: Callable[[], int]) -> None:
        """Claim a line, and try again for a while if it was freed just now: lgpio's thread may still hold it."""
        while True:
            try:
                claim()
                return
            except (self.lgpio.error, OSError) as error:
                if time.monotonic() > self._freed.get(number, -_FREED_FOR) + _FREED_FOR:
                    if isinstance(error, OSError):
                        raise self.refusal({number: line}, str(error.strerror).lower(), error.errno) from error
                    raise self.refusal({number: line}, f"lgpio: {text_of(error)}") from error
            time.sleep(0.002)

    def take_fifo(self) -> Fifo:
        """Return a FIFO for a stream. Raises `HardwareError`."""
        return self._fifos.take(thread_sleeps=not self.alert_thread.lines)

    def give_fifo(self, fifo: Fifo, *, usable: bool) -> None:
        """Take back the FIFO of a stream that is closed."""
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
        self._count_alert(number, watched=False)
        if self.forked:
            return
        self._freed[number] = time.monotonic()
        try:
            self.lgpio.gpio_free(self.handle, number)
        except self.lgpio.error:
            pass

    def read(self, number: int, line: LineName) -> int:
        """Return the logical level of a claimed line. Raises `HardwareError`."""
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

    def send_pwm(self, number: int, line: LineName, frequency: float, duty: float) -> None:
        """Have lgpio's thread send pulses on a claimed output; frequency 0 ends them. Raises `HardwareError`."""
        self._check_open(line)
        try:
            self.lgpio.tx_pwm(self.handle, number, frequency, 100 * duty)
        except self.lgpio.error as error:
            raise self._failure(line, "can't send pulses", error) from error

    def _count_alert(self, number: int, *, watched: bool) -> None:
        if watched != (number in self.alerts):
            (self.alerts.add if watched else self.alerts.discard)(number)
            self.alert_thread.lines += 1 if watched else -1

    def _failure(self, line: LineName, what: str, error: Exception) -> HardwareError:
        if self.gone():
            return self.vanished(f"line {line}")
        return HardwareError(f"line {line}", f"{what} (lgpio: {text_of(error)})")

    def _check_open(self, line: LineName) -> None:
        self.check_process(f"line {line}")
        if self._vanished:  # and came back: the board has opened it again
            raise self.vanished(f"line {line}")
        if self._closed:
            raise HardwareError(f"line {line}", "its board is closed", "keep the board open while lines are in use")
