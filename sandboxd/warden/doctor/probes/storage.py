"""The probes of storage: files are bounded, and apart from those of others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ....errors import StageError
from ....jail import identity, idmap, seccomp, syscalls
from ....jail.chroot import own_mounts
from ....jail.idmap import Ids
from ....jail.mounts import WRITABLE, Mount, clone
from ....jail.stage import expect
from ....model import MIB
from ...slots import images
from ...slots.folders import FOLDER_UID
from ...slots.workspaces import check_file_system, fstype, open_root
from ...slots.workspaces import mapped as mapped_clone
from . import ProbeContext

_SIZE, _INODES = 16 * MIB, 64


def paths(host: ProbeContext) -> str:
    """openat2 does not leave its directory, wherever links lead."""
    own_mounts()
    Mount("", "tmpfs", 0, "size=64k").apply(host.directory)
    os.symlink("/etc", f"{host.directory}/out")
    fd = os.open(host.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.openat2(fd, "out/passwd", os.O_RDONLY, syscalls.RESOLVE_BENEATH)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return ""
        raise
    raise StageError("openat2", "a link out of the directory was followed")


def scratch(host: ProbeContext) -> str:
    """A file system of a fixed size is created and mounted, and takes no more than its size."""
    own_mounts()
    kind = host.config.scratch.kind
    if kind == "tmpfs":
        Mount("", "tmpfs", 0, f"size={_SIZE},nr_inodes={_INODES}").apply(host.directory)
        target = host.directory
    else:
        target = _image(host, "scratch")
    images.verify(target, _SIZE)
    with open(f"{target}/large", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, 2 * _SIZE)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return kind
            raise
    raise StageError("scratch", "more was written than its size")


def mapped(host: ProbeContext) -> str:
    """Files of one uid are seen as another's through a mount: virtual folders."""
    own_mounts()
    target = _image(host, "folder")
    os.mkdir(f"{target}/work")
    os.chown(f"{target}/work", FOLDER_UID, FOLDER_UID)
    fd = clone(f"{target}/work")
    stored, seen = Ids(FOLDER_UID, FOLDER_UID), Ids(host.uid, host.uid)
    idmap.apply(fd, WRITABLE, idmap.user_namespace(stored, seen))
    expect("folders", "owner seen", os.fstat(fd).st_uid, host.uid)
    return ""


def workspaces(host: ProbeContext) -> str:
    """Each path of [workspaces] can be shown with another owner, and programs that see it cannot
    set set-user-ID bits."""
    kinds = []
    own_mounts()
    for path in host.config.workspaces.paths:
        root = open_root(path)
        check_file_system(root, path)
        userns = idmap.user_namespace(Ids(host.uid, host.uid), Ids(FOLDER_UID, FOLDER_UID))
        os.close(mapped_clone(root, userns))
        kinds.append(f"{path} ({fstype(root)})")
    if not kinds:
        return "none is configured"
    file = os.open(f"{host.directory}/file", os.O_CREAT | os.O_WRONLY, 0o600)
    os.close(seccomp.apply(seccomp.compile(set_id=False).program))  # nobody answers: ENOSYS
    for bits in (0o4600, 0o2600):
        try:
            os.fchmod(file, bits)
        except OSError:
            continue
        raise StageError("workspace", "a set-user-ID bit was set")
    return ", ".join(kinds)


def hard_links(host: ProbeContext) -> str:
    """No user can link to a file of another user (proc_sys_fs(5), protected_hardlinks)."""
    own_mounts()
    Mount("", "tmpfs", 0, "size=64k,mode=1777").apply(host.directory)
    Path(host.directory, "roots").touch(0o600)
    identity.apply(host.uid, host.uid)
    try:
        os.link(f"{host.directory}/roots", f"{host.directory}/link")
    except PermissionError:
        return ""
    raise StageError("hard links", "another user's file was linked to")


def _image(host: ProbeContext, name: str) -> str:
    """A new image, mounted for as long as this child lives; where."""
    image, target = f"{host.directory}/{name}.ext4", f"{host.directory}/{name}"
    os.mkdir(target)
    images.make(image, _SIZE, _INODES)
    images.mount(image, target)
    return target
