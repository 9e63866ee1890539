"""Virtual folders over a real daemon: their life, their files, their sessions."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .daemon import Daemon, run

UPLOAD = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}
Make = Callable[..., str]
Session = Callable[..., str]


@pytest.fixture
def make(http: httpx.Client) -> Iterator[Make]:
    """Makes folders that are removed after the test, and after its sessions."""
    made: list[str] = []

    def make(name: str = "data", **fields: Any) -> str:
        body = {"name": name, "host": "local", "quota": "32m"} | fields
        answer = http.post("/folders", json=body)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
        return made[-1]

    yield make
    for id in made:
        assert http.delete(f"/folders/{id}").status_code in (204, 404)


@pytest.fixture
def session(make: Make, session: Session) -> Session:
    """The common fixture, ended before `make`'s."""
    return session


def put(http: httpx.Client, folder: str, path: str, data: bytes, step: int = 1 << 20) -> str:
    """Upload as the clients do; the token."""
    answer = http.post(f"/folders/{folder}/request-upload", json={"path": path, "size": len(data)})
    assert answer.status_code == 200, answer.text
    url, token = answer.json()["url"], answer.json()["token"]
    offset = 0
    while offset < len(data):
        headers = UPLOAD | {"upload-offset": str(offset)}
        piece = data[offset : offset + step]
        answer = http.patch(url, params={"token": token}, headers=headers, content=piece)
        assert answer.status_code == 204, answer.text
        offset = int(answer.headers["upload-offset"])
    return str(token)


def get(http: httpx.Client, folder: str, path: str, **headers: str) -> httpx.Response:
    answer = http.post(f"/folders/{folder}/request-download", json={"path": path})
    assert answer.status_code == 200, answer.text
    params = {"token": answer.json()["token"]}
    return http.get(answer.json()["url"], params=params, headers=headers)


def names(http: httpx.Client, folder: str, path: str = ".") -> set[str]:
    answer = http.request("GET", f"/folders/{folder}/files", json={"path": path})
    assert answer.status_code == 200, answer.text
    assert answer.json()["errors"] == ""
    return {entry["filename"] for entry in json.loads(answer.json()["files"])}


def outputs(http: httpx.Client, session: str, command: str) -> str:
    outcome = run(http, session, {"exec": command})
    return outcome.text("stdout") + outcome.text("stderr")


def test_life_of_a_folder(http: httpx.Client, make: Make) -> None:
    id = make("life", quota="64m", permission="rw", usage_mode="data", cloneable=True)
    listed = {one["name"]: one for one in http.get("/folders").json()}
    assert listed["life"]["id"] == id and listed["life"]["max_size"] == 64 << 20
    info = http.get("/folders/life").json()
    assert (info["numFiles"], info["is_owner"], info["cloneable"]) == (0, True, True)
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
    assert http.delete("/folders/huge").status_code == 204
    id = session(mounts=["small"])
    said = outputs(http, id, "head -c 30M /dev/zero > small/f; stat -c %s small/f; echo own > o")
    assert "No space left" in said and int(said.split()[0]) <= 16 << 20
    answer = http.post("/folders/small/request-upload", json={"path": "g", "size": 1 << 20})
    assert answer.status_code == 412
    answer = http.post("/folders/small/request-upload", json={"path": "g", "size": 1 << 60})
    assert answer.status_code == 412


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_upload_in_pieces_of_any_size_arrives(http: httpx.Client, make: Make, step: int) -> None:
    make()
    put(http, "data", "sub/dir/f.bin", b"\0\1\2\3\4", step)
    assert get(http, "data", "sub/dir/f.bin").content == b"\0\1\2\3\4"


def test_large_upload_replaces_the_file_at_its_end_only(http: httpx.Client, make: Make) -> None:
    make()
    put(http, "data", "f", b"old")
    data = bytes(range(256)) * 12_000
    answer = http.post("/folders/data/request-upload", json={"path": "f", "size": len(data)}).json()
    call = {"url": answer["url"], "params": {"token": answer["token"]}}
    half = len(data) // 2
    headers = UPLOAD | {"upload-offset": "0"}
    assert http.patch(**call, headers=headers, content=data[:half]).status_code == 204
    assert get(http, "data", "f").content == b"old"
    assert names(http, "data") == {"f"}
    assert http.head(**call).headers["upload-offset"] == str(half)
    for wrong in (0, half - 1, half + 1, len(data)):
        headers = UPLOAD | {"upload-offset": str(wrong)}
        answered = http.patch(**call, headers=headers, content=b"")
        assert (answered.status_code, wrong) == (409, wrong)
    headers = UPLOAD | {"upload-offset": str(half)}
    too_much = http.patch(**call, headers=headers, content=data[half:] + b"x")
    assert too_much.status_code == 413
    assert http.head(**call).headers["upload-offset"] == str(half)
    chunked = http.patch(**call, headers=headers, content=iter([data[half:], b"x"]))
    assert chunked.status_code == 400
    assert http.head(**call).headers["upload-offset"] == str(half)
    assert http.patch(**call, headers=headers, content=data[half:]).status_code == 204
    assert get(http, "data", "f").content == data
    done = http.head(**call).headers
    assert (done["upload-offset"], done["upload-length"]) == (str(len(data)), str(len(data)))
    assert http.patch(**call, headers=headers, content=data[half:]).status_code == 409


