"""The life of a service: it starts, it is ready, it stops; the service manager hears of each once, and in this order.

A run reports that it is ready by itself, unless the program says that it will do so. systemd ends a start that takes
longer than TimeoutStartSec=, and a stop that takes longer than TimeoutStopSec=. One that is slow but makes progress (a
sensor that warms up, a tank that drains) asks for more time before that has passed: EXTEND_TIMEOUT_USEC of
sd_notify(3). After STOPPING=1 nothing is ready any more, even if a reload ends meanwhile.
"""

from __future__ import annotations

import os

from hwloop.errors import check_range
from hwloop.service.messages import notify, status

LONGEST_STEP = 86400.0


class State:
    """The state of this process as a service.

    Attributes:
        held: whether the program reports by itself that it is ready.
        stopping: whether the service manager has heard that it stops.
        process: the process that it belongs to, and not a forked child.
    """

    def __init__(self) -> None:
        self.held: bool = False
        self.stopping: bool = False
        self.process: int = os.getpid()


_state = State()


def starting(text: str = "", *, within: float) -> bool:
    """Report that the start goes on: systemd waits for the next step, or for `ready()`, `within` seconds more.

    Call it before the first `await` of the program, and again with each step. From the first call on, only `ready()`
    or `supervised()` reports that the service is ready. `text` is shown by `systemctl status`. Return whether the
    message was sent. Raises ValueError unless `within` is from 0.001 seconds to a day.
    """
    extension = _extension(within)
    _state.held = True
    if text:
        status(text)
    return notify(extension)


def ready(text: str = "") -> bool:
    """Report that the service is ready. `text` is shown by `systemctl status`. Return whether the message was sent.

    A service that stops is not ready any more: then nothing is sent.
    """
    if _state.stopping:
        return False
    if text:
        status(text)
    return notify("READY=1")


def stopping(text: str = "", *, within: float | None = None) -> bool:
    """Report that the service stops, once. `text` is shown by `systemctl status`. Return whether a message was sent.

    With `within`, systemd waits that many seconds more for the next step or the end. Call it again with each step of a
    stop that takes long. Raises ValueError unless `within` is from 0.001 seconds to a day.
    """
    lines = [] if _state.stopping else ["STOPPING=1"]
    if within is not None:
        lines.append(_extension(within))
    _state.stopping = True
    if text:
        status(text)
    return bool(lines) and notify("\n".join(lines))


def begin() -> None:
    """Begin anew: this process is about to run a program."""
    global _state
    _state = State()


def is_held() -> bool:
    """Return whether the program reports by itself that it is ready."""
    return _state.held


def is_stopping() -> bool:
    """Return whether the service manager has heard that the service stops."""
    return _state.stopping


def ended() -> None:
    """Report that the service stops because its process ends. A forked child has nothing to report."""
    if _state.process == os.getpid():
        stopping()


def _extension(within: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(check_range('within', within, 0.001, LONGEST_STEP) * 1e6)}"
