"""`TimedSteps`: work in steps with pauses, driven by timers of a loop instead of a thread that sleeps.

gpiozero starts a thread for everything that takes time: blink, pulse, hold, `source`, smoothing. The thread acts,
sleeps, and acts again. Written as a generator that yields its pauses in seconds, the same work can be driven by timers
of a loop as well as by a thread, and can pass from one to the other between two steps.

`TimedSteps` replaces gpiozero's `GPIOThread` and has those of its methods that devices call. Pauses are counted from
the time at which a step was due, so they add up without drift; a step that is late by more than its pause shifts the
rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from gpiozero import DeviceClosed, ZombieThread, threads

from hwloop.core import registry as running
from hwloop.core.event_loop import EventLoop
from hwloop.pins.delivery import Delivery
from hwloop.pins.device_info import device_name, is_closed
from hwloop.pins.last_wait import wait_for_end
from hwloop.pins.signals import Signal, wait_for

Steps = Iterator[float]
"""Work that yields, after each step, the pause before the next one in seconds."""

RETRY = 0.001
"""Seconds until the loop tries again while another thread is still in a step."""


class TimedSteps:
    """Steps driven by timers of the serving loop, or by a thread while no loop serves.

    Parameters:
        delivery: serves the device; knows which loop serves.
        make_steps: returns the steps, called by `start()`.
        name: what the steps do, for reports and as the name of the thread.
        subject: the device; reports name it, and a failure after it was closed is none.
    """

    def __init__(self, delivery: Delivery, make_steps: Callable[[], Steps], name: str, subject: object = None) -> None:
        self.name = name
        self._subject = weakref.ref(subject) if subject is not None else lambda: None
        self._delivery = delivery
        self._make_steps = make_steps
        self._steps: Steps | None = None
        self._lock = threading.RLock()  # held during a step
        self._guard = threading.Lock()  # for the four attributes below; never held while other code runs
        self._driver: object = None  # may take the next step; None after the end
        self._due = 0.0
        self._timer: asyncio.Handle | None = None
        self._thread: _DriverThread | None = None
        self._done = Signal()

    def start(self) -> None:
        """Take the first step now."""
        self._steps = self._make_steps()
        self._due = self._delivery.time()
        self._delivery.start_steps(self)

    def is_alive(self) -> bool:
        """Return whether there are steps to take."""
        return self._steps is not None and not self._done.is_set()

    def end(self) -> None:
        """Take no further step, without waiting for a step in progress."""
        with self._guard:
            self._driver = None
            self._done.set()
            timer, self._timer = self._timer, None
            thread = self._thread
        self._delivery.forget_steps(self)
        if timer is not None:
            _cancel(timer)
        if thread is not None:
            thread.stopping.set()

    def stop(self, timeout: float = 10) -> None:
        """Take no further step and wait for a step in progress.

        Raises `ZombieThread` if that step takes longer than `timeout` seconds.
        """
        thread = self._thread
        self.end()
        if not wait_for_end(self.describe(), thread, self._wait_for_step, timeout):
            raise ZombieThread(f"{self.name} failed to stop within {timeout} seconds")
        if thread is not None and thread is not threading.current_thread() and self._wait_for_step(0):
            thread.join(timeout)  # returns at once: the thread has no step to take

    def _wait_for_step(self, timeout: float) -> bool:
        """Wait for a step in progress, and return whether it has ended."""
        if self._lock.acquire(timeout=timeout):
            self._lock.release()
            return True
        return False

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end.

        Raises `RuntimeError`, and stops, on the loop that drives the steps: it would wait for itself. Raises
        `ZombieThread` after `timeout` seconds.
        """
        if self.is_alive() and self._delivery.handlers.blocks_loop():
            self.stop()
            raise RuntimeError(
                f"{self.name} is driven by this loop, which can't wait for it: use background=True (the default)"
            )
        if not wait_for(self._done, timeout, self._delivery):
            raise ZombieThread(f"{self.name} failed to end within {timeout} seconds")
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def carry_on(self, loop: EventLoop | None) -> None:
        """Hand the remaining steps to `loop`, or to a thread for None, without waiting for a step in progress."""
        with self._guard:
            if self._done.is_set() or self._steps is None:
                return
            before, self._timer = self._timer, None
            if self._thread is not None:
                self._thread.stopping.set()
                self._thread = None
            self._driver = driver = object()
            if loop is None:
                self._thread = _DriverThread(self, driver)
                try:
                    self._thread.start()
                except RuntimeError:  # the program has ended: Python 3.12 and later start no thread any more
                    self._thread = self._driver = None
                    self._done.set()
            elif running.thread_of(loop) == threading.get_ident():
                self._timer = loop.call_at(self._due, self._on_timer, loop, driver)
            else:
                with contextlib.suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(self._on_timer, loop, driver)
        if before is not None:
            _cancel(before)

    def _on_timer(self, loop: EventLoop, driver: object) -> None:
        when = self._due
        if loop.time() >= when:
            if self._lock.acquire(blocking=False):
                try:
                    self.step(driver)
                finally:
                    self._lock.release()
                when = self._due
            else:
                when = loop.time() + RETRY  # the thread that drove the steps before is still in one
        with self._guard:
            if self._driver is driver:
                self._timer = loop.call_at(when, self._on_timer, loop, driver)

    def pause(self) -> float:
        """Return the seconds until the next step."""
        return max(0.0, self._due - self._delivery.time())

    def step(self, driver: object) -> bool:
        """Take a step if `driver` still drives. Return whether it may take another one."""
        with self._lock:
            if self._driver is not driver or self._steps is None:
                return False
            try:
                pause = next(self._steps)
            except (StopIteration, ReferenceError, DeviceClosed):  # done, or the device has gone
                self.end()
                return False
            except BaseException as error:
                self.end()
                if isinstance(error, SystemExit | KeyboardInterrupt) or not self._subject_closed():
                    self._delivery.handlers.failed(error, f"{self.describe()} failed and has ended")
                return False
            self._due = self._next_due(pause, self._delivery.time())
            return self._driver is driver

    def _next_due(self, pause: float, now: float) -> float:
        return self._due + pause if self._due + pause > now else now

    def _subject_closed(self) -> bool:
        subject = self._subject()
        return subject is not None and is_closed(subject)

    def describe(self) -> str:
        """Return what the steps do, and to which device."""
        subject = self._subject()
        return self.name if subject is None else f"{self.name.partition(' of ')[0]} of {device_name(subject)}"

    def leave_to_parent(self) -> None:
        """End in a forked child: the thread that drives the steps, perhaps in one now, belongs to the parent."""
        self._lock, self._guard = threading.RLock(), threading.Lock()
        self._driver = self._timer = self._thread = None
        self._done = Signal()
        self._done.set()


class _DriverThread(threading.Thread):
    """Drives steps while no loop serves. Not a `GPIOThread`: gpiozero joins those at exit, started or not."""

    def __init__(self, steps: TimedSteps, driver: object) -> None:
        super().__init__(target=self._drive, args=(steps, driver), name=steps.name, daemon=True)
        self.stopping: threading.Event = threads.Event()  # gpiozero's own kind, as its threads have

    def _drive(self, steps: TimedSteps, driver: object) -> None:
        pause = steps.pause()
        if not (pause and self.stopping.wait(pause)):
            while steps.step(driver) and not self.stopping.wait(steps.pause()):
                pass


def _cancel(timer: asyncio.Handle) -> None:
    """Cancel a timer in the thread of its loop."""
    loop: Any = timer._loop  # type: ignore[attr-defined]
    if loop is None or loop.is_closed() or running.thread_of(loop) in (None, threading.get_ident()):
        timer.cancel()
    else:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(timer.cancel)
