"""A real daemon's log, metrics and health, as an operator sees them."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..http_clients import unix_client
from ..waiting import PATIENCE_S, until
from .daemon import Daemon, run

Line = dict[str, Any]


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    daemon = Daemon(folder, f'metrics = "unix:{folder}/monitor.sock"\nlog = "json"\n')
    daemon.errors = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        daemon.start()
        yield daemon
    finally:
        if daemon.process:
            daemon.stop()
        os.close(daemon.errors)


def lines(daemon: Daemon, **wanted: Any) -> list[Line]:
    events = [json.loads(line) for line in (daemon.folder / "log").read_text().splitlines()]
    return [one for one in events if wanted.items() <= one.items()]


def monitor(daemon: Daemon) -> httpx.Client:
    return unix_client(f"{daemon.folder}/monitor.sock")


def value(text: str, name: str) -> float:
    """The value of a series, by its name and labels as they are written."""
    (sample,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(sample.split()[1])


def test_a_sessions_life_can_be_read_in_the_log_and_in_the_metrics(daemon: Daemon) -> None:
    with daemon.client() as http, monitor(daemon) as inside:
        id = http.post("/session", json={"image": "c", "name": "observed"}).json()["sessionId"]
        run(http, id, {"exec": "head -c 40000000 /dev/zero; exit 7"}, "first")
        text = inside.get("/metrics").text
        series = 'sandboxd_runs_total{limit="",outcome="failure",runtime="c"}'
        assert value(text, series) == 1
        assert value(text, 'sandboxd_sessions{state="idle"}') == 1
        assert value(text, "sandboxd_console_bytes_total") == 40000000
        assert 0 < value(text, "sandboxd_console_cut_bytes_total") < 40000000
        assert value(text, 'sandboxd_warden_request_seconds_count{op="lease"}') == 1
        assert value(text, "sandboxd_warden_resident_memory_bytes") > 1 << 20
        assert value(text, "sandboxd_warden_open_fds") > 3
        assert value(text, "sandboxd_api_process_open_fds") > 3
        assert inside.get("/readyz").json() == {"status": "ok"}
        assert http.delete(f"/session/{id}").status_code == 200
        assert value(inside.get("/metrics").text, 'sandboxd_sessions{state="idle"}') == 0
    acts = [one["act"] for one in lines(daemon, event="audit", session=id)]
    assert acts == ["session.create", "run.execute", "session.delete"]
    (over,) = lines(daemon, event="run.over", session=id)
    assert (over["run"], over["exit"], over["outcome"]) == ("first", 7, "failure")


def test_a_run_that_its_sessions_end_cuts_off_is_over_too(daemon: Daemon) -> None:
    with daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        body = {"mode": "batch", "runId": "cut", "options": {"exec": "sleep 60"}}
        http.post(f"/session/{id}", json=body)
        http.delete(f"/session/{id}")
    (over,) = lines(daemon, event="run.over", session=id)
    assert (over["run"], over["outcome"]) == ("cut", "vanished")


def test_a_warden_that_is_stopped_is_seen_by_health_checks(daemon: Daemon) -> None:
    assert daemon.process
    with monitor(daemon) as inside, daemon.client() as http:
        assert inside.get("/healthz").status_code == 200
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            answer = until(lambda: health(inside, 503))
            assert "no answer" in answer.json()["wrong"]["warden"]
            assert http.get("/readyz").status_code == 503
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        until(lambda: health(inside, 200))


def health(inside: httpx.Client, status: int) -> httpx.Response | None:
    """The response of /healthz, once it has this status."""
    answer = inside.get("/healthz")
    return answer if answer.status_code == status else None


def test_an_api_that_is_killed_leaves_a_line_that_says_so(daemon: Daemon) -> None:
    assert daemon.process
    os.kill(daemon.api, signal.SIGKILL)
    assert daemon.process.wait(PATIENCE_S) == 1
    (line,) = lines(daemon, event="api.ended")
    assert (line["part"], line["level"], line["exit"]) == ("warden", "error", -9)
    assert daemon.process.stdout
    daemon.process.stdout.close()
    daemon.process = None


def test_the_monitor_is_roots_alone_and_goes_with_the_daemon(daemon: Daemon) -> None:
    path = daemon.folder / "monitor.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    daemon.stop()
    assert not path.exists()


def test_an_address_that_was_asked_for_must_be_free_and_the_default_need_not(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = Daemon(folder, f'metrics = "127.0.0.1:{taken.getsockname()[1]}"')
        with pytest.raises(AssertionError, match="exit status 2"):
            daemon.start()
        errors = capfd.readouterr().err
        assert "sandboxd: metrics: 127.0.0.1" in errors and "Address already in use" in errors


def test_lines_for_the_journal_begin_with_their_priority(folder: Path) -> None:
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    status = os.fstat(writing.fileno())
    daemon = Daemon(folder)
    daemon.errors = writing.fileno()
    daemon.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    daemon.start()
    with daemon.client() as http:
        http.post("/folders", json={"name": "in-the-journal", "quota": "16m"})
        http.delete("/folders/in-the-journal")
    daemon.stop()
    writing.close()
    got = b""
    while piece := reading.recv(65536):
        got += piece
    reading.close()
    lines = got.decode().splitlines()
    assert lines and all(line[:3] in ("<3>", "<4>", "<6>") for line in lines)
    assert all("time=" not in line for line in lines)
    assert any("act=folder.delete" in line and "part=api" in line for line in lines)
