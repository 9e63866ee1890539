"""Files over HTTP: all of an upload or nothing, whatever the names; downloads as asked."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import stat
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ..each_case import each_case
from ..waiting import PATIENCE_S
from .bad_requests import MALFORMED, assert_problem
from .conftest import Server

MIB = 1 << 20
Files = list[tuple[str | bytes, bytes]]

BAD_NAMES = [
    "", "../x", "a/../../x", "/etc/passwd", "/tmp/x", "/home/workevil/x", "/home/work/../x",
    "/home/work", "/home/work/", "/home", "/", "..", ".", "../", "./..", "a/..", "//etc/x", "dir/",
    "/home//work/../../x", "/HOME/WORK/x", "/dev/shm/x", "..%2Fx", "%2Fetc%2Fx", "a%00b", "x" * 300,
    "/".join(["d"] * 3000),
]  # fmt: skip


def multipart(files: Files) -> tuple[bytes, dict[str, str]]:
    body = b""
    for name, data in files:
        raw = name if isinstance(name, bytes) else name.encode()
        body += b'--b0\r\nContent-Disposition: form-data; name="src"; filename="' + raw
        body += b'"\r\nContent-Type: application/octet-stream\r\n\r\n' + data + b"\r\n"
    return body + b"--b0--\r\n", {"content-type": "multipart/form-data; boundary=b0"}


def upload(http: httpx.Client, session: str, files: Files) -> httpx.Response:
    body, headers = multipart(files)
    return http.post(f"/session/{session}/upload", content=body, headers=headers)


def names(http: httpx.Client, session: str, path: str = "/home/work") -> list[str]:
    answer = http.get(f"/session/{session}/files", params={"path": path})
    assert answer.status_code == 200, answer.text
    return sorted(entry["filename"] for entry in json.loads(answer.json()["files"]))


def tars(answer: httpx.Response) -> list[tarfile.TarFile]:
    assert answer.status_code == 200, answer.text
    match = re.fullmatch(r"multipart/mixed; boundary=(\w+)", answer.headers["content-type"])
    assert match
    parts = answer.content.split(b"--" + match[1].encode())
    assert parts[-1] == b"--\r\n" and parts[0] == b""
    contents = [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]]
    return [tarfile.open(fileobj=io.BytesIO(content)) for content in contents]


def test_uploaded_files_are_listed_in_their_new_directories(
    http: httpx.Client, session: str
) -> None:
    files: Files = [("main.c", b"int x;"), ("sub%2Fdir%2Fa%20b.h", b""), ("/home/work/abs", b"1")]
    answer = upload(http, session, files)
    assert answer.status_code == 204 and answer.content == b""
    assert names(http, session) == ["abs", "main.c", "sub"]
    assert names(http, session, "sub/dir") == ["a b.h"]
    assert http.get(f"/session/{session}/download_single?file=main.c").content == b"int x;"


def test_an_upload_overwrites_existing_files(http: httpx.Client, session: str) -> None:
    for data in (b"old and long", b"new"):
        upload(http, session, [("f", data)])
    assert http.get(f"/session/{session}/download_single?file=f").content == b"new"


def test_names_that_are_not_utf8_survive_the_round_trip(http: httpx.Client, session: str) -> None:
    assert upload(http, session, [(b"raw\xff\n", b"x")]).status_code == 204
    assert names(http, session) == ["raw\udcff\n"]
    url = f"/session/{session}/download_single"
    assert http.get(url + "?file=raw%FF%0A").content == b"x"
    assert http.request("GET", url, content=b'{"file": "raw\\udcff\\n"}').content == b"x"
    (tar,) = tars(http.get(f"/session/{session}/download?files=raw%FF%0A"))
    assert tar.getnames() == ["raw\udcff\n"]


@each_case("name", BAD_NAMES)
def test_a_name_outside_the_work_directory_is_400_and_changes_nothing(
    http: httpx.Client, lasting_session: str, name: str
) -> None:
    assert_problem(
        upload(http, lasting_session, [("good", b"x"), (name, b"evil"), ("late", b"x")]), 400
    )
    assert names(http, lasting_session) == []


def test_an_upload_at_its_limits_is_accepted_and_one_above_refused(
    http: httpx.Client, session: str
) -> None:
    assert upload(http, session, [(f"n{i}", b"x") for i in range(20)]).status_code == 204
    assert upload(http, session, [("one", b"o" * MIB)]).status_code == 204
    assert upload(http, session, [("zero", b"")]).status_code == 204
    assert len(names(http, session)) == 22
    assert len(http.get(f"/session/{session}/download_single?file=one").content) == MIB


@each_case(
    "files",
    [
        [(f"m{i}", b"x") for i in range(21)],
        [("good", b"g"), ("big", b"b" * (MIB + 1))],
        [(f"q{i}", b"x") for i in range(2000)],
        [("huge", b"h" * (8 * MIB))],
        [],
    ],
)
def test_a_refused_upload_stores_nothing(
    http: httpx.Client, lasting_session: str, files: Files
) -> None:
    assert_problem(upload(http, lasting_session, files), 400)
    assert names(http, lasting_session) == []


def test_an_endless_upload_is_refused_and_cut_off(server: Server, session: str) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(server.path)
    sock.settimeout(PATIENCE_S)
    head = f"POST /session/{session}/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n"
    body, headers = multipart([("f", b"")])
    sock.sendall(head.encode() + f"Content-Type: {headers['content-type']}\r\n\r\n".encode())
    sent = 0
    try:
        sock.sendall(body.removesuffix(b"\r\n--b0--\r\n"))
        while sent < 100 * MIB:
            sent += sock.send(b"x" * MIB)
    except OSError:
        pass
    assert 60 * MIB < sent < 80 * MIB
    sock.close()


@each_case(
    ("content", "content_type"),
    [
        (b"{}", "application/json"), (b"xx", "multipart/form-data"), (b"", "text/plain"),
        (b"xx", "multipart/form-data; boundary=b0"), (b"", "multipart/form-data; boundary=b0"),
        (b"--b0--\r\n", "multipart/form-data; boundary=b0"),
        (multipart([("f", b"data")])[0][:-9], "multipart/form-data; boundary=b0"),
        (multipart([("f", b"data")])[0][:40], "multipart/form-data; boundary=b0"),
        (b'--b0\r\nContent-Disposition: form-data; name="src"\r\n\r\nx\r\n--b0--\r\n',
         "multipart/form-data; boundary=b0"),
        (b"--b0\r\n\r\nx\r\n--b0--\r\n", "multipart/form-data; boundary=b0"),
        (multipart([("f" * 20000, b"data")])[0], "multipart/form-data; boundary=b0"),
        (multipart([("f", b"data")])[0], "multipart/form-data; boundary=" + "x" * 80),
        (multipart([("f", b"data")])[0], "multipart/form-data; boundary=other"),
    ],
)  # fmt: skip
def test_a_malformed_upload_is_400_and_stores_nothing(
    http: httpx.Client, lasting_session: str, content: bytes, content_type: str
) -> None:
    url, headers = f"/session/{lasting_session}/upload", {"content-type": content_type}
    assert_problem(http.post(url, content=content, headers=headers), 400)
    assert names(http, lasting_session) == []


def test_an_upload_that_breaks_off_stores_nothing(
    server: Server, http: httpx.Client, session: str
) -> None:
    body, headers = multipart([("f", b"x" * 100_000)])
    head = f"POST /session/{session}/upload HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    for reset in (False, True):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(server.path)
        sock.sendall(head.encode() + f"Content-Type: {headers['content-type']}\r\n\r\n".encode())
        sock.sendall(body[:50_000])
        if not reset:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
        sock.close()
        time.sleep(0.1)
        assert names(http, session) == []


def test_a_file_can_be_uploaded_executable(
    server: Server, http: httpx.Client, session: str
) -> None:
    body, headers = multipart([("tool", b"x")])
    body = body.replace(b"\r\n\r\nx", b"\r\nX-Sandboxd-Mode: 755\r\n\r\nx")
    http.post(f"/session/{session}/upload", content=body, headers=headers)
    listed = json.loads(http.get(f"/session/{session}/files").json()["files"])
    assert listed[0]["mode"] == stat.filemode(stat.S_IFREG | 0o755)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_listing_is_json_text_within_json(http: httpx.Client, session: str, method: str) -> None:
    upload(http, session, [(quote("sub/한\"'\\", safe=""), b"abc")])
    for more in ({"content": b'{"path": "sub"}'}, {"params": {"path": "/home/work/sub"}}):
        body = http.request(method, f"/session/{session}/files", **more).json()
        assert body["errors"] == "" and body["folder_path"] == "/home/work/sub"
        assert body["abspath"] in ("sub", "/home/work/sub")
        (entry,) = json.loads(body["files"])
        assert entry["filename"] == "한\"'\\" and entry["size"] == 3
        assert {"mode", "ctime", "mtime", "atime"} <= set(entry)


def test_without_a_path_the_work_directory_is_listed(http: httpx.Client, session: str) -> None:
    headers = {"content-type": "text/plain"}
    body = http.get(f"/session/{session}/files", headers=headers).json()
    assert body["folder_path"] == "/home/work" and json.loads(body["files"]) == []


@pytest.mark.slow
def test_a_long_listing_arrives_whole(server: Server, http: httpx.Client, session: str) -> None:
    slot = _slot(server, session)
    for number in range(3000):
        (slot / f"{number:05}").touch()
    assert names(http, session) == [f"{number:05}" for number in range(3000)]


def _slot(server: Server, session: str) -> Path:
    """The workdir of a session that has a file of its own."""
    upload(server.client, session, [(f"mark-{session}", b"")])
    (mark,) = server.base.glob(f"*/home/mark-{session}")
    mark.unlink()
    return mark.parent


@pytest.mark.parametrize("path", ["missing", "file", "sub/missing"])
def test_listing_what_is_no_directory_is_404(http: httpx.Client, session: str, path: str) -> None:
    upload(http, session, [("file", b""), ("sub/x", b"")])
    answer = http.get(f"/session/{session}/files", params={"path": path})
    assert_problem(answer, 404, "/object-not-found")


OUTSIDE = ["/etc", "..", "../x", "/home/work/../x", "a/../../x", "/home/workevil"]
BAD_PATHS: list[Any] = [7, {}, ["x"], True, "a\0b", "x" * 5000, "\ud800"]


@each_case("path", OUTSIDE)
def test_paths_outside_of_the_work_directory_are_400_on_every_route(
    http: httpx.Client, lasting_session: str, path: str
) -> None:
    base = f"/session/{lasting_session}"
    assert_problem(http.get(f"{base}/files", params={"path": path}), 400)
    assert_problem(http.get(f"{base}/download", params={"files": path}), 400)
    assert_problem(http.get(f"{base}/download_single", params={"file": path}), 400)


@each_case("path", BAD_PATHS)
def test_malformed_paths_are_400_on_every_route(
    http: httpx.Client, lasting_session: str, path: Any
) -> None:
    base = f"/session/{lasting_session}"
    listed, many, one = ({"path": path}, {"files": [path]}, {"file": path})
    for name, body in (("files", listed), ("download", many), ("download_single", one)):
        answer = http.post(f"{base}/{name}", content=json.dumps(body).encode())
        assert_problem(answer, 400)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_download_is_one_tar_for_each_path(http: httpx.Client, session: str, method: str) -> None:
    upload(http, session, [("a", b"aaa"), ("sub/b", b"bbb"), ("sub/deep/c", b"")])
    paths = ["sub/b", "sub", "a", "a"]
    query = {"params": [("files", path) for path in paths]}
    for more in ({"content": json.dumps({"files": paths}).encode()}, query):
        archives = tars(http.request(method, f"/session/{session}/download", **more))
        assert [sorted(tar.getnames()) for tar in archives] == [
            ["b"], ["sub", "sub/b", "sub/deep", "sub/deep/c"], ["a"], ["a"],
        ]  # fmt: skip
        content = archives[2].extractfile("a")
        assert content and content.read() == b"aaa"


def test_a_download_names_the_files_that_it_leaves_out(
    server: Server, http: httpx.Client, session: str
) -> None:
    home = _slot(server, session)
    (home / "d").mkdir()
    os.mkfifo(home / "d" / "pipe")
    answer = http.get(f"/session/{session}/download?files=d")
    assert b"\r\nX-Sandboxd-Left-Out: fifo=1\r\n" in answer.content
    assert tars(answer)[0].getnames() == ["d"]


@pytest.mark.parametrize("files", [[], ["a"] * 6, None, "a", [7]])
def test_one_to_five_files_can_be_downloaded(http: httpx.Client, session: str, files: Any) -> None:
    answer = http.post(f"/session/{session}/download", json={"files": files})
    assert_problem(answer, 400, "/invalid-api-params")


def test_downloading_what_is_missing_is_404_before_anything_is_sent(
    http: httpx.Client, session: str
) -> None:
    upload(http, session, [("a", b"")])
    answer = http.post(f"/session/{session}/download", json={"files": ["a", "missing"]})
    assert_problem(answer, 404, "/object-not-found")
    assert_problem(http.get(f"/session/{session}/download_single?file=missing"), 404)


def test_a_single_download_has_length_and_name(http: httpx.Client, session: str) -> None:
    upload(http, session, [("sub/한 글.txt", b"x" * 200_000)])
    url = f"/session/{session}/download_single?file={quote('sub/한 글.txt')}"
    answer = http.get(url)
    assert answer.headers["content-length"] == "200000" and len(answer.content) == 200_000
    assert answer.headers["content-disposition"].endswith("''" + quote("한 글.txt"))


@each_case("kind", sorted(set(MALFORMED) - {"empty"}))
@each_case("path", ["files", "download", "download_single"])
def test_malformed_bodies_are_problems(
    http: httpx.Client, lasting_session: str, path: str, kind: str
) -> None:
    url = f"/session/{lasting_session}/{path}"
    assert_problem(http.request("GET", url, content=MALFORMED[kind]), 400)


def test_a_client_that_goes_away_gives_its_helper_back(
    server: Server, http: httpx.Client, session: str
) -> None:
    home = _slot(server, session)
    with open(home / "big", "wb") as file:
        file.truncate(2 << 30)
    for _ in range(12):  # more than a session may have open at a time
        with http.stream("GET", f"/session/{session}/download_single?file=big") as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
    assert names(http, session) == ["big"]


def test_a_link_that_leads_outside_is_not_followed(
    server: Server, http: httpx.Client, session: str
) -> None:
    home = _slot(server, session)
    (home / "link").symlink_to("/etc/passwd")
    (home / "dir").symlink_to("/etc")
    base = f"/session/{session}"
    assert_problem(http.get(f"{base}/download_single?file=link"), 400)
    assert_problem(http.get(f"{base}/download_single?file=dir/passwd"), 400)
    assert_problem(upload(http, session, [("dir/x", b"evil")]), 400)
    assert b"root:" not in http.get(f"{base}/download?files=link").content
