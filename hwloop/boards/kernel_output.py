"""An output that needs only the descriptor of its request, and so can be taken over from another process.

The descriptor may come from the kernel, or from a guardian that has kept it while no program was there. A line that is
taken over is never released in between, so its level does not change. Where the program now asks for another drive or
polarity, one call of the kernel (GPIO_V2_LINE_SET_CONFIG) changes them at the present electrical level.
"""

from __future__ import annotations

import errno
import logging
import os
import weakref
from collections.abc import Callable

from hwloop.boards.chip import GpioChip
from hwloop.boards.line_request import (
    ACTIVE_LOW,
    OPEN_DRAIN,
    OPEN_SOURCE,
    OUTPUT,
    SYSTEM,
    Calls,
    LineRequest,
    line_state,
    request_line,
)
from hwloop.errors import HardwareError
from hwloop.lines import Drive, EdgeStream, OutputLine
from hwloop.requests import OutputRequest

logger: logging.Logger = logging.getLogger("hwloop")

_DRIVES: dict[Drive, int] = {"push-pull": 0, "open-drain": OPEN_DRAIN, "open-source": OPEN_SOURCE}
_SETTINGS = ACTIVE_LOW | OUTPUT | OPEN_DRAIN | OPEN_SOURCE

_open: weakref.WeakSet[KernelOutput] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for each in tuple(_open):
        each.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


class KernelOutput(OutputLine):
    """A line that is driven by the kernel's own calls. See `claim_output` and `adopt_output`.

    Parameters:
        chip: its chip.
        number: its number there.
        request: the request of the program.
        line: the line as the kernel has granted it.
        shareable: whether another process can hold its descriptor.
    """

    def __init__(
        self, chip: GpioChip, number: int, request: OutputRequest, line: LineRequest, *, shareable: bool
    ) -> None:
        self._chip = chip
        self._number = number
        self._request = request
        self._line = line
        self._shareable = shareable
        chip.users[number] = request.consumer
        _open.add(self)

    @property
    def forked(self) -> bool:
        return self._chip.forked

    def fileno(self) -> int:
        return self._line.fd if self._shareable else -1

    def set(self, value: int) -> None:
        self._check_open()
        try:
            self._line.set(value)
        except OSError as error:
            raise self._failure("can't be set", error) from error

    def get(self) -> int:
        self._check_open()
        try:
            return self._line.get()
        except OSError as error:
            raise self._failure("can't be read", error) from error

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        raise HardwareError(
            f"edges of line {self._request.line}", "a kept output reports none", "open it without keep=True"
        )

    def pwm(self, frequency: float, duty: float) -> None:
        raise HardwareError(
            f"PWM on line {self._request.line}",
            "a kept output has none",
            "open it without keep=True, or use blink(on, off)",
        )

    def close(self) -> None:
        if self._line.fd >= 0:
            self._line.close()
            self._chip.users.pop(self._number, None)
            _open.discard(self)

    def leave_to_parent(self) -> None:
        """Close the descriptor in a forked child, which would keep the line when its parent has ended."""
        self._line.close()

    def _check_open(self) -> None:
        name = f"line {self._request.line}"
        self._chip.check_process(name)
        if self._line.fd < 0:
            raise HardwareError(name, "this output is closed", "open a new one")

    def _failure(self, what: str, error: OSError) -> HardwareError:
        name = f"line {self._request.line}"
        if error.errno == errno.ENODEV:
            return self._chip.vanished(name)
        return HardwareError(name, f"{what}: {_text(error)}", errno=error.errno)


def claim_output(
    chip: GpioChip, node: str, request: OutputRequest, calls: Calls = SYSTEM, *, shareable: bool = True
) -> KernelOutput:
    """Claim the line of `request` on the chip at `node`. Raises `HardwareError`."""
    number = chip.find(request.line)
    chip.check_free({number: request.line})
    flags = _flags(request)
    try:
        if request.initial is not None:
            line = request_line(node, number, request.consumer, flags, request.initial, calls)
        else:
            # Taken as it is, so that an output goes on driving; it becomes an output at that level then.
            line = request_line(node, number, request.consumer, flags & ACTIVE_LOW, 0, calls)
            try:
                line.configure(flags, line.get())
            except BaseException:
                line.close()
                raise
    except OSError as error:
        raise chip.refusal({number: request.line}, _text(error), error.errno) from error
    return KernelOutput(chip, number, request, line, shareable=shareable)


def adopt_output(
    chip: GpioChip, node: str, request: OutputRequest, fd: int, calls: Calls = SYSTEM, *, shareable: bool = True
) -> KernelOutput:
    """Take over the descriptor `fd` of a line that another program has claimed, at the level that the line has.

    `request.initial` does not apply. The descriptor belongs to this call, which closes it if it fails. Raises
    `HardwareError`.
    """
    line = LineRequest(fd, calls)
    try:
        number = chip.find(request.line)
        chip.check_free({number: request.line})
        before = line_state(node, number, calls)
        value = line.get()
        wanted, found = _flags(request), before.flags & _SETTINGS
        if wanted != found:
            electrical = value ^ bool(found & ACTIVE_LOW)
            line.configure(wanted, electrical ^ request.active_low)
            logger.warning(
                "line %s was kept with %s, and goes on with %s; it stays electrically %s",
                request.line,
                _described(found),
                _described(wanted),
                ("low", "high")[electrical],
            )
    except BaseException as error:
        line.close()
        if isinstance(error, OSError) and not isinstance(error, HardwareError):
            name = f"line {request.line}"
            if error.errno == errno.ENODEV:
                raise chip.vanished(name) from error
            raise HardwareError(
                name, f"the kept line can't be taken over: {_text(error)}", errno=error.errno
            ) from error
        raise
    return KernelOutput(chip, number, request, line, shareable=shareable)


def _flags(request: OutputRequest) -> int:
    return OUTPUT | _DRIVES[request.drive] | (ACTIVE_LOW if request.active_low else 0)


def _described(flags: int) -> str:
    drive = next(name for name, flag in reversed(_DRIVES.items()) if flags & flag == flag)
    direction = "" if flags & OUTPUT else ", as an input"
    return f"drive={drive!r}, active_low={flags & ACTIVE_LOW != 0}{direction}"


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
