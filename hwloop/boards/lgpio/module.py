"""The lgpio module: the part of it that is used, and an import without side effects.

`import lgpio` makes a FIFO called `.lgd-nfy0` in the current directory, or in that of LG_WD, to which it changes the
whole process; it starts a thread; and where it may not write, the import fails. The name is the same in every process,
so two that start in one directory take each other's FIFO away. All later FIFOs are made in that first directory too.

So the import happens in a private directory, with LG_WD hidden, and everything is put back: for these few milliseconds
the process's current directory is another one. The private directory remains, empty except while a stream opens and
removed at exit, and so does lgpio's thread, which sleeps.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Protocol, cast

from hwloop.boards.lgpio.fifo_directory import FifoDirectory
from hwloop.errors import HardwareError

_lock = threading.Lock()
_directories: list[FifoDirectory] = []
"""The directory of the imported module, which keeps it until the process ends."""


class LgpioModule(Protocol):
    """The part of lgpio that is used: of the real module, or of the simulated one."""

    error: type[Exception]
    SET_ACTIVE_LOW: int
    SET_OPEN_DRAIN: int
    SET_OPEN_SOURCE: int
    SET_PULL_UP: int
    SET_PULL_DOWN: int
    SET_PULL_NONE: int
    RISING_EDGE: int
    FALLING_EDGE: int
    BOTH_EDGES: int

    def gpiochip_open(self, gpiochip: int) -> int: ...
    def gpiochip_close(self, handle: int) -> int: ...
    def gpio_get_chip_info(self, handle: int) -> list[int | str]: ...
    def gpio_get_line_info(self, handle: int, gpio: int) -> list[int | str]: ...
    def gpio_claim_input(self, handle: int, gpio: int, lFlags: int = ...) -> int: ...
    def gpio_claim_output(self, handle: int, gpio: int, level: int = ..., lFlags: int = ...) -> int: ...
    def gpio_claim_alert(
        self, handle: int, gpio: int, eFlags: int, lFlags: int = ..., notify_handle: int | None = ...
    ) -> int: ...
    def gpio_free(self, handle: int, gpio: int) -> int: ...
    def gpio_read(self, handle: int, gpio: int) -> int: ...
    def gpio_write(self, handle: int, gpio: int, level: int) -> int: ...
    def gpio_set_debounce_micros(self, handle: int, gpio: int, debounce_micros: int) -> int: ...
    def tx_pwm(self, handle: int, gpio: int, pwm_frequency: float, pwm_duty_cycle: float) -> int: ...
    def notify_open(self) -> int: ...
    def notify_close(self, handle: int) -> int: ...


def load_lgpio() -> tuple[LgpioModule, str]:
    """Return the real lgpio module, and the directory in which it makes its FIFOs.

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


def text_of(error: Exception) -> str:
    """Return lgpio's text without the quotation marks that its str() puts around it."""
    return str(error.args[0]) if error.args else str(error)


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
    """Return where lgpio keeps its FIFOs: where the one of its own thread is, which it never closes."""
    try:
        fifo = os.readlink(f"/proc/self/fd/{module._notify_thread._file.fileno()}")
    except (AttributeError, OSError, ValueError) as error:
        raise HardwareError(
            "lgpio", f"its own notifications have stopped: {error}", "don't stop lgpio's thread, or restart the program"
        ) from error
    return os.path.dirname(fifo)


def _runtime_directory() -> str | None:
    """Return the directory that systemd made for this service, perhaps the only writable one; None for the default."""
    for directory in os.environ.get("RUNTIME_DIRECTORY", "").split(":"):
        if directory and os.access(directory, os.W_OK | os.X_OK):
            return directory
    return None


@contextlib.contextmanager
def _working_in(directory: str) -> Iterator[None]:
    """Change to `directory` for this block, then back, even to a directory that can't be read or was deleted."""
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
    """Hide an environment variable for this block, also from C code."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value
