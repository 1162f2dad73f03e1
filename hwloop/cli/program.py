"""Loading a program as Python would: a file, a directory or zip archive with a __main__.py, a module, standard input.

`python` itself can't do it, because `hwloop run` must be set up before. So this module finds a program's code and
executes it as `__main__`, in a module that pickle, inspect and multiprocessing can't tell from Python's.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import sys
import traceback
import zipfile
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from hwloop.cli import Unloadable, UsageError

_NO_LOOPS = {"RPi", "firmware_sim", "gpiod", "gpiozero", "lgpio", "serial", "smbus", "smbus2", "spidev"}
"""Modules besides Python's own that a script without an event loop may import."""

_LOOPS = {"anyio", "asyncio", "hwloop", "uvicorn"}
"""Modules that run loops."""


@dataclass
class Program:
    """A program and its code.

    Attributes:
        path: the path that was given, or the origin of the code: `sys.argv[0]`.
        code: its code.
        tree: its syntax tree; None without source.
        search: the first directory in `sys.path`.
        spec: the spec of the module, for a module of a package, directory or archive.
        package: the package for its relative imports.
    """

    path: str
    code: CodeType
    tree: ast.Module | None
    search: str
    spec: ModuleSpec | None = None
    package: str | None = None

    def execute(self, name: str = "__main__") -> ModuleType:
        """Execute the program as the module `name` of `sys.modules`. Its exceptions pass."""
        module = ModuleType(name)
        module.__file__ = os.path.abspath(self.path) if os.path.exists(self.path) else self.code.co_filename
        if self.spec is not None:
            module.__spec__ = self.spec
            module.__loader__ = self.spec.loader
        module.__package__ = self.package
        sys.modules[name] = module
        if name == "__main__" and "__mp_main__" in sys.modules:
            sys.modules["__mp_main__"] = module  # multiprocessing, imported before, stored our module
        exec(self.code, module.__dict__)
        return module


def find_file(path: str) -> Program:
    """Return the program in a Python file, or a directory or zip archive with a `__main__.py`; "-" is standard input.

    Raises `UsageError` for a path without a program, and `Unloadable` for invalid Python.
    """
    if path.endswith(".toml") and os.path.isfile(path):
        raise UsageError(f"{path} is a board file, not a program; write: hwloop run PROGRAM.py --board {path}")
    if path == "-":
        return _parsed(sys.stdin.buffer.read(), "<stdin>", "-", "")
    if os.path.isdir(path) or (os.path.isfile(path) and not path.endswith(".py") and zipfile.is_zipfile(path)):
        return _find_main_of(path)
    try:
        with open(path, "rb") as file:
            source = file.read()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such program; {_instead(path)}") from error
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}; give the path of a Python file") from error
    program = _parsed(source, path, path, os.path.dirname(os.path.realpath(path)))
    assert program.tree is not None
    levels = max((node.level for node in ast.walk(program.tree) if isinstance(node, ast.ImportFrom)), default=0)
    if levels:
        # A module of a package, as `python -m` would run it.
        directories = [program.search]
        while len(directories) < levels or os.path.isfile(os.path.join(directories[-1], "__init__.py")):
            directories.append(os.path.dirname(directories[-1]))
        if not os.path.isfile(os.path.join(directories[-1], "__init__.py")) and len(directories) > levels:
            program.search = directories.pop()
        else:
            program.search = os.path.dirname(directories[-1])
        program.package = ".".join(os.path.basename(each) for each in reversed(directories))
    return program


def find_module(name: str) -> Program:
    """Return the program that `python -m name` would run: a module, or the `__main__` of a package.

    Imports the packages above it, whose exceptions pass. Raises `UsageError` if there is no such module.
    """
    if name.endswith(".py") and os.path.isfile(name):
        raise UsageError(f"-m {name}: there is no such module; a file is run without -m: hwloop run {name}")
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
            if spec is None:
                raise UsageError(f"-m {name}: a package without a __main__ can't be run; name a module in it")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    except ValueError:
        spec = None
    if spec is None:
        raise UsageError(f"-m {name}: there is no such module in sys.path")
    return _of_spec(spec, os.getcwd())


