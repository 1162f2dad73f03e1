"""The kernel's I2C errors, in words that help.

The kernel reports a fault of the bus as an error number, and the numbers are those of block devices and sockets: ENXIO
where no device answered, EAGAIN for lost arbitration. Documentation/i2c/fault-codes.rst of the kernel defines them;
here each becomes a `HardwareError` that says what it means on this bus and what to check.
"""

from __future__ import annotations

import errno
import os

from hwloop.errors import HardwareError
from hwloop.sources.bus import BusTimeoutError

_FAULTS = {
    errno.EREMOTEIO: ("no answer", "check wiring and address; 'i2cdetect -y {bus}' lists the devices that answer"),
    errno.ENXIO: ("no answer", "check wiring and address; 'i2cdetect -y {bus}' lists the devices that answer"),
    errno.ETIMEDOUT: (
        "the kernel gave up on the transfer",
        "a device holds the bus or stretches its clock; check wiring and pull-ups, then power-cycle the device",
    ),
    errno.EBUSY: ("in use by a kernel driver", "unload its overlay or module ('i2cdetect -y {bus}' shows it as UU)"),
    errno.EAGAIN: ("lost arbitration", "another master or a short circuit drives the lines"),
    errno.EIO: ("the transfer failed", "check wiring, pull-ups and the length of the cable"),
    errno.ENODEV: ("the bus is gone", "was the adapter unplugged or its driver unloaded?"),
    errno.EPROTO: ("the device broke the protocol", "does it speak SMBus block transfers?"),
    errno.EOPNOTSUPP: ("the adapter can't do that", "'i2cdetect -F {bus}' lists what it can"),
}


def explained(error: BaseException, bus: int, job: str) -> BaseException:
    """Return `error`, which `job` raised on bus number `bus`, as a `HardwareError` if it is one of these faults."""
    if isinstance(error, OSError) and not isinstance(error, HardwareError) and error.errno in _FAULTS:
        reason, hint = _FAULTS[error.errno]
        kind = BusTimeoutError if error.errno == errno.ETIMEDOUT else HardwareError
        made = kind(
            f"I2C bus {bus}, {job}", f"{reason} ({os.strerror(error.errno)})", hint.format(bus=bus), errno=error.errno
        )
    else:
        return error
    made.__cause__ = error
    return made
