"""Reports of the compiled core for people: whether it runs, and whether it is that of the sources beside it.

After a `git pull`, a checkout goes on running the core that was compiled before. Looking for that takes longer than
importing a module, so only `hwloop --version` and `hwloop doctor` do it. Only a checkout has the files with types: an
installed hwloop, whose files may have any dates, is never called old.
"""

from __future__ import annotations

from pathlib import Path

from hwloop.core import LIBRARY, core_kind

REMEDY = "make compiled"
PACKAGES = (
    "firmware_sim",
    "hwloop/boards",
    "hwloop/boards/gpiod",
    "hwloop/boards/lgpio",
    "hwloop/core",
    "hwloop/sources",
    "hwloop/virtual",
)


def core_state() -> str:
    """Return "pure core" or "compiled core", and what to do if that is older than its sources."""
    older = f", older than its sources: run {REMEDY}" if is_outdated() else ""
    return f"{core_kind()} core{older}"


def is_outdated(root: Path = Path(__file__).parents[1]) -> bool:
    """Return whether a compiled core runs that is older than its sources: in the checkout `root`."""
    if core_kind() != "compiled":
        return False
    folders = [root / package for package in PACKAGES]
    sources = [path for folder in folders for types in folder.glob("*.pxd") for path in folder.glob(f"{types.stem}.p*")]
    libraries = [folder / LIBRARY for folder in folders if (folder / LIBRARY).exists()]
    return max(map(_changed, sources), default=0.0) > min(map(_changed, libraries), default=0.0)


def _changed(path: Path) -> float:
    return path.stat().st_mtime
