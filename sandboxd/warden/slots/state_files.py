"""The owners and modes of the files of the state: held at every start, not only when they are made.

A copy of the state that somebody puts back may have other owners and modes. Then other users could
read the keys of clients, and the files of sessions and folders. So each path is compared with the
rule for it:

    others can read it            its mode is repaired, and a line of the log names it
    others can change it, or own  the start is refused: its content may be the work of another user
    a link, or no such kind       the same
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator

from ... import log
from ...errors import ConfigError

DIRECTORIES = ("slots", "folders", "blank", "reserve", "root", "host-files")
"""The directories of root, which no other user may enter."""

LISTED = ("slots", "folders", "blank")
"""Those of which each entry is held, too: images that root mounts, and their directories."""

DATABASE = "sandboxd.sqlite"
_DATABASE_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal")


def hold(state_dir: str, api_uid: int) -> None:
    """Hold all paths of the state. Raises ConfigError, which names the first path that is refused.

    `state_dir` is root's, and nobody else can change it.
    """
    hold_path(f"{state_dir}/api", api_uid, stat.S_IFDIR)
    for name in _DATABASE_FILES:
        hold_path(f"{state_dir}/api/{name}", api_uid, stat.S_IFREG)
    for name in ("lock", "workspace.key"):
        hold_path(f"{state_dir}/{name}", 0, stat.S_IFREG)
    for name in DIRECTORIES:
        hold_path(f"{state_dir}/{name}", 0, stat.S_IFDIR)
    for name in LISTED:
        for entry in _entries(f"{state_dir}/{name}"):
            hold_path(entry, 0)


def _entries(path: str) -> Iterator[str]:
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    yield from (f"{path}/{name}" for name in names)


def hold_path(path: str, uid: int, kind: int = 0) -> None:
    """Hold one path, if it is there: it is of `kind`, or if that is 0 a file or a directory, it
    belongs to `uid`, and it is closed to all others. Raises ConfigError."""
    try:
        _expect(path, (kind,) if kind else tuple(_KINDS))
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _hold(fd, path, uid)
    finally:
        os.close(fd)


_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file"}


def expect_directory(path: str) -> None:
    """Raise ConfigError for a path that is no directory, or a link."""
    _expect(path, (stat.S_IFDIR,))


def _expect(path: str, kinds: tuple[int, ...]) -> None:
    """Raise ConfigError for another kind of path, before it is opened, which may do something."""
    if stat.S_IFMT(os.lstat(path).st_mode) not in kinds:
        names = " or ".join(_KINDS[kind] for kind in kinds)
        raise ConfigError(
            f"{path} is a link, or no {names}, which sandboxd never makes; put back a copy of the "
            "state, or move it away"
        )


def _hold(fd: int, path: str, uid: int) -> None:
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    now = f"uid {status.st_uid}, mode {mode:o}"
    if status.st_uid != uid:
        raise _refused(path, f"belongs to another user ({now})", uid)
    if _others_write(status):
        raise _refused(path, f"can be changed by other users ({now})", uid)
    if not mode & 0o077:
        return
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise _refused(path, f"is open to other users and has a second name ({now})", uid)
    os.fchmod(fd, mode & 0o700)
    log.event(
        "state.repaired", logging.WARNING, path=path, was=f"mode {mode:o}",
        now=f"mode {mode & 0o700:o}", reason="other users could read it",
        remedy="make new keypairs if others could have read it" if DATABASE in path else None,
    )  # fmt: skip


def _others_write(status: os.stat_result) -> bool:
    """Users without root's rights may write; root's group is root's."""
    return bool(status.st_mode & 0o002 or (status.st_mode & 0o020 and status.st_gid))


def _refused(path: str, reason: str, uid: int = 0) -> ConfigError:
    return ConfigError(
        f"{path} {reason}; if you trust its content: chown -R {uid}:{uid} {path}; chmod -R go-rwx "
        f"{path}; if not, put back a copy of the state, or move it away"
    )
