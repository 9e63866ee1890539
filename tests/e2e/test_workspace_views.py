"""Workspaces of a daemon that sees the host as its unit and the drop-in let it: ProtectHome=tmpfs,
ProtectSystem=strict, and the paths of [workspaces] opened. tests/vm/workspaces.py has systemd."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..workspaces import USER, directory
from .conftest import passable
from .daemon import SLOTS, Daemon, run, running
from .user_client import client_of

VIEW = """
set -e
mount --make-rslave /
mkdir aside
mount --bind home/builder/builds aside
mount -t tmpfs -o mode=755,nosuid,nodev view home
mkdir -p home/builder/builds
mount --move aside home/builder/builds
mount -o remount,bind,ro home
mount --bind srv srv
mount -o remount,bind,ro srv
mount --bind srv/builds srv/builds
mount -o remount,bind,rw srv/builds
cd "$OLDPWD"
exec "$@"
"""
"""The mounts of systemd below the directory of the test, in its order."""

PATHS = ("home/builder/builds", "home/other", "srv/builds", "srv/closed")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with passable() as folder:
        places = [folder / name for name in PATHS]
        for place in places:
            place.mkdir(parents=True)
        for path in folder.rglob("*"):
            path.chmod(0o755)
        (folder / "home/builder").chmod(0o700)  # the unit does not show the real one
        paths = ", ".join(f'"{place}"' for place in places)
        script = f"cd {shlex.quote(str(folder))}\n{VIEW}"
        prefix = ["unshare", "-m", "sh", "-c", script, "sh"]
        with running(folder, f"[workspaces]\npaths = [{paths}]\n{SLOTS}", prefix) as started:
            yield started


@pytest.fixture
def user(daemon: Daemon) -> Iterator[httpx.Client]:
    with client_of(daemon.folder / "api.sock", USER) as client:
        yield client


def body(path: Path) -> dict[str, object]:
    return {"image": "shell", "config": {"workspace": str(path)}}


@pytest.mark.parametrize("name", ["home/builder/builds", "srv/builds"])
def test_job_works_below_a_path_that_the_drop_in_opens(
    daemon: Daemon, user: httpx.Client, name: str
) -> None:
    checkout = directory(daemon.folder / name)
    created = user.post("/session", json=body(checkout))
    assert created.status_code == 201, created.text
    id = created.json()["sessionId"]
    outcome = run(user, id, {"exec": "echo text > f; stat -c %U:%G f"})
    assert (outcome.exits[-1], outcome.text("stdout")) == (0, "work:work\n")
    status = (checkout / "f").stat()
    assert (status.st_uid, status.st_gid) == (USER.ids.uid, USER.ids.gid)
    assert user.delete(f"/session/{id}").status_code == 200


@pytest.mark.parametrize(
    ("name", "reason"), [("home/other", "does not exist"), ("srv/closed", "is read-only")]
)
def test_path_that_no_drop_in_opens_is_refused_with_the_remedy(
    daemon: Daemon, user: httpx.Client, name: str, reason: str
) -> None:
    refusal = user.post("/session", json=body(directory(daemon.folder / name)))
    assert refusal.status_code == 400
    assert reason in refusal.text and "scripts/install" in refusal.text
