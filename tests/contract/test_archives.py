"""Contract of archives over HTTP, held by the real daemon and by the fake of the api's tests."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from .hosts import Host

TIME = "1700000000.123456789"


def tar(*members: tarfile.TarInfo, content: bytes = b"content") -> bytes:
    """An archive; each regular file has `content`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info in members:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o750
    info.pax_headers = {"mtime": TIME}
    return info


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {info.name: info for info in archive}


TREE = tar(member("d/f"), member("d/l", tarfile.SYMTYPE, "f"), member("d", tarfile.DIRTYPE))


def test_tree_goes_in_and_comes_out(host: Host, session: str) -> None:
    answer = host.http.put(f"/session/{session}/archive?path=new", content=gzip.compress(TREE))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"files": 1, "directories": 2, "links": 1, "bytes": 7}
    back = members(host.http.get(f"/session/{session}/archive?path=new").content)
    assert set(back) == {"d", "d/f", "d/l"}
    assert (back["d/f"].mode, back["d"].mode, back["d/l"].linkname) == (0o750, 0o750, "f")
    assert {info.pax_headers["mtime"] for info in back.values()} == {TIME}


def test_program_and_archive_see_the_same_files(host: Host, session: str) -> None:
    host.http.put(f"/session/{session}/archive", content=tar(member("go"))).raise_for_status()
    host.follow(session, "r", exec=host.program(("await", "go"), ("touch", "out/made")))
    answer = host.http.get(f"/session/{session}/archive", params={"match": ["out", "no*"]})
    assert set(members(answer.content)) == {"out", "out/made"}
    assert json.loads(answer.headers["x-sandboxd-unmatched"]) == ["no*"]


def test_refused_archive_changes_nothing_and_says_why(host: Host, session: str) -> None:
    for name, kind, target, words in (
        ("null", tarfile.CHRTYPE, "", "device"),
        ("../x", tarfile.REGTYPE, "", "'../x'"),
        ("link", tarfile.SYMTYPE, "/etc/passwd", "leaves /home/work"),
    ):
        body = tar(member("good"), member(name, kind, target))
        answer = host.http.put(f"/session/{session}/archive", content=body)
        assert answer.status_code == 400 and words in answer.json()["msg"], answer.text
    assert members(host.http.get(f"/session/{session}/archive").content) == {}