def test_sender_that_goes_away_can_go_on(http: httpx.Client, make: Make) -> None:
    make()
    data = b"0123456789" * 50_000
    answer = http.post("/folders/data/request-upload", json={"path": "f", "size": len(data)}).json()
    call = {"url": answer["url"], "params": {"token": answer["token"]}}

    def breaking() -> Iterator[bytes]:
        yield data[:200_000]
        raise InterruptedError

    with pytest.raises(InterruptedError):
        http.patch(**call, headers=UPLOAD | {"upload-offset": "0"}, content=breaking())
    for _ in range(50):
        answered = http.head(**call)
        if answered.status_code == 200:
            break
        assert answered.status_code == 423
    offset = int(answered.headers["upload-offset"])
    assert 0 <= offset <= 200_000
    headers = UPLOAD | {"upload-offset": str(offset)}
    assert http.patch(**call, headers=headers, content=data[offset:]).status_code == 204
    assert get(http, "data", "f").content == data


def test_empty_file_is_there_without_any_data(http: httpx.Client, make: Make) -> None:
    make()
    put(http, "data", "empty", b"")
    assert names(http, "data") == {"empty"}
    assert get(http, "data", "empty").content == b""


def test_tus_says_what_it_is(http: httpx.Client) -> None:
    answer = http.options("/folders/_/tus/upload")
    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")


def test_token_is_for_its_purpose_and_of_its_folder(http: httpx.Client, make: Make) -> None:
    make()
    answer = http.post("/folders/data/request-upload", json={"path": "f", "size": 1}).json()
    token = answer["token"]
    for bad in ("", "x", token[:-1]):
        headers = UPLOAD | {"upload-offset": "0"}
        answered = http.patch(answer["url"], params={"token": bad}, headers=headers, content=b"x")
        assert answered.status_code == 404
    assert http.get("/folders/_/download", params={"token": token}).status_code == 404
    put(http, "data", "g", b"x")
    down = http.post("/folders/data/request-download", json={"path": "g"}).json()
    assert http.head(answer["url"], params={"token": down["token"]}).status_code == 404
    assert http.delete("/folders/data").status_code == 204
    assert http.get(down["url"], params={"token": down["token"]}).status_code == 404
    assert http.head(answer["url"], params={"token": token}).status_code == 404


def test_client_may_choose_the_directory_as_late_as_in_the_upload(
    http: httpx.Client, make: Make
) -> None:
    make()
    answer = http.post("/folders/data/request-upload", json={"path": "f", "size": 1}).json()
    headers = UPLOAD | {"upload-offset": "0"}
    call = {"url": answer["url"], "headers": headers, "content": b"x"}
    for outside in ("..", "/home/../..", "a/../../b"):
        params = {"token": answer["token"], "dst_dir": outside}
        assert http.patch(**call, params=params).status_code == 400
    params = {"token": answer["token"], "dst_dir": "in/here"}
    assert http.patch(**call, params=params).status_code == 204
    assert names(http, "data", "in/here") == {"f"}


def test_download_tells_its_length_and_serves_ranges(http: httpx.Client, make: Make) -> None:
    make()
    put(http, "data", "a b", b"0123456789")
    whole = get(http, "data", "a b")
    assert whole.headers["content-length"] == "10"
    assert whole.headers["content-disposition"].endswith("a%20b")
    time = whole.headers["last-modified"]
    part = get(http, "data", "a b", **{"range": "bytes=3-", "if-range": time})
    assert (part.status_code, part.content) == (206, b"3456789")
    assert part.headers["content-range"] == "bytes 3-9/10"
    assert get(http, "data", "a b", **{"range": "bytes=-2"}).content == b"89"
    old = get(http, "data", "a b", **{"range": "bytes=3-", "if-range": "another time"})
    assert (old.status_code, old.content) == (200, b"0123456789")
    none = get(http, "data", "a b", **{"range": "bytes=10-"})
    assert (none.status_code, none.headers["content-range"]) == (416, "bytes */10")


