"""The routes of a session's archive over HTTP: bodies in each form, parameters, refusals."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server
from .test_audit_log import the_line
from .test_files import names

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LARGE = os.urandom(400_000)


def tar(*members: tuple[str, bytes]) -> bytes:
    """An archive of regular files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


TREE = tar(("a.txt", b"a"), ("d/large", LARGE), ("d/raw\udcff\n", b"raw"))
FORMS: dict[str, bytes] = {
    "plain": TREE,
    "gzip": gzip.compress(TREE),
    "gzip in parts": gzip.compress(TREE[:5000]) + gzip.compress(TREE[5000:]),
    "gzip with zeros behind": gzip.compress(TREE) + bytes(1000),
    "zstd": zstd.compress(TREE),
    "zstd in parts": zstd.compress(TREE[:5000]) + zstd.compress(TREE[5000:]),
    "zstd behind a frame to skip": b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd.compress(TREE),
}


def put(
    http: httpx.Client, session: str, body: bytes | Iterator[bytes], path: str = "", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    params = {"path": path} if path else {}
    return http.put(f"/session/{session}/archive", params=params, content=body, headers=named)


def get(http: httpx.Client, session: str, **params: Any) -> httpx.Response:
    return http.get(f"/session/{session}/archive", params=params)


def members(data: bytes) -> dict[str, bytes]:
    """Name and content of each member that is no directory."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as archive:
        files = [(info.name, archive.extractfile(info)) for info in archive if info.isreg()]
        return {name: file.read() for name, file in files if file}


CONTENT = {"a.txt": b"a", "d/large": LARGE, "d/raw\udcff\n": b"raw"}


@pytest.mark.parametrize("form", FORMS)
def test_archive_in_each_form_arrives_and_comes_out(
    http: httpx.Client, session: str, form: str
) -> None:
    encoding = form.split()[0]
    headers = {} if encoding == "plain" else {"content_encoding": encoding}
    for wanted in ({}, headers):
        answer = put(http, session, FORMS[form], **wanted)
        assert answer.status_code == 200, answer.text
        sizes = sum(map(len, CONTENT.values()))
        assert answer.json() == {"files": 3, "directories": 1, "links": 0, "bytes": sizes}
    assert members(get(http, session).content) == CONTENT


@pytest.mark.parametrize("size", [1, 3, 511, 100_000])
def test_body_may_come_in_pieces_of_any_size(http: httpx.Client, session: str, size: int) -> None:
    body = gzip.compress(tar(("f", b"content")))
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    assert put(http, session, pieces).status_code == 200
    assert members(get(http, session).content) == {"f": b"content"}


WRONG: dict[str, tuple[bytes, str, str]] = {
    "no archive": (b"x" * 5000, "identity", "no tar"),
    "empty": (b"", "identity", "cut off"),
    "cut": (TREE[:100_000], "identity", "cut off"),
    "without its end": (TREE.rstrip(b"\0"), "identity", "cut off"),
    "cut gzip": (gzip.compress(TREE)[:-100_000], "identity", "cut off"),
    "cut zstd": (zstd.compress(TREE)[:-100_000], "identity", "cut off"),
    "damaged gzip": (gzip.compress(TREE)[:-8] + bytes(8), "identity", "damaged"),
    "damaged zstd": (zstd.compress(TREE)[:4] + b"\xff" * 1000, "identity", "damaged"),
    "gzip that is zstd": (zstd.compress(TREE), "gzip", "not packed with gzip"),
    "zstd that is plain": (TREE, "zstd", "not packed with zstd"),
    "unknown encoding": (TREE, "br", "identity, gzip, zstd"),
    "packed twice": (
        gzip.compress(gzip.compress(TREE)),
        "identity",
        "its format is gzip in another packing",
    ),
    "bzip2": (
        bz2.compress(TREE[:100_000]),
        "identity",
        "its format is bzip2; allowed: tar, plain or packed",
    ),
    "small bzip2": (bz2.compress(b"x"), "identity", "its format is bzip2"),
    "xz": (lzma.compress(TREE[:100_000]), "identity", "its format is xz"),
    "zip": (b"PK\x03\x04" + bytes(100), "identity", "its format is zip"),
    "damaged in the middle": (
        TREE[:1024] + b"x" * 512 + TREE[1536:],
        "identity",
        "is damaged in or behind 'a.txt'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_body_is_refused_in_words_and_changes_nothing(
    http: httpx.Client, session: str, wrong: str
) -> None:
    body, encoding, words = WRONG[wrong]
    assert put(http, session, tar(("old", b"old"))).status_code == 200
    answer = put(http, session, body, content_encoding=encoding)
    assert_problem(answer, 400)
    assert words in answer.text
    assert names(http, session) == ["old"]


def test_zstd_that_wants_more_memory_than_decoders_have_is_refused(
    http: httpx.Client, session: str
) -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(tar(("f", bytes(20 << 20)))) + packer.flush()
    answer = put(http, session, body)
    assert_problem(answer, 400)
    assert names(http, session) == []


def test_directory_of_the_request_is_made(http: httpx.Client, session: str) -> None:
    for path in ("new/deep", "/home/work/abs", "raw%"):
        assert put(http, session, tar(("f", b"x")), path=path).status_code == 200
    url = f"/session/{session}/archive?path=byte%FF"
    assert http.put(url, content=tar(("f", b"x"))).status_code == 200
    assert names(http, session) == ["abs", "byte\udcff", "new", "raw%"]
    assert names(http, session, "new/deep") == ["f"]


@each_case("path", ["..", "/etc", "a/../../x", "/home/workevil", "x" * 300, "a\0b"])
def test_directory_outside_is_refused_both_ways(
    http: httpx.Client, lasting_session: str, path: str
) -> None:
    assert_problem(put(http, lasting_session, tar(("f", b"x")), path=path), 400)
    assert_problem(get(http, lasting_session, path=path), 400)
    assert names(http, lasting_session) == []


def test_missing_directory_has_no_archive(http: httpx.Client, session: str) -> None:
    put(http, session, tar(("f", b"x")))
    for path in ("missing", "f"):
        assert_problem(get(http, session, path=path), 404)


def test_patterns_choose_and_those_without_a_match_are_named(
    http: httpx.Client, session: str
) -> None:
    put(http, session, tar(("a.txt", b"a"), ("b.txt", b"b"), ("d/e/c.txt", b"c"), ("d/x", b"x")))
    answer = get(http, session, match=["?.txt", "d/**/c.txt", "no\n한*", "d/missing"])
    assert members(answer.content) == {"a.txt": b"a", "b.txt": b"b", "d/e/c.txt": b"c"}
    assert json.loads(answer.headers["x-sandboxd-unmatched"]) == ["no\n한*", "d/missing"]
    assert answer.headers["x-sandboxd-unmatched"].isascii()
    below = get(http, session, path="d", match="e")
    assert members(below.content) == {"e/c.txt": b"c"}
    assert json.loads(below.headers["x-sandboxd-unmatched"]) == []


def test_patterns_that_match_nothing_give_an_empty_archive(
    http: httpx.Client, session: str
) -> None:
    answer = get(http, session, match=["nothing", "*.x"])
    assert answer.status_code == 200
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:") as archive:
        assert archive.getnames() == []
    assert json.loads(answer.headers["x-sandboxd-unmatched"]) == ["nothing", "*.x"]


@each_case("pattern", ["../x", "/etc/*", "a/../../b", "", "x" * 5000])
def test_pattern_that_leaves_its_directory_is_refused(
    http: httpx.Client, lasting_session: str, pattern: str
) -> None:
    assert_problem(get(http, lasting_session, match=[pattern]), 400)


def mark_of(session: str) -> str:
    """The name of a file that tells the home of this session from those of other tests."""
    return f"f-{session}"


def home_with_files(http: httpx.Client, session: str, server: Server) -> Path:
    """The home of the session on the host, with the files "f" and its mark."""
    put(http, session, tar(("f", b"x"), (mark_of(session), b"")))
    (home,) = (path.parent for path in server.base.glob(f"*/home/{mark_of(session)}"))
    return home


def test_entries_that_are_left_out_are_named_and_counted(
    http: httpx.Client, session: str, server: Server
) -> None:
    home = home_with_files(http, session, server)
    os.mkfifo(home / "pipe\n")
    (home / "secret").symlink_to("/etc/passwd")
    (home / "inside").symlink_to("/home/work/f")
    answer = get(http, session)
    left = json.loads(answer.headers["x-sandboxd-left-out"])
    assert left["count"] == 2
    assert sorted(left["entries"]) == [["pipe\n", "fifo"], ["secret", "outside"]]
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:") as archive:
        assert archive.getmember("inside").linkname == "/home/work/f"
        assert set(archive.getnames()) == {"f", "inside", mark_of(session)}


def test_names_of_a_header_are_bounded_and_all_entries_counted(
    http: httpx.Client, session: str, server: Server
) -> None:
    home = home_with_files(http, session, server)
    for number in range(200):
        os.mkfifo(os.fsencode(home) + b"/%d" % number + b"\xff" * 240)
    answer = get(http, session)
    header = answer.headers["x-sandboxd-left-out"]
    left = json.loads(header)
    assert (left["count"], len(header) < 64 * 1024) == (200, True)
    assert 0 < len(left["entries"]) <= 50


@pytest.mark.parametrize("compress", ["gzip", "zstd", "identity"])
def test_archive_is_packed_as_the_client_wants(
    http: httpx.Client, session: str, compress: str
) -> None:
    put(http, session, TREE)
    data = get(http, session, compress=compress).content
    if compress == "gzip":
        data = gzip.decompress(data)
    elif compress == "zstd":
        data = zstd.decompress(data)
    assert members(data) == CONTENT


def test_unknown_packing_is_refused(http: httpx.Client, session: str) -> None:
    answer = get(http, session, compress="bzip2")
    assert_problem(answer, 400)
    assert "compress" in answer.json()["data"]


def test_archive_of_an_unknown_session_is_404(http: httpx.Client) -> None:
    assert_problem(put(http, "no-such-session", TREE), 404)
    assert_problem(get(http, "no-such-session"), 404)


def test_upload_and_download_of_a_tree_are_in_the_audit_log(
    http: httpx.Client, session: str, server: Server
) -> None:
    ways = [put(http, session, TREE), get(http, session)]
    into, out = [the_line(server, answer.headers["x-request-id"]) for answer in ways]
    assert (into["act"], into["files"]) == ("session.upload", 3)
    assert into["bytes"] == sum(map(len, CONTENT.values()))
    assert (out["act"], out["outcome"]) == ("session.download", "ok")


def test_client_that_goes_away_in_the_middle_leaves_nothing(
    http: httpx.Client, session: str, server: Server
) -> None:
    def body() -> Iterator[bytes]:
        yield TREE[:100_000]
        raise RuntimeError("the client has enough")

    with pytest.raises(RuntimeError), server.new_client() as other:
        put(other, session, body())
    assert names(http, session) == []
    # The helper of the broken request may still be emptying its stage.
    until(lambda: put(http, session, TREE).status_code == 200)
    assert members(get(http, session).content) == CONTENT


def test_parameters_that_are_not_served_are_refused(http: httpx.Client, session: str) -> None:
    url = f"/session/{session}/archive"
    assert_problem(http.put(url, params={"paht": "x"}, content=TREE), 400)
    assert_problem(http.get(url, params={"glob": "x"}), 400)
    assert names(http, session) == []
