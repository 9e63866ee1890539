"""The daemon at rest: its processes for idle sessions, and how often it wakes up.

A context switch to a process of the daemon is a wake-up. The daemon is one of its own, so that no
work of other groups is still going on.
"""

from __future__ import annotations

import time

from ..bench import SLOTS, Bench
from ..cpu_group import switches
from ..daemon import WARM, Daemon, default
from ..rows import Measured, Row, goal_row

_SESSIONS = 10
_SETTLE_S = 1.5
"""Seconds after which the work behind an answer, such as the end of a shim, is over."""


def measure(bench: Bench) -> Measured:
    """The rows of a daemon with idle sessions."""
    with bench.new_daemon(WARM, SLOTS) as daemon:
        empty = _after_rest(daemon)
        with daemon.connect() as connection:
            sessions = [connection.create() for _ in range(_SESSIONS)]
            for session in sessions:
                connection.run(session)
        bench.progress.show("rest: waiting until the sessions are at rest")
        full = _after_rest(daemon)
        before, began = switches(full), time.monotonic()
        bench.progress.show(f"rest: {bench.amount.rest_s:.0f} s of rest")
        time.sleep(bench.amount.rest_s)
        rate = (switches(full) - before) / (time.monotonic() - began)
    more = len(full) - len(empty)
    return Measured(
        [
            Row("processes", "processes of an empty daemon", value=len(empty), unit="processes"),
            goal_row("idle", more, text=f"processes for {_SESSIONS} idle sessions"),
            goal_row("wakeups", rate),
        ]
    )


def _after_rest(daemon: Daemon) -> list[int]:
    """The processes after the time for which sessions stay warm."""
    time.sleep(default("runs", "warm_s") + _SETTLE_S)
    return daemon.group.pids()
