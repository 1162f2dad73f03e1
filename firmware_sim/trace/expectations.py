"""`assert_trace`: compares a trace with the events that a test expects, and shows the difference.

assert_trace(board.trace, ["line 17 falls", "line 27 rises"])
assert_trace(board.trace, [(0.0, "line 17 falls"), (0.05, "line 27 rises")], within=0.001)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from firmware_sim.trace.wording import describe, describe_fully, seconds
from hwloop.trace_events import TraceEvent

Expected = str | tuple[float, str]
"""An event in words, or the time at which it is expected (seconds from the first event that is compared) and the event
in words."""

_SHOWN_AROUND = 3
"""Events that agree and are shown before and after each difference."""


def assert_trace(
    events: Iterable[TraceEvent],
    expected: Sequence[Expected],
    *,
    within: float = 0.001,
    start_ns: int | None = None,
) -> None:
    """Raise AssertionError, with a readable difference, unless the trace has these events in this order.

    An event in words is as `describe` has it: "line 17 falls", "/dev/ttyAMA0 received 'OK'", "i2c 1 0x76 w d0 r 60".
    It may add the cause ("line 17 falls by program"), and `...` stands for any text ("i2c 1 0x76 w f7 r ...").
    Only events of the lines, ports and buses that `expected` names are compared; an empty list rejects every event.

    Parameters:
        events: the trace.
        expected: the events, each as text, or as `(seconds, text)`.
        within: by how many seconds the time of an event may differ from the expected one.
        start_ns: when the expected times begin; by default at the first event that is compared.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    wanted = [(None, each) if isinstance(each, str) else (float(each[0]), each[1]) for each in expected]
    patterns = list(dict.fromkeys(text for _, text in wanted))
    subjects = {_subject(text) for text in patterns}
    compared = [event for event in events if not subjects or _subject(describe(event)) in subjects]
    if start_ns is None:
        start_ns = compared[0].when_ns if compared else 0
    found = [_as_expected(event, patterns) for event in compared]
    rows, differ = list[str](), False
    matcher = difflib.SequenceMatcher(None, found, [text for _, text in wanted], autojunk=False)
    for kind, first, last, first_wanted, last_wanted in matcher.get_opcodes():
        for event, (when, text) in zip(
            compared[first:last] if kind == "equal" else (), wanted[first_wanted:last_wanted], strict=False
        ):
            actual = (event.when_ns - start_ns) / 1e9
            late = when is not None and not abs(actual - when) <= within
            differ = differ or late
            note = f"   expected at {when:.6f} s, {actual - when:+.6f} s" if late and when is not None else ""
            rows.append(f"{'!' if late else ' '} {_clock(event, start_ns)}  {text}{note}")
        if kind != "equal":
            differ = True
            for when, text in wanted[first_wanted:last_wanted]:
                at = " " * 14 if when is None else f"{when:12.6f} s"
                rows.append(f"- {at}  {text}")
            for event in compared[first:last]:
                rows.append(f"+ {_clock(event, start_ns)}  {describe_fully(event)}")
    if differ:
        raise AssertionError(
            "the trace is not as expected (- expected, + found instead, ! found at another time):\n"
            + "\n".join(_shortened(rows))
        )


def _clock(event: TraceEvent, start_ns: int) -> str:
    return f"{seconds(event.when_ns - start_ns):>12} s"


def _subject(text: str) -> tuple[str, ...]:
    """Return the part of a description that names the line, port or bus."""
    words = text.split(" ", 2)
    return (words[0],) if words[0] in ("stdout", "stderr") else tuple(words[:2])


def _as_expected(event: TraceEvent, patterns: Sequence[str]) -> str:
    """Return the expected text that an event fits, or else the event in words."""
    short, full = describe(event), describe_fully(event)
    for pattern in patterns:
        if pattern in (short, full):
            return pattern
    for pattern in patterns:
        if "..." in pattern:
            expression = ".*".join(map(re.escape, pattern.split("...")))
            if re.fullmatch(expression, short, re.DOTALL) or re.fullmatch(expression, full, re.DOTALL):
                return pattern
    return full


def _shortened(rows: Sequence[str]) -> list[str]:
    """Return the rows that differ and those around them."""
    near = {
        around
        for index, row in enumerate(rows)
        if row[0] != " "
        for around in range(index - _SHOWN_AROUND, index + _SHOWN_AROUND + 1)
    }
    kept, skipped = list[str](), 0
    for index, row in enumerate(rows):
        if index in near:
            if skipped:
                kept.append(f"  ... {skipped} as expected")
                skipped = 0
            kept.append(row)
        else:
            skipped += 1
    return [*kept, f"  ... {skipped} as expected"] if skipped else kept
