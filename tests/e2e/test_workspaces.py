"""Workspaces of a real daemon: for the user whom the kernel names, and for nobody else."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..users import sandboxd_as
from ..workspaces import OTHER, USER, directory, own
from .conftest import passable
from .daemon import SLOTS, Daemon, follow, run, running
from .user_client import client_of

Create = Callable[..., httpx.Response]


def configured(folder: Path) -> str:
    """A configuration with one path of workspaces, which everybody can reach."""
    (folder / "builds").mkdir()
    (folder / "builds").chmod(0o755)
    return f'[workspaces]\npaths = ["{folder}/builds"]\n{SLOTS}'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with passable() as folder, running(folder, configured(folder)) as started:
        yield started


@pytest.fixture
def user(daemon: Daemon) -> Iterator[httpx.Client]:
    with client_of(daemon.folder / "api.sock", USER) as client:
        yield client


@pytest.fixture
def other(daemon: Daemon) -> Iterator[httpx.Client]:
    with client_of(daemon.folder / "api.sock", OTHER) as client:
        yield client


@pytest.fixture
def checkout(daemon: Daemon, request: pytest.FixtureRequest) -> Path:
    return directory(daemon.folder / "builds", f"{abs(hash(request.node.name))}")


def body(path: Path | str, **config: Any) -> dict[str, Any]:
    return {"image": "shell", "config": {"workspace": str(path)} | config}


@pytest.fixture
def created(user: httpx.Client) -> Iterator[Callable[..., str]]:
    """Makes sessions with a workspace, which are deleted after the test."""
    ids: list[str] = []

    def make(path: Path, **config: Any) -> str:
        answer = user.post("/session", json=body(path, **config))
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["sessionId"])
        return ids[-1]

    yield make
    for id in ids:
        assert user.delete(f"/session/{id}").status_code in (200, 404)


def test_job_works_in_the_directory_of_its_user(
    user: httpx.Client, created: Callable[..., str], checkout: Path
) -> None:
    (checkout / "main.sh").write_text("echo built > result; stat -c %U:%G main.sh\n")
    own(checkout / "main.sh")
    id = created(checkout)
    outcome = run(user, id, {"exec": "sh main.sh"})
    assert (outcome.exits[-1], outcome.text("stdout")) == (0, "work:work\n")
    result = (checkout / "result").stat()
    assert (result.st_uid, result.st_gid) == (USER.ids.uid, USER.ids.gid)
    facts = user.get(f"/session/{id}").json()["sandbox"]["workspace"]
    assert facts == {
        "path": str(checkout), "inside": "/home/work", "uid": USER.ids.uid, "gid": USER.ids.gid,
        "bounded": False, "shared": 0,
    }  # fmt: skip


def test_deletion_of_the_session_keeps_the_files(
    user: httpx.Client, created: Callable[..., str], checkout: Path
) -> None:
    id = created(checkout)
    run(user, id, {"exec": "mkdir -p a/b; echo text > a/b/c"})
    assert user.delete(f"/session/{id}").status_code == 200
    assert (checkout / "a/b/c").read_text() == "text\n"


def test_files_are_listed_and_downloaded_under_the_rules_of_paths(
    user: httpx.Client, created: Callable[..., str], checkout: Path
) -> None:
    id = created(checkout)
    run(user, id, {"exec": "echo text > f; ln -s /etc/passwd out; chmod 500 ."})
    listing = user.get(f"/session/{id}/files", params={"path": "/home/work"}).json()
    assert '"filename": "f"' in listing["files"] and '"target": "/etc/passwd"' in listing["files"]
    assert user.get(f"/session/{id}/download_single", params={"file": "f"}).text == "text\n"
    leaving = user.get(f"/session/{id}/download_single", params={"file": "out"})
    assert leaving.status_code == 400
    assert checkout.stat().st_mode & 0o777 == 0o500  # a file call does not open the directory


@pytest.mark.parametrize(
    ("place", "name"), [("", "a.txt"), ("", "d/a.txt"), ("src", "src/a.txt"), ("src", "src/d/a")]
)
def test_upload_into_a_workspace_is_refused_and_changes_nothing(
    user: httpx.Client, created: Callable[..., str], checkout: Path, place: str, name: str
) -> None:
    id = created(checkout, workspace_place=place)
    (checkout / "a.txt").write_text("own")
    answer = user.post(f"/session/{id}/upload", files={"src": (name, b"theirs")})
    assert (answer.status_code, "takes no uploads" in answer.text) == (400, True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 6
        tar.addfile(member, io.BytesIO(b"theirs"))
    answer = user.put(f"/session/{id}/archive", content=packed.getvalue())
    assert (answer.status_code, "takes no uploads" in answer.text) == (400, True)
    assert [path.name for path in checkout.iterdir()] == ["a.txt"]
    assert (checkout / "a.txt").read_text() == "own"


def test_upload_beside_a_workspace_is_served(
    user: httpx.Client, created: Callable[..., str], checkout: Path
) -> None:
    id = created(checkout, workspace_place="/home/work/src")
    answer = user.post(f"/session/{id}/upload", files={"src": ("a.txt", b"x")})
    assert answer.status_code == 204
    assert run(user, id, {"exec": "ls"}).text("stdout").split() == ["a.txt", "src"]
    assert list(checkout.iterdir()) == []


def test_second_session_on_a_workspace_gets_a_warning(
    user: httpx.Client, created: Callable[..., str], checkout: Path
) -> None:
    first = created(checkout)
    inner = directory(checkout, "inner")
    second = created(inner)
    outcome = run(user, second, {"exec": "echo two > f"})
    assert "1 other session(s) use the files of this workspace" in outcome.text("warning") + str(
        outcome.results[0]["console"]
    )
    for id in (first, second):
        facts = user.get(f"/session/{id}").json()["sandbox"]["workspace"]
        assert facts["shared"] == 1
    assert run(user, first, {"exec": "cat inner/f"}).text("stdout") == "two\n"


def test_workspace_over_tcp_behind_a_proxy_or_with_a_signature_is_refused(
    daemon: Daemon, user: httpx.Client, checkout: Path
) -> None:
    with daemon.client() as http:
        refusal = http.post("/session", json=body(checkout))
        assert (refusal.status_code, "not TCP" in refusal.text) == (403, True)
    for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Proto"):
        refusal = user.post("/session", json=body(checkout), headers={name: "10.0.0.1"})
        assert refusal.status_code == 403, name


def test_root_has_no_workspace(daemon: Daemon, root: httpx.Client, checkout: Path) -> None:
    refusal = root.post("/session", json=body(checkout))
    assert (refusal.status_code, "root" in refusal.text) == (400, True)


@pytest.mark.parametrize(
    "path",
    ["{checkout}", "{checkout}/inner", "{checkout}/../{name}", "{builds}", "{builds}/..", "/etc",
     "/proc/self/fd/5", "/proc/self/cwd", "builds", "{checkout}/link", "/", "{builds}/./{name}",
     "{checkout}\0", "//{checkout}"],
)  # fmt: skip
def test_other_user_gets_no_directory_by_any_path(
    other: httpx.Client, daemon: Daemon, checkout: Path, path: str
) -> None:
    directory(checkout, "inner")
    mine = directory(daemon.folder / "builds", f"of-other-{os.urandom(4).hex()}", OTHER)
    (mine / "link").symlink_to(checkout)
    (checkout / "link").symlink_to(mine)
    text = path.format(checkout=checkout, name=checkout.name, builds=daemon.folder / "builds")
    refusal = other.post("/session", json=body(text))
    assert refusal.status_code == 400, refusal.text
    linked = other.post("/session", json=body(mine / "link"))
    assert (linked.status_code, "symbolic link" in linked.text) == (400, True)


def test_place_without_a_workspace_or_of_another_mount_is_refused(
    user: httpx.Client, checkout: Path
) -> None:
    alone = {"image": "shell", "config": {"workspace_place": "src"}}
    assert user.post("/session", json=alone).status_code == 400
    for place in ("../x", "a/b", ".hidden", "/etc"):
        assert user.post("/session", json=body(checkout, workspace_place=place)).status_code == 400


def test_name_of_a_session_with_another_workspace_is_taken(
    user: httpx.Client, created: Callable[..., str], checkout: Path
) -> None:
    name = user.get(f"/session/{created(checkout)}").json()["sessionName"]
    again = user.post("/session", json=body(checkout) | {"name": name})
    assert (again.status_code, again.json()["created"]) == (200, False)
    for other in (body(checkout, workspace_place="src"), {"image": "shell"}):
        refusal = user.post("/session", json=other | {"name": name})
        assert (refusal.status_code, "another workspace" in refusal.text) == (400, True)


def command(
    daemon: Daemon, folder: Path, *args: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`sandboxd ARGS` as the user of the workspace, in `folder`."""
    (daemon.folder / "api.sock").chmod(0o666)
    variables["SANDBOXD_SOCKET"] = f"{daemon.folder}/api.sock"
    ids = USER.ids
    return sandboxd_as(ids.uid, *args, gid=ids.gid, folder=folder, environ=variables)


