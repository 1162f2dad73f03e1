"""Reports of the compiled core for people: whether it runs, is complete, and is that of the sources beside it.

After a `git pull`, a checkout goes on running the core that was compiled before. Looking for that takes longer than
importing a module, so only `hwloop --version` and `hwloop doctor` do it. Only a checkout has the files with types: an
installed hwloop, whose files may have any dates, is never called old.
"""

from __future__ import annotations

from pathlib import Path

from hwloop.core import LIBRARY, core_kind, is_chosen_pure

ROOT = Path(__file__).parents[1]
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
    """Return "pure core" or "compiled core", and what is wrong with that and what to do, if anything."""
    if fault := core_fault():
        return f"compiled core, {fault}: {remedy()}"
    return f"{core_kind()} core"


def core_fault() -> str:
    """Return what is wrong with the compiled core; "" if nothing is, or if there is none."""
    if is_chosen_pure():
        return ""
    there = [(ROOT / package / LIBRARY).exists() for package in PACKAGES]
    if any(there) and not all(there):
        return "with a part missing"
    return "older than its sources" if is_outdated(ROOT) else ""


def remedy() -> str:
    """Return what to do about a fault of the compiled core."""
    return "run make compiled" if _is_checkout(ROOT) else "install hwloop again"


def not_compiled(root: Path = ROOT) -> str:
    """Return that there is no compiled core, and what to do about it."""
    how = (
        "compile it with: make compiled"
        if _is_checkout(root)
        else "install a C compiler (gcc, python3-dev), then hwloop again"
    )
    return f"the core is not compiled; {how}"


def _is_checkout(root: Path) -> bool:
    return (root / "tools" / "compile_core.py").exists()


def is_outdated(root: Path) -> bool:
    """Return whether a compiled core runs that is older than its sources: in the checkout `root`."""
    if core_kind() != "compiled":
        return False
    folders = [root / package for package in PACKAGES]
    sources = [path for folder in folders for types in folder.glob("*.pxd") for path in folder.glob(f"{types.stem}.p*")]
    libraries = [folder / LIBRARY for folder in folders if (folder / LIBRARY).exists()]
    return max(map(_changed, sources), default=0.0) > min(map(_changed, libraries), default=0.0)


def _changed(path: Path) -> float:
    return path.stat().st_mtime
