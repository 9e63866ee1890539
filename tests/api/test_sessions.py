"""Sessions over HTTP: created once, found by UUID and name, destroyed with their files and runs."""

from __future__ import annotations

import json
import secrets
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from ..waiting import until
from .bad_requests import MALFORMED, assert_problem
from .conftest import Server

PYTHON_CLIENT: dict[str, Any] = {
    "tag": None, "image": "gcc:latest",
    "config": {"mounts": [], "environ": None, "resources": {}, "resource_opts": {},
               "scalingGroup": None, "mount_map": {}, "preopen_ports": None,
               "mount_options": {}, "mount_ids": [], "mount_id_map": {}, "attach_network": None},
    "dependencies": None, "callback_url": None, "architecture": "x86_64", "clusterSize": 1,
    "clusterMode": "single-node", "starts_at": None, "bootstrap_script": None,
    "owner_access_key": None, "domain": "default", "group": "default", "type": "interactive",
    "enqueueOnly": False, "maxWaitSeconds": 0, "reuseIfExists": True, "startupCommand": None,
}  # fmt: skip


def name() -> str:
    return f"test-{secrets.token_hex(5)}"


def create(http: httpx.Client, **more: Any) -> httpx.Response:
    return http.post("/session", json={"image": "c", "name": name()} | more)


def test_version_is_served_without_a_signature_whatever_the_request_has(http: httpx.Client) -> None:
    answer = http.get("/", headers={"Authorization": "nonsense"})
    assert answer.json()["version"] == "v7.20230615"
    assert answer.headers["server"] == "BackendAI"


def test_body_of_the_python_client_creates_a_session(http: httpx.Client) -> None:
    wanted = name()
    answer = http.post("/session", json=PYTHON_CLIENT | {"name": wanted})
    body = answer.json()
    assert answer.status_code == 201 and uuid.UUID(body["sessionId"])
    assert (body["status"], body["created"], body["sessionName"]) == ("RUNNING", True, wanted)
    assert body["servicePorts"] == []


UNOFFERED = ["starts_at", "callback_url", "dependencies"]
UNOFFERED_IN_CONFIG = ["preopen_ports", "agent_list", "attach_network"]


@pytest.mark.parametrize("value", [None, "", [], {}], ids=repr)
def test_key_that_is_not_offered_is_ignored_while_it_is_empty(
    http: httpx.Client, value: Any
) -> None:
    config = dict.fromkeys(UNOFFERED_IN_CONFIG, value)
    answer = create(http, config=config, **dict.fromkeys(UNOFFERED, value))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("value", [0, False, "x", ["x"], {"x": 1}], ids=repr)
def test_key_that_is_not_offered_is_refused_by_name(http: httpx.Client, value: Any) -> None:
    config = dict.fromkeys(UNOFFERED_IN_CONFIG, value)
    answer = create(http, config=config, **dict.fromkeys(UNOFFERED, value))
    assert_problem(answer, 400)
    assert sorted(answer.json()["data"]) == sorted(
        [*UNOFFERED, *(f"config.{key}" for key in UNOFFERED_IN_CONFIG)]
    )


@pytest.mark.parametrize("key", ["name", "session_name", "clientSessionToken"])
def test_create_request_has_aliases_for_name_and_image(http: httpx.Client, key: str) -> None:
    wanted = name()
    body = http.post("/session/_/create", json={"lang": "python:3.9", key: wanted}).json()
    assert body["sessionName"] == wanted


def test_session_without_a_name_gets_one(http: httpx.Client) -> None:
    body = http.post("/session", json={"image": "c", "name": None}).json()
    assert http.get(f"/session/{body['sessionName']}").json()["sessionId"] == body["sessionId"]


def test_same_name_and_runtime_is_the_same_session(http: httpx.Client) -> None:
    first = create(http)
    again = http.post("/session", json={"lang": "gcc:latest", "name": first.json()["sessionName"]})
    assert again.status_code == 200 and again.json()["created"] is False
    assert again.json()["sessionId"] == first.json()["sessionId"]


