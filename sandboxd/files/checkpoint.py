"""The checkpoint request of the file helper: saves the trees of a session, and restores them.

The api asks for it when no program of the session runs. The helper copies /home/work and /tmp into
its inbox, which no program sees, and remembers the inode and the time of the last change (ctime) of
each entry. It then stays, and at each restoration brings back whatever differs:

    1. An entry that is new, or not as remembered, moves out of the tree in one rename.
    2. These entries are removed, so their room is there again.
    3. Missing entries are copied from the inbox; directories get their modes and times.

A program cannot set a ctime: the kernel sets it at every change of the content, the attributes or
the links of an inode. It has the resolution of a tick, so the helper answers only when the clock of
these times has gone beyond the newest one: a later change has another ctime. An entry that is as
remembered is not read, so a restoration costs one lstat(2) for each entry that no program changed.

An inode with several names is kept together: if one of the names has to be restored, all are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from dataclasses import dataclass, field

from ..errors import Invalid, QuotaExceeded, Refused
from .api_connection import ApiConnection
from .exact_copy import (
    OWN,
    attributes,
    copy_entry,
    make_own,
    open_own_directory,
    set_attributes,
)
from .paths import DEPTH_MAX
from .removal import empty, move_directory

ENTRIES_MAX = 200_000
"""Entries of the trees at most: each takes some 500 bytes of memory."""

_CLOCK = 5  # CLOCK_REALTIME_COARSE of linux/time.h, from which ext4 and tmpfs take their times
_TICK_S = 0.001
_TICKS_MAX = 100
"""Looks at the clock. If somebody sets it back, later changes have other times all the same."""

_TRASH, _LINKS = "trash", "links"


@dataclass(slots=True)
class SavedEntry:
    """An entry of a saved tree.

    status   in the tree, when it was saved or last restored
    group    the inode that it had when it was saved, if that has several names; else 0
    entries  of a directory; None: it is none
    extra    the extended attributes of a directory
    """

    status: os.stat_result
    group: int = 0
    entries: dict[str, SavedEntry] | None = None
    extra: dict[str, bytes] = field(default_factory=dict)


def serve_checkpoint(api: ApiConnection, tops: dict[str, int], inbox: int) -> None:
    """Save the trees `tops` (their names in the inbox, and their descriptors), and restore them as
    often as the api asks. Raises Refused, OSError."""
    try:
        with contextlib.closing(Checkpoint(tops, inbox)) as checkpoint:
            checkpoint.save()
            api.send({"ok": True, "entries": checkpoint.count})
            while (packet := api.receive()) is not None:
                if packet != {"restore": True}:
                    raise Invalid("this is no request for a restoration")
                api.send({"ok": True, "restored": checkpoint.restore()})
    except OSError as error:
        raise _refusal(error) from None
    finally:
        empty(inbox)


def _refusal(error: OSError) -> Refused:
    """The refusal of a copy. Raises `error` for a failure of the helper itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return QuotaExceeded(
            "the session has no room for the copy of its files that several cases need"
        )
    raise error


