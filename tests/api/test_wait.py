"""Runs in one request: a call with `options.wait` is answered by the end of its run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server
from .test_execute import text
from .test_stream import begin, open_stream, rest

Result = dict[str, Any]
Call = Callable[..., Result]


def ends(result: Result) -> list[tuple[str, int | None, str]]:
    """Name, exit code and text of each step of a result."""
    console, steps = result["console"], []
    for step in result["steps"]:
        items, console = console[: step["items"]], console[step["items"] :]
        steps.append((step["step"], step["exitCode"], text({"console": items})))
    return steps


def test_one_call_has_the_verdicts_of_all_steps_and_their_console(call: Call) -> None:
    result = call("batch", clean="out c", build="out b", exec="out e\nexit 3", wait=60)
    assert (result["status"], result["exitCode"]) == ("finished", 3)
    assert ends(result) == [("clean", 0, "c\n"), ("build", 0, "b\n"), ("exec", 3, "e\n")]
    assert [step["verdict"]["outcome"] for step in result["steps"]] == ["success"] * 3
    assert result["offset"] == {"console": 6, "steps": 3}
    assert call("continue", result["runId"], wait=60) == result


def test_failed_build_is_in_the_same_result(call: Call) -> None:
    result = call("batch", build="err no\nexit 2", exec="out never", wait=60)
    assert (result["status"], result["exitCode"]) == ("finished", 127)
    assert [(step["step"], step["exitCode"]) for step in result["steps"]] == [
        ("clean", 0), ("build", 2), ("exec", 127),
    ]  # fmt: skip


def test_time_limit_ends_the_wait(call: Call) -> None:
    result = call("batch", build="out b", exec="out x\ntimeout", wait=60)
    assert (result["status"], result["exitCode"]) == ("exec-timeout", None)
    assert ends(result)[1:] == [("build", 0, "b\n"), ("exec", None, "x\n")]


def test_wait_that_is_over_is_answered_by_continued_with_the_steps_so_far(
    http: httpx.Client, session: str, call: Call
) -> None:
    run = call("batch", build="out b", exec="await go\nout e", wait=0)["runId"]
    seen = [call("continue", run, wait=0, offset=0)]
    while len(seen[-1]["steps"]) < 2:
        seen.append(call("continue", run, wait=0, offset=0))
    assert seen[-1]["status"] == "continued" and ends(seen[-1])[1] == ("build", 0, "b\n")
    http.post(f"/session/{session}/upload", files={"src": ("go", b"")})
    last = call("continue", run, wait=60, offset=seen[-1]["offset"])
    assert ends(last) == [("exec", 0, "e\n")]


def test_question_ends_the_wait_and_the_call_with_the_input_waits_again(call: Call) -> None:
    question = call("batch", exec="out name?\nask", wait=60)
    assert question["status"] == "waiting-input" and text(question) == "name?\n"
    last = call("input", question["runId"], "Ada", wait=60)
    assert last["status"] == "finished" and ends(last) == [("exec", 0, "got 'Ada\\n'\n")]


def test_results_of_calls_without_wait_have_no_steps(call: Call) -> None:
    assert "steps" not in call("batch", exec="out e")


@pytest.mark.parametrize(
    "wrong",
    [{"wait": -1}, {"wait": 86401}, {"wait": "long"}, {"wait": True}, {"wait": 1, "live": True}],
    ids=json.dumps,
)
@pytest.mark.parametrize("mode", ["batch", "continue"])
def test_wait_that_cannot_be_kept_is_refused_by_name(
    http: httpx.Client, session: str, call: Call, mode: str, wrong: Result
) -> None:
    if mode == "continue":
        call("batch", "known", exec="out x")
    body = {"mode": mode, "runId": "known", "options": wrong}
    answer = http.post(f"/session/{session}", json=body)
    assert_problem(answer, 400, "/invalid-api-params")
    assert "options.wait" in answer.json()["data"]
    if mode == "batch":
        assert http.get(f"/session/{session}").json()["sandbox"]["runs"]["begun"] == 0


def test_call_that_waits_behind_another_run_has_its_place_when_its_time_is_up(call: Call) -> None:
    call("batch", "a", exec="sleep 30")
    result = call("batch", "b", exec="out b", wait=0)
    assert (result["status"], result["queue"]["position"]) == ("continued", 1)
    assert result["steps"] == []


def test_client_that_hangs_up_loses_nothing(http: httpx.Client, session: str, call: Call) -> None:
    body = {"mode": "batch", "runId": "r", "options": {"exec": "await go\nout e", "wait": 60}}
    with pytest.raises(httpx.ReadTimeout):
        http.post(f"/session/{session}", json=body, timeout=0.3)
    http.post(f"/session/{session}/upload", files={"src": ("go", b"")})
    assert text(call("batch", "r", exec="await go\nout e", wait=60)) == "e\n"


def test_daemon_that_ends_answers_a_call_that_waits(own_server: Server) -> None:
    http = own_server.client
    id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    results = list[Result]()

    def wait() -> None:
        body = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 60", "wait": 60}}
        with own_server.new_client() as client:
            results.append(client.post(f"/session/{id}", json=body).json()["result"])

    caller = threading.Thread(target=wait)
    caller.start()
    until(lambda: http.get(f"/session/{id}").json()["sandbox"]["runs"]["begun"] == 1)
    own_server.process.terminate()
    caller.join()
    assert results[0]["status"] == "continued"


def test_stream_takes_no_wait_and_begins_no_run_for_it(server: Server, session: str) -> None:
    with open_stream(server, session) as websocket:
        begin(websocket, exec="out e", wait=5)
        (frame,), _ = rest(websocket)
    assert frame["status"] == "error" and "options.wait" in frame["msg"]
