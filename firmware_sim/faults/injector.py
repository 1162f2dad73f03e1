"""The injection of faults: names, checks, schedules and the record of each beginning and end.

A fault begins `after` seconds, lasts for `duration`, and begins again `every` so often; or it lasts until `end()`. Its
end restores what it changed, and nothing else, so that faults may overlap.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from firmware_sim.errors import FaultError
from firmware_sim.faults.fault import Chance, Fault, FaultyBoard
from firmware_sim.fields import FieldError, check_fields, check_value, listed
from firmware_sim.timeline import Event
from hwloop import plugins
from hwloop.core.naming import short_name
from hwloop.trace_events import FaultChange

# Imported when one is injected by its name.
FAULTS = {
    "blocked-loop": "firmware_sim.faults.program:BlockedLoop",
    "chip-vanishes": "firmware_sim.faults.reports:ChipVanishes",
    "contact-bounce": "firmware_sim.faults.lines:ContactBounce",
    "edge-flood": "firmware_sim.faults.lines:EdgeFlood",
    "full-fifo": "firmware_sim.faults.reports:FullFifo",
    "i2c-arbitration-loss": "firmware_sim.faults.i2c:I2cArbitrationLoss",
    "i2c-clock-stretch": "firmware_sim.faults.i2c:I2cClockStretch",
    "i2c-device-reset": "firmware_sim.faults.i2c:I2cDeviceReset",
    "i2c-hang": "firmware_sim.faults.i2c:I2cHang",
    "i2c-nack": "firmware_sim.faults.i2c:I2cNack",
    "i2c-stuck-sda": "firmware_sim.faults.i2c:I2cStuckSda",
    "i2c-wrong-answer": "firmware_sim.faults.i2c:I2cWrongAnswer",
    "kernel-overflow": "firmware_sim.faults.reports:KernelOverflow",
    "lost-wake-up": "firmware_sim.faults.reports:LostWakeUp",
    "program-signal": "firmware_sim.faults.program:ProgramSignal",
    "serial-framing-error": "firmware_sim.faults.serial_wire:SerialFramingError",
    "serial-gap": "firmware_sim.faults.serial_wire:SerialGap",
    "serial-latency": "firmware_sim.faults.serial_ports:SerialLatency",
    "serial-noise": "firmware_sim.faults.serial_wire:SerialNoise",
    "serial-overrun": "firmware_sim.faults.serial_ports:SerialOverrun",
    "serial-parity-error": "firmware_sim.faults.serial_wire:SerialParityError",
    "serial-slow-reader": "firmware_sim.faults.serial_ports:SerialSlowReader",
    "serial-truncation": "firmware_sim.faults.serial_wire:SerialTruncation",
    "serial-unplug": "firmware_sim.faults.serial_ports:SerialUnplug",
    "spi-absent": "firmware_sim.faults.spi:SpiAbsent",
    "spi-device-reset": "firmware_sim.faults.spi:SpiDeviceReset",
    "spi-hang": "firmware_sim.faults.spi:SpiHang",
    "spi-timeout": "firmware_sim.faults.spi:SpiTimeout",
    "spi-wrong-answer": "firmware_sim.faults.spi:SpiWrongAnswer",
    "stuck-line": "firmware_sim.faults.lines:StuckLine",
    "torn-record": "firmware_sim.faults.reports:TornRecord",
}

_SCHEDULE = {"after", "duration", "every", "probability", "seed"}


class Injection:
    """A fault on a board, with its schedule. `board.faults.inject` makes it.

        with board.faults.inject("stuck-line", line=17, level=0):
            ...

    Attributes:
        fault: the fault.
        name, target: what it is called and where it acts, as in a trace.
        begun: how often it has begun so far.
        active: whether it lasts now.
    """

    def __init__(
        self,
        board: FaultyBoard,
        fault: Fault,
        chance: Chance,
        *,
        after: float,
        duration: float | None,
        every: float | None,
    ) -> None:
        self.fault = fault
        self.name: str = fault.name or short_name(type(fault))
        self.target: str = fault.target(board)
        self.begun: int = 0
        self.active: bool = False
        self._board = board
        self._timeline = board.timeline
        self._chance = chance
        self._duration = duration
        self._every = every
        self._undo: Callable[[], object] | None = None
        self._next: Event | None = None
        self._stop: Event | None = None
        if after > 0:
            self._next = self._timeline.after(after, self._begin)
        else:
            self._begin()

    @property
    def hits(self) -> int:
        """How often it has struck: on a transfer, a byte, a change … (`Fault.occasion`)."""
        return self._chance.hits

    def end(self) -> None:
        """End the fault and its schedule. Harmless when repeated."""
        with self._timeline.lock:
            if self._next is not None:
                self._next.cancel()
                self._next = None
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"<Injection {self.name} on {self.target} {'active' if self.active else 'inactive'}>"

    def _begin(self) -> None:
        self._next = None
        if self._every is not None:
            self._next = self._timeline.after(self._every, self._begin)
        if self.fault.occasion == "beginning" and not self._chance.strikes():
            return
        self.begun += 1
        self._record(begins=True)
        if self.fault.momentary:
            self.fault.begin(self._board, self._chance)
            return
        self.active = True
        self._undo = self.fault.begin(self._board, self._chance)
        if self._duration is not None:
            self._stop = self._timeline.after(self._duration, self._end)

    def _end(self) -> None:
        if not self.active:
            return
        self.active = False
        if self._stop is not None:
            self._stop.cancel()
            self._stop = None
        undo, self._undo = self._undo, None
        try:
            if undo is not None and not self._timeline.stopped:
                undo()
        finally:
            self._record(begins=False)

    def _record(self, *, begins: bool) -> None:
        if (tracer := self._timeline.tracer) is None:
            return
        fault = self.fault
        details = [f"{key}={value!r}" for key, value in _values(fault).items() if key not in fault.place]
        when_ns = self._timeline.moment_ns()
        tracer.record(FaultChange(when_ns, self.name, self.target, begins, ", ".join(details)))


class Faults:
    """The faults of one board.

    Attributes:
        seed: of all faults that are injected without a seed of their own. Each injection draws differently.
    """

    def __init__(self, board: FaultyBoard) -> None:
        self.seed: int = 0
        self._board = board
        self._injections: list[Injection] = []

    def inject(
        self,
        fault: Fault | str,
        *,
        after: float = 0.0,
        duration: float | None = None,
        every: float | None = None,
        probability: float = 1.0,
        seed: int | None = None,
        **fields: object,
    ) -> Injection:
        """Inject a fault, given as an object, or by its name or class ("package.module:Class") with its fields.

        Parameters:
            after: seconds from now until it begins; 0 begins before this call returns.
            duration: seconds that it lasts; None for as long as the board, or until `end()`.
            every: seconds from each beginning to the next; None for one beginning.
            probability: that it happens each time that it could: at a beginning, or on each transfer, byte or change
                (docs/faults.md lists which).
            seed: of its chances; None derives one from `seed` of this object and the number of the injection.

        Raises `FaultError` for an unknown name or field, a value or schedule that makes no sense, or a target that the
        board does not have.
        """
        if isinstance(fault, str):
            made = self.make(fault, **fields)
        elif not isinstance(fault, Fault):
            raise FaultError(f"a fault is a name such as 'stuck-line', or an object of a fault, not {fault!r}")
        elif fields:
            raise FaultError(f"{short_name(fault)}: a fault that is made already takes no field {listed(fields)}")
        else:
            made = fault
            _check(made.name or short_name(type(made)), type(made), _values(made))
        if not (seed is None or (isinstance(seed, int) and not isinstance(seed, bool))):
            raise FaultError(f"fault {made.name}: seed must be a whole number or None, not {seed!r}")
        name = made.name or short_name(type(made))
        _check_schedule(name, made.momentary, after=after, duration=duration, every=every, probability=probability)
        with self._board.timeline.lock:
            chance = Chance(probability, f"{self.seed}/{len(self._injections)}/{name}" if seed is None else seed)
            injection = Injection(self._board, made, chance, after=after, duration=duration, every=every)
            self._injections.append(injection)
        return injection

    def make(self, name: str, **fields: object) -> Fault:
        """Return a fault by its name or class, to be injected later. Raises `FaultError` as `inject` does."""
        return _made(name, fields, self._board.directory)

    def names(self) -> list[str]:
        """Return the names of all faults, in order."""
        return sorted(FAULTS)

    def __iter__(self) -> Iterator[Injection]:
        """Iterate over all that were injected so far, in order."""
        return iter(tuple(self._injections))

    def end(self) -> None:
        """End all faults and their schedules, the latest first."""
        for injection in reversed(self._injections):
            injection.end()


def _made(name: str, fields: dict[str, object], directory: Path) -> Fault:
    path = FAULTS.get(name) or (name if ":" in name else "")
    if not path:
        close = difflib.get_close_matches(name, FAULTS, 1)
        meant = f"did you mean {close[0]}? Known" if close else "known"
        raise FaultError(f"unknown fault {name!r}; {meant} are {listed(FAULTS)}, or write package.module:Class")
    try:
        kind = plugins.load_class(path, beside=directory)
    except plugins.PluginError as error:
        raise FaultError(f"fault {name}: {error}") from error
    if not (issubclass(kind, Fault) and dataclasses.is_dataclass(kind)):
        raise FaultError(f"fault {name}: {path} is not a dataclass that is derived from firmware_sim.faults.Fault")
    _check(name, kind, fields)
    try:
        made: Fault = plugins.make(kind, path, fields)
    except plugins.PluginError as error:
        cause = error.__cause__
        raise FaultError(f"fault {name}: {cause if isinstance(cause, ValueError | TypeError) else error}") from cause
    return made


def _values(fault: Fault) -> dict[str, object]:
    """Return the keys of a fault with their values. Raises `FaultError` where its class is no dataclass."""
    if not dataclasses.is_dataclass(fault):
        raise FaultError(f"{short_name(fault)}: a fault is a dataclass; decorate its class with @dataclasses.dataclass")
    return {field.name: getattr(fault, field.name) for field in dataclasses.fields(fault) if field.init}


def _check(name: str, kind: type[Fault], fields: Mapping[str, object]) -> None:
    try:
        check_fields(kind, fields, also=_SCHEDULE)
    except FieldError as error:
        raise FaultError(f"fault {name}: {error}") from error


def _check_schedule(name: str, momentary: bool, **given: float | None) -> None:
    try:
        for key, value in given.items():
            check_value(key, value, float if key in ("after", "probability") else float | None)
    except FieldError as error:
        raise FaultError(f"fault {name}: {error}") from error
    after, duration, every, probability = (given[key] for key in ("after", "duration", "every", "probability"))
    assert after is not None
    assert probability is not None
    problem = ""
    if after < 0 or (duration is not None and duration <= 0) or (every is not None and every <= 0):
        problem = "after must be 0 or more, duration and every more than 0"
    elif not 0 <= probability <= 1:
        problem = f"probability must be 0 to 1, not {probability!r}"
    elif momentary and duration is not None:
        problem = "it is over as soon as it has happened; leave out duration"
    elif every is not None and not momentary and (duration is None or duration >= every):
        problem = f"with every = {every:g} it needs a duration shorter than that, to end before it begins again"
    if problem:
        raise FaultError(f"fault {name}: {problem}")
