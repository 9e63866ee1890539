"""A host with few tasks: an owner with all that admission grants leaves enough for the others, and
a failing fork shows. The daemon is in a cgroup with a bound of its own: the host is never short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxd.host import cgroup_places, cgroupfs

from ..http_clients import unix_client
from ..waiting import until
from .daemon import Daemon, follow, run
from .own_leaks import leaks
from .test_keys import client, create

BOUND = 3000

FORKS = """python3 -c '
import os, signal
count = 0
try:
    while os.fork():
        count += 1
except OSError:
    print(count, "processes", flush=True)
signal.pause()
'"""
"""A program that has as many processes as it may, and goes on."""


@contextmanager
def group(bound: int) -> Iterator[Path]:
    """A cgroup that allows `bound` tasks."""
    points = cgroup_places.mounts()
    controller = "pids" if "pids" in points else ""
    mount = Path(points[controller])
    if not controller:
        cgroupfs.hand_down(str(mount), cgroupfs.V2_CONTROLLERS)
    path = mount / f"tasks-test-{os.getpid()}"
    path.mkdir()
    try:
        (path / "pids.max").write_text(str(bound))
        yield path
    finally:
        until(lambda: _removed(path))


@contextmanager
def inside(path: Path) -> Iterator[None]:
    """Processes that are started meanwhile are in the group."""
    controller = "pids" if "pids" in cgroup_places.mounts() else ""
    before = f"{path.parent}{cgroup_places.paths_of()[controller]}"
    cgroupfs.move(str(path), os.getpid())
    try:
        yield
    finally:
        cgroupfs.move(before, os.getpid())


def _removed(path: Path) -> bool:
    with suppress(OSError):  # the last process is still taken apart
        path.rmdir()
    return not path.exists()


@contextmanager
def bounded(folder: Path, config: str = "") -> Iterator[tuple[Daemon, Path]]:
    """A daemon in such a group."""
    before = leaks()
    with group(BOUND) as path:
        daemon = Daemon(folder, config)
        with inside(path):
            daemon.start("--auth", "keypair")
        try:
            yield daemon, path
        finally:
            assert daemon.stop() == 0
    assert leaks() <= before


def ready(http: httpx.Client) -> dict[str, Any]:
    """The answer of /readyz on the listener of metrics."""
    answer: dict[str, Any] = http.get("/readyz").json()
    return answer


@pytest.mark.slow
def test_nine_sessions_that_want_all_tasks_leave_other_owners_theirs(folder: Path) -> None:
    with bounded(folder) as (daemon, path):
        ann, ben = create(daemon), create(daemon)
        with client(daemon, ann) as greedy, client(daemon, ben) as other:
            ids = [new(greedy, pids=1024) for _ in range(9)]
            call = {"mode": "batch", "runId": "r", "options": {"exec": FORKS}}
            with ThreadPoolExecutor(9) as pool:
                answers = list(pool.map(lambda id: greedy.post(f"/session/{id}", json=call), ids))
            results = [answer.json()["result"] for answer in answers]
            assert sum("queue" in result for result in results) == 8
            assert "one owner may be promised" in str(results)
            until(lambda: int((path / "pids.current").read_text()) > 1024)
            id = new(other)
            files = {"src": ("a.txt", b"text")}
            assert other.post(f"/session/{id}/upload", files=files).status_code == 204
            assert run(other, id, {"exec": "cat a.txt"}).text("stdout") == "text"
            assert int((path / "pids.current").read_text()) < BOUND
            greedy.delete(f"/session/{ids[0]}")
            for session in ids[1:]:  # the next of them begins in its turn
                greedy.delete(f"/session/{session}")
            other.delete(f"/session/{id}")


def new(http: httpx.Client, **limits: int) -> str:
    answer = http.post("/session", json={"image": "c", "config": {"resource_opts": limits}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


def test_failing_fork_is_answered_503_and_readyz_says_so_until_there_is_room(folder: Path) -> None:
    config = f'metrics = "unix:{folder}/metrics.sock"\n[runs]\nprepared = 0\n'
    with (
        unix_client(f"{folder}/metrics.sock") as monitor,
        bounded(folder, config) as (daemon, path),
        client(daemon, create(daemon)) as http,
    ):
        id = new(http)
        assert ready(monitor) == {"status": "ok"}
        (path / "pids.max").write_text("1")
        for answer in (
            http.get(f"/session/{id}/files"),
            http.post(f"/session/{id}/upload", files={"src": ("a", b"b")}),
            http.post(f"/session/{id}", json={"mode": "batch", "options": {"exec": "true"}}),
        ):
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
        until(lambda: "tasks" in ready(monitor).get("wrong", {}))
        assert "no process can be started" in ready(monitor)["wrong"]["tasks"]
        (path / "pids.max").write_text(str(BOUND))
        until(lambda: ready(monitor) == {"status": "ok"})
        call = {"mode": "batch", "options": {"exec": "echo well"}}
        assert follow(http, id, call).text("stdout") == "well\n"
        http.delete(f"/session/{id}")
