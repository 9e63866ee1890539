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
helper's own clone keeps the file system until the helper ends. To mount an image waits for the
disk, all the more if its journal is to be recovered after a crash. So the loop only notes its users
(FolderStore), and a background job mounts it (`mount`). Only `remove` removes a folder: a folder
that the api does not know any more may still be a user's data.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
from collections.abc import Sequence

from ...errors import Invalid, StageError
from ...jail import idmap
from ...jail.idmap import Ids
from ...jail.mounts import IDMAP, RDONLY, WRITABLE, FolderMount, clone
from ...jail.stage import stage
from ...model import HOME, Attachment
from ...wire import messages
from . import flush, images
from .scratch import INBOXES, clone_into
from .slots import Slot

FOLDER_UID = 2_147_483_000
"""Owner, user and group, of all in an image: below 2^31 and far above what hosts give out. Not 0,
lest a set-user-ID program in an image be root's where an operator mounts it by hand."""

DIRECTORIES = {"work": 0o755, "uploads": 0o700, "stage": 0o700} | {
    f"stage/{number}": 0o700 for number in range(INBOXES)
}


def mount(state_dir: str, folder: str) -> None:
    """Mount a folder, if it is not mounted; a slot or a file call uses it, so that nobody unmounts
    it meanwhile. This waits for the disk. Several processes may do so at once. Raises StageError.
    """
    path = f"{state_dir}/folders/{folder}"
    image, target = f"{path}/image", f"{path}/mount"
    with stage(idmap.STAGE), contextlib.ExitStack() as stack:
        try:
            size = os.path.getsize(image)
        except FileNotFoundError:
            raise StageError(idmap.STAGE, f"folder {folder} is not there") from None
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.ismount(target):
            images.mount(image, target)
        images.verify(target, size)
        os.stat(f"{target}/work")  # read from the disk now, and not in the loop


class FolderStore:
    """The folders of one daemon, as the warden's loop knows them. A folder has users: slots, by
    number, and file calls, which have numbers below zero. A folder without a user is unmounted."""

    def __init__(self, state_dir: str) -> None:
        self._dir = f"{state_dir}/folders"
        self._users: dict[str, set[int]] = {}
        self._mounted: set[str] = set()  # of those with users
        self._removals: set[str] = set()  # folders that a background job removes
        self._calls = itertools.count(-1, -1)
        os.makedirs(self._dir, mode=0o700, exist_ok=True)

    def make(self, folder: str, size: int, inodes: int) -> None:
        """A new, empty folder of `size` bytes, on the disk when this returns."""
        path = f"{self._dir}/{folder}"
        with contextlib.ExitStack() as undo, stage(idmap.STAGE):
            os.mkdir(path, 0o700)
            undo.callback(shutil.rmtree, path, ignore_errors=True)
            os.mkdir(self._mount(folder), 0o700)
            images.make(f"{path}/image", size, inodes)
            images.mount(f"{path}/image", self._mount(folder))
            try:
                images.verify(self._mount(folder), size)
                _make_directories(self._mount(folder))
            finally:
                images.unmount(self._mount(folder))
            flush.directory(path)
            flush.directory(self._dir)
            undo.pop_all()

    def begin_removal(self, folder: str) -> None:
        """No session gets the folder any more, and no file call, up to `end_removal`. Raises
        Invalid when a session has it, or it is being removed."""
        if any(user >= 0 for user in self._users.get(folder, ())) or folder in self._removals:
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

    def begin_call(self, folder: str) -> int:
        """A file call uses the folder from now on, up to `end_call` with this number. Raises
        StageError."""
        call = next(self._calls)
        self._use(folder, call)
        return call

    def end_call(self, folder: str, call: int) -> list[int]:
        """The call has its helper, or has failed; the rest as of `take_back`. After a StageError
        nobody calls again, so the folder has no user, and is mounted up to its next one or its
        removal, which unmounts it first."""
        try:
            return self._leave(folder, call)
        except StageError:
            self._forget(folder)
            raise

    def open(self, folder: str) -> int:
        """A detached clone of the whole of a folder that is mounted, for a file helper."""
        self._mounted.add(folder)
        with stage(idmap.STAGE):
            return clone(self._mount(folder))

    def lend(self, slot: Slot, attachments: tuple[Attachment, ...]) -> None:
        """`slot` uses the folders of `attachments` from now on. They are to be mounted
        (`unmounted`), and then to be proven (`prove`). `take_back` undoes this, also after an
        error. Raises StageError."""
        if not attachments:
            return
        slot.attachments = attachments
        slot.idmap = idmap.user_namespace(Ids(FOLDER_UID, FOLDER_UID), Ids(slot.uid, slot.gid))
        for one in attachments:
            self._use(one.folder, slot.number)

    def unmounted(self, folders: Sequence[str]) -> list[str]:
        """Those of `folders` that are to be mounted, or perhaps are just now."""
        return [folder for folder in folders if folder not in self._mounted]

    def prove(self, slot: Slot) -> None:
        """The folders of `slot` are mounted now; prove that they can be shown with its uid. Raises
        StageError."""
        self._mounted.update(one.folder for one in slot.attachments)
        with contextlib.ExitStack() as stack:
            self.clones(slot, stack)

    def take_back(self, slot: Slot) -> list[int]:
        """`slot` has no folders any more; folders without another user are unmounted. The
        descriptors keep their file systems, see images.detach. Raises StageError when no descriptor
        is free: the slot uses a folder that is still mounted up to the next call, which does the
        rest."""
        if slot.idmap is not None:
            os.close(slot.idmap)
            slot.idmap = None
        with contextlib.ExitStack() as undo:
            file_systems: list[int] = []
            undo.callback(messages.close_all, file_systems)
            for one in slot.attachments:
                file_systems += self._leave(one.folder, slot.number)
            undo.pop_all()
        slot.attachments = ()
        return file_systems

    def _use(self, folder: str, user: int) -> None:
        if folder in self._removals:
            raise StageError(idmap.STAGE, f"folder {folder} is being removed")
        self._users.setdefault(folder, set()).add(user)

    def _leave(self, folder: str, user: int) -> list[int]:
        users = self._users.get(folder, set())
        if users != {user}:
            users.discard(user)
            return []
        fd = images.detach(self._mount(folder))
        self._forget(folder)
        return [] if fd is None else [fd]

    def _forget(self, folder: str) -> None:
        """The folder has no user any more."""
        del self._users[folder]
        self._mounted.discard(folder)

    @property
    def used(self) -> frozenset[str]:
        """The folders that a slot or a file call uses."""
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


def _make_directories(root: str) -> None:
    """Make the directories of a folder below `root`, on the disk when this returns."""
    for name, mode in DIRECTORIES.items():
        os.mkdir(f"{root}/{name}")
        os.chown(f"{root}/{name}", FOLDER_UID, FOLDER_UID)
        os.chmod(f"{root}/{name}", mode)
    flush.file_system(root)
