"""The metrics of the daemon for Prometheus: their table, and their text form.

Labels have few values: route templates instead of paths, names of runtimes instead of images, and
nothing of an owner or a session. Only events are counted. States (sessions, queues, memory of the
processes) are read when Prometheus asks, each by a collector of its own.

A daemon has one object, with a registry of its own; only the event loop uses it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ... import __version__, log

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET")
NOWHERE = "(none)"
"""The label of a request whose path has no route."""

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SLOW = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)

Family = TypeVar("Family", Counter, Histogram)

Reading = Callable[[], Iterator[Metric]]


class Metrics:
    """The counters of one daemon. Seconds and bytes throughout."""

    def __init__(self) -> None:
        # they would be a second series for each counter
        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="sandboxd_api", registry=registry)
        self.requests = Counter(
            "sandboxd_http_requests", "Requests with a response", ["method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "sandboxd_http_request_seconds", "From a request's head to the end of its response",
            ["method", "route"], buckets=_FAST, registry=registry,
        )  # fmt: skip
        self.received = _counter(self, "http_received_bytes", "Bytes of request bodies")
        self.sent = _counter(self, "http_sent_bytes", "Bytes of response bodies")
        self.rate_limited = _counter(self, "http_rate_limited", "Requests over a keypair's rate")
        self.denied = _counter(self, "http_denied", "Requests for what the caller may not have")
        self.cut = _counter(self, "http_cut_answers", "Responses broken off by our own error")
        self.runs = Counter(
            "sandboxd_runs", "Runs that are over, by what became of them",
            ["outcome", "limit", "runtime"], registry=registry,
        )  # fmt: skip
        self.run_seconds = Histogram(
            "sandboxd_run_seconds", "From a run's start to its end", ["runtime"],
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "sandboxd_queue_seconds", "From the request for a run to its start",
            buckets=_SLOW, registry=registry,
        )  # fmt: skip
        self.console = _counter(self, "console_bytes", "Bytes that programs have printed")
        self.console_cut = _counter(self, "console_cut_bytes", "Of these, bytes not kept")
        self.warden_seconds = Histogram(
            "sandboxd_warden_request_seconds", "Requests of the api to the warden", ["op"],
            buckets=_FAST, registry=registry,
        )  # fmt: skip
        self.warden_failed = Counter(
            "sandboxd_warden_refusals", "Requests that the warden has refused", ["op", "kind"],
            registry=registry,
        )  # fmt: skip
        self.loop_lag = Histogram(
            "sandboxd_api_loop_lag_seconds", "How late the api's event loop is",
            buckets=_FAST, registry=registry,
        )  # fmt: skip
        self.leaks = Counter(
            "sandboxd_leaks_found", "Leaks by kind and by what was done about them",
            ["kind", "done"], registry=registry,
        )  # fmt: skip
        self._began = time.monotonic()
        self.reading(self._own)

    def reading(self, read: Reading) -> None:
        """Call `read` whenever Prometheus asks."""
        self.registry.register(_Reader(read))

    def _own(self) -> Iterator[Metric]:
        yield gauge("build_info", "Always 1", 1, version=__version__)
        yield gauge("uptime_seconds", "Since the api has started", time.monotonic() - self._began)
        yield gauge("log_lines_dropped", "Lines of the api's log that were dropped", log.dropped())

    def request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """A request is over; `seconds` is None for a stream, which lasts as long as its client."""
        method = method if method in METHODS else "other"
        _child(self.requests, method, route, str(status)).inc()
        if seconds is not None:
            _child(self.request_seconds, method, route).observe(seconds)

    def warden_answered(self, op: str, seconds: float, refusal: str) -> None:
        """The warden has answered a request; `refusal` is the kind of its refusal, or ""."""
        _child(self.warden_seconds, op).observe(seconds)
        if refusal:
            kind = refusal if refusal in ("stage", "unavailable", "invalid") else "other"
            self.warden_failed.labels(op, kind).inc()

    def run_over(self, outcome: str, limit: str, runtime: str, seconds: float | None) -> None:
        """A run is over; `seconds` is None if it has never begun."""
        _child(self.runs, outcome, limit, runtime).inc()
        if seconds is not None:
            _child(self.run_seconds, runtime).observe(seconds)

    def text(self) -> bytes:
        """The metrics in the text format of Prometheus (0.0.4)."""
        return generate_latest(self.registry)


@functools.cache
def _child(family: Family, *values: str) -> Family:
    """The metric of a family with these values of its labels, of which there are few."""
    return family.labels(*values)


def _counter(metrics: Metrics, name: str, what: str) -> Counter:
    return Counter(f"sandboxd_{name}", what, registry=metrics.registry)


def gauge(name: str, what: str, value: float, **labels: str) -> GaugeMetricFamily:
    """One value as a metric."""
    family = GaugeMetricFamily(f"sandboxd_{name}", what, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """Values by one label as a metric."""
    family = GaugeMetricFamily(f"sandboxd_{name}", what, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


class _Reader(Collector):
    def __init__(self, read: Reading) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield from self._read()


_NETWORK = {
    "outcomes": ("connections", "outcome", "Connections of runs by outcome"),
    "bytes": ("bytes", "direction", "Bytes of runs to and from hosts"),
}


def network_readings(counts: Any) -> Iterator[Metric]:
    """The metrics of the broker, from the counts in the vitals of the warden: "open",
    "outcomes.NAME" and "bytes.DIRECTION"."""
    if not isinstance(counts, dict) or "open" not in counts:
        return
    yield gauge("network_open_connections", "Open connections of runs", float(counts["open"]))
    for part, (name, label, what) in _NETWORK.items():
        family = CounterMetricFamily(f"sandboxd_network_{name}", what, labels=[label])
        for key, value in counts.items():
            prefix, _, label_value = str(key).partition(".")
            if prefix == part:
                family.add_metric([label_value], float(value))
        yield family
