"""The metrics of the broker, from the counts in the vitals of the warden."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from .metrics import gauge

_FAMILIES = {
    "outcomes": ("connections", "outcome", "Connections of runs by outcome"),
    "bytes": ("bytes", "direction", "Bytes of runs to and from hosts"),
}


def readings(counts: Any) -> Iterator[Metric]:
    """The metrics for these counts: "open", "outcomes.NAME" and "bytes.DIRECTION"."""
    if not isinstance(counts, dict) or "open" not in counts:
        return
    yield gauge("network_open_connections", "Open connections of runs", float(counts["open"]))
    for part, (name, label, what) in _FAMILIES.items():
        family = CounterMetricFamily(f"sandboxd_network_{name}", what, labels=[label])
        for key, value in counts.items():
            prefix, _, label_value = str(key).partition(".")
            if prefix == part:
                family.add_metric([label_value], float(value))
        yield family
