"""Users of the host at a real daemon: each owns its sessions, root and a group administrate."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ..users import ALICE, BOB, client_of, sandboxd_as
from .conftest import passable
from .daemon import Daemon
from .own_leaks import leaks
from .test_keys import create

MEMBERS, ADMINS = 4_200_010, 4_200_011
"""The gids of the group that may open the socket, and of the group of admins."""

CONFIG = f'admin_groups = ["{ADMINS}"]\n[scratch]\nsize = 16777216\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with keys, a socket for a group, and one for proxies."""
    before = leaks()
    with passable() as folder:
        daemon = Daemon(folder, CONFIG)
        sockets = (f"ci.sock?group={MEMBERS}", f"proxy.sock?auth=keypair&group={MEMBERS}")
        listen = [word for name in sockets for word in ("--listen", f"unix:{folder}/{name}")]
        daemon.start("--auth", "keypair", *listen)
        try:
            yield daemon
        finally:
            assert daemon.stop() == 0
    assert leaks() <= before


@pytest.fixture
def ci(daemon: Daemon) -> str:
    return f"{daemon.folder}/ci.sock"


@pytest.fixture
def project() -> Iterator[str]:
    """A folder that everybody can read."""
    with passable() as folder:
        folder.chmod(0o755)
        (folder / "main.sh").write_text("echo I run\n")
        (folder / "main.sh").chmod(0o644)
        yield str(folder)


def test_socket_of_a_group_is_open_to_its_members_only(daemon: Daemon, ci: str) -> None:
    status = os.stat(ci)
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, MEMBERS)
    with client_of(ci, ALICE, (MEMBERS,)) as member:
        assert member.get("/manager/status").status_code == 200
    for path in (ci, f"{daemon.folder}/api.sock"):
        with client_of(path, BOB) as stranger, pytest.raises(httpx.ConnectError):
            stranger.get("/")


def test_user_runs_a_folder_and_a_second_user_reaches_nothing_of_it(ci: str, project: str) -> None:
    options = ("--image", "shell", "--exec", "sh main.sh", "--socket", ci)
    done = sandboxd_as(ALICE, "run", project, *options, groups=(MEMBERS,))
    assert (done.returncode, done.stdout) == (0, "I run\n"), done.stderr
    with (
        client_of(ci, ALICE, (MEMBERS,)) as alice,
        client_of(ci, BOB, (MEMBERS,)) as bob,
        client_of(ci, BOB, (MEMBERS, ADMINS)) as admin,
    ):
        id = alice.post("/session", json={"image": "shell", "name": "nightly"}).json()["sessionId"]
        run = {"mode": "batch", "options": {"exec": "echo of alice; sleep 60"}}
        assert alice.post(f"/session/{id}", json=run).status_code == 200
        for ref in (id, "nightly"):
            assert bob.get(f"/session/{ref}").status_code == 404
            assert bob.delete(f"/session/{ref}").status_code == 404
            assert bob.get(f"/session/{ref}/logs").status_code == 404
            assert bob.post(f"/session/{ref}/interrupt").status_code == 404
        assert bob.get(f"/session/{id}?owner_access_key=uid:{ALICE}").status_code == 403
        for path in ("/admin/drain", "/admin/leaks", "/admin/guarantees"):
            assert bob.get(path).status_code == 403
            assert admin.get(path).status_code == 200
        assert admin.get(f"/session/{id}?owner_access_key=uid:{ALICE}").status_code == 200
        assert alice.get("/session/nightly").status_code == 200
        assert alice.delete("/session/nightly").status_code == 200


@pytest.mark.parametrize("command", ["drain", "leaks"])
def test_commands_of_admins_are_refused_to_a_user_in_one_line(ci: str, command: str) -> None:
    done = sandboxd_as(ALICE, command, "--socket", ci, groups=(MEMBERS,))
    assert done.returncode == 125 and done.stderr.count("\n") == 1, done.stderr
    assert "only admins" in done.stderr and "admin_groups" in done.stderr
    status = sandboxd_as(ALICE, "drain", "--status", "--socket", ci, groups=(MEMBERS, ADMINS))
    assert status.returncode == 0, status.stderr


def test_users_of_one_group_fill_their_own_share_only(ci: str) -> None:
    with client_of(ci, ALICE, (MEMBERS,)) as alice, client_of(ci, BOB, (MEMBERS,)) as bob:
        ids = [
            each.post("/session", json={"image": "shell", "name": "same-name"}).json()["sessionId"]
            for each in (alice, bob)
        ]
        assert len(set(ids)) == 2
        for each in (alice, bob):
            assert each.get("/manager/status").json()["active_sessions"] == 1
            assert each.delete("/session/same-name").status_code == 200


def test_command_speaks_to_an_endpoint_with_a_keypair_in_the_environment_or_a_file(
    daemon: Daemon, project: str
) -> None:
    pair = create(daemon)
    environ = {"BACKEND_ACCESS_KEY": pair.access_key, "BACKEND_SECRET_KEY": pair.secret_key}
    options = ("run", project, "--image", "shell", "--exec", "sh main.sh", "-q")
    done = sandboxd_as(ALICE, *options, "--socket", daemon.url, environ=environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "I run\n", "")
    file = Path(project, "keys.json")
    file.touch(0o600)
    file.write_text(json.dumps({"access_key": pair.access_key, "secret_key": pair.secret_key}))
    os.chown(file, ALICE, ALICE)
    by_file = {"SANDBOXD_ENDPOINT": daemon.url, "SANDBOXD_KEY_FILE": str(file)}
    done = sandboxd_as(ALICE, *options, "--exclude", "keys.json", environ=by_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "I run\n", "")
    wrong = environ | {"BACKEND_SECRET_KEY": pair.secret_key[::-1]}
    done = sandboxd_as(ALICE, *options, "--socket", daemon.url, environ=wrong)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].count("Signature mismatch") == 1
    assert pair.secret_key not in done.stderr


def test_proxy_at_the_plain_socket_is_refused_and_at_its_own_socket_passes_signatures(
    daemon: Daemon, ci: str
) -> None:
    pair = create(daemon)
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    for path in (ci, f"{daemon.folder}/api.sock"):
        with client_of(path, 0) as proxy:
            answer = proxy.get("/admin/drain", headers=forwarded)
            assert answer.status_code == 403 and "auth=keypair" in answer.json()["msg"]
    with client_of(f"{daemon.folder}/proxy.sock", ALICE, (MEMBERS,)) as proxy:
        assert proxy.get("/manager/status", headers=forwarded).status_code == 401
        assert proxy.get("/manager/status", headers=forwarded, auth=pair).status_code == 200
        assert proxy.get("/admin/drain", headers=forwarded, auth=pair).status_code == 403
    with client_of(f"{daemon.folder}/proxy.sock", 0) as root:
        assert root.get("/admin/drain").status_code == 401, "root signs there, too"


def test_unknown_group_or_option_of_a_socket_is_refused_at_the_start(folder: Path) -> None:
    for options, reason in (
        (f"unix:{folder}/s?group=no-such-group", "this host has no group 'no-such-group'"),
        (f"unix:{folder}/s?auth=none", "'auth=none' is no option"),
        (f"unix:{folder}/s?", "'' is no option"),
    ):
        daemon = Daemon(folder)
        reading, daemon.errors = os.pipe()
        with pytest.raises(AssertionError, match="not ready"), open(reading) as errors:
            try:
                daemon.start("--listen", options)
            finally:
                os.close(daemon.errors)
                assert reason in errors.read()