def test_changes_of_files(http: httpx.Client, make: Make) -> None:
    make()

    def change(what: str, status: int, method: str = "POST", **body: Any) -> str:
        answer = http.request(method, f"/folders/data/{what}", json=body)
        assert answer.status_code == status, answer.text
        return answer.text

    change("mkdir", 201, path="d", parents=False, exist_ok=False)
    change("mkdir", 400, path="d")
    change("mkdir", 201, path="d", exist_ok=True)
    assert "'x/y' does not exist; ask for parents" in change("mkdir", 404, path="x/y/z")
    change("mkdir", 201, path="x/y/z", parents=True)
    change("mkdir", 201, path=["p", "q"])
    put(http, "data", "d/f", b"f")
    change("mkdir", 400, path="d/f", exist_ok=True)
    change("rename-file", 201, target_path="d/f", new_name="g")
    change("rename-file", 404, target_path="d/f", new_name="h")
    change("rename-file", 400, target_path="d/g", new_name="g")
    change("rename-file", 400, target_path="d/g", new_name="../h")
    change("rename-file", 400, target_path="d", new_name="p")
    change("rename-file", 201, target_path="d", new_name="e")
    assert names(http, "data", "/e") == {"g"}
    change("move-file", 201, src="e/g", dst="p")
    assert names(http, "data", "p") == {"g"}
    change("move-file", 201, src="p/g", dst="/q/h")
    change("move-file", 400, src="x", dst="x/y")
    change("move-file", 404, src="nothing", dst="q")
    change("delete-files", 400, "DELETE", files=["q/h", "x"], recursive=False)
    change("delete-files", 404, "DELETE", files=["q/h", "nothing"], recursive=True)
    assert names(http, "data", "q") == {"h"}
    change("delete-files", 200, "DELETE", files=["q", "q/h", "x", "p/"], recursive=True)
    assert names(http, "data") == {"e"}
    for bad in ("..", "../x", "/..", "a\0b", "", "/"):
        change("delete-files", 400, "DELETE", files=[bad], recursive=True)
        change("mkdir", 400, path=bad)
    change("delete-files", 400, "DELETE", files=[], recursive=True)


def test_trees_that_are_hard_to_remove_are_removed(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make()
    id = session(mounts=["data"])
    said = outputs(
        http,
        id,
        "cd data && python3 - <<'END'\n"
        "import os\n"
        "for _ in range(1500):\n"
        "    os.mkdir('deep'); os.chdir('deep')\n"
        "END\n"
        "mkdir -p wide/a/b closed/inner locked; for i in $(seq 300); do : > wide/a/$i; done\n"
        ": > closed/inner/f; chmod 0 closed/inner closed; chmod 500 locked; ln -s /etc link; "
        "mkfifo fifo; echo ready",
    )
    assert said == "ready\n"
    files = ["deep", "wide", "closed", "locked", "link", "fifo"]
    answer = http.request(
        "DELETE", "/folders/data/delete-files", json={"files": files, "recursive": True}
    )
    assert answer.status_code == 200, answer.text
    assert names(http, "data") == set()
    assert http.get("/folders/data").json()["numFiles"] == 0


def test_links_of_programs_lead_nowhere(http: httpx.Client, make: Make, session: Session) -> None:
    make()
    id = session(mounts=["data"])
    outputs(http, id, "cd data; ln -s /etc/passwd p; ln -s / root; ln -s ../.. up; ln -s p q")
    for name in ("p", "q", "root", "root/etc/passwd", "up", "up/image", "../image"):
        answer = http.post("/folders/data/request-download", json={"path": name})
        assert answer.status_code == 400, name
    for path in ("root", "up"):
        answer = http.request("GET", "/folders/data/files", json={"path": path})
        assert answer.status_code == 400
    answer = http.post("/folders/data/request-upload", json={"path": "root/tmp/f", "size": 0})
    assert answer.status_code == 400
    assert http.post("/folders/data/mkdir", json={"path": "root/tmp/x"}).status_code == 400


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
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        assert "in/sub/f" in found.getnames()
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


def test_many_calls_one_after_the_other_leave_no_mount(
    http: httpx.Client, make: Make, daemon: Daemon
) -> None:
    folder = make()
    for number in range(40):
        put(http, "data", f"f{number}", b"x")
    assert len(names(http, "data")) == 40
    assert daemon.process
    mounts = Path(f"/proc/{daemon.process.pid}/mountinfo").read_text()
    assert folder not in mounts
