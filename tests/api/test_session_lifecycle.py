"""The life of a session over HTTP: bootstrap, batch command, restart, idle end, history."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server
from .moved_clock import let_pass


def create(http: httpx.Client, **more: Any) -> str:
    name = f"test-{secrets.token_hex(5)}"
    answer = http.post("/session", json={"image": "c", "name": name} | more)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


def run(http: httpx.Client, id: str, command: str) -> list[Any]:
    """The console of a run of one command."""
    call: dict[str, Any] = {"mode": "batch", "options": {"exec": command}}
    console = []
    while True:
        result = http.post(f"/session/{id}", json=call).json()["result"]
        console += result["console"]
        if result["status"] == "finished":
            return console
        call = {"mode": "continue", "runId": result["runId"]}


def row_of(http: httpx.Client, id: str) -> dict[str, Any]:
    """The session as GraphQL tells it."""
    query = "query($id: UUID!) { compute_session(id: $id) { status status_info result tag } }"
    answer = http.post("/admin/gql", json={"query": query, "variables": {"id": id}})
    row: dict[str, Any] = answer.json()["data"]["compute_session"]
    return row


def test_bootstrap_is_over_before_the_first_run_begins(http: httpx.Client) -> None:
    id = create(http, bootstrap_script="sleep 0.3\ntouch mark")
    run(http, id, "out x")
    assert "mark" in http.get(f"/session/{id}/files").json()["files"]
    assert http.get(f"/session/{id}/logs").json() == {"result": {"logs": "x\n"}}


def test_failed_bootstrap_gives_one_notice_and_a_status_info(http: httpx.Client) -> None:
    id = create(http, bootstrap_script="exit 4")
    first, second = run(http, id, "out x"), run(http, id, "out y")
    assert [kind for kind, _ in first] == ["log", "stdout"]
    assert first[0][1][3] == "the bootstrap script failed (exit code 4)"
    assert [kind for kind, _ in second] == ["stdout"]
    assert row_of(http, id)["status_info"] == "the bootstrap script failed (exit code 4)"
    assert "exit code 4" in http.get(f"/session/{id}").json()["statusInfo"]


@pytest.mark.parametrize(
    ("command", "result"), [("out x", "SUCCESS"), ("exit 3", "FAILURE"), ("die", "FAILURE"),
                            ("timeout", "FAILURE")],
)  # fmt: skip
def test_batch_session_has_the_result_of_its_command(
    http: httpx.Client, command: str, result: str
) -> None:
    id = create(http, type="batch", startupCommand=command)
    until(lambda: row_of(http, id)["result"] != "UNDEFINED")
    assert row_of(http, id)["result"] == result
    http.delete(f"/session/{id}")


def test_batch_session_ends_by_itself_and_its_row_stays(start: Callable[..., Server]) -> None:
    http = start(batch_keep_s=0.5).client
    id = create(http, type="batch", startupCommand="out done", tag="nightly")
    until(lambda: row_of(http, id)["status"] == "TERMINATED")
    assert row_of(http, id) == {
        "status": "TERMINATED", "status_info": "task-finished", "result": "SUCCESS",
        "tag": "nightly",
    }  # fmt: skip
    assert_problem(http.get(f"/session/{id}"), 404)
    assert http.get(f"/session/{id}/logs").json() == {"result": {"logs": "done\n"}}
    assert http.get("/session/_/logs", params={"taskId": id}).text == "done\n"
    times = http.get(f"/session/{id}/status-history").json()["result"]
    assert list(times) == ["preparing", "running", "terminating", "terminated"]
    assert sorted(times.values()) == list(times.values())


def test_batch_command_that_a_restart_of_the_daemon_lost_has_failed(
    start: Callable[..., Server],
) -> None:
    first = start()
    id = create(first.client, type="batch", startupCommand="sleep 9")
    until(lambda: first.client.get(f"/session/{id}").json()["sandbox"]["runs"]["begun"] == 1)
    assert first.stop() == 0
    http = start().client
    until(lambda: row_of(http, id)["result"] == "FAILURE")
    assert "without a verdict" in row_of(http, id)["status_info"]


def test_idle_session_ends_and_used_ones_do_not(start: Callable[..., Server]) -> None:
    http = start(idle_s=1.5).client
    idle, busy, used = (create(http) for _ in range(3))
    http.post(f"/session/{busy}", json={"mode": "batch", "options": {"exec": "sleep 9"}})
    until(lambda: bool(http.get(f"/session/{used}")) and row_of(http, idle)["status"] != "RUNNING")
    until(lambda: row_of(http, idle)["status_info"] == "idle-timeout")
    assert row_of(http, busy)["status"] == row_of(http, used)["status"] == "RUNNING"


def test_idle_time_of_a_session_goes_on_while_the_daemon_is_down(
    start: Callable[..., Server],
) -> None:
    first = start(idle_s=3600)
    id = create(first.client)
    assert first.stop() == 0
    let_pass(first.base, 3600)
    http = start(idle_s=3600).client
    until(lambda: row_of(http, id)["status"] == "TERMINATED")


def test_restart_of_a_session_ends_waiting_calls_and_admits_new_runs(http: httpx.Client) -> None:
    id = create(http)
    for name in ("a", "b"):
        call = {"mode": "batch", "runId": name, "options": {"exec": "sleep 60"}}
        http.post(f"/session/{id}", json=call)
    assert http.patch(f"/session/{id}").status_code == 204
    answers = [http.post(f"/session/{id}", json={"mode": "continue", "runId": name})
               for name in ("a", "b")]  # fmt: skip
    assert answers[0].json()["result"]["exitCode"] == 130
    assert_problem(answers[1], 404)
    assert run(http, id, "out new") == [["stdout", "new\n"]]


def test_restart_of_a_session_begins_its_startup_command_again(http: httpx.Client) -> None:
    id = create(http, type="batch", startupCommand="sleep 1")
    until(lambda: http.get(f"/session/{id}").json()["sandbox"]["runs"]["begun"] == 1)
    http.patch(f"/session/{id}")
    assert row_of(http, id)["result"] == "UNDEFINED"
    until(lambda: row_of(http, id)["result"] == "SUCCESS")
    assert http.get(f"/session/{id}").json()["sandbox"]["runs"]["begun"] == 2


def test_restart_of_an_idle_session_changes_nothing(http: httpx.Client) -> None:
    id = create(http)
    assert http.patch(f"/session/{id}").status_code == 204
    assert run(http, id, "out x") == [["stdout", "x\n"]]


def test_renamed_session_has_one_name(http: httpx.Client) -> None:
    id, name = create(http), f"new-{secrets.token_hex(5)}"
    old = http.get(f"/session/{id}").json()["sessionName"]
    assert http.post(f"/session/{old}/rename", params={"name": name}).status_code == 204
    assert http.get(f"/session/{name}").json()["sessionId"] == id
    assert_problem(http.get(f"/session/{old}"), 404)
    assert http.post(f"/session/{name}/rename", json={"session_name": name}).status_code == 204
    assert create(http, name=old) != id
    answer = http.post(f"/session/{name}/rename", params={"name": old})
    assert_problem(answer, 400, "/session-already-exists")
    assert http.get(f"/session/{name}").json()["sessionId"] == id


@each_case("name", ["", "abc", "a b c d", "x" * 65, "from-template", "ü" * 5])
def test_rename_to_an_invalid_name_changes_nothing(http: httpx.Client, name: str) -> None:
    id = create(http)
    assert_problem(http.post(f"/session/{id}/rename", params={"name": name}), 400)
    assert_problem(http.post(f"/session/{id}/rename"), 400)


def test_renamed_session_keeps_its_name_over_a_restart(start: Callable[..., Server]) -> None:
    first = start()
    id = create(first.client)
    first.client.post(f"/session/{id}/rename", params={"name": "lasting"})
    assert first.stop() == 0
    assert start().client.get("/session/lasting").json()["sessionId"] == id


def test_creation_of_a_session_waits_for_a_slot_if_its_client_does(own_server: Server) -> None:
    own_server.refuse(lease={"kind": "unavailable", "error": "no slot is free"})
    began = time.monotonic()
    answer = own_server.client.post("/session", json={"image": "c", "maxWaitSeconds": 1})
    assert answer.status_code == 503 and time.monotonic() - began >= 1
    answer = own_server.client.post("/session", json={"image": "c"})
    assert answer.status_code == 503


def test_logs_of_a_session_without_runs_are_empty(http: httpx.Client) -> None:
    assert http.get(f"/session/{create(http)}/logs").json() == {"result": {"logs": ""}}


def test_usage_of_a_session_is_the_sum_over_its_runs(http: httpx.Client) -> None:
    id = create(http)
    for _ in range(2):
        run(http, id, "out x")
    stats = http.delete(f"/session/{id}").json()["stats"]
    assert stats["runs"] == 2 and stats["status"] == "terminated"
    assert all(int(value) >= 0 for name, value in stats.items() if name != "status")


def test_commit_of_a_session_is_not_offered(http: httpx.Client, session: str) -> None:
    answer = http.post(f"/session/{session}/commit")
    assert answer.status_code == 501 and answer.json()["type"].endswith("/not-implemented")
    assert "no images" in answer.json()["msg"]


def test_console_of_the_last_run_is_read_by_position(http: httpx.Client) -> None:
    id = create(http)

    def log(offset: int) -> Any:
        return http.get(f"/session/{id}/logs", params={"offset": offset}).json()["result"]

    assert log(0) == {"logs": "", "console": [], "offset": 0, "runId": None, "over": True}
    call = {"mode": "batch", "runId": "r", "options": {"exec": "out abcdef"}}
    http.post(f"/session/{id}", json=call)
    until(lambda: log(7)["over"])
    part = log(0)
    text = b"".join(base64.b64decode(data) for _, data in part["console"])
    assert (text, part["offset"], part["runId"], part["over"]) == (b"abcdef\n", 7, "r", False)
    rest = log(4)
    assert base64.b64decode(rest["console"][0][1]) == b"ef\n"
    assert http.get(f"/session/{id}/logs?offset=-1").status_code == 400
