"""The bounds of the network of runs: connections, bytes, silence; and the bounds of the broker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..waiting import until
from .daemon import Daemon
from .network_world import World, client, run, world
from .test_network import RAW, broker_of, python

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")


@pytest.fixture(scope="module")
def network() -> Iterator[World]:
    with world() as one:
        (one.www / "hello").write_text("hello\n")
        yield one


@pytest.fixture(scope="module")
def daemon(network: World) -> Iterator[Daemon]:
    with network.daemon() as one:
        yield one


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with client(daemon) as one:
        yield one


def test_bytes_of_a_day_end(http: httpx.Client) -> None:
    command = "curl -sS http://index.example/-/endless | wc -c; curl -sS http://index.example/hello"
    result = run(http, "small", command)
    assert "transfer closed" in result.out or "Recv failure" in result.out
    assert "the bytes of this day are used up" in result.out
    assert "used up" in result.log[0]


def test_silent_connection_is_closed(http: httpx.Client) -> None:
    head = b"POST http://index.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    result = python(http, f"ask({head!r})", "small")
    assert "HTTP/1.1 504 " in result.out


def test_thousand_connections_wait_for_their_turn(http: httpx.Client, daemon: Daemon) -> None:
    program = """
held = [socket.create_connection(("127.0.0.1", PORT), 20) for _ in range(300)]
print("held", flush=True)
sys.stdin.readline()
for sock in held:
    sock.close()
ask(b"GET http://index.example/hello HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
"""
    created = http.post("/session", json={"image": "python", "config": {"network": "small"}})
    session = created.json()["sessionId"]
    try:
        files = {"src": ("main.py", RAW + program)}
        assert http.post(f"/session/{session}/upload", files=files).status_code < 300
        body = {"mode": "batch", "runId": "a", "options": {"exec": "python3 main.py"}}
        answers: list[dict[str, Any]] = []

        def asks() -> bool:
            answers.append(http.post(f"/session/{session}", json=body).json()["result"])
            body["mode"] = "continue"
            return bool(answers[-1]["status"] == "waiting-input")

        until(asks)
        broker = until(lambda: broker_of(daemon))
        links = [os.readlink(fd) for fd in Path(f"/proc/{broker}/fd").iterdir()]
        assert sum(link.startswith("socket:") for link in links) < 30
        other = run(http, "packages", "curl -sS http://index.example/hello")
        assert other.out == "hello\n"
        result = http.post(
            f"/session/{session}", json={"mode": "input", "runId": "a", "code": "\n"}
        )
        until(lambda: "hello" in str(answers) or _ask(http, session, answers))
        assert result.status_code == 200
    finally:
        http.delete(f"/session/{session}")


def _ask(http: httpx.Client, session: str, answers: list[dict[str, Any]]) -> bool:
    body = {"mode": "continue", "runId": "a"}
    answers.append(http.post(f"/session/{session}", json=body).json()["result"])
    return "hello" in str(answers[-1])


def test_broker_has_no_rights_and_sees_no_state(daemon: Daemon) -> None:
    broker = until(lambda: broker_of(daemon))
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{broker}/status").read_text().splitlines()
        if ":\t" in line
    )  # fmt: skip
    assert len(set(status["Uid"].split())) == 1 and status["Uid"].split()[0] != "0"
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {int(status[one], 16) for one in sets} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert set(os.listdir(f"/proc/{broker}/root{daemon.state}")) <= {"view"}
    mounts = Path(f"/proc/{broker}/mounts").read_text()
    assert f"{daemon.state}/slots" not in mounts
    groups = Path(f"/proc/{broker}/cgroup").read_text()
    assert "/broker\n" in groups


def test_broker_has_no_descriptor_of_a_run_that_is_over(http: httpx.Client, daemon: Daemon) -> None:
    broker = until(lambda: broker_of(daemon))
    before = len(os.listdir(f"/proc/{broker}/fd"))
    result = run(http, "packages", "curl -sS http://index.example/hello")
    assert result.out == "hello\n"
    until(lambda: len(os.listdir(f"/proc/{broker}/fd")) <= before)
