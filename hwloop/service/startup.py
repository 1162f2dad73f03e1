"""The start of a service: a run reports that it is ready by itself, unless the program says that it will do so.

systemd ends a start that takes longer than TimeoutStartSec=. A start that is slow but makes progress (a sensor that
warms up, a modem that registers) asks for more time before that has passed: EXTEND_TIMEOUT_USEC of sd_notify(3).
"""

from __future__ import annotations

from hwloop.errors import check_range
from hwloop.service.messages import notify, status

LONGEST_STEP = 86400.0


class _Startup:
    """The state of this process's start."""

    held = False
    """Whether the program reports by itself that it is ready."""


_startup = _Startup()


def starting(text: str = "", *, within: float) -> bool:
    """Report that the start goes on: systemd waits for the next step, or for `ready()`, `within` seconds more.

    Call it before the first `await` of the program, and again with each step. From the first call on, only `ready()`
    or `supervised()` reports that the service is ready. `text` is shown by `systemctl status`. Return whether the
    message was sent. Raises ValueError unless `within` is from 0.001 seconds to a day.
    """
    check_range("within", within, 0.001, LONGEST_STEP)
    _startup.held = True
    if text:
        status(text)
    return notify(f"EXTEND_TIMEOUT_USEC={round(within * 1e6)}")


def ready(text: str = "") -> bool:
    """Report that the service is ready. `text` is shown by `systemctl status`. Return whether the message was sent."""
    if text:
        status(text)
    return notify("READY=1")


def is_held() -> bool:
    """Return whether the program reports by itself that it is ready."""
    return _startup.held
