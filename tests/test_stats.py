"""Histograms: quantiles that hold to within a bucket, in memory that does not grow."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwloop.core.counters import BOUNDS, Histogram


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_right_to_a_sixteenth(values, fraction):
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    ordered = sorted(values)
    exact = ordered[max(0, min(len(ordered), -int(-fraction * len(ordered) // 1)) - 1)]
    assert abs(histogram.quantile(fraction) - exact) <= exact / 16 + 1
    assert histogram.min == ordered[0]
    assert histogram.max == ordered[-1]
    assert histogram.count == len(values)
    assert histogram.mean == sum(values) / len(values)


@given(st.lists(st.floats(0, 100), max_size=200))
def test_durations_up_to_a_bound_are_counted_and_the_bound_is_right_to_a_sixteenth(values):
    histogram = Histogram()
    histogram.record_all(values)
    counts = histogram.cumulative()
    assert list(counts) == sorted(BOUNDS)
    assert list(counts.values()) == sorted(counts.values())
    for bound, count in counts.items():
        assert sum(value <= bound for value in values) <= count <= sum(value <= bound * 17 / 16 for value in values)


def test_an_empty_histogram_reads_zero():
    histogram = Histogram()
    assert (histogram.quantile(0.5), histogram.mean, histogram.max, histogram.count) == (0, 0, 0, 0)


@pytest.mark.parametrize("before", [[], [3.0]])
def test_durations_of_nothing_are_counted_in_the_first_bucket(before):
    histogram = Histogram()
    histogram.record_all(before)
    histogram.record_all([0.0] * 6 + [-0.0])
    assert (histogram.min, histogram.max, histogram.count) == (0, sum(before), 7 + len(before))
    assert histogram.total == sum(before)
    assert histogram.quantile(0.5) == 0
    assert next(iter(histogram.cumulative().values())) == 7


def test_a_negative_duration_counts_as_none_and_a_huge_one_in_the_last_bucket():
    histogram = Histogram()
    histogram.record(-5)
    histogram.record(1 << 80)
    assert histogram.quantile(0.25) == 0
    assert histogram.quantile(1) == 1 << 80


@given(st.lists(st.floats(-1, 100), max_size=200))
@example([-0.0, 1.0])
def test_durations_recorded_together_count_as_those_recorded_one_by_one(values):
    together, one_by_one = Histogram(), Histogram()
    together.record_all(values)
    for value in values:
        one_by_one.record(value)
    assert together.cumulative() == one_by_one.cumulative()
    for fraction in (0, 0.1, 0.5, 0.9, 1):
        assert together.quantile(fraction) == one_by_one.quantile(fraction)


def test_durations_that_are_no_numbers_end_the_count_of_none():
    histogram = Histogram()
    histogram.record_all([float("nan"), 1.0, float("inf"), float("nan"), 2.0])
    assert histogram.count == 5


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_zero_to_one_raises(fraction):
    with pytest.raises(ValueError, match="fraction"):
        Histogram().quantile(fraction)
