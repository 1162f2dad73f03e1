"""The kinds of programs that can be installed: a file, a project with a pyproject.toml, a wheel, a package of an index.

Each says what its environment needs, which files belong to it, and how `hwloop run` starts it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hwloop.deployment.commands import run
from hwloop.deployment.devices import Look
from hwloop.deployment.script import ProgramError, Script, files_below, parse, read_file, read_script

_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\s*(?:\[[A-Za-z0-9._, -]*\])?\s*(?:[(@<>=!~;][ -~]*)?"
)
_CONTENTS = """
import importlib.metadata as metadata, json, sys
found = metadata.distribution(sys.argv[1])
scripts = [each.name for each in found.entry_points if each.group == "console_scripts"]
files = [str(file) for file in found.files or ()]
modules = {file[:-3] for file in files if file.endswith(".py") and "/" not in file}
packages = {file.split("/")[0] for file in files if file.endswith("/__init__.py") and file.count("/") == 1}
runnable = {name for name in packages if f"{name}/__main__.py" in files}
print(json.dumps([scripts, sorted(modules | packages), sorted(modules | runnable)]))
"""
"""Prints the `Contents` of a distribution."""


class Contents(NamedTuple):
    """The contents of an installed distribution."""

    scripts: list[str]
    modules: list[str]
    """Its modules and packages at the top level."""
    runnable: list[str]
    """Those of them that can be run: modules, and packages with a `__main__`."""


@dataclass(frozen=True)
class ScriptProgram:
    """A program in a file, with the modules beside it that it imports.

    Attributes:
        script: the file, and what belongs to it.
        main: the coroutine function to run; "" for `main`, or whatever the file itself runs.
        project: a directory or a wheel that its environment needs: none.
    """

    script: Script
    main: str = ""
    project: Path | None = field(default=None, init=False)

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.script.file.name

    @property
    def stem(self) -> str:
        """Its name, from which that of the service comes."""
        return self.script.file.stem

    @property
    def requirements(self) -> tuple[str, ...]:
        """Packages that its environment needs besides hwloop."""
        return self.script.dependencies

    @property
    def requires_python(self) -> str:
        """The versions of Python that it works with; "" if it does not say."""
        return self.script.requires_python

    @property
    def files(self) -> dict[str, bytes]:
        """The files that a release has, by their relative paths."""
        return self.script.files

    @property
    def digest(self) -> str:
        """A digest of its contents."""
        return digest_of(self.files)

    def look(self) -> Look:
        """Look at its text, for the devices that it uses."""
        look = Look(self.script.modules())
        for tree in self.script.trees():
            look.read(tree)
        return look

    def arguments(self, environment: Path, inside: str, files: str) -> tuple[str, ...]:
        """Return how `hwloop run` starts it; `files` is where the machine itself has its files."""
        path = f"{files}/{self.script.file.name}"
        return (f"{path}:{self.main}" if self.main else path,)


@dataclass(frozen=True)
class InstalledProgram:
    """A program that pip or uv installs: a project, a wheel, or a package of an index. Its attributes are as above.

    Attributes:
        distribution: the name of its package.
        entry: the script or module that runs; "" for the only one, or the one with the name of the package.
        sources: the files that are read for its devices, by their relative paths.
    """

    label: str
    stem: str
    distribution: str
    requirements: tuple[str, ...] = ()
    requires_python: str = ""
    project: Path | None = None
    digest: str = ""
    entry: str = ""
    sources: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def look(self) -> Look:
        """Look at its text, for the devices that it uses. Nothing is known about a package whose text is not here."""
        paths = [Path(name) for name in self.sources]
        look = Look({*(path.parts[0].removesuffix(".py") for path in paths), *(path.parent.name for path in paths)})
        if not self.sources:
            look.unknown.add(self.distribution)
        for name, data in self.sources.items():
            look.read(parse(data, Path(name)))
        return look

    def arguments(self, environment: Path, inside: str, files: str) -> tuple[str, ...]:
        """Return how `hwloop run` starts it from its environment, which the machine itself has at `inside`.

        Raises `ProgramError` where nothing says so.
        """
        said = run([str(environment / "bin/python"), "-I", "-c", _CONTENTS, self.distribution], environment)
        return self.words(Contents(*json.loads(said)), inside)

    def words(self, contents: Contents, inside: str) -> tuple[str, ...]:
        """Return how `hwloop run` starts it, given its contents. Raises `ProgramError` where they don't say so."""
        scripts, modules, runnable = contents
        wanted = self.entry
        if wanted in scripts:
            return (f"{inside}/bin/{wanted}",)
        if wanted and wanted.partition(".")[0] in modules:
            return ("-m", wanted)
        if wanted:
            known = ", ".join([*scripts, *modules]) or "none"
            raise ProgramError(f"--entry {wanted}: {self.label} has no such script or module; it has: {known}")
        named = (self.distribution, self.distribution.replace("-", "_").lower())
        for names in (scripts, runnable):
            chosen = names if len(names) == 1 else [name for name in names if name in named]
            if chosen:
                return (f"{inside}/bin/{chosen[0]}",) if names is scripts else ("-m", chosen[0])
        if len(scripts) > 1:
            raise ProgramError(f"{self.label} has the scripts {', '.join(scripts)}; choose one: --entry {scripts[0]}")
        raise ProgramError(
            f"{self.label} has no script, and no package with a __main__; name a module in it with --entry MODULE, "
            "or give it a script in [project.scripts]"
        )


