"""The bound on the open files of a run in a real daemon: `nofile` is lowered, with words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from .daemon import Daemon, run

CONFIG = "run_files = 20000\n"
WANTED = {"exec": {"pids": 100, "nofile": 4096}}


def test_run_of_many_processes_is_lowered_and_says_so(
    http: httpx.Client, session: Callable[..., str]
) -> None:
    outcome = run(http, session(), {"exec": "ulimit -n", "limits": WANTED})
    assert outcome.text("stdout") == "200\n"
    assert "nofile was lowered from 4096 to 200" in outcome.text("log")
    (last,) = (result for result in outcome.results if result["status"] == "finished")
    assert last["clamped"] == ["exec.nofile"]


def test_run_of_few_processes_is_not_lowered(
    http: httpx.Client, session: Callable[..., str]
) -> None:
    limits = {"exec": {"pids": 4, "nofile": 4096}}
    outcome = run(http, session(), {"exec": "ulimit -n", "limits": limits})
    assert outcome.text("stdout") == "4096\n"


def test_bound_is_half_of_what_the_kernel_allows_where_nothing_is_configured(
    folder: Path,
) -> None:
    daemon = Daemon(folder)
    daemon.start()
    most = int(Path("/proc/sys/fs/file-max").read_text()) // 2
    with daemon.client() as http:
        id = http.post("/session", json={"image": "c"}).json()["sessionId"]
        limits = {"exec": {"pids": 1000, "nofile": 60000}}
        outcome = run(http, id, {"exec": "ulimit -n", "limits": limits})
        assert int(outcome.text("stdout")) == min(60000, most // 1000)
        http.delete(f"/session/{id}")
    assert daemon.stop() == 0
