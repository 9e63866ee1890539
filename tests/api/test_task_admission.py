"""Admission of tasks over HTTP: a run waits for the tasks that others have, or can never begin."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxd.host.tasks import TaskMeter

from .bad_requests import assert_problem
from .test_admission import BUSY, Start, begin, call, create, to_end

pytestmark = pytest.mark.slow  # a server with many runs for each case


def tables(all: int, one_owner: int = 0) -> dict[str, Any]:
    """A configuration that promises about so many tasks in all, and to one owner."""
    free = TaskMeter.of_daemon().measure().free
    share = {"tasks": all / free, "owner": {"tasks": (one_owner or all) / free}}
    return {"admission": share}


def batch(pids: int) -> dict[str, Any]:
    limits = {"exec": {"pids": pids}}
    return {"mode": "batch", "runId": "r", "options": {"exec": BUSY, "limits": limits}}


def test_run_that_fits_beside_no_other_waits_for_its_tasks(start: Start) -> None:
    http = start(tables(1000)).client
    first, second = create(http), create(http)
    assert "queue" not in call(http, first, "batch", "a", exec=BUSY, limits={"exec": {"pids": 600}})
    waits = call(http, second, "batch", "b", exec="out b", limits={"exec": {"pids": 600}})
    assert waits["queue"]["position"] == 1 and "tasks, of which" in waits["queue"]["reason"]
    http.post(f"/session/{first}/interrupt")
    assert to_end(http, second, "b")["exitCode"] == 0


def test_nine_runs_of_one_owner_do_not_begin_together_and_another_owner_s_begins(
    start: Start,
) -> None:
    server = start(tables(2600, 1500))
    ann, ben = (server.signed(server.keypair()) for _ in range(2))
    ids = [create(ann) for _ in range(9)]
    for id in ids:
        begin(ann, id, "a", exec=BUSY, limits={"exec": {"pids": 1024}})
    assert sum("queue" in call(ann, id, "continue", "a") for id in ids) == 8
    mine = create(ben)
    files = {"src": ("a.txt", b"text")}
    assert ben.post(f"/session/{mine}/upload", files=files).status_code == 204
    assert to_end(ben, mine, call(ben, mine, "batch", "b", exec="out b")["runId"])["exitCode"] == 0


def test_run_that_can_never_have_its_tasks_is_refused_with_the_most_that_it_can_have(
    start: Start,
) -> None:
    http = start(tables(700)).client
    id = create(http)
    refused = http.post(f"/session/{id}", json=batch(1000))
    assert_problem(refused, 400, "/invalid-api-params")
    (text,) = refused.json()["data"].values()
    assert "this host promises" in text and list(refused.json()["data"]) == ["limits.exec.pids"]
    most = int(text.split()[2].rstrip(":"))
    assert http.post(f"/session/{id}", json=batch(most)).status_code == 200


@pytest.mark.parametrize("more", [{}, {"type": "batch", "startupCommand": BUSY}])
def test_session_whose_runs_could_never_begin_is_refused(
    start: Start, more: dict[str, Any]
) -> None:
    http = start(tables(700)).client
    config = {"resource_opts": {"pids": 1000}}
    refused = http.post("/session", json={"image": "c", "config": config} | more)
    assert_problem(refused, 400, "/invalid-api-params")
    assert "config.resource_opts.pids" in refused.json()["data"]
