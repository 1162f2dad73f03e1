"""One line that lgpio drives, and whose edges it reports while the line is released.

The fact that shaped it: lgpio frees a claimed line by itself when the same process claims it as something else, and
nobody else can have it before the new claim. So an output becomes an alert, and an output again, in one call each.
"""

from __future__ import annotations

from collections.abc import Callable

from hwloop.boards.chip_output import ChipOutput
from hwloop.boards.lgpio.chip import LgpioChip
from hwloop.boards.lgpio.edges import LgpioEdges
from hwloop.errors import HardwareError
from hwloop.lines import EdgeStream
from hwloop.requests import EdgeRequest, OutputRequest


class LgpioOutput(ChipOutput):
    """An output through lgpio. Raises `HardwareError` where the line is not available."""

    def __init__(self, chip: LgpioChip, request: OutputRequest) -> None:
        number = chip.find(request.line)
        chip.check_free({number: request.line})
        lgpio = chip.lgpio
        self._chip = chip
        self._notify = 0
        self._pulses = False
        self._low = lgpio.SET_ACTIVE_LOW if request.active_low else 0
        self._flags = (
            self._low
            | {
                "push-pull": 0,
                "open-drain": lgpio.SET_OPEN_DRAIN,
                "open-source": lgpio.SET_OPEN_SOURCE,
            }[request.drive]
        )

        def claim() -> int:
            initial = request.initial
            level = initial if initial is not None else chip.level_of(number) ^ request.active_low
            return lgpio.gpio_claim_output(chip.handle, number, level, self._flags)

        chip.claim(number, request.line, claim)
        chip.users[number] = request.consumer
        super().__init__(chip, number, request, request.initial)

    def set(self, value: int) -> None:
        if self._pulses:
            self.check_open()
            self._end_pulses()
        super().set(value)

    def get(self) -> int:
        self.check_open()
        return self._chip.read(self.number, self.request.line)

    def watch(self, kept: Callable[[], object]) -> EdgeStream:
        self.check_open()
        if self.request.released_level is not None:
            self._end_pulses()
        return super().watch(kept)

    def pwm(self, frequency: float, duty: float) -> None:
        self.check_open()
        if self.edges is not None:
            raise HardwareError(f"line {self.request.line}", "lgpio sends no pulses on a line whose edges it reports")
        self._chip.send_pwm(self.number, self.request.line, frequency, duty)
        self._pulses = True

    def write(self, value: int) -> None:
        self._chip.write(self.number, self.request.line, value)

    def make_output(self, value: int) -> None:
        chip, number = self._chip, self.number
        if number in chip.alerts:
            chip.switch(
                number,
                self.request.line,
                lambda: chip.lgpio.gpio_claim_output(chip.handle, number, value, self._flags),
                alert=False,
            )
        else:
            self.write(value)

    def make_input(self) -> None:
        # Nothing proves here that lgpio's thread is awake, as a watch does: a sensor's answer takes less time.
        chip, number, lgpio = self._chip, self.number, self._chip.lgpio
        chip.switch(
            number,
            self.request.line,
            lambda: lgpio.gpio_claim_alert(chip.handle, number, lgpio.BOTH_EDGES, self._low, self._notify),
            alert=True,
        )

    def open_stream(self) -> LgpioEdges:
        asked = self.request
        watch = EdgeRequest([asked.line], active_low=asked.active_low, consumer=asked.consumer)
        stream = LgpioEdges(self._chip, watch, {self.number: asked.line}, borrowed=True)
        self._notify = stream.notify
        return stream

    def give_back(self) -> None:
        self._chip.free(self.number)

    def _end_pulses(self) -> None:
        if self._pulses:
            self._chip.send_pwm(self.number, self.request.line, 0, 0)
            self._pulses = False
