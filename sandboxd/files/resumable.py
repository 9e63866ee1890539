"""The uploads to a folder that come in several requests (tus).

The data of an unfinished upload is a file in `uploads`, a directory of the folder that sessions do
not see. The api names the files, and they count against the quota of the folder. The length of a
file is the offset of the upload, so the next request can go on after any break. One request at a
time works on an upload (flock(2)). A complete file is renamed to its place as in any upload.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Sequence, Set

from ..errors import Invalid, NotFound, QuotaExceeded, Refused
from .api_connection import ApiConnection
from .beneath import refused
from .commit import BACKUP_PREFIX, commit
from .paths import Name, naming_file
from .sync import sync_file_system

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UPLOAD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_APPEND

YOUNG_S = 60.0
"""Seconds. A younger upload may have begun after the api wrote its list of uploads to keep, so it
is not removed for its absence from the list."""

UPLOADS_MAX = 256
"""Unfinished uploads of a folder at most."""

NO_UPLOAD = "the upload is finished or was given up"


def begin(
    api: ApiConnection,
    home: int,
    uploads: int,
    id: str,
    name: str,
    size: int,
    keep: Sequence[str],
) -> None:
    """Answer a begin request: make the upload `id`, of `size` bytes, for the file `name`.

    An empty file is put in its place at once, since no data will come. Unfinished uploads without
    a valid token, which are all except `keep`, are removed. Raises Refused.
    """
    file = naming_file(name)
    _prune(uploads, {*keep, id})
    room = os.fstatvfs(uploads)
    if size > room.f_bavail * room.f_frsize:
        raise QuotaExceeded(f"{size} bytes are more than the free space of the folder")
    try:
        os.close(os.open(_file_name(id), _UPLOAD | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=uploads))
    except OSError as error:
        raise refused(error, file, uploads) from None
    if size == 0:
        _finish(home, uploads, id, file)
    api.answer({"ok": True})


def _prune(uploads: int, keep: Set[str]) -> None:
    for name in os.listdir(uploads):
        if name.removeprefix(BACKUP_PREFIX) in keep:
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(name, dir_fd=uploads).st_mtime < time.time() - YOUNG_S:
                os.unlink(name, dir_fd=uploads)
    if len(os.listdir(uploads)) >= UPLOADS_MAX:
        raise QuotaExceeded(f"the folder has {UPLOADS_MAX} unfinished uploads")


def append(api: ApiConnection, home: int, uploads: int, id: str, name: str, size: int) -> None:
    """Answer an append request: add data to the upload `id`, and finish it at `size` bytes.

    When the sender goes away, the data that came before stays. Raises Refused; the upload is then
    as before the request.
    """
    file = naming_file(name)
    try:
        fd = os.open(_file_name(id), _UPLOAD, dir_fd=uploads)
    except FileNotFoundError:
        raise NotFound("upload", NO_UPLOAD) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _expect_unfinished(uploads, id, fd)
        api.send({"ok": True, "offset": os.fstat(fd).st_size})
        if not _receive(api, fd, file, size):
            return
        offset = os.fstat(fd).st_size
        # The answer promises that this data is on the disk. An unmount then has little to write.
        os.fsync(fd)
        if offset == size:
            _finish(home, uploads, id, file)
        api.answer({"ok": True, "offset": offset})
    finally:
        os.close(fd)


def _expect_unfinished(uploads: int, id: str, fd: int) -> None:
    """Raise NotFound when the request that had the lock before has finished the upload."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), os.lstat(id, dir_fd=uploads)):
            return
    raise NotFound("upload", NO_UPLOAD)


def _receive(api: ApiConnection, fd: int, name: Name, size: int) -> bool:
    """Receive the data up to the commit; False when the sender went away before it.

    Raises Refused at the commit, so that the sender never blocks; no data of the request is added
    then.
    """
    offset = os.fstat(fd).st_size
    refusal: Refused | None = None
    while (packet := api.receive()) != {"commit": True}:
        if packet is None:
            return False
        if refusal is None:
            refusal = _append_packet(fd, packet, size, name)
            if refusal is not None:
                os.ftruncate(fd, offset)
    if refusal is not None:
        raise refusal
    return True


def _append_packet(fd: int, packet: object, size: int, name: Name) -> Refused | None:
    """Append a packet of data. Returns the refusal of a wrong packet; raises OSError for a failure
    of the helper itself."""
    if not isinstance(packet, bytes):
        return Invalid("this is no part of an upload")
    if os.fstat(fd).st_size + len(packet) > size:
        return Invalid(f"the upload has {size} bytes; the request sends more")
    try:
        while packet:
            packet = packet[os.write(fd, packet) :]
    except OSError as error:
        return refused(error, name, fd)
    return None


def _finish(home: int, uploads: int, id: str, name: Name) -> None:
    """Move the complete upload to its place. Raises Refused; the upload then stays."""
    try:
        commit(home, uploads, {name: id})
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{BACKUP_PREFIX}{id}", dir_fd=uploads)
    sync_file_system(home)


def _file_name(id: str) -> str:
    """The name of the file of the upload `id`. Raises Invalid."""
    if not _ID.fullmatch(id):
        raise Invalid("an upload's id has 32 hexadecimal digits")
    return id
