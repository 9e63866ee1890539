"""The launcher of file helpers: forks them, and confines them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import resource
import socket
import stat
from dataclasses import dataclass
from typing import NoReturn

from ... import log
from ...errors import StageError
from ...files import helper
from ...files.commit import is_committed_in_part, recover
from ...files.removal import empty
from ...jail import identity, syscalls
from ...jail.mounts import WRITABLE, FolderMount, attach
from ...jail.stage import stage
from ...model import HOME
from ...wire import file_calls
from ..fork import fork
from ..slots.scratch import INBOXES

CPU_S = 4 * 3600
"""Seconds of CPU time of a file helper: some terabytes of content. Its work has bounds of its own;
this one ends a helper that has lost them."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class HelperView:
    """The view of a file helper, and its identity.

    title    for `ps`
    uid      user and group
    root     descriptor of a detached clone that has work/, stage/ and maybe uploads/
    folders  the virtual folders to be shown in work/
    """

    title: str
    uid: int
    root: int
    folders: tuple[FolderMount, ...] = ()


def start_helper(view: HelperView, root: str) -> tuple[int, int]:
    """Fork a file helper that serves one request; its pid and the descriptor to speak with it.

    The helper builds its view at the directory `root`. The caller closes its own descriptors of
    `view`.
    """
    with stage("file helper"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, file_calls.IN_FLIGHT)
        keep = [theirs.fileno(), view.root, *(folder.source for folder in view.folders)]
        pid = fork(keep, lambda: _help(view, theirs, root))
        return pid, ours.detach()


def _help(view: HelperView, sock: socket.socket, root: str) -> NoReturn:
    """Become a file helper: enter the view and its identity, then serve."""
    syscalls.set_process_title(view.title)
    log.became("files")
    try:
        places = _confine(view, root)
    except StageError as error:
        sock.send(file_calls.pack_json({"ok": False, "kind": "fault", "error": str(error)}))
        os._exit(1)
    try:
        helper.serve(sock, *places)
        os._exit(0)
    except Exception as error:  # a bug: the api sees a cut answer, the log says why
        log.event("helper.ended", logging.ERROR, error=f"{type(error).__name__}: {error}")
    finally:
        os._exit(1)


def _confine(view: HelperView, root: str) -> tuple[int, int, int | None, int | None]:
    """Enter the helper's view and identity; descriptors of the workdir, of an inbox, of the place
    for resumable uploads and of /tmp of the session, if there are these."""
    with stage("file helper"):
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount_setattr(view.root, WRITABLE | syscalls.MOUNT_ATTR_NOEXEC)
        syscalls.move_mount(view.root, root)
        os.close(view.root)
        os.chdir(root)
        _attach(view.folders)
        syscalls.pivot_root(".", ".")
        syscalls.umount2(".", syscalls.MNT_DETACH)
        os.chdir("/")
        os.umask(0o022)
        for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC):
            resource.setrlimit(kind, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    identity.apply(view.uid, view.uid)
    identity.verify(view.uid, view.uid)
    with stage("file helper"):
        uploads = os.open("uploads", _DIRECTORY) if os.path.isdir("uploads") else None
        is_hosts = any(folder.path == HOME for folder in view.folders)
        home = os.open("work", _DIRECTORY) if is_hosts else _open_closed("work")
        tmp = _open_closed("tmp") if os.path.isdir("tmp") else None
        return home, _inbox(home), uploads, tmp


def _open_closed(name: str) -> int:
    """A descriptor of the directory `name`. Programs may have closed it; its files are listed and
    downloaded all the same."""
    with contextlib.suppress(OSError):  # a file system that takes no changes can still be read
        os.chmod(name, stat.S_IMODE(os.stat(name).st_mode) | stat.S_IRWXU)
    return os.open(name, _DIRECTORY)


def _attach(folders: tuple[FolderMount, ...]) -> None:
    """Show `folders` in the workdir of the view, where no program may be executed. A workspace that
    takes the place of the workdir is the first."""
    for folder in folders:
        syscalls.mount_setattr(folder.source, syscalls.MOUNT_ATTR_NOEXEC, recursive=False)
        parent, name = (".", "work") if folder.path == HOME else ("work", folder.name)
        place = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        attach(folder.source, place, name)
        os.close(place)
        os.close(folder.source)


def _inbox(home: int) -> int:
    """An empty directory for uploads that no other helper uses. The lock ends with this process.

    A helper that was killed has left files in its directory, which may fill the session's disk. If
    the helper was putting an archive into place, its steps are taken back, or finished, first.
    """
    own: int | None = None
    for number in range(INBOXES):
        path = f"stage/{number}"
        if own is not None and not os.listdir(path):
            continue
        fd = os.open(path, _DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        try:
            recover(home, fd)
            empty(fd)
        except OSError as error:
            # Where the disk of the host is full, ext4 may take no changes (requests/remount.py).
            # Files can be read all the same, unless an archive is in its place only in part.
            if error.errno != errno.EROFS or is_committed_in_part(home, fd):
                raise
            os.close(fd)
            continue
        if own is None:
            own = fd
        else:
            os.close(fd)
    if own is None:
        raise StageError("file helper", f"{INBOXES} file calls of this session are under way")
    return own
