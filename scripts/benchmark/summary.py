"""Medians, percentiles and ratios of measured times.

Machines drift, so a ratio is formed within a round, and the median of these ratios counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as `share` percent of all (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def ratio(values: Sequence[float], references: Sequence[float]) -> float | None:
    """The median of the ratios, round by round; None without a round that has both."""
    pairs = [(v, r) for v, r in zip(values, references, strict=False) if r > 0]
    return median(v / r for v, r in pairs) if pairs else None


def middle(values: Sequence[float]) -> float | None:
    """The median; None without values."""
    return median(values) if values else None
