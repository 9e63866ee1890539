"""The network of runs over restarts: of the broker, of the daemon, and with other profiles."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.shim.broker_socket import PORT

from ...waiting import until
from ..daemon import Daemon
from .programs import broker_of
from .world import PROFILES, World, client, run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")

PROGRAM = f"""
import socket, sys
def get(path):
    with socket.create_connection(("127.0.0.1", {PORT}), 60) as sock:
        sock.sendall(b"GET http://index.example" + path + b" HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer
transfer = socket.create_connection(("127.0.0.1", {PORT}), 60)
transfer.sendall(b"GET http://index.example/-/endless HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
count = len(transfer.recv(65536))
print("begun", flush=True)
for line in sys.stdin:
    print("status", get(b"/hello").split()[1].decode(), flush=True)
try:
    while data := transfer.recv(65536):
        count += len(data)
    print("the transfer has ended")
except OSError:
    print("the transfer was broken off")
"""


class Job:
    """A run in a session that goes on while the test does something."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        config = {"network": "packages"}
        with client(daemon) as http:
            created = http.post("/session", json={"image": "python", "config": config}).json()
            self.session = created["sessionId"]
            http.post(f"/session/{self.session}/upload", files={"src": ("main.py", PROGRAM)})
        self.body: dict[str, Any] = {"mode": "batch", "options": {"exec": "python3 main.py"}}
        self.out = ""

    def wait_for(self, text: str) -> None:
        """Continue until the program has printed `text`."""
        until(lambda: text in self._ask())

    def _ask(self) -> str:
        with client(self.daemon) as http:
            answer = http.post(f"/session/{self.session}", json={"runId": "a"} | self.body)
        result = answer.json()["result"]
        self.out += "".join(data for kind, data in result["console"] if kind != "log")
        self.body = {"mode": "continue"}
        return self.out

    def get(self, count: int) -> None:
        """Have the program make a request, its `count`th one."""
        self.body = {"mode": "input", "code": "\n"}
        until(lambda: self._ask().count("status 200") >= count)


@pytest.fixture
def daemon(network: World) -> Iterator[Daemon]:
    with network.daemon() as one:
        yield one
        with client(one) as http:
            for session in http.get("/admin/session").json().get("sessions", []):
                http.delete(f"/session/{session['id']}")


@pytest.fixture
def job(daemon: Daemon) -> Iterator[Job]:
    one = Job(daemon)
    yield one
    with client(daemon) as http:
        assert http.delete(f"/session/{one.session}").status_code == 200


def test_broker_that_is_killed_costs_the_open_connections_and_nothing_else(job: Job) -> None:
    job.wait_for("begun")
    job.get(1)
    broker = broker_of(job.daemon)
    os.kill(broker, signal.SIGKILL)
    until(lambda: broker_of(job.daemon) not in (0, broker))
    job.get(2)
    job.body = {"mode": "input", "code": "", "options": {"eof": True}}
    job.wait_for("the transfer ")
    assert "ended" in job.out or "broken off" in job.out


@pytest.mark.parametrize("victim", ["both", "warden", "neither"])
def test_run_reaches_its_hosts_through_the_next_daemon(job: Job, victim: str) -> None:
    job.wait_for("begun")
    job.daemon.end(victim)
    job.daemon.start()
    job.get(1)


def test_connection_that_is_made_without_a_broker_waits_for_the_next(job: Job) -> None:
    job.wait_for("begun")
    os.kill(broker_of(job.daemon), signal.SIGKILL)
    job.get(1)


def test_stopped_broker_stops_no_run_and_no_daemon(job: Job) -> None:
    job.wait_for("begun")
    broker = broker_of(job.daemon)
    os.kill(broker, signal.SIGSTOP)
    with client(job.daemon) as http:
        assert run(http, "", "echo here").out == "here\n"
        assert run(http, "packages", "echo there").out == "there\n"
    os.kill(broker, signal.SIGCONT)
    job.get(1)


def test_reload_that_takes_a_host_away_ends_its_connections(daemon: Daemon) -> None:
    assert daemon.process
    job = Job(daemon)
    job.wait_for("begun")
    broker = broker_of(daemon)
    path = Path(daemon.folder, "config.toml")
    before = path.read_text()
    path.write_text(
        before.replace('"index.example:80", "index.example:444"', '"index.example:444"')
    )
    assert path.read_text() != before
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: broker_of(daemon) not in (0, broker))
    job.body = {"mode": "input", "code": "\n"}
    job.wait_for("status 403")
    with client(daemon) as http:
        assert http.delete(f"/session/{job.session}").status_code == 200


def test_reload_without_profiles_ends_the_broker_and_leaves_no_host(daemon: Daemon) -> None:
    assert daemon.process
    with client(daemon) as http:
        reply = http.post("/session", json={"image": "shell", "config": {"network": "packages"}})
        session = reply.json()["sessionId"]
        until(lambda: broker_of(daemon))
        path = Path(daemon.folder, "config.toml")
        path.write_text(path.read_text().replace(PROFILES, ""))
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: broker_of(daemon) == 0)
        nothing = {"profile": "packages", "hosts": []}
        where = f"/session/{session}"
        until(lambda: http.get(where).json()["sandbox"]["network"] == nothing)
        command = "curl -sS --max-time 1 http://index.example/hello; echo over"
        body = {"mode": "batch", "runId": "a", "options": {"exec": command, "wait": 20}}
        result = http.post(f"/session/{session}", json=body).json()["result"]
        out = "".join(data for kind, data in result["console"] if kind != "log")
        assert "hello\n" not in out and "over\n" in out
        assert http.delete(f"/session/{session}").status_code == 200


def test_next_run_of_a_warm_jail_keeps_its_socket(daemon: Daemon) -> None:
    with client(daemon) as http:
        reply = http.post("/session", json={"image": "shell", "config": {"network": "packages"}})
        session = reply.json()["sessionId"]
        for number in range(3):
            options = {"exec": "curl -sS http://index.example/hello", "wait": 20}
            body = {"mode": "batch", "runId": f"r{number}", "options": options}
            result = http.post(f"/session/{session}", json=body).json()["result"]
            assert [data for kind, data in result["console"] if kind == "stdout"] == ["hello\n"]
        assert http.delete(f"/session/{session}").status_code == 200


def test_session_of_before_the_profile_changes_nothing(daemon: Daemon) -> None:
    with client(daemon) as http:
        result = run(http, "", "cat /proc/net/tcp | wc -l; env | grep -c proxy")
        assert result.out == "1\n0\n"
