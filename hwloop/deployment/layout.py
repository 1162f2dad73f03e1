"""The places of services on a machine, or below the root directory of an image.

    /etc/systemd/system/hwloop-NAME.service    the unit; hwloop-guard@NAME.service is that of a guardian
    /etc/hwloop/NAME/                          the configuration: `environment`, and files of the program
    /var/lib/hwloop/NAME/                      the state: the working directory, which only the program writes to
    /run/hwloop/NAME/                          the record of open outputs; /run/hwloop-guard/NAME/ a guardian's socket
    /opt/hwloop/services/NAME/                 what is installed:
        environment-KEY/                         a virtual environment; KEY depends on all that it is made from
        release-N/                               one version: the program, its unit, its record (release.json)
        current -> release-N                     the version that the unit starts

A unit starts a release by its number and an environment by its key, not through `current`: a program that still runs
while the next one is installed goes on importing its own modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwloop.deployment.quoting import guardian_name, unit_name


@dataclass(frozen=True)
class Layout:
    """The places of all services.

    Attributes:
        root: the root directory of the machine.
    """

    root: Path = Path("/")

    @property
    def is_image(self) -> bool:
        """Whether the machine is not this one."""
        return self.root != Path("/")

    @property
    def services(self) -> Path:
        """The directory of all that is installed."""
        return self.root / "opt/hwloop/services"

    @property
    def units(self) -> Path:
        """The directory of units."""
        return self.root / "etc/systemd/system"

    def inside(self, path: Path) -> str:
        """Return a path as the machine itself has it."""
        return f"/{path.relative_to(self.root)}"

    def service(self, name: str) -> Places:
        """Return the places of one service."""
        return Places(self, name)


@dataclass(frozen=True)
class Places:
    """The places of one service.

    Attributes:
        layout: the places of all.
        name: the name of the service.
    """

    layout: Layout
    name: str

    @property
    def home(self) -> Path:
        """The directory of what is installed."""
        return self.layout.services / self.name

    @property
    def current(self) -> Path:
        """The link to the release that the unit starts."""
        return self.home / "current"

    @property
    def unit(self) -> Path:
        """The file of the unit."""
        return self.layout.units / unit_name(self.name)

    @property
    def guardian(self) -> Path:
        """The file of the unit of its guardian, if it has one."""
        return self.layout.units / guardian_name(self.name)

    @property
    def wanted(self) -> Path:
        """The link by which systemd starts the unit at boot."""
        return self.layout.units / "multi-user.target.wants" / unit_name(self.name)

    @property
    def drop_ins(self) -> tuple[Path, Path]:
        """The directories of the administrator's changes to the units (`systemctl edit`)."""
        return self.unit.with_name(f"{self.unit.name}.d"), self.guardian.with_name(f"{self.guardian.name}.d")

    @property
    def configuration(self) -> Path:
        """The directory for configuration."""
        return self.layout.root / "etc/hwloop" / self.name

    @property
    def state(self) -> Path:
        """The directory for state; with a dynamic user a link to `private_state`."""
        return self.layout.root / "var/lib/hwloop" / self.name

    @property
    def private_state(self) -> Path:
        """The directory for the state of a dynamic user (systemd.exec(5))."""
        return self.layout.root / "var/lib/private/hwloop" / self.name

    @property
    def runtime(self) -> tuple[Path, Path]:
        """The directories that last as long as the service and its guardian run."""
        return self.layout.root / "run/hwloop" / self.name, self.layout.root / "run/hwloop-guard" / self.name

    def release(self, number: int) -> Path:
        """Return the directory of a release."""
        return self.home / f"release-{number}"

    def environment(self, key: str) -> Path:
        """Return the directory of an environment."""
        return self.home / f"environment-{key}"
