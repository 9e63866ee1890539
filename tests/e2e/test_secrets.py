"""Secrets in the environment and the commands of a session are in no file after its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxd.warden.runtime_directory import RUNTIME

from ..waiting import until
from .daemon import Daemon, run

CONFIG = "[scratch]\nsize = 16777216\n"
SECRET = b"correct-horse-battery-%d" % os.getpid()  # RUNTIME is that of all daemons

SESSION = {
    "image": "shell",
    "config": {"environ": {"TOKEN": SECRET.decode()}},
    "bootstrap_script": f": {SECRET.decode()}",
}
OPTIONS: dict[str, Any] = {
    "exec": f"test $TOKEN = {SECRET.decode()}",
    "environ": {"OWN": SECRET.decode()},
}


def files_with(secret: bytes, *tops: Path) -> Iterator[Path]:
    """The files below the directories that have the secret in clear."""
    for top in tops:
        for directory, _, names in os.walk(top):
            for name in names:
                path = Path(directory, name)
                with contextlib.suppress(OSError):  # it has gone
                    if path.is_file() and secret in path.read_bytes():
                        yield path


def files_with_secret(daemon: Daemon) -> set[str]:
    """The files of the state, and of the runtime directory, that have the secret in clear."""
    return {path.name for path in files_with(SECRET, daemon.state, Path(RUNTIME))}


def test_deletion_of_a_session_leaves_its_secrets_in_no_file(
    daemon: Daemon, http: httpx.Client
) -> None:
    session = http.post("/session", json=SESSION).json()["sessionId"]
    assert run(http, session, OPTIONS).exits[-1] == 0
    assert files_with_secret(daemon) <= {"sandboxd.sqlite", "sandboxd.sqlite-wal"}
    assert files_with_secret(daemon), "the test looks where secrets are"
    assert http.delete(f"/session/{session}").status_code == 200
    until(lambda: not files_with_secret(daemon))


def test_expiry_of_a_session_leaves_its_secrets_in_no_file(
    daemon: Daemon, http: httpx.Client
) -> None:
    session = http.post("/session", json=SESSION | {"idleSeconds": 10}).json()["sessionId"]
    assert run(http, session, OPTIONS).exits[-1] == 0
    assert files_with_secret(daemon)
    until(lambda: not files_with_secret(daemon))
    assert http.get(f"/session/{session}").status_code == 404


def test_request_for_a_run_leaves_its_secrets_in_no_file(
    daemon: Daemon, http: httpx.Client
) -> None:
    until(lambda: not files_with_secret(daemon))
    environ = OPTIONS["environ"] | {"TOKEN": SECRET.decode()}
    body = {"image": "shell", "options": OPTIONS | {"environ": environ}}
    answer = http.post("/run", json=body)
    assert answer.status_code == 200, answer.text
    assert files_with_secret(daemon) == set(), "it has no row"


@pytest.mark.parametrize("victim", ["api", "both"])
def test_kill_of_the_daemon_keeps_no_secret_of_an_ended_session(
    daemon: Daemon, victim: str
) -> None:
    with daemon.client() as http:
        session = http.post("/session", json=SESSION).json()["sessionId"]
        assert http.delete(f"/session/{session}").status_code == 200
    daemon.end(victim)
    daemon.start()
    until(lambda: not files_with_secret(daemon))