def _find_main_of(path: str) -> Program:
    spec = importlib.machinery.PathFinder.find_spec("__main__", [path])
    if spec is None:
        kind = "is a directory" if os.path.isdir(path) else "is an archive"
        raise UsageError(f"{path}: {kind} without a __main__.py; give the path of a Python file")
    program = _of_spec(spec, path)
    program.path, program.package = path, ""
    return program


def _of_spec(spec: ModuleSpec, search: str) -> Program:
    loader: Any = spec.loader
    source = loader.get_source(spec.name) if hasattr(loader, "get_source") else None
    where = spec.origin or spec.name
    if source is not None:
        program = _parsed(source.encode(), where, where, search)
    else:
        code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
        if code is None:
            raise UsageError(f"{spec.name}: this module has no Python code to run")
        program = Program(where, code, None, search)
    program.spec, program.package = spec, spec.parent
    return program


def _parsed(source: bytes, filename: str, path: str, search: str) -> Program:
    try:
        tree = ast.parse(source, filename)
        return Program(path, compile(tree, filename, "exec", dont_inherit=True), tree, search)
    except (SyntaxError, ValueError) as error:
        shown = "".join(traceback.format_exception_only(error)).rstrip()
        raise Unloadable(f"{filename} is not a valid Python program:\n{shown}") from error


def _instead(path: str) -> str:
    """Return a suggestion for a path that does not exist."""
    if os.path.isfile(f"{path}.py"):
        return f"there is {path}.py"
    if all(part.isidentifier() for part in path.split(".")) and not path.endswith(".py"):
        return f"give the path of a Python file, or a module: hwloop run -m {path}"
    return "give the path of a Python file"


def acts(tree: ast.Module) -> bool:
    """Return whether a file works at its top level, with calls or loops outside of functions and classes."""
    return any(
        isinstance(node, ast.While | ast.For | ast.With)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        for node in _top_level(tree)
    )


def calls_main(tree: ast.Module) -> bool:
    """Return whether the top level of a file uses `main` in a call, and so decides itself whether it runs."""
    return any(
        isinstance(part, ast.Name) and part.id == "main"
        for node in _top_level(tree)
        if isinstance(node, ast.Call)
        for part in ast.walk(node)
    )


def may_have_main(tree: ast.Module, name: str) -> bool:
    """Return whether a file may have a coroutine function of this name, as far as its text shows."""
    for node in _top_level(tree):
        match node:
            case ast.AsyncFunctionDef(name=found) if found == name:
                return True
            case ast.FunctionDef(name=found, decorator_list=[_, *_]) if found == name:
                return True
            case ast.alias(name=path, asname=found) if (found or path.partition(".")[0]) in (name, "*"):
                return True
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return True
            case ast.Name(id="exec" | "globals" | "vars"):
                return True
    return any(isinstance(node, ast.Global) and name in node.names for node in ast.walk(tree))


def is_script(tree: ast.Module) -> bool:
    """Return whether a file works at its top level, and certainly without an event loop."""
    if not acts(tree):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            return False
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "." if not node.level else "."]
        else:
            continue
        known = sys.stdlib_module_names - {"asyncio"} | _NO_LOOPS
        if any(name.partition(".")[0] not in known for name in names):
            return False
    return True


def uses_loops(tree: ast.Module) -> bool:
    """Return whether a file has coroutine functions, or imports a library that runs loops."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if isinstance(node, ast.AsyncFunctionDef) or any(name.partition(".")[0] in _LOOPS for name in names):
            return True
    return False


def _top_level(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes outside of functions and classes, and these themselves."""
    found: list[ast.AST] = []
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found
