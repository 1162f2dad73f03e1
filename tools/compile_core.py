"""Compile the core and virtual time of this checkout in place, with Cython and a C compiler, or remove what that made.

    python tools/compile_core.py [--clean]

A module is compiled if a `.pxd` file stands beside it, except `native.pxd`, which only declares. The compiled modules
of a package are one shared object, which `hwloop.core.find_compiled` knows. The sources are
compiled as they are, but for one line: what a module imports from `hwloop.core.native`, the compiled one takes from
`native.pxd`. See docs/architecture.md, "The compiled core". `build_backend.py` makes wheels of the same extensions.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import shlex
import shutil
import signal
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = sorted({path.parent for folder in ("firmware_sim", "hwloop") for path in (ROOT / folder).rglob("*.pxd")})
"""Folders with compiled modules; hwloop/compiled_core.py lists them, where no file with types is installed."""
BUILD = ROOT / "build" / "core"
# Objects that are not initialised have None for their parts. Without "nonecheck", C would look into that; it costs a
# hundredth of a callback.
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,
    "binding": True,
    "nonecheck": True,
    "auto_pickle": False,  # nothing here can be copied: a descriptor would be owned twice
}
FLAGS = ["-O2", "-g0", "-Wno-unused-function"]
# From Python 3.12 on, deque's methods look for their module in the type, which must be one that is made at run time.
# Elsewhere static types are better: they are a tenth faster.
MACROS = [("CYTHON_USE_TYPE_SPECS", "1")] if sys.version_info >= (3, 12) else []
JOBS = 2
"""Compilers that run at the same time; each needs up to 200 MB, and a small board has 512."""


def types() -> list[Path]:
    """Return the files with the types of compiled modules."""
    return sorted(path for package in PACKAGES for path in package.glob("*.pxd"))


def modules() -> dict[str, Path]:
    """Return the modules that are compiled, by name, with their paths without a suffix."""
    paths = (path.with_suffix("") for path in types() if path.stem != "native")
    return {".".join(path.relative_to(ROOT).parts): path for path in paths}


def obstacle() -> str:
    """Return why no core can be compiled for this Python, and what to do; "" if one can. Cython is another matter."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "a compiled core would switch on the interpreter lock of this free-threaded Python"
    chosen = os.environ.get("CC", "").strip()
    compiler = shlex.split(chosen or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler {compiler}; on Debian: apt install gcc"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return f"there is no {header}; on Debian: apt install python3-dev"
    return ""


def missing_cython() -> str:
    """Return "" if Cython is installed, else what to do."""
    return "" if find_spec("Cython") else "Cython is not installed; install it with: pip install '.[compile]'"


def extensions(build: Path) -> list[Any]:
    """Translate the modules to C below the directory `build`, and return the extensions for setuptools."""
    from Cython.Build import cythonize
    from setuptools import Extension

    for path in [*(folder / "__init__.py" for folder in [ROOT / "hwloop", *PACKAGES]), *types()]:
        _write(build, path, path.read_text(encoding="utf-8"))
    wanted = [Extension(name, [str(copied_source(build, path))]) for name, path in modules().items()]
    with contextlib.chdir(build):  # so that tracebacks name the sources as hwloop/core/...
        made = cythonize(wanted, compiler_directives=DIRECTIVES, quiet=True)
    sources: dict[str, list[str]] = {}
    for each in made:
        sources.setdefault(each.name.rpartition(".")[0], []).extend(str(build / source) for source in each.sources)
    return [
        Extension(f"{package}._compiled", files, define_macros=MACROS, extra_compile_args=FLAGS)
        for package, files in sources.items()
    ]


def builder() -> type[Any]:
    """Return the command of setuptools that builds these extensions."""
    from setuptools.command.build_ext import build_ext

    class BuildLibraries(build_ext):
        """Compiles several modules of a library at the same time, and only those that have changed."""

        def build_extension(self, ext: Any) -> None:
            with ThreadPoolExecutor(JOBS) as pool:
                compiled = pool.map(functools.partial(self._compiled, ext), ext.sources)
                ext.sources, ext.extra_objects = [], list(compiled)
            ext.depends = ext.extra_objects  # the library is linked again if one of them is newer
            super().build_extension(ext)

        def _compiled(self, ext: Any, source: str) -> str:
            [path] = self.compiler.object_filenames([source], output_dir=self.build_temp)
            if not os.path.exists(path) or os.path.getmtime(path) <= os.path.getmtime(source):
                self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    macros=ext.define_macros,
                    extra_postargs=ext.extra_compile_args,
                )
            return path

    return BuildLibraries


def copied_source(build: Path, module: Path) -> Path:
    """Copy what a module is compiled from, and return its path below `build`."""
    extension = module.with_suffix(".pyx")
    path = extension if extension.exists() else module.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    text = re.sub(
        r"^from hwloop\.core\.native import", "from cython.cimports.hwloop.core.native import", text, flags=re.M
    )
    return _write(build, path, text)


def clean() -> None:
    """Remove the compiled modules."""
    for package in PACKAGES:
        for path in package.glob("*.so"):
            path.unlink()


def compile_in_place() -> None:
    """Compile the modules that have changed."""
    from Cython import __version__ as cython
    from setuptools import setup

    # Only a change of the sources has a module translated again.
    how = BUILD / "how"
    text = f"{sys.version} {cython} {DIRECTIVES} {FLAGS} {MACROS}"
    if not how.exists() or how.read_text(encoding="utf-8") != text:
        shutil.rmtree(BUILD, ignore_errors=True)
        BUILD.mkdir(parents=True)
        how.write_text(text, encoding="utf-8")
    made = extensions(BUILD)
    with contextlib.chdir(BUILD):  # where no pyproject.toml is
        setup(
            name="hwloop-core",
            packages=[],
            ext_modules=made,
            cmdclass={"build_ext": builder()},
            script_args=["--quiet", "build_ext", "--build-lib", "made", "--build-temp", "objects"],
        )
    # All at once: a compiled module does not fit the sources of another one.
    clean()
    for each in made:
        library = each.name.replace(".", os.sep) + EXTENSION_SUFFIXES[0]
        shutil.copy(BUILD / "made" / library, ROOT / library)  # as new as this call: see hwloop/compiled_core.py
    print(f"compiled: {', '.join(modules())}")


def _write(build: Path, path: Path, text: str) -> Path:
    """Write a copy below `build` unless it is the same, so that only what has changed is compiled again."""
    relative = path.relative_to(ROOT)
    copy = build / relative
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
    if missing := obstacle() or missing_cython():
        sys.exit(f"the core can't be compiled: {missing}")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # after Ctrl-C, setuptools would compile all that is left
    from Cython.Compiler.Errors import CompileError

    try:
        compile_in_place()
    except CompileError:  # Cython has shown it
        sys.exit("the core can't be compiled: correct the error shown above")


if __name__ == "__main__":
    main()
