"""The file system of a run: an empty root, filled with read-only parts.

Theory: everything is a value with `describe` and `apply`, so a plan can be printed and tested
without root. A plan is applied to a tmpfs at `root`, an empty directory of the warden's, in the
mount namespace of the run, before any user code exists. Host directories are cloned by
descriptor (open_tree), get their attributes while detached (mount_setattr), and are only then
attached (move_mount): at no time is there a writable view of them, or one with devices. Session
directories come as such detached clones. tree.py makes the result the root, and proves it.

A program sees /usr and its kin, a copy of files of /etc and /var/lib of the host (shown_files.py),
generated account files, a /dev of fresh nodes, its own /proc, read-only and masked, and three
places to write: /home/work and /tmp of its scratch, and /dev/shm in memory. /sys has the run's own
cgroup, read-only, and the number of CPUs, in plain files. /run is empty.
"""

from __future__ import annotations

import functools
import os
import stat
from dataclasses import dataclass
from typing import Protocol

from . import syscalls

RDONLY = syscalls.MOUNT_ATTR_RDONLY
NOSUID = syscalls.MOUNT_ATTR_NOSUID
NODEV = syscalls.MOUNT_ATTR_NODEV
NOEXEC = syscalls.MOUNT_ATTR_NOEXEC
IDMAP = syscalls.MOUNT_ATTR_IDMAP
READ_ONLY = RDONLY | NOSUID | NODEV
WRITABLE = NOSUID | NODEV
_FLAGS = RDONLY | NOSUID | NODEV | NOEXEC
_OPTIONS = {RDONLY: "ro", NOSUID: "nosuid", NODEV: "nodev", NOEXEC: "noexec", IDMAP: "idmapped"}


class Part(Protocol):
    """One thing in the tree; `path` is absolute inside."""

    @property
    def path(self) -> str:
        """Its place inside."""
        ...

    def describe(self) -> str:
        """The part in one line."""
        ...

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        ...


