"""The virtual environment of a service: made by uv where it is present, else by venv and pip, and never changed.

An environment is made in a directory whose name depends on all that it is made from, so a change makes another one, and
the one before it is still there to go back to. It is complete once it has its record, `environment.json`; whatever has
none was interrupted, and is made anew. Nothing in it needs pip, which is left out where another one can fill it.

For an image, this machine's Python fills the directory, and the paths in it are those that the image has.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path
from typing import Any, Protocol

from hwloop.deployment.commands import find_tool, run
from hwloop.deployment.files import make_directory, make_readable, read_text, remove, write_file
from hwloop.deployment.interpreter import Interpreter
from hwloop.deployment.layout import Layout
from hwloop.deployment.lock import Lock
from hwloop.deployment.own_wheel import Wheel

RECORD = "environment.json"
_LAUNCHER = """#!{python}
import sys
from hwloop.cli import script
if __name__ == "__main__":
    sys.exit(script())
"""
_CONTENTS = """
import importlib.metadata as metadata, json
print(json.dumps(sorted(f"{each.name}=={each.version}" for each in metadata.distributions())))
"""


@dataclass(frozen=True)
class Plan:
    """All that an environment is made from.

    Attributes:
        python: the Python.
        hwloop: hwloop itself; None where the environment sees that of the system.
        requirements: packages from the index or the wheelhouse.
        project: a directory of a project, or a wheel, that is installed too; `project_digest` stands for its contents.
        wheelhouse: a directory of wheels, the only source of packages; None for the index.
        constraints: a file of pip's that limits versions; `constraints_digest` stands for its contents.
        lock: the versions and hashes of all packages; None to take what fits.
        system_packages: whether it sees the packages of the system.
        generation: a number that makes another environment from the same things.
    """

    python: Interpreter
    hwloop: Wheel | None
    requirements: tuple[str, ...] = ()
    project: Path | None = None
    project_digest: str = ""
    wheelhouse: Path | None = None
    constraints: Path | None = None
    constraints_digest: str = ""
    lock: Lock | None = None
    system_packages: bool = False
    generation: int = 0

    @property
    def wheels_only(self) -> bool:
        """Whether no package is built: a build executes code, with tools that come from an index."""
        return self.wheelhouse is not None or self.lock is not None

    @property
    def key(self) -> str:
        """A short text that is another one for other contents. The wheelhouse has no part in it."""
        parts: list[Any] = [
            asdict(self.python), self.hwloop and self.hwloop.digest, self.requirements, self.project_digest,
            self.constraints_digest, self.system_packages, self.generation, self.lock and self.lock.digest,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


class Tool(Protocol):
    """A program that makes environments."""

    name: str

    def create(self, plan: Plan, directory: Path) -> None:
        """Make an empty environment. Raises `CommandError`."""

    def wheel(self, plan: Plan, project: Path, target: Path) -> None:
        """Build the wheel of a project in `target`. Raises `CommandError`."""

    def install(self, plan: Plan, directory: Path, wanted: Sequence[str]) -> None:
        """Install what these words of a command line name. Raises `CommandError`."""


class Uv:
    """uv, at a path. Its cache stays out of play: the files of an environment must be links to nobody else's."""

    name = "uv"

    def __init__(self, path: str) -> None:
        self._path = path

    def create(self, plan: Plan, directory: Path) -> None:
        system = ["--system-site-packages"] if plan.system_packages else []
        self._run(
            "venv", "--quiet", "--python", plan.python.executable, *system, str(directory), where=directory.parent
        )

    def wheel(self, plan: Plan, project: Path, target: Path) -> None:
        self._run(
            "build", "--quiet", "--wheel", "--python", plan.python.executable, "--out-dir", str(target),
            *_sources(plan), str(project), where=target,
        )  # fmt: skip

    def install(self, plan: Plan, directory: Path, wanted: Sequence[str]) -> None:
        built = ["--no-build"] if plan.wheels_only else []
        self._run(
            "pip", "install", "--quiet", "--python", str(directory / "bin/python"), "--link-mode=copy",
            "--compile-bytecode", *_sources(plan), *built, *wanted, where=directory,
        )  # fmt: skip

    def _run(self, *arguments: str, where: Path) -> None:
        run([self._path, "--no-cache", "--no-python-downloads", "--no-progress", *arguments], where)


class Pip:
    """venv and pip. The pip is hwloop's own, or else one that venv puts into the environment."""

    name = "pip"

    def __init__(self) -> None:
        self._own = [sys.executable, "-I", "-m", "pip"] if util.find_spec("pip") is not None else None

    def create(self, plan: Plan, directory: Path) -> None:
        options = ["--without-pip"] if self._own else []
        options += ["--system-site-packages"] if plan.system_packages else []
        run([plan.python.executable, "-I", "-m", "venv", *options, str(directory)], directory.parent)

    def wheel(self, plan: Plan, project: Path, target: Path) -> None:
        self._run(
            plan,
            target,
            "wheel",
            "--no-deps",
            "--wheel-dir",
            str(target),
            *_sources(plan),
            str(project),
        )

    def install(self, plan: Plan, directory: Path, wanted: Sequence[str]) -> None:
        built = ["--only-binary=:all:"] if plan.wheels_only else []
        self._run(plan, directory, "install", *_sources(plan), *built, *wanted)

    def _run(self, plan: Plan, directory: Path, *arguments: str) -> None:
        python = next(path for path in (directory, *directory.parents) if (path / "bin/python").exists()) / "bin/python"
        command = [*self._own, "--python", str(python)] if self._own else [str(python), "-I", "-m", "pip"]
        quiet = ("--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-input")
        run([*command, *arguments[:1], *quiet, *arguments[1:]], directory, "pip")


