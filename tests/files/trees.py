"""Archives for the file helper, and snapshots of trees."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandboxd.wire.file_calls import FILE_CHUNK, pack_data, pack_json

from .scratch import Scratch, become, receive

NS = 1_700_000_000_123_456_789
State = tuple[str, int, int, bytes]
"""Kind, mode, mtime in nanoseconds, and content or target."""


def decimal(ns: int) -> str:
    sign = "-" if ns < 0 else ""
    return f"{sign}{abs(ns) // 10**9}.{abs(ns) % 10**9:09d}"


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "", mode: int = 0o644, ns: int = NS
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    info.pax_headers = {"mtime": decimal(ns)}
    return info


def directory(name: str, mode: int = 0o755, ns: int = NS) -> tarfile.TarInfo:
    return entry(name, tarfile.DIRTYPE, mode=mode, ns=ns)


def link(name: str, target: str, ns: int = NS) -> tarfile.TarInfo:
    return entry(name, tarfile.SYMTYPE, target=target, mode=0o777, ns=ns)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    return entry(name, tarfile.LNKTYPE, target=target)


@dataclass(frozen=True)
class File:
    """A regular file of an archive."""

    name: str
    content: bytes = b"new"
    mode: int = 0o644
    ns: int = NS


Member = tarfile.TarInfo | File


def member_bytes(member: Member) -> bytes:
    if isinstance(member, tarfile.TarInfo):
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    info = entry(member.name, mode=member.mode, ns=member.ns)
    info.size = len(member.content)
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + member.content + bytes(-info.size % 512)


def tar(*members: Member) -> bytes:
    return b"".join(map(member_bytes, members)) + bytes(1024)


@dataclass
class Unpacked:
    """The answer to an unpack request. `kind`: of the refusal; None: it was granted."""

    kind: str | None
    error: str
    answer: dict[str, Any]


def unpack(
    scratch: Scratch,
    data: bytes | Iterable[bytes],
    path: str = ".",
    uid: int | None = None,
    chunk: int = FILE_CHUNK,
) -> Unpacked:
    """Unpack the archive `data`, sent in packets of `chunk` bytes."""
    pieces = [data] if isinstance(data, bytes) else data
    ways = scratch.helper() if uid is None else scratch.forked(lambda: become(uid))
    with ways as sock:
        with contextlib.suppress(BrokenPipeError):  # it hangs up at the first error
            sock.send(pack_json({"op": "unpack", "path": path}))
            for piece in pieces:
                for start in range(0, len(piece), chunk):
                    sock.send(pack_data(piece[start : start + chunk]))
            sock.send(pack_json({"commit": True}))
        answer = next(receive(sock))
    assert isinstance(answer, dict)
    assert not scratch.staged()
    assert scratch.untouched_outside()
    if answer["ok"]:
        return Unpacked(None, "", answer)
    return Unpacked(str(answer["kind"]), str(answer["error"]), answer)


def state(path: Path) -> State:
    status = os.lstat(path)
    kind = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}.get(
        stat.S_IFMT(status.st_mode), "special"
    )
    content = b""
    if kind == "file":
        content = path.read_bytes()
    elif kind == "link":
        content = os.fsencode(os.readlink(path))
    mode = 0o777 if kind == "link" else stat.S_IMODE(status.st_mode)
    return kind, mode, status.st_mtime_ns, content


def snapshot(top: Path) -> dict[str, State]:
    """Everything in the directory `top`, the directory itself left out; as root."""
    states = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = Path(folder, name)
            states[os.path.relpath(path, top)] = state(path)
    return states


def identities(top: Path) -> dict[str, tuple[int, State]]:
    """As `snapshot`, with the inode of each entry; "." is the directory itself."""
    whole = {".": (os.lstat(top).st_ino, state(top))}
    for name, value in snapshot(top).items():
        whole[name] = os.lstat(top / name).st_ino, value
    return whole


def read_tar(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """The members of an archive, with their content."""
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            members[info.name] = info, file.read() if file else b""
    return members
