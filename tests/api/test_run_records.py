"""The rows of runs: which say that their run was begun, and which do not."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx

from sandboxd.api.admission.fair_queue import Amount, FairQueue
from sandboxd.api.sessions.run_records import RunRecords
from sandboxd.api.sessions.services import Services
from sandboxd.runs.plan import Plan
from sandboxd.runs.run import Run
from sandboxd.store import runs, sessions
from sandboxd.store.database import Database

from ..store.test_store import ROW
from .conftest import Server
from .fake_shim import KEEP


def begun(server: Server) -> dict[str, bool]:
    """The ids of all runs in the database, and whether the runs were begun."""
    connection = sqlite3.connect(server.base / "sandboxd.sqlite")
    try:
        return {id: bool(value) for id, value in connection.execute("SELECT id, begun FROM runs")}
    finally:
        connection.close()


def submit(http: httpx.Client, id: str, session: str = "here") -> None:
    call = {"mode": "batch", "code": "", "runId": id, "options": {"exec": "await go"}}
    assert http.post(f"/session/{session}", json=call).status_code == 200


def test_row_says_that_a_run_begins_which_need_not_wait(start: Callable[..., Server]) -> None:
    server = start(tables={"admission": {"runs": 1}})
    for name in ("here", "there"):
        server.client.post("/session", json={"image": "c", "name": name}).raise_for_status()
    submit(server.client, "first")
    submit(server.client, "behind it")
    submit(server.client, "of another session", "there")
    assert begun(server) == {"first": True, "behind it": False, "of another session": False}


async def record(database: Database) -> Run:
    services = cast(Services, SimpleNamespace(database=database, warden=None, deferred=None))
    records, run = RunRecords(ROW.id, services), Run("r", Plan(()), KEEP)
    run.begun = True
    await (await records.add([run], [], time.time()))
    records.note_waiting(run)
    assert not run.begun
    records.note_waiting(run)
    return run


def test_run_that_waits_after_all_was_not_begun_for_the_next_daemon(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "sandboxd.sqlite"))
    sessions.add(database, ROW)
    run = asyncio.run(record(database))
    database.close()
    again = Database(database.path)
    (row,) = runs.all_rows(again)[ROW.id]
    assert (row.id, row.begun) == (run.id, False)
    again.close()


def test_room_for_a_key_is_what_it_would_be_granted_at_once() -> None:
    queue = FairQueue(Amount(2, 10, 8), Amount(2, 6, 8))
    assert queue.has_room("ann", Amount(1, 6, 8))
    assert not queue.has_room("ann", Amount(1, 6, 9)), "more tasks than there are"
    queue.enqueue("a", "ann", Amount(1, 4))
    assert not queue.has_room("bob", Amount(1, 1)), "others wait"
    assert list(queue.grant_due()) == ["a"]
    assert not queue.has_room("ann", Amount(1, 3)) and queue.has_room("bob", Amount(1, 3))
    queue.paused = True
    assert not queue.has_room("bob", Amount(1, 3))
