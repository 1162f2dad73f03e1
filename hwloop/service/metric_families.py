"""Figures as Prometheus' metrics, with their names, units, labels and help texts.

Names follow prometheus.io/docs/practices/naming: base units, `_total` for counters, `_seconds` for durations. Each has
the label `program`, so that the metrics of several programs can stand side by side, in the directory of node_exporter's
textfile collector above all.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

import hwloop
from hwloop.core.statistics import Durations, Occurrences, SourceStatistics
from hwloop.service.figures import Figures, SourceFigures

Family = Any
"""A metric of prometheus_client: a name with its samples."""


class Answer(NamedTuple):
    """The loop's answer to a request for figures."""

    figures: Figures | None
    """The latest ones; None before the first loop has run."""
    is_running: bool
    """Whether a loop runs."""
    lag: float
    """Seconds from the request until the loop answered, or until now."""
    age: float
    """Seconds since the figures were collected."""


_COUNTS = {
    "received": ("source_events_received", "Events decoded from the device."),
    "delivered": ("source_events_delivered", "Events that reached a callback or left the queue."),
    "dropped": ("source_events_dropped", "Events that a full queue dropped."),
    "lost": ("source_events_lost", "Events known to have been lost before they could be read."),
    "errors": ("source_errors", "Failures of the device, and exceptions of callbacks."),
    "reopened": ("source_reconnects", "Times that the source came back after an outage."),
    "wakeups": ("source_wakeups", "Times that the loop found the descriptor readable."),
    "limited": ("source_limits", "Times that its rate limit took the source off the loop."),
    "limited_seconds": ("source_limited_seconds", "Time that the source was off the loop because of its rate limit."),
}
"""By field of `SourceStatistics`: the counter, and its help text."""

_BY_ADDRESS: dict[str, tuple[type, str, str]] = {
    "transfers": (CounterMetricFamily, "i2c_transfers", "Transfers with the device at an address of an I2C bus."),
    "errors": (CounterMetricFamily, "i2c_errors", "Transfers that failed, those without an answer included."),
    "bytes": (CounterMetricFamily, "i2c_bytes", "Bytes that were read and written."),
    "busy": (CounterMetricFamily, "i2c_busy_seconds", "Time that the transfers took."),
    "longest": (GaugeMetricFamily, "i2c_longest_transfer_seconds", "The longest time that a transfer took."),
    "longest_wait": (GaugeMetricFamily, "i2c_longest_wait_seconds", "The longest time that a transfer waited."),
}
"""By field of the statistics of an address."""

_OCCURRENCES: dict[str, tuple[str, str, str, str, str]] = {
    "deadline_misses": (
        "callback", "deadline_misses", "Callbacks that ran after their deadline.",
        "deadline_lateness_seconds", "How long after their deadline callbacks ran, in total.",
    ),
    "overruns": (
        "callback", "slow_callbacks", "Callbacks that blocked the loop for too long, if watch_slices() asks for them.",
        "slow_callback_seconds", "How long slow callbacks ran, in total.",
    ),
    "tasks": (
        "task", "task_steps", "Steps of tasks, if measure_tasks() asks for them.",
        "task_seconds", "How long the steps of tasks ran, in total.",
    ),
}  # fmt: skip
"""By field of `LoopStatistics`: label, counter and help text, the counter of seconds and its help text."""

_BASE = {field.name for field in dataclasses.fields(SourceStatistics)}


def families(answer: Answer, program: str) -> Iterator[Family]:
    """Yield the metrics of a program that have a value, one by one."""
    return (family for family in _families(answer, _Maker(program)) if family.samples)


def _families(answer: Answer, make: _Maker) -> Iterator[Family]:
    yield make.one(
        "build_info", "The versions that run.", 1, version=hwloop.__version__, python=platform.python_version()
    )
    yield make.one("loop_running", "Whether an event loop runs.", int(answer.is_running))
    yield make.one(
        "loop_lag_seconds", "How long the loop took to answer the latest request for these figures.", answer.lag
    )
    figures = answer.figures
    if figures is None:
        return
    yield make.one(
        "figures_age_seconds", "How old these figures are; more than 0 while the loop is blocked.", answer.age
    )
    yield from _of_loop(figures, make)
    yield from _of_sources(figures.sources, make)
    yield make.one("outputs_open", "GPIO outputs that are open.", figures.outputs)
    yield make.many(
        GaugeMetricFamily, "critical_overdue", "Whether something critical has made no progress within its bound.",
        ("subject",), ([name, int(overdue)] for name, overdue in figures.overdue.items()),
    )  # fmt: skip
    yield make.many(
        CounterMetricFamily, "service_undelivered_messages", "Messages that did not reach the service manager.",
        (), [[figures.undelivered]],
    )  # fmt: skip


