"""The files of virtual folders over a real daemon: uploads, downloads, changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ...waiting import until
from ..daemon import Daemon
from .calls import UPLOAD, Make, Session, get, names, outputs, put


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

    def offset_when_free() -> str | None:
        answered = http.head(**call)
        assert answered.status_code in (200, 423)
        offset: str | None = answered.headers.get("upload-offset")
        return offset

    offset = int(until(offset_when_free))
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


def test_folder_changes_files_or_refuses_with_the_status_of_the_cause(
    http: httpx.Client, make: Make
) -> None:
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
