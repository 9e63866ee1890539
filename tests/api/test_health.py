"""Health checks and the metrics' listener, with a warden that answers, refuses or is gone."""

from __future__ import annotations

import errno
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandboxd.api.operation.health import FRESH_S

from ..http_clients import unix_client
from ..waiting import until
from .conftest import Server

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def monitor(server: Server) -> httpx.Client:
    client = unix_client(f"{server.path}-monitor")
    client.headers["host"] = "127.0.0.1:9464"  # as the configuration says that it is
    return client


def samples(server: Server) -> Samples:
    """The values that Prometheus would read, by name and labels."""
    with monitor(server) as http:
        answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.text))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Samples, name: str, **labels: str) -> float:
    return metrics[f"sandboxd_{name}", tuple(sorted(labels.items()))]


def eventually(what: Callable[[], bool]) -> None:
    until(what)


def test_a_healthy_daemon_answers_health_checks_on_both_listeners_to_everybody(
    server: Server,
) -> None:
    with monitor(server) as inside, server.signed(None) as stranger:
        for http in (inside, stranger, server.client):
            for path in ("/healthz", "/readyz"):
                answer = http.get(path)
                assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_metrics_are_not_on_the_listener_of_the_api(server: Server) -> None:
    with server.signed(None) as stranger:
        for http in (server.client, stranger):
            assert http.get("/metrics").status_code == 404


def test_the_monitor_serves_nothing_of_the_api(server: Server) -> None:
    with monitor(server) as http:
        for path in ("/", "/session/x", "/admin/leaks"):
            assert http.get(path).status_code == 404


def test_a_silent_warden_is_reported_on_both_listeners_and_its_cause_on_the_monitor_only(
    own_server: Server,
) -> None:
    refusal: dict[str, Any] = {"kind": "unavailable", "error": "the warden is asleep"}
    own_server.refuse(ping=refusal)
    with monitor(own_server) as inside:
        eventually(lambda: inside.get("/healthz").status_code == 503)
        for path in ("/healthz", "/readyz"):
            answer = inside.get(path)
            assert answer.status_code == 503
            assert answer.json()["wrong"]["warden"] == "the warden is asleep"
    for path in ("/healthz", "/readyz"):
        answer = own_server.client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
    assert value(samples(own_server), "ready") == 0
    own_server.refuse()
    eventually(lambda: own_server.client.get("/readyz").status_code == 200)
    assert value(samples(own_server), "ready") == 1


def test_a_database_that_cannot_be_written_is_alive_but_not_ready(own_server: Server) -> None:
    assert own_server.client.get("/readyz").status_code == 200
    other = sqlite3.connect(own_server.base / "sandboxd.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # somebody holds the write lock
    try:
        with monitor(own_server) as http:
            eventually(lambda: http.get("/readyz").status_code == 503)
            assert "database" in http.get("/readyz").json()["wrong"]
            assert http.get("/healthz").status_code == 200
    finally:
        other.execute("ROLLBACK")
        other.close()
    eventually(lambda: own_server.client.get("/readyz").status_code == 200)


def test_failing_fork_is_alive_but_not_ready_until_a_fork_succeeds(own_server: Server) -> None:
    (own_server.base / "fork_errno").write_text(str(errno.EAGAIN))
    with monitor(own_server) as http:
        eventually(lambda: http.get("/readyz").status_code == 503)
        assert "no process can be started" in http.get("/readyz").json()["wrong"]["tasks"]
        assert http.get("/healthz").status_code == 200
        metrics = samples(own_server)
        assert value(metrics, "warden_fork_errno") == errno.EAGAIN and not value(metrics, "ready")
        (own_server.base / "fork_errno").write_text("0")
        eventually(lambda: http.get("/readyz").status_code == 200)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM])
def test_files_creations_and_runs_that_meet_a_failing_fork_get_503_with_a_time_to_come_back(
    own_server: Server, code: int
) -> None:
    http = own_server.client
    id = http.post("/session", json={"image": "c"}).json()["sessionId"]
    refusal: dict[str, Any] = {"kind": "stage", "stage": "fork", "error": "no", "errno": code}
    own_server.refuse(files=refusal, lease=refusal, start=refusal)
    batch = {"mode": "batch", "runId": "r", "options": {"exec": "out x"}}
    for answer in (
        http.get(f"/session/{id}/files"),
        http.post(f"/session/{id}/upload", files={"src": ("a", b"b")}),
        http.post("/session", json={"image": "c"}),
        http.post(f"/session/{id}", json=batch),
    ):
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["data"] == {"stage": "fork", "errno": code}