def _of_loop(figures: Figures, make: _Maker) -> Iterator[Family]:
    loop = figures.loop
    yield make.histogram("loop_timer_lateness_seconds", "How long after its time each timer ran.", loop.lateness)
    yield make.histogram(
        "loop_io_latency_seconds",
        "How long after the poll that found it ready each descriptor was served.",
        loop.latency,
    )
    yield make.one("loop_ready_callbacks", "Callbacks that are ready to run.", loop.ready)
    yield make.one("loop_timers", "Timers that are set.", loop.timers)
    yield make.one("loop_descriptors", "Descriptors that are watched.", loop.descriptors)
    for field, (label, counter, meaning, seconds, meaning_of_seconds) in _OCCURRENCES.items():
        found: Mapping[str, Occurrences] = getattr(loop, field)
        yield make.many(
            CounterMetricFamily, counter, meaning, (label,), ([name, each.count] for name, each in found.items())
        )
        yield make.many(
            CounterMetricFamily,
            seconds,
            meaning_of_seconds,
            (label,),
            ([name, each.total] for name, each in found.items()),
        )
    if loop.gc is not None:
        yield make.many(
            CounterMetricFamily, "gc_collections", "Garbage collections that the loop has run.", ("generation",),
            ([str(generation), count] for generation, count in enumerate(loop.gc.collections)),
        )  # fmt: skip


def _of_sources(sources: tuple[SourceFigures, ...], make: _Maker) -> Iterator[Family]:
    named = list(zip(_unique_names(sources), sources, strict=True))

    def rows(value: Callable[[SourceFigures], float | None]) -> Iterator[list[Any]]:
        for name, source in named:
            if (found := value(source)) is not None:
                yield [name, found]

    label = ("source",)
    for field, (counter, meaning) in _COUNTS.items():
        counts = ([name, getattr(source.counts, field)] for name, source in named)
        yield make.many(CounterMetricFamily, counter, meaning, label, counts)
    yield make.many(
        CounterMetricFamily, "source_outages", "Times that the device has failed and its source waited for it.", label,
        rows(lambda source: source.counts.reopened + (source.is_open is False)),
    )  # fmt: skip
    yield make.many(
        GaugeMetricFamily, "source_open", "Whether the device is open; 0 during an outage.", label,
        rows(lambda source: None if source.is_open is None else int(source.is_open)),
    )  # fmt: skip
    yield make.many(
        GaugeMetricFamily, "source_suspect", "Whether a transfer had no answer in time, and none has succeeded since.",
        label, rows(lambda source: None if source.is_suspect is None else int(source.is_suspect)),
    )  # fmt: skip
    yield make.many(
        GaugeMetricFamily, "source_queued_events", "Events that wait in the queue.", label,
        rows(lambda source: source.counts.queued),
    )  # fmt: skip
    yield from _of_kinds(named, make)
    for field, (kind, name, meaning) in _BY_ADDRESS.items():
        yield make.many(
            kind, name, meaning, ("source", "address"),
            (
                [source, f"0x{address:02x}", getattr(found, field)]
                for source, figures in named
                for address, found in getattr(figures.counts, "addresses", {}).items()
                if hasattr(found, field)
            ),
        )  # fmt: skip


def _of_kinds(named: list[tuple[str, SourceFigures]], make: _Maker) -> Iterator[Family]:
    """Yield the counts that only some kinds of sources have."""
    counts, seconds = [], []
    for source, figures in named:
        for field in dataclasses.fields(figures.counts):
            value = getattr(figures.counts, field.name)
            if field.name in _BASE or isinstance(value, bool):
                continue
            if isinstance(value, int):
                counts.append([source, field.name, value])
            elif isinstance(value, float):
                seconds.append([source, field.name, value])
    labels = ("source", "detail")
    yield make.many(
        CounterMetricFamily, "source_details", "Counts of some kinds of sources, by name in statistics().", labels,
        counts,
    )  # fmt: skip
    yield make.many(
        GaugeMetricFamily, "source_detail_seconds", "Durations of some kinds of sources, by name in statistics().",
        labels, seconds,
    )  # fmt: skip


class _Maker:
    """Makes metrics, all with the prefix `hwloop_` and the label `program`."""

    def __init__(self, program: str) -> None:
        self._program = program

    def one(self, name: str, meaning: str, value: float, **labels: str) -> Family:
        return self.many(GaugeMetricFamily, name, meaning, tuple(labels), [[*labels.values(), value]])

    def many(self, kind: Any, name: str, meaning: str, labels: tuple[str, ...], rows: Any) -> Family:
        """Make a metric with one sample for each row: the values of the labels, then that of the metric."""
        family = kind(f"hwloop_{name}", meaning, labels=("program", *labels))
        for *values, value in rows:
            family.add_metric([self._program, *values], value)
        return family

    def histogram(self, name: str, meaning: str, durations: Durations) -> Family:
        family = HistogramMetricFamily(
            f"hwloop_{name}", f"{meaning} Bounds are right to a sixteenth.", labels=("program",)
        )
        buckets = [(f"{bound:g}", count) for bound, count in durations.cumulative.items()]
        family.add_metric([self._program], [*buckets, ("+Inf", durations.count)], durations.total)
        return family


def _unique_names(sources: tuple[SourceFigures, ...]) -> list[str]:
    """Return the names of the sources; a second one of the same name has its number behind it."""
    seen: dict[str, int] = {}
    names = []
    for each in sources:
        number = seen[each.counts.name] = seen.get(each.counts.name, 0) + 1
        names.append(each.counts.name if number == 1 else f"{each.counts.name} #{number}")
    return names
