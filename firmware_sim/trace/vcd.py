"""A trace as a value change dump (VCD), which GTKWave, PulseView and sigrok-cli open.

Lines are wires. A serial port is two wires, as its receiver and its transmitter would show on a logic analyser, an I2C
bus is SDA and SCL, an SPI bus its clock, its data and select lines (`wires`), and a fault is a wire that is high while
it lasts. Times are those of the board's clock, from shortly before the first event on.

A program such as PulseView keeps a sample for each unit of time. So the unit is the coarsest one, from 1 ns to 1 µs, in
which pulses have four; a few shorter ones on a wire do not count. In virtual time a program may switch a line several
times at one moment, as a software SPI does. All changes of such a moment are drawn one unit apart, in their order.

Source: IEEE 1364-2005, chapter 18.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from firmware_sim.trace.line_levels import LineLevels, lines_of
from firmware_sim.trace.rows import Span
from firmware_sim.trace.wires import Wire, i2c_wires, serial_wire, spi_wires
from hwloop.trace_events import FaultChange, I2cTransfer, SerialData, SpiTransfer, TraceEvent

try:
    from vcd.writer import Variable, VCDWriter
except ImportError as _missing:
    raise ImportError("a VCD file needs the package pyvcd; install it with 'pip install hwloop[trace]'") from _missing

_UNITS = {1000: "1 us", 100: "100 ns", 10: "10 ns", 1: "1 ns"}
_UNITS_OF_A_PULSE = 4
_EXCEPTIONS = 7
"""Pulses of a wire that may be shorter."""
_LEAD_UNITS = 1000
"""Units of time before the first change: decoders need to see the idle wires."""


def write_vcd(events: Iterable[TraceEvent], file: IO[str], names: Mapping[int, str], span: Span) -> None:
    """Write the lines, serial ports, I2C and SPI buses of a trace."""
    events = list(events)
    lines = {line: levels.part(*span) for line, levels in lines_of(events).items()}
    inside = [event for event in events if span.holds(event)]
    wires, low = dict(_wires(inside)), _spi_wires(inside) | _fault_wires(inside)
    wires |= low
    drawn = [*(list(zip(each.times, each.levels, strict=True)) for each in lines.values()), *wires.values()]
    unit_ns = _unit_ns(drawn)
    changes = [_line_changes(lines, unit_ns)]
    changes += [_wire_changes(wire, unit_ns, name) for name, wire in wires.items()]
    first = min((each[0][0] for each in changes if each), default=0)
    start = max(0, first - _LEAD_UNITS)
    with VCDWriter(file, _UNITS[unit_ns], date="", comment="written by hwloop", init_timestamp=start) as writer:
        variables: dict[object, Variable[Any]] = {}
        for line, levels in lines.items():
            name = _identifier(f"line{line} {names.get(line, '')}")
            variables[line] = writer.register_var("board", name, "wire", size=1, init=levels.initial or 0)
        for name in wires:
            variables[name] = writer.register_var("board", name, "wire", size=1, init=int(name not in low))
        last = first
        for when, key, level in heapq.merge(*changes, key=lambda change: change[0]):
            writer.change(variables[key], when, level)
            last = when
        # Decoders need to see the last stop bit.
        writer.close(last + _LEAD_UNITS)


Change = tuple[int, object, int]
"""When a wire changes (units), which one (a line's number, or a name), and its level."""


def _line_changes(lines: Mapping[int, LineLevels], unit_ns: int) -> list[Change]:
    """Return the changes of all lines. Those of one unit are kept apart if a line changes twice in it."""
    found = sorted(
        (when_ns, place, line, level)
        for line, levels in lines.items()
        for when_ns, place, level in zip(levels.times, levels.places, levels.levels, strict=True)
    )
    changes, free = list[Change](), 0
    for _, group in itertools.groupby(found, key=lambda change: change[0] // unit_ns):
        moment = list(group)
        step = int(len({line for _, _, line, _ in moment}) < len(moment))
        when = max(free, moment[0][0] // unit_ns)
        for _, _, line, level in moment:
            changes.append((when, line, level))
            when += step
        free = when + 1 - step
    return changes


def _wire_changes(wire: Wire, unit_ns: int, name: str) -> list[Change]:
    """Return the changes of a wire, no two of them in one unit."""
    changes, free = list[Change](), 0
    for when_ns, level in wire:
        free = max(free, when_ns // unit_ns)
        changes.append((free, name, level))
        free += 1
    return changes


def _wires(events: list[TraceEvent]) -> Iterator[tuple[str, Wire]]:
    """Yield the name and the changes of each wire of ports and buses."""
    pieces = [event for event in events if isinstance(event, SerialData)]
    for port in sorted({piece.port for piece in pieces}):
        for direction, suffix in (("received", "rx"), ("sent", "tx")):
            wire = serial_wire(piece for piece in pieces if (piece.port, piece.direction) == (port, direction))
            yield _identifier(f"{port.removeprefix('/dev/')} {suffix}"), wire
    transfers = [event for event in events if isinstance(event, I2cTransfer)]
    for bus in sorted({transfer.bus for transfer in transfers}):
        sda, scl = i2c_wires(transfer for transfer in transfers if transfer.bus == bus)
        yield f"i2c{bus}_sda", sda
        yield f"i2c{bus}_scl", scl
    for bus, exchanges in _by_spi_bus(events).items():
        yield from ((f"spi{bus}_ce{select}", wire) for select, wire in spi_wires(exchanges)[0].items())


def _by_spi_bus(events: Iterable[TraceEvent]) -> dict[int, list[SpiTransfer]]:
    buses: dict[int, list[SpiTransfer]] = {}
    for event in events:
        if isinstance(event, SpiTransfer):
            buses.setdefault(event.bus, []).append(event)
    return buses


def _spi_wires(events: Iterable[TraceEvent]) -> dict[str, Wire]:
    """Return the clocks and data lines of SPI buses, which are low at rest."""
    return {
        f"spi{bus}_{name}": wire
        for bus, exchanges in _by_spi_bus(events).items()
        for name, wire in zip(("sclk", "mosi", "miso"), spi_wires(exchanges)[1:], strict=True)
    }


def _fault_wires(events: Iterable[TraceEvent]) -> dict[str, Wire]:
    """Return a wire for each fault, which is high while the fault lasts."""
    wires: dict[str, Wire] = {}
    for event in events:
        if isinstance(event, FaultChange):
            wire = wires.setdefault(_identifier(f"fault {event.fault} {event.target}"), [])
            wire.append((event.when_ns, int(event.begins)))
    return wires


def _identifier(name: str) -> str:
    """Return a name without the characters that separate names in other programs."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")


def _unit_ns(wires: Iterable[Wire]) -> int:
    """Return the unit of time (ns)."""
    shortest = 1_000_000
    for wire in wires:
        widths = (later - earlier for (earlier, _), (later, _) in itertools.pairwise(wire) if later > earlier)
        shortest = min(shortest, *heapq.nsmallest(_EXCEPTIONS + 1, widths)[_EXCEPTIONS:], shortest)
    return next((unit for unit in _UNITS if shortest >= _UNITS_OF_A_PULSE * unit), 1)