def test_command_line_runs_in_a_workspace(daemon: Daemon, checkout: Path) -> None:
    done = command(
        daemon, checkout, "run", "--workspace", ".", "--socket", f"{daemon.folder}/api.sock",
        "--image", "shell", "--exec", "pwd; echo x > made",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "/home/work\n"), done.stderr
    assert (checkout / "made").stat().st_uid == USER.ids.uid


def test_script_of_a_ci_step_works_in_the_directory_in_which_it_was_called(
    daemon: Daemon, checkout: Path
) -> None:
    part = checkout / "part"
    part.mkdir()
    own(part)
    script = 'pwd; echo "$CI_PROJECT_DIR" "$CI_HOME"; echo x > made; exit 3'
    done = command(
        daemon, part, "sh", "--workspace", str(checkout), "-c", script,
        CI_PROJECT_DIR=str(part), CI_HOME="/srv",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (
        3, "/home/work/part\n/home/work/part /srv\n"
    ), done.stderr  # fmt: skip
    assert (part / "made").stat().st_uid == USER.ids.uid


def selftest(daemon: Daemon, checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The attacks on a workspace, as its user."""
    socket = f"{daemon.folder}/api.sock"
    return command(
        daemon, Path("/"), "selftest", "--workspace", str(checkout), "--socket", socket, *options
    )


def test_attacks_of_the_self_test_on_a_workspace_fail(daemon: Daemon, checkout: Path) -> None:
    done = selftest(daemon, checkout, "--only", "workspace-set-id", "leave-workspace", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["held"] == 2
    assert list(checkout.iterdir()) == []


def test_set_user_id_file_that_is_there_is_a_breach_of_the_self_test(
    daemon: Daemon, checkout: Path
) -> None:
    (checkout / "suid").touch()
    own(checkout / "suid", mode=0o4755)
    done = selftest(daemon, checkout, "--only", "workspace-set-id")
    assert (done.returncode, "suid is a set-user-ID file" in done.stdout) == (1, True)


def test_socket_of_another_process_proves_no_user(daemon: Daemon, checkout: Path) -> None:
    """The unprivileged half could connect to a user who listens, and pass that socket on."""
    from sandboxd.errors import Invalid
    from sandboxd.warden.slots.workspaces import user_of

    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(listener.getsockname())
    accepted, _ = listener.accept()
    pair = socket.socketpair(socket.AF_UNIX)
    listeners = (f"unix:{daemon.folder}/api.sock",)
    with listener, client, accepted, pair[0], pair[1]:
        for one in (client, accepted, pair[0]):
            with pytest.raises(Invalid):
                user_of(one.fileno(), listeners)


@pytest.mark.parametrize("victim", ["neither", "warden", "api", "both"])
def test_session_keeps_its_workspace_over_a_restart_and_says_so_when_it_is_gone(
    folder: Path, victim: str
) -> None:
    with running(folder, configured(folder)) as daemon:
        path = directory(folder / "builds")
        gone = directory(folder / "builds", "gone")
        with client_of(folder / "api.sock", USER) as user:
            id, lost = (
                user.post("/session", json=body(one)).json()["sessionId"] for one in (path, gone)
            )
            run(user, id, {"exec": "echo one > f"})
        mounts = daemon.mounts()
        daemon.end(victim)
        gone.rename(folder / "builds/moved")
        daemon.start()
        with client_of(folder / "api.sock", USER) as user:
            assert run(user, id, {"exec": "cat f; echo two >> f"}).text("stdout") == "one\n"
            assert user.get(f"/session/{id}").json()["sandbox"]["workspace"]["path"] == str(path)
            call = {"mode": "batch", "code": "", "options": {"exec": "true"}}
            refusal = user.post(f"/session/{lost}", json=call)
            assert "does not exist" in refusal.text
            listing = user.get(f"/session/{lost}/files")
            assert (listing.status_code, "does not exist" in listing.text) == (503, True)
            for one in (id, lost):
                assert user.delete(f"/session/{one}").status_code == 200
        assert daemon.mounts() == mounts
        assert (path / "f").read_text() == "one\ntwo\n"


def test_killed_daemon_leaves_a_run_in_its_workspace_and_no_mount(folder: Path) -> None:
    with running(folder, configured(folder)) as daemon:
        path = directory(folder / "builds")
        mounts = daemon.mounts()
        with client_of(folder / "api.sock", USER) as user:
            id = user.post("/session", json=body(path)).json()["sessionId"]
            call = {"mode": "batch", "code": "", "options": {"exec": "touch begun; cat go; echo x"}}
            os.mkfifo(path / "go")
            own(path / "go")
            answer = user.post(f"/session/{id}", json=call).json()["result"]
            assert answer["status"] != "finished"
        daemon.end("both")
        assert daemon.mounts() == mounts
        daemon.start()
        (path / "go").write_text("went\n")
        with client_of(folder / "api.sock", USER) as user:
            call = {"mode": "continue", "code": "", "runId": answer["runId"]}
            assert follow(user, id, call).text("stdout") == "went\nx\n"
            assert user.delete(f"/session/{id}").status_code == 200
        assert (path / "begun").exists()
