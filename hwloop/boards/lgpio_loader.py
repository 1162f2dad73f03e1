"""Importing lgpio without its side effects.

`import lgpio` makes a FIFO called `.lgd-nfy0` in the current directory, or in that of LG_WD, to which it changes the
whole process; it starts a thread; and where it may not write, the import fails. The name is the same in every process,
so two that start in one directory take each other's FIFO away. All later FIFOs are made in that first directory too.

So the import happens in a private directory, with LG_WD out of sight, and everything is put back: for these few
milliseconds the process's current directory is another one. What remains is the private directory, empty but while a
stream opens and removed at exit, and lgpio's thread, which sleeps.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, cast

from hwloop.boards.fifo_directory import FifoDirectory
from hwloop.errors import HardwareError

if TYPE_CHECKING:
    from hwloop.boards.lgpio import LgpioModule

_lock = threading.Lock()
_directories: list[FifoDirectory] = []
"""That of the imported module, which keeps it until the process ends."""


def load_lgpio() -> tuple[LgpioModule, str]:
    """The real lgpio module, and the directory in which it makes its FIFOs.

    Harmless when repeated, and if the program imported lgpio itself. Raises `HardwareError` where it is not installed
    or can't be used.
    """
    with _lock:
        module = sys.modules.get("lgpio") or _import()
        if not hasattr(module, "gpio_claim_alert"):
            while _directories:
                _directories.pop().remove()
            raise HardwareError(
                "import lgpio",
                f"{module.__file__} is an empty placeholder, not lgpio (version 0.0.0.2 on PyPI is one)",
                _how_to_get(),
            )
        return cast("LgpioModule", module), _work_directory(module)


def _import() -> ModuleType:
    try:
        directory = FifoDirectory(_runtime_directory())
    except OSError as error:
        raise HardwareError(
            "import lgpio",
            f"it needs a directory for its FIFOs, and none could be made: {error}",
            "set TMPDIR to a directory that can be written, or give the service a RuntimeDirectory=",
            errno=error.errno,
        ) from error
    try:
        with _working_in(directory.path), _without("LG_WD"):
            module = importlib.import_module("lgpio")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory.path, ".lgd-nfy0"))
    except BaseException as error:
        directory.remove()
        if isinstance(error, ModuleNotFoundError) and error.name == "lgpio":
            raise HardwareError("import lgpio", "the package is not installed", _how_to_get()) from error
        if isinstance(error, ImportError | OSError):
            raise HardwareError("import lgpio", str(error), _how_to_get()) from error
        raise
    _directories.append(directory)
    return module


def _how_to_get() -> str:
    if sys.version_info >= (3, 13):
        return "apt install python3-lgpio (and a venv made with --system-site-packages): PyPI has none for this Python"
    return "pip install 'lgpio>=0.2.2.0', or apt install python3-lgpio"


def _work_directory(module: ModuleType) -> str:
    """Where lgpio keeps its FIFOs: wherever that of its own thread is, which it never closes."""
    try:
        fifo = os.readlink(f"/proc/self/fd/{module._notify_thread._file.fileno()}")
    except (AttributeError, OSError, ValueError) as error:
        raise HardwareError(
            "lgpio", f"its own notifications have stopped: {error}", "don't stop lgpio's thread, or restart the program"
        ) from error
    return os.path.dirname(fifo)


def _runtime_directory() -> str | None:
    """The directory that systemd made for this service, which can be written where the rest can't; else the default."""
    for directory in os.environ.get("RUNTIME_DIRECTORY", "").split(":"):
        if directory and os.access(directory, os.W_OK | os.X_OK):
            return directory
    return None


@contextlib.contextmanager
def _working_in(directory: str) -> Iterator[None]:
    """Be in `directory`, then back where we were, even if that can't be read or has been deleted."""
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        try:
            yield
        finally:
            os.fchdir(before)
    finally:
        os.close(before)


@contextlib.contextmanager
def _without(variable: str) -> Iterator[None]:
    """Take an environment variable away, also for C code, and put it back."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value
