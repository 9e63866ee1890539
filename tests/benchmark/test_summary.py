"""Medians, percentiles and ratios."""

from __future__ import annotations

from scripts.benchmark.summary import middle, percentile, ratio


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, 99) == 99
    assert percentile(values, 100) == 100
    assert percentile(values, 50) == 50
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 99) == 3.0


def test_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_the_medians() -> None:
    # The machine is four times slower in the third round, for both.
    assert ratio([2.0, 2.0, 12.0], [1.0, 1.0, 4.0]) == 2.0
    assert ratio([1.0, 20.0, 30.0], [1.0, 10.0, 10.0]) == 2.0


def test_ratio_without_a_common_round_is_none() -> None:
    assert ratio([1.0], []) is None
    assert ratio([], [1.0]) is None
    assert ratio([1.0], [0.0]) is None


def test_middle_of_nothing_is_none() -> None:
    assert middle([]) is None
    assert middle([3.0, 1.0, 2.0]) == 2.0
