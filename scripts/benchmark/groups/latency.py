"""The time of one run, and of one session with one run, beside other sandboxes.

A warm run follows another run of its session. A fresh run is in a session at rest. One that finds
no prepared shim begins while a run of another session has just taken the only one. All are beside a
call of bubblewrap in the same round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ..bench import Bench, interleaved
from ..connection import Connection
from ..daemon import EMPTY, FRESH, STATES, WARM
from ..rows import Measured, Row, goal_row
from ..sandboxes import BARE, BWRAP, Act, others
from ..summary import ratio

_KEYS = {WARM: "warm", FRESH: "fresh", EMPTY: "empty"}
_WHOLE = "create + run + delete"
_TAKE_S = 0.2
"""How long the run goes on that has taken the only prepared shim."""


def measure(bench: Bench) -> Measured:
    """The latencies."""
    with contextlib.ExitStack() as stack:
        acts, before = dict(others()), dict[str, Act]()
        for state in STATES:
            connection = stack.enter_context(bench.daemon(state).connect())
            session = connection.create()
            stack.callback(connection.delete, session)
            acts[state] = partial(connection.run, session)
        before[WARM] = acts[WARM]
        before[EMPTY] = stack.enter_context(_taker(bench))
        connection = stack.enter_context(bench.daemon(WARM).connect())
        acts[_WHOLE] = partial(session_of_one_run, connection)
        times = interleaved(
            acts, bench.amount.rounds, lambda text: bench.progress.show(f"latency: {text}"), before
        )
    return Measured(rows_of(times))


@contextlib.contextmanager
def _taker(bench: Bench) -> Iterator[Act]:
    """An act that takes the prepared shim, which is replaced when this run or the next one ends."""
    with bench.daemon(EMPTY).connect() as connection:
        session = connection.create()
        runs: list[Any] = []

        def take() -> None:
            while runs:
                connection.finish(session, runs.pop())
            runs.append(connection.begin(session, f"sleep {_TAKE_S}", {"wait": _TAKE_S / 4}))

        yield take
        connection.delete(session)


def session_of_one_run(connection: Connection) -> None:
    """Create a session, run one command in it, delete it."""
    session = connection.create()
    connection.run(session)
    connection.delete(session)


def rows_of(times: Mapping[str, tuple[float, ...]]) -> list[Row]:
    """The rows of these times: first the other sandboxes with their ratio to the bare process,
    then the goals with their ratio to bubblewrap."""
    rows = []
    keys = {**_KEYS, _WHOLE: "whole"}
    for name, values in times.items():
        if name not in keys:
            text = f"{name}: sh -c true"
            rows.append(Row(name, text, values, ratio(values, times[BARE]), "x bare"))
    bubblewrap = times.get(BWRAP, ())
    note = "" if bubblewrap else "bubblewrap is not installed"
    for name, key in keys.items():
        rows.append(goal_row(key, ratio(times[name], bubblewrap), times[name], note))
    return rows
