"""The command `sandboxd selftest`: all attacks fail, and nothing of them remains."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from sandboxd.protections import KINDS
from sandboxd.selftest.runner import ATTACKS

from .daemon import ROOT, Daemon


def selftest(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "selftest", *args],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=2400,
    )


def test_selftest_against_a_daemon_holds_every_attack_and_deletes_its_sessions(
    daemon: Daemon, http: httpx.Client
) -> None:
    done = selftest("--json", "--socket", f"{daemon.folder}/api.sock")
    report = json.loads(done.stdout)
    not_held = [(one["name"], one["why"]) for one in report["attacks"] if not one["held"]]
    assert not_held == []
    assert (done.returncode, report["held"], report["host_looked_at"]) == (0, len(ATTACKS), True)
    assert http.get("/session/_/match", params={"id": "selftest"}).json()["matches"] == []


def test_selftest_with_a_private_daemon_prints_a_line_for_each_attack() -> None:
    done = selftest("--only", "capab*", "seen-from-host", "environment", "--private")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[:3]] == [
        ["held", "capabilities"], ["held", "seen-from-host"], ["held", "environment"],
    ]  # fmt: skip
    assert lines[-1].startswith("3 attacks: 3 held, 0 broken, 0 unclear")
    assert "\033" not in done.stdout + done.stderr


def test_selftest_list_prints_attacks_and_carries_none_out() -> None:
    done = selftest("--list", "--kind", "network", "--private")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == sum(a.kind == "network" for a in ATTACKS)


def test_selftest_is_still_known_by_its_old_name_audit() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "audit", "--list"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(ATTACKS)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--kind", "none"], next(iter(KINDS))),
        (["--only", "none"], "--list"),
        (["--image", "none"], "none"),
    ],
)
def test_selftest_reports_a_mistake_of_the_caller_in_one_line(
    daemon: Daemon, args: list[str], said: str
) -> None:
    done = selftest(*args, "--socket", f"{daemon.folder}/api.sock")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
