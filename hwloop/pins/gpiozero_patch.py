"""The replacements in gpiozero's modules that let its devices live on a loop.

gpiozero's devices start threads by name and block on events of their own; there is no seam for either. So when the
first factory of ours is made, these names are replaced, once:

- `GPIOThread`, `HoldThread` and `GPIOQueue`, where devices make one, by functions that make timed steps;
- `Event`, where devices make one, by a subclass whose `set()` also wakes tasks;
- the methods `_fire_*`, which call handlers, and `wait_for_*`, which block;
- `ValuesMixin.values`, which must end when another thread closes the device while it is read;
- the call of a class, which makes a device: no edge is delivered to it meanwhile;
- `ButtonBoard._fire_events`, which reads its lines: between an edge and its delivery they may have changed again.

Each replacement looks at the device's pin factory first and leaves devices of other factories to the original. A
subclass of a device in the program that starts a `GPIOThread` still gets a thread.
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
from hwloop.boards.lgpio.fifo_directory import remove_left
from hwloop.pins import device_steps as steps_of
from hwloop.pins import last_wait
from hwloop.pins.construction import making
from hwloop.pins.delivery import Delivery
from hwloop.pins.device_info import device_name, pins_of
from hwloop.pins.factory import BoardFactory
from hwloop.pins.holds import HoldTimer
from hwloop.pins.sample_queue import SampleQueue
from hwloop.pins.signals import Signal, wait_for
from hwloop.pins.timed_steps import Steps, TimedSteps

_Rotary = input_devices.RotaryEncoder
_Polled = internal_devices.PolledInternalDevice

_lock = threading.Lock()
_installed = False

_STEPS: dict[object, Callable[..., Steps]] = {
    mixins.SourceMixin._copy_values: steps_of.follow_source,
    output_devices.DigitalOutputDevice._blink_device: steps_of.blink_digital,
    output_devices.PWMOutputDevice._blink_device: steps_of.blink_pwm,
    output_devices.RGBLED._blink_device: steps_of.blink_colour,
    boards.LEDBoard._blink_device: steps_of.blink_board,
    boards.LEDMultiCharDisplay._show_chars: steps_of.show_characters,
}
"""The methods that gpiozero runs in a thread, and the same work in steps."""

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
"""By class: the methods that call a handler, and the handler's name."""

_EVENTS: dict[object, str] = {
    mixins.EventsMixin.wait_for_active: "_active_event",
    mixins.EventsMixin.wait_for_inactive: "_inactive_event",
    _Polled.wait_for_active: "_active_event",
    _Polled.wait_for_inactive: "_inactive_event",
    _Rotary.wait_for_rotate: "_rotate_event",
    _Rotary.wait_for_rotate_clockwise: "_rotate_cw_event",
    _Rotary.wait_for_rotate_counter_clockwise: "_rotate_ccw_event",
}
"""The methods that block, and the event that each waits for. `wait_for_press` and the like are aliases."""


_factories: weakref.WeakSet[BoardFactory] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for factory in list(_factories):
        factory.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)


def _with_all_else(shutdown: Callable[[], None]) -> Callable[[], None]:
    """Extend gpiozero's work at exit: afterwards, close the factories that are still open, and the process's boards."""

    def shut_all_down() -> None:
        with last_wait.leaving():
            for factory in list(_factories):
                factory.end_steps()  # as gpiozero has just stopped its threads
            shutdown()
            for factory in list(_factories):
                factory.close()
        close_own()
        remove_left()

    return shut_all_down


def delivery_of(device: object) -> Delivery | None:
    """Return the delivery that serves a device, or None for a device of another kind of factory."""
    factory = getattr(device, "pin_factory", None)
    return factory.delivery if isinstance(factory, BoardFactory) else None


def signal_of(device: object, what: str) -> Signal:
    """Return the event for which `device.wait_for_<what>()` waits. Raises `ValueError` if there is no such method."""
    method = getattr(type(device), f"wait_for_{what}", None)
    name = _EVENTS.get(inspect.unwrap(method)) if method is not None else None
    if name is None:
        known = sorted(name.removeprefix("wait_for_") for name in dir(device) if name.startswith("wait_for_"))
        raise ValueError(
            f"a {type(device).__name__} can't wait for {what!r}; it can wait for {', '.join(known) or 'nothing'}"
        )
    signal = getattr(device, name)
    if not isinstance(signal, Signal):
        raise TypeError(
            f"{device_name(device)} does not use a pin factory of hwloop: set Device.pin_factory before making devices"
        )
    return signal


