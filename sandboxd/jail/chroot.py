"""The root of our own mount namespace, where the daemon was started in a chroot.

A chroot is only a place in a larger tree. Its directory need not be a mount point, and then the
kernel refuses to change its propagation and to pivot_root(2) away from it; and in a chroot nobody
may make a user namespace (user_namespaces(7)). So before anything else is mounted, the directory
becomes the root of the namespace: setns(2) into the namespace that we are in leads to its true
root, there the directory is cloned onto itself, and takes the place of all that is outside.

It needs CAP_SYS_CHROOT. The unit gives none, since a service of systemd is in no chroot.
"""

from __future__ import annotations

import errno
import os

from ..errors import StageError
from . import mounts, syscalls
from .stage import stage

_REMEDY = (
    "give it CAP_SYS_CHROOT, or make the directory a mount point before the chroot: "
    "unshare --mount sh -c 'mount --bind DIR DIR && chroot DIR'"
)


def own_mounts(flags: int = 0, propagation: int = syscalls.MS_PRIVATE) -> None:
    """Enter a mount namespace of our own, and those of `flags`; nothing mounted shows outside.

    With MS_SLAVE as `propagation`, what is mounted outside later shows here.
    """
    with stage("mount namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNS | flags)
        _take_root(propagation)
        try:
            syscalls.mount(None, "/", None, syscalls.MS_REC | propagation)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            text = "/ is no mount point, as in a plain chroot"
            raise StageError("mount namespace", text, remedy=_REMEDY) from error


def _take_root(propagation: int) -> None:
    """Make the root of this process the root of its mount namespace, if it is not."""
    try:
        place = os.getcwd()
    except FileNotFoundError:  # it was removed
        place = "/"
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        except OSError:  # no CAP_SYS_CHROOT, or a container's filter
            return
        if os.path.samestat(os.fstat(root), os.stat("/")):
            os.fchdir(root)
            os.chroot(".")
        else:
            _replace_root(root, propagation)
        os.chdir(place)
    finally:
        os.close(namespace)
        os.close(root)


def _replace_root(directory: int, propagation: int) -> None:
    """Make `directory` the root of the mount namespace, at whose root we are."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | propagation)
    tree = mounts.clone(directory)
    try:
        syscalls.move_mount(tree, directory)
        os.fchdir(tree)
        try:
            syscalls.pivot_root(".", ".")
            syscalls.umount2(".", syscalls.MNT_DETACH)
        except OSError as error:  # EINVAL: the old root is the initial RAM file system
            if error.errno != errno.EINVAL:
                raise
            os.chroot(".")
    finally:
        os.close(tree)
