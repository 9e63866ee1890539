"""The read requests of the file helper: one file as it is, or a stream of tar.

A name in a request may be a link that stays inside /home/work: the file helper follows it. A link
below a directory of the request stays a link in the tar. Entries without content and entries that
cannot be read are left out and counted. A first walk counts them, since the count is sent before
the data.

The tar is written member by member, because tarfile.TarFile keeps a list of all members. Only its
header format is used (TarInfo.tobuf). Members have no ids or names of users of the host.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import Invalid
from ..model import HOME
from ..wire.file_calls import LeftOut
from .api_connection import ApiConnection
from .beneath import open_content, open_entry, special
from .paths import absolute, inside, shown
from .tar_times import decimal_seconds
from .walk import GONE, WalkEntry, walk

PATHS_MAX = 64
"""Paths of one archive request; each holds a descriptor."""

ENTRIES_MAX = 1_000_000
"""Entries below one path of an archive at most. Without this bound, a program that goes on making
entries could keep the helper in its first walk for ever, which sends nothing."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One path of the request, opened. `fd` is a regular file or a directory."""

    fd: int
    base: str
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the tar. `content`: descriptor of a regular file, valid until the next member."""

    path: str
    status: os.stat_result
    content: int | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """An entry that is left out, and the reason."""

    path: str
    kind: LeftOut


def describe_file(api: ApiConnection, home: int, name: str) -> None:
    """Answer a stat request. Raises Refused."""
    fd = open_content(home, inside(name))
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
    directory = stat.S_ISDIR(status.st_mode)
    api.answer(
        {"ok": True, "size": status.st_size, "mtime": status.st_mtime, "directory": directory}
    )


def read_file(
    api: ApiConnection, home: int, name: str, start: int = 0, end: int | None = None
) -> None:
    """Answer a read request, for the bytes from `start` to before `end`. Raises Refused."""
    parts = inside(name)
    fd = open_content(home, parts)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"{shown(absolute(parts))} is a directory")
        api.answer({"ok": True, "size": status.st_size, "name": parts[-1]})
        end = status.st_size if end is None else end
        os.lseek(fd, start, os.SEEK_SET)
        api.copy(fd, max(0, end - start))
        api.answer({"end": True})
    finally:
        os.close(fd)


def archive(api: ApiConnection, home: int, names: list[str]) -> None:
    """Answer an archive request. Raises Refused for the first path that cannot be read."""
    if not 1 <= len(names) <= PATHS_MAX:
        raise Invalid(f"an archive has 1 to {PATHS_MAX} paths, not {len(names)}")
    with contextlib.ExitStack() as opened:
        parts = [_open_part(api, home, name, opened) for name in names]
        api.answer({"ok": True})
        for part in parts:
            api.answer({"part": part.base, "left_out": part.left_out})
            tar = TarWriter(api)
            for member in _members(api, part):
                if isinstance(member, Member):
                    tar.add(member)
            tar.end()
        api.answer({"end": True})


def _open_part(api: ApiConnection, home: int, name: str, opened: contextlib.ExitStack) -> _Part:
    """Open the path `name`, and count the entries that its archive leaves out. Raises Refused."""
    parts = inside(name)
    fd = open_content(home, parts)
    opened.callback(os.close, fd)
    base = parts[-1] if parts else os.path.basename(HOME)
    left_out = Counter[str](
        item.kind for item in _members(api, _Part(fd, base, {})) if isinstance(item, Left)
    )
    return _Part(fd, base, dict(left_out))


def _members(api: ApiConnection, part: _Part) -> Iterator[Member | Left]:
    """The members of the tar of `part`, and the entries that are left out.

    Raises Invalid for more than ENTRIES_MAX entries.
    """
    status = os.fstat(part.fd)
    if stat.S_ISREG(status.st_mode):
        yield Member(part.base, status, part.fd)
        return
    yield Member(part.base, status)
    for count, entry in enumerate(api.while_there(walk(part.fd, part.base + "/")), 1):
        if count > ENTRIES_MAX:
            raise Invalid(f"{shown(part.base)} has more than {ENTRIES_MAX} entries")
        yield from member_of(entry)


def member_of(entry: WalkEntry) -> Iterator[Member | Left]:
    """The member for an entry, or that it is left out; nothing when it has changed its type."""
    status = entry.status
    if status is None or entry.unentered:
        yield Left(entry.path, entry.unentered or "unreadable")
    elif stat.S_ISDIR(status.st_mode):
        yield Member(entry.path, status)
    elif stat.S_ISREG(status.st_mode):
        yield from _file(entry)
    elif stat.S_ISLNK(status.st_mode):
        yield from _link(entry, status)
    else:
        yield Left(entry.path, special(status.st_mode))


def _link(entry: WalkEntry, status: os.stat_result) -> Iterator[Member]:
    try:
        target = os.readlink(entry.name, dir_fd=entry.directory)
    except OSError as error:
        if error.errno in GONE:
            return
        raise
    yield Member(entry.path, status, target=target)


def _file(entry: WalkEntry) -> Iterator[Member | Left]:
    """The member for a regular file. Its descriptor is open until the next member."""
    try:
        fd = open_entry(entry.directory, entry.name)
    except (PermissionError, BlockingIOError):
        yield Left(entry.path, "unreadable")
        return
    except OSError as error:
        if error.errno in GONE:
            return
        raise
    try:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            yield Member(entry.path, status, fd)
    finally:
        os.close(fd)


class TarWriter:
    """The writer of one tar to the api: with `exact` times in the format pax, else GNU's."""

    def __init__(self, api: ApiConnection, exact: bool = False) -> None:
        self._conversation = api
        self._exact = exact
        self._written = 0

    def add(self, member: Member) -> None:
        """Write the header of `member` and, for a file, as many bytes as the header says."""
        info = _header(member)
        if self._exact:
            info.pax_headers = {"mtime": decimal_seconds(member.status.st_mtime_ns)}
            header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        else:
            header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        self._write(header)
        if member.content is not None:
            self._conversation.copy(member.content, info.size)
            self._written += info.size
            self._write(bytes(-info.size % tarfile.BLOCKSIZE))

    def end(self) -> None:
        """Write two blocks of zeros, and more up to a whole record, as tar(5) requires."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self._written % tarfile.RECORDSIZE))

    def _write(self, data: bytes) -> None:
        self._conversation.write(data)
        self._written += len(data)


def _header(member: Member) -> tarfile.TarInfo:
    """The header of `member`: uid and gid 0 without names, no set-user-ID or sticky bits."""
    info = tarfile.TarInfo(member.path)
    info.mode = stat.S_IMODE(member.status.st_mode) & 0o777
    info.mtime = int(member.status.st_mtime)
    if member.content is not None:
        info.size = member.status.st_size
    elif member.target:
        info.type, info.linkname = tarfile.SYMTYPE, member.target
    else:
        info.type = tarfile.DIRTYPE
    return info
