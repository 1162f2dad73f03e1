"""lgpio's chips, claims and levels, over a simulated chip: all of lgpio that needs no FIFO.

The order of lgpio's checks is kept, because it decides which error a wrong call gets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from firmware_sim.libraries.lgpio.alerts import Alert, Notifications
from firmware_sim.libraries.lgpio.constants import TEXTS, Refused
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import error as lgpio_error
from firmware_sim.libraries.lgpio.transmissions import Pwm, Wave
from firmware_sim.pins import Chip, Line
from hwloop.board import Drive, Pull

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="LgpioLines")

INPUT, OUTPUT, ALERT, GROUP = 1, 2, 4, 8
"""The modes in which a handle holds a line; bits 8 to 11 of gpio_get_mode."""
CONSUMER = "lg"
"""The name under which lgpio claims lines."""

_HANDLES = 1024
_MAX_GROUP = 64
_PULLS: dict[int, Pull] = {lg.SET_PULL_UP: "up", lg.SET_PULL_DOWN: "down", lg.SET_PULL_NONE: "none"}
_DRIVES: dict[int, Drive] = {0: "push-pull", lg.SET_OPEN_DRAIN: "open-drain", lg.SET_OPEN_SOURCE: "open-source"}


class Held:
    """The state of one line in one chip handle."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.mode = 0
        self.group: tuple[Held, ...] = (self,)
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
            member.line.release()
            member.mode = 0
            member.group = (member,)


