"""The CPU time of one run, and of a session without runs, of the whole daemon and by process.

A cgroup around the daemon counts every process, also those that have ended. Processes that live on
are read one by one; the rest is the run's own: shim, init, and the program.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from statistics import median

from ..bench import PAUSE_S, Bench
from ..connection import Connection
from ..cpu_group import cpu_by_title
from ..daemon import FRESH, NO_POOL, WARM, Daemon
from ..rows import Measured, Row, goal_row
from ..sandboxes import BARE, BWRAP, Act, others

_BATCHES = 5
_STATES = (WARM, FRESH, NO_POOL)
_KEYS = {WARM: "cpu-warm", FRESH: "cpu-fresh", NO_POOL: "cpu-empty"}
_RUNS = "processes of the run"
_CYCLE, _JOBS = "create + delete", "jobs"


@dataclass(slots=True)
class Cost:
    """CPU milliseconds of a run in each batch, and by process over all batches."""

    batches: list[float]
    by_process: dict[str, float]
    runs: int = 0


def measure(bench: Bench) -> Measured:
    """The rows of each state, and of bubblewrap beside them."""
    runs = max(1, bench.amount.cpu_runs // _BATCHES)
    costs, cycle = {state: Cost([], {}) for state in _STATES}, Cost([], {})
    outside: dict[str, list[float]] = {name: [] for name in (BARE, BWRAP) if name in others()}
    sessions = {state: bench.daemon(state).connect() for state in _STATES}
    ids = {state: connection.create() for state, connection in sessions.items()}
    for state, connection in sessions.items():
        connection.run(ids[state])
    for number in range(_BATCHES):
        bench.progress.show(f"cpu: batch {number + 1} of {_BATCHES}")
        for name, values in outside.items():
            values.append(_outside(bench, others()[name], runs))
        for state, connection in sessions.items():
            act = partial(connection.run, ids[state])
            _add(costs[state], bench.daemon(state), act, runs)
        _add(cycle, bench.daemon(WARM), partial(_session, sessions[WARM]), runs, _JOBS)
    for state, connection in sessions.items():
        connection.delete(ids[state])
        connection.__exit__(None, None, None)
    rows = rows_of(costs, outside) + cycle_rows(cycle)
    return Measured(rows, sizing=_sizing(costs) | _sizing_of_cycle(cycle))


def _session(connection: Connection) -> None:
    connection.delete(connection.create())


def _outside(bench: Bench, act: Act, runs: int) -> float:
    """CPU milliseconds of one act, in a group: bubblewrap does not wait for all its children."""
    with bench.cpu_group() as group:
        if (pid := os.fork()) == 0:
            status = 1
            try:
                group.join()
                for _ in range(runs):
                    act()
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError("a sandbox beside sandboxd failed; its message is above")
        return group.cpu_ms() / runs


def _add(cost: Cost, daemon: Daemon, act: Act, runs: int, others: str = _RUNS) -> None:
    """Add a batch: `runs` acts, and their processes that end a moment later, which are `others` in
    the table."""
    by_title, before = cpu_by_title(daemon.group.pids()), daemon.group.cpu_ms()
    for _ in range(runs):
        act()
        time.sleep(PAUSE_S)
    total = daemon.group.cpu_ms() - before
    living = cpu_by_title(daemon.group.pids())
    cost.batches.append(total / runs)
    cost.runs += runs
    rest = total
    for title in living & by_title | living:
        if title in by_title and not title.startswith("job"):  # their number changes
            spent = living[title] - by_title[title]
            cost.by_process[title] = cost.by_process.get(title, 0.0) + spent
            rest -= spent
    cost.by_process[others] = cost.by_process.get(others, 0.0) + rest


def rows_of(costs: dict[str, Cost], outside: dict[str, list[float]]) -> list[Row]:
    """A row for each state, and below it one for each of its processes."""
    rows = [
        Row(f"cpu-{name}", f"CPU of {name}: sh -c true", value=median(values), unit="ms")
        for name, values in outside.items()
    ]
    for state, cost in costs.items():
        key, value = _KEYS[state], median(cost.batches)
        if state == NO_POOL:
            rows.append(Row(key, "CPU of a run, no pool", value=value, unit="ms"))
        else:
            rows.append(goal_row(key, value, note=_beside_bwrap(value, outside)))
        rows += _process_rows(key, cost)
    return rows


def _beside_bwrap(value: float, outside: dict[str, list[float]]) -> str:
    """The same as a ratio, which does not depend on the speed of the machine."""
    return f"{value / median(outside[BWRAP]):.2f} x bwrap" if BWRAP in outside else ""


def cycle_rows(cost: Cost) -> list[Row]:
    """The rows of a session that is created and deleted."""
    key, value = "cpu-cycle", median(cost.batches)
    first = Row(key, f"CPU of {_CYCLE}, no run", value=value, unit="ms")
    return [first, *_process_rows(key, cost)]


def _process_rows(key: str, cost: Cost) -> list[Row]:
    return [
        Row(f"{key}-{title}", f"  of it: {title}", value=spent / cost.runs, unit="ms")
        for title, spent in sorted(cost.by_process.items())
    ]


def _sizing_of_cycle(cost: Cost) -> dict[str, str]:
    return {f"CPU time of {_CYCLE}": f"{median(cost.batches):.1f} ms"}


def _sizing(costs: dict[str, Cost]) -> dict[str, str]:
    return {
        f"CPU time of a run, {state}": f"{median(cost.batches):.1f} ms"
        for state, cost in costs.items()
    }
