"""What gpiozero does in threads, as steps with pauses: hold, blink, pulse, source, smoothing.

gpiozero gives each of these a thread that acts, sleeps and acts again. Written as a generator that yields its pauses
(in seconds), the same work can be driven by timers of a loop as well as by a thread, and pass from one to the other
between two steps: `Job` does that. A job stands in for gpiozero's `GPIOThread` and has those of its methods that
devices call. Times add up without drift; a step that comes late by more than its pause shifts the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gpiozero import DeviceClosed, EventsMixin, ZombieThread, threads
from gpiozero.mixins import GPIOQueue

from hwloop.core import registry as running
from hwloop.core.event_loop import EventLoop
from hwloop.pins.dispatch import Dispatch
from hwloop.pins.parts import device_name, is_closed

Steps = Iterator[float]
"""Work that yields after each step for how many seconds to pause."""

_SHORTEST = 0.001
"""Seconds that a sample, a value of a source and a whole cycle of blinking last, at least.
gpiozero takes 0 for "as fast as the thread can", which on a loop would be all of its time."""


class Job:
    """Steps driven by the serving loop's timers, or by a thread while there is none.

    `name` says what the steps do, `subject` what they do it to: a report of their failure names both.
    """

    def __init__(self, dispatch: Dispatch, steps: Callable[[], Steps], name: str, subject: object = None) -> None:
        self.name = name
        """What it does, and the kind of device."""
        self._subject = weakref.ref(subject) if subject is not None else lambda: None
        self._dispatch = dispatch
        self._make_steps = steps
        self._steps: Steps | None = None
        self._lock = threading.RLock()  # held during a step
        self._guard = threading.Lock()  # for the four below, never held while anything runs
        self._driver: object = None  # who may take the next step; None when it has ended
        self._due = 0.0
        self._timer: asyncio.Handle | None = None
        self._thread: _Driver | None = None
        self._done = threading.Event()

    def start(self) -> None:
        self._steps = self._make_steps()
        self._due = self._dispatch.time()
        self._dispatch.start_job(self)

    def is_alive(self) -> bool:
        return self._steps is not None and not self._done.is_set()

    def end(self) -> None:
        """Take no further step; one that is under way goes on."""
        with self._guard:
            self._driver = None
            self._done.set()
            timer, self._timer = self._timer, None
            thread = self._thread
        self._dispatch.forget_job(self)
        if timer is not None:
            _cancel(timer)
        if thread is not None:
            thread.stopping.set()

    def stop(self, timeout: float = 10) -> None:
        """Take no further step. A step under way is waited for; `ZombieThread` if that takes over `timeout` seconds."""
        thread = self._thread
        self.end()
        if not self._lock.acquire(timeout=timeout):
            raise ZombieThread(f"{self.name} failed to stop within {timeout} seconds")
        self._lock.release()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)  # it has no step to take, and ends at once

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end. On the loop that drives it, and would wait for itself: RuntimeError, and it is stopped."""
        if self.is_alive() and self._dispatch.handlers.blocks_loop():
            self.stop()
            raise RuntimeError(
                f"{self.name} is driven by this loop, which can't wait for it: use background=True (the default)"
            )
        if not self._done.wait(timeout):
            raise ZombieThread(f"{self.name} failed to end within {timeout} seconds")
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def carry_on(self, loop: EventLoop | None) -> None:
        """Go on where it is, driven by `loop` or by a thread. A step under way is not waited for."""
        with self._guard:
            if self._done.is_set() or self._steps is None:
                return
            before, self._timer = self._timer, None
            if self._thread is not None:
                self._thread.stopping.set()
                self._thread = None
            self._driver = driver = object()
            if loop is None:
                self._thread = _Driver(self, driver)
                try:
                    self._thread.start()
                except RuntimeError:  # the program has ended, and Python 3.12 and later start no thread any more
                    self._thread = self._driver = None
                    self._done.set()
            elif running.thread_of(loop) == threading.get_ident():
                self._timer = loop.call_at(self._due, self._on_timer, loop, driver)
            else:
                with contextlib.suppress(RuntimeError):  # it has just been closed
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
                when = loop.time() + 0.001  # the thread that drove it before is still in a step
        with self._guard:
            if self._driver is driver:
                self._timer = loop.call_at(when, self._on_timer, loop, driver)

    def pause(self) -> float:
        """Seconds until the next step."""
        return max(0.0, self._due - self._dispatch.time())

    def step(self, driver: object) -> bool:
        """Take a step, if `driver` is still the one to take it. False when there are no more."""
        with self._lock:
            if self._driver is not driver or self._steps is None:
                return False
            try:
                pause = next(self._steps)
            except (StopIteration, ReferenceError, DeviceClosed):  # or the device is gone
                self.end()
                return False
            except BaseException as error:
                self.end()
                if isinstance(error, SystemExit | KeyboardInterrupt) or not self._subject_closed():
                    self._dispatch.handlers.failed(error, f"{self.describe()} failed and has ended")
                return False
            self._due = self._next_due(pause, self._dispatch.time())
            return self._driver is driver

    def _next_due(self, pause: float, now: float) -> float:
        return self._due + pause if self._due + pause > now else now

    def _subject_closed(self) -> bool:
        subject = self._subject()
        return subject is not None and is_closed(subject)

    def describe(self) -> str:
        """Return what the job does, and to which device."""
        subject = self._subject()
        return self.name if subject is None else f"{self.name.partition(' of ')[0]} of {device_name(subject)}"

    def leave_to_parent(self) -> None:
        """End, in a forked child: the thread that drives it, and may be in a step now, is the parent's alone."""
        self._lock, self._guard = threading.RLock(), threading.Lock()
        self._driver = self._timer = self._thread = None
        self._done = threading.Event()
        self._done.set()


