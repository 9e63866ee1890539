"""The tree of a local folder, as an upload takes it: its directories, files and links by name.

The author of the folder may not be the user who uploads it, as root perhaps. So the walk follows no
link, opens everything below one descriptor of the folder, and takes a link only if it stays inside:
a relative one, or an absolute one below the folder, which becomes relative. All else is left out
and reported by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import ConfigError
from ...jail.syscalls import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from ...link_targets import Place, TooManyLinks, below, climbs_first, relative, resolve
from ..reporter import Reporter, printable
from .exclusion import Excludes

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A member of the tree: a directory, a regular file, or a link with its `target`.

    name      relative, as os.fsdecode makes it
    mtime_ns  nanoseconds since 1970
    """

    name: str
    mode: int
    size: int
    mtime_ns: int
    target: str = ""

    @property
    def is_file(self) -> bool:
        """It is a regular file."""
        return stat.S_ISREG(self.mode)


class LocalTree:
    """The folder at `path`. Use it in a `with`. Raises ConfigError when it is no folder."""

    def __init__(self, path: str, excludes: Excludes, say: Reporter) -> None:
        self.path = path
        self._excludes = excludes
        self._say = say
        try:
            self._top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{path} is not a folder; name one to upload") from None
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        self._roots = {os.path.abspath(path), os.path.realpath(path)}

    def __enter__(self) -> LocalTree:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._top)

    def entries(self) -> Iterator[TreeEntry]:
        """All members, each directory before its content. Raises ConfigError for a directory or a
        file that cannot be read: without it, the program would meet half of the folder."""
        directories = [""]
        while directories:
            directory = directories.pop()
            inner = []
            for name, status in self._listed(directory):
                kind = stat.S_IFMT(status.st_mode)
                if self._excludes(name, kind == stat.S_IFDIR):
                    continue
                entry = TreeEntry(name, status.st_mode, status.st_size, status.st_mtime_ns)
                if kind == stat.S_IFDIR:
                    inner.append(name)
                    yield entry
                elif kind == stat.S_IFREG:
                    self._check_readable(name)
                    yield entry
                elif kind == stat.S_IFLNK:
                    if link := self._link(entry):
                        yield link
                else:
                    self._left_out(name, "is no file, directory or link")
            directories += inner[::-1]

    def open(self, name: str) -> int:
        """A descriptor of the regular file `name`. Raises OSError."""
        fd = openat2(self._top, name, _READ, _RESOLVE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(name)
        return fd

    def shown(self, name: str) -> str:
        """`name` for a message."""
        return printable(os.path.join(self.path, name))

    def _listed(self, directory: str) -> list[tuple[str, os.stat_result]]:
        """The names below `directory`, sorted, with the status of each."""
        try:
            fd = openat2(self._top, directory or ".", _READ | os.O_DIRECTORY, _RESOLVE)
        except FileNotFoundError:  # removed since its parent was read
            return []
        except OSError as error:
            raise self._unreadable(directory, error) from None
        listed = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = f"{directory}/{entry.name}" if directory else entry.name
                    try:
                        listed.append((name, entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue
        finally:
            os.close(fd)
        return sorted(listed)

    def _check_readable(self, name: str) -> None:
        try:
            os.close(self.open(name))
        except FileNotFoundError:
            pass  # it is left out, with a warning, when its turn comes
        except OSError as error:
            raise self._unreadable(name, error) from None

    def _unreadable(self, name: str, error: OSError) -> ConfigError:
        pattern = printable(f"/{name}")
        return ConfigError(
            f"{self.shown(name)}: {error.strerror}; leave it out with --exclude '{pattern}'"
        )

    def _link(self, entry: TreeEntry) -> TreeEntry | None:
        """The link as it goes up; None, after a warning, when it leaves the folder."""
        *parents, _ = entry.name.split("/")
        start = tuple(parents)
        try:
            target = os.readlink(entry.name, dir_fd=self._top)
        except OSError:
            self._left_out(entry.name, "is no longer a link")
            return None
        if target.startswith("/"):
            target = self._inside(target, start) or target
        if self._leaves(start, target):
            self._left_out(entry.name, f"is a link that leaves the folder: {printable(target)}")
            return None
        return TreeEntry(entry.name, entry.mode, 0, entry.mtime_ns, target)

    def _inside(self, target: str, start: Place) -> str | None:
        for root in self._roots:
            if (rest := below(target, root)) is not None:
                return relative(start, rest)
        return None

    def _leaves(self, start: Place, target: str) -> bool:
        if target.startswith("/"):
            return True
        try:
            return resolve(start, target, self._lookup) is None
        except TooManyLinks:
            return not climbs_first(target)

    def _lookup(self, place: Place) -> str | None:
        name = "/".join(place)
        try:
            status = os.stat(name, dir_fd=self._top, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return None
            target = os.readlink(name, dir_fd=self._top)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(name) from None
        if target.startswith("/"):
            return self._inside(target, place[:-1]) or target
        return target

    def _left_out(self, name: str, reason: str) -> None:
        self._say.warning(f"{self.shown(name)} {reason}; left out")
