"""Creations and ends of sessions whose slot or row does not follow: nothing of it is half done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import Server

pytestmark = pytest.mark.slow  # a server for each failure

ONE_SESSION = {"admission": {"owner": {"sessions": 1}}}


def make(http: httpx.Client) -> str:
    """The UUID of a new session `ending`."""
    response = http.post("/session", json={"image": "c", "name": "ending"})
    assert response.status_code == 201, response.text
    id: str = response.json()["sessionId"]
    return id


def status_of(server: Server, id: str) -> str:
    """The status of a session in the database."""
    database = sqlite3.connect(server.base / "sandboxd.sqlite")
    try:
        (row,) = database.execute("SELECT status FROM sessions WHERE id = ?", (id,)).fetchall()
        return str(row[0])
    finally:
        database.close()


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ({"kind": "stage", "stage": "release", "error": "slot 0 cannot be emptied"}, 503),
        ({"kind": "stage", "stage": "warden", "errno": 28, "error": "no space"}, 507),
        ({"kind": "unavailable", "error": "too many descriptors are open"}, 503),
        ({"kind": "invalid", "error": "slot 0 is not leased to this session"}, 503),
        ({"kind": "?", "error": "no kind that the api knows"}, 503),
    ],
)
def test_session_whose_slot_is_not_freed_is_over_and_takes_no_place(
    start: Callable[..., Server], refusal: dict[str, Any], status: int
) -> None:
    server = start(ONE_SESSION)
    http = server.client
    id = make(http)
    server.refuse(release=refusal)
    assert http.delete(f"/session/{id}").status_code == status
    server.refuse()
    assert status_of(server, id) == "TERMINATED"
    assert http.delete(f"/session/{id}").status_code == 404
    assert make(http) != id  # within the bound of one session


def test_session_whose_warden_ends_meanwhile_is_ended_by_the_next_daemon(
    start: Callable[..., Server],
) -> None:
    server = start()
    id = make(server.client)
    server.refuse(release={"dies": True})
    response = server.client.delete(f"/session/{id}")
    assert response.status_code == 503
    assert status_of(server, id) in ("TERMINATING", "TERMINATED")
    server.stop()
    server.refuse()
    server = start()
    assert status_of(server, id) == "TERMINATED"
    assert make(server.client) != id


def test_session_whose_row_cannot_say_that_it_ends_is_over_nevertheless(
    start: Callable[..., Server],
) -> None:
    server = start(ONE_SESSION)
    http = server.client
    id = make(http)
    database = sqlite3.connect(server.base / "sandboxd.sqlite")
    with database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON sessions WHEN NEW.status = 'TERMINATING' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    database.close()
    assert http.delete(f"/session/{id}").status_code == 200
    assert status_of(server, id) == "TERMINATED"
    assert make(http) != id


def test_session_whose_lease_does_not_reach_the_disk_leaves_neither_row_nor_slot(
    start: Callable[..., Server],
) -> None:
    server = start(ONE_SESSION)
    name = server.base / "name"
    name.symlink_to("/proc/version")  # fdatasync(2) refuses it
    slots = set(server.base.glob("[0-9]*"))
    answer = server.client.post("/session", json={"image": "c", "name": "ending"})
    assert answer.status_code == 503 and "stage lease" in answer.text
    assert set(server.base.glob("[0-9]*")) == slots
    database = sqlite3.connect(server.base / "sandboxd.sqlite")
    assert database.execute("SELECT count(*) FROM sessions").fetchall() == [(0,)]
    database.close()
    name.unlink()
    make(server.client)
