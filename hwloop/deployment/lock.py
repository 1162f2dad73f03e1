"""A lock: the exact versions of all packages of an environment, each with its hashes, in a requirements file of pip's.

An index, a mirror or a network in between can then not slip in anything else: pip and uv install with --require-hashes,
which rejects whatever has another hash and whatever the lock does not list. Nothing is built, as the tools that would
build it are in no lock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwloop.deployment.script import ProgramError, read_file

_ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[A-Za-z0-9._, -]*\])?\s*==\s*[A-Za-z0-9.!+_-]+\s*"
    r"(?:;(?:(?!--)[^#])*[^\s;#])?(?:\s+--hash=sha(?:256|384|512):[0-9a-f]+)+"
)
_REMEDY = "make it with: uv pip compile --generate-hashes, pip-compile --generate-hashes, or uv export"


@dataclass(frozen=True)
class Lock:
    """The entries of a lock.

    Attributes:
        entries: requirements with their hashes, by the normalized names of their packages, one after the other.
    """

    entries: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """A digest of its contents."""
        return hashlib.sha256(repr(self.entries).encode()).hexdigest()

    def check_has(self, requirements: Iterable[str]) -> None:
        """Raise `ProgramError` for a requirement whose package the lock does not have."""
        names = {name for name, _ in self.entries}
        for each in requirements:
            name = re.split(r"[^A-Za-z0-9._-]", each.strip(), maxsplit=1)[0]
            if normalized(name) not in names:
                raise ProgramError(f"the lock has no {name}, which the program needs ({each}); make it again with it")

    def text(self, wheels: Iterable[Path]) -> str:
        """Return a requirements file with these wheels, which are trusted, instead of the lock's entries for them."""
        own = {normalized(path.name.partition("-")[0]): path for path in wheels}
        lines = [entry for name, entry in self.entries if name not in own]
        lines += [
            f"{path.as_uri()} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in own.values()
        ]
        return "\n".join(lines) + "\n"


def normalized(name: str) -> str:
    """Return the name of a package as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> Lock:
    """Read a lock. Raises `ProgramError` for a missing file, and for anything but pinned, hashed requirements."""
    text = read_file(path).decode(errors="replace").replace("\\\r\n", " ").replace("\\\n", " ")
    entries = list[tuple[str, str]]()
    for line in text.splitlines():
        entry = re.sub(r"(^|\s)#.*", "", line).strip()
        if not entry:
            continue
        found = _ENTRY.fullmatch(entry)
        if found is None:
            shown = entry if len(entry) <= 60 else f"{entry[:60]}…"
            raise ProgramError(f"{path}: {shown!r} is no package with its version (==) and hashes; {_REMEDY}")
        entries.append((normalized(found["name"]), entry))
    if not entries:
        raise ProgramError(f"{path} lists no packages; {_REMEDY}")
    return Lock(tuple(entries))
