"""Finds a runtime's tools as a jail would: on its PATH, in the places that it can see.

Tools are often links, one after the other (/usr/bin/cc, /etc/alternatives/cc, /usr/bin/gcc);
each hop must be visible inside, and the end must be a file that anybody may execute. A tool
that only the daemon's own PATH has, typically below a home directory, is told apart from one
that is not there, since the remedy is another.
"""

from __future__ import annotations

import os
import stat

from ..config import Rootfs

JAIL_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
HOPS_MAX = 40


class Finder:
    """Looks in the file system below `root` ("" is the host's own)."""

    def __init__(self, rootfs: Rootfs, root: str = "", path: str | None = None) -> None:
        self._root = root
        self._visible = (*rootfs.paths, *(f"/etc/{name}" for name in rootfs.etc))
        self._path = os.environ.get("PATH", "") if path is None else path

    def find(self, alternatives: tuple[str, ...]) -> tuple[str | None, str]:
        """The path of the first of `alternatives` that is there, or None and why none is."""
        hidden = ""
        for tool in alternatives:
            for directory in JAIL_PATH:
                path = f"{directory}/{tool}"
                if os.path.lexists(self._root + path):
                    blocked = self._blocked(path)
                    if not blocked:
                        return path, ""
                    hidden = hidden or blocked
        names = " or ".join(alternatives)
        return None, hidden or self._elsewhere(alternatives) or f"{names} is not installed"

    def _blocked(self, path: str) -> str:
        """Why a jail cannot execute `path`, "" when it can."""
        for _ in range(HOPS_MAX):
            if not self._sees(path):
                return f"{path} lies outside of what a jail sees (rootfs.paths)"
            try:
                found = os.lstat(self._root + path)
                if not stat.S_ISLNK(found.st_mode):
                    return "" if found.st_mode & 0o001 else f"{path} is not executable by all"
                target = os.readlink(self._root + path)
            except OSError as error:
                return f"{path}: {error.strerror}"
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        return f"{path}: too many links"

    def _sees(self, path: str) -> bool:
        return any(path == place or path.startswith(f"{place}/") for place in self._visible)

    def _elsewhere(self, alternatives: tuple[str, ...]) -> str:
        """Where the daemon's own PATH has one, which a jail does not see."""
        for tool in alternatives:
            for directory in self._path.split(":"):
                path = f"{directory}/{tool}"
                if directory.startswith("/") and os.path.exists(self._root + path):
                    return (
                        f"{path} lies outside of what a jail sees; install {tool} for all users, "
                        "or add its directory to rootfs.paths"
                    )
        return ""
