"""The life of a session: the runs of its own, its result, and its end. No I/O.

Before the runs of its clients a session has runs of its own: the bootstrap script, then, in a
session of the type batch, the startup command, whose exit code is the session's result. A batch
session ends by itself some time after its command, so that files and console can still be fetched.
Any session ends when no client has used it for as long as the configuration says, or when it is
too old. All of this follows from stored times, by the clock of the host, so neither a restart nor a
long sleep of the daemon makes a difference.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...config.settings import Config
from ...config.settings import SessionsConfig as Settings
from ...model import Limits
from ...runs.journal import JournalEvent
from ...runs.plan import Plan
from ...runs.run import Run
from ...runtimes import Runtime
from ...store.sessions import SessionRow
from ..options import batch

TIMED_OUT = 124
"""exit_code of a startup command that a time limit ended, as timeout(1) has it."""

LIFE_MAX_S = 10 * 366 * 86400
"""The most seconds that a client may ask for until a session ends by itself: ten years."""

IDLE, DONE, OLD, UNHELD = "idle-timeout", "task-finished", "max-age", "time-to-live"
"""Why sessions end by themselves."""


def own_runs(row: SessionRow, runtime: Runtime, config: Config) -> list[tuple[str, Plan]]:
    """The runs that a session of `row` begins with, and their ids. Raises Invalid for commands
    that cannot be carried out."""
    runs = []
    if row.bootstrap_script:
        plan = _plan(row, row.bootstrap_script, config.limits.build, runtime, config)
        runs.append((f"bootstrap-{secrets.token_hex(8)}", replace(plan, role="bootstrap")))
    if row.startup_command:
        # A batch session exists for this command: it may use as much as any client may ask for.
        plan = _plan(row, row.startup_command, config.ceiling, runtime, config)
        runs.append((f"startup-{secrets.token_hex(8)}", replace(plan, role="startup")))
    return runs


def _plan(row: SessionRow, command: str, limits: Limits, runtime: Runtime, config: Config) -> Plan:
    """A run of one command, without a user at the keyboard."""
    times = {"wall_s": limits.wall_s, "cpu_s": limits.cpu_s}
    options = batch.BatchOptions(exec=command, stdin="", timeout={"exec": times})
    return batch.plan(options, row, runtime, config)


def after(row: SessionRow, run: Run, now: float) -> dict[str, Any]:
    """The changes in `row` now that `run` is over."""
    changes: dict[str, Any] = {"used_at": now, "usage": _summed(row.usage, run.events)}
    code = _exit_code(run)
    if run.plan.role == "bootstrap" and code != 0:
        changes["status_info"] = f"the bootstrap script failed (exit code {code})"
    if run.plan.role and run.events and run.events[-1].fault:
        changes["status_info"] = run.events[-1].fault
    if run.plan.role == "startup" and not run.vanished:
        result = "SUCCESS" if code == 0 else "FAILURE"
        changes |= {"result": result, "exit_code": code, "done_at": now}
    return changes


def _exit_code(run: Run) -> int:
    if run.error or not run.events:
        return -1
    code = run.events[-1].exit
    return TIMED_OUT if code is None else code


def _summed(usage: dict[str, int], events: Sequence[JournalEvent]) -> dict[str, int]:
    """`usage` with the usage of one more run."""
    total = {"runs": 0, "wall_ms": 0, "cpu_ms": 0, "mem_peak": 0} | usage
    total["runs"] += 1
    for event in events:
        if event.verdict:
            used = event.verdict.usage
            total["wall_ms"] += used.wall_ms
            total["cpu_ms"] += used.cpu_ms
            total["mem_peak"] = max(total["mem_peak"], used.mem_peak)
    return total


def failed(row: SessionRow, why: str, now: float) -> dict[str, Any]:
    """The changes in `row` when its own runs cannot be carried out."""
    if not row.startup_command:
        return {"status_info": why}
    return {"result": "FAILURE", "exit_code": -1, "done_at": now, "status_info": why}


@dataclass(frozen=True, slots=True)
class End:
    """When a session ends by itself, in seconds since 1970, and why."""

    at: float
    reason: str


def end(
    row: SessionRow, used_at: float, busy: bool, settings: Settings, unheld_at: float | None = None
) -> End | None:
    """The end of a session if nobody uses it until then and nothing happens in it; None: it goes
    on. A session that is `busy` ends only for its age, and at the date `unheld_at` because of its
    time to live."""
    ends = [] if unheld_at is None else [End(unheld_at, UNHELD)]
    if settings.max_age_s:
        ends.append(End(row.history.get("RUNNING", row.created_at) + settings.max_age_s, OLD))
    if row.done_at is not None and not busy:
        ends.append(End(row.done_at + settings.batch_keep_s, DONE))
    if not busy:
        ends += [End(used_at + idle_s, IDLE) for idle_s in (settings.idle_s, row.idle_s) if idle_s]
    return min(ends, key=lambda one: one.at, default=None)
