"""The session of POST /run: it counts while the request lasts, and nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..waiting import PATIENCE_S, until
from .bad_requests import assert_problem
from .conftest import Server
from .test_execute import text
from .test_run_request import recorded, slots


def test_run_that_cannot_start_is_503_and_leaves_nothing(own_server: Server) -> None:
    own_server.refuse(start={"kind": "stage", "stage": "mounts", "errno": 13, "error": "no"})
    answer = own_server.client.post("/run", json={"image": "c", "options": {"exec": "out e"}})
    assert_problem(answer, 503)
    assert answer.json()["data"] == {"stage": "mounts", "errno": 13} and slots(own_server) == []


def test_files_that_do_not_fit_are_refused_and_leave_nothing(own_server: Server) -> None:
    own_server.refuse(files={"kind": "stage", "stage": "files", "errno": 28, "error": "full"})
    body = {"image": "c", "files": [{"name": "a"}], "options": {"exec": "out e"}}
    assert own_server.client.post("/run", json=body).status_code == 507
    assert slots(own_server) == []
    own_server.refuse(lease={"kind": "stage", "stage": "scratch", "errno": 28, "error": "full"})
    assert own_server.client.post("/run", json=body).status_code == 507
    own_server.refuse()
    assert own_server.client.post("/run", json=body).status_code == 200


class InFlight(threading.Thread):
    """A request in a thread; it goes on until the file `go` is in the workdir. `answers` has its
    response, and nothing if the connection broke."""

    def __init__(self, server: Server, **body: Any) -> None:
        super().__init__()
        self.answers = list[httpx.Response]()
        self._server = server
        self._body = {"image": "c", "options": {"exec": "await go\nout e"}} | body
        self.start()

    def run(self) -> None:
        """Send the request."""
        with self._server.new_client() as client, contextlib.suppress(httpx.TransportError):
            self.answers.append(client.post("/run", json=self._body))


def the_session(server: Server) -> str:
    """The id of the one session that is there."""

    def ids() -> list[str]:
        answer = server.client.get("/session/_/match?id=run-")
        return [one["id"] for one in answer.json()["matches"]]

    until(ids)
    (id,) = ids()
    return id


def test_request_counts_as_a_session_of_its_owner_while_it_lasts(
    start: Callable[..., Server],
) -> None:
    server = start({"admission": {"owner": {"sessions": 1}}})
    request = InFlight(server)
    id = the_session(server)
    assert_problem(server.client.post("/session", json={"image": "c"}), 412, "/quota-exceeded")
    assert_problem(server.client.post("/run", json={"image": "c"}), 412, "/quota-exceeded")
    waiting = InFlight(server, max_wait=60, options={"exec": "out second"})
    server.client.post(f"/session/{id}/upload", files={"src": ("go", b"")})
    for each, words in ((request, "e\n"), (waiting, "second\n")):
        each.join()
        (answer,) = each.answers
        assert text(answer.json()["result"]) == words
    assert server.client.post("/session", json={"image": "c"}).status_code == 201


def test_request_that_waits_in_vain_is_refused_and_waits_no_more(
    start: Callable[..., Server],
) -> None:
    server = start({"admission": {"owner": {"sessions": 1}}})
    session = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    body = {"image": "c", "options": {"exec": "out e"}, "max_wait": 0.2}
    assert_problem(server.client.post("/run", json=body), 412, "/quota-exceeded")
    server.client.delete(f"/session/{session}")
    assert server.client.post("/run", json=body).status_code == 200


def test_request_is_refused_while_the_server_is_drained(own_server: Server) -> None:
    assert own_server.client.post("/admin/drain", json={}).status_code == 200
    answer = own_server.client.post("/run", json={"image": "c", "options": {"exec": "out e"}})
    assert_problem(answer, 503, "/server-frozen")
    assert slots(own_server) == []


def test_drain_lets_the_case_that_runs_finish_and_refuses_the_next_one(
    own_server: Server,
) -> None:
    request = InFlight(own_server, cases=[{}, {}])
    id = the_session(own_server)
    until(lambda: own_server.client.get(f"/session/{id}").json()["sandbox"]["runs"]["begun"])
    assert own_server.client.post("/admin/drain", json={}).status_code == 200
    own_server.client.post(f"/session/{id}/upload", files={"src": ("go", b"")})
    request.join()
    assert_problem(request.answers[0], 503, "/server-frozen")
    assert slots(own_server) == []


def test_case_is_not_refused_for_runs_of_its_owner_that_wait_since_the_request_began(
    start: Callable[..., Server],
) -> None:
    server = start({"admission": {"owner": {"waiting": 1}}})
    request = InFlight(server, cases=[{}, {}])
    of_request = the_session(server)
    until(lambda: server.client.get(f"/session/{of_request}").json()["sandbox"]["runs"]["begun"])
    other = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    for run in ("goes on", "waits"):
        body = {"mode": "batch", "runId": run, "options": {"exec": "sleep 60"}}
        assert server.client.post(f"/session/{other}", json=body).status_code == 200
    refused = server.client.post("/run", json={"image": "c", "options": {"exec": "out e"}})
    assert_problem(refused, 429, "/rate-limit-exceeded")

    def is_over() -> bool:
        """Each case awaits the file anew, since its files are those from before the first."""
        server.client.post(f"/session/{of_request}/upload", files={"src": ("go", b"")})
        return not request.is_alive()

    until(is_over)
    assert [one["exitCode"] for one in request.answers[0].json()["cases"]] == [0, 0]


def test_client_that_hangs_up_ends_its_program_and_its_session(own_server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        own_server.client.post(
            "/run", json={"image": "c", "options": {"exec": "sleep 600"}}, timeout=0.5
        )
    until(lambda: slots(own_server) == [])
    assert recorded(own_server) == []
    until(lambda: '"outcome":"gone"' in own_server.log())


def test_client_that_hangs_up_while_cases_run_leaves_nothing(own_server: Server) -> None:
    body = {"image": "c", "options": {"exec": "sleep 0.2"}, "cases": [{}] * 500}
    with pytest.raises(httpx.ReadTimeout):
        own_server.client.post("/run", json=body, timeout=1)
    until(lambda: slots(own_server) == [])


def test_client_that_hangs_up_while_it_waits_for_a_session_waits_no_more(
    start: Callable[..., Server],
) -> None:
    """Its turn would take the room from a client that is there."""
    server = start({"admission": {"owner": {"sessions": 1}}})
    session = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    body = {"image": "c", "options": {"exec": "sleep 600"}, "max_wait": 60}
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/run", json=body, timeout=0.5)
    until(lambda: '"outcome":"gone"' in server.log())
    server.client.delete(f"/session/{session}")
    assert server.client.post("/session", json={"image": "c"}).status_code == 201


def test_output_of_cases_counts_for_the_memory_of_the_owner_while_others_run(
    start: Callable[..., Server],
) -> None:
    server = start({"http": {"bodies": 1 << 20}})
    body = {"image": "c", "options": {"exec": f"out {'x' * 50_000}"}}
    answer = server.client.post("/run", json=body | {"cases": [{}] * 20})
    assert_problem(answer, 503)
    assert slots(server) == []
    assert server.client.post("/run", json=body | {"cases": [{}] * 2}).status_code == 200


def test_check_for_leaks_leaves_the_session_alone(own_server: Server) -> None:
    """Its slot is leased for a session without a row, which is a leak in any other case."""
    request = InFlight(own_server)
    id = the_session(own_server)
    assert own_server.client.get("/admin/leaks").json()["leaks"] == []
    own_server.client.post(f"/session/{id}/upload", files={"src": ("go", b"")})
    request.join()
    assert request.answers[0].status_code == 200
    assert own_server.client.get("/admin/leaks").json()["slots"] == []


def test_session_that_its_owner_deletes_ends_the_request(own_server: Server) -> None:
    request = InFlight(own_server)
    assert own_server.client.delete(f"/session/{the_session(own_server)}").status_code == 200
    request.join()
    assert_problem(request.answers[0], 404)
    assert slots(own_server) == []


def test_server_that_ends_answers_the_request_and_leaves_nothing(own_server: Server) -> None:
    request = InFlight(own_server)
    the_session(own_server)
    assert own_server.stop() == 0
    request.join()
    assert_problem(request.answers[0], 503)
    assert slots(own_server) == [] and recorded(own_server) == []


def test_server_that_is_killed_has_no_row_of_the_session(start: Callable[..., Server]) -> None:
    """The warden removes the slots that no row names: tests/e2e/test_run_request.py."""
    server = start()
    InFlight(server)
    the_session(server)
    server.process.kill()
    server.process.wait(PATIENCE_S)
    assert recorded(server) == []
    assert start().client.get("/session/_/match?id=run-").json()["matches"] == []


def test_request_is_one_act_in_the_audit_log(own_server: Server) -> None:
    own_server.client.post("/run", json={"image": "c", "options": {"exec": "out e"}})

    def acts() -> list[dict[str, Any]]:  # the line comes behind the response
        lines = own_server.log().splitlines()
        return [json.loads(line) for line in lines if '"audit"' in line and line.endswith("}")]

    (act,) = until(acts)
    assert (act["act"], act["outcome"], act["runtime"]) == ("run.request", "ok", "c")
    assert act["session"] and act["cases"] == 0
