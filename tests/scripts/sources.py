"""Programs and tests of other projects, fetched when the tests run and never committed.

PyPI's wheels have libraries only. Source distributions from PyPI are downloaded by pip; directories of a public
repository, which no distribution contains, come from its archive. Both are compared with the hash given here, and kept
in $XDG_CACHE_HOME/hwloop-scripts (~/.cache/hwloop-scripts).

    python3 tests/scripts/sources.py        fetches all; status 69: some are not available, and which is printed
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hwloop-scripts"
SECONDS = 120


class Unavailable(Exception):
    """The package index or the network does not provide a source."""


class Mismatch(Exception):
    """A source is not the one that was tried."""


@dataclass(frozen=True)
class Distribution:
    """The source distribution of a package on PyPI."""

    package: str
    version: str
    sha256: str

    def unpack(self, work: Path) -> Path:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command = [*pip, "--no-binary", ":all:", "--dest", str(work), f"{self.package}=={self.version}"]
        environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        if subprocess.run(command, env=environment, timeout=SECONDS).returncode:
            raise Unavailable(f"pip could not download the source distribution of {self.package} {self.version}")
        (archive,) = work.iterdir()
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != self.sha256:
            raise Mismatch(f"{archive.name} has the SHA-256 {found}, not {self.sha256}")
        return _unpacked(archive, work)


@dataclass(frozen=True)
class Directory:
    """A directory of a repository on GitHub, at a tag; `tree` is its git tree, which the archive does not change."""

    repository: str
    tag: str
    path: str
    tree: str

    def unpack(self, work: Path) -> Path:
        url = f"https://github.com/{self.repository}/archive/refs/tags/{self.tag}.tar.gz"
        archive = work / "archive.tar.gz"
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                archive.write_bytes(answer.read())
        except (urllib.error.URLError, OSError) as error:
            raise Unavailable(f"{url}: {error}") from error
        found = _unpacked(archive, work) / self.path
        if (tree := git_tree(found).hex()) != self.tree:
            raise Mismatch(f"{url}: {self.path} is the git tree {tree}, not {self.tree}")
        return found


SOURCES: dict[str, Distribution | Directory] = {
    "gpiod": Distribution("gpiod", "2.5.0", "53ae5a1f14d6388c155b591ca0fc0cfa73b44d4f6d8d117e8a9e68f5902d187a"),
    "gpiod-examples": Directory(
        "brgl/libgpiod", "v2.3", "bindings/python/examples", "b7d647cfddcf4b332fda88c4f758cf3a4be24bdb"
    ),
    "gpiozero-examples": Directory(
        "gpiozero/gpiozero", "v2.0.1.post3", "docs/examples", "3f1d7651563fd293bbc77e19f12f66b40f02c8f5"
    ),
    "lgpio": Distribution("lgpio", "0.2.2.0", "11372e653b200f76a0b3ef8a23a0735c85ec678a9f8550b9893151ed0f863fff"),
    "lgpio-examples": Directory(
        "joan2937/lg", "v0.2.2", "EXAMPLES/py_lgpio", "17e635bd10bc0305f64a5580bca33b00f519ea9f"
    ),
    # Not in requirements.txt: it requires packages for a real board.
    "mfrc522": Distribution("mfrc522", "0.0.7", "74c7020a4fc4870f5d7022542c36143fba771055a2fae2e5929e6a1159d2bf00"),
}
"""By name."""


def fetch(name: str) -> Path:
    """Return the directory of a source, which is fetched unless it is there. Raises `Unavailable` and `Mismatch`."""
    source = SOURCES[name]
    key = hashlib.sha256(repr(source).encode()).hexdigest()[:12]
    place = CACHE / f"{name}-{key}"
    if place.is_dir():
        return place
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE) as work:
                os.rename(source.unpack(Path(work)), place)
    return place


def _unpacked(archive: Path, work: Path) -> Path:
    """Unpack an archive, and return the one directory in it."""
    where = work / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(where, filter="data")
    (root,) = where.iterdir()
    return root


def git_tree(directory: Path) -> bytes:
    """Return the id that git gives to a directory without links and programs."""
    entries: list[tuple[str, bytes, bytes]] = []
    for each in directory.iterdir():
        if each.is_dir():
            entries.append((f"{each.name}/", b"40000 " + each.name.encode(), git_tree(each)))
        else:
            mode = b"100755 " if os.access(each, os.X_OK) else b"100644 "
            entries.append((each.name, mode + each.name.encode(), _git_object(b"blob", each.read_bytes())))
    return _git_object(b"tree", b"".join(head + b"\0" + id for _, head, id in sorted(entries)))


def _git_object(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).digest()


def main() -> int:
    missing = 0
    for name in SOURCES:
        try:
            print(f"{name}: {fetch(name)}")
        except Unavailable as unavailable:
            missing += 1
            print(f"NOT RUN: tests that need {name}: {unavailable}", file=sys.stderr)
    return os.EX_UNAVAILABLE if missing else 0


if __name__ == "__main__":
    sys.exit(main())