class _Driver(threading.Thread):
    """The thread of a job that no loop drives. None of gpiozero's, which joins its own at exit, started or not."""

    def __init__(self, job: Job, token: object) -> None:
        super().__init__(target=self._drive, args=(job, token), name=job.name, daemon=True)
        self.stopping: threading.Event = threads.Event()  # the same that gpiozero's threads wait for

    def _drive(self, job: Job, token: object) -> None:
        pause = job.pause()
        if not (pause and self.stopping.wait(pause)):
            while job.step(token) and not self.stopping.wait(job.pause()):
                pass


def _cancel(timer: asyncio.Handle) -> None:
    """Cancel a timer of a loop, in whatever thread that runs."""
    loop: Any = timer._loop  # type: ignore[attr-defined]
    if loop is None or loop.is_closed() or running.thread_of(loop) in (None, threading.get_ident()):
        timer.cancel()
    else:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(timer.cancel)


class Queue(GPIOQueue):  # type: ignore[misc]
    """gpiozero's queue of samples, filled by a job. For devices that take a sample without waiting for anything."""

    def __init__(self, parent: Any, dispatch: Dispatch, *args: Any, **options: Any) -> None:
        super().__init__(parent, *args, **options)
        self._dispatch = dispatch
        self._job = Job(dispatch, self._samples, f"smoothing of {type(parent).__name__}", parent)

    def start(self) -> None:
        self._job.start()

    def stop(self, timeout: float = 10) -> None:
        self._job.stop(timeout)

    @property
    def value(self) -> float:
        if not self.partial and not self.full.is_set() and self._dispatch.handlers.blocks_loop():
            raise RuntimeError(
                f"{self.parent.__class__.__name__} has taken {len(self.queue)} of {self.queue.maxlen} samples, and "
                "this loop takes them: make it with partial=True, or ask after a moment"
            )
        return float(super().value)

    def _samples(self) -> Steps:
        pause = max(self.sample_wait, _SHORTEST)
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
                    self._dispatch.handlers.failed(
                        error, f"{self._job.describe()} failed, and goes on with the next sample"
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


# The steps. What they stand in for are the methods of the same devices that run in a thread.


def blink_digital(device: Any, on_time: float, off_time: float, n: int | None) -> Steps:
    for value, pause in _times(n, [(True, on_time), (False, off_time)]):
        device._write(value)
        yield pause


def blink_pwm(
    device: Any, on_time: float, off_time: float, fade_in: float, fade_out: float, n: int | None, fps: int = 25
) -> Steps:
    for share, pause in _times(n, _fade(on_time, off_time, fade_in, fade_out, fps)):
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
    for share, pause in _times(n, _fade(on_time, off_time, fade_in, fade_out, fps)):
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
    for share, pause in _times(n, _fade(on_time, off_time, fade_in, fade_out, fps)):
        with board._blink_lock:
            if not board._blink_leds:
                return
            for led in board._blink_leds:
                led._write(share)
        yield pause


def follow_source(device: Any, source: Iterable[object]) -> Steps:
    for value in source:
        device.value = value
        yield max(device._source_delay, _SHORTEST)


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


def show_characters(display: Any, transitions: Sequence[Sequence[tuple[Any, Any]]]) -> Steps:
    for transition in itertools.cycle(transitions):
        for device, value in transition:
            device.value = value
        yield max(display._plex_delay, _SHORTEST)


def _times(n: int | None, cycle: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    value, pause = cycle[-1]
    missing = max(0.0, _SHORTEST - sum(pause for _, pause in cycle))
    cycle = [*cycle[:-1], (value, pause + missing)]
    repeats = itertools.repeat(cycle) if n is None else itertools.repeat(cycle, n)
    return itertools.chain.from_iterable(repeats)


def _fade(on_time: float, off_time: float, fade_in: float, fade_out: float, fps: int) -> list[tuple[float, float]]:
    """One cycle: how far on (0 to 1), and for how many seconds."""
    rising = [(step / fps / fade_in, 1 / fps) for step in range(int(fps * fade_in))]
    falling = [(1 - step / fps / fade_out, 1 / fps) for step in range(int(fps * fade_out))]
    return [*rising, (1, on_time), *falling, (0, off_time)]
