"""What changes in gpiozero so that its devices can live on a loop, and how little.

gpiozero's devices start threads by name and block on events of their own; there is no seam for either. So when the
first factory of ours is made, these names of gpiozero's modules are replaced, once:

- `GPIOThread`, `HoldThread` and `GPIOQueue`, where devices make one, by functions that make a job (`hwloop.pins.jobs`);
- `Event`, where devices make one, by a subclass whose `set()` also wakes awaiting tasks;
- the methods `_fire_*`, which call handlers, and `wait_for_*`, which block;
- `ValuesMixin.values`, which must end when the device is closed in another thread while it is read;
- `ButtonBoard._fire_events`, which reads its lines: between an edge and its delivery they may have changed again.

Each replacement looks at the device's pin factory first and does for devices of other factories exactly what was there
before. What a subclass of a program's own does in a `GPIOThread` of its own stays a thread.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from gpiozero import boards, devices, input_devices, internal_devices, mixins, output_devices
from gpiozero.threads import GPIOThread

from hwloop.board import close_own
from hwloop.boards.fifo_directory import remove_left
from hwloop.pins import holds, jobs
from hwloop.pins.dispatch import Dispatch
from hwloop.pins.parts import pins_of

_Rotary = input_devices.RotaryEncoder
_Polled = internal_devices.PolledInternalDevice

_lock = threading.Lock()
_adopted = False

_STEPS: dict[object, Callable[..., jobs.Steps]] = {
    mixins.SourceMixin._copy_values: jobs.follow_source,
    output_devices.DigitalOutputDevice._blink_device: jobs.blink_digital,
    output_devices.PWMOutputDevice._blink_device: jobs.blink_pwm,
    output_devices.RGBLED._blink_device: jobs.blink_colour,
    boards.LEDBoard._blink_device: jobs.blink_board,
    boards.LEDMultiCharDisplay._show_chars: jobs.show_characters,
}
"""What gpiozero runs in a thread, and the same in steps."""

_HANDLERS = {
    mixins.EventsMixin: {"_fire_activated": "when_activated", "_fire_deactivated": "when_deactivated"},
    mixins.HoldMixin: {"_fire_held": "when_held"},
    boards.ButtonBoard: {"_fire_changed": "when_changed"},
    _Rotary: {
        "_fire_rotated": "when_rotated",
        "_fire_rotated_cw": "when_rotated_clockwise",
        "_fire_rotated_ccw": "when_rotated_counter_clockwise",
    },
}
"""The method that calls a handler, where it is not one of these that calls another, and the handler."""

_EVENTS: dict[object, str] = {
    mixins.EventsMixin.wait_for_active: "_active_event",
    mixins.EventsMixin.wait_for_inactive: "_inactive_event",
    _Polled.wait_for_active: "_active_event",
    _Polled.wait_for_inactive: "_inactive_event",
    _Rotary.wait_for_rotate: "_rotate_event",
    _Rotary.wait_for_rotate_clockwise: "_rotate_cw_event",
    _Rotary.wait_for_rotate_counter_clockwise: "_rotate_ccw_event",
}
"""A method that blocks, and the event it waits for; `wait_for_press` and its like are other names for the first two."""


class OnLoop:
    """A pin factory whose devices live on a loop: the mark by which the replacements know theirs."""

    @property
    def dispatch(self) -> Dispatch:
        """Who serves its devices."""
        raise NotImplementedError

    def end_jobs(self) -> None:
        """Let nothing blink any more, nor be held."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""
        raise NotImplementedError

    def leave_to_parent(self) -> None:
        """Forget pins and board, in a forked child, without a touch."""
        raise NotImplementedError


_factories: weakref.WeakSet[OnLoop] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for factory in list(_factories):
        factory.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


def _with_all_else(shutdown: Callable[[], None]) -> Callable[[], None]:
    """What gpiozero does at exit, then close the factories that nobody has closed, and the process's boards."""

    def shut_all_down() -> None:
        for factory in list(_factories):
            factory.end_jobs()  # as gpiozero has just stopped its threads
        shutdown()
        for factory in list(_factories):
            factory.close()
        close_own()
        remove_left()

    return shut_all_down


