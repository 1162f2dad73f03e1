"""Services: readiness, status and watchdog for systemd, on any asyncio loop.

    from hwloop import service

    async with service.supervised():
        service.status("waiting for the door")

`supervised` covers most programs; `notify`, `status`, `undelivered`, `watchdog_timeout` and `Watchdog` are its parts.
The guardian that drives the outputs of a dead process to their safe levels is in this package too (docs/guard.md).
"""

from hwloop.service.systemd import Watchdog as Watchdog
from hwloop.service.systemd import notify as notify
from hwloop.service.systemd import status as status
from hwloop.service.systemd import supervised as supervised
from hwloop.service.systemd import undelivered as undelivered
from hwloop.service.systemd import watchdog_timeout as watchdog_timeout

__all__ = ["Watchdog", "notify", "status", "supervised", "undelivered", "watchdog_timeout"]


def __dir__() -> list[str]:
    return __all__
