"""The daemon at rest: its processes for idle sessions, and how often it wakes up.

A context switch to a process of the daemon is a wake-up. The daemon is one of its own, so that no
work of other groups is still going on.
"""

from __future__ import annotations

import time
from contextlib import suppress

from sandboxd.warden.job_process import IDLE_S

from ..bench import SLOTS, Bench
from ..cpu_group import switches, title
from ..daemon import WARM, Daemon, default
from ..rows import Measured, Row, goal_row

_SESSIONS = 10
_POOL = ("prepared", "spawner")
"""Titles of processes that wait for any session. Their number changes by itself."""

_SETTLE_S = 1.5
"""Seconds after which the work behind an answer, such as the end of a shim, is over."""


def measure(bench: Bench) -> Measured:
    """The rows of a daemon with idle sessions."""
    with bench.new_daemon(WARM, SLOTS) as daemon:
        with daemon.connect() as connection:
            connection.run(first := connection.create())
            connection.delete(first)
            bench.progress.show("rest: waiting for a daemon without sessions")
            empty = _after_rest(daemon)
            of_daemon = _others(empty)
            for _ in range(_SESSIONS):
                connection.run(connection.create())
        bench.progress.show("rest: waiting until the sessions are at rest")
        full = _after_rest(daemon)
        of_sessions = _others(full)
        before, began = switches(full), time.monotonic()
        bench.progress.show(f"rest: {bench.amount.rest_s:.0f} s of rest")
        time.sleep(bench.amount.rest_s)
        rate = (switches(full) - before) / (time.monotonic() - began)
    return Measured(
        [
            Row("processes", "processes of an empty daemon", value=len(empty), unit="processes"),
            goal_row(
                "idle",
                len(of_sessions) - len(of_daemon),
                text=f"processes for {_SESSIONS} idle sessions",
            ),
            goal_row("wakeups", rate),
        ]
    )


def _after_rest(daemon: Daemon) -> list[int]:
    """The processes after the time for which sessions stay warm, and job processes wait."""
    time.sleep(max(default("runs", "warm_s"), IDLE_S) + _SETTLE_S)
    return daemon.group.pids()


def _others(pids: list[int]) -> list[int]:
    """The processes that do not wait for any session."""
    others = []
    for pid in pids:
        with suppress(OSError):  # it has ended
            if title(pid) not in _POOL:
                others.append(pid)
    return others
