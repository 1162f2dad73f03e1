"""A trace as a WaveDrom file (WaveJSON): for documentation, and for wavedrom.com/editor.html.

WaveDrom draws periods of one width, so each stands for an equal part of the window. A line has `x` in a period in which
it changed several times; a port or bus is at rest (`z`) where nothing passed. A box is as wide as its text where there
is room for it, and the text is cut where there is not.

Source: the WaveJSON schema of WaveDrom 3.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from firmware_sim.trace.line_levels import LineLevels
from firmware_sim.trace.rows import Item, Span, rows_of
from hwloop.trace_events import TraceEvent

PERIODS = 80
_CHARACTERS = 2.8
"""Characters of a text that fit into a period of the narrow skin."""


def write_wavedrom(events: Iterable[TraceEvent], file: IO[str], names: Mapping[int, str], span: Span) -> None:
    """Write the rows of a window of a trace."""
    rows = rows_of(events, span, names, (span.end_ns - span.start_ns) / PERIODS)
    signals: list[dict[str, object]] = [
        {"name": label, "wave": _line_wave(levels, span)} for label, levels in rows.lines.items()
    ]
    signals += [{"name": label, **_text_wave(items, span)} for label, items in rows.texts.items()]
    period_ns = (span.end_ns - span.start_ns) / PERIODS
    title = f"{span.start_ns / 1e9:.6f} s to {span.end_ns / 1e9:.6f} s, a period is {period_ns / 1e6:g} ms"
    document = {"signal": signals, "head": {"text": title}, "config": {"skin": "narrow"}}
    json.dump(document, file, indent=1, ensure_ascii=False)
    file.write("\n")


def _period(when_ns: int, span: Span) -> int:
    return max(0, (when_ns - span.start_ns) * PERIODS // (span.end_ns - span.start_ns))


def _line_wave(levels: LineLevels, span: Span) -> str:
    changes: dict[int, list[int]] = {}
    for when_ns, level in levels.within(*span):
        changes.setdefault(_period(when_ns, span), []).append(level)
    level, wave = levels.at(span.start_ns - 1) or 0, ""
    for period in range(PERIODS):
        changed = changes.get(period, [])
        level = changed[-1] if changed else level
        wave += "x" if len(changed) > 1 else str(level)
    return _dotted(wave)


def _text_wave(items: Sequence[Item], span: Span) -> dict[str, object]:
    """Return the wave of a row of texts, and the texts. Those that begin in one period are one."""
    boxes: list[tuple[int, int, str]] = []
    for item in items:
        first, last = _period(item.start_ns, span), _period(item.end_ns, span)
        if boxes and first <= boxes[-1][1]:
            first, _, before = boxes.pop()
            boxes.append((first, max(first, last), f"{before} {item.text}"))
        else:
            boxes.append((first, max(first, last), item.text))
    wave, texts = ["z"] * PERIODS, []
    for (first, last, text), (end, _, _) in itertools.pairwise([*boxes, (PERIODS, PERIODS, "")]):
        stop = min(end, max(last + 1, first + math.ceil(len(text) / _CHARACTERS)))
        wave[first:stop] = ["=", *"." * (stop - first - 1)]
        room = int((stop - first) * _CHARACTERS)
        texts.append(text if len(text) <= room else text[: room - 1] + "…")
    return {"wave": _dotted("".join(wave)), "data": texts}


def _dotted(wave: str) -> str:
    """Return a wave with `.` where it goes on as before. A new text is none of these."""
    return wave[0] + "".join(
        "." if each == before and each != "=" else each for before, each in itertools.pairwise(wave)
    )
