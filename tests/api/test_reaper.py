"""The end of sessions and tokens by the clock, which the tests move."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.sessions import lifecycle
from sandboxd.config.settings import SessionsConfig
from sandboxd.store.sessions import SessionRow

from ..each_case import each_case
from ..waiting import until
from .conftest import Server
from .moved_clock import let_pass, set_time
from .test_admission import BUSY, call, create
from .test_session_lifecycle import row_of

Start = Callable[..., Server]
HOUR, DAY = 3600.0, 86400.0


def row(**more: Any) -> SessionRow:
    return SessionRow("id", "name", "owner", "c", "c", created_at=1000.0, **more)


def reason(now: float, busy: bool = False, used_at: float = 1000.0, **settings: Any) -> str:
    """Why a session of second 1000 ends at `now`; "": it goes on."""
    end = lifecycle.end(row(), used_at, busy, SessionsConfig(**settings))
    return end.reason if end and end.at <= now else ""


@each_case(
    ("now", "more", "expected"),
    [
        (1e12, {}, ""),
        (1009, {"idle_s": 10}, ""),
        (1010, {"idle_s": 10}, "idle-timeout"),
        (1010, {"idle_s": 10, "busy": True}, ""),
        (1010, {"idle_s": 10, "used_at": 1001}, ""),
        (1010, {"max_age_s": 10}, "max-age"),
        (1010, {"max_age_s": 10, "busy": True}, "max-age"),
        (1010, {"max_age_s": 10, "used_at": 1009}, "max-age"),
        (1010, {"max_age_s": 5, "idle_s": 7}, "max-age"),
        (1010, {"max_age_s": 7, "idle_s": 5}, "idle-timeout"),
        (900, {"max_age_s": 10, "idle_s": 10}, ""),
    ],
)
def test_session_ends_at_its_time_for_its_reason(
    now: float, more: dict[str, Any], expected: str
) -> None:
    assert reason(now, **more) == expected


def test_done_batch_session_ends_after_its_time_unless_something_runs() -> None:
    settings = SessionsConfig(batch_keep_s=20)
    for busy, expected in ((False, lifecycle.End(1025, lifecycle.DONE)), (True, None)):
        assert lifecycle.end(row(done_at=1005.0), 1000, busy, settings) == expected


@pytest.mark.parametrize(("own", "configured", "expected"), [(5, 10, 5), (10, 5, 5), (5, 0, 5)])
def test_idle_time_of_a_session_ends_it_unless_the_configured_one_comes_first(
    own: float, configured: float, expected: float
) -> None:
    settings = SessionsConfig(idle_s=configured)
    for busy, end in ((False, lifecycle.End(1000 + expected, lifecycle.IDLE)), (True, None)):
        assert lifecycle.end(row(idle_s=own), 1000, busy, settings) == end


def test_age_of_a_session_counts_from_the_status_running() -> None:
    begun = row(history={"PREPARING": 1000.0, "RUNNING": 1500.0})
    assert lifecycle.end(begun, 1500, False, SessionsConfig(max_age_s=10)) == lifecycle.End(
        1510, lifecycle.OLD
    )


@hypothesis.given(st.floats(0, 1e6), st.floats(0, 1e6), st.booleans(), st.floats(0, 1e6))
def test_use_of_a_session_never_brings_its_end_nearer(
    idle_s: float, age_s: float, busy: bool, later: float
) -> None:
    settings = SessionsConfig(idle_s=idle_s, max_age_s=age_s)
    first, then = (lifecycle.end(row(), at, busy, settings) for at in (1000, 1000 + later))
    assert (first is None) == (then is None)
    assert first is None or then is None or first.at <= then.at


# -- with a moved clock


def status(http: httpx.Client, id: str) -> str:
    return str(row_of(http, id)["status"])


def test_busy_session_at_its_maximum_age_is_warned_and_then_ended(start: Start) -> None:
    server = start(max_age_s=HOUR, warn_s=300)
    http, id = server.client, create(server.client)
    call(http, id, "batch", "r", exec=BUSY)
    call(http, id, "continue", "r")
    end = http.get(f"/session/{id}").json()["sandbox"]["ends"]
    assert end["reason"] == "max-age"
    let_pass(server.base, HOUR - 200)
    until(lambda: "session.ends-soon" in server.log())
    logs = [data for kind, data in call(http, id, "continue", "r")["console"] if kind == "log"]
    assert logs and "whatever goes on in it" in logs[0][3]
    assert status(http, id) == "RUNNING"
    let_pass(server.base, HOUR + 1)
    until(lambda: status(http, id) == "TERMINATED")
    assert row_of(http, id)["status_info"] == "max-age"
    assert server.log().count("session.ends-soon") == 1


def test_age_and_idle_time_of_a_session_go_on_over_a_restart(start: Start) -> None:
    first = start(max_age_s=HOUR)
    old = create(first.client)
    assert first.stop() == 0
    let_pass(first.base, HOUR + 1)
    second = start(max_age_s=HOUR)
    until(lambda: status(second.client, old) == "TERMINATED")
    idle = create(second.client)
    assert second.stop() == 0
    let_pass(second.base, 2 * HOUR + 2)
    third = start(idle_s=HOUR)
    until(lambda: status(third.client, idle) == "TERMINATED")
    assert row_of(third.client, idle)["status_info"] == "idle-timeout"


def test_session_ends_after_the_idle_time_of_its_request_also_after_a_restart(start: Start) -> None:
    first = start()
    body = {"image": "c", "idleSeconds": HOUR}
    id = first.client.post("/session", json=body).json()["sessionId"]
    assert first.client.get(f"/session/{id}").json()["sandbox"]["ends"]["reason"] == "idle-timeout"
    other = create(first.client)
    assert first.stop() == 0
    let_pass(first.base, HOUR + 1)
    second = start()
    until(lambda: status(second.client, id) == "TERMINATED")
    assert status(second.client, other) == "RUNNING"


@pytest.mark.parametrize("seconds", [-1, "soon"])
def test_idle_time_that_is_no_time_is_refused_by_name(start: Start, seconds: object) -> None:
    answer = start().client.post("/session", json={"image": "c", "idleSeconds": seconds})
    assert answer.status_code == 400 and "idle" in answer.text


@pytest.mark.parametrize("by", [-56 * 365 * DAY, -DAY, DAY, 10 * 365 * DAY])
def test_clock_that_is_set_neither_ends_a_session_nor_prolongs_it(start: Start, by: float) -> None:
    server = start(idle_s=HOUR, max_age_s=DAY)
    http, id = server.client, create(server.client)
    call(http, id, "batch", "r", exec="out done")
    set_time(server.base, by)
    until(lambda: "clock.set" in server.log())
    server.sweep()
    assert status(http, id) == "RUNNING"
    assert abs(http.get(f"/session/{id}").json()["age"]) < 60_000
    assert call(http, id, "continue", "r")["runId"] == "r", "its output is kept"
    let_pass(server.base, HOUR - 60)
    server.sweep()
    let_pass(server.base, 2 * HOUR)  # by a clock that nobody sets
    until(lambda: status(http, id) == "TERMINATED")
    assert row_of(http, id)["status_info"] == "idle-timeout"


def test_clock_that_is_set_and_set_back_over_restarts_ends_no_session(start: Start) -> None:
    """A machine without a clock of its own: some year long past, until the network tells."""
    first = start(idle_s=HOUR, max_age_s=DAY)
    id = create(first.client)
    until(lambda: noted(first) > 0)
    assert first.stop() == 0
    set_time(first.base, -50 * 365 * DAY)
    second = start(idle_s=HOUR, max_age_s=DAY)
    assert "clock.set" in second.log()
    second.sweep()
    assert status(second.client, id) == "RUNNING"
    set_time(second.base, 0)
    until(lambda: second.log().count("clock.set") == 2)
    second.sweep()
    assert status(second.client, id) == "RUNNING"
    assert 0 <= second.client.get(f"/session/{id}").json()["age"] < 60_000
    assert second.stop() == 0
    third = start(idle_s=HOUR, max_age_s=DAY)
    third.sweep()
    assert status(third.client, id) == "RUNNING"


def noted(server: Server) -> float:
    """The time of its clock that the server has stored last."""
    with contextlib.closing(sqlite3.connect(server.base / "sandboxd.sqlite")) as connection:
        return float(connection.execute("SELECT seen FROM clock").fetchone()[0])


def test_used_session_stays_without_a_warning(start: Start) -> None:
    server = start(idle_s=HOUR, warn_s=60)
    id = create(server.client)
    for hours in (0.9, 1.8, 2.7):
        let_pass(server.base, hours * HOUR)
        assert server.client.get(f"/session/{id}").status_code == 200
        server.sweep()
    assert status(server.client, id) == "RUNNING" and "ends-soon" not in server.log()


def test_upload_token_is_unknown_after_its_time(start: Start) -> None:
    server = start({"folders": {"token_s": 3600}})
    http = server.client
    http.post("/folders", json={"name": "data"})
    token = http.post("/folders/data/request-upload", json={"path": "x", "size": 5}).json()
    url = f"/folders/_/tus/upload?token={token['token']}"
    headers = {"tus-resumable": "1.0.0"}
    assert http.head(url, headers=headers).status_code == 200
    let_pass(server.base, HOUR + 1)
    assert http.head(url, headers=headers).status_code == 404
