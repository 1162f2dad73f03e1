"""The libraries that programs under test use, led to the board of the test: gpiozero, lgpio, smbus2, serial."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from firmware_sim import imports
from firmware_sim.board import SimBoard
from firmware_sim.libraries.lgpio.module import LgpioModule


@contextlib.contextmanager
def led_to(board: SimBoard, factory: str) -> Iterator[None]:
    """Lead the libraries to `board` in this block, those that are imported already and those that are not yet.

    `factory` is the pin factory of gpiozero: "hwloop" for a program with a loop, or gpiozero's own "lgpio".
    """
    with contextlib.ExitStack() as undo:
        if "GPIOZERO_PIN_FACTORY" not in os.environ:
            os.environ["GPIOZERO_PIN_FACTORY"] = factory
            undo.callback(os.environ.pop, "GPIOZERO_PIN_FACTORY", None)
        if (lgpio := sys.modules.get("lgpio")) is not None:
            undo.enter_context(_module_led_to(lgpio, board))
        undo.enter_context(imports.led_to(board))
        undo.enter_context(_pins_on(board, os.environ["GPIOZERO_PIN_FACTORY"]))
        yield


@contextlib.contextmanager
def _module_led_to(lgpio: Any, board: SimBoard) -> Iterator[None]:
    """Replace the functions of the real lgpio, which a module may have imported at its top."""
    simulated = LgpioModule(board)
    names = vars(lgpio)
    before = {name: names[name] for name in vars(simulated) if name in names and not name.startswith("_")}
    names.update((name, getattr(simulated, name)) for name in before)
    try:
        yield
    finally:
        names.update(before)


@contextlib.contextmanager
def _pins_on(board: SimBoard, factory: str) -> Iterator[None]:
    """Make gpiozero's devices in this block on `board`; at the end close those that are left."""
    gpiozero: Any = sys.modules.get("gpiozero")
    before = None
    if gpiozero is not None:
        before = gpiozero.Device.pin_factory
        gpiozero.Device.pin_factory = None
        if factory == "hwloop":
            from hwloop.pins import LoopFactory

            gpiozero.Device.pin_factory = LoopFactory(board)
        elif factory == "lgpio":
            from gpiozero.pins.lgpio import LGPIOFactory

            gpiozero.Device.pin_factory = LGPIOFactory()  # gpiozero would look for its entry point, which takes longer
    try:
        yield
    finally:
        imports.clean_gpiozero_up(board)
        gpiozero = sys.modules.get("gpiozero")
        if gpiozero is not None:
            made = gpiozero.Device.pin_factory
            gpiozero.Device.pin_factory = before
            if made is not None and made is not before:
                made.close()