@pytest.mark.parametrize("more", [{"image": "python"}, {"reuseIfExists": False}])
def test_session_that_may_not_be_reused_is_refused_with_its_id(
    http: httpx.Client, more: Any
) -> None:
    first = create(http).json()
    answer = create(http, **{"name": first["sessionName"]} | more)
    assert_problem(answer, 400, "/session-already-exists")
    assert answer.json()["data"] == {"existingSessionId": first["sessionId"]}


def test_many_create_requests_of_one_name_at_once_create_one_session(http: httpx.Client) -> None:
    wanted = name()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: create(http, name=wanted), range(8)))
    assert sorted(a.status_code for a in answers) == [200] * 7 + [201]
    assert len({a.json()["sessionId"] for a in answers}) == 1


@each_case("kind", MALFORMED)
def test_malformed_create_request_is_a_problem_document(http: httpx.Client, kind: str) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(http.post("/session", content=MALFORMED[kind], headers=headers), 400)


@each_case(
    "wrong",
    [
        {"image": 7}, {"image": None}, {"image": ""}, {"image": "x" * 600}, {"image": "py\0thon"},
        {"image": "\udcff/python"}, {"name": 7}, {"name": "abc"}, {"name": "a" * 65},
        {"name": "-abcd"}, {"name": "abcd."}, {"name": "a b c"}, {"name": "näme"},
        {"name": "from-template"}, {"name": ["abcd"]}, {"config": []}, {"config": "x"},
        {"config": {"environ": []}}, {"config": {"environ": {"A": []}}},
        {"config": {"environ": {"A-B": "x"}}}, {"config": {"environ": {"A": "x\0y"}}},
        {"config": {"environ": {"A": "x" * 100_000}}}, {"config": {"resources": 7}},
        {"config": {"resources": {"mem": "lots"}}}, {"config": {"resources": {"mem": -1}}},
        {"config": {"resources": {"mem": 0}}}, {"config": {"resources": {"mem": "1k"}}},
        {"config": {"resources": {"cpu": 0}}}, {"config": {"resources": {"cpu": "many"}}},
        {"config": {"resources": {"cpu": 1e999}}}, {"config": {"resources": {"cuda.device": 1}}},
        {"config": {"resource_opts": {"disk": "1m"}}}, {"config": {"resource_opts": {"pids": "x"}}},
        {"config": {"mount_map": {"a": "b"}}}, {"config": {"preopen_ports": [8080]}},
        {"type": "batch"}, {"type": "batch", "startupCommand": "x\0"}, {"type": "inference"},
        {"clusterSize": 2}, {"clusterSize": "2"}, {"architecture": "mips"}, {"arch": "mips"},
        {"bootstrap_script": "x\0"}, {"tag": "x\ny"},
        {"type": "batch", "startupCommand": "x" * 140_000}, {"maxWaitSeconds": "long"},
        {"starts_at": "2030-01-01"}, {"callback_url": "http://x"}, {"reuseIfExists": "yes"},
        {"dependencies": ["x"]}, {"owner_access_key": 7}, {"startupCommand": "x"},
    ],
)  # fmt: skip
def test_create_request_that_cannot_be_met_is_refused_and_creates_nothing(
    http: httpx.Client, wrong: Any
) -> None:
    wanted = name()
    body = json.dumps({"image": "c", "name": wanted} | wrong)
    assert_problem(http.post("/session", content=body.encode()), 400)
    assert_problem(http.get(f"/session/{wanted}"), 404)


def test_unknown_image_is_404_and_says_so(http: httpx.Client) -> None:
    answer = create(http, image="klingon:85")
    assert_problem(answer, 404, "/object-not-found")
    assert answer.json()["title"] == "No such environment image."


