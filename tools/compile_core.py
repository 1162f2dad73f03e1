"""Compile the core of this checkout in place, with Cython and a C compiler, or remove what that made.

    python tools/compile_core.py [--clean]

A module is compiled if a `.pxd` file stands beside it, except `native.pxd`, which only declares. The sources are
compiled as they are, but for one line: what a module imports from `hwloop.core.native`, the compiled one takes from
`native.pxd`. See docs/architecture.md, "The compiled core".
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "hwloop" / "core"
BUILD = ROOT / "build" / "core"
DIRECTIVES = {"language_level": 3, "annotation_typing": False, "binding": True}
FLAGS = ["-O2", "-g0", "-Wno-unused-function"]
# From Python 3.12 on, deque's methods look for their module in the type, which must be one that is made at run time.
# Elsewhere static types are better: they are a tenth faster.
MACROS = [("CYTHON_USE_TYPE_SPECS", "1")] if sys.version_info >= (3, 12) else []


def modules() -> list[str]:
    """Return the names of the modules that are compiled."""
    return sorted(path.stem for path in CORE.glob("*.pxd") if path.stem != "native")


def copied_source(module: str) -> Path:
    """Copy what a module is compiled from, and return its path below `BUILD`."""
    extension = CORE / f"{module}.pyx"
    path = extension if extension.exists() else CORE / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    text = re.sub(
        r"^from hwloop\.core\.native import", "from cython.cimports.hwloop.core.native import", text, flags=re.M
    )
    return _write(path, text)


def clean() -> None:
    """Remove the compiled modules."""
    for path in CORE.glob("*.so"):
        path.unlink()


def build() -> None:
    """Compile the modules that have changed."""
    from Cython.Build import cythonize
    from setuptools import Extension, setup

    names = modules()
    for path in [ROOT / "hwloop" / "__init__.py", CORE / "__init__.py", *CORE.glob("*.pxd")]:
        _write(path, path.read_text(encoding="utf-8"))
    sources = {name: copied_source(name) for name in names}
    os.chdir(BUILD)  # so that tracebacks name the sources as hwloop/core/...
    extensions = [
        Extension(f"hwloop.core.{name}", [str(sources[name])], define_macros=MACROS, extra_compile_args=FLAGS)
        for name in names
    ]
    built = cythonize(extensions, compiler_directives=DIRECTIVES, quiet=True)
    setup(
        name="hwloop-core",
        packages=[],
        ext_modules=built,
        script_args=["--quiet", "build_ext", "--build-lib", "made", "--build-temp", "objects", "--parallel", "2"],
    )
    # All at once: a compiled module does not fit the sources of another one.
    clean()
    for name in names:
        shutil.copy2(BUILD / "made" / "hwloop" / "core" / f"{name}{EXTENSION_SUFFIXES[0]}", CORE)
    print(f"compiled: {', '.join(names)}")


def _write(path: Path, text: str) -> Path:
    """Write a copy below `BUILD` unless it is the same, so that only what has changed is compiled again."""
    relative = path.relative_to(ROOT)
    copy = BUILD / relative
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists() or copy.read_text(encoding="utf-8") != text:
        copy.write_text(text, encoding="utf-8")
    return relative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", action="store_true", help="remove the compiled modules")
    if parser.parse_args().clean:
        clean()
        return
    try:
        build()
    except ImportError as error:
        sys.exit(f"the core can't be compiled: {error}; install Cython with: pip install '.[compile]'")


if __name__ == "__main__":
    main()
