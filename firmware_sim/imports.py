"""The libraries that an unprepared program imports, led to a simulated board: lgpio, gpiod, gpiozero, spidev and so on.

    with SimBoard("board.toml") as board, imports.led_to(board):
        runpy.run_path("blink.py", run_name="__main__")

`lgpio` is the simulated module itself, so gpiozero's own LGPIOFactory runs on it, and rpi-lgpio's RPi.GPIO too. gpiod
keeps its code on another extension module (`firmware_sim.libraries.gpiod`). smbus2 and pyserial keep their code, except
that an `SMBus` opens the board's bus, and a `Serial` the terminal of its port. They are changed when the program
imports them, and not at all if it doesn't. `smbus` and `spidev` are modules with their names. Importing a library that
can't be redirected raises (`firmware_sim.barrier`).

When the block ends, or the board is closed before, gpiozero cleans up as at the end of a program: it closes its devices
while their lines can still be driven.

The board runs on its own thread, so a program needs no event loop: `while True: sleep(1)` is enough.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import importlib
import importlib.abc
import importlib.machinery
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from firmware_sim import barrier
from firmware_sim.board import SimBoard
from firmware_sim.libraries import rpi_gpio
from firmware_sim.libraries.gpiod.bindings import redirected
from firmware_sim.libraries.lgpio.module import LgpioModule
from firmware_sim.libraries.smbus2 import redirection
from firmware_sim.libraries.spidev import program_module
from firmware_sim.node_calls import calls


@contextlib.contextmanager
def led_to(board: SimBoard) -> Iterator[None]:
    """Lead imports in this block to `board`. Modules that a program imports meanwhile keep it afterwards."""
    undo = contextlib.ExitStack()
    changes = {
        "smbus2": _lead_smbus2,
        "Adafruit_PureIO.smbus": _lead_pureio,
        "evdev._input": _lead_evdev,
        "gpiozero.pins.local": _lead_gpiozero,
        "gpiozero.pins.lgpio": _lead_gpiozero_to_lgpio,
    }
    finder = _Finder({name: functools.partial(lead, board=board, undo=undo) for name, lead in changes.items()})
    with undo:
        for name, value in (("GPIOZERO_PIN_FACTORY", "lgpio"), ("RPI_LGPIO_REVISION", f"{board.revision:x}")):
            if name not in os.environ:
                os.environ[name] = value
                undo.callback(os.environ.pop, name, None)
        spidev: Any = program_module()
        _replace(undo, spidev.SpiDev, "nodes", board.nodes)
        if (imported := sys.modules.get("spidev", spidev)) is not spidev:
            _replace(undo, imported, "SpiDev", spidev.SpiDev)
        undo.enter_context(barrier.around(board))
        for name in ("lgpio", "smbus", "spidev"):
            undo.callback(_put_back, name, sys.modules.pop(name, None))
        sys.modules["lgpio"] = LgpioModule(board)
        sys.modules["spidev"] = spidev
        for name, change in finder.changes.items():
            if name in sys.modules:
                change(sys.modules[name])
        sys.meta_path.insert(0, finder)
        undo.callback(sys.meta_path.remove, finder)
        undo.enter_context(redirected(board.nodes))
        clean_up = functools.partial(clean_gpiozero_up, board)
        board.before_closing.append(clean_up)
        try:
            yield
        finally:
            board.before_closing.remove(clean_up)
            clean_up()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that Python finds, and changes some of them once they are loaded."""

    def __init__(self, changes: dict[str, Callable[[ModuleType], None]]) -> None:
        self.changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == "smbus":
            return importlib.machinery.ModuleSpec(name, _Smbus())
        if name in rpi_gpio.MODULES:
            return rpi_gpio.find_spec(name)
        change = self.changes.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path) if change is not None else None
        if spec is None or spec.loader is None or change is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _Smbus(importlib.abc.Loader):
    """Loads `smbus`, whether it is installed or not."""

    def exec_module(self, module: ModuleType) -> None:
        from firmware_sim.libraries import smbus

        module.__dict__.update(__doc__=smbus.__doc__, SMBus=smbus.SMBus)


def _put_back(name: str, module: ModuleType | None) -> None:
    sys.modules.pop(name, None)
    if module is not None:
        sys.modules[name] = module


def _replace(undo: contextlib.ExitStack, owner: Any, name: str, value: object) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _lead_smbus2(smbus2: Any, board: SimBoard, undo: contextlib.ExitStack) -> None:
    real = smbus2.SMBus.open

    def open(self: Any, bus: int | str) -> None:
        matched = re.fullmatch(r"(?:/dev/i2c-)?(\d+)", str(bus))
        number = -1 if matched is None else int(matched[1])
        wire = board.buses.get(number)
        if wire is None:
            path = f"/dev/i2c-{bus}" if isinstance(bus, int) else bus
            raise FileNotFoundError(errno.ENOENT, "no such bus on the simulated board", path)
        with redirection.opening(wire, number):
            real(self, bus)

    _replace(undo, smbus2.SMBus, "open", open)


def _lead_pureio(smbus: Any, board: SimBoard, undo: contextlib.ExitStack) -> None:
    # It keeps the function that it has imported, which may have been long before this block.
    _replace(undo, smbus, "ioctl", calls.ioctl)


def _lead_evdev(extension: Any, board: SimBoard, undo: contextlib.ExitStack) -> None:
    from firmware_sim.libraries import evdev

    for name in evdev.NAMES:
        _replace(undo, extension, name, evdev.answering(getattr(extension, name), name))


def _lead_gpiozero(local: Any, board: SimBoard, undo: contextlib.ExitStack) -> None:
    _replace(undo, local, "SpiDev", program_module().SpiDev)

    # In a block that lasts until the process ends, as under `hwloop run`, this runs right before gpiozero's own exit
    # handler, which its import has just registered: while devices are being closed, a button that presses itself would
    # make gpiozero's handlers fail in lgpio's thread.
    # The failure of a callback that runs at that moment is not shown: its device is being closed.
    def quieten() -> None:
        board.timeline.stop()
        board.lgpio.cancel_callbacks()

    atexit.register(quieten)
    undo.callback(atexit.unregister, quieten)


def _lead_gpiozero_to_lgpio(pins: Any, board: SimBoard, undo: contextlib.ExitStack) -> None:
    # A block before this one, or a program without a board, may have imported it with another lgpio.
    _replace(undo, pins, "lgpio", sys.modules["lgpio"])


def clean_gpiozero_up(board: SimBoard) -> None:
    """Have gpiozero do what it does when a program ends, if it uses the lgpio of `board`."""
    devices, pins = sys.modules.get("gpiozero.devices"), sys.modules.get("gpiozero.pins.lgpio")
    if devices is None or pins is None or not isinstance(devices.Device.pin_factory, pins.LGPIOFactory):
        return
    if getattr(pins.lgpio, "_lgpio", None) is board.lgpio:
        board.lgpio.cancel_callbacks()
        devices._shutdown()
