"""A program in a file: its dependencies (PEP 723), and the modules beside it that it imports.

Only what the text says is known; nothing is executed. The files are read as root from a directory of somebody else, so
no symbolic link is followed: it might lead to a file that only root may read, whose copy everybody could.
"""

from __future__ import annotations

import ast
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwloop.deployment.visibility import within

_METADATA = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The expression of PEP 723."""
SKIPPED = frozenset(
    (".git", ".hg", ".venv", "venv", "__pycache__", "build", "dist", "node_modules", ".tox", ".nox", ".idea", ".vscode",
     ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".cache")
)  # fmt: skip
"""Directories that are no part of a program."""


class ProgramError(Exception):
    """A program can't be installed; the message says why, and what to do."""


@dataclass(frozen=True)
class Script:
    """A program in a file.

    Attributes:
        file: its path.
        files: its contents and those of the modules beside it, by their paths relative to its directory.
        dependencies: the requirements that it lists.
        requires_python: the versions of Python that it lists; "" for any.
    """

    file: Path
    files: dict[str, bytes]
    dependencies: tuple[str, ...]
    requires_python: str

    @property
    def tree(self) -> ast.Module:
        """The syntax tree of its own file."""
        return parse(self.files[self.file.name], self.file)

    def trees(self) -> Iterator[ast.Module]:
        """Yield the syntax tree of each file."""
        for name, data in self.files.items():
            if name.endswith(".py"):
                yield parse(data, self.file.parent / name)

    def modules(self) -> set[str]:
        """Return the names of the modules and packages that it consists of."""
        return {name.partition("/")[0].removesuffix(".py") for name in self.files}


def read_script(file: Path) -> Script:
    """Read a program and the modules beside it that it imports, at any depth. Raises `ProgramError`."""
    data = read_file(file)
    tree = parse(data, file)
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        raise ProgramError(
            f"{file} is a module of a package (it has a relative import); install the package: "
            "the directory with its pyproject.toml"
        )
    metadata = read_metadata(data.decode(errors="replace"), file)
    dependencies, requires = metadata.get("dependencies", []), metadata.get("requires-python", "")
    if not isinstance(dependencies, list) or not all(isinstance(each, str) for each in dependencies):
        raise ProgramError(f"{file}: dependencies must be a list of strings (PEP 723)")
    if not isinstance(requires, str):
        raise ProgramError(f"{file}: requires-python must be a string (PEP 723)")
    table: Any = metadata
    for key in ("tool", "uv", "sources"):
        table = table.get(key) if isinstance(table, dict) else None
    if table:
        # Without them, a package of the same name would come from the index.
        raise ProgramError(
            f"{file}: [tool.uv.sources] is not used here; write the address into the dependency: 'NAME @ https://…'"
        )
    files, waiting = {file.name: data}, [tree]
    while waiting:
        for module in sorted(_imports(waiting.pop())):
            for name, path in _beside(file.parent, module):
                if name not in files:
                    files[name] = read_file(path, below=file.parent)
                    if name.endswith(".py"):
                        waiting.append(parse(files[name], path))
    return Script(file, files, tuple(each.strip() for each in dependencies), requires)


def read_file(path: Path, below: Path | None = None) -> bytes:
    """Return the contents of a regular file; with `below`, of one that is really below this directory.

    Its owner may put a link there at any time, so the kernel is asked about the open file. Raises `ProgramError`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ProgramError(f"{path} is not a regular file; give a Python file")
            real = os.readlink(f"/proc/self/fd/{descriptor}")
            if below is not None and not within(real, os.path.realpath(below)):
                raise ProgramError(f"{path} leads out of {below}, to {real}, by a symbolic link; remove the link")
            return file.read()
    except OSError as error:
        if path.is_symlink():
            raise ProgramError(f"{path} is a symbolic link; give the file itself: {os.path.realpath(path)}") from None
        raise ProgramError(f"{path}: {(error.strerror or str(error)).lower()}; give a Python file") from None


def parse(data: bytes, path: Path) -> ast.Module:
    """Return the syntax tree of a file. Raises `ProgramError`."""
    try:
        return ast.parse(data, str(path))
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise ProgramError(f"{path}{where} is not valid Python: {error.msg}; correct it, then try again") from None
    except ValueError as error:
        raise ProgramError(f"{path} is not valid Python: {error}; correct it, then try again") from None


def read_metadata(text: str, where: Path) -> dict[str, Any]:
    """Return the inline metadata of a script (PEP 723); empty where it has none. Raises `ProgramError`."""
    blocks = [match for match in _METADATA.finditer(text.replace("\r\n", "\n")) if match["type"] == "script"]
    if len(blocks) > 1:
        raise ProgramError(f"{where} has {len(blocks)} blocks '# /// script'; keep one (PEP 723)")
    if not blocks:
        return {}
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines(keepends=True)
    )
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ProgramError(f"{where}: the block '# /// script' is not valid TOML: {error}") from None


def _imports(tree: ast.Module) -> set[str]:
    """Return the modules that a file imports by absolute names, without the names of packages' modules."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _beside(directory: Path, module: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module or package in a directory, with their relative paths."""
    package = directory / module
    if (package / "__init__.py").is_file() and not package.is_symlink():
        yield from files_below(package, directory)
    elif os.path.lexists(directory / f"{module}.py"):
        yield f"{module}.py", directory / f"{module}.py"


def files_below(folder: Path, base: Path) -> Iterator[tuple[str, Path]]:
    """Yield the regular files below a folder in order, with their paths relative to `base`. Links are left out."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED and not name.endswith(".egg-info") and not os.path.islink(os.path.join(path, name))
        )
        for name in sorted(names):
            file = Path(path, name)
            if not name.endswith(".pyc") and stat.S_ISREG(os.lstat(file).st_mode):
                yield file.relative_to(base).as_posix(), file
