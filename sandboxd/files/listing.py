"""The listings of the file helper: the entries of a directory, and the files that a run created.

The helper uses lstat(2) and never opens an entry, so that a FIFO cannot block a listing, and a
link is listed as a link. Each entry is sent as soon as it is read: a directory of any size takes
the same memory.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from ..errors import NotFound
from ..wire.file_calls import ANSWER_NAMES_MAX, CREATED_MAX
from .api_connection import ApiConnection
from .beneath import open_directory
from .paths import absolute, inside
from .walk import walk

ENTRIES_MAX = 1_000_000
"""Entries of a listing at most. Without this bound, a program that goes on making files could keep
the helper for ever."""

SEARCHED_MAX = 100_000
"""Entries of a walk at most, for the files that a run created or for a count of files."""

_TICK_S = 0.01
"""Seconds by which a ctime may lag behind the clock: the kernel takes it from its timer, which has
100 Hz or more."""


Entry = dict[str, Any]


def list_directory(
    api: ApiConnection,
    home: int,
    name: str,
    form: Callable[[Entry], Entry] = dict,
) -> None:
    """Answer a list request. `form` converts each entry. Raises Refused."""
    parts = inside(name)
    fd = open_directory(home, parts)
    try:
        api.answer({"ok": True, "path": absolute(parts)})
        errors = _Errors()
        separator = b"["
        for entry in _entries(fd, errors):
            api.write(separator + json.dumps(form(entry)).encode("ascii"))
            separator = b","
        api.write(b"[]" if separator == b"[" else b"]")
        api.answer({"end": True, "errors": str(errors)})
    finally:
        os.close(fd)


def describe_room(api: ApiConnection, home: int) -> None:
    """Answer a usage request: bytes of the whole file system, and the count of files."""
    status = os.fstatvfs(home)
    files = sum(
        1
        for entry in itertools.islice(api.while_there(walk(home)), SEARCHED_MAX)
        if entry.status is not None and not stat.S_ISDIR(entry.status.st_mode)
    )
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    api.answer(
        {"ok": True, "size": status.f_blocks * status.f_frsize, "used": used, "files": files}
    )


class _Errors:
    """The errors of a listing, as one line: the first error and the count of the others."""

    def __init__(self) -> None:
        self._first = ""
        self._count = 0

    def add(self, text: str) -> None:
        self._first = self._first or text
        self._count += 1

    def __str__(self) -> str:
        more = f" (and {self._count - 1} more)" if self._count > 1 else ""
        return self._first + more


def _entries(fd: int, errors: _Errors) -> Iterator[Entry]:
    """The entries of the directory `fd`, without those that have gone meanwhile."""
    with os.scandir(fd) as scan:
        for entry in itertools.islice(scan, ENTRIES_MAX):
            try:
                yield _describe(fd, entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                errors.add(f"{entry.name!a}: {error.strerror}")
        if next(scan, None) is not None:
            errors.add(f"only the first {ENTRIES_MAX} entries are listed")


def _describe(fd: int, entry: os.DirEntry[str]) -> Entry:
    """An entry in the form of wire/file_calls.py, with `target` for a link. Raises OSError."""
    status = entry.stat(follow_symlinks=False)
    description: Entry = {
        "mode": stat.filemode(status.st_mode),
        "size": status.st_size,
        "ctime": status.st_ctime,
        "mtime": status.st_mtime,
        "atime": status.st_atime,
        "filename": entry.name,
    }
    if stat.S_ISLNK(status.st_mode):
        with contextlib.suppress(OSError):  # the entry is no link any more
            description["target"] = os.readlink(entry.name, dir_fd=fd)
    return description


_EARLIEST, _LATEST = -62135596800, 253402300799
"""The first second of year 1 and the last of year 9999, the range of datetime."""

_TYPES = {"d": "DIRECTORY", "l": "SYMBOLIC_LINK"}


def as_item(entry: Entry) -> Entry:
    """An entry of a listing with the keys that later clients expect."""
    return {
        "name": entry["filename"],
        "type": _TYPES.get(entry["mode"][0], "FILE"),
        "size": entry["size"],
        "mode": entry["mode"],
        "created": _iso(entry["ctime"]),
        "modified": _iso(entry["mtime"]),
    }


def _iso(at: float) -> str:
    """Seconds since 1970 as ISO 8601. A program can set times beyond the range of datetime; they
    are moved to its ends."""
    return datetime.fromtimestamp(min(max(at, _EARLIEST), _LATEST), UTC).isoformat()


def list_created(api: ApiConnection, home: int, name: str, since: float) -> None:
    """Answer a created request. Raises Refused."""
    names: list[str] = []
    try:
        fd = open_directory(home, inside(name))
    except NotFound:
        api.answer({"ok": True, "names": names})
        return
    try:
        bytes_left = ANSWER_NAMES_MAX
        for path in heapq.nsmallest(CREATED_MAX, _created(api, fd, since - _TICK_S)):
            bytes_left -= len(json.dumps(path)) + 1
            if bytes_left < 0:
                break
            names.append(path)
    finally:
        os.close(fd)
    api.answer({"ok": True, "names": names})


def _created(api: ApiConnection, top: int, since: float) -> Iterator[str]:
    """Regular files below `top` that were created, written or renamed at `since` or later."""
    for entry in itertools.islice(api.while_there(walk(top)), SEARCHED_MAX):
        status = entry.status
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_ctime >= since:
            yield entry.path
