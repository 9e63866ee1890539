"""Which tools a program in the jail would find, told from outside of it.

The jail's root is made of a few host trees, bound read-only, and of links copied as they are.
So a path is followed here as the kernel would follow it inside (path_resolution(7)): one
component at a time, each link read, and every stop must lie in what the jail has. That is why
a compiler below somebody's home directory does not count, nor a link in /usr/bin to it. The
program runs as a user of its own, so directories must be searchable and the tool executable
by others; bits are read and not tried, since we may be root, to whom all is allowed.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from ..config import RootfsConfig
from ..model import PATH

_LINKS_MAX = 40  # as the kernel: path_resolution(7), ELOOP


@dataclass(frozen=True, slots=True)
class MissingTool:
    """A tool that the jail cannot offer; `why` is one clause for people."""

    why: str


class _Obstacle(Exception):
    """There is something at a path, but a program in the jail could not use it."""


class JailView:
    """The part of the host's file system at `root` that is visible in a jail."""

    def __init__(self, rootfs: RootfsConfig, root: str = "/") -> None:
        self._root = root.rstrip("/")
        self._paths = rootfs.paths
        etc = (glob.glob(f"{glob.escape(self._root)}/etc/{name}") for name in rootfs.etc)
        self._trees = (
            *(path.rstrip("/") for path in rootfs.paths),
            *(path.removeprefix(self._root) for found in etc for path in found),
        )

    def find(self, names: tuple[str, ...], elsewhere: Iterable[str] = ()) -> str | MissingTool:
        """The path inside of the first of `names` that can be run there, or why none can.

        A name is looked for along PATH, an absolute one at its place. `elsewhere` are
        directories to look into for the reason only: what an operator sees in a shell.
        """
        obstacles = []
        for path in _places(names, PATH.split(":")):
            try:
                if self._usable(path):
                    return path
            except _Obstacle as error:
                obstacles.append(str(error))
        obstacles += self._outside(_places(names, elsewhere))
        return MissingTool(obstacles[0] if obstacles else _nowhere(names))

    def _outside(self, paths: Iterable[str]) -> Iterable[str]:
        """For each file at one of `paths`, none of them on PATH, why it does not count."""
        for path in paths:
            if not os.path.isfile(self._root + path):
                continue
            try:
                if self._usable(path):
                    yield f"found at {path}, but in the sandbox PATH is {PATH}"
            except _Obstacle as error:
                yield str(error)

    def _usable(self, path: str) -> bool:
        """Whether there is a program at `path`. Raises _Obstacle if it is there to no avail."""
        at, ahead, links = "", path.split("/"), 0
        while ahead:
            part = ahead.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                at = os.path.dirname(at).rstrip("/")
                continue
            there = f"{at}/{part}"
            if self._above(there):
                at = there
                continue
            mode = self._mode(there)
            if mode is None:
                if links and self._mode(path) is not None:  # not where /bin itself is a link
                    raise _Obstacle(f"{path} is a link that leads to {there}, which is not there")
                return False
            self._check_visible(path, there, ahead)
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS_MAX:
                    raise _Obstacle(f"{path} leads through more than {_LINKS_MAX} links")
                target = os.readlink(self._root + there)
                at = "" if target.startswith("/") else at
                ahead = target.split("/") + ahead
                continue
            _check_mode(path, there, mode, last=not ahead)
            at = there
        return True

    def _mode(self, path: str) -> int | None:
        try:
            return os.lstat(self._root + path).st_mode
        except (OSError, ValueError):  # not there, not for our eyes, or no path at all (NUL)
            return None

    def _above(self, path: str) -> bool:
        """Whether the jail has `path` as a directory of its own making, with a tree below."""
        return any(tree.startswith(f"{path}/") for tree in self._trees)

    def _check_visible(self, path: str, there: str, ahead: list[str]) -> None:
        if any(there == tree or there.startswith(f"{tree}/") for tree in self._trees):
            return
        place = "/".join([there, *ahead])
        found = f"found at {path}" + (f", a link that leads to {place}" if place != path else "")
        raise _Obstacle(
            f"{found}, but the sandbox cannot see that place: it lies outside of its read-only "
            f"directories (rootfs.paths: {', '.join(self._paths)})"
        )


def _check_mode(path: str, there: str, mode: int, last: bool) -> None:
    found = f"found at {path}, but {there}"
    if last and not stat.S_ISREG(mode):
        raise _Obstacle(f"{found} is no file")
    if not mode & stat.S_IXOTH:
        may = "be executed" if last else "be entered"
        raise _Obstacle(f"{found} may not {may} by users other than its owner and group")


def _places(names: tuple[str, ...], directories: Iterable[str]) -> list[str]:
    """Where to look, name by name: an earlier one wins wherever it is."""
    kept = [directory for directory in directories if directory.startswith("/")]
    return [
        path
        for name in names
        for path in ([name] if name.startswith("/") else [f"{d}/{name}" for d in kept])
    ]


def _nowhere(names: tuple[str, ...]) -> str:
    bare = [name for name in names if not name.startswith("/")]
    where = f" in {PATH.replace(':', ', ')}" if bare else ""
    return f"looked for {' or '.join(names)}{where}; not there"
