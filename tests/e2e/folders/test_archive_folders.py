"""Archives and virtual folders: a mounted folder takes none, and every refusal says so."""

from __future__ import annotations

import io
import tarfile

import httpx

from ..daemon import run
from .calls import Make, Session


def tar(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return file.getvalue()


def test_mounted_folder_takes_no_archive_and_comes_out_with_one(
    http: httpx.Client, make: Make, session: Session
) -> None:
    make()
    id = session(mounts=["data"])
    script = "mkdir data/d; echo x > data/d/f; ln -s data/d rel; ln -s /home/work/data/d abs"
    run(http, id, {"exec": script})
    url = f"/session/{id}/archive"
    for path, name in {
        ".": "data/x", "data": "x", "data/d": "x", "rel": "x", "abs": "x", "data/new": "x"
    }.items():  # fmt: skip
        answer = http.put(url, params={"path": path}, content=tar(name))
        assert answer.status_code == 400, (path, answer.text)
        assert "is in a mounted folder" in answer.text, (path, answer.text)
    for name in ("rel/x", "abs/x"):
        answer = http.post(f"/session/{id}/upload", files=[("src", (name, b""))])
        assert answer.status_code == 400
        assert "is in a mounted folder" in answer.text, (name, answer.text)
    assert http.put(url, content=tar("l", tarfile.SYMTYPE, "data/d")).status_code == 200
    archive = http.get(url, params={"match": "data"}).content
    names = tarfile.open(fileobj=io.BytesIO(archive)).getnames()
    assert sorted(names) == ["data", "data/d", "data/d/f"]
