"""lgpio's chips, claims and levels, over a simulated chip: all of lgpio that needs no FIFO.

The order of lgpio's checks is kept, because it decides which error a wrong call gets.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from firmware_sim.libraries.lgpio.alerts import Alert
from firmware_sim.libraries.lgpio.calls import Arguments, Unsigned, answer
from firmware_sim.libraries.lgpio.constants import Constants as lg
from firmware_sim.libraries.lgpio.constants import Refused
from firmware_sim.libraries.lgpio.constants import error as lgpio_error
from firmware_sim.libraries.lgpio.constants import error_text as text_of
from firmware_sim.libraries.lgpio.handles import Handles
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


class OpenChip:
    """A chip handle. `lost` is set when the chip vanishes."""

    def __init__(self, chip: Chip) -> None:
        self.lines: dict[int, Held] = {number: Held(chip.line(number)) for number in range(len(chip))}
        self.lost = False

    def free_all(self) -> None:
        """Free every line."""
        for held in self.lines.values():
            if held.mode and held.leads:
                held.free()


def status(
    *rest: object, gone: int | None = None, reads: bool = False, order: tuple[str, ...] = (), chip: bool = True
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Run a function under the board's lock, after all actions that are due by then, and fail as lgpio does.

    That is an `error`, or with `exceptions` set to False the negative status itself, followed by `rest` in a list
    where the function returns a list. `gone` is the status for a handle whose chip has vanished. A function that reads
    lines (`reads`) counts as a read of the program. `order` and `chip` are those of `Arguments`.
    """

    def decorate(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        expected = Arguments(function, order, chip=chip)
        only_int = {int}.issuperset

        @functools.wraps(function)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if kwargs or not only_int(map(type, args)):
                expected.check(self, args, kwargs)
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
                    expected.check(self, args, kwargs)  # a number that is no C int
                    return answer(self, refused, rest)  # type: ignore[no-any-return]

        return call

    return decorate


class LgpioLines(lg):
    """Chips, lines and levels. Each object is like one process: two over the same chip find each other's lines busy."""

    error: type[Exception] = lgpio_error

    def __init__(self, chip: Chip) -> None:
        self.exceptions: bool = True
        self.handles: Handles = Handles()
        self._closed = False  # then everything is given back, and a program that does it in an exit function may
        self._chip = chip
        chip.at_removal.append(self._lose_chip)

    def _lose_chip(self) -> None:
        """Let every line go and fail every later call, because the chip has vanished. The lock is held."""
        for opened in self.handles.values():
            if isinstance(opened, OpenChip):
                opened.free_all()
                opened.lost = True

    def _has_lost(self, handle: object) -> bool:
        """Return whether this is the handle of a chip that has vanished since it was opened."""
        opened = self.handles.get(handle & 0xFFFF) if isinstance(handle, int) else None
        return isinstance(opened, OpenChip) and opened.lost

    def error_text(self, errnum: int) -> str:
        """Return the text of a negative status."""
        return text_of(errnum)

    # Chips and lines.

    @status(chip=False)
    def gpiochip_open(self, gpiochip: int) -> int:
        if gpiochip < 0:
            raise Refused(lg.BAD_GPIOCHIP)
        if gpiochip != 0 or not self._chip.present:
            raise Refused(lg.CANNOT_OPEN_CHIP)
        return self.handles.add(OpenChip(self._chip)) | gpiochip << 16

    @status()
    def gpiochip_close(self, handle: int) -> int:
        if not self._closed:
            self.handles.take(handle & 0xFFFF, OpenChip).free_all()
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

    @status(gone=lg.UNEGPECTED_ERROR, order=("handle", "lFlags"))
    def gpio_claim_input(self, handle: int, gpio: int, lFlags: int = 0) -> int:
        return self._claim(handle, [gpio], lFlags, None)

    @status(gone=lg.UNEGPECTED_ERROR, order=("handle", "lFlags"))
    def gpio_claim_output(self, handle: int, gpio: int, level: int = 0, lFlags: int = 0) -> int:
        return self._claim(handle, [gpio], lFlags, [level])

    @status(gone=lg.UNEGPECTED_ERROR, order=("handle", "lFlags"))
    def group_claim_input(self, handle: int, gpio: Sequence[int], lFlags: int = 0) -> int:
        _check_packs(gpio)
        return self._claim(handle, gpio, lFlags, None)

    @status(gone=lg.UNEGPECTED_ERROR, order=("handle", "lFlags"))
    def group_claim_output(
        self,
        handle: int,
        gpio: Sequence[int],
        levels: Sequence[int] = [0],  # as in lgpio
        lFlags: int = 0,
    ) -> int:
        _check_packs([*gpio, *levels])
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

    @status()
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
    def group_write(self, handle: int, gpio: int, group_bits: Unsigned, group_mask: Unsigned = lg.GROUP_ALL) -> int:
        held = self._leader(handle, gpio)
        if not held.mode & OUTPUT or not group_mask & (1 << len(held.group)) - 1:
            raise Refused(lg.BAD_WRITE)
        held.write_group(group_bits, group_mask)
        return len(held.group)

    # Helpers of the functions; the lock is held.

    def _lines(self, handle: int) -> dict[int, Held]:
        return self.handles.find(handle & 0xFFFF, OpenChip).lines

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
        if not numbers:
            return lg.OKAY
        if len(numbers) > _MAX_GROUP:
            raise ValueError("Expecting 1-64 GPIO")
        lines = self._lines(handle)
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


def _check_packs(numbers: Sequence[int]) -> None:
    """Raise the error that lgpio gets from `struct` for anything but numbers of 32 bits."""
    for each in numbers:
        struct.pack("I", each)


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
