"""Faults of a simulated board, by name: bouncing contacts, lost edges, noisy lines, buses that hang.

    board.faults.inject("stuck-line", line=17, level=0, after=2.0, duration=0.5)
    board.faults.inject("i2c-nack", address=0x76, probability=0.1)

Each fault is a dataclass, and its fields are its keys. docs/faults.md lists them all.
"""

from __future__ import annotations

from firmware_sim.errors import FaultError
from firmware_sim.faults.fault import Chance, Fault, FaultyBoard
from firmware_sim.faults.injector import FAULTS, Faults, Injection

__all__ = ["FAULTS", "Chance", "Fault", "FaultError", "Faults", "FaultyBoard", "Injection"]


def __dir__() -> list[str]:
    return __all__
