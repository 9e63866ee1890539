"""Keypairs with a real daemon: made before and beside it, over the network and the socket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ..http_clients import GUARD_S, network_client, unix_client
from ..signing import Signed
from .daemon import ROOT, Daemon, run
from .own_leaks import first_uid, leaks
from .test_secrets import files_with


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Not started yet."""
    for path in (tmp_path, *tmp_path.parents):
        if "pytest-" in str(path):
            path.chmod(0o711)
    before = leaks()
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.process:
        assert daemon.stop() == 0
    assert leaks() <= before


def keypair(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "keypair", *args, "--state-dir", daemon.state],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=GUARD_S,
    )


def create(daemon: Daemon, *args: str) -> Signed:
    pair = json.loads(keypair(daemon, "create", "--json", *args).stdout)
    return Signed(pair["access_key"], pair["secret_key"])


@contextmanager
def client(daemon: Daemon, auth: Signed | None) -> Iterator[httpx.Client]:
    with network_client(daemon.url, auth=auth) as http:
        yield http


def test_a_key_of_before_the_start_signs_a_whole_run_and_owns_it_after_a_restart(
    daemon: Daemon, capfd: pytest.CaptureFixture[str]
) -> None:
    auth = create(daemon)
    daemon.start("--auth", "keypair")
    assert "keypair create" not in capfd.readouterr().err
    with client(daemon, auth) as http:
        assert http.post("/session", json={"image": "c", "name": "mine"}).status_code == 201
        files = {"src": ("dir%2Fa.txt", b"text")}
        assert http.post("/session/mine/upload", files=files).status_code == 204
        assert run(http, "mine", {"exec": "cat dir/a.txt; exit 3"}).text("stdout") == "text"
    assert daemon.stop() == 0
    daemon.start("--auth", "keypair")
    with client(daemon, auth) as http:
        listed = http.request("GET", "/session/mine/files", json={"path": "dir"}).json()
        assert "a.txt" in listed["files"]
    refused = keypair(daemon, "delete", auth.access_key)
    assert refused.returncode == 2 and "owns 1 sessions" in refused.stderr
    with client(daemon, auth) as http:
        assert http.delete("/session/mine").status_code == 200
    assert keypair(daemon, "delete", auth.access_key).returncode == 0
    with client(daemon, auth) as http:
        assert http.get("/session/mine").status_code == 401


def test_without_keys_the_network_is_closed_until_there_is_one(
    daemon: Daemon, capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.start("--auth", "keypair")
    assert f"sandboxd keypair create --state-dir {daemon.state}" in capfd.readouterr().err
    with client(daemon, None) as http:
        assert http.get("/").status_code == 200
        assert http.post("/session", json={"image": "c"}).status_code == 401
    auth = create(daemon)
    with client(daemon, auth) as http:
        assert http.get("/session/none").status_code == 404
        assert keypair(daemon, "disable", auth.access_key).returncode == 0
        assert http.get("/session/none").status_code == 401
        assert keypair(daemon, "enable", auth.access_key).returncode == 0
        assert http.get("/session/none").status_code == 404


def test_root_at_the_socket_needs_no_key_and_acts_for_all(daemon: Daemon) -> None:
    daemon.start("--auth", "keypair")
    auth = create(daemon)
    with client(daemon, auth) as http:
        http.post("/session", json={"image": "c", "name": "theirs"})
    with unix_client(f"{daemon.folder}/api.sock") as root:
        assert root.get("/session/theirs").status_code == 404
        named = {"owner_access_key": auth.access_key}
        assert root.get("/session/theirs", params=named).status_code == 200
        assert root.delete("/session/theirs", params=named).status_code == 200


def test_secrets_are_in_no_file_but_the_apis_own(daemon: Daemon) -> None:
    daemon.start("--auth", "keypair")
    auth = create(daemon)
    with client(daemon, auth) as http:
        assert http.get("/session/none").status_code == 404
    holding = list(files_with(auth.secret_key.encode(), daemon.folder))
    assert holding and all(path.parent == daemon.state / "api" for path in holding)
    for path in holding:
        assert path.stat().st_mode & 0o077 == 0 and path.stat().st_uid == first_uid() - 1
