"""The build backend of hwloop: setuptools', which also compiles the core where that is possible.

A wheel that is built from the sources has the compiled core if Cython and a C compiler can be had, and is pure Python
otherwise, or if HWLOOP_PURE=1. A compilation that fails leaves a pure wheel as well. Editable installs stay pure, so
that a checkout needs no compiler: `make compiled` compiles its core.
"""

from __future__ import annotations

import os
import sys
import tempfile

if sys.version_info < (3, 11):  # noqa: UP036  # pip asks for the Python that hwloop needs only after loading this module
    sys.exit("hwloop needs Python 3.11 or newer, this is {}.{}".format(*sys.version_info[:2]))

import tomllib
from pathlib import Path
from typing import Any

import compile_core
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  # the hooks that are not here

setup_arguments: dict[str, Any] = {}
"""The arguments of setup.py while a wheel is built."""


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Return what a wheel is built with: Cython too, where it would be used."""
    required = build_meta.get_requires_for_build_wheel(config_settings)
    if _chosen_pure() or compile_core.obstacle():
        return required
    project = tomllib.loads((compile_core.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*required, *project["optional-dependencies"]["compile"]]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build a wheel with the compiled core, or a pure one and report why."""
    arguments = (wheel_directory, config_settings, metadata_directory)
    problem = _chosen_pure() or compile_core.obstacle() or compile_core.missing_cython()
    if not problem:
        try:
            return _build(*arguments, compiled=True)
        except (Exception, SystemExit) as error:
            if str(error) == "interrupted":  # what distutils makes of Ctrl-C
                raise
            problem = f"the compilation failed: {error}"
    print(f"hwloop: the core is not compiled, and runs from its Python sources: {problem}", file=sys.stderr)
    return _build(*arguments, compiled=False)


def _chosen_pure() -> str:
    return "HWLOOP_PURE is set" if os.environ.get("HWLOOP_PURE", "") not in ("", "0") else ""


def _build(*arguments: Any, compiled: bool) -> str:
    # A directory of its own: setuptools would pack what an earlier build has left in `build`.
    with tempfile.TemporaryDirectory(prefix="hwloop-build-") as directory:
        setup_arguments["options"] = {"build": {"build_base": directory}}
        try:
            if compiled:
                setup_arguments["ext_modules"] = compile_core.extensions(Path(directory))
                setup_arguments["cmdclass"] = {"build_ext": compile_core.builder()}
            return build_meta.build_wheel(*arguments)
        finally:
            setup_arguments.clear()
