"""The hardware PWM of a simulated board: /sys/class/pwm/pwmchip0, and the pulses on the lines of the header.

The rules are those of drivers/pwm/sysfs.c and core.c in Linux 6.6: the period comes first, a duty cycle longer than the
period is invalid at any time, and a channel must be exported, once. New settings count from the next period on.

A PWM channel and a program share the output stage of a line's pin. The pulses reach the pin while no program has
claimed the line, as on the Pi, where claiming a line switches its pin from the PWM to the GPIO block.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence

from firmware_sim.nodes import Attribute, Handle, Nodes, integer, os_error
from firmware_sim.pins import Chip, Line
from firmware_sim.timeline import Event, Timeline
from hwloop.boards.pwm_output import PwmChannel as SysfsChannel
from hwloop.boards.pwm_output import PwmFiles, PwmOutput
from hwloop.requests import OutputRequest

logger: logging.Logger = logging.getLogger("firmware_sim")

FASTEST_NS = 100_000
"""The shortest period whose edges happen one by one, because this computer would do nothing else. At a shorter one a
line has the level that it has most of the time, and `Line.fast_pulses` its pulses."""
_LONGEST_NS = (1 << 32) - 1
_DIRECTORY = "/sys/class/pwm/pwmchip0"


class PwmChannel:
    """A channel, and the line that it drives.

    Attributes:
        line: its line.
        period_ns, duty_ns: the period, and the part of it for which the line is high.
        inversed: whether it is low for that part instead.
        enabled: whether it sends pulses.
    """

    def __init__(self, line: Line, timeline: Timeline) -> None:
        self.line = line
        self.period_ns: int = 0
        self.duty_ns: int = 0
        self.inversed: bool = False
        self.enabled: bool = False
        self._timeline = timeline
        self._next: Event | None = None
        self._warned = False

    def set(
        self,
        period_ns: int | None = None,
        duty_ns: int | None = None,
        inversed: bool | None = None,
        enabled: bool | None = None,
    ) -> None:
        """Change some settings. Raises OSError (EINVAL) where the period is 0, or the duty cycle longer."""
        period = self.period_ns if period_ns is None else period_ns
        duty = self.duty_ns if duty_ns is None else duty_ns
        if not 0 < period <= _LONGEST_NS or not 0 <= duty <= period:
            raise os_error(errno.EINVAL)
        with self._timeline.lock:
            self._timeline.catch_up()
            self.period_ns, self.duty_ns = period, duty
            self.inversed = self.inversed if inversed is None else inversed
            before, self.enabled = self.enabled, self.enabled if enabled is None else enabled
            if self.enabled and (self._next is None or not before):
                self._begin_cycle()
            elif before and not self.enabled:
                self.stop()

    def stop(self) -> None:
        """Send no more pulses, and let the line be low. The timeline's lock is held."""
        self.enabled = False
        self._cancel()
        self.line.fast_pulses = None
        self._drive(0)

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _begin_cycle(self) -> None:
        """Begin a period: with its edges, or with a level for good if it has none or they are too fast."""
        self._cancel()
        high_ns = self.period_ns - self.duty_ns if self.inversed else self.duty_ns
        steady = self.duty_ns in (0, self.period_ns)
        fast = not steady and self.period_ns < FASTEST_NS
        self.line.fast_pulses = (self.period_ns, high_ns) if fast and self._reaches_pin() else None
        if steady or fast:
            self._drive(int(2 * high_ns >= self.period_ns))
            return
        self._drive(0 if self.inversed else 1)
        timeline = self._timeline
        start_ns = timeline.moment_ns()
        period_ns, duty_ns = self.period_ns, self.duty_ns

        def end_pulse() -> None:
            self._drive(1 if self.inversed else 0)
            self._next = timeline.at(start_ns + period_ns, self._begin_cycle)

        self._next = timeline.at(start_ns + duty_ns, end_pulse)

    def _reaches_pin(self) -> bool:
        return self.line.consumer is None

    def _drive(self, level: int) -> None:
        if self._reaches_pin():
            self._warned = False
            self.line.set_output(level)
        elif self.enabled and not self._warned:
            self._warned = True
            logger.warning(
                "PWM on line %d does not reach its pin, because the line is claimed by %s; release the line first",
                self.line.number,
                self.line.consumer,
            )


