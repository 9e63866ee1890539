"""What the warden reports, compared with the rows: the rule, the route, the metric, the log."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx

from sandboxd.api.operation.leaks import KINDS, leaks
from sandboxd.warden.leaks.rule import Kind

from .conftest import Server
from .test_health import samples, value

KNOWN, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
EMPTY: dict[str, Any] = {"slots": [], "kept": [], "folders": []}


def found(sessions: set[str], rows: set[str], **report: Any) -> list[tuple[str, str]]:
    told = leaks(EMPTY | report, sessions, rows)
    return [(stray["kind"], stray["done"].partition(":")[0]) for stray in told]


def test_a_slot_is_a_stray_when_there_is_no_row_of_its_session() -> None:
    slots = [{"slot": 1, "session": KNOWN}, {"slot": 2, "session": OTHER}]
    assert found({KNOWN, OTHER}, set(), slots=slots) == []
    (stray,) = leaks(EMPTY | {"slots": slots}, {KNOWN}, set())
    assert (stray["kind"], stray["slot"], stray["session"]) == ("slot", 2, OTHER)


def test_a_directory_that_is_kept_for_a_session_without_a_row_is_named_and_left() -> None:
    kept = [{"number": 3, "session": OTHER, "age_s": 1.0}]
    assert found({OTHER}, set(), kept=kept) == []
    assert found({KNOWN}, set(), kept=kept) == [("session", "left")]
    slots = [{"slot": 3, "session": OTHER}]  # leased: told as the slot
    assert found(set(), set(), kept=kept, slots=slots) == [("slot", "")]


def test_a_folder_without_a_row_is_named_and_left() -> None:
    assert found(set(), {KNOWN}, folders=[KNOWN, OTHER]) == [("folder", "left")]


def test_the_metric_has_a_series_for_every_kind_there_is() -> None:
    import typing

    assert set(typing.get_args(Kind)) < set(KINDS)


def test_strays_are_told_in_the_answer_the_log_and_the_metric(own_server: Server) -> None:
    stray = {"kind": "process", "identity": "pid 7\n[sleep]", "age_s": 4.0, "done": "killed"}
    report = {"strays": [stray], "folders": [OTHER]}
    (own_server.base / "report.json").write_text(json.dumps(report))
    told = own_server.client.get("/admin/leaks").json()
    assert [one["kind"] for one in told["strays"]] == ["process", "folder"]
    assert told["strays"][0] == stray and told["recent"][0]["kind"] == "folder"
    lines = [json.loads(line) for line in own_server.log().splitlines()]
    told_of = [one for one in lines if one.get("event") == "stray" and one["kind"] == "folder"]
    assert told_of[-1]["identity"] == OTHER and told_of[-1]["level"] == "warning"
    metrics = samples(own_server)
    assert value(metrics, "leaks", kind="process") == 1 and value(metrics, "leaks", kind="shm") == 0
    assert value(metrics, "leaks_found_total", kind="process", done="killed") >= 1
    (own_server.base / "report.json").write_text("{}")
    told = own_server.client.get("/admin/leaks").json()
    assert told["strays"] == [] and told["recent"]
    assert value(samples(own_server), "leaks", kind="process") == 0


def test_a_slot_that_is_leased_for_nobody_is_released(own_server: Server) -> None:
    slots = [{"slot": 55, "session": OTHER}]
    (own_server.base / "report.json").write_text(json.dumps({"slots": slots}))
    (stray,) = own_server.client.get("/admin/leaks").json()["strays"]
    assert (stray["kind"], stray["done"]) == ("slot", "released") and OTHER in stray["identity"]


def test_sessions_at_work_are_no_strays(server: Server, session: str) -> None:
    told = server.client.get("/admin/leaks").json()
    assert told["strays"] == []
    assert session in [slot["session"] for slot in told["slots"]]


def test_only_admins_see_the_ledger(server: Server) -> None:
    with server.signed(server.keypair()) as http:
        assert http.get("/admin/leaks").status_code == 403
    with server.signed(server.keypair(admin=True)) as http:
        assert http.get("/admin/leaks").status_code == 200
    with server.signed(None) as http:
        assert http.get("/admin/leaks").status_code == 401


def test_a_warden_that_cannot_look_is_503(own_server: Server) -> None:
    (own_server.base / "report.json").write_text(json.dumps({"fault": "the survey has failed"}))
    answer: httpx.Response = own_server.client.get("/admin/leaks")
    assert answer.status_code == 503 and answer.json()["msg"] == "the sweep has failed"
    assert "the survey has failed" in own_server.log()
