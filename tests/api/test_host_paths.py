"""No response names a file of the host: the failures of the warden are in the log only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from ..http_clients import unix_client
from ..waiting import PATIENCE_S
from .conftest import Server
from .test_audit_log import the_line
from .test_events import listening
from .test_pty import sit
from .test_routes import NAME, TABLE, ask
from .test_stream import begin, open_stream, rest

STATE = "/var/lib/sandboxd/slots/7/hidden-state"
PROC = "/proc/4711/hidden-proc"
CGROUP = "/sys/fs/cgroup/memory/hidden-cgroup"
OPT = "/opt/hidden-opt"
HIDDEN = ("hidden", "/var/lib", "/proc/", "/sys/fs", "/opt/")

OPS = (
    "ping", "sweep", "lease", "start", "follow", "forget", "files", "release", "folder_make",
    "folder_files", "folder_remove",
)  # fmt: skip
"""The requests of the warden that a request of a client may lead to."""

FAILURES: dict[str, dict[str, Any]] = {
    "errno": {
        "kind": "stage", "stage": f"mounts {OPT}", "errno": 13,
        "error": f"'{STATE}': Permission denied",
    },
    "no errno": {"kind": "stage", "stage": "cgroup", "error": f"{CGROUP}/memory.max is 5, not 6"},
    "disk": {"kind": "stage", "stage": "image", "errno": 28, "error": f"'{STATE}': No space left"},
    "fault": {"kind": "fault", "error": f"[Errno 2] No such file or directory: '{PROC}'"},
    "unknown": {"kind": "another", "error": f"[Errno 2] No such file or directory: '{PROC}'"},
}  # fmt: skip
"""Refusals of the warden, as its StageErrors and OSErrors become some."""


def assert_hides(text: str) -> None:
    assert not [path for path in HIDDEN if path in text], text


@pytest.fixture(scope="module", params=FAILURES)
def failing(request: pytest.FixtureRequest, start_in_module: Callable[[], Server]) -> Server:
    """A server whose warden refuses everything, from when it has a session and a folder."""
    server = start_in_module()
    for body in ({"image": "c", "name": NAME}, {"image": "c", "name": "taken"}):
        assert server.client.post("/session", json=body).status_code in (200, 201)
    server.client.post("/folders", json={"name": NAME, "quota": "16m"})
    server.refuse(**dict.fromkeys(OPS, FAILURES[request.param]))
    return server


@pytest.fixture(scope="module")
def start_in_module(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], Server]]:
    servers: list[Server] = []

    def start() -> Server:
        servers.append(Server(tmp_path_factory.mktemp("api")))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


ENDLESS = ("/events/session", "/session/{ref}/hold")
LAST = ("DELETE", "PATCH")  # after these there is less to ask for
HTTP_ROUTES = sorted(
    (key for key in TABLE if key[0] != "WEBSOCKET" and key[1] not in ENDLESS),
    key=lambda key: (LAST.index(key[0]) + 1 if key[0] in LAST else 0, key),
)


def test_no_route_names_a_file_of_the_host_when_the_warden_refuses(failing: Server) -> None:
    statuses = set()
    for method, path in HTTP_ROUTES:
        answer = ask(failing.client, method, path.format(ref=NAME, name=NAME), TABLE[method, path])
        statuses.add(answer.status_code)
        assert_hides(answer.text + str(answer.headers))
    assert {503, 200} <= statuses or {507, 200} <= statuses, "some routes ask the warden"


def test_the_log_has_what_the_responses_hide(failing: Server) -> None:
    answer = failing.client.post("/session", json={"image": "c", "name": "refused"})
    assert answer.status_code in (503, 507)
    assert "hidden" in the_line(failing, answer.headers["x-request-id"])["error"]


def test_no_frame_of_a_run_names_a_file_of_the_host(failing: Server) -> None:
    failing.client.post("/session", json={"image": "c", "name": NAME})
    with open_stream(failing, "taken") as websocket:
        begin(websocket, exec="out x")
        frames, _ = rest(websocket)
    assert frames[-1]["exitCode"] == -1 and frames[-1]["console"]
    assert_hides(json.dumps(frames))
    assert_hides(failing.client.get("/session/taken/logs").text)


def test_no_frame_of_a_terminal_names_a_file_of_the_host(failing: Server) -> None:
    frames = []
    with sit(failing, "taken") as websocket:
        try:
            while True:
                frames.append(websocket.recv(timeout=PATIENCE_S))
        except ConnectionClosed as closed:
            assert_hides(str(closed))
    assert any(json.loads(frame)["type"] == "error" for frame in frames)
    assert_hides("".join(map(str, frames)))


def test_no_event_names_a_file_of_the_host(failing: Server) -> None:
    events: list[str] = []
    with listening(failing.client) as lines:
        created = failing.client.post("/session", json={"image": "c", "name": "unborn"})
        assert created.status_code in (503, 507)
        for line in lines:
            events.append(line)
            if line == "event: session_cancelled":
                events.append(next(lines))
                break
    assert_hides("\n".join(events))


def test_a_description_of_a_session_that_could_not_begin_names_no_file_of_the_host(
    failing: Server,
) -> None:
    query = 'query { compute_session_list(limit: 99, offset: 0, status: "TERMINATED") '
    query += "{ items { id status_info } } }"
    assert_hides(failing.client.post("/admin/gql", json={"query": query}).text)


def test_the_listener_for_health_names_no_file_of_the_host(failing: Server) -> None:
    with unix_client(f"{failing.path}-monitor") as monitor:
        monitor.headers["host"] = "127.0.0.1:9464"
        for path in ("/healthz", "/readyz", "/metrics"):
            answer: httpx.Response = monitor.get(path)
            assert_hides(answer.text)
            assert answer.status_code == (200 if path == "/metrics" else 503)
    assert "hidden" in failing.log()