def test_many_health_checks_ask_the_warden_once(server: Server) -> None:
    def pings() -> float:
        return value(samples(server), "warden_request_seconds_count", op="ping")

    before, began = pings(), time.monotonic()
    for _ in range(50):
        server.client.get("/healthz")
    assert pings() - before <= 2 + (time.monotonic() - began) / FRESH_S


def test_requests_are_counted_by_route_and_not_by_path(server: Server, session: str) -> None:
    labels = {"method": "GET", "route": "/session/{ref}", "status": "200"}
    with monitor(server):
        before = samples(server)
    server.client.get(f"/session/{session}")
    server.client.get("/session/there-is-none")
    server.client.put("/session/there-is-none")
    server.client.get("/a/path/that/is/nowhere")
    metrics = samples(server)
    assert value(metrics, "http_requests_total", **labels) >= 1
    nowhere = {"method": "GET", "route": "(none)", "status": "404"}
    assert value(metrics, "http_requests_total", **nowhere) >= 1
    odd = {"method": "PUT", "route": "(none)", "status": "405"}
    assert value(metrics, "http_requests_total", **odd) >= 1
    assert value(metrics, "http_sent_bytes_total") > value(before, "http_sent_bytes_total")
    texts = {label for _, pairs in metrics for _, label in pairs}
    assert session not in texts and not any("nowhere" in text for text in texts)


def test_runs_are_counted_by_outcome_and_runtime(
    server: Server, run: Callable[..., list[dict[str, Any]]]
) -> None:
    labels = {"outcome": "success", "limit": "", "runtime": "c"}
    name = "runs_total"
    before = samples(server).get((f"sandboxd_{name}", tuple(sorted(labels.items()))), 0.0)
    run(exec="out hello")
    metrics = samples(server)
    assert value(metrics, name, **labels) == before + 1
    assert value(metrics, "run_seconds_count", runtime="c") >= 1
    assert value(metrics, "queue_seconds_count") >= 1
    assert value(metrics, "warden_request_seconds_count", op="start") >= 1


def test_every_metric_is_in_the_documentation(server: Server) -> None:
    with monitor(server) as http:
        families = list(text_string_to_metric_families(http.get("/metrics").text))
    names = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    names = {name.removeprefix("sandboxd_") for name in names}
    table = OPERATIONS.read_text().split("| metric, after `sandboxd_` |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert {name for name in names if not name.startswith("api_process_")} - documented == set()


def test_metrics_show_sessions_queues_and_capacity(server: Server, session: str) -> None:
    metrics = samples(server)
    assert value(metrics, "sessions", state="idle") >= 1
    assert value(metrics, "promised_limit", of="sessions") == 1000
    assert value(metrics, "promised", of="disk_bytes") >= 1 << 30
    assert value(metrics, "promised_limit", of="run_tasks") > 0
    assert value(metrics, "queue_length", of="runs") == 0 and value(metrics, "draining") == 0
    assert value(metrics, "limit_ceiling", limit="wall_s") == 3600
    assert value(metrics, "warden_open_fds") == 7
    assert value(metrics, "api_process_resident_memory_bytes") > 1 << 20
    assert value(metrics, "api_process_open_fds") > 3
    assert value(metrics, "disk_free_bytes") > value(metrics, "disk_floor_bytes")
    assert value(metrics, "api_loop_lag_seconds_count") >= 1


def test_requests_over_the_rate_are_counted(server: Server) -> None:
    before = value(samples(server), "http_rate_limited_total")
    with server.signed(server.keypair(rate_limit=2)) as http:
        answers = [http.get("/folders").status_code for _ in range(4)]
    assert answers == [200, 200, 429, 429]
    assert value(samples(server), "http_rate_limited_total") == before + 2


def test_unknown_outcome_or_limit_in_a_journal_is_counted_as_other() -> None:
    from sandboxd.api.telemetry.accounting import _LIMITS, _OUTCOMES, _label

    assert _label("success", _OUTCOMES) == "success" and _label("memory", _LIMITS) == "memory"
    assert _label("x" * 64, _LIMITS) == "other"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.example:9464"},
        {"origin": "http://page.example"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_web_page_that_is_open_on_this_machine_reads_no_metrics(
    server: Server, headers: dict[str, str]
) -> None:
    with monitor(server) as http:
        for path in ("/metrics", "/healthz", "/readyz"):
            assert http.get(path, headers=headers).status_code == 403
            assert http.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_the_monitor_serves_get_requests_only(server: Server, path: str) -> None:
    with monitor(server) as http:
        assert http.post(path).status_code == 405
