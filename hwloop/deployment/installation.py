"""Installing, upgrading, going back and removing services: the order of the steps, and what happens when one fails.

Everything new is made beside what runs: an environment, a release, its unit. Only then does the unit change, and the
service starts again. If it does not become ready, the unit of the release before it comes back, and that one starts. So
a step that fails, or a power cut, leaves either the old version or the new one.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hwloop.deployment.accounts import Accounts
from hwloop.deployment.environment import Plan, is_complete, packages_of
from hwloop.deployment.files import check_trusted, make_directory, read_text, remove, remove_if_empty, write_file
from hwloop.deployment.layout import Layout, Places
from hwloop.deployment.order import Order
from hwloop.deployment.quoting import check_name, unit_name
from hwloop.deployment.releases import Release, Releases
from hwloop.deployment.starting import Starter
from hwloop.deployment.systemctl import State, Systemctl
from hwloop.deployment.unit import Unit

_VARIABLES = b"""\
# Variables of this service, one NAME=value on a line; they apply from its next start on.
# HWLOOP_BOARD=sim
# HWLOOP_RECORDER=flight.ring,16M
"""


class InstallationError(Exception):
    """A service could not be installed, started or removed; the message says why, and what to do."""


class Builder(Protocol):
    """A maker of environments."""

    def build(self, plan: Plan, directory: Path) -> str:
        """Make an environment, and return the name of the tool that made it."""


class Services:
    """The services of a machine.

    Parameters:
        layout: their places.
        systemctl: its systemd.
        accounts: its users and groups.
        builder: makes environments.
        say: reports a step to the user, as one line.
        starter: starts services, and finds out whether they are ready.
    """

    def __init__(
        self,
        layout: Layout,
        systemctl: Systemctl,
        accounts: Accounts,
        builder: Builder,
        say: Callable[[str], object],
        starter: Starter | None = None,
    ) -> None:
        self._layout = layout
        self._systemctl = systemctl
        self._accounts = accounts
        self._builder = builder
        self._say = say
        self._starter = starter or Starter(systemctl, say)

    def names(self) -> list[str]:
        """Return the names of the installed services, in order."""
        try:
            found = sorted(path.name for path in self._layout.services.iterdir() if path.is_dir())
        except OSError:
            return []
        return [name for name in found if not name.startswith(".") and self.current(name) is not None]

    def current(self, name: str) -> Release | None:
        """Return the release that a service starts; None where there is no such service."""
        return Releases(self._layout.service(name)).current()

    def state(self, name: str) -> State:
        """Return the state of a service."""
        return self._systemctl.state(unit_name(name))

    def log(self, name: str, lines: int) -> list[str]:
        """Return the last lines of a service's log."""
        return self._systemctl.log(unit_name(name), lines)

    def show_log(self, name: str, lines: int, *, follow: bool) -> int:
        """Print the last lines of a service's log, and return the status of the command that does so."""
        self._check_known(name)
        return self._systemctl.show_log(unit_name(name), lines, follow=follow)

    def python_is_gone(self, name: str) -> bool:
        """Return whether the Python of a service's environment has been removed: the system has got another one."""
        release = self.current(name)
        if release is None:
            return False
        python = self._layout.service(name).environment(release.environment) / "bin/python"
        return not self._layout.is_image and not python.exists()

    # Installing.

    def install(self, order: Order) -> bool:
        """Install a service, or a new version of it, and return whether anything changed.

        Raises `InstallationError` if it does not become ready; then the version before it runs again.
        """
        places = self._layout.service(check_name(order.name))
        with self._locked():
            self._check_foreign(places)
            releases = Releases(places)
            current = releases.current()
            fingerprint = self._fingerprint(order)
            environment = places.environment(order.plan.key)
            if current is not None and current.fingerprint == fingerprint and is_complete(environment):
                if self._is_in_place(places, releases.units(current)):
                    return False
                self._say(f"{order.name}: its unit or its directories were changed: putting them back")
                self._activate(order, places, releases, current, is_new=False)
                return True
            self._make_environment(order, environment)
            if current is not None and self._is_renewed_in_vain(order, places, current, fingerprint):
                remove(environment)
                self._say(f"{order.name}: there are no newer packages")
                return False
            release = self._make_release(order, places, releases, fingerprint, environment)
            self._activate(order, places, releases, release)
            return True

    def _is_renewed_in_vain(self, order: Order, places: Places, current: Release, fingerprint: str) -> bool:
        """Return whether a new environment has the same packages as the current one, and nothing else is new."""
        before = replace(order, plan=replace(order.plan, generation=current.generation))
        if order.plan.generation == current.generation or self._fingerprint(before) != current.fingerprint:
            return False
        old, new = places.environment(current.environment), places.environment(order.plan.key)
        return is_complete(old) and packages_of(old) == packages_of(new)

    def _check_foreign(self, places: Places) -> None:
        """Raise if a unit of the same name is not ours."""
        text = read_text(places.unit)
        if text is not None and "written by hwloop" not in text.partition("\n")[0]:
            raise InstallationError(
                f"{places.unit} exists already and was not made by hwloop; remove it, or choose another --name"
            )

    def _fingerprint(self, order: Order) -> str:
        units = self._unit(order, ("PROGRAM", *order.options("FILES")), "/ENVIRONMENT", mounts=()).files()
        parts = [
            order.program.digest,
            sorted((name, data.hex()) for name, data in order.extra.items()),
            order.plan.key,
            units,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _unit(self, order: Order, words: tuple[str, ...], environment: str, mounts: tuple[str, ...]) -> Unit:
        look = order.program.look()
        return Unit(
            name=order.name,
            program=order.program.label,
            hwloop=f"{environment}/bin/hwloop",
            arguments=words,
            devices=order.devices or look.devices(),
            mounts=mounts,
            user=order.user,
            realtime=order.realtime,
            start_timeout=order.start_timeout,
            has_loop=order.has_loop,
            guarded=order.guarded or look.keeps_outputs,
            unguarded=look.unguarded,
            reloads=look.reloads,
            network=look.reason_for_network(order.network),
        )

    def _make_environment(self, order: Order, directory: Path) -> None:
        if is_complete(directory):
            self._say(f"{order.name}: environment {self._layout.inside(directory)} serves unchanged")
            return
        self._say(f"{order.name}: making an environment with Python {order.plan.python.version_text} …")
        begun = time.monotonic()
        try:
            tool = self._builder.build(order.plan, directory)
        except BaseException:
            remove(directory)
            remove_if_empty([directory.parent])
            raise
        taken = time.monotonic() - begun
        self._say(f"{order.name}: environment {self._layout.inside(directory)}, made by {tool} in {taken:.0f} s")

    def _make_release(
        self, order: Order, places: Places, releases: Releases, fingerprint: str, environment: Path
    ) -> Release:
        number = releases.next_number()
        home = self._layout.inside(places.release(number))
        inside = self._layout.inside(environment)
        files = f"{home}/program"
        words = (*order.program.arguments(environment, inside, files), *order.options(files))
        unit = self._unit(order, words, inside, mounts=(home, inside, order.plan.python.executable))
        release = Release(
            number=number,
            program=order.program.label,
            fingerprint=fingerprint,
            environment=order.plan.key,
            python=order.plan.python.version_text,
            hwloop=order.plan.hwloop.version if order.plan.hwloop else "of the system",
            user=order.user,
            generation=order.plan.generation,
            installed=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        releases.add(release, unit.files(), {**order.program.files, **order.extra})
        return release

    def _is_in_place(self, places: Places, units: dict[Path, str]) -> bool:
        in_place = all(read_text(path) == text for path, text in units.items())
        return in_place and places.wanted.is_symlink() and places.configuration.is_dir()

    # Starting.

    def _activate(
        self, order: Order, places: Places, releases: Releases, release: Release, *, is_new: bool = True
    ) -> None:
        """Start a release; a new one that does not become ready is replaced by the last one that was."""
        name = order.name
        devices = order.devices or order.program.look().devices()
        for added in self._accounts.add(order.user, devices.groups):
            self._say(f"{name}: added the {added}")
        make_directory(places.configuration, root=self._layout.root)
        if not os.path.lexists(places.configuration / "environment"):
            write_file(places.configuration / "environment", _VARIABLES, 0o600, root=self._layout.root)
        earlier = [each for each in releases if each.number < release.number]
        if len(earlier) == 1 and not earlier[0].ready and self.state(name).active == "active":
            releases.write(replace(earlier[0], ready=True))  # that of an image, which nobody has seen start
        is_guardian_new = self._put_in_place(places, releases, release)
        before = releases.previous() if is_new else None
        if not order.start:
            self._say(f"{name}: installed, not started; to start it: hwloop service restart {name}")
            return
        if not self._systemctl.running:
            self._say(f"{name}: installed; it starts at the next boot, as systemd does not run here")
            releases.clean()
            return
        try:
            problem = self._starter.start(name)
        except BaseException:
            if before is not None:
                self._put_in_place(places, releases, before)
                self._systemctl.restart(places.unit.name)
            raise
        if not problem:
            releases.write(replace(release, ready=True))
            if is_guardian_new:  # it holds outputs with code whose environment may be removed now
                self._systemctl.restart_running(places.guardian.name)
            releases.clean()
            return
        if before is None:
            self._systemctl.stop(unit_name(name))
            raise InstallationError(
                f"{name} {problem}\nit is installed, but stopped; correct the program and run the same command again, "
                f"or remove it: hwloop service uninstall {name}"
            )
        # Not stopped in between: its guardian would end, and kept outputs with it.
        self._put_in_place(places, releases, before)
        releases.remove(release)
        again = self._starter.start(name)
        releases.clean()
        ready = f"release {before.number} runs again" if not again else f"release {before.number} {again}"
        raise InstallationError(f"{name}: the new version {problem}\nwent back to the version before it: {ready}")

    def _put_in_place(self, places: Places, releases: Releases, release: Release) -> bool:
        """Have systemd know a release, and return whether the unit of a guardian has changed."""
        units = releases.units(release)
        is_guardian_new = read_text(places.guardian) not in (None, units.get(places.guardian))
        for path, text in units.items():
            write_file(path, text.encode(), root=self._layout.root)
        if places.guardian not in units:
            remove(places.guardian)
        releases.switch(release)
        self._systemctl.reload()
        self._systemctl.enable(places.unit.name)
        return is_guardian_new

    def restart(self, name: str) -> None:
        """Start a service anew. Raises `InstallationError` if it does not become ready."""
        self._check_known(name)
        self._check_running()
        problem = self._starter.start(name)
        if problem:
            raise InstallationError(f"{name} {problem}")
        places = self._layout.service(name)
        release = Releases(places).current()
        if release is not None and not release.ready:
            Releases(places).write(replace(release, ready=True))

    def roll_back(self, name: str) -> None:
        """Go back to the version before the current one. Raises `InstallationError` where there is none."""
        self._check_known(name)
        places = self._layout.service(name)
        with self._locked():
            releases = Releases(places)
            previous, current = releases.previous(), releases.current()
            if previous is None or current is None:
                raise InstallationError(f"{name}: there is no earlier version that was ever ready; install it again")
            self._put_in_place(places, releases, previous)
            self._say(f"{name}: release {previous.number} ({previous.program}, {previous.installed}) is in place")
            if self._systemctl.running and (problem := self._starter.start(name)):
                raise InstallationError(f"{name} {problem}")
            releases.remove(current)
            releases.clean()

    # Removing.

    def uninstall(self, name: str, *, keep_data: bool = False) -> list[str]:
        """Stop a service and remove all of it; return the paths that were removed.

        With `keep_data`, its configuration and its state stay. Raises `InstallationError` for an unknown service, and
        `UnsafePathError` where somebody else decides what is in a directory.
        """
        places = self._layout.service(check_name(name))
        with self._locked():
            known = os.path.lexists(places.home)
            if not known and not (os.path.lexists(places.configuration) or os.path.lexists(places.state)):
                self._check_known(name)
            data = [] if keep_data else [places.configuration, places.state, places.private_state]
            units = (places.unit, places.guardian, places.wanted, *places.drop_ins)
            paths = [*units, places.home, *places.runtime, *data]
            for path in filter(os.path.lexists, paths):
                check_trusted(path.parent, self._layout.root)
            if known:
                unit = places.unit.name
                self._systemctl.stop(unit)
                self._systemctl.stop(places.guardian.name)
                if places.wanted.is_symlink():
                    self._systemctl.disable(unit)
            removed = [self._layout.inside(path) for path in paths if remove(path)]
            if known:
                self._systemctl.reload()
            last = not self.names()
            if last and not keep_data:
                removed += self._accounts.remove_added()
        return removed

    def _remove_shared(self) -> None:
        """Remove the directories that all services share, as far as they are empty."""
        root, services = self._layout.root, self._layout.services
        (services / ".lock").unlink(missing_ok=True)
        remove_if_empty(
            [
                services, services.parent, root / "etc/hwloop", root / "var/lib/hwloop",
                root / "var/lib/private/hwloop", root / "run/hwloop", root / "run/hwloop-guard",
            ]
        )  # fmt: skip

    def _check_known(self, name: str) -> None:
        if self.current(check_name(name)) is None:
            known = ", ".join(self.names()) or "none"
            raise InstallationError(f"there is no service {name}; installed are: {known}")

    def _check_running(self) -> None:
        if not self._systemctl.running:
            raise InstallationError("systemd does not run here; services start at the next boot of this machine")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other installations on this machine away."""
        make_directory(self._layout.services, root=self._layout.root)
        lock = os.open(self._layout.services / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InstallationError("another hwloop service command is at work; wait until it has ended") from None
            try:
                yield
            finally:
                if not any(path.is_dir() for path in self._layout.services.iterdir()):
                    self._remove_shared()
        finally:
            os.close(lock)
