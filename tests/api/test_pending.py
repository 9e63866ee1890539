"""Pending sessions: they wait for their turn, as clients ask for it and understand it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server
from .test_admission import call, create, to_end
from .test_session_lifecycle import row_of

pytestmark = pytest.mark.slow  # a server for each wait

Start = Callable[..., Server]
TWO = {"slots": {"count": 2}, "admission": {"owner": {"waiting": 3}}}
ONE_EACH = {"admission": {"owner": {"sessions": 1}}}


def ask(http: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = http.post("/session", json={"image": "c"} | more)
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()
    return session


def test_pending_session_waits_for_its_turn_and_then_runs(start: Start) -> None:
    http = start(TWO).client
    first, _second = create(http), create(http)
    session = ask(http, enqueueOnly=True, name="waits", tag="x")
    assert (session["status"], session["created"]) == ("PENDING", True)
    assert session["queue"] == {
        "position": 1,
        "reason": "this host takes on at most 2 sessions at once",
    }
    assert ask(http, enqueueOnly=True)["queue"]["position"] == 2
    shown = http.get("/session/waits").json()
    assert shown["status"] == "PENDING" and shown["sandbox"]["queue"]["position"] == 1
    assert row_of(http, session["sessionId"])["status"] == "PENDING"
    http.delete(f"/session/{first}")
    until(lambda: http.get("/session/waits").json()["status"] == "RUNNING")
    call(http, "waits", "batch", "r", exec="out on")
    assert ["stdout", "on\n"] in to_end(http, "waits", "r")["console"]
    times = http.get("/session/waits/status-history").json()["result"]
    assert list(times)[:2] == ["pending", "running"]


def test_client_that_waits_in_vain_gets_the_status_timeout(start: Start) -> None:
    http = start(ONE_EACH).client
    id = create(http)
    began = time.monotonic()
    session = ask(http, maxWaitSeconds=1, name="waits")
    assert session["status"] == "TIMEOUT" and time.monotonic() - began >= 1
    http.delete(f"/session/{id}")
    until(lambda: http.get("/session/waits").json()["status"] == "RUNNING")
    again = http.post("/session", json={"image": "c", "name": "waits", "maxWaitSeconds": 1})
    assert again.status_code == 200 and again.json()["status"] == "RUNNING"


def test_session_that_may_not_wait_does_not_overtake_a_pending_one(start: Start) -> None:
    http = start(TWO).client
    create(http), create(http)
    ask(http, enqueueOnly=True)
    assert_problem(http.post("/session", json={"image": "c"}), 503, "/instance-not-available")


def test_pending_session_cannot_be_used_yet_and_says_so(start: Start) -> None:
    http = start(ONE_EACH).client
    create(http)
    id = ask(http, enqueueOnly=True)["sessionId"]
    for method, path, body in (
        ("POST", f"/session/{id}", {"mode": "batch", "options": {"exec": "out x"}}),
        ("GET", f"/session/{id}/files", None),
        ("GET", f"/session/{id}/download?files=x", None),
    ):
        refused = http.request(method, path, json=body)
        assert_problem(refused, 503, "/instance-not-available")
        assert "waits for its turn" in refused.json()["msg"] and refused.headers["retry-after"]
    assert http.post(f"/session/{id}/interrupt").status_code == 204
    assert http.get(f"/session/{id}/logs").json() == {"result": {"logs": ""}}
    assert http.post(f"/session/{id}/rename", params={"name": "other"}).status_code == 204
    assert http.get("/session/other").json()["sessionId"] == id


def test_deleted_pending_session_leaves_the_queue(start: Start) -> None:
    http = start(ONE_EACH).client
    first = create(http)
    second, third = (ask(http, enqueueOnly=True)["sessionId"] for _ in range(2))
    assert http.delete(f"/session/{second}").status_code == 200
    assert row_of(http, second)["status"] == "TERMINATED"
    assert http.get(f"/session/{third}").json()["sandbox"]["queue"]["position"] == 1
    http.delete(f"/session/{first}")
    until(lambda: http.get(f"/session/{third}").json()["status"] == "RUNNING")


def test_pending_session_waits_on_over_a_restart_with_its_startup_command(start: Start) -> None:
    first = start(ONE_EACH)
    holder = create(first.client)
    id = ask(first.client, enqueueOnly=True, type="batch", startupCommand="out done")["sessionId"]
    later = ask(first.client, enqueueOnly=True)["sessionId"]
    assert first.stop() == 0
    http = start(ONE_EACH).client
    assert http.get(f"/session/{id}").json()["sandbox"]["queue"]["position"] == 1
    assert http.get(f"/session/{later}").json()["sandbox"]["queue"]["position"] == 2
    http.delete(f"/session/{holder}")
    until(lambda: row_of(http, id)["result"] == "SUCCESS")


def test_pending_session_tries_again_when_no_slot_can_be_leased(start: Start) -> None:
    server = start(ONE_EACH)
    http = server.client
    holder = create(http)
    id = ask(http, enqueueOnly=True)["sessionId"]
    server.refuse(lease={"kind": "unavailable", "error": "another daemon has it"})
    http.delete(f"/session/{holder}")
    time.sleep(0.5)
    assert http.get(f"/session/{id}").json()["status"] == "PENDING"
    server.refuse()
    until(lambda: http.get(f"/session/{id}").json()["status"] == "RUNNING")


def test_pending_session_that_cannot_begin_ends_and_says_why(start: Start) -> None:
    server = start(ONE_EACH)
    http = server.client
    holder = create(http)
    id = ask(http, enqueueOnly=True)["sessionId"]
    server.refuse(lease={"kind": "stage", "stage": "scratch", "error": "no"})
    http.delete(f"/session/{holder}")
    until(lambda: row_of(http, id)["status"] == "TERMINATED")
    assert "stage scratch: failed" in row_of(http, id)["status_info"]
    server.refuse()
    create(http)


def test_pending_sessions_of_an_owner_are_bounded(start: Start) -> None:
    http = start(TWO).client
    create(http), create(http)
    for _ in range(3):
        ask(http, enqueueOnly=True)
    refused = http.post("/session", json={"image": "c", "enqueueOnly": True})
    assert_problem(refused, 429, "/rate-limit-exceeded")


def test_session_that_may_wait_runs_at_once_where_there_is_room(http: httpx.Client) -> None:
    session = ask(http, enqueueOnly=True, maxWaitSeconds=5)
    assert session["status"] == "RUNNING" and "queue" not in session
    http.delete(f"/session/{session['sessionId']}")


@pytest.mark.parametrize("more", [{"enqueueOnly": True}, {"maxWaitSeconds": 1}])
def test_session_that_may_wait_is_refused_while_the_server_is_drained(
    start: Start, more: dict[str, Any]
) -> None:
    http = start().client
    http.post("/admin/drain", json={})
    answer = http.post("/session", json={"image": "c"} | more)
    assert_problem(answer, 503, "/server-frozen")
