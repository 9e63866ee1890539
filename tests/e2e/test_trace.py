"""The trace of a process of the daemon that a fault ends: for the operator alone."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..processes import descendants
from ..waiting import PATIENCE_S, until
from .daemon import Daemon, slots_in_use

FAULTS = [signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT]

TRACE = ("Fatal Python error", "most recent call first", 'File "', "Extension modules")


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    daemon = Daemon(folder, 'log = "json"\n')
    daemon.errors = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.purge()
        daemon.stop()
        os.close(daemon.errors)


def log(daemon: Daemon) -> str:
    return (daemon.folder / "log").read_text()


def events(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log(daemon).splitlines()]
    return [line for line in lines if line.get("event") == name]


def wait_for_end(daemon: Daemon) -> int:
    """The exit status of a daemon that ends by itself."""
    assert daemon.process and daemon.process.stdout
    status = daemon.process.wait(PATIENCE_S)
    daemon.process.stdout.close()
    daemon.process = None
    return status


@pytest.mark.parametrize("number", FAULTS, ids=lambda number: number.name)
def test_fault_of_the_api_is_in_the_log_with_what_each_thread_did(
    daemon: Daemon, number: signal.Signals
) -> None:
    with daemon.client() as http:
        assert http.get("/healthz").status_code == 200
    os.kill(daemon.api, number)
    assert wait_for_end(daemon) == 1
    (end,) = events(daemon, "api.ended")
    assert (end["part"], end["level"]) == ("warden", "error")
    assert (end["exit"], end["signal"]) == (-number, number.name)
    stacks = [line["stack"] for line in events(daemon, "api.crashed")]
    assert stacks[0].startswith("Fatal Python error: ")
    (current,) = (stack for stack in stacks if stack.startswith("Current thread"))
    # The request that was just answered may still be ending, and a trace shows 100 frames at most.
    assert "sandboxd/api/" in current
    assert any("httptools" in stack for stack in stacks)


def test_end_of_the_api_that_is_no_fault_has_no_trace(daemon: Daemon) -> None:
    os.kill(daemon.api, signal.SIGKILL)
    assert wait_for_end(daemon) == 1
    assert len(events(daemon, "api.ended")) == 1
    assert events(daemon, "api.crashed") == []


def test_client_that_waits_sees_nothing_of_the_fault(daemon: Daemon) -> None:
    with daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        call = {"mode": "batch", "code": "", "runId": "r", "options": {"exec": "sleep 60"}}
        assert http.post(f"/session/{id}", json=call).status_code == 200
        body = json.dumps(call | {"mode": "continue"}).encode()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(f"{daemon.folder}/api.sock")
            head = f"POST /session/{id} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n"
            sock.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            # A second request on another connection is answered after the first one was read.
            assert http.get(f"/session/{id}").status_code == 200
            os.kill(daemon.api, signal.SIGSEGV)
            answer = b""
            while piece := _receive(sock):
                answer += piece
        assert wait_for_end(daemon) == 1
        assert events(daemon, "api.crashed") != []
        assert [word for word in TRACE if word.encode() in answer] == []
    daemon.start()
    with daemon.client() as http:
        logs = http.get(f"/session/{id}/logs").text
        answer = http.post(f"/session/{id}", json=call | {"mode": "continue"}).content
        assert [word for word in TRACE if word in logs or word.encode() in answer] == []


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""


def test_fault_of_the_warden_is_on_standard_error(daemon: Daemon) -> None:
    assert daemon.process
    os.kill(daemon.process.pid, signal.SIGABRT)  # as the watchdog does
    assert wait_for_end(daemon) == -signal.SIGABRT
    text = log(daemon)
    assert "Fatal Python error: Aborted" in text
    assert "sandboxd/warden/loop.py" in text


def test_fault_of_a_shim_is_an_event_that_names_the_run(daemon: Daemon) -> None:
    with daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        options = {"exec": "echo begun; sleep 60"}
        call = {"mode": "batch", "code": "", "runId": "r", "options": options}
        result = http.post(f"/session/{id}", json=call).json()["result"]
        while not result["console"]:  # it runs, so its shim is in the jail
            call["mode"] = "continue"
            result = http.post(f"/session/{id}", json=call).json()["result"]
        assert daemon.process
        (shim,) = descendants(daemon.process.pid, "sandboxd: shim")
        os.kill(shim, signal.SIGSEGV)
        crashes = until(lambda: events(daemon, "child.crashed"))
        (slot,) = slots_in_use(daemon.state)
        fields = ("slot", "run", "signal")
        crashed = [tuple(line[name] for name in fields) for line in crashes]
        assert crashed == [(int(slot), 1, "SIGSEGV")]
        assert "Fatal Python error" not in log(daemon)  # in the jail its standard error is none
        answer = http.post(f"/session/{id}", json=call | {"mode": "continue"}).text
        assert [word for word in TRACE if word in answer] == []
