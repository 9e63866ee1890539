"""The rate of runs of 1, 2, 8 and 32 clients, beside as many callers of bubblewrap.

Each client is a process with a connection and a session of its own. The loads follow one another
within a round, and each rate is compared with that of bubblewrap in the same round.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

from ..bench import Bench
from ..callers import Caller, Load, load
from ..daemon import FRESH, WARM, Daemon
from ..rows import Curve, Measured, Row, goal_row
from ..sandboxes import BWRAP, Act, others
from ..summary import middle, ratio
from .latency import session_of_one_run

CLIENTS = (1, 2, 8, 32)
_AT, _MANY = 8, 32
_UNIX, _TCP, _REST, _WHOLE = (
    "warm, Unix socket", "warm, TCP", "fresh, Unix socket", "a session each run",
)  # fmt: skip
RATES, LATENCIES = "Runs a second", "Median milliseconds of a run"
"""The names of the two charts."""


@dataclass(frozen=True, slots=True)
class Loads:
    """The loads of one kind by one number of clients, round by round."""

    kind: str
    clients: int
    loads: tuple[Load, ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """Acts a second in each round."""
        return tuple(one.rate for one in self.loads)

    @property
    def times(self) -> tuple[float, ...]:
        """The milliseconds of all acts."""
        return tuple(t for one in self.loads for t in one.times)


def measure(bench: Bench) -> Measured:
    """The rates of all kinds of clients."""
    kinds = _kinds(bench)
    loads: dict[tuple[str, int], list[Load]] = {}
    rounds = bench.amount.load_rounds
    for number in range(rounds):
        for clients in CLIENTS:
            for kind, caller in kinds.items():
                bench.progress.show(
                    f"throughput: round {number + 1} of {rounds}, {clients} clients, {kind}"
                )
                one = load(caller, clients, bench.amount.load_s)
                loads.setdefault((kind, clients), []).append(one)
    return measured([Loads(kind, n, tuple(values)) for (kind, n), values in loads.items()])


def _kinds(bench: Bench) -> dict[str, Caller]:
    warm, fresh = bench.daemon(WARM), bench.daemon(FRESH)
    kinds: dict[str, Caller] = {
        _UNIX: partial(_runs, warm, False),
        _TCP: partial(_runs, warm, True),
        _WHOLE: partial(_sessions, warm),
    }
    if fresh is not warm:
        kinds[_REST] = partial(_runs, fresh, False)
    if act := others().get(BWRAP):
        kinds = {BWRAP: partial(_constant, act), **kinds}
    return kinds


@contextlib.contextmanager
def _constant(act: Act) -> Iterator[Act]:
    yield act


@contextlib.contextmanager
def _runs(daemon: Daemon, tcp: bool) -> Iterator[Act]:
    """Runs in one session."""
    with daemon.connect(tcp) as connection:
        session = connection.create()
        connection.run(session)
        yield partial(connection.run, session)
        connection.delete(session)


@contextlib.contextmanager
def _sessions(daemon: Daemon) -> Iterator[Act]:
    with daemon.connect() as connection:
        yield partial(session_of_one_run, connection)


def measured(results: list[Loads]) -> Measured:
    """Rows, curves and sizes of these loads."""
    by = {(one.kind, one.clients): one for one in results}
    at_eight = by.get((BWRAP, _AT))
    reference = at_eight.rates if at_eight else ()
    note = "" if reference else "bubblewrap is not installed"
    rows = [
        Row(f"rate-{one.kind}-{one.clients}", f"{one.clients:2} clients, {one.kind}", one.times,
            median(one.rates), "a second")
        for one in sorted(results, key=lambda one: (one.kind, one.clients))
    ]  # fmt: skip
    warm, whole, many = by[_UNIX, _AT], by[_WHOLE, _AT], by[_UNIX, _MANY]
    rows += [
        goal_row("rate-warm", ratio(warm.rates, reference), note=note),
        goal_row("rate-whole", ratio(whole.rates, reference), note=note),
        goal_row("rate-many", ratio(many.rates, warm.rates)),
    ]
    return Measured(rows, _curves(results), _sizing(by))


def _curves(results: list[Loads]) -> list[Curve]:
    curves = []
    for kind in dict.fromkeys(one.kind for one in results):
        ordered = sorted((one for one in results if one.kind == kind), key=lambda one: one.clients)
        curves.append(Curve(RATES, kind, tuple((o.clients, median(o.rates)) for o in ordered)))
        points = tuple((o.clients, middle(o.times) or 0.0) for o in ordered)
        curves.append(Curve(LATENCIES, kind, points))
    return curves


def _sizing(by: dict[tuple[str, int], Loads]) -> dict[str, str]:
    names = {
        _UNIX: "runs a second, warm",
        _REST: "runs a second, fresh",
        _WHOLE: "sessions of one run, a second",
    }
    return {
        f"{text}, {_AT} clients": f"{median(by[kind, _AT].rates):.0f}"
        for kind, text in names.items()
        if (kind, _AT) in by
    }