class Checkpoint:
    """The saved state of the trees `tops`.

    count  entries that are saved
    """

    def __init__(self, tops: dict[str, int], inbox: int) -> None:
        self.count = 0
        self._tops, self._inbox = tops, inbox
        self._saved: dict[str, SavedEntry] = {}
        self._newest = self._restored = self._moved = 0
        self._broken: set[int] = set()
        self._linked: dict[int, list[SavedEntry]] = {}  # inodes that have a name in _LINKS
        for name in (_TRASH, _LINKS):
            os.mkdir(name, OWN, dir_fd=inbox)
        self._trash, self._links = (
            os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inbox)
            for name in (_TRASH, _LINKS)
        )

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._trash)
        os.close(self._links)

    def save(self) -> None:
        """Copy all trees. Raises Refused, OSError."""
        for name, top in self._tops.items():
            make_own(top)
            os.mkdir(name, OWN, dir_fd=self._inbox)
            copy = open_own_directory(name, self._inbox)
            try:
                self._saved[name] = self._save(top, copy, 0)
            finally:
                os.close(copy)
        self._linked.clear()
        empty(self._links)
        self._await_tick()

    def _save(self, fd: int, copy: int, depth: int) -> SavedEntry:
        """Copy the content of the directory `fd` to `copy`."""
        if depth > DEPTH_MAX:
            raise Invalid(f"cases need a copy of the files, at most {DEPTH_MAX} directories deep")
        saved = SavedEntry(os.fstat(fd), entries={}, extra=attributes(fd))
        assert saved.entries is not None
        for name in os.listdir(fd):
            self.count += 1
            if self.count > ENTRIES_MAX:
                raise Invalid(f"cases need a copy of the files, at most {ENTRIES_MAX} of them")
            status = os.lstat(name, dir_fd=fd)
            if stat.S_ISDIR(status.st_mode):
                saved.entries[name] = self._save_directory(name, fd, copy, depth, status)
            else:
                entry = SavedEntry(status, status.st_ino if status.st_nlink > 1 else 0)
                self._copy(name, fd, copy, entry)
                # To read a file that its owner may not read, its mode was changed for a moment.
                entry.status = self._noted(os.lstat(name, dir_fd=fd))
                saved.entries[name] = entry
        return saved

    def _save_directory(
        self, name: str, above: int, copy: int, depth: int, status: os.stat_result
    ) -> SavedEntry:
        os.mkdir(name, OWN, dir_fd=copy)
        fd, inner = open_own_directory(name, above), open_own_directory(name, copy)
        try:
            saved = self._save(fd, inner, depth + 1)
            if stat.S_IMODE(status.st_mode) != stat.S_IMODE(saved.status.st_mode):
                os.fchmod(fd, stat.S_IMODE(status.st_mode))
            saved.status = self._noted(os.fstat(fd))
            return saved
        finally:
            os.close(fd)
            os.close(inner)

    def _copy(self, name: str, source: int, target: int, entry: SavedEntry) -> None:
        """Copy an entry that is no directory, or make it a further name of its copy."""
        linked = f"{entry.group}"
        if entry.group in self._linked:
            os.link(linked, name, src_dir_fd=self._links, dst_dir_fd=target, follow_symlinks=False)
        else:
            copy_entry(name, source, target, entry.status)
            if entry.group:
                os.link(
                    name, linked, src_dir_fd=target, dst_dir_fd=self._links, follow_symlinks=False
                )
        if entry.group:
            self._linked.setdefault(entry.group, []).append(entry)

    def _noted(self, status: os.stat_result) -> os.stat_result:
        self._newest = max(self._newest, status.st_ctime_ns)
        return status

    def _await_tick(self) -> None:
        """Return when a change of an inode gets a later time than all that are remembered."""
        for _ in range(_TICKS_MAX):
            if time.clock_gettime_ns(_CLOCK) > self._newest:
                return
            time.sleep(_TICK_S)

    # -- restoration

    def restore(self) -> int:
        """Make all trees as they were saved; how many entries were brought back. Raises OSError."""
        self._restored = 0
        self._broken.clear()
        self._clear_all()
        if self._broken:  # their other names go, too
            self._clear_all()
        empty(self._trash)
        for name, top in self._tops.items():
            copy = open_own_directory(name, self._inbox)
            try:
                self._fill(top, copy, self._saved[name])
            finally:
                os.close(copy)
        self._release_links()
        self._await_tick()
        return self._restored

    def _clear_all(self) -> None:
        for name, top in self._tops.items():
            self._clear(top, self._saved[name])

    def _clear(self, fd: int, saved: SavedEntry) -> None:
        """Move everything in the directory `fd` away that is not as it was saved."""
        assert saved.entries is not None
        make_own(fd)
        present = os.listdir(fd)
        for name in present:
            entry = saved.entries.get(name)
            status = os.lstat(name, dir_fd=fd)
            if entry is None or not self._is_same(status, entry):
                self._move_away(name, fd, status)
                self._break(entry)
            elif entry.entries is not None:
                inner = open_own_directory(name, fd)
                try:
                    self._clear(inner, entry)
                finally:
                    os.close(inner)
        for name in saved.entries.keys() - set(present):
            self._break(saved.entries[name])

    def _is_same(self, status: os.stat_result, entry: SavedEntry) -> bool:
        """The entry is as it was saved; of a directory, only that it is the same one."""
        before = entry.status
        if entry.entries is not None:
            return stat.S_ISDIR(status.st_mode) and status.st_ino == before.st_ino
        return entry.group not in self._broken and _identity(status) == _identity(before)

    def _break(self, entry: SavedEntry | None) -> None:
        """Have the inodes of `entry` with several names restored as a whole."""
        rest = [entry] if entry else []
        while rest:
            entry = rest.pop()
            if entry.group:
                self._broken.add(entry.group)
            rest += (entry.entries or {}).values()

    def _move_away(self, name: str, fd: int, status: os.stat_result) -> None:
        self._moved += 1
        if stat.S_ISDIR(status.st_mode):
            move_directory(name, fd, f"{self._moved}", self._trash)
        else:
            os.rename(name, f"{self._moved}", src_dir_fd=fd, dst_dir_fd=self._trash)

    def _fill(self, fd: int, copy: int, saved: SavedEntry) -> None:
        """Bring back the entries that the directory `fd` lacks, from `copy`."""
        assert saved.entries is not None
        present = set(os.listdir(fd))
        for name, entry in saved.entries.items():
            if entry.entries is not None:
                if name not in present:
                    os.mkdir(name, OWN, dir_fd=fd)
                    self._restored += 1
                self._fill_directory(name, fd, copy, entry)
            elif name not in present:
                self._copy(name, copy, fd, entry)
                entry.status = self._noted(os.lstat(name, dir_fd=fd))
                self._restored += 1
        if _identity(os.fstat(fd)) != _identity(saved.status):
            set_attributes(fd, saved.extra, saved.status)
            saved.status = self._noted(os.fstat(fd))

    def _fill_directory(self, name: str, fd: int, copy: int, entry: SavedEntry) -> None:
        inner, inner_copy = open_own_directory(name, fd), open_own_directory(name, copy)
        try:
            self._fill(inner, inner_copy, entry)
        finally:
            os.close(inner)
            os.close(inner_copy)

    def _release_links(self) -> None:
        """Remove the names in _LINKS, and remember the inodes as they are then."""
        for group, entries in self._linked.items():
            fd = os.open(f"{group}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._links)
            try:
                os.unlink(f"{group}", dir_fd=self._links)
                status = self._noted(os.fstat(fd))
            finally:
                os.close(fd)
            for entry in entries:
                entry.status = status
        self._linked.clear()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """The part of a status that differs after any change."""
    return (
        status.st_ino, status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns,
        status.st_ctime_ns,
    )  # fmt: skip
