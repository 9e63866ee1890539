"""The files below /etc and /var/lib that the host itself shows to all of its users.

A file is public when everybody may read it and enter the directories above it. It is opened
beneath its tree without following a link (openat2(2)). Its bytes, mode and times come from that
one descriptor. A file whose content is not known from a package must also be root's alone:

    not writable by others    another user could decide what programs read
    without a second name     a hard link into a closed directory would show what that one hides

A file or directory that vanishes meanwhile, while apt is at work, is absent and no error.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Literal

from . import syscalls

TREES = ("/etc", "/var/lib")
"""The parts of the host that are looked at."""

FILE_MAX = 16 << 20
"""Bytes of a file; a larger one is left out, since the copy is in memory."""

Why = Literal["changed", "closed", "large", "writable", "linked", "absent"]

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_BENEATH = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True)
class PublicFile:
    """The bytes of a file, its mode, and its times of access and change in nanoseconds."""

    content: bytes
    mode: int
    times: tuple[int, int]


class PublicFiles:
    """The public files of the host whose file system is at `root`."""

    def __init__(self, root: str = "") -> None:
        self._root = root.rstrip("/")
        self._owner = os.stat(self._root or "/").st_uid
        self._enterable: dict[str, bool] = {}
        self._trees = {
            tree: os.open(self._root + tree, os.O_PATH | os.O_DIRECTORY)
            for tree in TREES
            if os.path.isdir(self._root + tree)
        }

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self._trees.values():
            os.close(fd)

    def read(self, path: str, known: bool) -> PublicFile | Why:
        """A file, or why it is not public. `known`: a checksum of its content will be compared."""
        tree = next((tree for tree in self._trees if path.startswith(f"{tree}/")), None)
        if tree is None:
            return "absent"
        if not self.may_enter(os.path.dirname(path)):
            return "closed"
        try:
            fd = syscalls.openat2(self._trees[tree], path[len(tree) + 1 :], _READ, _BENEATH)
        except OSError:
            return "absent"  # or a link, which is not followed
        try:
            status = os.fstat(fd)
            why = self._obstacle(status, known)
            if why:
                return why
            with open(fd, "rb", closefd=False) as file:
                content = file.read(FILE_MAX + 1)
        finally:
            os.close(fd)
        if len(content) > FILE_MAX:
            return "large"
        return PublicFile(content, status.st_mode, (status.st_atime_ns, status.st_mtime_ns))

    def _obstacle(self, status: os.stat_result, known: bool) -> Why | None:
        if not stat.S_ISREG(status.st_mode):
            return "absent"
        if not status.st_mode & stat.S_IROTH:
            return "closed"
        if not known and (status.st_uid != self._owner or status.st_mode & 0o022):
            return "writable"
        if not known and status.st_nlink > 1:
            return "linked"
        return "large" if status.st_size > FILE_MAX else None

    def may_enter(self, directory: str) -> bool:
        """Everybody may enter `directory`, which is no link, and those above it."""
        if directory in TREES or directory in ("", "/"):
            return True
        if directory not in self._enterable:
            mode = self.mode(directory)
            self._enterable[directory] = (
                stat.S_ISDIR(mode)
                and bool(mode & stat.S_IXOTH)
                and self.may_enter(os.path.dirname(directory))
            )
        return self._enterable[directory]

    def mode(self, path: str) -> int:
        """The mode of the file, directory or link at `path`; 0: there is none."""
        try:
            return os.lstat(self._root + path).st_mode
        except OSError:
            return 0

    def text(self, link: str) -> str | None:
        """The text of a link; None: there is no link."""
        try:
            return os.readlink(self._root + link)
        except OSError:
            return None

    def target(self, link: str) -> str | None:
        """The path to which a link leads in one step; None: there is no link."""
        text = self.text(link)
        return None if text is None else os.path.normpath(os.path.join(os.path.dirname(link), text))

    def names(self, directory: str) -> list[str]:
        """The names in `directory`, sorted; none where others may not list them."""
        if not self.may_enter(directory) or not self.mode(directory) & stat.S_IROTH:
            return []
        try:
            return sorted(os.listdir(self._root + directory))
        except OSError:
            return []
