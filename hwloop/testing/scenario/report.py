"""Reports of played scenarios: what was done when, what was expected, and what happened instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from firmware_sim.trace import text_waveform
from hwloop.testing.scenario.control_steps import AnyOrder
from hwloop.testing.scenario.result import Played, Result
from hwloop.testing.scenario.step import Expectation, Step
from hwloop.testing.scenario.times import duration_text
from hwloop.trace_events import I2cTransfer, SpiTransfer, TraceEvent

WINDOW = 1.0
"""Seconds before a failure that the waveform shows."""
WIDTH = 100
"""Columns of the waveform."""


def failure_text(result: Result, names: Mapping[int, str] | None = None, *, steps: int = 10, width: int = WIDTH) -> str:
    """Return the report of a failed scenario: the step, what happened instead, and the last second as a waveform.

    `names` are the names of the board's lines, `steps` the number of steps that are listed, `width` the columns of the
    waveform.
    """
    failure = result.failure
    assert failure is not None, "the scenario has failed"
    place = f" ({failure.step.place})" if failure.step.place is not None else ""
    lines = [
        f"{result.scenario.title}: {failure.step.describe()}: {failure.problem}{place}",
        f"  begun at    {moment(result, failure.begun_ns)}",
        f"  failed at   {moment(result, failure.ended_ns)}",
    ]
    if failure.instead:
        lines.append(f"  instead     {failure.instead}")
    lines += ["", *steps_text(result, steps), "", waveform(result, names, width)]
    return "\n".join(lines)


def steps_text(result: Result, count: int) -> Iterator[str]:
    """Yield a line for each of the last `count` steps."""
    played = list(result.played)[-count:]
    if result.steps > len(played):
        yield f"  … {result.steps - len(played)} earlier steps"
    for each in played:
        yield f"  {moment(result, each.begun_ns)}  {each.step.describe()}{outcome(each)}"


def outcome(played: Played) -> str:
    """Return how a step went, for its line in a report; nothing for a step that expects nothing."""
    if played.problem:
        return f": FAILED, {played.problem}"
    if not played.done:
        return ": not done"
    if not is_expectation(played.step):
        return ""
    took_ns = played.ended_ns - played.begun_ns
    return ": ok" + (f" after {duration_text(took_ns / 1e9)}" if took_ns else "")


def is_expectation(step: Step) -> bool:
    """Return whether a step expects something."""
    return isinstance(step, Expectation | AnyOrder)


def waveform(result: Result, names: Mapping[int, str] | None = None, width: int = WIDTH) -> str:
    """Return the last second of a scenario as a waveform of characters; its times are those of the scenario."""
    start_ns = max(0, result.end_ns - result.start_ns - round(WINDOW * 1e9))
    end_ns = result.end_ns - result.start_ns + 1
    events = [_shifted(event, result.start_ns) for event in result.recent]
    if not any(event.when_ns >= start_ns for event in events):
        return "nothing happened on the board in the last second"
    return text_waveform(events, start_ns, max(end_ns, start_ns + 1000), width, names=names)


def moment(result: Result, when_ns: int) -> str:
    """Return a time as seconds since the scenario began."""
    return f"{(when_ns - result.start_ns) / 1e9:9.6f} s"


def _shifted(event: TraceEvent, start_ns: int) -> TraceEvent:
    """Return an event with its times counted from `start_ns`."""
    moved = event._replace(when_ns=event.when_ns - start_ns)
    return moved._replace(end_ns=moved.end_ns - start_ns) if isinstance(moved, I2cTransfer | SpiTransfer) else moved
