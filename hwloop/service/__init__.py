"""Services: readiness, status and watchdog for systemd, on any asyncio loop.

    from hwloop import service

    async with service.supervised():
        service.status("waiting for the door")

`supervised` covers most programs. `critical` names the sources and tasks without which the watchdog is not fed,
`starting`, `ready` and `stopping` report a slow start and a slow end, `reloadable` handles SIGHUP. `notify`, `status`,
`undelivered`, `watchdog_timeout` and `Watchdog` are the parts.
The guardian that drives the outputs of a dead process to their safe levels is in this package too (docs/guard.md).
"""

from hwloop.service.critical import Critical as Critical
from hwloop.service.critical import critical as critical
from hwloop.service.lifecycle import ready as ready
from hwloop.service.lifecycle import starting as starting
from hwloop.service.lifecycle import stopping as stopping
from hwloop.service.messages import notify as notify
from hwloop.service.messages import status as status
from hwloop.service.messages import undelivered as undelivered
from hwloop.service.reloading import reloadable as reloadable
from hwloop.service.systemd import Watchdog as Watchdog
from hwloop.service.systemd import supervised as supervised
from hwloop.service.systemd import watchdog_timeout as watchdog_timeout

__all__ = [
    "Critical",
    "Watchdog",
    "critical",
    "notify",
    "ready",
    "reloadable",
    "starting",
    "status",
    "stopping",
    "supervised",
    "undelivered",
    "watchdog_timeout",
]


def __dir__() -> list[str]:
    return __all__
