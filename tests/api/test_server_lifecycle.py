"""Start and end of the api: the state that survives a restart, and a warden that dies."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
from collections.abc import Callable

import pytest

from ..waiting import PATIENCE_S, until
from .conftest import Server

pytestmark = pytest.mark.slow  # a server for each end


def create(server: Server, name: str) -> str:
    id: str = server.client.post("/session", json={"image": "c", "name": name}).json()["sessionId"]
    return id


def test_warden_hears_that_the_api_is_ready_when_it_accepts_connections(own_server: Server) -> None:
    until((own_server.base / "ready").exists)


def test_sessions_survive_a_restart_and_their_run_numbers_go_on(
    start: Callable[[], Server],
) -> None:
    first = start()
    id = create(first, "kept")
    lost = create(first, "lost")
    first.client.post(f"/session/{id}", json={"mode": "batch"})
    assert first.stop() == 0
    shutil.rmtree(first.base / "1")
    second = start()
    assert second.client.get("/session/kept").json()["sessionId"] == id
    assert second.client.get("/session/lost").status_code == 404
    assert f"session {lost} (lost) is dropped" in second.log()
    second.client.post(f"/session/{id}", json={"mode": "batch", "options": {"exec": "out x"}})
    assert second.client.get("/session/kept").json()["sandbox"]["runs"]["begun"] == 2
    assert second.client.post("/session", json={"image": "c", "name": "lost"}).status_code == 201
    assert second.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_with_exit_status_zero(
    own_server: Server, number: signal.Signals
) -> None:
    own_server.process.send_signal(number)
    assert own_server.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in own_server.log()


def test_running_call_ends_before_the_server_does(own_server: Server) -> None:
    url = f"/session/{create(own_server, 'last')}"
    body = {"mode": "batch", "runId": "r", "options": {"exec": "sleep 60", "live": True}}
    for _ in range(2):
        own_server.client.post(url, json=body)
    threading.Timer(0.3, own_server.process.terminate).start()
    answer = own_server.client.post(url, json=body)
    assert answer.json()["result"]["status"] == "continued"
    assert own_server.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "archive?path=."), ("PUT", "stdin?runId=r"), ("POST", "upload")]
)
def test_upload_that_the_end_of_the_server_breaks_off_is_answered_so(
    own_server: Server, method: str, path: str
) -> None:
    url = f"/session/{create(own_server, 'last')}"
    own_server.client.post(
        url, json={"mode": "batch", "runId": "r", "options": {"exec": "sleep 60", "live": True}}
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(own_server.path)
        kind = "multipart/form-data; boundary=x" if path == "upload" else "application/x-tar"
        head = f"{method} {url}/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        sock.sendall(f"{head}Content-Length: 99999\r\n\r\n".encode())
        own_server.client.get("/")  # the server has the request by now
        own_server.process.terminate()
        response = b"".join(iter(lambda: sock.recv(65536), b""))
    assert response.startswith(b"HTTP/1.1 503"), response
    assert b"application/problem+json" in response
    assert own_server.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in own_server.log()
    assert '"outcome":"failed","status":503' in own_server.log()


def test_api_ends_when_the_warden_dies(own_server: Server) -> None:
    own_server.refuse(die={})
    answer = own_server.client.post("/session", json={"image": "c"})
    kinds = ("/service-unavailable", "/server-frozen")  # the api may be ending already
    assert answer.status_code == 503 and answer.json()["type"].endswith(kinds)
    assert own_server.process.wait(PATIENCE_S) == 0
    assert "the warden is gone" in own_server.log()


def test_warden_that_dies_during_the_start_costs_no_session(start: Callable[[], Server]) -> None:
    first = start()
    id = create(first, "kept")
    first.refuse(die={})
    assert first.stop() == 0
    with pytest.raises(ChildProcessError):
        start()
    first.refuse()
    third = start()
    assert third.client.get(f"/session/{id}").status_code == 200
    assert third.stop() == 0
    assert "Traceback" not in third.log() and "the warden is gone" in third.log()
