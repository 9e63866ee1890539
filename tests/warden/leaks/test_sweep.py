"""A sweep tells of what is a stray when it judges, not of what was there when it looked."""

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

SEEN = asdict(Survey(directories=[SlotDirectory(3, "", 0.0)], groups={"3.1": 0.0}))


class Later(BackgroundJobs):
    """Chores that are done when the test says what they found."""

    def begin(self, name: str, work: Any, done: Callable[[Any], None], keep: Any) -> None:
        """Keep what is to be called."""
        self.done = done


@pytest.mark.parametrize("there", [True, False])
def test_what_has_gone_since_the_survey_is_no_stray(tmp_path: Path, there: bool) -> None:
    groups = {"3.1": Group({"pids": f"{tmp_path}/3.1"})} if there else {}
    if there:
        (tmp_path / "slots" / "3").mkdir(parents=True)
    host = LeaseView(
        str(tmp_path), lambda: Expected(1, 9), lambda: groups, lambda _: None,
        lambda: frozenset({3}), lambda: None,
    )  # fmt: skip
    chores, reports = Later(), list[list[str]]()
    sweep = Sweep(host, chores)

    def reply(report: int | None) -> None:
        assert report is not None
        told = json.loads(os.pread(report, 1 << 20, 0))
        reports.append([stray["kind"] for stray in told["strays"]])

    sweep.ask(reply)
    chores.done(SEEN)
    if there:  # the repair of the directory
        chores.done(None)
    assert reports == [["cgroup", "directory"] if there else []]


@pytest.mark.parametrize("there", [True, False])
def test_report_does_not_tell_of_what_was_deleted_since_the_survey(
    tmp_path: Path, there: bool
) -> None:
    for name in ("slots/3", "folders/f") if there else ():
        (tmp_path / name).mkdir(parents=True)
    host = LeaseView(
        str(tmp_path), lambda: Expected(1, 9), dict, lambda _: None, frozenset, lambda: None,
    )  # fmt: skip
    chores, reports = Later(), list[dict[str, Any]]()
    sweep = Sweep(host, chores)

    def reply(report: int | None) -> None:
        assert report is not None
        reports.append(json.loads(os.pread(report, 1 << 20, 0)))

    sweep.ask(reply)
    chores.done(asdict(Survey(directories=[SlotDirectory(3, "a session", 0.0)], folders=["f"])))
    (told,) = reports
    assert [one["number"] for one in told["kept"]] == ([3] if there else [])
    assert told["folders"] == (["f"] if there else [])
