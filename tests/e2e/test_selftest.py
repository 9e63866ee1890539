"""`sandboxd selftest` against a daemon as an operator runs it: all attacks fail, nothing stays."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from sandboxd.selftest.runner import ATTACKS, KINDS

from .daemon import ROOT, Daemon


def selftest(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "selftest", *args],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_every_attack_fails_and_its_session_is_gone(daemon: Daemon, http: httpx.Client) -> None:
    done = selftest("--json", "--socket", f"{daemon.folder}/api.sock")
    found = json.loads(done.stdout)
    not_held = [(one["name"], one["why"]) for one in found["attacks"] if not one["held"]]
    assert not_held == []
    assert (done.returncode, found["held"], found["host_looked_at"]) == (0, len(ATTACKS), True)
    assert http.get("/session/_/match", params={"id": "selftest"}).json()["matches"] == []


def test_a_few_attacks_with_a_private_daemon_are_a_line_each() -> None:
    done = selftest("--only", "capab*", "seen-from-host", "environment", "--socket", "/nonexistent")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[:3]] == [
        ["held", "capabilities"], ["held", "seen-from-host"], ["held", "environment"],
    ]  # fmt: skip
    assert lines[-1].startswith("3 attacks: 3 held, 0 broken, 0 unclear")
    assert "\033" not in done.stdout + done.stderr


def test_list_attacks_nothing() -> None:
    done = selftest("--list", "--kind", "network", "--socket", "/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == sum(a.kind == "network" for a in ATTACKS)


def test_renamed_command_is_still_known_as_audit() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "audit", "--list"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(ATTACKS)


@pytest.mark.parametrize(
    ("args", "said"),
    [(["--kind", "none"], KINDS[0]), (["--only", "none"], "--list"), (["--image", "none"], "none")],
)
def test_mistakes_are_one_line(daemon: Daemon, args: list[str], said: str) -> None:
    done = selftest(*args, "--socket", f"{daemon.folder}/api.sock")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
