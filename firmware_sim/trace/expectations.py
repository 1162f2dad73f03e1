"""`assert_trace`: compares a trace with the events that a test expects, and shows the difference.

assert_trace(board.trace, ["line 17 falls", "line 27 rises"])
assert_trace(board.trace, [(0.0, "line 17 falls"), (0.05, "line 27 rises")], within=0.001)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

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

    Raises TypeError for an expected event that is neither.

    Parameters:
        events: the trace.
        expected: the events, each as text, or as `(seconds, text)`.
        within: by how many seconds the time of an event may differ from the expected one.
        start_ns: when the expected times begin; by default at the first event that is compared.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    wanted = _checked(expected)
    texts = [text for _, text in wanted]
    subjects = {_subject(text) for text in texts}
    events = list(events)
    compared = [event for event in events if not subjects or _subject(describe(event)) in subjects]
    if start_ns is None:
        start_ns = compared[0].when_ns if compared else 0
    rows = list[str]()
    for equal, of_trace, of_expected in _runs([(describe(it), describe_fully(it)) for it in compared], texts):
        if equal:
            pairs = zip(compared[of_trace], wanted[of_expected], strict=True)
            rows += [_agreeing(event, when, text, start_ns, within) for event, (when, text) in pairs]
            continue
        rows += [f"- {'' if when is None else f'{when:.6f} s':>14}  {text}" for when, text in wanted[of_expected]]
        rows += [f"+ {_clock(event, start_ns)}  {describe_fully(event)}" for event in compared[of_trace]]
    if any(not row.startswith(" ") for row in rows):
        raise AssertionError(
            "the trace is not as expected (- expected, + found instead, ! found at another time):\n"
            + "\n".join([*_shortened(rows), *_absent(subjects, events)])
        )


def _checked(expected: Sequence[Expected]) -> list[tuple[float | None, str]]:
    """Return the expected events as times and texts. Raises TypeError."""
    if isinstance(expected, str):
        raise TypeError(f"assert_trace takes a list of events in words, such as [{expected!r}], and not one text")
    checked = list[tuple[float | None, str]]()
    for each in expected:
        if isinstance(each, str):
            checked.append((None, each))
        elif isinstance(each, tuple) and len(each) == 2 and isinstance(each[1], str):
            checked.append((float(each[0]), each[1]))
        else:
            raise TypeError(f'an expected event is a text such as "line 17 falls", or (seconds, text), not {each!r}')
    return checked


def _runs(found: Sequence[tuple[str, str]], wanted: Sequence[str]) -> Iterator[tuple[bool, slice, slice]]:
    """Yield the parts in which the two agree or differ: whether they agree, and the part of each.

    `found` are the events in words, without and with their causes.
    """
    both = min(len(found), len(wanted))
    head = next((index for index in range(both) if not _fits(found[index], wanted[index])), both)
    left = both - head
    tail = next((index for index in range(left) if not _fits(found[-1 - index], wanted[-1 - index])), left)
    yield True, slice(0, head), slice(0, head)
    ends = len(found) - tail, len(wanted) - tail
    # Only the part between is searched, because that takes the square of its length. There each event stands for the
    # first text that it fits.
    between = wanted[head : ends[1]]
    exact, open_ended = set(between), [text for text in dict.fromkeys(between) if "..." in text]
    keys = list[str]()
    for words in found[head : ends[0]]:
        known = [*(each for each in words if each in exact), *(text for text in open_ended if _fits(words, text))]
        keys.append(known[0] if known else words[1])
    matcher = difflib.SequenceMatcher(None, keys, between, autojunk=False)
    for kind, first, last, first_wanted, last_wanted in matcher.get_opcodes():
        yield kind == "equal", slice(head + first, head + last), slice(head + first_wanted, head + last_wanted)
    yield True, slice(ends[0], len(found)), slice(ends[1], len(wanted))


def _fits(words: tuple[str, str], text: str) -> bool:
    """Return whether an event in words is the expected one."""
    if text in words:
        return True
    if "..." not in text:
        return False
    expression = ".*".join(map(re.escape, text.split("...")))
    return any(re.fullmatch(expression, each, re.DOTALL) for each in words)


def _agreeing(event: TraceEvent, when: float | None, text: str, start_ns: int, within: float) -> str:
    """Return the row of an expected event that was found, perhaps at another time."""
    actual = (event.when_ns - start_ns) / 1e9
    if when is None or abs(actual - when) <= within:
        return f"  {_clock(event, start_ns)}  {text}"
    return f"! {_clock(event, start_ns)}  {text}   expected at {when:.6f} s, {actual - when:+.6f} s"


def _absent(subjects: Iterable[tuple[str, ...]], events: Iterable[TraceEvent]) -> Iterator[str]:
    """Yield a hint where the trace has no event at all of something that is expected: it may be misspelt."""
    there = dict.fromkeys(_subject(describe(event)) for event in events)
    if missing := sorted(" ".join(subject) for subject in subjects if subject not in there):
        known = ", ".join(sorted(" ".join(subject) for subject in there)) or "nothing"
        yield f"the trace has no event of {', '.join(missing)}; it has events of {known}"


def _clock(event: TraceEvent, start_ns: int) -> str:
    return f"{seconds(event.when_ns - start_ns):>12} s"


def _subject(text: str) -> tuple[str, ...]:
    """Return the part of a description that names the line, port or bus."""
    words = text.split(" ", 2)
    return (words[0],) if words[0] in ("stdout", "stderr") else tuple(words[:2])


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
