"""Messages to the service manager: one datagram of lines `NAME=value` on a Unix socket, as in sd_notify(3).

Without NOTIFY_SOCKET in the environment, which systemd sets for services of `Type=notify`, nothing here does anything.
A socket that has gone never fails the program: an undelivered message is counted, and the first one is logged.
"""

from __future__ import annotations

import logging
import os
import socket

from hwloop.core.naming import short_name

logger: logging.Logger = logging.getLogger("hwloop.service")

LONGEST_STATUS = 1000
"""Characters. systemd drops messages of more than 4096 bytes, and a character has up to four."""

_undelivered = 0


def notify(state: str | bytes) -> bool:
    """Send `state` to systemd: "READY=1", "RELOADING=1", "EXTEND_TIMEOUT_USEC=5000000", or several such lines.

    Return whether the message was sent: False if no service manager listens, or it could not be reached. Never blocks,
    and never raises for a failure of the system: a message for which systemd has no room is lost and counted. Raises
    `TypeError` for anything but text, also outside of a service.
    """
    if not isinstance(state, str | bytes):
        raise TypeError(f"notify() takes text such as 'READY=1', not {short_name(state)}")
    state = state.decode(errors="replace") if isinstance(state, bytes) else state
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            # A name that begins with @ is in the abstract namespace, unix(7), where it begins with a zero byte.
            channel.sendto(_sendable(state), "\0" + address[1:] if address.startswith("@") else address)
    except (OSError, ValueError) as error:
        _count_undelivered(address, state, error)
        return False
    return True


def status(text: str) -> bool:
    """Show `text` in `systemctl status` as one line, at most 1000 characters long, before the program's figures."""
    _shown.text = " ".join(str(text).splitlines())
    return _shown.send()


def show_figures(figures: str) -> None:
    """Show figures after the program's own text, unless these are what is shown already."""
    _shown.figures = figures
    if _shown.line() != _shown.sent:
        _shown.send()


class _Shown:
    """The parts of the status line, and the line that the service manager has."""

    text = figures = ""
    sent: str | None = None

    def line(self) -> str:
        line = " | ".join(filter(None, (self.text, self.figures)))
        return line if len(line) <= LONGEST_STATUS else line[: LONGEST_STATUS - 1] + "…"

    def send(self) -> bool:
        line = self.line()
        self.sent = line if notify(f"STATUS={line}") else None
        return self.sent is not None


_shown = _Shown()


def _sendable(state: str) -> bytes:
    """Encode a message: systemd drops those that are not UTF-8 or contain a zero byte."""
    return state.replace("\0", " ").encode(errors="replace")


def undelivered() -> int:
    """Return the number of messages that could not be delivered to systemd."""
    return _undelivered


def _count_undelivered(address: str, state: str, error: OSError | ValueError) -> None:
    global _undelivered
    _undelivered += 1
    if _undelivered == 1:
        said = state.partition("\n")[0][:40]
        reason = getattr(error, "strerror", None) or error
        # The environment and a status may contain characters that no stream can encode.
        where, said = (text.encode(errors="backslashreplace").decode() for text in (address, said))
        logger.warning("NOTIFY_SOCKET=%s: could not send %s: %s (reported once)", where, said, reason)