def test_resources_above_the_ceiling_are_lowered_and_named(http: httpx.Client) -> None:
    resources = {"cpu": "0.5", "mem": "900g"}
    body = create(http, config={"resources": resources, "resource_opts": {"shmem": "64m"}}).json()
    assert body["clamped"] == ["mem"]
    assert body["clamped_values"] == {"mem": {"requested": 900 << 30, "granted": 4 << 30}}
    limits = http.get(f"/session/{body['sessionId']}").json()["sandbox"]["limits"]
    assert (limits["cpus"], limits["memory"], limits["shm"]) == (0.5, 4 << 30, 64 << 20)


def test_session_can_set_each_limit(http: httpx.Client) -> None:
    options = {"pids": "50", "nofile": 100, "fsize": "1m", "disk": "100m", "inodes": 1 << 40,
             "output": "1m", "cpu_s": 5, "wall_s": "6"}  # fmt: skip
    body = create(http, config={"resource_opts": options}).json()
    assert body["clamped"] == ["inodes"]
    sandbox = http.get(f"/session/{body['sessionId']}").json()["sandbox"]
    wanted = {"pids": 50, "nofile": 100, "fsize": 1 << 20, "disk": 100 << 20, "inodes": 65536,
              "output": 1 << 20, "cpu_s": 5, "wall_s": 6}  # fmt: skip
    assert sandbox["limits"] == sandbox["limits"] | wanted
    assert sandbox["scratch"]["size"] == 112 << 20, "whole steps of 16 MiB"


def test_description_of_a_session_has_its_settings_and_counts_requests(http: httpx.Client) -> None:
    session = create(http, config={"environ": {"A": 1}}).json()
    info = http.get(f"/session/{session['sessionId'].upper()}").json()
    assert info["lang"] == info["image"] == "c" and info["status"] == "RUNNING"
    assert json.loads(info["environ"]) == {"A": "1"}
    assert info["age"] >= 0 and info["numQueriesExecuted"] == 1, "requests are what is counted"
    assert info["sandbox"]["runs"] == {"active": None, "queued": 0, "begun": 0}
    http.patch(f"/session/{session['sessionId']}")
    assert http.get(f"/session/{session['sessionName']}").json()["numQueriesExecuted"] == 3


def test_sessions_are_matched_by_the_beginning_of_name_or_uuid(http: httpx.Client) -> None:
    session = create(http).json()
    for prefix in (session["sessionName"][:9], session["sessionId"][:9]):
        matches = http.get("/session/_/match", params={"id": prefix}).json()["matches"]
        assert {
            "id": session["sessionId"],
            "name": session["sessionName"],
            "status": "RUNNING",
        } in matches
    assert_problem(http.get("/session/_/match"), 400)


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "", {}), ("POST", "", {"mode": "batch"}), ("DELETE", "", {}), ("POST", "/upload", {}),
    ("GET", "/files", {}), ("POST", "/files", {"path": "x"}),
    ("GET", "/download", {"files": ["x"]}),
    ("POST", "/download", {"files": ["x"]}), ("GET", "/download_single", {"file": "x"}),
    ("POST", "/interrupt", {}), ("POST", "/complete", {"code": "x"}),
]  # fmt: skip


UNKNOWN = "0b2f6a52-6d1e-4c0b-9a4e-1f1f5f0f7a11"


@each_case("ref", [UNKNOWN, "nobody", "%2e%2e%2f", "%ff", "a b", "_"])
@each_case(("method", "path", "body"), REQUESTS)
def test_unknown_session_is_404(
    http: httpx.Client, method: str, path: str, body: dict[str, Any], ref: str
) -> None:
    answer = http.request(method, f"/session/{ref}{path}", json=body)
    assert_problem(answer, 404)


def test_beginning_of_a_session_name_is_no_reference(http: httpx.Client) -> None:
    session = create(http).json()
    assert_problem(http.get(f"/session/{session['sessionName'][:-1]}"), 404)


