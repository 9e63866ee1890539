"""Batch mode over HTTP, as the execution model has it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from .bad_requests import MALFORMED, assert_problem
from .conftest import Server

Result = dict[str, Any]
Call = Callable[..., Result]
Whole = Callable[..., list[Result]]

KEYS = {"runId", "status", "exitCode", "options", "files", "console", "verdict"}


def text(*results: Result) -> str:
    return "".join(data for r in results for kind, data in r["console"] if kind == "stdout")


def post(http: httpx.Client, session: str, **body: Any) -> httpx.Response:
    return http.post(f"/session/{session}", content=json.dumps(body).encode())


def test_run_is_clean_build_exec_in_calls_of_their_own(run: Whole) -> None:
    results = run(clean="out c", build="out b\nerr warning", exec="out e\nexit 3", buildLog=False)
    answers = [(r["status"], r["exitCode"]) for r in results]
    assert answers == [("clean-finished", 0), ("build-finished", 0), ("finished", 3)]
    assert [r["console"] for r in results] == [
        [["stdout", "c\n"]],
        [["stdout", "b\n"], ["stderr", "warning\n"]],
        [["stdout", "e\n"]],
    ]
    assert all(set(r) >= KEYS for r in results)
    assert results[-1]["verdict"]["outcome"] == "success"


def test_without_a_run_id_the_server_makes_one(run: Whole) -> None:
    ids = {r["runId"] for r in run(exec="out x")}
    assert len(ids) == 1 and len(ids.pop()) == 32


def test_runtimes_own_commands_stand_for_an_asterisk(run: Whole) -> None:
    results = run(clean="*", build="*", exec="*")
    assert [text(r) for r in results] == ["", "own build\n", "own exec\n"]


def test_time_limit_is_exec_timeout_without_an_exit_code(run: Whole) -> None:
    last = run(exec="out x\ntimeout")[-1]
    assert (last["status"], last["exitCode"]) == ("exec-timeout", None)
    assert last["verdict"]["outcome"] == "limit"


@pytest.mark.parametrize("script", ["fault", "die"])
def test_failure_of_the_server_is_exit_code_minus_one_with_a_log_item(
    run: Whole, script: str
) -> None:
    last = run(exec=script)[-1]
    assert (last["status"], last["exitCode"]) == ("finished", -1)
    (kind, (level, *_, message)) = last["console"][-1]
    assert (kind, level) == ("log", "error") and message


def test_queued_run_has_its_position_in_the_result(call: Call) -> None:
    call("batch", "a", exec="await never")
    queued = call("batch", "b", exec="out b")
    assert queued["status"] == "continued" and queued["console"] == []
    assert queued["queue"] == {"position": 1, "reason": "other runs of this session come first"}
    assert queued["console"] == [] and queued["exitCode"] is None


def test_program_that_reads_gets_the_typed_input(call: Call) -> None:
    run = call("batch", exec="out name?\nask")["runId"]
    call("continue", run)
    prompt = call("continue", run)
    assert (prompt["status"], prompt["options"]) == ("waiting-input", {"is_password": False})
    assert text(prompt) == "name?\n"
    last = call("input", run, "Ada")
    assert last["status"] == "finished" and text(last) == "got 'Ada\\n'\n"


def test_live_call_returns_with_the_first_output(call: Call) -> None:
    run = call("batch", exec="sleep 1\nout x\nsleep 60", live=True)["runId"]
    call("continue", run, live=True)
    live = call("continue", run, live=True)  # other calls return earlier, without output
    assert live["status"] == "continued" and text(live) == "x\n"


def test_variables_of_a_run_override_those_of_session_and_runtime(http: httpx.Client) -> None:
    environ = {"A": "session", "B": "session", "N": 5}
    session = http.post("/session", json={"image": "c", "config": {"environ": environ}}).json()
    url = f"/session/{session['sessionId']}"
    options = {"exec": "environ", "environ": {"B": "run", "RAW": "\udcff"}}
    body: Any = {"mode": "batch", "runId": "r", "options": options}
    result: Result = {}
    while result.get("status") != "finished":
        answer = http.post(url, content=json.dumps(body).encode())
        result = answer.json()["result"]
        body = {"mode": "continue", "runId": "r"}
    seen = json.loads(text(result))
    assert (seen["A"], seen["B"], seen["N"], seen["RAW"]) == ("session", "run", "5", "\udcff")
    assert (seen["_BACKEND_BATCH_MODE"], seen["OF_RUNTIME"]) == ("1", "yes")
    assert "HOME" not in seen and "PYTHONPATH" not in seen


def test_limits_reach_the_steps_and_lowered_limits_are_named(run: Whole) -> None:
    limits = {"exec": {"mem": "64m", "pids": 10, "cpu_s": 5}, "build": {"wall_s": 1e9}}
    results = run(build="limits", exec="limits", timeout=7.5, limits=limits)
    build, exec_ = (json.loads(text(r)) for r in results[1:])
    assert build["wall_s"] == 3600
    assert (exec_["wall_s"], exec_["memory"]) == (7.5, 64 << 20)
    assert (exec_["pids"], exec_["cpu_s"]) == (10, 5)
    assert results[0]["clamped"] == ["build.wall_s"]
    assert results[0]["clamped_values"] == {"build.wall_s": {"requested": 1e9, "granted": 3600}}
    words = "build.wall_s was lowered from 1000000000 s to 3600 s, the most that is allowed"
    assert results[0]["console"][0][0] == "log" and words in str(results[0]["console"])
    assert "clamped" in results[2] and results[2]["console"][0][0] == "stdout"


def test_timeout_may_be_an_object_per_step(run: Whole) -> None:
    results = run(build="limits", exec="limits", timeout={"build": 3, "exec": {"wall_s": 4}})
    assert [json.loads(text(r))["wall_s"] for r in results[1:]] == [3, 4]


def test_new_files_of_the_output_directory_are_listed(http: httpx.Client, run: Whole) -> None:
    run(exec="touch .output/old\ntouch elsewhere")
    time.sleep(0.1)
    (file,) = run(exec="touch .output/sub/a b%.txt")[-1]["files"]
    assert file["name"] == "sub/a b%.txt"
    assert http.get(file["url"]).text == "made by a program\n"


def test_run_that_cannot_start_is_503_with_its_stage(
    own_server: Server,
) -> None:
    http = own_server.client
    id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    own_server.refuse(start={"kind": "stage", "stage": "mounts", "errno": 13, "error": "no"})
    for body in ({"mode": "batch", "runId": "r"}, {"mode": "continue", "runId": "r"}):
        answer = http.post(f"/session/{id}", json=body)
        assert answer.status_code == 503
        assert answer.json()["data"] == {"stage": "mounts", "errno": 13}
    own_server.refuse()
    assert http.post(f"/session/{id}", json={"mode": "batch"}).status_code == 200


@each_case("kind", MALFORMED)
def test_malformed_execute_request_is_a_problem_document(
    http: httpx.Client, lasting_session: str, kind: str
) -> None:
    assert_problem(http.post(f"/session/{lasting_session}", content=MALFORMED[kind]), 400)


@each_case(
    "wrong",
    [
        {"mode": "query", "code": "1"}, {"mode": "nonsense"}, {"mode": ""}, {"mode": None}, {},
        {"mode": 7}, {"mode": ["batch"]}, {"mode": "BATCH"}, {"mode": "batch", "code": 7},
        {"mode": "batch", "code": "print(1)"}, {"mode": "continue"}, {"mode": "input"},
        {"mode": "continue", "runId": ""}, {"mode": "batch", "runId": 7},
        {"mode": "batch", "runId": "x" * 257}, {"mode": "batch", "options": []},
        {"mode": "batch", "options": "x"}, {"mode": "input", "runId": "x", "code": 7},
    ],
)  # fmt: skip
def test_call_with_an_unknown_mode_or_field_is_refused(
    http: httpx.Client, lasting_session: str, wrong: dict[str, Any]
) -> None:
    assert_problem(post(http, lasting_session, **wrong), 400, "/invalid-api-params")


@each_case(
    "wrong",
    [
        {"exec": 7}, {"exec": ["x"]}, {"build": True}, {"clean": {}}, {"exec": "a\0b"},
        {"exec": "\ud800"}, {"exec": "x" * 140_000}, {"exec": "\x01" * 30_000}, {"buildLog": "no"},
        {"stdin": 7}, {"stdin": "\ud800"}, {"timeout": 0}, {"timeout": -1}, {"timeout": "soon"},
        {"timeout": True}, {"timeout": [1]}, {"timeout": {"later": 1}}, {"timeout": {"exec": []}},
        {"limits": []}, {"limits": {"wall_s": 1}}, {"limits": {"exec": 5}},
        {"limits": {"exec": {"wall_s": 0}}}, {"limits": {"exec": {"mem": "?"}}},
        {"limits": {"exec": {"mem": 1}}}, {"limits": {"exec": {"pids": 1.5}}},
        {"limits": {"exec": {"pids": 0}}}, {"limits": {"exec": {"output": 0}}},
        {"limits": {"exec": {"disk": "much"}}}, {"limits": {"exec": {"nofile": 1}}},
        {"limits": {"exec": {"inodes": "9" * 9999}}}, {"limits": {"exec": {"gpu": 1}}},
        {"environ": []}, {"environ": {"1": "x"}}, {"environ": {"A": []}}, {"live": "yes"},
    ],
)  # fmt: skip
def test_options_that_cannot_be_honoured_are_refused_by_name(
    http: httpx.Client, lasting_session: str, wrong: dict[str, Any]
) -> None:
    answer = post(http, lasting_session, mode="batch", options=wrong)
    assert_problem(answer, 400, "/invalid-api-params")
    assert "options" in str(answer.json()["data"])
    assert http.get(f"/session/{lasting_session}").json()["sandbox"]["runs"]["begun"] == 0


def test_commands_are_as_long_as_their_json_may_be(run: Whole) -> None:
    for filler, count in (("x", 130_000), ("\x01", 21_000), ("\U0001f600", 10_500)):
        results = run(exec="out x\nexit 3\n# " + filler * count)
        assert results[-1]["exitCode"] == 3, repr(filler)


def test_number_too_large_for_any_clock_is_refused(http: httpx.Client, session: str) -> None:
    body = b'{"mode": "batch", "options": {"timeout": 1e999}}'
    assert_problem(http.post(f"/session/{session}", content=body), 400)


def test_unknown_run_is_404(http: httpx.Client, session: str) -> None:
    answer = post(http, session, mode="continue", runId=secrets.token_hex(8))
    assert_problem(answer, 404, "/object-not-found")
    assert answer.json()["title"] == "No such run."


@pytest.mark.parametrize("mode", ["continue", "input"])
def test_call_may_repeat_the_options_of_the_batch_call(
    http: httpx.Client, session: str, mode: str
) -> None:
    """As programs with the official clients do, which send the same object in each call."""
    body = {"runId": "a", "options": {"clean": "*", "build": None, "exec": "out x", "live": True}}
    assert post(http, session, mode="batch", **body).status_code == 200
    assert post(http, session, mode=mode, **body).status_code == 200


@pytest.mark.parametrize("empty", [None, "", [], {}], ids=repr)
def test_unknown_key_without_a_value_is_ignored(
    http: httpx.Client, session: str, empty: Any
) -> None:
    body = {"mode": "batch", "later": empty, "options": {"exec": None, "colour": empty}}
    assert post(http, session, **body).status_code == 200


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"later": [1]}, "later"), ({"later": False}, "later"), ({"later": 0}, "later"),
        ({"options": {"colour": "red"}}, "options.colour"),
        ({"options": {"tiemout": 3}}, "options.tiemout"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["batch", "continue", "input"])
def test_unknown_key_with_a_value_is_refused_by_name(
    http: httpx.Client, session: str, mode: str, body: dict[str, Any], name: str
) -> None:
    post(http, session, mode="batch", runId="known")
    answer = post(http, session, **{"mode": mode, "runId": "known"} | body)
    assert_problem(answer, 400, "/invalid-api-params")
    assert answer.json()["data"][name].startswith("unknown here; known are ")


def test_any_text_is_a_run_id(call: Call) -> None:
    for id in ("x", "a/b c\n", "한글", "x" * 256, "0"):
        assert call("batch", id)["runId"] == id


@pytest.mark.parametrize("path", ["", "/complete"])
def test_completions_are_always_empty(http: httpx.Client, session: str, path: str) -> None:
    body = {"mode": "complete", "code": "pri", "options": {"row": 0, "col": 3}}
    answer = http.post(f"/session/{session}{path}", json=body)
    assert answer.json() == {"result": {"status": "finished", "completions": []}}


def test_body_that_is_too_large_is_413(http: httpx.Client, session: str) -> None:
    body = b'{"mode": "batch", "code": "' + b"x" * (3 << 20) + b'"}'
    assert_problem(http.post(f"/session/{session}", content=body), 413)


def test_flood_of_output_is_cut_to_the_response_size_and_counted(
    http: httpx.Client, run: Whole
) -> None:
    results = run(exec="flood 4000000")
    assert max(len(json.dumps(r)) for r in results) < 1_100_000
    logs = [data[3] for r in results for kind, data in r["console"] if kind == "log"]
    assert any("dropped" in line for line in logs)
