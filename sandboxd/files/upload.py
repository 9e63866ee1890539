"""The uploads of one request: all its files, or none.

Data goes to files in `inbox`, which programs cannot see. Only the commit changes the workdir
(uploaded_tree.py). After the first error the helper reads and drops the rest of the request, so
that the sender never blocks, and answers with the error at the commit. When the sender goes away
before the commit, the helper removes all files of the request.
"""

from __future__ import annotations

import os

from ..errors import Invalid, Refused
from ..wire.file_calls import FileWireError
from .api_connection import ApiConnection
from .beneath import expect_own_home, refused
from .paths import Name, naming_file
from .removal import empty
from .sync import sync_file_system
from .uploaded_tree import commit_files

MODES = (0o644, 0o755)
"""The modes that an uploaded file may have."""


def receive_files(api: ApiConnection, home: int, inbox: int) -> None:
    """Answer an upload request. Raises Refused, FileWireError or OSError for the first error."""
    received = _ReceivedFiles(inbox)
    try:
        if not _receive(api, received):
            return
        expect_own_home(home, inbox)
        commit_files(home, inbox, received.files)
        sync_file_system(home)
    finally:
        received.close()
        empty(inbox)
    api.answer({"ok": True})


def _receive(api: ApiConnection, received: _ReceivedFiles) -> bool:
    """Receive all packets up to the commit; False when the sender went away before it."""
    first_error: Exception | None = None
    while True:
        try:
            packet = api.receive()
        except FileWireError as error:
            first_error = first_error or error
            continue
        if packet is None:
            return False
        if packet == {"commit": True}:
            break
        if first_error is None:
            first_error = _add_packet(received, packet)
    if first_error is not None:
        raise first_error
    return True


def _add_packet(received: _ReceivedFiles, packet: object) -> Exception | None:
    """Add `packet` to the files. Returns the error; None: there is none."""
    try:
        received.add(packet)
    except (FileWireError, Refused, OSError) as error:
        return error
    return None


class _ReceivedFiles:
    """The files of one request, in `inbox` under the numbers 0, 1, 2 ..."""

    def __init__(self, inbox: int) -> None:
        self.files: dict[Name, str] = {}
        self._inbox = inbox
        self._count = 0
        self._writing: tuple[Name, int] | None = None

    def add(self, packet: object) -> None:
        """Begin a file or add data to it. Raises Refused, FileWireError, OSError."""
        match packet:
            case bytes(data) if self._writing is not None:
                self._write(data, *self._writing)
            case {"file": str(name), "mode": mode} if mode in MODES:
                self._begin(naming_file(name), mode)
            case _:
                raise Invalid("this is no part of an upload")

    def close(self) -> None:
        """End the file that is written."""
        if self._writing is not None:
            os.close(self._writing[1])
            self._writing = None

    def _begin(self, name: Name, mode: int) -> None:
        self.close()
        number = str(self._count)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            fd = os.open(number, flags, 0o600, dir_fd=self._inbox)
        except OSError as error:
            raise refused(error, name, self._inbox) from None
        self._writing = name, fd
        self._count += 1
        os.fchmod(fd, mode)  # os.open would apply the umask
        former = self.files.pop(name, None)
        if former is not None:
            os.unlink(former, dir_fd=self._inbox)
        self.files[name] = number

    def _write(self, data: bytes, name: Name, fd: int) -> None:
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError as error:
            raise refused(error, name, fd) from None
