"""Draining: nothing new begins, what goes on may end, or is ended, and it can be undone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import httpx
import pytest
from websockets.sync.client import unix_connect

from sandboxd.api.operation.drain import Drain

from ..waiting import PATIENCE_S, until
from .bad_requests import assert_problem
from .conftest import ROOT, Server
from .test_admission import BUSY, ONE_RUN, begin, call, create, to_end

Start = Callable[..., Server]


def drain(http: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = http.post("/admin/drain", json=body)
    assert answer.status_code == 200, answer.text
    progress: dict[str, Any] = answer.json()
    return progress


def go(http: httpx.Client, id: str) -> None:
    """Let the step `await go` end."""
    http.post(f"/session/{id}/upload", files={"src": ("go", b"")}).raise_for_status()


def logs(*results: dict[str, Any]) -> str:
    items = [item for result in results for item in result["console"]]
    return " | ".join(data[3] for kind, data in items if kind == "log")


def all_results(http: httpx.Client, id: str, run: str) -> list[dict[str, Any]]:
    """The results of a run from now to its end."""
    results = [call(http, id, "continue", run)]
    while results[-1]["status"] != "finished":
        results.append(call(http, id, "continue", run))
    return results


def test_drained_daemon_begins_nothing_and_lets_running_runs_end(own_server: Server) -> None:
    http = own_server.client
    id = create(http)
    call(http, id, "batch", "a", exec="await go\nout done")
    call(http, id, "continue", "a")
    assert drain(http) | {"deadline": 0} == {
        "draining": True, "drained": False, "running": 1, "waiting": 0, "deadline": 0,
    }  # fmt: skip
    for path, body in (
        ("/session", {"image": "c"}),
        (f"/session/{id}", {"mode": "batch", "options": {"exec": "out no"}}),
        ("/folders", {"name": "data"}),
    ):
        refused = http.post(path, json=body)
        assert_problem(refused, 503, "/server-frozen")
        assert int(refused.headers["retry-after"]) >= 10
    go(http, id)
    *_, last = results = all_results(http, id, "a")
    assert ["stdout", "done\n"] in last["console"]
    assert "this server is being drained" in logs(*results)
    assert http.get("/admin/drain").json()["drained"]
    assert http.get(f"/session/{id}/files").status_code == 200, "files can be fetched"


def test_undone_drain_takes_on_work_again_and_begins_waiting_runs(start: Start) -> None:
    http = start(ONE_RUN).client
    first, second = create(http), create(http)
    call(http, first, "batch", "a", exec="await go")
    begin(http, second, "b", exec="out b")
    drain(http)
    go(http, first)
    until(lambda: bool(http.get("/admin/drain").json()["drained"]))
    waits = call(http, second, "continue", "b")
    assert waits["queue"]["reason"].startswith("the server is being drained")
    assert http.get("/admin/drain").json()["waiting"] == 1
    assert not drain(http, undo=True)["draining"]
    assert to_end(http, second, "b")["exitCode"] == 0
    create(http)


def test_runs_are_ended_with_a_reason_at_the_deadline_of_a_drain(own_server: Server) -> None:
    http = own_server.client
    id = create(http)
    call(http, id, "batch", "a", exec="sleep 60")
    call(http, id, "continue", "a")
    began = time.time()
    progress = drain(http, deadline=1)
    assert began + 1 <= progress["deadline"] <= time.time() + 1
    *_, last = results = all_results(http, id, "a")
    assert (last["exitCode"], last["status"]) == (130, "finished"), "as the fake shim ends"
    assert "this run is ended: the server is being drained" in logs(*results)


def test_websocket_gets_a_notice_as_soon_as_a_drain_begins(own_server: Server) -> None:
    id = create(own_server.client)
    url = f"ws://sandboxd/stream/session/{id}/execute"
    with unix_connect(own_server.path, url) as websocket:
        websocket.send(json.dumps({"mode": "batch", "options": {"exec": BUSY}}))
        until(lambda: own_server.client.get("/admin/drain").json()["running"] == 1)
        drain(own_server.client, deadline=60)
        notices = ""
        while "what still runs in 60 s is ended" not in notices:
            notices += logs(json.loads(websocket.recv(timeout=PATIENCE_S)))


@pytest.mark.parametrize("deadline", [-1, "soon", 1e9, float("inf")])
def test_drain_with_an_impossible_deadline_is_refused(http: httpx.Client, deadline: Any) -> None:
    body = json.dumps({"deadline": deadline}).encode()
    assert_problem(http.post("/admin/drain", content=body), 400)
    assert not http.get("/admin/drain").json()["draining"]


def test_drain_is_for_admins_only(server: Server) -> None:
    with server.signed(server.keypair()) as other:
        assert_problem(other.post("/admin/drain", json={}), 403)
    with server.signed(server.keypair(admin=True)) as admin:
        assert admin.post("/admin/drain", json={"undo": True}).status_code == 200


def test_restarted_daemon_is_not_draining(start: Start) -> None:
    first = start()
    drain(first.client)
    assert first.stop() == 0
    create(start().client)


DRAINING = {"stop": {"runs": "drain", "grace_s": 30}}


def test_daemon_that_is_configured_so_drains_before_it_stops(start: Start) -> None:
    server = start(DRAINING)
    http = server.client
    id = create(http)
    call(http, id, "batch", "a", exec="await go\nout done")
    server.process.terminate()
    until(lambda: bool(http.get("/admin/drain").json()["draining"]))
    assert_problem(http.post("/session", json={"image": "c"}), 503)
    go(http, id)
    assert ["stdout", "done\n"] in to_end(http, id, "a")["console"]
    assert server.process.wait(PATIENCE_S) == 0


def test_second_signal_stops_a_draining_daemon_at_once(start: Start) -> None:
    server = start(DRAINING)
    id = create(server.client)
    call(server.client, id, "batch", "a", exec=BUSY)
    server.process.terminate()
    until(lambda: bool(server.client.get("/admin/drain").json()["draining"]))
    assert server.stop() == 0


# -- the command


def command(server: Server, *args: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sandboxd", "drain", "--socket", server.path, *args]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=30)


@pytest.mark.slow
def test_drain_command_shows_the_progress_and_waits(own_server: Server) -> None:
    http = own_server.client
    assert command(own_server, "--status").stdout == "not draining: 0 runs go on\n"
    id = create(http)
    for _ in range(2):
        call(http, id, "batch", "a", build="await go")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(command, own_server, "--wait", "--deadline", "100")
        until(lambda: bool(http.get("/admin/drain").json()["draining"]))
        go(http, id)
        done = waiting.result()
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith(
        "draining: nothing new begins, 1 run goes on; runs that still go on at 20"
    )
    assert last == "drained: nothing runs"
    assert json.loads(command(own_server, "--status", "--json").stdout)["drained"]
    assert command(own_server, "--undo").stdout == "not draining: 0 runs go on\n"


@pytest.mark.parametrize(
    "args", [("--undo", "--wait"), ("--status", "--undo"), ("--deadline", "x")]
)
def test_mistakes_in_a_drain_command_are_one_line(server: Server, args: tuple[str, ...]) -> None:
    done = command(server, *args)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert not server.client.get("/admin/drain").json()["draining"]


def test_drain_command_without_a_daemon_prints_one_line(server: Server) -> None:
    line = [sys.executable, "-m", "sandboxd", "drain", "--socket", "/nonexistent/sock"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 125 and done.stderr.startswith("sandboxd: the daemon does not answer")


class Paused:
    """An admission that lets nothing begin for another reason than a drain, as in a recovery."""

    def __init__(self) -> None:
        self.pauses: set[str] = {"restore"}
        self.going_on: list[Any] = []
        self.runs = self
        self.on_release: Callable[[], None] = lambda: None

    def pause(self, why: str) -> None:
        self.pauses.add(why)

    def resume(self, why: str) -> None:
        self.pauses.remove(why)


def test_end_of_a_run_is_the_end_of_a_drain_only_while_the_daemon_is_being_drained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    admission = Paused()
    drain = Drain(cast(Any, admission))
    admission.on_release()
    assert not drain.on and not drain.drained.is_set() and caplog.messages == []
    admission.going_on = []
    drain.begin(None)
    admission.on_release()
    assert drain.drained.is_set()
    assert caplog.messages == ["draining: nothing new begins", "drained: nothing runs"]
    drain.undo()
    admission.on_release()
    assert caplog.messages[2:] == ["draining is undone: work is taken on again"]
    assert admission.pauses == {"restore"}, "that pause is not over"
