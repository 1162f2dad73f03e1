"""GPIO lines that we drive, and that end at a safe level.

A line goes on driving what it was last set to when the program that set it is gone, so an output says beforehand at
what level it is to be left. `close()` sees to that, and `make_safe()` for all that are open, on a program's way out.
"""

from __future__ import annotations

from typing import Self

from hwloop import board as boards
from hwloop.board import Drive, LineName, OutputLine
from hwloop.sources.gpio_checks import Level, check_bool, check_choice, check_level, check_line


class Output:
    """A line that we drive. `hwloop.gpio.output` is this class.

    Parameters:
        line: BCM number or the kernel's name.
        initial: the logical level to begin with.
        safe: the level to leave it at when it is closed, however that comes about; None leaves it as it was set.
        drive: "push-pull", "open-drain" (drives low only) or "open-source" (drives high only).
        active_low: whether 1 is electrically low.
        name: for messages.

    Use it with `async with` or `with`, or call `open()` and `close()`. Opening raises `HardwareError`.
    """

    def __init__(
        self,
        line: LineName,
        *,
        initial: Level = 0,
        safe: Level | None = None,
        drive: Drive = "push-pull",
        active_low: bool = False,
        name: str | None = None,
    ) -> None:
        check_line(line)
        check_level("initial", initial)
        if safe is not None:
            check_level("safe", safe)
        check_choice("drive", drive, Drive)
        check_bool("active_low", active_low)
        self.line = line
        self.name = name or f"gpio:{line}"
        self.safe = safe
        self._level = initial
        self._drive: Drive = drive
        self._active_low = active_low
        self._device: OutputLine | None = None
        self._closed = False

    def open(self) -> Self:
        """Claim the line and drive it to its initial level."""
        if self._device is not None or self._closed:
            raise RuntimeError(f"{self.name} is {'closed; make a new one' if self._closed else 'open already'}")
        self._device = boards.current().open_output(
            self.line, initial=self._level, drive=self._drive, active_low=self._active_low, consumer=self.name
        )
        _open_outputs.append(self)
        return self

    def close(self) -> None:
        """Set the safe level, if there is one, and give the line back. Harmless when repeated."""
        self._closed = True
        if self._device is None:
            return
        device, self._device = self._device, None
        _open_outputs.remove(self)
        try:
            if self.safe is not None:
                device.set(self.safe)
        finally:
            device.close()

    def set(self, value: Level) -> None:
        """Drive the line to a logical level."""
        check_level("a level", value)
        self._opened().set(value)
        self._level = value

    def toggle(self) -> None:
        """Drive the line to the other level than it was last set to."""
        self.set(0 if self._level else 1)

    @property
    def value(self) -> int:
        """The line's logical level now. Another part of the circuit may hold it elsewhere than it was set."""
        return self._opened().get()

    def _opened(self) -> OutputLine:
        if self._device is None:
            raise RuntimeError(f"{self.name} is not open; use 'async with', 'with' or open()")
        return self._device

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._device is not None else "closed" if self._closed else "new"
        return f"<Output {self.name} {state}>"


_open_outputs: list[Output] = []


def outputs() -> list[Output]:
    """The outputs that are open in this process, in the order in which they were opened."""
    return list(_open_outputs)


def make_safe() -> None:
    """Set every open output that has a safe level to it; each is tried, whatever becomes of the others.

    For the way out of a program, and for an emergency stop. Raises an ExceptionGroup of what failed.
    """
    failures = []
    for each in outputs():
        try:
            if each.safe is not None:
                each.set(each.safe)
        except Exception as error:
            failures.append(error)
    if failures:
        raise ExceptionGroup("outputs that could not be set to their safe level", failures)
