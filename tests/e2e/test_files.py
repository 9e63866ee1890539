"""Files over HTTP, on a real scratch, with a program of the session at work on them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from email.message import Message
from typing import Any

import httpx
import pytest

from sandboxd.model import MIB

from ..processes import children
from .daemon import run

Make = Callable[..., str]


def upload(http: httpx.Client, id: str, *files: tuple[str, bytes]) -> httpx.Response:
    return http.post(f"/session/{id}/upload", files=[("src", file) for file in files])


def listing(http: httpx.Client, id: str, path: str = ".") -> dict[str, dict[str, Any]]:
    answer = http.get(f"/session/{id}/files", params={"path": path})
    assert answer.status_code == 200, answer.text
    return {entry["filename"]: entry for entry in json.loads(answer.json()["files"])}


def tars(answer: httpx.Response) -> list[tarfile.TarFile]:
    assert answer.status_code == 200, answer.text
    header = Message()
    header["Content-Type"] = answer.headers["content-type"]
    assert header.get_content_type() == "multipart/mixed"
    mark = b"--" + str(header.get_param("boundary")).encode()
    parts = answer.content.split(mark)[1:-1]
    return [tarfile.open(fileobj=io.BytesIO(part.partition(b"\r\n\r\n")[2][:-2])) for part in parts]


def test_uploaded_tree_is_there_for_programs(http: httpx.Client, session: Make) -> None:
    id = session()
    answer = upload(
        http, id, ("top.txt", b"1"), ("a/b/c/deep.txt", b"22"), ("/home/work/abs/x", b"333"),
        ("%ED%95%9C%2Fx", b"4"), ("100%.txt", b"5"), ("sp ace/\u00e4", b"6"),
    )  # fmt: skip
    assert (answer.status_code, answer.content) == (204, b"")
    outcome = run(http, id, {"exec": "find . -type f -printf '%P %s %m %u\\n' | sort"})
    assert outcome.text("stdout").splitlines() == [
        "100%.txt 1 644 work", "a/b/c/deep.txt 2 644 work", "abs/x 3 644 work",
        "sp ace/\u00e4 1 644 work", "top.txt 1 644 work", "\ud55c/x 1 644 work",
    ]  # fmt: skip


def test_existing_files_are_overwritten(http: httpx.Client, session: Make) -> None:
    id = session()
    upload(http, id, ("f", b"long old content"))
    upload(http, id, ("f", b"new"))
    assert http.get(f"/session/{id}/download_single", params={"file": "f"}).content == b"new"


def test_limits_of_an_upload_are_exact(http: httpx.Client, session: Make) -> None:
    id = session()
    assert upload(http, id, ("one", b"x" * MIB)).status_code == 204
    assert upload(http, id, *((f"n{i}", b"") for i in range(20))).status_code == 204
    answer = upload(http, id, ("good", b""), ("big", b"x" * (MIB + 1)))
    assert answer.status_code == 400 and answer.json()["data"] == {"filename": "big"}
    assert upload(http, id, *((f"m{i}", b"") for i in range(21))).status_code == 400
    assert set(listing(http, id)) == {"one", *(f"n{i}" for i in range(20))}


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "/home/workevil/x", "/home/work/../x", "/", "..", "a/..",
     "/proc/self/root/x", "x" * 300, "a\0b"],
)  # fmt: skip
def test_name_that_leaves_home_is_refused_and_nothing_changes(
    http: httpx.Client, session: Make, name: str
) -> None:
    id = session()
    body = (
        b'--b\r\nContent-Disposition: form-data; name="src"; filename="good"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="src"; filename="'
        + name.encode()
        + b'"\r\n\r\nx\r\n--b--\r\n'
    )
    answer = http.post(
        f"/session/{id}/upload",
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert listing(http, id) == {}


def test_link_to_the_host_is_never_written_or_read_through(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    run(http, id, {"exec": "ln -s /etc/passwd out; ln -s ../../etc dir; ln -s /proc/1/root proc"})
    for name in ("out", "dir/passwd", "proc/etc/passwd"):
        assert upload(http, id, (name, b"x")).status_code == 400
        assert http.get(f"/session/{id}/download_single", params={"file": name}).status_code == 400
    assert http.get(f"/session/{id}/files", params={"path": "dir"}).status_code == 400
    with open("/etc/passwd", "rb") as file:
        assert file.read(4) == b"root"


def test_full_session_refuses_more_and_keeps_what_it_has(http: httpx.Client, session: Make) -> None:
    # The size of its file system: below it, the limit of the step would end the program before the
    # file system is full.
    id = session(resource_opts={"disk": "32m"})
    run(http, id, {"exec": "echo kept > kept; head -c 40M /dev/zero > fill"})
    answer = upload(http, id, ("more", b"x" * MIB))
    assert answer.status_code == 412
    assert "more" not in listing(http, id)
    assert http.get(f"/session/{id}/download_single", params={"file": "kept"}).content == b"kept\n"


def test_listing_of_special_and_strange_entries(http: httpx.Client, session: Make) -> None:
    id = session()
    run(http, id, {"exec": r"mkfifo fifo; ln -s /nowhere link; mkdir -m 0 closed; : > $'\377\n'"})
    entries = listing(http, id)
    assert set(entries) == {"fifo", "link", "closed", "\udcff\n"}
    assert entries["fifo"]["mode"][0] == "p"
    assert entries["link"]["mode"][0] == "l"
    answer = http.get(f"/session/{id}/download_single?file=%FF%0A")
    assert (answer.status_code, answer.content) == (200, b"")


def test_missing_and_outside_paths(http: httpx.Client, session: Make) -> None:
    id = session()
    assert http.get(f"/session/{id}/files", params={"path": "none"}).status_code == 404
    assert http.get(f"/session/{id}/files", params={"path": "/etc"}).status_code == 400
    for files, status in ((["none"], 404), (["/etc/passwd"], 400), (["a"] * 6, 400), ([], 400)):
        answer = http.post(f"/session/{id}/download", json={"files": files})
        assert answer.status_code == status


def test_download_gives_a_tar_for_each_path_in_order(http: httpx.Client, session: Make) -> None:
    id = session()
    run(http, id, {"exec": "mkdir -p d/e; echo 1 > d/e/f; ln -s f d/e/l; mkfifo d/p; echo 2 > g"})
    for answer in (
        http.request("GET", f"/session/{id}/download", json={"files": ["g", "d"]}),
        http.post(f"/session/{id}/download", json={"files": ["g", "d"]}),
        http.get(f"/session/{id}/download", params=[("files", "g"), ("files", "d")]),
    ):
        first, second = tars(answer)
        assert first.getnames() == ["g"]
        assert sorted(second.getnames()) == ["d", "d/e", "d/e/f", "d/e/l"]
        assert second.getmember("d/e/l").issym()
        assert {(m.uid, m.gid, m.uname) for m in second.getmembers()} == {(0, 0, "")}
        assert b"fifo" in answer.content.split(b"\r\n\r\n")[-2] or b"fifo" in answer.content


def test_large_file_is_streamed(http: httpx.Client, session: Make) -> None:
    id = session()
    run(http, id, {"exec": "head -c 200M /dev/zero > big"})
    size = 0
    with http.stream("GET", f"/session/{id}/download_single", params={"file": "big"}) as answer:
        for chunk in answer.iter_bytes():
            size += len(chunk)
    assert size == 200 * MIB


def test_client_that_goes_away_leaves_no_helper(
    http: httpx.Client, session: Make, daemon: Any
) -> None:
    id = session()
    run(http, id, {"exec": "truncate -s 900M sparse"})
    with http.stream("GET", f"/session/{id}/download_single", params={"file": "sparse"}) as answer:
        next(answer.iter_bytes())
    with daemon.client() as other:
        assert set(listing(other, id)) == {"sparse"}
        assert other.delete(f"/session/{id}").status_code == 200
    assert not children(daemon.process.pid, "sandboxd: f")
