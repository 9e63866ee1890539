"""The time to live of sessions, with clocks that the tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server
from .moved_clock import let_pass, set_time
from .test_admission import BUSY, call
from .test_reaper import status
from .test_session_lifecycle import row_of

pytestmark = pytest.mark.slow  # a server for each clock

Start = Callable[..., Server]
TTL, DAY = 100.0, 86400.0


def create(http: httpx.Client, **more: Any) -> str:
    answer = http.post("/session", json={"image": "c", "ttlSeconds": TTL} | more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


@contextmanager
def held(server: Server, id: str) -> Iterator[Iterator[str]]:
    """The lines of a connection that holds the session."""
    with server.new_client() as http, http.stream("GET", f"/session/{id}/hold") as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        assert next(lines) == "event: session_held"
        yield lines


def ends(http: httpx.Client, id: str) -> Any:
    return http.get(f"/session/{id}").json()["sandbox"]["ends"]


def test_session_ends_after_its_time_to_live_with_the_run_that_goes_on(start: Start) -> None:
    server = start()
    http, id, other = server.client, create(server.client), create(server.client, ttlSeconds=0)
    call(http, id, "batch", "r", exec=BUSY)
    assert ends(http, id)["reason"] == "time-to-live"
    assert ends(http, other) is None
    let_pass(server.base, TTL - 50)
    server.sweep()
    assert status(http, id) == "RUNNING"
    let_pass(server.base, TTL + 1)
    until(lambda: status(http, id) == "TERMINATED")
    assert row_of(http, id)["status_info"] == "time-to-live"
    assert status(http, other) == "RUNNING"


def test_renewed_session_lives_on_and_may_get_another_time_to_live(start: Start) -> None:
    server = start()
    http, id = server.client, create(server.client)
    let_pass(server.base, TTL - 50)
    assert http.post(f"/session/{id}/renew").status_code == 204
    let_pass(server.base, TTL + 1)
    server.sweep()
    assert status(http, id) == "RUNNING"
    assert http.post(f"/session/{id}/renew", json={"ttlSeconds": DAY}).status_code == 204
    let_pass(server.base, 10 * TTL)
    server.sweep()
    assert status(http, id) == "RUNNING"
    let_pass(server.base, 2 * DAY)
    until(lambda: status(http, id) == "TERMINATED")


@pytest.mark.parametrize("seconds", [1e9, 1e300, -1])
def test_time_without_a_sensible_end_is_refused(start: Start, seconds: float) -> None:
    http = start().client
    for name in ("ttlSeconds", "idleSeconds"):
        assert_problem(http.post("/session", json={"image": "c", name: seconds}), 400)
    id = create(http)
    assert_problem(http.post(f"/session/{id}/renew", json={"ttlSeconds": seconds}), 400)
    assert ends(http, id)["reason"] == "time-to-live"


def test_end_that_a_configuration_puts_off_for_ever_has_a_date(start: Start) -> None:
    http = start({"sessions": {"max_age_s": 1e300}}).client
    assert ends(http, create(http, ttlSeconds=0))["at"].startswith("9999-")


def test_use_of_a_session_is_no_renewal(start: Start) -> None:
    server = start()
    http, id = server.client, create(server.client)
    let_pass(server.base, TTL - 50)
    call(http, id, "batch", "r", exec="out x")
    assert http.get(f"/session/{id}").status_code == 200
    let_pass(server.base, TTL + 1)
    until(lambda: status(http, id) == "TERMINATED")


def test_held_session_lives_until_its_time_to_live_after_the_connection(start: Start) -> None:
    server = start(idle_s=TTL)
    http, id = server.client, create(server.client)
    with held(server, id):
        assert ends(http, id) is None
        let_pass(server.base, 10 * TTL)
        server.sweep()
        assert status(http, id) == "RUNNING"
    until(lambda: ends(http, id) is not None)
    let_pass(server.base, 11 * TTL + 50)
    until(lambda: status(http, id) == "TERMINATED")


def test_connection_that_holds_a_session_sees_its_end(start: Start) -> None:
    server = start()
    id = create(server.client)
    with held(server, id) as lines:
        assert server.client.delete(f"/session/{id}").status_code == 200
        assert [line for line in lines if line.startswith("event:")] == ["event: server_close"]
    assert_problem(server.client.get(f"/session/{id}/hold"), 404, "/object-not-found")


def test_session_that_waits_for_its_turn_ends_with_its_holder(start: Start) -> None:
    server = start({"admission": {"owner": {"sessions": 1}}})
    first = create(server.client, ttlSeconds=0)
    waits = create(server.client, enqueueOnly=True)
    assert status(server.client, waits) == "PENDING"
    with held(server, waits):
        let_pass(server.base, TTL + 1)
        server.sweep()
        assert status(server.client, waits) == "PENDING"
    until(lambda: ends(server.client, waits) is not None)
    let_pass(server.base, 3 * TTL)
    until(lambda: status(server.client, waits) != "PENDING")
    assert status(server.client, first) == "RUNNING"


def test_holder_has_a_minute_to_come_back_after_a_start(start: Start) -> None:
    first = start()
    ids = [create(first.client, ttlSeconds=1) for _ in range(2)]
    with held(first, ids[0]), held(first, ids[1]):
        assert first.stop() == 0
    let_pass(first.base, DAY)
    second = start()
    second.sweep()
    assert {status(second.client, id) for id in ids} == {"RUNNING"}
    with held(second, ids[0]):
        let_pass(second.base, DAY + 61)
        until(lambda: status(second.client, ids[1]) == "TERMINATED")
        assert status(second.client, ids[0]) == "RUNNING"


def test_time_to_live_goes_on_over_a_restart(start: Start) -> None:
    first = start()
    id = create(first.client, ttlSeconds=DAY)
    assert first.stop() == 0
    let_pass(first.base, DAY / 2)
    second = start()
    second.sweep()
    assert status(second.client, id) == "RUNNING"
    let_pass(second.base, DAY + 1)
    until(lambda: status(second.client, id) == "TERMINATED")


@pytest.mark.parametrize("by", [-365 * DAY, -DAY, DAY, 365 * DAY])
def test_clock_that_is_set_changes_no_time_to_live(start: Start, by: float) -> None:
    server = start()
    http, id = server.client, create(server.client)
    set_time(server.base, by)
    until(lambda: "clock.set" in server.log())
    server.sweep()
    assert status(http, id) == "RUNNING"
    let_pass(server.base, TTL - 50)
    server.sweep()
    assert status(http, id) == "RUNNING"
    let_pass(server.base, TTL + 10)
    until(lambda: status(http, id) == "TERMINATED")


@pytest.mark.parametrize("seconds", [-1, "soon"])
def test_time_to_live_that_is_no_time_is_refused_by_name(start: Start, seconds: object) -> None:
    http = start().client
    refused = http.post("/session", json={"image": "c", "ttlSeconds": seconds})
    assert refused.status_code == 400 and "ttlSeconds" in refused.text
    refused = http.post(f"/session/{create(http)}/renew", json={"ttlSeconds": seconds})
    assert refused.status_code == 400 and "ttlSeconds" in refused.text
