"""`scripts/bench` against real daemons of its own. No test looks at a measured time."""

from __future__ import annotations

import glob
import json
import subprocess
import sys

import pytest

from scripts.benchmark.rows import GOALS

from ..waiting import until
from .daemon import ROOT, environ
from .own_leaks import leaks


def bench(*arguments: str) -> tuple[int, int, str, str]:
    """The pid of the benchmark, its exit status, and its output and errors."""
    command = [sys.executable, "-P", "-X", "utf8", "-m", "scripts.benchmark", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environ(), cwd=ROOT, stdout=pipe, stderr=pipe, text=True
    ) as process:
        output, errors = process.communicate()
        return process.pid, process.returncode, output, errors


@pytest.mark.world
def test_bench_measures_every_goal_of_its_groups_and_leaves_nothing() -> None:
    before = leaks()
    pid, status, output, errors = bench("latency", "--quick", "--json", "-n", "2")
    assert status == 0, errors
    rows = {row["key"]: row for row in json.loads(output)["rows"]}
    for goal in GOALS:
        if goal.group == "latency":
            assert len(rows[goal.key]["times"]) == 2
            assert (rows[goal.key]["met"] is None) == (rows[goal.key]["value"] is None)
    until(lambda: leaks() <= before)  # a daemon of other tests may be at work for a moment
    assert not glob.glob(f"/sys/fs/cgroup/**/bench-of-sandboxd-{pid}-*", recursive=True)


def test_unknown_group_is_refused_with_the_known_ones() -> None:
    _, status, _, errors = bench("latencies")
    assert status == 2
    assert "no group latencies; the groups are latency, throughput" in errors


def test_bench_that_is_ended_ends_its_daemons_and_leaves_nothing() -> None:
    before = leaks()
    command = [sys.executable, "-P", "-X", "utf8", "-m", "scripts.benchmark", "rest"]
    with subprocess.Popen(command, env=environ(), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        group = f"/sys/fs/cgroup/**/bench-of-sandboxd-{process.pid}-0"
        until(lambda: glob.glob(f"{group}/*/", recursive=True))  # the daemon groups its runs
        process.terminate()
    until(lambda: leaks() <= before)  # a daemon of other tests may be at work for a moment
    assert not glob.glob(group, recursive=True)
