"""The kernel's SPI errors in words: what each means on this bus, and what to check.

SPI has no acknowledgement, so none of them says that a device is absent: that shows in the bytes only.
"""

from __future__ import annotations

import errno
import os

from hwloop.errors import HardwareError
from hwloop.sources.bus import BusTimeoutError

_FAULTS = {
    errno.ETIMEDOUT: ("the controller did not finish the transfer", "see the kernel's log (dmesg); increase speed="),
    errno.EMSGSIZE: (
        "more bytes than the kernel takes at once",
        "transfer less, or add spidev.bufsiz=65536 to /boot/firmware/cmdline.txt",
    ),
    errno.EINVAL: ("the controller does not accept these settings", "check speed=, mode= and bits="),
    errno.ESHUTDOWN: ("the bus is gone", "was its overlay or module unloaded?"),
    errno.ENODEV: ("the bus is gone", "was its overlay or module unloaded?"),
    errno.EBUSY: ("the controller is busy", "another program or a kernel driver has the bus"),
    errno.EIO: ("the transfer failed", "see the kernel's log (dmesg)"),
}


def explained(error: BaseException, title: str, job: str) -> BaseException:
    """Return `error`, which `job` raised on the device `title`, as a `HardwareError` if it is one of these faults."""
    if not isinstance(error, OSError) or isinstance(error, HardwareError) or error.errno not in _FAULTS:
        return error
    reason, hint = _FAULTS[error.errno]
    kind = BusTimeoutError if error.errno == errno.ETIMEDOUT else HardwareError
    made = kind(f"{title}, {job}", f"{reason} ({os.strerror(error.errno)})", hint, errno=error.errno)
    made.__cause__ = error
    return made
