"""Names, and words of a unit: the only ways for text from outside into a unit, a path or a command.

A unit is a language of its own: a line ends a setting, `%` begins a specifier, `$` a variable, spaces and quotes divide
words (systemd.syntax(7), systemd.service(5)). Commands run without a shell, so nothing else needs quoting.
"""

from __future__ import annotations

import re

UNIT_PREFIX = "hwloop-"
"""So that no service has the name of a unit of the system: `--name ssh` makes hwloop-ssh.service."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38}[A-Za-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_PLAIN = re.compile(r"(?:[A-Za-z0-9_./:=@,+-]|%%|\$\$)+")


def check_name(name: str) -> str:
    """Return the name of a service. Raises ValueError for one that could be taken for a path, an option or a unit."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} can't be the name of a service; use at most 40 letters, digits, '-' and '_', for example door"
        )
    return name


def check_user(name: str) -> str:
    """Return the name of a user. Raises ValueError for an invalid one, and for root: a service needs no such rights."""
    if not _USER.fullmatch(name):
        raise ValueError(f"{name!r} can't be the name of a user; use lower-case letters, digits, '-' and '_'")
    if name == "root":
        raise ValueError("a service does not run as root; name another user, which gets the groups of the devices")
    return name


def name_from(text: str) -> str:
    """Return the name of a service for a file or a package: "Weather Station.py" becomes weather-station.

    Raises ValueError where nothing is left of it.
    """
    return check_name(re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:40].rstrip("-_"))


def unit_name(name: str) -> str:
    """Return the name of a service's unit."""
    return f"{UNIT_PREFIX}{name}.service"


def guardian_name(name: str) -> str:
    """Return the name of the unit of a service's guardian, which can't be that of a service."""
    return f"{UNIT_PREFIX}guard@{name}.service"


def dynamic_user(name: str) -> str:
    """Return the name of the user that systemd makes for a service and its guardian while they run."""
    return unit_name(name).removesuffix(".service").lower()[:31]


def setting(text: str) -> str:
    """Return free text as the value of a setting, on one line and without specifiers."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split()).replace("%", "%%")


def word(text: str, *, variables: bool = False) -> str:
    """Return text as one word of a setting; with `variables`, of a command line, in which systemd replaces `$NAME`.

    Raises ValueError for text that no unit can hold: a zero byte, or bytes that are not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is not valid UTF-8, as systemd requires; rename it") from None
    if "\0" in text:
        raise ValueError(f"{text!r} has a zero byte, which no argument can have")
    escaped = text.replace("%", "%%")
    if variables:
        escaped = escaped.replace("$", "$$")
    if _PLAIN.fullmatch(escaped):
        return escaped
    quoted = []
    for each in escaped:
        if each in '\\"':
            quoted.append(f"\\{each}")
        elif each.isprintable():
            quoted.append(each)
        else:
            quoted.extend(f"\\x{byte:02x}" for byte in each.encode())
    return f'"{"".join(quoted)}"'
