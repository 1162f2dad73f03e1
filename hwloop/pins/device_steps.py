"""The background work of gpiozero's devices as steps with pauses: blink, pulse, `source`, multiplexed characters.

Each function replaces the method of the same devices that gpiozero runs in a thread (`gpiozero_patch` pairs them) and
yields its pauses in seconds; `TimedSteps` drives them. The devices' private attributes are used as those methods use
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hwloop.pins.device_info import is_closed
from hwloop.pins.timed_steps import Steps

SHORTEST = 0.001
"""The shortest pause in seconds after a sample, a value of a source, or a whole cycle of blinking.
gpiozero takes 0 for "as fast as the thread can", which on a loop would use all of its time."""


def blink_digital(device: Any, on_time: float, off_time: float, n: int | None) -> Steps:
    for value, pause in _repeated(n, [(True, on_time), (False, off_time)]):
        device._write(value)
        yield pause


def blink_pwm(
    device: Any, on_time: float, off_time: float, fade_in: float, fade_out: float, n: int | None, fps: int = 25
) -> Steps:
    for share, pause in _repeated(n, _fade(on_time, off_time, fade_in, fade_out, fps)):
        device._write(share)
        yield pause


def blink_colour(
    device: Any,
    on_time: float,
    off_time: float,
    fade_in: float,
    fade_out: float,
    on_colour: Sequence[float],
    off_colour: Sequence[float],
    n: int | None,
    fps: int = 25,
) -> Steps:
    for led in device._leds:
        led._controller = device
    for share, pause in _repeated(n, _fade(on_time, off_time, fade_in, fade_out, fps)):
        for led, on, off in zip(device._leds, on_colour, off_colour, strict=True):
            led._write((1 - share) * off + share * on)
        yield pause


def blink_board(
    board: Any, on_time: float, off_time: float, fade_in: float, fade_out: float, n: int | None, fps: int = 25
) -> Steps:
    with board._blink_lock:
        board._blink_leds = list(board.leds)
        for led in board._blink_leds:
            if led._controller not in (None, board):
                led._controller._stop_blink(led)
            led._controller = board
    for share, pause in _repeated(n, _fade(on_time, off_time, fade_in, fade_out, fps)):
        with board._blink_lock:
            if not board._blink_leds:
                return
            for led in board._blink_leds:
                led._write(share)
        yield pause


def follow_source(device: Any, source: Iterable[object]) -> Steps:
    for value in source:
        device.value = value
        yield max(device._source_delay, SHORTEST)


def show_characters(display: Any, transitions: Sequence[Sequence[tuple[Any, Any]]]) -> Steps:
    for transition in itertools.cycle(transitions):
        for device, value in transition:
            device.value = value
        yield max(display._plex_delay, SHORTEST)


def values_until_closed(device: Any) -> Iterator[object]:
    """Yield the values of a device. Ends when the device is closed, even if that happens while it is read."""
    while True:
        try:
            value = device.value
        except Exception:
            if is_closed(device):
                return
            raise
        yield value


def _repeated(n: int | None, cycle: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Repeat a cycle of values and pauses `n` times, or forever for None."""
    value, pause = cycle[-1]
    missing = max(0.0, SHORTEST - sum(pause for _, pause in cycle))
    cycle = [*cycle[:-1], (value, pause + missing)]
    repeats = itertools.repeat(cycle) if n is None else itertools.repeat(cycle, n)
    return itertools.chain.from_iterable(repeats)


def _fade(on_time: float, off_time: float, fade_in: float, fade_out: float, fps: int) -> list[tuple[float, float]]:
    """Return one cycle: brightness from 0 to 1, and its duration in seconds."""
    rising = [(step / fps / fade_in, 1 / fps) for step in range(int(fps * fade_in))]
    falling = [(1 - step / fps / fade_out, 1 / fps) for step in range(int(fps * fade_out))]
    return [*rising, (1, on_time), *falling, (0, off_time)]