def test_destroyed_session_is_gone_and_its_name_is_free(http: httpx.Client) -> None:
    session = create(http).json()
    answer = http.delete(f"/session/{session['sessionName']}?forced=true&recursive=true")
    assert answer.status_code == 200 and answer.json()["stats"]["runs"] == 0
    assert_problem(http.delete(f"/session/{session['sessionId']}"), 404, "/object-not-found")
    assert create(http, name=session["sessionName"]).json()["created"] is True


def test_second_of_two_deletes_at_once_is_404(http: httpx.Client) -> None:
    for _ in range(5):
        id = create(http).json()["sessionId"]
        with ThreadPoolExecutor(2) as pool:
            codes = list(pool.map(lambda _: http.delete(f"/session/{id}").status_code, range(2)))  # noqa: B023  # over before the next
        assert sorted(codes) == [200, 404]


def test_delete_of_a_session_ends_its_waiting_calls(http: httpx.Client, session: str) -> None:
    results: list[dict[str, Any]] = []

    def poll(run: str) -> None:
        body: dict[str, Any] = {"mode": "batch", "runId": run, "options": {"exec": "sleep 60"}}
        while True:
            answer = http.post(f"/session/{session}", json=body)
            if answer.status_code == 404:  # the session was deleted between two calls
                return
            results.append(answer.json()["result"])
            body = {"mode": "continue", "runId": run}
            if results[-1]["exitCode"] == 130:
                return

    threads = [threading.Thread(target=poll, args=(run,)) for run in ("a", "b")]
    for thread in threads:
        thread.start()
    until(lambda: {result["runId"] for result in results} == {"a", "b"})
    assert http.delete(f"/session/{session}").status_code == 200
    for thread in threads:
        thread.join()
    last = {r["runId"]: r for r in results if r["exitCode"] == 130}
    assert last, "no call waited when the session was deleted"
    for run in last:
        assert last[run] == {
            "runId": run, "status": "finished", "exitCode": 130, "options": {}, "files": [],
            "console": [],
        }  # fmt: skip


def test_urls_that_are_not_offered_are_404(http: httpx.Client, session: str) -> None:
    for path in ("/nowhere", "/session/", f"/session/{session}/apps", "/resource/presets"):
        answer = http.post(path, json={})
        assert_problem(answer, 404, "/url-not-found")
        assert answer.json()["msg"] == f"This server does not offer POST {path}."
        assert answer.json()["data"] == path


def test_methods_that_are_not_offered_are_405(http: httpx.Client, session: str) -> None:
    for method, path in (("PUT", f"/session/{session}"), ("PUT", "/session"), ("DELETE", "/")):
        assert_problem(http.request(method, path), 405, "/method-not-allowed")


def test_interrupt_of_an_idle_session_is_204(http: httpx.Client, session: str) -> None:
    answer = http.post(f"/session/{session}/interrupt")
    assert answer.status_code == 204 and answer.content == b""


def test_interrupt_ends_the_running_step(
    http: httpx.Client, session: str, call: Callable[..., dict[str, Any]]
) -> None:
    call("batch", "a", exec="sleep 9")
    call("continue", "a")
    assert http.post(f"/session/{session}/interrupt").status_code == 204
    assert call("continue", "a")["exitCode"] == 130


@pytest.mark.parametrize(
    ("refusal", "status", "problem"),
    [
        ({"kind": "unavailable", "error": "no slot is free"}, 503, "/service-unavailable"),
        (
            {"kind": "stage", "stage": "scratch", "errno": 5, "error": "no"},
            503,
            "/service-unavailable",
        ),
        (
            {"kind": "stage", "stage": "scratch", "errno": 28, "error": "no space"},
            507,
            "/insufficient-storage",
        ),
    ],
)
def test_session_that_cannot_be_created_leaves_nothing(
    server: Server, http: httpx.Client, refusal: dict[str, Any], status: int, problem: str
) -> None:
    wanted = name()
    server.refuse(lease=refusal)
    answer = create(http, name=wanted)
    server.refuse()
    assert answer.status_code == status and answer.json()["type"].endswith(problem)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert create(http, name=wanted).json()["created"] is True
