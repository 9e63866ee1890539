"""Virtual folders: files that outlive sessions, each folder in an image of its own.

    STATE/folders/UUID/image     an ext4 image (images.py); its size is the folder's quota
    STATE/folders/UUID/mount/    where it is mounted, in the warden's mount namespace

In an image:   work/   the files           stage/   the inboxes of file helpers
               uploads/   uploads that come in several requests

All files in an image belong to FOLDER_UID, which no account has. A session's programs see work/
through an idmapped mount (jail/idmap.py), in which the files belong to the slot. So two sessions
with different uids may use a folder at once; a kernel without idmapped mounts refuses the session.
A file call on a folder needs no map, since its helper has FOLDER_UID.

An image is mounted as long as a slot has the folder, and while a helper for it is made; the
helper's own clone keeps the file system until the helper ends. Only `remove` removes a folder: a
folder that the api does not know any more may still be a user's data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from ...errors import Invalid, StageError
from ...jail import idmap
from ...jail.idmap import Ids
from ...jail.mounts import IDMAP, RDONLY, WRITABLE, FolderMount, clone
from ...jail.stage import stage
from ...model import HOME, Attachment
from . import flush, images
from .scratch import INBOXES, clone_into
from .slots import Slot

FOLDER_UID = 2_147_483_000
"""Owner, user and group, of all in an image: below 2^31 and far above what hosts give out. Not 0,
lest a set-user-ID program in an image be root's where an operator mounts it by hand."""

DIRECTORIES = {"work": 0o755, "uploads": 0o700, "stage": 0o700} | {
    f"stage/{number}": 0o700 for number in range(INBOXES)
}


class FolderStore:
    """The folders of one daemon."""

    def __init__(self, state_dir: str) -> None:
        self._dir = f"{state_dir}/folders"
        self._users: dict[str, set[int]] = {}  # mounted folder -> slots that have it
        self._removals: set[str] = set()  # folders that a background job removes
        os.makedirs(self._dir, mode=0o700, exist_ok=True)

    def make(self, folder: str, size: int, inodes: int) -> None:
        """A new, empty folder of `size` bytes, on the disk when this returns."""
        path = f"{self._dir}/{folder}"
        with contextlib.ExitStack() as undo, stage(idmap.STAGE):
            os.mkdir(path, 0o700)
            undo.callback(shutil.rmtree, path, ignore_errors=True)
            os.mkdir(self._mount(folder), 0o700)
            images.make(f"{path}/image", size, inodes)
            with self._mounted(folder) as mount:
                for name, mode in DIRECTORIES.items():
                    os.mkdir(f"{mount}/{name}")
                    os.chown(f"{mount}/{name}", FOLDER_UID, FOLDER_UID)
                    os.chmod(f"{mount}/{name}", mode)
                flush.file_system(mount)
            flush.directory(path)
            flush.directory(self._dir)
            undo.pop_all()

    def begin_removal(self, folder: str) -> None:
        """No session gets the folder any more, and no file helper, up to `end_removal`. Raises
        Invalid when a session has it, or it is being removed."""
        if self._users.get(folder) or folder in self._removals:
            raise Invalid(f"folder {folder} is in use")
        self._removals.add(folder)

    def end_removal(self, folder: str) -> None:
        """The folder is removed, or its removal has failed."""
        self._removals.discard(folder)

    def remove(self, folder: str) -> None:
        """Remove a folder that no session has, if it is there."""
        images.unmount(self._mount(folder))  # mounted, if a background job was killed
        with stage(idmap.STAGE), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(f"{self._dir}/{folder}")

    def open(self, folder: str) -> int:
        """A detached clone of the whole of a folder, for a file helper."""
        with self._mounted(folder) as mount, stage(idmap.STAGE):
            return clone(mount)

    def lend(self, slot: Slot, attachments: tuple[Attachment, ...]) -> None:
        """Keep the folders of `attachments` mounted for `slot`, and prove that they can be shown
        with its uid. `take_back` undoes this, also after an error."""
        if not attachments:
            return
        slot.attachments = attachments
        slot.idmap = idmap.user_namespace(Ids(FOLDER_UID, FOLDER_UID), Ids(slot.uid, slot.gid))
        for one in attachments:
            if not self._users.get(one.folder):
                self._attach(one.folder)
            self._users.setdefault(one.folder, set()).add(slot.number)
        with contextlib.ExitStack() as stack:
            self.clones(slot, stack)

    def take_back(self, slot: Slot) -> list[int]:
        """`slot` has no folders any more; folders that no other slot has are unmounted. The
        descriptors keep their file systems, see images.detach."""
        file_systems = []
        if slot.idmap is not None:
            os.close(slot.idmap)
        for one in slot.attachments:
            users = self._users.get(one.folder, set())
            users.discard(slot.number)
            if users or self._users.pop(one.folder, None) is None:
                continue
            if (fd := images.detach(self._mount(one.folder))) is not None:
                file_systems.append(fd)
        slot.attachments, slot.idmap = (), None
        return file_systems

    @property
    def mounted(self) -> frozenset[str]:
        """The folders that a slot has."""
        return frozenset(self._users)

    def clones(self, slot: Slot, stack: contextlib.ExitStack) -> tuple[FolderMount, ...]:
        """The folders of `slot` as parts of a root; `stack` closes their descriptors."""
        return tuple(self._clone(slot, one, stack) for one in slot.attachments)

    def _clone(self, slot: Slot, one: Attachment, stack: contextlib.ExitStack) -> FolderMount:
        assert slot.idmap is not None
        attributes = WRITABLE | (RDONLY if one.read_only else 0)
        with stage(idmap.STAGE):
            fd = clone_into(stack, f"{self._mount(one.folder)}/work")
        idmap.apply(fd, attributes, slot.idmap)
        return FolderMount(HOME, one.name, fd, attributes | IDMAP)

    def _mount(self, folder: str) -> str:
        return f"{self._dir}/{folder}/mount"

    @contextlib.contextmanager
    def _mounted(self, folder: str) -> Iterator[str]:
        """The mount of `folder`. One that no slot has is mounted for the time of the `with`."""
        if self._users.get(folder):
            yield self._mount(folder)
            return
        self._attach(folder)
        try:
            yield self._mount(folder)
        finally:
            images.unmount(self._mount(folder))

    def _attach(self, folder: str) -> None:
        image, mount = f"{self._dir}/{folder}/image", self._mount(folder)
        if folder in self._removals:
            raise StageError(idmap.STAGE, f"folder {folder} is being removed")
        with stage(idmap.STAGE):
            try:
                size = os.path.getsize(image)
            except FileNotFoundError:
                raise StageError(idmap.STAGE, f"folder {folder} is not there") from None
            images.mount(image, mount)
        images.verify(mount, size)
