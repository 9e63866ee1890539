"""The check for leaks: the warden's report against the rows, the route, the metric, the log."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any, cast

import httpx
import pytest

from sandboxd.api.operation.leaks import KINDS, Leak, Leaks, leaks
from sandboxd.api.processes.warden_client import WardenClient
from sandboxd.api.telemetry.metrics import Metrics
from sandboxd.store.database import Database
from sandboxd.warden.leaks.rule import Kind

from ..waiting import PATIENCE_S, until
from .conftest import Server
from .test_health import samples, value

KNOWN, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
EMPTY: dict[str, Any] = {"slots": [], "kept": [], "folders": []}


def leaks_of(sessions: set[str], rows: set[str], **report: Any) -> list[tuple[str, str]]:
    every = leaks(EMPTY | report, sessions, rows)
    return [(leak["kind"], leak["done"].partition(":")[0]) for leak in every]


def test_a_leased_slot_without_a_row_of_its_session_is_a_leak() -> None:
    slots = [{"slot": 1, "session": KNOWN}, {"slot": 2, "session": OTHER}]
    assert leaks_of({KNOWN, OTHER}, set(), slots=slots) == []
    (leak,) = leaks(EMPTY | {"slots": slots}, {KNOWN}, set())
    assert (leak["kind"], leak["slot"], leak["session"]) == ("slot", 2, OTHER)


def test_a_directory_of_a_session_without_a_row_is_reported_and_left() -> None:
    directory = [{"number": 3, "session": OTHER, "age_s": 1.0}]
    assert leaks_of({OTHER}, set(), kept=directory) == []
    assert leaks_of({KNOWN}, set(), kept=directory) == [("session", "left")]
    slots = [{"slot": 3, "session": OTHER}]  # leased: told as the slot
    assert leaks_of(set(), set(), kept=directory, slots=slots) == [("slot", "")]


def test_a_folder_without_a_row_is_reported_and_left() -> None:
    assert leaks_of(set(), {KNOWN}, folders=[KNOWN, OTHER]) == [("folder", "left")]


def test_the_metric_of_leaks_has_a_series_for_every_kind() -> None:
    import typing

    assert set(typing.get_args(Kind)) < set(KINDS)


def report_of(server: Server, text: str) -> None:
    """Make this the report of the next sweep. The sweep of the daemon itself may read it at any
    moment, so the file is whole at every moment."""
    new = server.base / "report.new"
    new.write_text(text)
    new.replace(server.base / "report.json")


def test_leaks_are_in_the_response_the_log_and_the_metric(own_server: Server) -> None:
    leak = {"kind": "process", "identity": "pid 7\n[sleep]", "age_s": 4.0, "done": "killed"}
    report = {"leaks": [leak], "folders": [OTHER]}
    report_of(own_server, json.dumps(report))
    answer = own_server.client.get("/admin/leaks").json()
    assert [one["kind"] for one in answer["leaks"]] == ["process", "folder"]
    assert answer["strays"] == answer["leaks"]  # the name of earlier versions
    assert answer["leaks"][0] == leak and answer["recent"][0]["kind"] == "folder"
    lines = [json.loads(line) for line in own_server.log().splitlines()]
    logged = [one for one in lines if one.get("event") == "leak" and one["kind"] == "folder"]
    assert logged[-1]["identity"] == OTHER and logged[-1]["level"] == "warning"
    metrics = samples(own_server)
    assert value(metrics, "leaks", kind="process") == 1 and value(metrics, "leaks", kind="shm") == 0
    assert value(metrics, "leaks_found_total", kind="process", done="killed") >= 1
    report_of(own_server, "{}")
    answer = own_server.client.get("/admin/leaks").json()
    assert answer["leaks"] == [] and answer["recent"]
    assert value(samples(own_server), "leaks", kind="process") == 0


def test_a_slot_that_is_leased_without_a_row_is_released(own_server: Server) -> None:
    slots = [{"slot": 55, "session": OTHER}]
    report_of(own_server, json.dumps({"slots": slots}))
    (leak,) = own_server.client.get("/admin/leaks").json()["leaks"]
    assert (leak["kind"], leak["done"]) == ("slot", "released") and OTHER in leak["identity"]


class _Sweeps:
    """A warden whose sweeps have these reports."""

    def __init__(self, *reports: dict[str, Any]) -> None:
        self.reports = [{"leaks": [], "seconds": 0.1} | EMPTY | report for report in reports]
        self.released = list[tuple[int, str]]()

    async def sweep(self) -> dict[str, Any]:
        return self.reports.pop(0)

    async def release(self, slot: int, session: str) -> None:
        self.released.append((slot, session))


class _Database:
    """A database without a row."""

    async def run(self, _: object) -> tuple[set[str], set[str]]:
        return set(), set()


def checked(warden: _Sweeps) -> list[Leak]:
    checks = Leaks(cast(WardenClient, warden), cast(Database, _Database()), Metrics(), set, 60)
    reported: list[Leak] = asyncio.run(checks.check())["leaks"]
    return reported


def test_session_that_begins_and_ends_during_a_sweep_is_no_leak() -> None:
    """That of a POST /run: it has no row before the sweep, none after it, and a slot in between."""
    seen = {"slots": [{"slot": 1, "session": OTHER}]}
    leaving = {"kept": [{"number": 1, "session": OTHER, "age_s": 1.0}]}
    for first in (seen, leaving):
        warden = _Sweeps(first, {"slots": [{"slot": 1, "session": KNOWN}]})
        assert checked(warden) == [] and warden.released == []


def test_slot_that_two_sweeps_find_is_released_and_what_the_first_one_has_removed_is_reported() -> (
    None
):
    leak = {"kind": "process", "identity": "pid 7", "age_s": 4.0, "done": "killed"}
    seen = {"slots": [{"slot": 1, "session": OTHER}]}
    warden = _Sweeps(seen | {"leaks": [leak]}, seen)
    assert [one["kind"] for one in checked(warden)] == ["process", "slot"]
    assert warden.released == [(1, OTHER)]


def test_shorter_interval_of_a_reload_ends_the_pause_of_this_moment() -> None:
    async def scenario() -> None:
        ready = asyncio.Event()
        ready.set()
        warden = _Sweeps({}, {})
        database = cast(Database, _Database())
        checks = Leaks(cast(WardenClient, warden), database, Metrics(), set, every_s=1e9)
        watch = asyncio.create_task(checks.watch(ready))
        while len(warden.reports) == 2:
            await asyncio.sleep(0)
        for _ in range(9):
            await asyncio.sleep(0)
        assert len(warden.reports) == 1, "the pause is long"
        checks.renew(1e-9)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(IndexError):  # no report is left
                await watch

    asyncio.run(scenario())


def test_a_live_session_is_no_leak(server: Server, session: str) -> None:
    answer = server.client.get("/admin/leaks").json()
    assert answer["leaks"] == []
    assert session in [slot["session"] for slot in answer["slots"]]


def test_the_report_of_leaks_is_for_admins_only(server: Server) -> None:
    with server.signed(server.keypair()) as http:
        assert http.get("/admin/leaks").status_code == 403
    with server.signed(server.keypair(admin=True)) as http:
        assert http.get("/admin/leaks").status_code == 200
    with server.signed(None) as http:
        assert http.get("/admin/leaks").status_code == 401


def test_a_sweep_that_fails_is_answered_with_503_without_its_cause(own_server: Server) -> None:
    report_of(own_server, json.dumps({"fault": "the survey has failed"}))
    answer: httpx.Response = own_server.client.get("/admin/leaks")
    assert answer.status_code == 503 and answer.json()["msg"] == "the sweep has failed"
    until(lambda: "the survey has failed" in own_server.log())  # it is logged after the response
