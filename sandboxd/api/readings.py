"""What Prometheus reads off when it asks: sessions, queues, limits, as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client.core import Metric

from ..config import Config
from .metrics import gauge, gauges
from .registry import Sessions

STATES = ("idle", "running", "ending")


def readings(config: Config, sessions: Sessions) -> Iterator[Metric]:
    """The metrics of all sessions."""
    alive = list(sessions.of(None))
    states = Counter("running" if one.runs.active else "idle" for one in alive)
    states["ending"] = len(sessions.rows()) - len(alive)
    told = {state: states[state] for state in STATES}
    yield gauges("sessions", "Sessions by what they are at", "state", told)
    yield gauge("runs_active", "Runs that are going on", states["running"])
    waiting = sum(one.runs.waiting for one in alive)
    yield gauge("queue_length", "Runs that wait for their turn", waiting)
    yield gauge("slots", "Sessions that there is room for", config.slots.count)
    yield gauges("limit_ceiling", "What a step may ask for", "limit", asdict(config.ceiling))
    plans = [run.plan for one in alive if (run := one.runs.active)]
    promised = {
        name: sum(max(getattr(step.limits, name) for step in plan.steps) for plan in plans)
        for name in ("memory", "cpus", "pids")
    }
    yield gauges("promised", "What the runs that are going on may use", "limit", promised)
    disk = config.scratch.size * len(sessions.rows())
    yield gauge("promised_disk_bytes", "Sizes of all scratches together", disk)