class PwmChip:
    """The PWM chip of a board, with its files.

    Parameters:
        chip: the lines of the board.
        numbers: the line of each channel, the first channel first.
        nodes: where its files are.

    Attributes:
        channels: its channels.
    """

    def __init__(self, chip: Chip, numbers: Sequence[int], nodes: Nodes) -> None:
        self.channels: tuple[PwmChannel, ...] = tuple(PwmChannel(chip.line(line), chip.timeline) for line in numbers)
        self._lock = chip.timeline.lock
        self._nodes = nodes
        self._exported: set[int] = set()
        self._files: PwmFiles = _NodeFiles(nodes)
        nodes.add(f"{_DIRECTORY}/npwm", Attribute(lambda: str(len(self.channels))))
        nodes.add(f"{_DIRECTORY}/export", Attribute(store=self._export))
        nodes.add(f"{_DIRECTORY}/unexport", Attribute(store=self._unexport))

    def channel(self, line: int) -> PwmChannel | None:
        """Return the channel that drives a line; None if there is none."""
        return next((each for each in self.channels if each.line.number == line), None)

    def output(self, line: int, request: OutputRequest) -> PwmOutput | None:
        """Return an output of the channel that drives a line; None if there is none. Raises `HardwareError`."""
        for number, channel in enumerate(self.channels):
            if channel.line.number == line and request.drive == "push-pull":
                return PwmOutput(self._files, SysfsChannel(_DIRECTORY, number), request)
        return None

    def _number(self, text: str) -> int:
        number = integer(text, 0)
        if number < 0:
            raise os_error(errno.EINVAL)
        if number >= len(self.channels):
            raise os_error(errno.ENODEV)
        return number

    def _export(self, text: str) -> None:
        with self._lock:
            number = self._number(text)
            if number in self._exported:
                raise os_error(errno.EBUSY)
            self._exported.add(number)
            for name, attribute in _files(self.channels[number]).items():
                self._nodes.add(f"{_DIRECTORY}/pwm{number}/{name}", attribute)

    def _unexport(self, text: str) -> None:
        with self._lock:
            number = self._number(text)
            if number not in self._exported:
                raise os_error(errno.ENODEV)
            self._exported.discard(number)
            self._nodes.remove_below(f"{_DIRECTORY}/pwm{number}")
            self.channels[number].stop()


class _NodeFiles(PwmFiles):
    def __init__(self, nodes: Nodes) -> None:
        super().__init__()
        self._nodes = nodes

    def read(self, path: str) -> str:
        return self._open(path, os.O_RDONLY).read(100).decode()

    def write(self, path: str, text: str) -> None:
        self._open(path, os.O_WRONLY).write(text.encode())

    def _open(self, path: str, flags: int) -> Handle:
        node = self._nodes.get(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        return node.open(flags)


def _files(channel: PwmChannel) -> dict[str, Attribute]:
    """Return the files of an exported channel by their names."""

    def enable(text: str) -> None:
        value = integer(text, 0)
        if value not in (0, 1):
            raise os_error(errno.EINVAL)
        channel.set(enabled=bool(value))

    def polarity(text: str) -> None:
        if text not in ("normal", "inversed"):
            raise os_error(errno.EINVAL)
        channel.set(inversed=text == "inversed")

    return {
        "period": Attribute(lambda: str(channel.period_ns), lambda text: channel.set(period_ns=integer(text, 0))),
        "duty_cycle": Attribute(lambda: str(channel.duty_ns), lambda text: channel.set(duty_ns=integer(text, 0))),
        "enable": Attribute(lambda: str(int(channel.enabled)), enable),
        "polarity": Attribute(lambda: "inversed" if channel.inversed else "normal", polarity),
    }
