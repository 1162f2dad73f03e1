#!/usr/bin/env python3
"""Prepare and check a release. Nothing is uploaded.

    tools/release.py prepare 0.2.0   set the version, and give the changelog's unreleased section its number and date
    tools/release.py check           build wheel and sdist, install each into a new environment, run the program there

`prepare` changes two files, for a person to read and commit. `check` leaves the distributions in build/release/dist.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
UNRELEASED = "## Unreleased\n"


class ReleaseError(Exception):
    """The release can't be made; the message says why."""


def current_version(root: Path) -> str:
    """Return the version that the package states; no other file states it."""
    return VERSION.findall((root / "hwloop" / "__init__.py").read_text(encoding="utf-8"))[0]


def numbers(version: str) -> tuple[int, ...]:
    """Return the parts of a version as numbers. Raises `ReleaseError` for anything but three of them."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ReleaseError(f"{version!r} is not a version; write three numbers, such as 0.2.0")
    return tuple(map(int, version.split(".")))


def prepare(root: Path, version: str, today: datetime.date) -> None:
    """Set the version, and turn the changelog's unreleased section into that of the version."""
    before = current_version(root)
    if numbers(version) <= numbers(before):
        raise ReleaseError(f"{version} does not follow {before}")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if not unreleased(text):
        raise ReleaseError("CHANGELOG.md: nothing under Unreleased; describe the changes there")
    package = root / "hwloop" / "__init__.py"
    package.write_text(VERSION.sub(f'__version__ = "{version}"', package.read_text(encoding="utf-8")), encoding="utf-8")
    heading = f"{UNRELEASED}\n## {version} - {today.isoformat()}\n"
    changelog.write_text(text.replace(UNRELEASED, heading, 1), encoding="utf-8")


def unreleased(changelog: str) -> str:
    """Return the text of the changelog's unreleased section. Raises `ReleaseError` if it has none."""
    if UNRELEASED not in changelog:
        raise ReleaseError(f"CHANGELOG.md: no section {UNRELEASED.strip()!r}")
    return re.split(r"^## ", changelog.partition(UNRELEASED)[2], maxsplit=1, flags=re.MULTILINE)[0].strip()


def check(root: Path) -> None:
    """Build the distributions, and try each where nothing of the checkout is in reach."""
    version = current_version(root)
    work = root / "build" / "release"
    shutil.rmtree(work, ignore_errors=True)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if f"\n## {version} " not in changelog and not unreleased(changelog):
        raise ReleaseError(f"CHANGELOG.md: neither a section {version} nor anything under Unreleased")
    run(sys.executable, "-m", "build", "--outdir", work / "dist", root)
    [wheel] = (work / "dist").glob(f"hwloop-{version}-*.whl")
    sdist = work / "dist" / f"hwloop-{version}.tar.gz"
    complete(wheel, sdist, root)
    for distribution in (wheel, sdist):
        environment = work / distribution.name
        venv.create(environment, with_pip=True)
        elsewhere = environment / "elsewhere"
        elsewhere.mkdir()
        scripts = environment / "bin"
        run(scripts / "pip", "install", "--quiet", "--disable-pip-version-check", distribution, cwd=elsewhere)
        said = run(scripts / "hwloop", "--version", cwd=elsewhere, capture=True)
        if said != f"hwloop {version}\n":
            raise ReleaseError(f"{distribution.name}: 'hwloop --version' printed {said!r}")
        run(scripts / "hwloop", "demo", cwd=elsewhere)
        print(f"{distribution.name}: installed in a new environment, prints its version, runs the demo")


def complete(wheel: Path, sdist: Path, root: Path) -> None:
    """Raise `ReleaseError` unless both distributions hold every module and the type markers."""
    needed = {
        path.relative_to(root).as_posix()
        for package in ("hwloop", "firmware_sim")
        for path in (root / package).rglob("*")
        if path.suffix in (".py", ".toml", ".typed")
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    with tarfile.open(sdist) as files:
        source = {name.partition("/")[2] for name in files.getnames()}
    for name, held in ((wheel.name, packed), (sdist.name, source)):
        if missing := sorted(needed - held):
            raise ReleaseError(f"{name} lacks {', '.join(missing)}; see [tool.setuptools] in pyproject.toml")


def run(*command: str | Path, cwd: Path | None = None, capture: bool = False) -> str:
    """Run a command without the variables that would lead it to the checkout; return what it printed, if captured."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HWLOOP_BOARD")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(map(str, command))}: ended with status {done.returncode}")
    return done.stdout or ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Prepare and check a release. Nothing is uploaded.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="set the version and name the changelog's section").add_argument("version")
    commands.add_parser("check", help="build wheel and sdist, install and run each in a new environment")
    options = parser.parse_args()
    try:
        if options.command == "prepare":
            prepare(ROOT, options.version, datetime.date.today())
        else:
            check(ROOT)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
