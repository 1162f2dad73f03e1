"""The firmware's configuration of a Raspberry Pi: config.txt and cmdline.txt.

Both lie in /boot/firmware from Debian 12 on, in /boot before. A setting counts whatever section it stands in, such as
`[pi4]`, because it only decides which advice the doctor gives. Whether a bus exists, the doctor sees in /dev.
"""

from __future__ import annotations

from hwloop.doctor.machine import Machine

_DIRECTORIES = ("/boot/firmware", "/boot")


class BootConfig:
    """The settings of a machine's config.txt and cmdline.txt.

    Attributes:
        path: where its config.txt is; "" if it has none.
        command_line: the kernel's command line: as written for the next start, or else of the running kernel.
    """

    def __init__(self, machine: Machine) -> None:
        found = [path for path in _DIRECTORIES if machine.exists(f"{path}/config.txt")]
        self.path: str = f"{found[0]}/config.txt" if found else ""
        self.command_line_path: str = f"{found[0]}/cmdline.txt" if found else "/boot/cmdline.txt"
        self.command_line: str = machine.text(self.command_line_path) or machine.text("/proc/cmdline")
        self._settings: dict[str, str] = {}
        self.overlays: set[str] = set()
        for line in machine.text(self.path).splitlines() if self.path else []:
            self._read(line.partition("#")[0].strip())

    def _read(self, line: str) -> None:
        name, _, value = line.partition("=")
        if name == "dtparam":
            for each in value.split(","):
                parameter, _, setting = each.partition("=")
                self._settings[f"dtparam={parameter.strip()}"] = setting.strip() or "on"
        elif name == "dtoverlay":
            self.overlays.add(value.partition(",")[0].strip())
        elif name:
            self._settings[name.strip()] = value.strip()

    def is_on(self, *names: str) -> bool:
        """Return whether one of these settings is on, such as "dtparam=spi" or "enable_uart"."""
        return any(self._settings.get(name, "off") in ("on", "1", "yes", "true") for name in names)