def install(factory: BoardFactory) -> None:
    """Replace gpiozero's names, for the first factory, and close this factory at exit."""
    global _installed
    with _lock:
        _factories.add(factory)
        if _installed:
            return
        _installed = True
        # gpiozero keeps its place in the order of exit functions: after those that the program registered later. The
        # other factories and the boards are closed right after it.
        atexit.unregister(close_own)
        atexit.unregister(remove_left)
        devices._devices_shutdown = _with_all_else(devices._devices_shutdown)
        devices.GPIOMeta.__call__ = _making(devices.GPIOMeta.__call__)
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


def _making(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def make(cls: type, *args: Any, **options: Any) -> Any:
        with making():
            return call(cls, *args, **options)

    return make


def _thread(target: Callable[..., object], args: tuple[Any, ...] = (), *rest: Any, **options: Any) -> Any:
    device = getattr(target, "__self__", None)
    delivery = delivery_of(device)
    make_steps = _STEPS.get(getattr(target, "__func__", None))
    if delivery is None or make_steps is None:
        return GPIOThread(target, args, *rest, **options)
    for pin in pins_of(device):
        pin.check_process()
    name = f"{make_steps.__name__} of {type(device).__name__}"
    return TimedSteps(delivery, functools.partial(make_steps, device, *args), name, device)


_HoldThread = mixins.HoldThread


def _hold(device: Any) -> Any:
    delivery = delivery_of(device)
    return _HoldThread(device) if delivery is None else HoldTimer(device, delivery)


def _queue(device: Any, *args: Any, **options: Any) -> Any:
    delivery = delivery_of(device)
    # A device that overrides _read waits in it: for an echo, or for a capacitor.
    if delivery is None or type(device)._read is not devices.GPIODevice._read:
        return mixins.GPIOQueue(device, *args, **options)
    return SampleQueue(device, delivery, *args, **options)


def _firing(method: Callable[[Any], object], name: str) -> Callable[[Any], None]:
    @functools.wraps(method)
    def fire(self: Any) -> None:
        delivery = delivery_of(self)
        if delivery is None:
            method(self)
        elif (handler := getattr(self, name)) is not None:
            delivery.handlers.fire(handler, name, self)

    return fire


def _pressed(method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def fire(self: Any) -> None:
        if delivery_of(self) is None:
            method(self)
            return
        super(mixins.HoldMixin, self)._fire_activated()
        if self._hold_thread is not None:  # else the handler has closed the device
            self._hold_thread.holding.set()

    return fire


def _released(method: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(method)
    def fire(self: Any) -> None:
        if delivery_of(self) is not None and self._hold_thread is not None:
            self._hold_thread.released()
        method(self)

    return fire


def _ending_when_closed(values: property) -> property:
    original: Any = values.fget

    def get(self: Any) -> Iterator[object]:
        return original(self) if delivery_of(self) is None else steps_of.values_until_closed(self)

    return property(get, doc=values.__doc__)


def _changed(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def fire_events(self: Any, ticks: float, active: bool) -> None:
        if delivery_of(self) is not None:
            active = any(button._last_active for button in self)
        method(self, ticks, active)

    return fire_events


def _waiting(method: Callable[..., bool], name: str) -> Callable[..., bool]:
    @functools.wraps(method)
    def wait(self: Any, timeout: float | None = None) -> bool:
        delivery = delivery_of(self)
        if delivery is not None and delivery.handlers.blocks_loop():
            raise RuntimeError(
                f"{type(self).__name__}.{name}() would block the loop that delivers the event it waits for; use "
                f"'await hwloop.pins.wait_for(device, {name.removeprefix('wait_for_')!r})' there"
            )
        if delivery is not None and isinstance(signal := getattr(self, _EVENTS[inspect.unwrap(wait)]), Signal):
            return wait_for(signal, timeout, delivery, functools.partial(method, self))
        return method(self, timeout)

    return wait


def _family(cls: type) -> Iterator[type]:
    yield cls
    child: type
    for child in cls.__subclasses__():
        yield from _family(child)
