"""The kernel's SPI errors in words: what each means on this bus, and what to check.

SPI has no acknowledgement, so none of them says that a device is absent: that shows in the bytes only.
"""

from __future__ import annotations

import errno

FAULTS = {
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
"""The meaning of each error number, and what to check."""