Program = ScriptProgram | InstalledProgram


def find_program(text: str, entry: str = "") -> Program:
    """Return the program that an argument names: a path, with `:MAIN` or without, or a requirement.

    `entry` is the script or module of a package to run. Raises `ProgramError`.
    """
    path, main = Path(os.path.abspath(text)), ""
    before, colon, name = text.rpartition(":")
    if colon and name.isidentifier() and not os.path.lexists(path):
        path, main = Path(os.path.abspath(before)), name
    if path.is_dir():
        return _project(path, entry)
    if path.suffix == ".whl" and path.is_file():
        return _wheel(path, entry)
    if os.path.lexists(path) or text.endswith(".py") or main:
        if entry:
            raise ProgramError(f"--entry is for projects and packages; {path.name} is a file: give {path.name}:MAIN")
        return ScriptProgram(read_script(path), main)
    if "/" in text.partition("@")[0] or text.endswith((".whl", ".gz", ".zip", ".toml")):
        raise ProgramError(f"{text}: there is no such file or directory; give a program, a project or a package")
    distribution = check_requirement(text)
    return InstalledProgram(text, distribution, distribution, (text,), digest=text, entry=entry)


def check_requirement(text: str) -> str:
    """Return the name of the package in a requirement, or raise `ProgramError`: pip must not take it for an option."""
    if not _REQUIREMENT.fullmatch(text):
        raise ProgramError(f"{text!r} is no file, and no requirement such as 'door-alarm>=1.2'; correct it")
    found = re.match(r"[A-Za-z0-9._-]+", text)
    assert found is not None
    return found[0]


def _project(path: Path, entry: str) -> InstalledProgram:
    definition = path / "pyproject.toml"
    if not os.path.lexists(definition):
        raise ProgramError(f"{path} has no pyproject.toml; give a file in it, or add one (`hwloop new` shows how)")
    try:
        project: Any = tomllib.loads(read_file(definition, below=path).decode()).get("project")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProgramError(f"{definition}: {error}; correct it") from None
    name = project.get("name") if isinstance(project, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise ProgramError(f"{definition}: [project] has no valid name; add one: name = {path.name!r}")
    files = {relative: read_file(file, below=path) for relative, file in files_below(path, path)}
    requires = project.get("requires-python", "")
    sources = {each: data for each, data in files.items() if each.endswith(".py") and not _is_test(each)}
    return InstalledProgram(
        label=f"{path.name}/",
        stem=name,
        distribution=name,
        requires_python=requires if isinstance(requires, str) else "",
        project=path,
        digest=digest_of(files),
        entry=entry,
        sources=sources,
    )


def _wheel(path: Path, entry: str) -> InstalledProgram:
    data, name = read_file(path), path.name.partition("-")[0]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sources = {each: archive.read(each) for each in archive.namelist() if each.endswith(".py")}
    except (zipfile.BadZipFile, EOFError) as error:
        raise ProgramError(f"{path} is not a wheel: {str(error).lower()}; build it again") from None
    digest = digest_of({path.name: data})
    return InstalledProgram(path.name, name, name, project=path, digest=digest, entry=entry, sources=sources)


def _is_test(path: str) -> bool:
    parts = path.split("/")
    return (
        parts[0] in ("tests", "test", "docs", "examples")
        or parts[-1].startswith(("test_", "conftest"))
        or path == "setup.py"
    )


def digest_of(files: dict[str, bytes]) -> str:
    """Return a digest of files."""
    parts = [[name, hashlib.sha256(data).hexdigest()] for name, data in sorted(files.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def satisfies(version: tuple[int, int, int], requires: str) -> bool:
    """Return whether a version of Python is one of those that `requires-python` permits. Raises `ProgramError`."""
    for clause in filter(None, (each.strip() for each in requires.split(","))):
        match = re.fullmatch(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?", clause)
        if match is None:
            raise ProgramError(
                f"requires-python {requires!r}: {clause!r} is no comparison such as '>=3.11'; correct it"
            )
        numbers = tuple(map(int, match[2].split(".")))
        exact = (*numbers, 0, 0)[:3]
        same = version[: len(numbers)] == numbers if match[3] else version == exact
        holds = {
            "~=": version >= exact and version[: len(numbers) - 1] == numbers[:-1],
            "==": same,
            "!=": not same,
            "<=": version <= exact,
            ">=": version >= exact,
            "<": version < exact,
            ">": version > exact,
        }
        if not holds[match[1]]:
            return False
    return True
