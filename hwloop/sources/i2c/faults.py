"""The kernel's I2C errors, in words that help.

The kernel reports a fault of the bus as an error number, and the numbers are those of block devices and sockets: ENXIO
where no device answered, EAGAIN for lost arbitration. Documentation/i2c/fault-codes.rst of the kernel defines them;
here each becomes a `HardwareError` that says what it means on this bus and what to check.
"""

from __future__ import annotations

import errno

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


def fault(number: int, bus: int) -> tuple[str, str] | None:
    """Return the meaning of an error number on bus number `bus`, and what to check; None for any other error."""
    if number not in _FAULTS:
        return None
    reason, hint = _FAULTS[number]
    return reason, hint.format(bus=bus)
