"""A picture (SVG) of a simulated board: the header in the middle, and each part beside it, joined to its pins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from html import escape
from typing import Any, NamedTuple

from firmware_sim import SimBoard, wiring
from firmware_sim.device import Device

_GPIO_PINS = (
    (3, 2), (5, 3), (7, 4), (8, 14), (10, 15), (11, 17), (12, 18), (13, 27), (15, 22), (16, 23), (18, 24), (19, 10),
    (21, 9), (22, 25), (23, 11), (24, 8), (26, 7), (27, 0), (28, 1), (29, 5), (31, 6), (32, 12), (33, 13), (35, 19),
    (36, 16), (37, 26), (38, 20), (40, 21),
)  # fmt: skip
"""The position on the 40-pin header of each line (raspberrypi.com, "GPIO and the 40-pin header")."""
_POWER = {1: "3V3", 17: "3V3", 2: "5V", 4: "5V"} | dict.fromkeys((6, 9, 14, 20, 25, 30, 34, 39), "GND")
PIN_OF_LINE = {line: pin for pin, line in _GPIO_PINS}
_LINE_OF_PIN = dict(_GPIO_PINS)
_I2C = {0: (("SDA", 0), ("SCL", 1)), 1: (("SDA", 2), ("SCL", 3))}
_SPI = {0: (("MOSI", 10), ("MISO", 9), ("SCLK", 11)), 1: (("MOSI", 20), ("MISO", 19), ("SCLK", 21))}
_SELECTS = {0: (8, 7), 1: (18, 17, 16)}
_UART = (("RX", 14), ("TX", 15))
_UART_PORTS = ("/dev/ttyAMA0", "/dev/ttyS0", "/dev/serial0")

_STYLE = """
  .page { fill: #ffffff } .header { fill: #1f3d2b } .power { fill: #d05045 } .ground { fill: #333a42 }
  .pin { fill: #d9b44a } .used { fill: #4b9be0 } .part { fill: #f4f6f8; stroke: #9aa5b1 }
  .title { fill: #1b2733; font-weight: 600 } .text { fill: #3c4b5a } .label { fill: #5d6b79; font-size: 10px }
  .name { fill: #3c4b5a; font-size: 10px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
  .wire { fill: none; stroke: #4b7fb8; stroke-width: 1.6 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #15191f } .part { fill: #20272f; stroke: #566372 } .title { fill: #eef2f6 }
    .text { fill: #c0cad4 } .label { fill: #9aa7b4 } .wire { stroke: #7fa9e0 } .ground { fill: #05080b }
    .name { fill: #c0cad4; stroke: #15191f }
  }
"""
_FONT = 'font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif" font-size="12"'
_ROW, _TOP = 24, 56
_PART_WIDTH, _GAP, _MARGIN, _LABELS = 230, 120, 20, 62
_HEADER_WIDTH = 2 * _ROW + 2 * _LABELS
_WIDTH = 2 * (_MARGIN + _PART_WIDTH + _GAP) + _HEADER_WIDTH
_TITLE, _LINE, _BETWEEN = 26, 16, 12


class _Part(NamedTuple):
    title: str
    kind: str
    details: tuple[str, ...]
    connections: tuple[tuple[str, int], ...]
    """(label, pin) of each wire."""

    @property
    def height(self) -> int:
        return _TITLE + _LINE * (len(self.details) + len(self.connections)) + 8

    @property
    def left(self) -> bool:
        """Whether most of its pins are odd ones."""
        return 2 * sum(pin % 2 for _, pin in self.connections) >= max(1, len(self.connections))

    @property
    def middle(self) -> float:
        pins = [(pin - 1) // 2 for _, pin in self.connections]
        return sum(pins) / len(pins) if pins else 99


def picture(board: SimBoard) -> str:
    """Return the picture of a board."""
    types = {path: name for name, path in wiring.DEVICES.items()}
    parts = [_part(board, device, types) for device in board.devices]
    boxes = [*_stack(parts, left=True), *_stack(parts, left=False)]
    bottom = max([_TOP + 20 * _ROW, *(y + part.height for part, _, y in boxes)]) + _MARGIN
    used = {pin for part in parts for _, pin in part.connections}
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom}" {_FONT}>',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{bottom}"/>',
        _text(_WIDTH / 2, 30, board.label, "title", "middle"),
        _header_body(),
        *(element for box in boxes for element in _box(*box)),
        *_pins(used),
        "</svg>",
    ]
    return "\n".join(elements) + "\n"


def _part(board: SimBoard, device: Device, types: dict[str, str]) -> _Part:
    kind: type[Any] = type(device)
    path = f"{kind.__module__}:{kind.__qualname__}"
    name = types.get(path, path)
    title = next((given for given, other in board.names.items() if other is device), name)
    values: dict[str, Any] = {field.name: getattr(device, field.name) for field in dataclasses.fields(kind)}
    lines = sorted(line for line, owner in board.line_devices.items() if owner is device)
    wires = [(_label(values, line), line) for line in lines]
    details = []
    bus, select, port, address = (values.get(key) for key in ("bus", "select", "port", "address"))
    if isinstance(address, int):
        wires += _I2C.get(bus if isinstance(bus, int) else 1, ())
        details.append(f"I2C bus {bus}, address {address:#04x}")
    elif isinstance(select, int) and isinstance(bus, int):
        wires += [*_SPI.get(bus, ()), *((f"CE{select}", line) for line in _SELECTS.get(bus, ())[select : select + 1])]
        details.append(f"SPI bus {bus}, select {select}")
    elif isinstance(port, str):
        wires += _UART if port in _UART_PORTS else ()
        details.append(port)
    if isinstance(adc := values.get("adc"), str):
        channels = [str(value) for key, value in values.items() if key.endswith("channel")]
        details.append(f"on {adc}, channel {' and '.join(channels)}")
    if name == "wire":
        wires += [("line", line) for line in values["lines"]]
    connections = tuple((f"{label} {line}", PIN_OF_LINE[line]) for label, line in wires if line in PIN_OF_LINE)
    return _Part(title, name if name != title else "", tuple(details), connections)


def _label(values: dict[str, Any], line: int) -> str:
    """Return the key that names a line, with the place in a list."""
    for key, value in values.items():
        if value == line and not isinstance(value, bool) and key not in ("bus", "address", "select", "unit", "seed"):
            return key
        if isinstance(value, list) and line in value:
            return f"{key}[{value.index(line)}]"
    return "line"


def _stack(parts: list[_Part], *, left: bool) -> Iterator[tuple[_Part, int, int]]:
    """Yield the parts of one side with their places, each as near to its pins as the others allow."""
    chosen = sorted((part for part in parts if part.left == left), key=lambda part: part.middle)
    x = _MARGIN if left else _WIDTH - _MARGIN - _PART_WIDTH
    y = _TOP
    rest = sum(part.height + _BETWEEN for part in chosen)
    for part in chosen:
        wanted = _TOP + int(part.middle * _ROW) - part.height // 2
        latest = max(y, _TOP + 20 * _ROW - rest + _BETWEEN)
        y = max(y, min(wanted, latest))
        yield part, x, y
        y += part.height + _BETWEEN
        rest -= part.height + _BETWEEN


def _header_body() -> str:
    left = (_WIDTH - 2 * _ROW) / 2
    return f'<rect class="header" x="{left}" y="{_TOP}" width="{2 * _ROW}" height="{20 * _ROW}" rx="4"/>'


def _pins(used: set[int]) -> Iterator[str]:
    """Yield the pins and their names, which stand above the wires."""
    left = (_WIDTH - 2 * _ROW) / 2
    for pin in range(1, 41):
        x, y = _place(pin)
        power = _POWER.get(pin)
        style = "used" if pin in used else "pin" if power is None else "ground" if power == "GND" else "power"
        yield f'<circle class="{style}" cx="{x}" cy="{y}" r="7"/>'
        text = power or f"GPIO{_LINE_OF_PIN[pin]}"
        yield _text(*((left - 6, y + 4) if pin % 2 else (left + 2 * _ROW + 6, y + 4)), text, "name", _anchor(pin))


def _place(pin: int) -> tuple[float, float]:
    """Return the middle of a pin."""
    left = (_WIDTH - 2 * _ROW) / 2
    return left + (_ROW / 2 if pin % 2 else 3 * _ROW / 2), _TOP + (pin - 1) // 2 * _ROW + _ROW / 2


def _anchor(pin: int) -> str:
    return "end" if pin % 2 else "start"


def _box(part: _Part, x: int, y: int) -> Iterator[str]:
    yield f'<rect class="part" x="{x}" y="{y}" width="{_PART_WIDTH}" height="{part.height}" rx="6"/>'
    yield _text(x + 10, y + 18, part.title, "title")
    if part.kind:
        yield _text(x + _PART_WIDTH - 10, y + 18, part.kind, "label", "end")
    row = y + _TITLE + 12
    for detail in part.details:
        yield _text(x + 10, row, detail, "text")
        row += _LINE
    on_left = x < _WIDTH / 2
    edge = x + _PART_WIDTH if on_left else x
    for label, pin in sorted(part.connections, key=lambda it: it[1]):
        yield _text(edge - 8 if on_left else edge + 8, row, label, "text", "end" if on_left else "start")
        to_x, to_y = _place(pin)
        # The wire passes the labels of its side, and goes between two pins to the far one.
        side = (_WIDTH - _HEADER_WIDTH) / 2 if on_left else (_WIDTH + _HEADER_WIDTH) / 2
        middle = (edge + side) / 2
        near = to_x + (-7 if on_left else 7)
        across = to_y if (pin % 2 == 1) == on_left else to_y + _ROW / 2 - 1
        yield (
            f'<path class="wire" d="M {edge} {row - 4} C {middle} {row - 4} {middle} {across} {side} {across} '
            f'L {near} {across}{"" if across == to_y else f" L {to_x} {to_y + 6}"}"/>'
        )
        row += _LINE


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
