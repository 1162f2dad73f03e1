#!/usr/bin/env python3
"""Prepare and check a release. Nothing is uploaded.

    tools/release.py prepare 0.2.0   set the version, and give the changelog's unreleased section its number and date
    tools/release.py check           build sdist and wheels, install each into a new environment, run the program there

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
from collections.abc import Iterable
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
    build = (sys.executable, "-m", "build", "--outdir", work / "dist")
    run(*build, root)  # the sdist, and from that the wheel with the compiled core
    run(*build, "--wheel", root, HWLOOP_PURE="1")
    sdist = work / "dist" / f"hwloop-{version}.tar.gz"
    pure = work / "dist" / f"hwloop-{version}-py3-none-any.whl"
    compiled = [path for path in (work / "dist").glob(f"hwloop-{version}-*.whl") if path != pure]
    if not compiled:
        raise ReleaseError("the core was not compiled; the reason is above")
    complete(sdist, [pure, *compiled], root)
    for distribution, core in ((compiled[0], "compiled"), (pure, "pure"), (sdist, "compiled")):
        environment = work / distribution.name
        venv.create(environment, with_pip=True)
        elsewhere = environment / "elsewhere"
        elsewhere.mkdir()
        scripts = environment / "bin"
        # No cache: pip would take the wheel of an earlier sdist of the same name.
        pip = (scripts / "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir")
        run(*pip, "install", distribution, cwd=elsewhere)
        said = run(scripts / "hwloop", "--version", cwd=elsewhere, capture=True)
        if said != f"hwloop {version} ({core} core)\n":
            raise ReleaseError(f"{distribution.name}: 'hwloop --version' printed {said!r}")
        run(scripts / "hwloop", "demo", cwd=elsewhere)
        print(f"{distribution.name}: installed in a new environment, prints its version, runs the demo")


def complete(sdist: Path, wheels: Iterable[Path], root: Path) -> None:
    """Raise `ReleaseError` unless all hold every module and the type markers, and the sdist what is compiled too."""
    files = {
        path.relative_to(root).as_posix(): path.suffix
        for package in ("hwloop", "firmware_sim")
        for path in (root / package).rglob("*")
    }
    needed = {name for name, suffix in files.items() if suffix in (".py", ".toml", ".typed")}
    compiled = {name for name, suffix in files.items() if suffix in (".pxd", ".pyx")}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            lacks(wheel, needed - set(archive.namelist()), "[tool.setuptools] in pyproject.toml")
    with tarfile.open(sdist) as files:
        held = {name.partition("/")[2] for name in files.getnames()}
    lacks(sdist, (needed | compiled) - held, "[tool.setuptools] in pyproject.toml, and MANIFEST.in")


def lacks(distribution: Path, missing: set[str], where: str) -> None:
    """Raise `ReleaseError` if a file is missing in a distribution."""
    if missing:
        raise ReleaseError(f"{distribution.name} lacks {', '.join(sorted(missing))}; see {where}")


def run(*command: str | Path, cwd: Path | None = None, capture: bool = False, **variables: str) -> str:
    """Run a command without the variables that would lead it to the checkout; return what it printed, if captured."""
    ignored = ("PYTHONPATH", "HWLOOP_BOARD", "HWLOOP_PURE")
    environment = {name: value for name, value in os.environ.items() if name not in ignored} | variables
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
        timeout=1200,
    )
    if done.returncode != 0:
        raise ReleaseError(f"{' '.join(map(str, command))}: ended with status {done.returncode}")
    return done.stdout or ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Prepare and check a release. Nothing is uploaded.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="set the version and name the changelog's section").add_argument("version")
    commands.add_parser("check", help="build sdist and wheels, install and run each in a new environment")
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
