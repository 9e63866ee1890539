"""Virtual folders over a real daemon: their life, their limits, their sessions."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..daemon import Daemon
from .calls import Make, Session, get, outputs, put


def test_life_of_a_folder(http: httpx.Client, make: Make) -> None:
    id = make("life", quota="64m", permission="rw", usage_mode="data", cloneable=False)
    listed = {one["name"]: one for one in http.get("/folders").json()}
    assert listed["life"]["id"] == id and listed["life"]["max_size"] == 64 << 20
    info = http.get("/folders/life").json()
    assert (info["numFiles"], info["is_owner"], info["cloneable"]) == (0, True, False)
    put(http, "life", "f", b"x")
    assert http.get("/folders/life").json()["numFiles"] == 1
    assert http.post("/folders/life/rename", json={"new_name": "death"}).status_code == 201
    assert http.get("/folders/life").status_code == 404
    assert http.get("/folders/death").json()["id"] == id
    assert http.delete("/folders/death").status_code == 204
    assert http.delete("/folders/death").status_code == 404
    assert id not in [one["id"] for one in http.get("/folders").json()]


def test_removed_folder_leaves_nothing_on_disk(
    http: httpx.Client, make: Make, daemon: Daemon
) -> None:
    before = set((daemon.state / "folders").iterdir())
    id = make("gone")
    assert (daemon.state / "folders" / id).exists()
    assert http.request("DELETE", "/folders", json={"id": id}).status_code == 204
    assert set((daemon.state / "folders").iterdir()) == before


def test_names_are_the_owners_own_once(http: httpx.Client, make: Make) -> None:
    make("once")
    answer = http.post("/folders", json={"name": "once"})
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("/vfolder-already-exists")
    make("twice")
    answer = http.post("/folders/twice/rename", json={"new_name": "once"})
    assert answer.status_code == 400
    assert http.get("/folders/twice").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": None},
        {"name": ".."},
        {"name": ".hidden"},
        {"name": "a/b"},
        {"name": "../up"},
        {"name": "n" * 65},
        {"name": "_"},
        {"name": "invitations"},
        {"name": "a b"},
        {"name": "한글"},
        {"name": "a\nb"},
        {"name": "11111111-1111-4111-8111-111111111111"},
        {"name": 7},
        {"quota": "1k"},
        {"quota": "-1"},
        {"quota": "many"},
        {"quota": []},
        {"quota": True},
        {"permission": "777"},
        {"usage_mode": "secret"},
        {"unmanaged_path": "/etc"},
        {"group": "everybody"},
        {"cloneable": "maybe"},
        {"host": 5},
    ],
)
def test_folder_that_cannot_be_made_is_400(http: httpx.Client, fields: dict[str, Any]) -> None:
    answer = http.post("/folders", json={"name": "never"} | fields)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_quota_is_clamped_to_the_ceiling_and_holds(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make("small", quota="16m")
    answer = http.post("/folders", json={"name": "huge", "quota": "900t"})
    assert (answer.json()["clamped"], answer.status_code) == (["quota"], 201)
    most = answer.json()["max_size"]
    values = {"quota": {"requested": 900 << 40, "granted": most}}
    assert answer.json()["clamped_values"] == values
    assert http.delete("/folders/huge").status_code == 204
    id = session(mounts=["small"])
    said = outputs(http, id, "head -c 30M /dev/zero > small/f; stat -c %s small/f; echo own > o")
    assert "No space left" in said and int(said.split()[0]) <= 16 << 20
    answer = http.post("/folders/small/request-upload", json={"path": "g", "size": 1 << 20})
    assert answer.status_code == 412
    answer = http.post("/folders/small/request-upload", json={"path": "g", "size": 1 << 60})
    assert answer.status_code == 412


def test_session_works_in_its_folders(http: httpx.Client, make: Make, session: Session) -> None:
    make("data")
    make("lib")
    put(http, "data", "sub/f", b"from outside\n")
    put(http, "lib", "l", b"library\n")
    options = {"lib": {"permission": "ro"}}
    id = session(mounts=["data", "lib"], mount_map={"data": "/home/work/in"}, mount_options=options)
    said = outputs(
        http, id, "cat in/sub/f lib/l; cp in/sub/f in/copy; (echo x > lib/x) 2>/dev/null || echo ro"
    )
    assert said == "from outside\nlibrary\nro\n"
    assert get(http, "data", "copy").content == b"from outside\n"
    assert get(http, "data", "copy").status_code == 200
    listed = http.request("GET", f"/session/{id}/files", json={"path": "in"}).json()
    assert {entry["filename"] for entry in json.loads(listed["files"])} == {"sub", "copy"}
    single = http.get(f"/session/{id}/download_single", params={"file": "in/copy"})
    assert single.content == b"from outside\n"
    answer = http.request("GET", f"/session/{id}/download", json={"files": ["in"]})
    tar = answer.content.partition(b"\r\n\r\n")[2]
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert "in/sub/f" in archive.getnames()
    assert http.get("/folders/data").json()["sessions"] != []


def test_upload_through_a_session_into_a_folder_is_refused(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make()
    id = session(mounts=["data"])
    outputs(http, id, "mkdir data/sub; ln -s data link; ln -s data/sub deep; mkdir own")
    for name in (
        "data/f", "data/sub/f", "data/new/f", "/home/work/data/f", "link/f", "deep/f", "data",
        "own/../data/f", "own/./../link/sub/f",
    ):  # fmt: skip
        files = [("src", ("own/good", b"x")), ("src", (name, b"x"))]
        answer = http.post(f"/session/{id}/upload", files=files)
        assert answer.status_code == 400, name
        assert answer.headers["content-type"] == "application/problem+json"
    assert outputs(http, id, "ls own data data/sub; rm link") == "data:\nsub\n\ndata/sub:\n\nown:\n"
    assert http.post(f"/session/{id}/upload", files=[("src", ("own/f", b"x"))]).status_code == 204
    assert outputs(http, id, "cp own/f data/f && cat data/f") == "x"


@pytest.mark.parametrize(
    ("config", "status"),
    [
        ({"mounts": ["nobodys"]}, 404),
        ({"mounts": ["../data"]}, 404),
        ({"mounts": ["data", "data"]}, 400),
        ({"mounts": [7]}, 400),
        ({"mounts": ["data"], "mount_map": {"data": "/etc"}}, 400),
        ({"mounts": ["data"], "mount_map": {"data": "../x"}}, 400),
        ({"mounts": ["data"], "mountMap": {"data": "a/b"}}, 400),
        ({"mounts": ["data"] * 6}, 400),
        ({"mount_map": {"data": "x"}}, 400),
        ({"mounts": ["data"], "mount_options": {"data": {"permission": "x"}}}, 400),
    ],
)
def test_session_with_folders_that_it_cannot_have_is_refused(
    http: httpx.Client, make: Make, config: dict[str, Any], status: int
) -> None:
    make()
    answer = http.post("/session", json={"image": "c", "config": config})
    assert answer.status_code == status, answer.text


def test_folders_can_be_named_by_uuid(http: httpx.Client, make: Make, session: Session) -> None:
    folder = make()
    id = session(mount_ids=[folder], mount_id_map={folder: "by-id"})
    assert outputs(http, id, "ls") == "by-id\n"


def test_folder_of_a_session_is_removed_after_it(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make()
    answer = http.post("/session", json={"image": "c", "config": {"mounts": ["data"]}})
    id, name = answer.json()["sessionId"], answer.json()["sessionName"]
    refused = http.delete("/folders/data")
    assert refused.status_code == 400
    assert name in refused.json()["msg"] and refused.json()["data"] == {"sessions": [name]}
    assert outputs(http, id, "echo ok > data/f; cat data/f") == "ok\n"
    assert http.delete(f"/session/{id}").status_code == 200
    assert http.delete("/folders/data").status_code == 204


def test_renamed_folder_stays_where_its_sessions_see_it(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make()
    id = session(mounts=["data"])
    assert http.post("/folders/data/rename", json={"new_name": "other"}).status_code == 201
    assert outputs(http, id, "ls") == "data\n"


def test_folder_that_may_only_be_read_is_mounted_so(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make()
    put(http, "data", "f", b"kept\n")
    changed = http.post(
        "/folders/data/update-options", json={"permission": "ro", "cloneable": None}
    )
    assert changed.status_code == 201
    id = session(mounts=["data"])
    assert "Read-only" in outputs(http, id, "echo x > data/f; cat data/f")
    assert get(http, "data", "f").content == b"kept\n"


def test_folder_and_its_sessions_survive_a_restart(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.client() as http:
        assert http.post("/folders", json={"name": "kept", "quota": "32m"}).status_code == 201
        body = {"image": "c", "name": "keeper", "config": {"mounts": ["kept"]}}
        assert http.post("/session", json=body).status_code == 201
        assert outputs(http, "keeper", "echo before > kept/f") == ""
    assert daemon.stop() == 0
    daemon.start()
    with daemon.client() as http:
        assert outputs(http, "keeper", "cat kept/f; echo after >> kept/f") == "before\n"
        assert get(http, "kept", "f").content == b"before\nafter\n"
        assert http.delete("/folders/kept").status_code == 400
        assert http.delete("/session/keeper").status_code == 200
        assert http.delete("/folders/kept").status_code == 204
