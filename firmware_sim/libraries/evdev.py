"""python-evdev on a simulated input device: the questions that its C extension asks by ioctl.

The extension reads events from the descriptor, which works on a simulated one. Its functions for ioctls are replaced by
functions that answer for simulated devices, and pass on the descriptors of others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firmware_sim.descriptors import descriptors
from firmware_sim.input_events import EV_KEY, InputHandle

_ANSWERS: dict[str, Callable[..., Any]] = {
    "ioctl_devinfo": lambda handle: (*handle.node.identity, handle.node.name, "", ""),
    "ioctl_capabilities": lambda handle: {0: [0, *handle.node.codes], **handle.node.codes},
    "ioctl_EVIOCGVERSION": lambda handle: 0x010001,
    "ioctl_EVIOCGEFFECTS": lambda handle: 0,
    "ioctl_EVIOCGPROP": lambda handle: [],
    "ioctl_EVIOCG_bits": lambda handle, kind: sorted(handle.node.pressed) if kind == EV_KEY else [],
    "ioctl_EVIOCGRAB": lambda handle, flag: handle.grab(bool(flag)),
    "ioctl_EVIOCGREP": lambda handle: (250, 33),
}


def answering(real: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function like `real`, the extension's of this name, which also answers for simulated devices."""
    answer = _ANSWERS[name]

    def function(fd: int, *arguments: Any) -> Any:
        handle = descriptors.handle(fd)
        return answer(handle, *arguments) if isinstance(handle, InputHandle) else real(fd, *arguments)

    return function


NAMES: tuple[str, ...] = tuple(_ANSWERS)
