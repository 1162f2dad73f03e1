"""Services: readiness, status and watchdog for systemd, and the guardian that ends outputs in their safe state."""

from hwloop.service.systemd import (
    Attendant as Attendant,
)
from hwloop.service.systemd import (
    Watchdog as Watchdog,
)
from hwloop.service.systemd import (
    notify as notify,
)
from hwloop.service.systemd import (
    status as status,
)
from hwloop.service.systemd import (
    supervised as supervised,
)
from hwloop.service.systemd import (
    undelivered as undelivered,
)
from hwloop.service.systemd import (
    watchdog_timeout as watchdog_timeout,
)
