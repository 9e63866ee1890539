"""Limits that were not applied stop the run; nothing weakens silently."""

from __future__ import annotations

import os
from typing import Any

import pytest

from sandboxd.jail.cgroup import Group

from ..sandbox import Sandbox


def test_process_outside_its_group_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Group, "join", lambda group: None)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "cgroup")


@pytest.mark.parametrize("name", ["memory", "pids.max", "cpu"])
def test_limit_that_reads_back_otherwise_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = os.pwrite
    group_write = Group._write

    def deaf(group: Group, file: str, value: str) -> None:
        """The kernel takes the write and keeps its old value."""
        if file.startswith(name):
            monkeypatch.setattr(os, "pwrite", lambda *a: len(a[1]))
        try:
            group_write(group, file, value)
        finally:
            monkeypatch.setattr(os, "pwrite", real)

    monkeypatch.setattr(Group, "_write", deaf)
    result = sandbox.run("echo ran")
    assert result.last["event"] == "fault"
    assert result.last["stage"].startswith(f"cgroup {name}")
    assert result.stdout == ""


def test_limits_of_one_step_do_not_stick_to_the_next(sandbox: Sandbox) -> None:
    grab = "/usr/bin/python3 -c 'x = bytearray(90 << 20)'"
    assert sandbox.run(grab, memory=48 << 20).verdict["limit"] == "memory"
    assert sandbox.run(grab, memory=200 << 20).exit == 0
    assert sandbox.run(grab, memory=48 << 20).verdict["limit"] == "memory"


def test_peaks_are_those_of_the_step(sandbox: Sandbox) -> None:
    grab = "/usr/bin/python3 -c 'x = bytearray(90 << 20)'"
    result = sandbox.run("true", build=grab)
    usage: list[dict[str, Any]] = [event["verdict"]["usage"] for event in result.events]
    assert usage[1]["mem_peak"] > 90 << 20
    if sandbox.requests.hierarchy.base.get("memory"):  # v2 can start its peak anew since 6.12 only
        assert usage[2]["mem_peak"] < 60 << 20
