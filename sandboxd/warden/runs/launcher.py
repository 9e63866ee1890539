"""Forks the processes that work for one session: shims and file helpers.

A fork, not an exec: a fresh interpreter would cost 20 times as much. What the child inherits
is therefore the warden's to control: its heap holds no secret and no client data, and here the
child lets go of every descriptor that is not its own before it does anything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ... import filewire, log
from ...errors import StageError
from ...files import helper
from ...files.removal import empty
from ...jail import identity, syscalls
from ...jail.mounts import WRITABLE, FolderMount, attach
from ...jail.stage import stage
from ...shim import main as shim
from ...shim.run_spec import RunSpec
from ..slots.scratch import INBOXES

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def start_shim(order: RunSpec) -> int:
    """Fork the shim of a run; its pid. The descriptors of `order` are still the caller's too."""
    keep = [
        order.workdir, order.tmp, order.console, order.journal, order.listener.fileno(),
        order.lease, *(folder.source for folder in order.folders),
    ] + ([] if order.stdin is None else [order.stdin])  # fmt: skip
    return fork(keep, lambda: shim.main(order))


@dataclass(frozen=True, slots=True)
class HelperView:
    """What a file helper sees, and as whom.

    title    for `ps`
    uid      user and group
    root     descriptor of a detached clone; in it are work/, stage/ and maybe uploads/
    folders  the virtual folders to be seen in work/
    """

    title: str
    uid: int
    root: int
    folders: tuple[FolderMount, ...] = ()


def start_helper(view: HelperView, sock: socket.socket, root: str) -> int:
    """Fork a file helper that serves one request on `sock`; its pid.

    The descriptors of `view` are still the caller's too.
    """
    keep = [sock.fileno(), view.root, *(folder.source for folder in view.folders)]
    return fork(keep, lambda: _help(view, sock, root))


def fork(keep: list[int], child: Callable[[], None]) -> int:
    """Fork; the child has `keep`, standard error, and nothing else of ours."""
    with stage("fork"):
        pid = os.fork()
    if pid:
        return pid
    try:
        # The parent's garbage must not be collected here: that would close descriptors by numbers
        # that are the child's own by then.
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _close_others(keep)
        # What is not loaded by now never will be: the files may be those of another version soon.
        sys.meta_path.clear()
        child()
    finally:
        os._exit(1)


def _close_others(keep: list[int]) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _help(view: HelperView, sock: socket.socket, root: str) -> NoReturn:
    """Be a file helper: see nothing but the view, be nobody but its uid, serve."""
    syscalls.set_process_title(view.title)
    log.became("files")
    try:
        places = _confine(view, root)
    except StageError as error:
        sock.send(filewire.pack_json({"ok": False, "kind": "fault", "error": str(error)}))
        os._exit(1)
    try:
        helper.serve(sock, *places)
        os._exit(0)
    except Exception as error:  # a bug: the api sees a cut answer, the log says why
        log.event("helper.ended", logging.ERROR, error=f"{type(error).__name__}: {error}")
    finally:
        os._exit(1)


def _confine(view: HelperView, root: str) -> tuple[int, int, int | None]:
    """Enter the helper's view and identity; descriptors of the workdir, of an inbox, and of the
    place for uploads in several requests, if there is one."""
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
    identity.apply(view.uid, view.uid)
    identity.verify(view.uid, view.uid)
    with stage("file helper"):
        uploads = os.open("uploads", _DIRECTORY) if os.path.isdir("uploads") else None
        # Its owner's programs may have shut it; files are listed and fetched all the same.
        with contextlib.suppress(OSError):  # that takes no changes any more can still be read
            os.chmod("work", stat.S_IMODE(os.stat("work").st_mode) | stat.S_IRWXU)
        return os.open("work", _DIRECTORY), _inbox(), uploads


def _attach(folders: tuple[FolderMount, ...]) -> None:
    """Show `folders` in the workdir of the view that is being built, where nothing is run."""
    if not folders:
        return
    workdir = os.open("work", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for folder in folders:
        syscalls.mount_setattr(folder.source, syscalls.MOUNT_ATTR_NOEXEC)
        attach(folder.source, workdir, folder.name)
        os.close(folder.source)
    os.close(workdir)


def _inbox() -> int:
    """A directory for uploads that no other helper uses, empty; the lock ends with us."""
    for number in range(INBOXES):
        fd = os.open(f"stage/{number}", _DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        empty(fd)  # of what a helper that was killed has left
        return fd
    raise StageError("file helper", f"{INBOXES} file calls of this session are under way")
