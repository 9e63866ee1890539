"""The gauges for Prometheus, read at each scrape: sessions, queues, reservations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client.core import Metric

from ..telemetry.metrics import gauge, gauges
from .registry import SessionRegistry

STATES = ("idle", "running", "ending")


def readings(sessions: SessionRegistry) -> Iterator[Metric]:
    """The metrics of all sessions, of their queues and of admission."""
    alive = sessions.of(None)
    states = Counter("running" if one.runs.active else "idle" for one in alive)
    states["ending"] = len(sessions.rows()) - len(alive)
    counts = {state: float(states[state]) for state in STATES}
    yield gauges("sessions", "Sessions by state", "state", counts)
    runs, disk = sessions.admission.runs.queue, sessions.admission.sessions.queue
    queues = {"runs": runs.queued + sum(one.runs.queued for one in alive)}
    queues["sessions"] = disk.queued
    yield gauges("queue_length", "How many wait for their turn", "of", queues)
    for name, what, memory, storage in (
        ("promised", "Reserved amounts, which may be used", runs.used, disk.used),
        ("promised_limit", "The most that can be reserved", runs.total, disk.total),
    ):
        amounts = {
            "runs": memory.count,
            "run_memory_bytes": memory.size,
            "run_tasks": memory.tasks,
            "sessions": storage.count,
            "disk_bytes": storage.size,
        }
        yield gauges(name, what, "of", amounts)
    yield gauge(
        "draining", "1 while the daemon is drained", "drain" in sessions.admission.runs.pauses
    )
    ceiling = asdict(sessions.config.ceiling)
    yield gauges("limit_ceiling", "The highest limit that a step may request", "limit", ceiling)
