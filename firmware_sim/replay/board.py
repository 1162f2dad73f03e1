"""A simulated board without parts, driven from a recording."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from firmware_sim.board import SimBoard
from firmware_sim.bus import Bus
from firmware_sim.pins import Line
from firmware_sim.replay.bus import ReplayedBus
from firmware_sim.replay.inputs import Input, Inputs
from firmware_sim.replay.outputs import Outputs
from firmware_sim.replay.script import Script
from firmware_sim.replay.spi import SpiAnswers
from hwloop.core.clock import REAL, Clock
from hwloop.lines import EdgeStream, OutputLine
from hwloop.requests import EdgeRequest, OutputRequest
from hwloop.spi_device import SpiDev, SpiRequest
from hwloop.trace_events import LineChange, SerialData, TraceEvent

if TYPE_CHECKING:
    import smbus2


class ReplayBoard(SimBoard):
    """A board that replays a recording.

    Parameters:
        script: the recording.
        clock: its time.
        tolerance: the seconds by which an output may be early or late; None does not compare times.
        compares: whether the program's outputs are compared with the recorded ones.
        rests_from_ns: the time of the recording from which on nothing more is planned on the board, as for `Inputs`.

    Attributes:
        outputs: the comparison of the program's outputs with the recorded ones.
        inputs: the recorded inputs, to which others may be added.
    """

    def __init__(
        self,
        script: Script,
        *,
        clock: Clock = REAL,
        tolerance: float | None = None,
        compares: bool = True,
        rests_from_ns: int | None = None,
    ) -> None:
        super().__init__({"label": script.label}, clock=clock, lines="")
        self._script = script
        offset_ns = self.timeline.now_ns() - script.start_ns
        self.outputs: Outputs = Outputs(
            script,
            offset_ns=offset_ns,
            tolerance_ns=None if tolerance is None else round(tolerance * 1e9),
            is_driven=lambda number: any(line.output is not None for line in self.line(number).net.lines),
            compares=compares,
        )
        inputs = [Input(step.place, step.when_ns, functools.partial(self._apply, step.event)) for step in script.inputs]
        self.inputs: Inputs = Inputs(inputs, self.outputs, self.timeline, rests_from_ns=rests_from_ns)
        for first, *others in script.wires:
            for other in others:
                self.chip.wire(first, other)
        for number, level in script.levels.items():
            first_line = self.line(number).net.lines[0]
            if self._is_shared(first_line):
                first_line.pull("up" if level else "down")
            else:
                first_line.drive(level)
        for name in script.ports:
            self.add_port(name)
        self.buses: dict[int, Bus] = {}
        for bus in script.buses:
            self._add_bus(bus)
        for number in script.spi_buses:
            spi_bus = self.spi_bus(number)
            spi_bus.answered_by = SpiAnswers(spi_bus, self.outputs).transfer
        self.tracer = self.outputs
        if script.simulated:  # a real one is recorded from its first use on
            self.inputs.start(offset_ns)

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        self._begin()
        if not self._script.simulated:  # its edges are those that were left after debouncing
            request = replace(request, debounce=0.0)
        return super().open_edges(replace(request, chip=None))

    def open_output(self, request: OutputRequest) -> OutputLine:
        self._begin()
        return super().open_output(replace(request, chip=None))

    def serial_port(self, port: str) -> str:
        self._begin()
        if port not in self.ports and not port.startswith("/dev/pts/") and not self._script.simulated:
            self.add_port(port)
        return super().serial_port(port)

    def open_bus(self, bus: int) -> smbus2.SMBus:
        self._begin()
        if bus not in self.buses and not self._script.simulated:
            self._add_bus(bus)
        return super().open_bus(bus)

    def open_spi(self, request: SpiRequest) -> SpiDev:
        self._begin()
        return super().open_spi(request)

    def _begin(self) -> None:
        """Start the inputs when the program first uses the board."""
        if not self.inputs.started:
            offset_ns = self.timeline.now_ns() - self._script.start_ns
            self.outputs.move(offset_ns)
            self.inputs.start(offset_ns)

    def _add_bus(self, number: int) -> None:
        self.buses[number] = ReplayedBus(number, self.timeline, self.outputs)

    def _apply(self, event: TraceEvent) -> None:
        """Do what a part, or somebody outside, did. The lock is held."""
        if isinstance(event, SerialData):
            self.serial(event.port).send(event.data)
        elif isinstance(event, LineChange):
            line = self.line(event.line).net.lines[0]  # lines that are joined have one level, and one place to drive it
            line.part = event.by
            if line.level == event.level and not self._script.simulated:
                # The program watched one of the two edges only, or the other one was lost.
                self._set(line, 1 - event.level)
            self._set(line, event.level)

    def _set(self, line: Line, level: int) -> None:
        """Bring a line to a level as a part does."""
        if not self._is_shared(line):
            line.drive(level)
        else:
            # Each side pulls it low, or lets go of it, as on a wire with one pull-up resistor.
            line.drive(0 if level == 0 else None)
            line.pull("up")

    def _is_shared(self, line: Line) -> bool:
        """Return whether the program drives a line, or one that is joined to it, as well as its parts."""
        return not self._script.driven.isdisjoint(each.number for each in line.net.lines)