def _sources(plan: Plan) -> list[str]:
    options = [] if plan.wheelhouse is None else ["--no-index", "--find-links", str(plan.wheelhouse)]
    return options + ([] if plan.constraints is None else ["--constraint", str(plan.constraints)])


def choose_tool(configuration: Path = Path("/etc/pip.conf")) -> Tool:
    """Return uv where it is present, else pip. Where pip is configured with other indexes, uv would not ask them."""
    found = find_tool("uv")
    return Uv(found) if found and not _other_indexes(configuration) else Pip()


def _other_indexes(configuration: Path) -> bool:
    """Return whether pip's configuration names indexes. On Raspberry Pi OS it names piwheels, for its machines."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(read_text(configuration) or "")
    except configparser.Error:
        return True
    names = ("index-url", "extra-index-url", "find-links")
    return any(parser.has_option(section, name) for section in parser.sections() for name in names)


class EnvironmentBuilder:
    """Makes environments.

    Parameters:
        layout: the places of services.
        tool: returns the program that makes them.
    """

    def __init__(self, layout: Layout, tool: Callable[[], Tool] = choose_tool) -> None:
        self._layout = layout
        self._tool = tool

    def build(self, plan: Plan, directory: Path) -> str:
        """Make an environment and return the name of the tool that made it. Raises `CommandError`."""
        tool = self._tool()
        remove(directory)
        make_directory(directory, root=self._layout.root)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=directory.parent) as scratch:
            wheels = []
            tool.create(plan, directory)
            if plan.hwloop is not None:
                wheels.append(Path(scratch, plan.hwloop.file_name))
                wheels[-1].write_bytes(plan.hwloop.data)
            if plan.project is not None:
                wheels.append(self._wheel_of(tool, plan, directory, Path(scratch)))
            wanted = [*map(str, wheels), *plan.requirements]
            if plan.lock is not None:
                locked = Path(scratch, "requirements.txt")
                locked.write_text(plan.lock.text(wheels), encoding="utf-8")
                wanted = ["--require-hashes", "--requirement", str(locked)]
            if wanted:
                tool.install(plan, directory, wanted)
        self._finish(plan, tool, directory)
        return tool.name

    def _wheel_of(self, tool: Tool, plan: Plan, directory: Path, scratch: Path) -> Path:
        """Return the wheel of the plan's project."""
        assert plan.project is not None
        if plan.project.suffix == ".whl":
            return plan.project
        # From a copy: building leaves files behind, and uses those of earlier builds.
        copy, target = scratch / "project", directory / "built"
        shutil.copytree(plan.project, copy, symlinks=True, ignore=_ignored)
        target.mkdir()
        tool.wheel(plan, copy, target)
        [built] = target.glob("*.whl")
        wheel = scratch / built.name
        shutil.move(built, wheel)
        shutil.rmtree(target)
        return wheel

    def _finish(self, plan: Plan, tool: Tool, directory: Path) -> None:
        python = directory / "bin/python"
        contents = json.loads(run([str(python), "-I", "-c", _CONTENTS], directory))
        launcher = directory / "bin/hwloop"
        if not launcher.exists():
            write_file(launcher, _LAUNCHER.format(python=python).encode(), 0o755, root=self._layout.root)
        for each in {*directory.glob("bin/[aA]ctivate*"), *directory.glob("bin/*.bat")}:
            each.unlink()
        for each in directory.glob("lib/*/site-packages/*.dist-info/direct_url.json"):
            if str(directory.parent) in (read_text(each) or ""):  # of a wheel that was built here, and is gone
                each.unlink()
        self._relocate(directory)
        make_readable(directory)
        os.sync()  # or the record could outlive a power cut, and what it calls complete could not
        record = {"tool": tool.name, "python": plan.python.version_text, "packages": contents}
        write_file(directory / RECORD, json.dumps(record, indent=2).encode(), root=self._layout.root)

    def _relocate(self, directory: Path) -> None:
        """Replace the paths of an image on this machine by those that the image has."""
        here, there = str(directory), self._layout.inside(directory)
        if here == there:
            return
        for file in (*directory.glob("bin/*"), directory / "pyvenv.cfg"):
            if file.is_file() and not file.is_symlink():
                data = file.read_bytes()
                if here.encode() in data:
                    file.write_bytes(data.replace(here.encode(), there.encode()))


def packages_of(directory: Path) -> list[str]:
    """Return the packages of a complete environment with their versions: "smbus2==0.5"."""
    return list(json.loads((directory / RECORD).read_text(encoding="utf-8")).get("packages", ()))


def is_complete(directory: Path) -> bool:
    """Return whether an environment was made to its end, and its Python is still there."""
    return (directory / RECORD).is_file() and os.path.lexists(directory / "bin/python")


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Return the entries of a project that are no part of it; version control is, for versions that come from it."""
    from hwloop.deployment.script import SKIPPED

    return {name for name in names if name in SKIPPED - {".git", ".hg"} or name.endswith((".egg-info", ".pyc"))}
