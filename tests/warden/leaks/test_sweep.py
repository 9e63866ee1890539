"""The sweep: it reports the leaks of the moment when it judges, not those of the scan before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sandboxd.jail.cgroup import Group
from sandboxd.warden.background import BackgroundJobs
from sandboxd.warden.leaks.rule import Expected, SlotDirectory, Survey
from sandboxd.warden.leaks.sweep import LeaseView, Sweep

SURVEY = asdict(Survey(directories=[SlotDirectory(3, "", 0.0)], groups={"3.1": 0.0}))


class ManualJobs(BackgroundJobs):
    """Background jobs that end when the test gives their result."""

    def begin(self, name: str, work: Any, done: Callable[[Any], None], keep: Any) -> None:
        """Store the function that takes the result."""
        self.finish = done


@pytest.mark.parametrize("there", [True, False])
def test_resource_that_has_gone_since_the_scan_is_no_leak(tmp_path: Path, there: bool) -> None:
    groups = {"3.1": Group({"pids": f"{tmp_path}/3.1"})} if there else {}
    if there:
        (tmp_path / "slots" / "3").mkdir(parents=True)
    warden = LeaseView(
        str(tmp_path), lambda: Expected(1, 9), lambda: groups, lambda _: None,
        lambda: frozenset({3}), lambda: None,
    )  # fmt: skip
    jobs, reports = ManualJobs(), list[list[str]]()
    sweep = Sweep(warden, jobs)

    def reply(report: int | None) -> None:
        assert report is not None
        text = os.pread(report, 1 << 20, 0)
        reports.append([leak["kind"] for leak in json.loads(text)["leaks"]])

    sweep.ask(reply)
    jobs.finish(SURVEY)
    if there:  # the repair of the directory
        jobs.finish(None)
    assert reports == [["cgroup", "directory"] if there else []]


@pytest.mark.parametrize("there", [True, False])
def test_report_leaves_out_directories_that_were_deleted_since_the_scan(
    tmp_path: Path, there: bool
) -> None:
    for name in ("slots/3", "folders/f") if there else ():
        (tmp_path / name).mkdir(parents=True)
    warden = LeaseView(
        str(tmp_path), lambda: Expected(1, 9), dict, lambda _: None, frozenset, lambda: None,
    )  # fmt: skip
    jobs, reports = ManualJobs(), list[dict[str, Any]]()
    sweep = Sweep(warden, jobs)

    def reply(report: int | None) -> None:
        assert report is not None
        reports.append(json.loads(os.pread(report, 1 << 20, 0)))

    sweep.ask(reply)
    jobs.finish(asdict(Survey(directories=[SlotDirectory(3, "a session", 0.0)], folders=["f"])))
    (report,) = reports
    assert [one["number"] for one in report["kept"]] == ([3] if there else [])
    assert report["folders"] == (["f"] if there else [])
