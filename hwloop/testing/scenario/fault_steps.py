"""Steps that inject faults into the board, and end them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from firmware_sim.errors import FaultError
from hwloop.testing.scenario.errors import KeyProblem, meant
from hwloop.testing.scenario.step import Act, Begin, Stage
from hwloop.testing.scenario.times import Seconds


@dataclass(frozen=True)
class Fault(Act):
    """Inject a fault into the board.

    Parameters:
        name: its name: "stuck-line".
        fields: the keys of the fault; in a scenario file they stand beside the others.
        duration: seconds that it lasts; by default until the end, or until `end_fault`.
        every: seconds from each beginning to the next; by default it begins once.
        probability: that it happens each time that it could.
        seed: of its chances.
    """

    verb: ClassVar[str] = "fault"
    name: str
    fields: Mapping[str, object] = field(default_factory=dict)
    duration: Seconds | None = field(default=None, kw_only=True)
    every: Seconds | None = field(default=None, kw_only=True)
    probability: float = field(default=1.0, kw_only=True)
    seed: int | None = field(default=None, kw_only=True)

    def describe(self) -> str:
        details = ", ".join(f"{key} = {value!r}" for key, value in self.fields.items())
        return f"fault {self.name}" + (f" ({details})" if details else "")

    def prepare(self, stage: Stage) -> Begin:
        faults = stage.board.faults
        if self.name not in faults.names() and ":" not in self.name:
            advice = meant(self.name, faults.names()) or f"; known are {', '.join(faults.names())}"
            raise KeyProblem("fault", f"unknown fault {self.name!r}{advice}")
        try:
            made = faults.make(self.name, **self.fields)
            made.target(stage.board)
        except FaultError as error:
            raise KeyProblem("fault", str(error)) from error

        def begin() -> float:
            faults.inject(made, duration=self.duration, every=self.every, probability=self.probability, seed=self.seed)
            return 0.0

        return begin


@dataclass(frozen=True)
class EndFault(Act):
    """End all faults of a name.

    Parameters:
        name: the name of the fault.
    """

    verb: ClassVar[str] = "end_fault"
    name: str

    def describe(self) -> str:
        return f"end the fault {self.name}"

    def prepare(self, stage: Stage) -> Begin:
        faults = stage.board.faults

        def begin() -> None:
            for injection in faults:
                if injection.name == self.name:
                    injection.end()

        return begin