class Signal(threading.Event):
    """An event of a device, for threads and for tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Callable[[], object]] = []
        """Called after each `set()`, in its thread."""

    def set(self) -> None:
        super().set()
        for listener in tuple(self.listeners):
            listener()


def dispatch_of(device: object) -> Dispatch | None:
    """Who serves a device; None where its factory is none of ours."""
    factory = getattr(device, "pin_factory", None)
    return factory.dispatch if isinstance(factory, OnLoop) else None


def signal_of(device: object, what: str) -> Signal:
    """What `device.wait_for_<what>()` waits for. ValueError where it has no such method."""
    method = getattr(type(device), f"wait_for_{what}", None)
    name = _EVENTS.get(inspect.unwrap(method)) if method is not None else None
    if name is None:
        known = sorted(name.removeprefix("wait_for_") for name in dir(device) if name.startswith("wait_for_"))
        raise ValueError(f"a {type(device).__name__} can't wait for {what!r}; it knows {', '.join(known) or 'nothing'}")
    signal = getattr(device, name)
    if not isinstance(signal, Signal):
        raise TypeError(f"{device!r} was made before hwloop's pin factory and is none of its devices")
    return signal


def adopt(factory: OnLoop) -> None:
    """Make the replacements, at the first factory, and close this one at exit."""
    global _adopted
    with _lock:
        _factories.add(factory)
        if _adopted:
            return
        _adopted = True
        # At exit gpiozero keeps its place in the order, after what the program has registered since it imported
        # gpiozero. Right after it, the other factories are closed, and the boards.
        atexit.unregister(close_own)
        atexit.unregister(remove_left)
        devices._devices_shutdown = _with_all_else(devices._devices_shutdown)
        for module in (mixins, output_devices, boards):
            module.GPIOThread = _thread
        mixins.HoldThread = _hold
        input_devices.GPIOQueue = _queue
        mixins.Event = input_devices.Event = Signal
        for owner, methods in _HANDLERS.items():
            for method, handler in methods.items():
                setattr(owner, method, _firing(getattr(owner, method), handler))
        mixins.HoldMixin._fire_activated = _pressed(mixins.HoldMixin._fire_activated)
        mixins.HoldMixin._fire_deactivated = _released(mixins.HoldMixin._fire_deactivated)
        mixins.ValuesMixin.values = _ending_when_closed(mixins.ValuesMixin.values)
        boards.ButtonBoard._fire_events = _changed(boards.ButtonBoard._fire_events)
        for cls in _family(mixins.EventsMixin):
            for name, method in list(vars(cls).items()):
                if name.startswith("wait_for_") and isinstance(method, FunctionType):
                    setattr(cls, name, _waiting(method, name))


def _thread(target: Callable[..., object], args: tuple[Any, ...] = (), *rest: Any, **options: Any) -> Any:
    device = getattr(target, "__self__", None)
    dispatch = dispatch_of(device)
    steps = _STEPS.get(getattr(target, "__func__", None))
    if dispatch is None or steps is None:
        return GPIOThread(target, args, *rest, **options)
    for pin in pins_of(device):
        pin.check_process()
    name = f"{steps.__name__} of {type(device).__name__}"
    return jobs.Job(dispatch, functools.partial(steps, device, *args), name, device)


_HoldThread = mixins.HoldThread


def _hold(device: Any) -> Any:
    dispatch = dispatch_of(device)
    return _HoldThread(device) if dispatch is None else holds.Hold(device, dispatch)


def _queue(device: Any, *args: Any, **options: Any) -> Any:
    dispatch = dispatch_of(device)
    # A device with a _read of its own waits in it: for an echo, or for a capacitor.
    if dispatch is None or type(device)._read is not devices.GPIODevice._read:
        return mixins.GPIOQueue(device, *args, **options)
    return jobs.Queue(device, dispatch, *args, **options)


def _firing(method: Callable[[Any], object], name: str) -> Callable[[Any], None]:
    @functools.wraps(method)
    def fire(self: Any) -> None:
        dispatch = dispatch_of(self)
        if dispatch is None:
            method(self)
        elif (handler := getattr(self, name)) is not None:
            dispatch.handlers.fire(handler, name, self)

    return fire


def _pressed(method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def fire(self: Any) -> None:
        if dispatch_of(self) is None:
            method(self)
            return
        super(mixins.HoldMixin, self)._fire_activated()
        if self._hold_thread is not None:  # the handler has not closed the device
            self._hold_thread.holding.set()

    return fire


def _released(method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def fire(self: Any) -> None:
        if dispatch_of(self) is not None and self._hold_thread is not None:
            self._hold_thread.released()
        method(self)

    return fire


def _ending_when_closed(values: property) -> property:
    original: Any = values.fget

    def get(self: Any) -> Iterator[object]:
        return original(self) if dispatch_of(self) is None else jobs.values_until_closed(self)

    return property(get, doc=values.__doc__)


def _changed(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def fire_events(self: Any, ticks: float, active: bool) -> None:
        if dispatch_of(self) is not None:
            active = any(button._last_active for button in self)
        method(self, ticks, active)

    return fire_events


def _waiting(method: Callable[..., bool], name: str) -> Callable[..., bool]:
    @functools.wraps(method)
    def wait(self: Any, timeout: float | None = None) -> bool:
        dispatch = dispatch_of(self)
        if dispatch is not None and dispatch.handlers.blocks_loop():
            raise RuntimeError(
                f"{type(self).__name__}.{name}() would stop the loop that delivers what it waits for; use "
                f"'await hwloop.pins.wait_for(device, {name.removeprefix('wait_for_')!r})' there"
            )
        return method(self, timeout)

    return wait


def _family(cls: type) -> Iterator[type]:
    yield cls
    child: type
    for child in cls.__subclasses__():
        yield from _family(child)
