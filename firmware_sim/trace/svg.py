"""A trace as a picture (SVG), for documentation and for the artifacts of CI: any browser shows it.

Lines are graphs, in which edges that are closer together than a pixel become a block. Serial data, transfers and output
are boxes; the whole text of each is its tooltip. A fault is a vertical line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO
from xml.sax.saxutils import escape

from firmware_sim.trace.line_levels import LineLevels
from firmware_sim.trace.rows import Item, Span, rows_of
from hwloop.trace_events import FaultChange, TraceEvent

WIDTH = 1000
"""Pixels of the graphs, without their labels."""
_ROW, _HIGH, _LOW = 28, 7, 22
"""Pixels of a row, and where in it the levels are."""
_CHARACTER = 6.7
"""Pixels of a character of 11 pixels' height."""
_TICKS = 10
_STYLE = """
  text { font: 11px ui-monospace, monospace; fill: #222 }
  .tick, .tick-label { stroke: #ddd; fill: #888 }
  .tick-label { stroke: none }
  .line { fill: none; stroke: #06c; stroke-width: 1.3 }
  .busy { fill: #06c }
  .box { fill: #eef4ff; stroke: #469 }
  .fault { stroke: #c00; stroke-dasharray: 4 2 }
"""


def write_svg(events: Iterable[TraceEvent], file: IO[str], names: Mapping[int, str], span: Span) -> None:
    """Write the rows of a window of a trace."""
    events = list(events)
    rows = rows_of(events, span, names, 4 * (span.end_ns - span.start_ns) / WIDTH)
    picture = _Picture(span, max((len(label) for label in (*rows.lines, *rows.texts)), default=0))
    count = len(rows.lines) + len(rows.texts)
    height = (count + 1) * _ROW
    file.write(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{picture.margin + WIDTH + 10}" height="{height}">\n'
        f"<style>{_STYLE}</style>\n"
        '<rect width="100%" height="100%" fill="white"/>\n'
    )
    drawn = [picture.ticks(height)]
    drawn += [picture.label(label, row) for row, label in enumerate((*rows.lines, *rows.texts), 1)]
    drawn += [picture.line(levels, row) for row, levels in enumerate(rows.lines.values(), 1)]
    drawn += [picture.texts(items, row) for row, items in enumerate(rows.texts.values(), 1 + len(rows.lines))]
    drawn += [picture.fault(event, height) for event in events if isinstance(event, FaultChange) and span.holds(event)]
    for elements in drawn:
        file.writelines(f"{element}\n" for element in elements)
    file.write("</svg>\n")


class _Picture:
    """Elements of SVG, at the places that belong to times and rows."""

    def __init__(self, span: Span, longest: int) -> None:
        self.margin: int = round(longest * _CHARACTER) + 16
        self._span = span

    def _x(self, when_ns: int) -> float:
        start_ns, end_ns = self._span
        return self.margin + min(max(0.0, (when_ns - start_ns) * WIDTH / (end_ns - start_ns)), WIDTH)

    def ticks(self, height: int) -> Iterator[str]:
        times, decimals = self._span.ticks((self._span.end_ns - self._span.start_ns) / _TICKS)
        for when_ns in times:
            x = self._x(when_ns)
            yield f'<path class="tick" d="M{x:.1f} {_ROW - 8}V{height}"/>'
            yield _text(x, _ROW - 12, f"{when_ns / 1e9:.{decimals}f} s", "tick-label")

    def label(self, label: str, row: int) -> Iterator[str]:
        yield _text(8, row * _ROW + 18, label)

    def line(self, levels: LineLevels, row: int) -> Iterator[str]:
        """Draw the graph of a line; changes within a pixel become a block."""
        top = row * _ROW
        y = {0: top + _LOW, 1: top + _HIGH}
        pixels: dict[int, list[int]] = {}
        for when_ns, level in levels.within(*self._span):
            pixels.setdefault(round(self._x(when_ns)), []).append(level)
        path = f"M{self.margin} {y[levels.at(self._span.start_ns - 1) or 0]}"
        for x, changed in pixels.items():
            path += f"H{x}V{y[changed[-1]]}"
            if len(changed) > 1:
                yield f'<rect class="busy" x="{x - 0.5}" y="{y[1]}" width="1.5" height="{_LOW - _HIGH}"/>'
        yield f'<path class="line" d="{path}H{self.margin + WIDTH}"/>'

    def texts(self, items: Sequence[Item], row: int) -> Iterator[str]:
        """Draw a box for each text, as long as it took, with as much of the text as there is room before the next."""
        top = row * _ROW
        starts = [self._x(item.start_ns) for item in items]
        for item, x, end in zip(items, starts, [*starts[1:], self.margin + WIDTH], strict=True):
            width = max(2.0, self._x(item.end_ns) - x)
            room = int((end - x - 6) / _CHARACTER)
            shown = item.text if len(item.text) <= room else item.text[: room - 1] + "…" if room > 1 else ""
            box = f'<rect class="box" x="{x:.1f}" y="{top + 4}" width="{width:.1f}" height="{_ROW - 8}"/>'
            yield f"<g><title>{escape(item.text)}</title>{box}{_text(x + 4, top + 18, shown)}</g>"

    def fault(self, event: FaultChange, height: int) -> Iterator[str]:
        yield f'<path class="fault" d="M{self._x(event.when_ns):.1f} {_ROW}V{height}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attribute}>{escape(text)}</text>' if text else ""
