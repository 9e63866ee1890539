"""The registry of the virtual folders of this daemon: finds, creates, changes and removes them.

As with sessions, the database is written before the act: a folder whose creation or removal was
interrupted is removed at the next start, and no other folder ever is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sqlite3
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

from ...config.folder_tables import FoldersConfig
from ...errors import (
    Deleted,
    FolderExists,
    Gone,
    Invalid,
    NotFound,
    QuotaExceeded,
    Refused,
    SandboxdError,
    Unavailable,
)
from ...model import FOLDER_NAME, HOME
from ...runs.channel import Channel
from ...store import folders as table
from ...store.database import Unwritable
from ...store.folders import FolderRow
from ..admission.fair_queue import Amount
from ..processes.file_client import HelperPermits
from ..processes.warden_client import WardenClient
from ..sessions.registry import SessionRegistry
from ..sessions.services import Services

_log = logging.getLogger(__name__)

RESERVED = ("_", "invitations")
"""Names that have another meaning in URLs."""

_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_BYTES_OF_INODE = 8192
_FOR_SESSIONS = re.compile(r", or ask for more with \S+")
"""A remedy of file helpers that a folder does not have: its size stays as it is."""


@dataclass(slots=True)
class Folder:
    """A folder that can be used.

    helpers  the bound of its file calls
    closed   it is being removed
    """

    row: FolderRow
    warden: WardenClient
    helpers: HelperPermits
    closed: bool = False

    @property
    def kind(self) -> str:
        """The word for it in a refusal."""
        return "virtual folder"

    async def open_helper(self) -> Channel:
        """A file helper of it, for one request. Raises Deleted when the folder is removed."""
        if self.closed:
            raise Deleted("virtual folder")
        return await self.warden.folder_files(self.row.id)

    def helper_gone(self) -> SandboxdError:
        """The reason why its file helper may have ended without an answer."""
        if self.closed:
            return Deleted("virtual folder")
        return Unavailable("the file helper is gone")

    def client_message(self, text: str) -> str:
        """A message of its file helper for clients: the folder is /home/work for the helper."""
        folder = f"the folder {self.row.name}"
        text = _FOR_SESSIONS.sub("", text).replace("the session", folder)
        return text.replace(f"{HOME}/", "").replace(HOME, folder)


class FolderRegistry:
    """All folders, by UUID and by owner and name."""

    def __init__(self, services: Services, sessions: SessionRegistry) -> None:
        self._services = services
        self._warden = services.warden
        self._database = services.database
        self._deferred = services.deferred
        self._admission = services.admission
        self._disk = services.admission.sessions
        self._sessions = sessions
        self._by_id: dict[str, Folder] = {}
        self._changing = asyncio.Lock()

    @property
    def config(self) -> FoldersConfig:
        """The configuration of folders that is in use."""
        return self._services.config.folders

    async def restore(self) -> None:
        """Restore the folders of an earlier daemon; finish acts that were interrupted."""
        for row in await self._database.run(table.all_rows):
            if row.status == "READY":
                self._disk.take(row.id, row.owner, Amount(0, row.size))
                self._add(row)
                continue
            try:
                await self._warden.folder_remove(row.id)
                await self._deferred.write(table.remove, row.id)
            except SandboxdError as error:
                _log.warning("folder %s (%s) cannot be removed: %s", row.id, row.name, error)

    def _add(self, row: FolderRow) -> Folder:
        folder = Folder(row, self._warden, HelperPermits(self._services.helpers, row.owner))
        self._by_id[row.id] = folder
        return folder

    def of(self, owner: str | None) -> list[Folder]:
        """All folders of an owner, oldest first; of all owners, if it is None."""
        usable = [folder for folder in self._by_id.values() if not folder.closed]
        return [folder for folder in usable if owner in (folder.row.owner, None)]

    def find(self, owner: str, ref: str) -> Folder:
        """The owner's folder of this name, else of this UUID. Raises NotFound."""
        own = self.of(owner)
        for folder in own:
            if folder.row.name == ref:
                return folder
        if _UUID.fullmatch(ref):
            id = str(uuid.UUID(ref))
            for folder in own:
                if folder.row.id == id:
                    return folder
        raise _missing(ref)

    def has(self, ref: str) -> bool:
        """There is a folder of this UUID or name, of any owner."""
        return any(ref in (each.row.id, each.row.name) for each in self._by_id.values())

    def by_id(self, id: str) -> Folder:
        """The folder with this UUID, of any owner. Raises NotFound."""
        folder = self._by_id.get(id)
        if folder is None or folder.closed:
            raise _missing(id)
        return folder

    async def make(self, wanted: FolderRow) -> Folder:
        """A new folder. Raises FolderExists, QuotaExceeded, Full, Draining, StageError."""
        if len(self.of(wanted.owner)) >= self.config.count:
            raise QuotaExceeded(f"an owner has at most {self.config.count} folders")
        await self._admission.reserve_disk(wanted.id, wanted.owner, Amount(0, wanted.size))
        try:
            return await self._make(wanted)
        except BaseException:  # also when the request is cancelled
            self._disk.release(wanted.id)
            raise

    async def _make(self, wanted: FolderRow) -> Folder:
        await self._deferred.settle()
        try:
            await self._database.run(table.add, wanted)
        except sqlite3.IntegrityError:
            raise _exists(wanted.name) from None
        inodes = min(self.config.inodes, wanted.size // _BYTES_OF_INODE)
        try:
            await self._warden.folder_make(wanted.id, wanted.size, inodes)
            await self._database.run(table.set_status, wanted.id, "READY")
        except Gone:
            raise  # the next start removes the directory, if it is there, by the row
        except Exception:  # after any error, nothing may stay half made
            await self._warden.folder_remove(wanted.id)
            await self._deferred.write(table.remove, wanted.id)
            raise
        return self._add(replace(wanted, status="READY"))

    async def change(self, folder: Folder, **fields: Any) -> None:
        """Give a folder another name, permission or cloneability. Raises FolderExists, Deleted."""
        async with self._changing:
            if folder.closed:
                raise Deleted("virtual folder")
            row = replace(folder.row, **fields)
            try:
                await self._database.run(table.change, row)
            except sqlite3.IntegrityError:
                raise _exists(row.name) from None
            folder.row = row

    async def remove(self, folder: Folder) -> None:
        """Remove a folder with all that is in it. Raises Refused when a session sees it."""
        if users := self._sessions.using(folder.row.id):
            names = [session.row.name for session in users]
            raise Refused(
                f"{folder.row.name} is mounted in the session {names[0]}; delete that first",
                {"sessions": names},
            )
        if folder.closed:
            raise _missing(folder.row.name)
        folder.closed = True
        try:
            await self._remove(folder.row)
        except BaseException:  # the client can try again
            folder.closed = False
            raise
        del self._by_id[folder.row.id]
        self._disk.release(folder.row.id)

    async def _remove(self, row: FolderRow) -> None:
        """Remove directory and row; also on a full disk, where nothing can be written before."""
        with contextlib.suppress(Unwritable):
            await self._database.run(table.set_status, row.id, "DELETING")
        try:
            await self._warden.folder_remove(row.id)
        except Invalid:
            await self._deferred.write(table.set_status, row.id, "READY")
            raise Refused(f"{row.name} is being used by a session") from None
        await self._database.run(table.remove, row.id)


def new_row(
    name: str, owner: str, size: int, permission: table.Permission, **rest: Any
) -> FolderRow:
    """A row for a new folder; `rest` are further fields. Raises Invalid for its name."""
    checked = check_name(name)
    fields: dict[str, Any] = {"usage_mode": "general", "cloneable": False} | rest
    now = time.time()
    return FolderRow(str(uuid.uuid4()), checked, owner, size, permission, created_at=now, **fields)


def check_name(name: str) -> str:
    """`name`, if a folder can have it. Raises Invalid.

    A name in the form of a UUID is refused: it would hide the folder with that UUID.
    """
    if FOLDER_NAME.fullmatch(name) and name not in RESERVED and not _UUID.fullmatch(name):
        return name
    allowed = "1 to 64 ASCII letters, digits, _ . or -, the first no ., no UUID, not one of "
    raise Invalid.of({"name": allowed + ", ".join(RESERVED)})


def _missing(ref: str) -> NotFound:
    return NotFound("virtual folder", f"Virtual folder {ref} does not exist.")


def _exists(name: str) -> FolderExists:
    return FolderExists(f"A virtual folder named {name} exists.")
