"""`SampleQueue`: the samples of a smoothed input, taken by timers of the loop instead of gpiozero's thread."""

from __future__ import annotations

from typing import Any

from gpiozero import DeviceClosed, EventsMixin

from hwloop.pins.delivery import Delivery
from hwloop.pins.device_info import is_closed
from hwloop.pins.device_steps import SHORTEST
from hwloop.pins.gpiozero_classes import GPIOQueue
from hwloop.pins.timed_steps import Steps, TimedSteps


class SampleQueue(GPIOQueue):
    """gpiozero's `GPIOQueue` without its thread, for devices whose samples need no waiting.

    Parameters:
        parent: the device to sample.
        delivery: serves the device.
        args, options: those of `GPIOQueue`.
    """

    def __init__(self, parent: Any, delivery: Delivery, *args: Any, **options: Any) -> None:
        super().__init__(parent, *args, **options)
        self._delivery = delivery
        self._sampling = TimedSteps(delivery, self._samples, f"smoothing of {type(parent).__name__}", parent)

    def start(self) -> None:
        self._sampling.start()

    def stop(self, timeout: float = 10) -> None:
        self._sampling.stop(timeout)

    @property
    def value(self) -> float:
        """The average of the samples. Raises `RuntimeError` on a loop that would have to wait for its own samples."""
        if not self.partial and not self.full.is_set() and self._delivery.handlers.blocks_loop():
            raise RuntimeError(
                f"{self.parent.__class__.__name__} has only {len(self.queue)} of {self.queue.maxlen} samples, and "
                "waiting for the rest would block the loop that takes them: pass partial=True, or ask again later"
            )
        return float(super().value)

    def _samples(self) -> Steps:
        pause = max(self.sample_wait, SHORTEST)
        failing = False
        yield pause
        while True:
            try:
                self._take_sample()
                failing = False
            except (ReferenceError, DeviceClosed):
                return
            except BaseException as error:
                if isinstance(error, Exception) and is_closed(self.parent):
                    return
                if not failing or isinstance(error, SystemExit | KeyboardInterrupt):
                    self._delivery.handlers.failed(
                        error, f"{self._sampling.describe()} failed, and goes on with the next sample"
                    )
                failing = True
            yield pause

    def _take_sample(self) -> None:
        parent = self.parent
        sample = parent._read()
        if sample not in self.ignore:
            self.queue.append(sample)
        if len(self.queue) == self.queue.maxlen:
            self.full.set()
        if (self.partial or self.full.is_set()) and isinstance(parent, EventsMixin):
            parent._fire_events(parent.pin_factory.ticks(), parent.is_active)
