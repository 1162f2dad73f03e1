"""The installed versions of a service: directories with a number each, and the link to the one that its unit starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hwloop.deployment.files import make_directory, read_text, remove, write_file, write_link
from hwloop.deployment.layout import Places

_RECORD = "release.json"


@dataclass(frozen=True)
class Release:
    """The record of one installed version.

    Attributes:
        number: 1 for the first.
        program: the program, as people know it.
        fingerprint: another one for another program, environment or unit.
        environment: the key of its environment.
        python: the version of Python.
        hwloop: the version of hwloop.
        user: the user that it runs as; "" for a dynamic one.
        installed: when, in ISO 8601.
        generation: how often its packages were renewed without any other change.
        ready: whether it has ever become ready.
    """

    number: int
    program: str
    fingerprint: str
    environment: str
    python: str
    hwloop: str
    user: str
    installed: str
    generation: int = 0
    ready: bool = False


class Releases:
    """The releases of one service.

    Parameters:
        places: the places of the service.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._root = places.layout.root

    def __iter__(self) -> Iterator[Release]:
        """Yield the complete ones, in order of their numbers."""
        found = (self._read(path) for path in self._places.home.glob("release-*"))
        return iter(sorted((each for each in found if each is not None), key=lambda each: each.number))

    def current(self) -> Release | None:
        """Return the one that the unit starts; None where nothing is installed."""
        try:
            target = os.readlink(self._places.current)
        except OSError:
            return None
        return self._read(self._places.home / os.path.basename(target))

    def previous(self) -> Release | None:
        """Return the one to go back to: the last one before the current one that has been ready."""
        current = self.current()
        before = [each for each in self if current is not None and each.number < current.number and each.ready]
        return before[-1] if before else None

    def next_number(self) -> int:
        """Return a number that no release has had."""
        numbers = [
            int(path.name.partition("-")[2])
            for path in self._places.home.glob("release-*")
            if path.name[8:].isdecimal()
        ]
        return max(numbers, default=0) + 1

    def units(self, release: Release) -> dict[Path, str]:
        """Return the units of a release, by the paths where systemd finds them."""
        home = self._places.release(release.number)
        found = {path: read_text(home / path.name) for path in (self._places.unit, self._places.guardian)}
        return {path: text for path, text in found.items() if text is not None}

    def add(self, release: Release, units: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        """Write a release: its files below `program`, its units, then its record, with which it is complete."""
        home = self._places.release(release.number)
        remove(home)
        make_directory(home, root=self._root)
        for name, data in files.items():
            write_file(home / "program" / name, data, root=self._root)
        for name, text in units.items():
            write_file(home / name, text.encode(), root=self._root)
        self.write(release)

    def write(self, release: Release) -> None:
        """Write the record of a release."""
        data = json.dumps(asdict(release), indent=2).encode()
        write_file(self._places.release(release.number) / _RECORD, data, root=self._root)

    def switch(self, release: Release) -> None:
        """Make a release the current one."""
        write_link(self._places.current, f"release-{release.number}", root=self._root)

    def remove(self, release: Release) -> None:
        """Remove a release."""
        remove(self._places.release(release.number))

    def clean(self) -> None:
        """Remove all but the current release and the one to go back to, environments that none has, and leftovers."""
        kept = [each for each in (self.current(), self.previous()) if each is not None]
        names = {"current"}
        for release in kept:
            names |= {self._places.release(release.number).name, self._places.environment(release.environment).name}
        for path in self._places.home.iterdir():
            if path.name not in names:
                remove(path)

    def _read(self, directory: Path) -> Release | None:
        try:
            found = json.loads(read_text(directory / _RECORD) or "null")
            return Release(**{each.name: found[each.name] for each in fields(Release)})
        except (ValueError, TypeError, KeyError):
            return None
