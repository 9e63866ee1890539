"""The search for tools that a program in the jail can use, from outside the jail.

The root of the jail has some trees of the host, bound read-only, and copies of links. The search
therefore follows a path as the kernel does inside the jail (path_resolution(7)): one component at a
time, each link read, and every step must lie in a tree that the jail has. A compiler below a home
directory does not count, nor does a link in /usr/bin to it. Programs run under a uid of their own,
so others must have the right to search the directories and to execute the tool. The search reads
the mode bits and does not try an access: the daemon may be root, to which every access is allowed.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..config.settings import RootfsConfig
from ..model import PATH

_LINKS_MAX = 40  # as the kernel: path_resolution(7), ELOOP


@dataclass(frozen=True, slots=True)
class MissingTool:
    """A tool that a program in the jail cannot use. `why` is the reason, one clause for people."""

    why: str


class _Obstacle(Exception):
    """A path exists, but a program in the jail cannot use it."""


class JailView:
    """The part of the host's file system at `root` that is visible in a jail."""

    def __init__(self, rootfs: RootfsConfig, root: str = "/", paths: Iterable[str] = ()) -> None:
        """`paths` are those that runtimes name, with wildcards."""
        self._root = root.rstrip("/")
        self._modes: dict[str, int | None] = {}
        self._paths = rootfs.paths
        names = (*rootfs.etc_builtin, *rootfs.etc_unchanged, *rootfs.etc)
        patterns = (*(f"/etc/{name}" for name in names), *paths)
        matches = (glob.glob(glob.escape(self._root) + pattern) for pattern in patterns)
        self._trees = {
            *(path.rstrip("/") for path in rootfs.paths),
            *(path.removeprefix(self._root) for group in matches for path in group),
        }
        self._above = {above for tree in self._trees for above in _above(tree)}

    def find(self, names: tuple[str, ...], elsewhere: Iterable[str] = ()) -> str | MissingTool:
        """The path in the jail of the first of `names` that can be run there, or a MissingTool.

        A relative name is looked for along PATH, an absolute one at its path, which may have
        wildcards. `elsewhere` are
        directories that only serve the reason: the PATH of an operator's shell.
        """
        obstacles = []
        names = tuple(each for name in names for each in self._matches(name))
        for path in _candidates(names, PATH.split(":")):
            try:
                if self._is_usable(path):
                    return path
            except _Obstacle as error:
                obstacles.append(str(error))
        obstacles += self._obstacles_elsewhere(_candidates(names, elsewhere))
        return MissingTool(obstacles[0] if obstacles else _nowhere(names))

    def _matches(self, name: str) -> list[str]:
        """The paths for `name` if it is absolute and has wildcards (a compiler's own directory has
        the version in its name); else, or if there are none, `name`."""
        if not name.startswith("/") or not glob.has_magic(name):
            return [name]
        paths = sorted(glob.glob(glob.escape(self._root) + name))
        return [path.removeprefix(self._root) for path in paths] or [name]

    def _obstacles_elsewhere(self, paths: Iterable[str]) -> Iterable[str]:
        """The reasons why the files at `paths`, which are not on PATH, do not count."""
        for path in paths:
            if not os.path.isfile(self._root + path):
                continue
            try:
                if self._is_usable(path):
                    yield f"found at {path}, but in the sandbox PATH is {PATH}"
            except _Obstacle as error:
                yield str(error)

    def _is_usable(self, path: str) -> bool:
        """Whether there is a program at `path`. Raises _Obstacle if the program cannot be used.

        `reached` is the resolved part of the path, `rest` are the components still to resolve.
        """
        reached, rest, links = "", path.split("/"), 0
        while rest:
            part = rest.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                reached = os.path.dirname(reached).rstrip("/")
                continue
            step = f"{reached}/{part}"
            if step in self._above:  # a directory that the jail makes itself
                reached = step
                continue
            mode = self._mode(step)
            if mode is None:
                # Only if `path` itself is a link; where /bin is one, the tool is just not there.
                if links and self._mode(path) is not None:
                    raise _Obstacle(f"{path} is a link that leads to {step}, which is not there")
                return False
            self._check_visible(path, step, rest)
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS_MAX:
                    raise _Obstacle(f"{path} leads through more than {_LINKS_MAX} links")
                target = os.readlink(self._root + step)
                reached = "" if target.startswith("/") else reached
                rest = target.split("/") + rest
                continue
            _check_mode(path, step, mode, last=not rest)
            reached = step
        return True

    def _mode(self, path: str) -> int | None:
        """The mode of `path`, which most searches have in common with others."""
        if path not in self._modes:
            try:
                self._modes[path] = os.lstat(self._root + path).st_mode
            except (OSError, ValueError):  # no such file, no right to see it, or a NUL in the path
                self._modes[path] = None
        return self._modes[path]

    def _check_visible(self, path: str, step: str, rest: list[str]) -> None:
        if not self._trees.isdisjoint((step, *_above(step))):
            return
        target = "/".join([step, *rest])
        link = f", a link that leads to {target}" if target != path else ""
        raise _Obstacle(
            f"found at {path}{link}, but the sandbox cannot see that place: it lies outside of its "
            f"read-only directories (rootfs.paths: {', '.join(self._paths)})"
        )


def _above(path: str) -> Iterator[str]:
    """The directories above `path`, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def _check_mode(path: str, step: str, mode: int, last: bool) -> None:
    """Raise _Obstacle when other users may not enter the directory, or execute the file."""
    if last and not stat.S_ISREG(mode):
        raise _Obstacle(f"found at {path}, but {step} is no file")
    if not mode & stat.S_IXOTH:
        may = "be executed" if last else "be entered"
        raise _Obstacle(
            f"found at {path}, but {step} may not {may} by users other than its owner and group"
        )


def _candidates(names: tuple[str, ...], directories: Iterable[str]) -> list[str]:
    """The paths to look at, in the order of `names`: an earlier name wins in any directory."""
    absolute = [directory for directory in directories if directory.startswith("/")]
    return [
        path
        for name in names
        for path in ([name] if name.startswith("/") else [f"{d}/{name}" for d in absolute])
    ]


def _nowhere(names: tuple[str, ...]) -> str:
    bare = [name for name in names if not name.startswith("/")]
    where = f" in {PATH.replace(':', ', ')}" if bare else ""
    return f"looked for {' or '.join(names)}{where}; not there"