def status(
    *rest: object, gone: int | None = None, reads: bool = False
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Run a function under the board's lock, after all actions that are due by then, and fail as lgpio does.

    That is an `error`, or with `exceptions` set to False the negative status itself, followed by `rest` in a list
    where the function returns a list. `gone` is the status for a handle whose chip has vanished. A function that reads
    lines (`reads`) counts as a read of the program.
    """

    def decorate(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @functools.wraps(function)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            timeline = self._chip.timeline
            if reads:
                timeline.count_read()
            with timeline.lock:
                timeline.catch_up()
                try:
                    if gone is not None and self._has_lost(args[0] if args else kwargs.get("handle")):
                        raise Refused(gone)
                    return function(self, *args, **kwargs)
                except Refused as refused:
                    if self.exceptions:
                        raise lgpio_error(self.error_text(refused.code)) from None
                    return [refused.code, *rest] if rest else refused.code  # type: ignore[return-value]

        return call

    return decorate


class LgpioLines(lg):
    """Chips, lines and levels. Each object is like one process: two over the same chip find each other's lines busy."""

    error: type[Exception] = lgpio_error

    def __init__(self, chip: Chip) -> None:
        self.exceptions = True
        self._closed = False  # then everything is given back, and a program that does it in an exit function may
        self._chip = chip
        # Handle 0 belongs to lgpio's callback thread; here it is made when the first callback wants it.
        self._handles: dict[int, dict[int, Held] | Notifications | None] = {0: None}
        self._lost: set[int] = set()
        chip.at_removal.append(self._lose_chip)

    def _lose_chip(self) -> None:
        """Let every line go and fail every later call, because the chip has vanished. The lock is held."""
        for handle, held in self._handles.items():
            if isinstance(held, dict):
                free_all(held)
                self._lost.add(handle)

    def _has_lost(self, handle: object) -> bool:
        """Return whether this is the handle of a chip that has vanished since it was opened."""
        return isinstance(handle, int) and handle & 0xFFFF in self._lost

    def error_text(self, errnum: int) -> str:
        """The text of a negative status."""
        return TEXTS.get(errnum, "unknown error")

    # Chips and lines.

    @status()
    def gpiochip_open(self, gpiochip: int) -> int:
        if gpiochip < 0:
            raise Refused(lg.BAD_GPIOCHIP)
        if gpiochip != 0 or not self._chip.present:
            raise Refused(lg.CANNOT_OPEN_CHIP)
        lines: dict[int, Held] = {number: Held(self._chip.line(number)) for number in range(len(self._chip))}
        return self._new_handle(lines) | gpiochip << 16

    @status()
    def gpiochip_close(self, handle: int) -> int:
        if not self._closed:
            free_all(self._lines(handle))
            del self._handles[handle & 0xFFFF]
            self._lost.discard(handle & 0xFFFF)
        return lg.OKAY

    @status(0, "", "", gone=lg.BAD_CHIPINFO_IOCTL)
    def gpio_get_chip_info(self, handle: int) -> list[int | str]:
        return [lg.OKAY, len(self._lines(handle)), "gpiochip0", self._chip.label]

    @status(0, 0, "", "", gone=lg.BAD_LINEINFO_IOCTL)
    def gpio_get_line_info(self, handle: int, gpio: int) -> list[int | str]:
        held = self._held(handle, gpio)
        return [lg.OKAY, gpio, _mode(held), held.line.name, held.line.consumer or ""]

    @status()
    def gpio_get_mode(self, handle: int, gpio: int) -> int:
        return _mode(self._held(handle, gpio))

    # Claims.

    @status(gone=lg.UNEGPECTED_ERROR)
    def gpio_claim_input(self, handle: int, gpio: int, lFlags: int = 0) -> int:
        return self._claim(handle, [gpio], lFlags, None)

    @status(gone=lg.UNEGPECTED_ERROR)
    def gpio_claim_output(self, handle: int, gpio: int, level: int = 0, lFlags: int = 0) -> int:
        return self._claim(handle, [gpio], lFlags, [level])

    @status(gone=lg.UNEGPECTED_ERROR)
    def group_claim_input(self, handle: int, gpio: Sequence[int], lFlags: int = 0) -> int:
        return self._claim(handle, gpio, lFlags, None)

    @status(gone=lg.UNEGPECTED_ERROR)
    def group_claim_output(
        self,
        handle: int,
        gpio: Sequence[int],
        levels: Sequence[int] = (0,),
        lFlags: int = 0,
    ) -> int:
        return self._claim(handle, gpio, lFlags, [*levels, *[0] * (len(gpio) - len(levels))])

    @status()
    def gpio_free(self, handle: int, gpio: int) -> int:
        if self._closed:
            return lg.OKAY
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

    @status(gone=lg.BAD_READ, reads=True)
    def gpio_read(self, handle: int, gpio: int) -> int:
        held = self._held(handle, gpio)
        if not held.mode:
            self._claim(handle, [gpio], 0, None)
        return held.read()

    @status(gone=lg.BAD_WRITE)
    def gpio_write(self, handle: int, gpio: int, level: int) -> int:
        held = self._held(handle, gpio)
        if held.mode & OUTPUT:
            held.write(1 if level else 0)
            return lg.OKAY
        if held.mode & GROUP:
            raise Refused(lg.GPIO_NOT_AN_OUTPUT)
        return self._claim(handle, [gpio], 0, [level])

    @status(0, gone=lg.BAD_READ, reads=True)
    def group_read(self, handle: int, gpio: int) -> list[int]:
        group = self._leader(handle, gpio).group
        return [len(group), sum(member.read() << place for place, member in enumerate(group))]

    @status(gone=lg.BAD_WRITE)
    def group_write(self, handle: int, gpio: int, group_bits: int, group_mask: int = lg.GROUP_ALL) -> int:
        held = self._leader(handle, gpio)
        if not held.mode & OUTPUT or not group_mask & (1 << len(held.group)) - 1:
            raise Refused(lg.BAD_WRITE)
        held.write_group(group_bits, group_mask)
        return len(held.group)

    # Helpers of the functions; the lock is held.

    def _new_handle(self, what: dict[int, Held] | None) -> int:
        handle = next((number for number in range(_HANDLES) if number not in self._handles), None)
        if handle is None:
            raise Refused(lg.NO_HANDLE)
        self._handles[handle] = what
        return handle

    def _lines(self, handle: int) -> dict[int, Held]:
        found = self._handles.get(handle & 0xFFFF)
        if not isinstance(found, dict):
            raise Refused(lg.BAD_HANDLE)
        return found

    def _held(self, handle: int, gpio: int) -> Held:
        held = self._lines(handle).get(gpio)
        if held is None:
            raise Refused(lg.BAD_GPIO_NUMBER)
        return held

    def _leader(self, handle: int, gpio: int) -> Held:
        held = self._held(handle, gpio)
        if not held.leads:
            raise Refused(lg.NOT_GROUP_LEADER)
        if not held.mode:
            raise Refused(lg.GPIO_NOT_ALLOCATED)
        return held

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
        kind = INPUT if levels is None else OUTPUT
        if len(group) == 1:
            if group[0].mode & kind:
                return lg.OKAY
            if group[0].mode and not group[0].mode & GROUP:
                group[0].free()
        if len(set(numbers)) < len(numbers) or any(member.line.consumer is not None for member in group):
            raise Refused(lg.GPIO_BUSY)
        if not kernel_accepts(flags, output=levels is not None):
            raise Refused(lg.UNEGPECTED_ERROR)
        active_low = flags & lg.SET_ACTIVE_LOW != 0
        for place, member in enumerate(group):
            member.mode = kind | (GROUP if len(group) > 1 else 0)
            member.group = group
            output = None if levels is None else (1 if levels[place] else 0) ^ active_low
            claim(member.line, flags, output)
        return lg.OKAY


def free_all(lines: dict[int, Held]) -> None:
    for held in lines.values():
        if held.mode and held.leads:
            held.free()


def kernel_accepts(flags: int, *, output: bool) -> bool:
    """Return whether the kernel accepts these flags: at most one pull, and at most one drive, for outputs only."""
    pulls = sum(bool(flags & pull) for pull in _PULLS)
    drive = flags & (lg.SET_OPEN_DRAIN | lg.SET_OPEN_SOURCE)
    return pulls <= 1 and drive in _DRIVES and (output or not drive)


def claim(line: Line, flags: int, output: int | None) -> None:
    """Claim a line as the kernel does for lgpio: as an input, or as an output at an electrical level."""
    line.claim(
        CONSUMER,
        flags=flags,
        output=output,
        drive=_DRIVES[flags & (lg.SET_OPEN_DRAIN | lg.SET_OPEN_SOURCE)],
        bias=next((pull for flag, pull in _PULLS.items() if flags & flag), None),
        active_low=flags & lg.SET_ACTIVE_LOW != 0,
    )


def _mode(held: Held) -> int:
    """Return the bits of gpio_get_mode: the kernel's (0 to 7, from 16), and this handle's mode (8 to 11)."""
    line = held.line
    used = 0 if line.consumer is None else 1
    return used | line.flags | (65536 if line.output is None else 2) | held.mode << 8
