"""The uploads to a folder that come in several requests (tus).

The data of an unfinished upload is a file in `uploads`, a directory of the folder that sessions do
not see. The api names the files, and they count against the quota of the folder. The length of a
file is the offset of the upload, so the next request can go on after any break. One request at a
time works on an upload (flock(2)). The commit of a complete file is that of
any upload; the file stays in `uploads` until it is in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass

from ..errors import Invalid, NotFound, QuotaExceeded, Refused
from .api_connection import ApiConnection
from .beneath import refused
from .paths import Name, naming_file
from .removal import empty
from .sync import sync_file_system
from .uploaded_tree import commit_files

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UPLOAD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_APPEND

YOUNG_S = 60.0
"""Seconds. A younger upload may have begun after the api wrote its list of uploads to keep, so it
is not removed for its absence from the list."""

UPLOADS_MAX = 256
"""Unfinished uploads of a folder at most."""

NO_UPLOAD = "the upload is finished or was given up"


@dataclass(frozen=True, slots=True)
class ResumableUpload:
    """An upload to a folder.

    home, inbox  the files of the folder, and the inbox of the helper
    uploads      the directory of unfinished uploads
    id           the upload's id, of 32 hexadecimal digits, and the name of its data in `uploads`
    name         the file, as the client names it
    size         its bytes
    """

    home: int
    inbox: int
    uploads: int
    id: str
    name: str
    size: int

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise Invalid("an upload's id has 32 hexadecimal digits")

    @property
    def file(self) -> Name:
        """The place of the file. Raises Invalid, OutsideHome."""
        return naming_file(self.name)

    def open(self, flags: int = 0) -> int:
        """A descriptor of the data. Raises OSError."""
        return os.open(self.id, _UPLOAD | flags, 0o644, dir_fd=self.uploads)

    def finish(self) -> None:
        """Move the complete file to its place. Raises Refused; the upload then stays."""
        try:
            os.link(self.id, self.id, src_dir_fd=self.uploads, dst_dir_fd=self.inbox)
            commit_files(self.home, self.inbox, {self.file: self.id})
        except OSError as error:
            raise refused(error, self.file, self.uploads) from None
        finally:
            empty(self.inbox)
        os.unlink(self.id, dir_fd=self.uploads)
        sync_file_system(self.home)


def begin(api: ApiConnection, upload: ResumableUpload, keep: Sequence[str]) -> None:
    """Answer a begin request: make the upload.

    An empty file is put in its place at once, since no data will come. Unfinished uploads without
    a valid token, which are all except `keep`, are removed. Raises Refused.
    """
    file = upload.file
    _prune(upload.uploads, {*keep, upload.id})
    room = os.fstatvfs(upload.uploads)
    if upload.size > room.f_bavail * room.f_frsize:
        raise QuotaExceeded(f"{upload.size} bytes are more than the free space of the folder")
    try:
        os.close(upload.open(os.O_CREAT | os.O_EXCL))
    except OSError as error:
        raise refused(error, file, upload.uploads) from None
    if upload.size == 0:
        upload.finish()
    api.answer({"ok": True})


def _prune(uploads: int, keep: Set[str]) -> None:
    for name in os.listdir(uploads):
        if name in keep:
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(name, dir_fd=uploads).st_mtime < time.time() - YOUNG_S:
                os.unlink(name, dir_fd=uploads)
    if len(os.listdir(uploads)) >= UPLOADS_MAX:
        raise QuotaExceeded(f"the folder has {UPLOADS_MAX} unfinished uploads")


def append(api: ApiConnection, upload: ResumableUpload) -> None:
    """Answer an append request: add data to the upload, and finish it when it is complete.

    When the sender goes away, the data that came before stays. Raises Refused; the upload is then
    as before the request.
    """
    file = upload.file
    try:
        fd = upload.open()
    except FileNotFoundError:
        raise NotFound("upload", NO_UPLOAD) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _expect_unfinished(upload, fd)
        api.send({"ok": True, "offset": os.fstat(fd).st_size})
        if not _receive(api, fd, file, upload.size):
            return
        offset = os.fstat(fd).st_size
        # The answer promises that this data is on the disk. An unmount then has little to write.
        os.fsync(fd)
        if offset == upload.size:
            upload.finish()
        api.answer({"ok": True, "offset": offset})
    finally:
        os.close(fd)


def _expect_unfinished(upload: ResumableUpload, fd: int) -> None:
    """Raise NotFound when the request that had the lock before has finished the upload."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), os.lstat(upload.id, dir_fd=upload.uploads)):
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