@dataclass(frozen=True, slots=True)
class Directory:
    """An empty directory of the root tmpfs."""

    path: str
    mode: int = 0o755

    def describe(self) -> str:
        """The part in one line."""
        return f"dir {self.path} {self.mode:o}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        make_directory(root + self.path)
        os.chmod(root + self.path, self.mode)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of the root tmpfs."""

    path: str
    target: str

    def describe(self) -> str:
        """The part in one line."""
        return f"link {self.path} -> {self.target}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        os.symlink(self.target, root + self.path)


@dataclass(frozen=True, slots=True)
class File:
    """A small generated file of the root tmpfs."""

    path: str
    text: str

    def describe(self) -> str:
        """The part in one line."""
        return f"file {self.path}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        fd = os.open(root + self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            data = self.text.encode()
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class FileMount:
    """A small generated file over an empty one in a read-only directory.

    The file is made in the root tmpfs. Its name there is removed, and the mount remains.
    """

    path: str
    text: str
    attributes: int = READ_ONLY

    def describe(self) -> str:
        """The part in one line."""
        return f"file {self.path} {','.join(names(self.attributes))}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        place = "/.file"
        File(place, self.text).apply(root)
        try:
            Bind(self.path, root + place, self.attributes).apply(root)
        finally:
            os.unlink(root + place)


@dataclass(frozen=True, slots=True)
class Node:
    """A character device, made afresh: no inode, so no lock on it, is shared with anyone."""

    path: str
    major: int
    minor: int

    def describe(self) -> str:
        """The part in one line."""
        return f"node {self.path} {self.major}:{self.minor}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        os.mknod(root + self.path, stat.S_IFCHR, os.makedev(self.major, self.minor))
        os.chmod(root + self.path, 0o666)


@dataclass(frozen=True, slots=True)
class Mount:
    """A new file system of type `fstype`, with mount attributes and options of its own."""

    path: str
    fstype: str
    attributes: int
    options: str = ""

    def describe(self) -> str:
        """The part in one line."""
        return f"mount {self.fstype} {self.path} {','.join(names(self.attributes))}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        if self.path != "/":
            make_directory(root + self.path)
        flags = self.attributes & _FLAGS  # MS_* have the same values
        syscalls.mount("none", root + self.path, self.fstype, flags, self.options or None)


@dataclass(frozen=True, slots=True)
class Bind:
    """A clone of `source`, with all mounted below it, seen at `path`.

    `source` is a path of the host, or a descriptor of a detached clone made earlier. `fstype` is
    the type of its file system, where no other may be shown.
    """

    path: str
    source: str | int
    attributes: int = READ_ONLY
    fstype: str = ""

    def describe(self) -> str:
        """The part in one line."""
        return f"bind {self.path} {','.join(names(self.attributes))}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        fd = clone(self.source) if isinstance(self.source, str) else self.source
        try:
            syscalls.mount_setattr(fd, self.attributes)
            self._make_target(root, stat.S_ISDIR(os.fstat(fd).st_mode))
            syscalls.move_mount(fd, root + self.path)
        finally:
            os.close(fd)

    def _make_target(self, root: str, directory: bool) -> None:
        if directory:
            make_directory(root + self.path)
        elif not os.path.lexists(root + self.path):
            os.makedirs(os.path.dirname(root + self.path), exist_ok=True)
            os.close(os.open(root + self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444))


@dataclass(frozen=True, slots=True)
class FolderMount:
    """A virtual folder or, with `host`, a workspace (warden/slots/) at `name` in the directory
    `parent`. `source` is a detached clone that has its attributes and its map of ids. The programs
    of the session have written into `parent`. So the place must be a directory already, and is
    looked up without following any link.
    """

    parent: str
    name: str
    source: int
    attributes: int
    host: bool = False

    @property
    def path(self) -> str:
        """Its place inside."""
        return f"{self.parent}/{self.name}"

    def describe(self) -> str:
        """The part in one line."""
        attributes = ",".join(names(self.attributes))
        return f"{'workspace' if self.host else 'folder'} {self.path} {attributes}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        parent = os.open(root + self.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            attach(self.source, parent, self.name)
        finally:
            os.close(parent)
            os.close(self.source)


_PLACE = (
    syscalls.RESOLVE_NO_XDEV | syscalls.RESOLVE_NO_MAGICLINKS
    | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_BENEATH
)  # fmt: skip


def attach(fd: int, parent: int, name: str) -> None:
    """Attach the detached mount `fd` to the directory `name` in `parent`. Raises OSError."""
    place = syscalls.openat2(parent, name, os.O_PATH | os.O_DIRECTORY, _PLACE)
    try:
        syscalls.move_mount(fd, place)
    finally:
        os.close(place)


@dataclass(frozen=True, slots=True)
class Mask:
    """Hides a file or directory of /proc behind an empty one of the root being built.

    Never behind the program's own /dev/null, which a race may have replaced (CVE-2025-31133). A
    mask that is `like` an earlier one, its path, is a clone of that mount, with its attributes.
    That takes one system call: a run has some fifty masks.
    """

    path: str
    like: str = ""
    attributes: int = READ_ONLY

    def describe(self) -> str:
        """The part in one line."""
        return f"mask {self.path}"

    def apply(self, root: str) -> None:
        """Put the part into the tree at `root`."""
        if self.like:
            syscalls.mount(root + self.like, root + self.path, None, syscalls.MS_BIND)
            return
        empty = "/run" if os.path.isdir(root + self.path) else "/etc/resolv.conf"
        Bind(self.path, root + empty, self.attributes).apply(root)


def clone(source: str | int, recursive: bool = True) -> int:
    """A detached clone of the mount at a path or a descriptor, `recursive` with those below it."""
    flags = syscalls.OPEN_TREE_CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
    if isinstance(source, int):
        return syscalls.open_tree("", flags | syscalls.AT_EMPTY_PATH, source)
    return syscalls.open_tree(source, flags)


def make_directory(path: str) -> None:
    """Make the directory `path` and those above it, where they are not there yet."""
    try:
        os.mkdir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)


@functools.cache
def names(attributes: int) -> tuple[str, ...]:
    """Mount attributes as mountinfo words them."""
    return tuple(name for bit, name in _OPTIONS.items() if attributes & bit)
