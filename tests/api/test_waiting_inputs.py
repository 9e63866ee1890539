"""Standard inputs of runs that wait count in the memory for what clients send."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable

import httpx
import pytest

from sandboxd.api.http.body_budget import BodyBudget
from sandboxd.api.options.batch import BatchOptions, _comparable, compact
from sandboxd.api.sessions.waiting_inputs import WaitingInputs
from sandboxd.config.settings import ConsoleConfig
from sandboxd.errors import Unavailable
from sandboxd.model import MIB
from sandboxd.runs.plan import Plan
from sandboxd.runs.run import Run

from ..waiting import until
from .conftest import Server
from .test_admission import create

pytestmark = pytest.mark.slow  # queues that are full of inputs

KEEP = ConsoleConfig()


def waiting(name: str, size: int | None) -> Run:
    """A run with `size` bytes of input; None: without any."""
    stdin = None if size is None else bytes(size)
    return Run(name, Plan((), stdin=stdin), KEEP)


def test_inputs_of_one_owner_leave_half_of_the_memory_to_others() -> None:
    budget = BodyBudget(100)
    sessions = [WaitingInputs(budget, "attacker") for _ in range(3)]
    sessions[0].add([waiting("a", 30)])
    sessions[1].add([waiting("a", 20)])
    with pytest.raises(Unavailable, match="too much standard input waits"):
        sessions[2].add([waiting("a", 1)])
    WaitingInputs(budget, "victim").add([waiting("a", 50)])
    assert budget.used == 100


def test_input_is_forgotten_when_its_run_has_it_or_never_begins() -> None:
    budget = BodyBudget(100)
    inputs = WaitingInputs(budget, "owner")
    runs = [waiting("a", 10), waiting("b", 20), waiting("c", None), waiting("d", 5)]
    inputs.add(runs)
    assert budget.used == 35
    for _ in range(2):
        inputs.remove(runs[0])
        inputs.remove(runs[2])
    assert (budget.used, runs[0].plan.stdin, runs[2].plan.stdin) == (25, b"", None)
    inputs.clear()
    assert budget.used == 0 and runs[1].plan.stdin == b""


def test_inputs_that_an_earlier_daemon_has_accepted_count_above_the_bound() -> None:
    budget = BodyBudget(100)
    inputs = WaitingInputs(budget, "owner")
    inputs.take([waiting("a", 80)])
    assert budget.used == 80
    with pytest.raises(Unavailable):
        inputs.add([waiting("b", 1)])


def submit(http: httpx.Client, session: str, run: str, size: int) -> int:
    """Submit a run with `size` bytes of input, which waits; the status of the response."""
    body = {
        "mode": "batch", "runId": run,
        "options": {"exec": "cat", "stdin": "x" * size},
    }  # fmt: skip
    return http.post(f"/session/{session}", json=body).status_code


def test_queues_full_of_inputs_are_refused_before_they_take_the_memory_of_all(
    start: Callable[..., Server],
) -> None:
    http = start({"http": {"bodies": 16 * MIB}}).client
    statuses = []
    ids = [create(http) for _ in range(3)]
    for id in ids:
        body = {"mode": "batch", "runId": "first", "options": {"exec": "await go"}}
        assert http.post(f"/session/{id}", json=body).status_code == 200
        statuses += [submit(http, id, f"r{number}", MIB) for number in range(6)]
    assert 3 <= statuses.count(200) <= 8 and statuses[-1] == 503
    assert set(statuses) == {200, 503}
    for id in ids[:2]:  # their memory is free again
        assert http.delete(f"/session/{id}").status_code == 200
    assert submit(http, ids[2], "again", MIB) == 200


def test_repeated_call_with_input_means_the_same_run_and_another_input_another_one(
    http: httpx.Client, session: str
) -> None:
    body = {"mode": "batch", "runId": "first", "options": {"exec": "await go"}}
    assert http.post(f"/session/{session}", json=body).status_code == 200
    assert submit(http, session, "r", 10) == submit(http, session, "r", 10) == 200
    assert submit(http, session, "r", 11) == 400


def test_options_of_an_earlier_version_are_compared_by_the_digest_of_their_input() -> None:
    options = BatchOptions(exec="cat", stdin="in\udc80put")
    now = _comparable(options)
    earlier = json.dumps(json.loads(now) | {"stdin": "in\udc80put"}, sort_keys=True)
    assert compact(earlier) == now == compact(now)
    assert "put" not in now
    without = _comparable(BatchOptions(exec='"stdin": "x"'))
    assert compact(without) == without and compact("") == ""


def test_long_options_of_an_earlier_version_are_compared_by_their_digest() -> None:
    now = _comparable(BatchOptions(exec="x" * 1000))
    earlier = json.dumps(
        json.loads(_comparable(BatchOptions(exec=""))) | {"exec": "x" * 1000}, sort_keys=True
    )
    assert compact(earlier) == now == compact(now) and len(now) < 100


def test_runs_that_are_over_take_no_memory_and_no_disk_for_their_commands_and_inputs(
    own_server: Server,
) -> None:
    """Sixty-four that no client has asked for took 16 MiB of memory, in each session."""
    http = own_server.client
    session = create(http)
    long = {"exec": f"out done\n#{'x' * 100_000}", "stdin": "y" * 1_000_000, "wait": 60}
    call = {"mode": "batch", "code": "", "runId": "r", "options": long}
    assert http.post(f"/session/{session}", json=call).json()["result"]["status"] == "finished"

    def row() -> tuple[int, int]:
        path = own_server.base / "sandboxd.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            query = "SELECT length(plan), length(stdin) FROM runs WHERE ended_at IS NOT NULL"
            sizes: tuple[int, int] = connection.execute(query).fetchone() or (1 << 20, 0)
        return sizes

    until(lambda: row() < (5000, 1))
    again = http.post(f"/session/{session}", json={"mode": "continue", "code": "", "runId": "r"})
    assert again.json()["result"]["status"] == "finished"
