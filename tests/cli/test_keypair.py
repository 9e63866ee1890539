"""`sandboxd keypair` as an operator uses it, before there is a daemon."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state() -> Iterator[Path]:
    """Where the api's uid can come to. Not below tmp_path: every pytest that begins on this host
    closes the directory above that to all but root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder, "state")


def keypair(state: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "keypair", *args, "--state-dir", str(state)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )


def create(state: Path, *args: str) -> dict[str, object]:
    done = keypair(state, "create", "--json", *args)
    assert done.returncode == 0, done.stderr
    entry: dict[str, object] = json.loads(done.stdout)
    return entry


def listed(state: Path) -> dict[str, dict[str, object]]:
    entries = json.loads(keypair(state, "list", "--json").stdout)
    return {entry["access_key"]: entry for entry in entries}


def test_a_keypair_is_shown_once_and_kept_where_only_the_api_can_read(state: Path) -> None:
    entry = create(state)
    assert set(entry) == {"access_key", "secret_key", "is_admin"}
    assert entry["is_admin"] is False
    assert re.fullmatch("AK[A-Z0-9]{18}", str(entry["access_key"]))
    shown = keypair(state, "list").stdout + keypair(state, "list", "--json").stdout
    assert str(entry["access_key"]) in shown and str(entry["secret_key"]) not in shown
    for path in (state / "api").iterdir():
        status = path.stat()
        assert status.st_uid != 0 and stat.S_IMODE(status.st_mode) == 0o600
    folder = (state / "api").stat()
    assert stat.S_IMODE(folder.st_mode) == 0o700 and folder.st_uid != 0


def test_admins_and_limits_are_made_on_demand_and_listed(state: Path) -> None:
    admin, user = create(state, "--admin"), create(state, "--rate-limit", "7")
    assert admin["is_admin"] is True
    entries = listed(state)
    assert entries[str(admin["access_key"])]["is_admin"] is True
    assert entries[str(user["access_key"])]["rate_limit"] == 7
    text = keypair(state, "create").stdout
    assert re.fullmatch(r"access key  AK\w{18}\nsecret key  \w{40}\n", text)
    lines = keypair(state, "list").stdout.splitlines()
    assert len(lines) == 4 and "admin" in lines[1] and "never" in lines[1]


def test_a_keypair_can_be_switched_off_and_on_and_deleted(state: Path) -> None:
    key = str(create(state)["access_key"])
    assert keypair(state, "disable", key).returncode == 0
    assert listed(state)[key]["is_active"] is False
    assert "disabled" in keypair(state, "list").stdout
    assert keypair(state, "enable", key).returncode == 0
    assert listed(state)[key]["is_active"] is True
    assert keypair(state, "delete", key).returncode == 0
    assert listed(state) == {}


def test_a_keypair_that_owns_a_folder_is_deleted_by_force_only(state: Path) -> None:
    key = str(create(state)["access_key"])
    connection = sqlite3.connect(state / "api" / "sandboxd.sqlite", isolation_level=None)
    connection.execute(
        "INSERT INTO folders VALUES ('1', 'data', ?, 1, 'rw', 'general', 0, 1.0, 'READY')", (key,)
    )
    connection.close()
    refused = keypair(state, "delete", key)
    assert refused.returncode == 2
    assert "0 sessions and 1 folders" in refused.stderr and "--force" in refused.stderr
    assert key in listed(state)
    assert keypair(state, "delete", "--force", key).returncode == 0
    assert listed(state) == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "required"),
        (["make"], "invalid choice"),
        (["disable"], "required"),
        (["disable", "AKX"], "sandboxd keypair list"),
        (["delete", "AKX"], "sandboxd keypair list"),
        (["create", "--rate-limit", "0"], "1 or more"),
        (["create", "--config", "/nowhere.toml"], "No such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(state: Path, args: list[str], message: str) -> None:
    create(state)
    done = keypair(state, *args) if args else _bare(state)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


def _bare(state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "keypair"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_only_create_makes_a_state_directory(state: Path) -> None:
    done = keypair(state, "list")
    assert done.returncode == 2 and "--state-dir" in done.stderr
    assert not state.exists()


def test_a_link_in_place_of_the_database_is_not_followed_with_roots_rights(state: Path) -> None:
    """A database where nobody but root may write stays as it is."""
    create(state)
    database = state / "api" / "sandboxd.sqlite"
    roots = state / "of-root.sqlite"
    roots.touch(0o600)
    database.rename(state / "api" / "away")
    os.symlink(roots, database)
    done = keypair(state, "create")
    assert done.returncode == 2 and f"{database} is a link" in done.stderr
    assert roots.read_bytes() == b"" and roots.stat().st_uid == 0
