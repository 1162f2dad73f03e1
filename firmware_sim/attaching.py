"""Attaching the devices of a board file to a board, with errors that name the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from firmware_sim.device import Connections, Device
from firmware_sim.errors import WiringError
from firmware_sim.wiring import Wiring
from hwloop import plugins
from hwloop.core.naming import error_text


def attach_devices(checked: Wiring, board: Connections, users: Mapping[int, str]) -> Iterator[tuple[Device, set[int]]]:
    """Attach the devices in their order, and yield each with the lines that are new in `users` since.

    Raises `WiringError`.
    """
    for number, device in enumerate(checked.devices, 1):
        before = set(users)
        call = f"{type(device).__qualname__}.attach"
        try:
            with plugins.exits_logged(f"{checked.where}: device {number}: {call}"):
                device.attach(board)
        except (SystemExit, KeyboardInterrupt):
            raise
        except WiringError as error:
            raise WiringError(f"{checked.where}: device {number}: {error}") from error
        except BaseException as error:
            raise WiringError(
                f"{checked.where}: device {number}: {call} failed: {error_text(error)}; "
                "its class is to blame, not hwloop; 'hwloop run --debug' shows where"
            ) from error
        yield device, users.keys() - before
