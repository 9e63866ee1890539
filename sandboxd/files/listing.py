"""The answers that tell names: what a directory holds, and what a run has created.

Entries are looked at with lstat(2) and never opened, so that a FIFO cannot hold a listing up and
a link is listed as the link it is. They go out as they are read: a directory of any size takes
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
from ..filewire import ANSWER_NAMES_MAX, CREATED_MAX
from .beneath import open_directory
from .conversation import Conversation
from .paths import absolute, inside
from .walk import walk

ENTRIES_MAX = 1_000_000
"""Entries of a listing at most: a program that goes on making files must not keep us for ever."""

SEARCHED_MAX = 100_000
"""Entries looked at to find what a run has created, or to count files."""

_TICK_S = 0.01
"""A ctime may lie so far before the clock: the kernel takes it from its timer, 100 Hz or more."""


Entry = dict[str, Any]


def list_directory(
    conversation: Conversation,
    home: int,
    name: str,
    form: Callable[[Entry], Entry] = dict,
) -> None:
    """Answer a list request with entries that have the `form`. Raises Refused."""
    parts = inside(name)
    fd = open_directory(home, parts)
    try:
        conversation.answer({"ok": True, "path": absolute(parts)})
        errors = _Errors()
        separator = b"["
        for entry in _entries(fd, errors):
            conversation.write(separator + json.dumps(form(entry)).encode("ascii"))
            separator = b","
        conversation.write(b"[]" if separator == b"[" else b"]")
        conversation.answer({"end": True, "errors": str(errors)})
    finally:
        os.close(fd)


def describe_room(conversation: Conversation, home: int) -> None:
    """Answer a usage request: bytes of the whole file system, and how many files are seen."""
    room = os.fstatvfs(home)
    files = sum(
        1
        for found in itertools.islice(walk(home), SEARCHED_MAX)
        if found.status is not None and not stat.S_ISDIR(found.status.st_mode)
    )
    used = (room.f_blocks - room.f_bfree) * room.f_frsize
    conversation.answer(
        {"ok": True, "size": room.f_blocks * room.f_frsize, "used": used, "files": files}
    )


class _Errors:
    """What went wrong in a listing, as one line however often it did."""

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
    """The entries of the directory `fd`; those that have gone meanwhile are simply not there."""
    with os.scandir(fd) as found:
        for entry in itertools.islice(found, ENTRIES_MAX):
            try:
                yield _described(fd, entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                errors.add(f"{entry.name!a}: {error.strerror}")
        if next(found, None) is not None:
            errors.add(f"only the first {ENTRIES_MAX} entries are listed")


def _described(fd: int, entry: os.DirEntry[str]) -> Entry:
    """An entry as the contract has it, with `target` for links. Raises OSError."""
    status = entry.stat(follow_symlinks=False)
    described: Entry = {
        "mode": stat.filemode(status.st_mode),
        "size": status.st_size,
        "ctime": status.st_ctime,
        "mtime": status.st_mtime,
        "atime": status.st_atime,
        "filename": entry.name,
    }
    if stat.S_ISLNK(status.st_mode):
        with contextlib.suppress(OSError):  # no link any more: then there is no target to tell
            described["target"] = os.readlink(entry.name, dir_fd=fd)
    return described


_EARLIEST, _LATEST = -62135596800, 253402300799
"""The years 1 and 9999, which are as far as datetime goes."""

_TYPES = {"d": "DIRECTORY", "l": "SYMBOLIC_LINK"}


def as_item(entry: Entry) -> Entry:
    """An entry of a listing in the words of later clients."""
    return {
        "name": entry["filename"],
        "type": _TYPES.get(entry["mode"][0], "FILE"),
        "size": entry["size"],
        "mode": entry["mode"],
        "created": _iso(entry["ctime"]),
        "modified": _iso(entry["mtime"]),
    }


def _iso(at: float) -> str:
    """Seconds since 1970 as ISO 8601; programs can date files beyond what that can say."""
    return datetime.fromtimestamp(min(max(at, _EARLIEST), _LATEST), UTC).isoformat()


def list_created(conversation: Conversation, home: int, name: str, since: float) -> None:
    """Answer a created request. Raises Refused."""
    names: list[str] = []
    try:
        fd = open_directory(home, inside(name))
    except NotFound:
        conversation.answer({"ok": True, "names": names})
        return
    try:
        room = ANSWER_NAMES_MAX
        for path in heapq.nsmallest(CREATED_MAX, _created(fd, since - _TICK_S)):
            room -= len(json.dumps(path)) + 1
            if room < 0:
                break
            names.append(path)
    finally:
        os.close(fd)
    conversation.answer({"ok": True, "names": names})


def _created(top: int, since: float) -> Iterator[str]:
    """Regular files below `top` that were made, written or renamed at `since` or later."""
    for found in itertools.islice(walk(top), SEARCHED_MAX):
        status = found.status
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_ctime >= since:
            yield found.path
