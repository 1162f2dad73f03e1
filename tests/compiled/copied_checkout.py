"""A copy of this checkout with a compiled core of its own, below build/compiled.

The checkout itself is left as it is, so nothing else runs on a compiled core by accident.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parents[2]
NO_SANITIZER = "gcc has no address sanitizer here; on Debian: apt install gcc libasan8"
SANITIZED = ("-fsanitize=address", "-fno-omit-frame-pointer", "-g1", "-O1", "-DCYTHON_USE_FREELISTS=0")
"""Flags of the address sanitizer. A free list would hide that an object is used after its end."""


class CopiedCheckout:
    """A copy of the checkout, compiled for one interpreter.

    Parameters:
        name: the folder below build/compiled.
        python: the interpreter that compiles and runs it.
        cflags: further flags of the C compiler.
        environment: what programs need beyond that to run there.
    """

    def __init__(
        self,
        name: str,
        *,
        python: str = sys.executable,
        cflags: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.path = ROOT / "build" / "compiled" / name
        self.python = python
        self._cflags = " ".join(cflags)
        self._environment = environment

    def make(self) -> None:
        """Bring the copy up to date, and compile what has changed since the last time."""
        flags = self.path / "build" / "cflags"
        if flags.exists() and flags.read_text(encoding="utf-8") != self._flags():
            shutil.rmtree(self.path / "build")
        self.path.mkdir(parents=True, exist_ok=True)
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
        names = {name for name in listed if name and (ROOT / name).is_file()}
        for name in names:
            source, copy = ROOT / name, self.path / name
            if not _is_same(source, copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
        # Modules and tests that have been removed here would still be compiled and run there.
        for path in [*self.path.rglob("*.py"), *self.path.rglob("*.p[yx][xd]")]:
            relative = path.relative_to(self.path)
            if relative.parts[0] != "build" and str(relative) not in names:
                path.unlink()
        compile_core = [self.python, "tools/compile_core.py"]
        environment = {**os.environ, "CFLAGS": self._cflags, "LDFLAGS": self._cflags}
        subprocess.run(compile_core, cwd=self.path, env=environment, check=True)
        flags.write_text(self._flags(), encoding="utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment in which programs import hwloop from the copy."""
        path = {"PYTHONPATH": str(self.path), "HWLOOP_PURE": ""}
        return {**os.environ, **path, **self._environment, **more}

    def _flags(self) -> str:
        return f"{self.python} {self._cflags}"


def sanitizer_library() -> str:
    """Return the path of the library of gcc's address sanitizer; "" where there is none."""
    if shutil.which("gcc") is None:
        return ""
    named = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    return named if Path(named).is_absolute() else ""


def sanitized(python: str = sys.executable, reports: Path | None = None) -> CopiedCheckout:
    """Return a copy whose core is compiled with the address sanitizer.

    Parameters:
        reports: how the names of the files begin that reports are written to; without it, they go to the standard
            error output. A process whose report it is ends with status 99.
    """
    # Python itself leaves memory behind when it ends. Its own allocator would hide what is done with freed objects.
    options = "detect_leaks=0:exitcode=99" + (f":log_path={reports}" if reports is not None else "")
    environment = {"LD_PRELOAD": sanitizer_library(), "ASAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}
    return CopiedCheckout("sanitized", python=python, cflags=SANITIZED, environment=environment)


def _is_same(source: Path, copy: Path) -> bool:
    return copy.is_file() and copy.read_bytes() == source.read_bytes()
