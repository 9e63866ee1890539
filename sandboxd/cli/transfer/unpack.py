"""The unpacking of results from a tar stream, whose content an untrusted program has written.

tarfile's own filter for this (PEP 706) is missing from Python 3.11.2, which Debian 12 has. Here
four rules hold, whatever the archive and the folder have in them:

- Every member is created through descriptors of directories that were opened without following
  links. A file is written under a name of its own and then renamed, so no member is ever written
  through a link, neither through one of the archive nor through an older one.
- Links come last, and none is made that leads out of the folder. Its target is resolved through the
  links of the archive and of the disk. A target that climbs behind a name is replaced by the place
  where it leads: otherwise a later archive could give that name another meaning.
- Names that act on programs of the host, and more bytes than the session has room for, are refused
  (acceptance.py). Whether HEAD makes a directory a repository is known when all else is there.
- Modes and times of directories are set after all that, deepest first. Set-id bits are dropped.

A member that cannot be unpacked is reported, and the others are unpacked all the same.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ...files.tar_times import nanoseconds
from ...link_targets import Place, TooManyLinks, below, climbs_first, relative, resolve
from ...model import HOME
from .acceptance import COMPLETES, HEAD, Refusal, completes_repository, is_head
from .tar_stream import MODES

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}
"""Errors that the next member would meet too."""

_COPY = 1 << 20


class Outside(Exception):
    """A link that leads out of the folder."""


@dataclass
class Unpacked:
    """The result: the names at the top, and the members that are not there, with the reason.

    left_out  members that are never unpacked: links that lead out, and the like
    failed    members that this folder has no place for; with another folder they could be unpacked
    """

    names: dict[str, None] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def unpack(
    tar: tarfile.TarFile,
    into: str,
    home: Place = (),
    placed: Callable[[Place], Place] = tuple,
    refused: Callable[[Place], Refusal | None] = lambda _: None,
    take: Callable[[Place, int], object] = lambda *_: None,
    is_repository: Callable[[Place], bool] = lambda _: False,
) -> Unpacked:
    """Put all members of the stream `tar` below the directory `into`, which is created if missing.

    home    the place below /home/work that the names of the members begin at
    placed  the place of a member below `into`, from that in the archive
    refused the reason why a place in the archive is not unpacked; None: it is
    take    called with the place in the archive and the size of each file before it is written
    is_repository  a place in the archive belongs to a repository that the user has named

    Raises OSError when the folder takes no more: the disk is full, for one. After an error of the
    archive or of `take`, all members before it are complete.
    """
    os.makedirs(into, exist_ok=True)
    top = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        unpacking = _ResultFolder(top, home, placed, refused, take, is_repository)
        try:
            for member in tar:
                unpacking.add(tar, member)
        finally:
            unpacking.finish()
    finally:
        os.close(top)
    return unpacking.result


class _ResultFolder:
    """The directory `top`, into which one archive goes."""

    def __init__(
        self,
        top: int,
        home: Place,
        placed: Callable[[Place], Place],
        refused: Callable[[Place], Refusal | None],
        take: Callable[[Place, int], object],
        is_repository: Callable[[Place], bool],
    ) -> None:
        self.result = Unpacked()
        self._refused, self._take, self._is_repository = refused, take, is_repository
        self._heads: dict[Place, Place] = {}  # each HEAD, and the place of its bytes up to `finish`
        self._named: set[Place] = set()  # links and HEADs in a repository that is named
        self._refusals: set[Place] = set()
        self._top = top
        self._placed = placed
        self._home = "/".join((HOME, *home))
        self._links: dict[Place, tarfile.TarInfo] = {}
        self._targets: dict[Place, str] = {}
        self._directories: dict[Place, tarfile.TarInfo] = {}

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Unpack a file or directory, and remember a link."""
        place = _place(member.name)
        if place is None or "\0" in member.linkname:
            self.result.left_out.append((member.name, "has a name that leaves the folder"))
            return
        if not place:
            return  # the folder itself, which belongs to the user
        if refusal := self._refused(place):
            self._leave_out(*refusal)
            return
        source, top, place = place, self._placed(place[:1]), self._placed(place)
        if self._is_repository(source):
            if member.issym() or is_head(place[-1]):
                self._named.add(place)
        elif self._completes_repository(place, member.isdir()):
            return
        with self._reported(place):
            if member.issym():
                self._links[place] = member
            elif member.isdir():
                os.close(_opened(self._top, place))
                self._directories[place] = member
            elif member.isreg():
                self._take(source, member.size)
                if is_head(place[-1]):
                    held = self._heads.get(place, (*place[:-1], _temporary_name()))
                    self._write(tar, member, held)
                    self._heads[place] = held
                else:
                    self._write(tar, member, place)
                self._links.pop(place, None)
            else:
                self.result.left_out.append((member.name, "is no file, directory or link"))
                return
            self.result.names["/".join(top)] = None

    def _leave_out(self, place: Place, reason: str) -> None:
        """Report a place once, whatever is below it."""
        if place not in self._refusals:
            self._refusals.add(place)
            self.result.left_out.append(("/".join(place), reason))

    def finish(self) -> None:
        """Make the links and each HEAD, and give the directories their modes and times."""
        for place, member in self._links.items():
            self._targets[place] = self._from_here(place, member.linkname)
        try:
            for place in sorted(self._links, key=lambda one: is_head(one[-1])):
                with self._reported(place):
                    self._finish_link(place, self._links[place])
        finally:
            for place, held in self._heads.items():
                with self._reported(place):
                    self._finish_head(place, held)
        for place, member in sorted(self._directories.items(), reverse=True):
            with self._reported(place):
                fd = _opened(self._top, place)
                try:
                    _apply(fd, member)
                finally:
                    os.close(fd)

    def _finish_link(self, place: Place, member: tarfile.TarInfo) -> None:
        if place not in self._named and self._completes_repository(place):
            return
        try:
            target = self._target(place)
        except Outside:
            reason = f"is a link that leads out of the folder, to {member.linkname}"
            self.result.left_out.append(("/".join(place), reason))
        else:
            self._link(place, target, member)

    def _finish_head(self, place: Place, held: Place) -> None:
        """Give a HEAD its name, unless it completes a repository."""
        if place not in self._named and self._completes_repository(place):
            directory = _opened(self._top, place[:-1])
            try:
                os.unlink(held[-1], dir_fd=directory)
            finally:
                os.close(directory)
            return
        with self._replacing(place) as (directory, name):
            os.rename(held[-1], name, src_dir_fd=directory, dst_dir_fd=directory)

    def _completes_repository(self, place: Place, is_directory: bool = False) -> bool:
        """Leave out a member that completes a repository, or is in such a directory."""
        for count, part in enumerate(place):
            if is_head(part) and (is_directory or count < len(place) - 1):
                continue
            if completes_repository(part, functools.partial(self._is_there, place[:count])):
                self._leave_out(place[: count + 1], COMPLETES)
                self.result.names.pop("/".join(place[: count + 1]), None)
                return True
        return False

    def _is_there(self, directory: Place, name: str) -> bool:
        """A directory has an entry of this name; a HEAD that is a directory is none."""
        path = "/".join((*directory, name))
        try:
            status = os.stat(path, dir_fd=self._top, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # its name is too long for a look
            return True
        return name != HEAD or not stat.S_ISDIR(status.st_mode)

    @contextlib.contextmanager
    def _reported(self, place: Place) -> Iterator[None]:
        """An error with one member is no reason to lose the next one."""
        try:
            yield
        except OSError as error:
            if error.errno in _HOPELESS:
                raise
            self.result.failed.append(("/".join(place), error.strerror or str(error)))

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, place: Place) -> None:
        with self._replacing(place) as (directory, name):
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
            with os.fdopen(fd, "wb") as file:
                source = tar.extractfile(member)
                while source and (data := source.read(_COPY)):
                    file.write(data)
                file.flush()
                _apply(file.fileno(), member)

    def _link(self, place: Place, target: str, member: tarfile.TarInfo) -> None:
        with self._replacing(place) as (directory, name):
            os.symlink(target, name, dir_fd=directory)
            _set_time(name, member, dir_fd=directory)

    @contextlib.contextmanager
    def _replacing(self, place: Place) -> Iterator[tuple[int, str]]:
        """A name for a new entry in the directory of `place`. At the end of the block the entry
        takes the place of a file or link, but of no directory."""
        directory = _opened(self._top, place[:-1])
        name = _temporary_name()
        try:
            yield directory, name
            os.rename(name, place[-1], src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:  # raised again: no half file stays
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(directory)

    def _from_here(self, place: Place, target: str) -> str:
        """The target of a link of the archive; one below the workdir becomes relative."""
        if target.startswith("/") and (rest := below(target, self._home)) is not None:
            return relative(place[:-1], rest)
        return target

    def _target(self, place: Place) -> str:
        """The target to create. Raises Outside."""
        target, start = self._targets[place], place[:-1]
        if target.startswith("/"):
            raise Outside
        try:
            end = resolve(start, target, self._lookup)
        except TooManyLinks:
            if climbs_first(target):
                return target
            raise Outside from None
        if end is None:
            raise Outside
        return target if climbs_first(target) else relative(start, "/".join(end))

    def _lookup(self, place: Place) -> str | None:
        """The target of the link that is or will be at `place`. Raises FileNotFoundError."""
        if place in self._targets:
            return self._targets[place]
        name = "/".join(place)
        try:
            status = os.stat(name, dir_fd=self._top, follow_symlinks=False)
            return os.readlink(name, dir_fd=self._top) if stat.S_ISLNK(status.st_mode) else None
        except (NotADirectoryError, OSError) as error:
            raise FileNotFoundError(name) from error


def _temporary_name() -> str:
    return f".sandboxd-{secrets.token_hex(8)}"


def _place(name: str) -> Place | None:
    """The components of a member's name; None: it leaves the folder."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    return None if ".." in parts or name.startswith("/") or "\0" in name else parts


def _opened(top: int, place: Place) -> int:
    """A descriptor of a directory below `top`, created if missing; it takes the place of an older
    file or link. Raises OSError."""
    here = os.dup(top)
    for part in place:
        try:
            try:
                inner = _directory(here, part)
            except NotADirectoryError:
                os.unlink(part, dir_fd=here)
                inner = _directory(here, part)
        finally:
            os.close(here)
        here = inner
    return here


def _directory(directory: int, name: str) -> int:
    """A descriptor of the directory `name`, created if missing. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=directory)
    return os.open(name, _DIRECTORY, dir_fd=directory)


def _apply(fd: int, member: tarfile.TarInfo) -> None:
    os.fchmod(fd, member.mode & MODES)
    _set_time(fd, member)


def _set_time(path: int | str, member: tarfile.TarInfo, dir_fd: int | None = None) -> None:
    """Set the exact time of `member`."""
    when = nanoseconds(member.pax_headers.get("mtime") or str(member.mtime))
    if when is None:
        return
    with contextlib.suppress(OverflowError):  # a time that this host cannot express
        if isinstance(path, int):
            os.utime(path, ns=(when, when))
        else:
            os.utime(path, ns=(when, when), dir_fd=dir_fd, follow_symlinks=False)
