"""The unit of a service: what systemd starts, with which rights, and what it does when the program ends.

All lines are in the templates beside this module: `hwloop.service`, and `hwloop-guard.service` for the guardian.
`@name@` stands for a value; a line whose value is a tuple is repeated for each item; lines between `@if value` and
`@else` or `@end` depend on whether there is a value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources

from hwloop.deployment.devices import Devices
from hwloop.deployment.quoting import dynamic_user, guardian_name, setting, unit_name, word

DEFAULT_USER = "hwloop"
DEFAULT_START_TIMEOUT = 30.0

Value = str | bool | tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """The unit of one service, and that of its guardian if it has one.

    Attributes:
        name: the name of the service, without prefix and suffix.
        program: a description of the program, for people.
        hwloop: the path of the `hwloop` command.
        arguments: the arguments of `hwloop run`.
        devices: the devices that it may open.
        mounts: paths whose file systems must be mounted before it starts.
        user: the user that it runs as; "" for one that systemd makes for as long as it runs (`DynamicUser=`).
        realtime: the highest priority that it may have; 0 without real time.
        start_timeout: seconds that a start may take until the program is ready.
        has_loop: whether the program has an event loop: nothing feeds the watchdog for a script.
        guarded: whether a guardian holds its kept outputs.
        unguarded: the libraries by which it drives outputs without a safe level.
        reloads: whether SIGHUP has it read its configuration again.
        network: why it gets the network, as a phrase; "" if it gets none.
    """

    name: str
    program: str
    hwloop: str
    arguments: tuple[str, ...]
    devices: Devices
    mounts: tuple[str, ...] = ()
    user: str = DEFAULT_USER
    realtime: int = 0
    start_timeout: float = DEFAULT_START_TIMEOUT
    has_loop: bool = True
    guarded: bool = False
    unguarded: Collection[str] = ()
    reloads: bool = False
    network: str = ""

    def files(self) -> dict[str, str]:
        """Return the contents of the units by the names of their files: the service, and its guardian if it has one.

        Raises ValueError for a path or an argument that no unit can hold.
        """
        found = {unit_name(self.name): self.text()}
        return found | {guardian_name(self.name): self.guardian_text()} if self.guarded else found

    def text(self) -> str:
        """Return the contents of the file of the service. Raises ValueError as `files()` does."""
        return render(_template("hwloop.service"), self._values())

    def guardian_text(self) -> str:
        """Return the contents of the file of the guardian. Raises ValueError as `files()` does."""
        return render(_template("hwloop-guard.service"), self._values())

    def _values(self) -> dict[str, Value]:
        if re.search(r"[^A-Za-z0-9_./+-]", self.hwloop):
            raise ValueError(
                f"{self.hwloop!r}: systemd can't start a command with such a path; "
                "install hwloop in a directory whose name has letters, digits and _ . / + - only"
            )
        command = [self.hwloop, *(word(each, variables=True) for each in ("run", *self.arguments))]
        return {
            "command": " ".join(command),
            "description": setting(f"{self.name}: {self.program} on hwloop"),
            "devices": tuple(word(rule) for rule in self.devices.rules),
            "devices_because": setting(self.devices.because),
            "dynamic_user": not self.user,
            "groups": " ".join(self.devices.groups),
            "gpio": "char-gpiochip" in self.devices.rules,
            "guardian": guardian_name(self.name) if self.guarded else "",
            "hwloop": self.hwloop,
            "mounts": " ".join(word(path) for path in self.mounts),
            "name": self.name,
            "network": setting(self.network),
            "unguarded": " and ".join(sorted(self.unguarded)),
            "reloads": self.reloads,
            "realtime": str(self.realtime or ""),
            "watchdog": "10" if self.has_loop else "0",
            "start_timeout": f"{self.start_timeout:g}",
            "unit": unit_name(self.name),
            "user": self.user or dynamic_user(self.name),
        }


def _template(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def render(template: str, values: Mapping[str, Value]) -> str:
    """Return a template with its values. Raises KeyError for a value that is missing."""
    lines, shown = list[str](), [True]
    for line in template.splitlines():
        if line.startswith("@if "):
            shown.append(bool(values[line[4:]]))
        elif line == "@else":
            shown[-1] = not shown[-1]
        elif line == "@end":
            shown.pop()
        elif all(shown):
            lines += _filled(line, values)
    return "\n".join(lines) + "\n"


def _filled(line: str, values: Mapping[str, Value]) -> list[str]:
    """Return a line of a template with its values: several lines for a tuple."""
    lists = [name for name in re.findall(r"@([a-z_]+)@", line) if isinstance(values[name], tuple)]
    if lists:
        return [line.replace(f"@{lists[0]}@", item) for item in values[lists[0]]]  # type: ignore[union-attr]
    return [re.sub(r"@([a-z_]+)@", lambda match: str(values[match[1]]), line)]
