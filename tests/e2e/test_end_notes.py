"""The note of a run's end in the database, and the row of a new session: a kill before either is
written loses nothing that a client knows, and counts nothing twice.

A transaction of the test keeps the daemon from writing, so the kill hits the moment for certain.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..waiting import until
from .daemon import Daemon, run, running, sessions_of, slots_in_use
from .test_crash import begin, follow, go_on

WAITS = "while [ ! -e go ]; do sleep 0.02; done; echo done; exit 3"


def database(daemon: Daemon) -> contextlib.closing[sqlite3.Connection]:
    path = daemon.state / "api/sandboxd.sqlite"
    return contextlib.closing(sqlite3.connect(path, isolation_level=None))


@contextlib.contextmanager
def unwritable(daemon: Daemon) -> Iterator[None]:
    """Nobody else writes to the database during the block."""
    with database(daemon) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def noted(daemon: Daemon) -> dict[str, bool]:
    """Run -> its end is noted."""
    with database(daemon) as connection:
        return {id: ended is not None for id, ended in
                connection.execute("SELECT id, ended_at FROM runs")}  # fmt: skip


def usage(daemon: Daemon) -> int:
    """The runs that the session of the row has been charged with."""
    with database(daemon) as connection:
        ((text,),) = connection.execute("SELECT usage FROM sessions WHERE name = 'kept'")
    return int(json.loads(text).get("runs", 0))


@pytest.mark.parametrize("victim", ["api", "warden", "both"])
def test_run_whose_end_was_served_and_not_noted_is_accounted_for_once(
    folder: Path, victim: str
) -> None:
    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "c", "name": "kept"})
            run(http, "kept", {"exec": "true"}, run_id="before")
            until(lambda: noted(daemon).get("before"))
            outcome = begin(http, "kept", "cut", {"exec": WAITS, "live": True})
            with unwritable(daemon):
                files = {"src": ("go", b"")}
                assert http.post("/session/kept/upload", files=files).status_code == 204
                follow(http, "kept", outcome)
                daemon.end(victim)
        assert outcome.results[-1]["exitCode"] == 3
        assert noted(daemon) == {"before": True, "cut": False} and usage(daemon) == 1
        for _ in range(2):
            daemon.start()
            with daemon.client() as http:
                again = go_on(http, "kept", outcome)
                assert (again["status"], again["exitCode"]) == ("finished", 3)
            until(lambda: noted(daemon).get("cut"))
            assert usage(daemon) == 2
            daemon.end("both")
        daemon.start()
        with daemon.client() as http:
            assert http.delete("/session/kept").status_code == 200


def test_session_whose_row_was_not_written_leaves_no_slot(folder: Path) -> None:
    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "c", "name": "kept"})
            run(http, "kept", {"exec": "echo here > file"}, run_id="before")
            until(lambda: noted(daemon).get("before"))

        def create() -> None:
            with contextlib.suppress(httpx.TransportError), daemon.client() as other:
                other.post("/session", json={"image": "c", "name": "half"})

        with unwritable(daemon):
            client = threading.Thread(target=create)
            client.start()
            until(lambda: len(sessions_of(daemon.state)) == 2)
            daemon.end("both")
        client.join()
        daemon.start()
        with daemon.client() as http:
            until(lambda: len(slots_in_use(daemon.state)) == 1)
            assert http.get("/session/half").status_code == 404
            assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "here\n"
            assert http.post("/session", json={"image": "c", "name": "half"}).status_code == 201
            for name in ("kept", "half"):
                assert http.delete(f"/session/{name}").status_code == 200
