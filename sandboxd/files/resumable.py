"""Uploads that come in several requests (tus): what has come waits in a file of its own.

The files are in `uploads`, a directory of the folder that sessions do not see; they are named by
the api and count against the folder's quota. A file's length is the upload's offset, so whatever
breaks off, the next request knows where to go on. One request at a time works on an upload
(flock(2)). When all has come, the file is renamed to its place, as any upload.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Sequence, Set

from ..errors import Invalid, NotFound, QuotaExceeded, Refused
from .beneath import refused
from .commit import place
from .conversation import Conversation
from .durable import settle
from .paths import Name, naming_file

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UPLOAD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_APPEND

YOUNG_S = 60.0
"""An upload that has begun since it was told which to keep is not among them."""

UPLOADS_MAX = 256
"""Unfinished uploads of a folder."""


def begin(
    conversation: Conversation,
    home: int,
    uploads: int,
    id: str,
    name: str,
    size: int,
    keep: Sequence[str],
) -> None:
    """Answer a begin request: make the upload `id`, of `size` bytes, for the file `name`.

    An empty file is put in its place at once, as no data will come. Unfinished uploads for
    which nobody has a token any more are removed: all but those of `keep`. Raises Refused.
    """
    file = naming_file(name)
    _prune(uploads, {*keep, id})
    room = os.fstatvfs(uploads)
    if size > room.f_bavail * room.f_frsize:
        raise QuotaExceeded(f"{size} bytes are more than the folder has room for")
    try:
        os.close(os.open(_checked(id), _UPLOAD | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=uploads))
    except OSError as error:
        raise refused(error, file) from None
    if size == 0:
        _finish(home, uploads, id, file)
    conversation.answer({"ok": True})


def _prune(uploads: int, keep: Set[str]) -> None:
    for name in os.listdir(uploads):
        if name.removeprefix("kept-") in keep:
            continue
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(name, dir_fd=uploads).st_mtime < time.time() - YOUNG_S:
                os.unlink(name, dir_fd=uploads)
    if len(os.listdir(uploads)) >= UPLOADS_MAX:
        raise QuotaExceeded(f"the folder has {UPLOADS_MAX} unfinished uploads")


def append(
    conversation: Conversation, home: int, uploads: int, id: str, name: str, size: int
) -> None:
    """Answer an append request: add data to the upload `id`, and finish it at `size` bytes.

    What came before the sender went away stays. Raises Refused; then nothing was added.
    """
    file = naming_file(name)
    try:
        fd = os.open(_checked(id), _UPLOAD, dir_fd=uploads)
    except FileNotFoundError:
        raise NotFound("upload", "the upload is finished or was given up") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _expect_unfinished(uploads, id, fd)
        conversation.tell({"ok": True, "offset": os.fstat(fd).st_size})
        if not _received(conversation, fd, file, size):
            return
        offset = os.fstat(fd).st_size
        os.fsync(fd)  # what is told to be there is; and who unmounts the folder has little to write
        if offset == size:
            _finish(home, uploads, id, file)
        conversation.answer({"ok": True, "offset": offset})
    finally:
        os.close(fd)


def _expect_unfinished(uploads: int, id: str, fd: int) -> None:
    """Raise NotFound when who had the lock before us has put the file in its place."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(fd), os.lstat(id, dir_fd=uploads)):
            return
    raise NotFound("upload", "the upload is finished or was given up")


def _received(conversation: Conversation, fd: int, name: Name, size: int) -> bool:
    """Take in the data up to the commit; False when the sender went away before it.

    Raises Refused at the commit, so that the sender never blocks, and nothing was added then.
    """
    offset = os.fstat(fd).st_size
    wrong: Refused | None = None
    while (packet := conversation.receive()) != {"commit": True}:
        if packet is None:
            return False
        if wrong is None:
            wrong = _added(fd, packet, size, name)
            if wrong is not None:
                os.ftruncate(fd, offset)
    if wrong is not None:
        raise wrong
    return True


def _added(fd: int, packet: object, size: int, name: Name) -> Refused | None:
    """Add a packet of data; what is wrong with it. Raises OSError for a failure of our own."""
    if not isinstance(packet, bytes):
        return Invalid("this is no part of an upload")
    if os.fstat(fd).st_size + len(packet) > size:
        return Invalid(f"the upload has {size} bytes, and no more")
    try:
        while packet:
            packet = packet[os.write(fd, packet) :]
    except OSError as error:
        return refused(error, name)
    return None


def _finish(home: int, uploads: int, id: str, name: Name) -> None:
    """Put the upload in its place. Raises Refused; then it stays what it is."""
    try:
        place(home, uploads, {name: id})
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"kept-{id}", dir_fd=uploads)
    settle(home)


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise Invalid("no upload is called so")
    return id
