"""The unpacking of an archive into the workdir: all of it, or nothing.

The members are made in `inbox`, which programs cannot see, as a tree below "tree". Only when the
archive has ended and every name has been checked does commit.py put that tree into place. Room
for the old and the new files is therefore needed at the same time.

The first error ends the request: the helper hangs up, and the api unpacks and sends no more of the
body.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from ..errors import Invalid, OutsideHome, QuotaExceeded, Refused
from ..jail.syscalls import openat2
from ..model import HOME
from ..wire.file_calls import FileWireError
from .api_connection import ApiConnection
from .archive import ENTRIES_MAX
from .beneath import expect_own_home, refused
from .commit import commit
from .commit_plan import STAGED, StagedTree
from .incoming_archive import IncomingArchive, SenderGone, bytes_max
from .links import NO_LINKS, LinkRule, real_place
from .paths import DEPTH_MAX, NAME_MAX, Name, absolute, inside, relative, shown
from .removal import empty
from .sync import sync_file_system
from .tar_reader import TarMember, TarReader, impossible_time

REMEMBERED_MAX = 64 << 20
"""Bytes of the names that the helper remembers: of directories and links."""

_PIECE = 1 << 20
_TIME_MAX = (1 << 63) - 1
_NO_SOURCE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def receive_archive(api: ApiConnection, home: int, inbox: int, directory: str) -> None:
    """Answer an unpack request: the members of the tar go below `directory`.

    Raises Refused, FileWireError or OSError for the first error; nothing is changed then.
    """
    incoming = IncomingArchive(api, bytes_max(home))
    try:
        with contextlib.closing(_Unpacking(home, inbox, directory)) as unpacking:
            expect_own_home(home, inbox)
            unpacking.receive(TarReader(incoming.read))
            incoming.finish()
            commit(home, inbox, unpacking.tree())
            counts = unpacking.counts()
    except (SenderGone, ConnectionError):
        return
    except (Refused, FileWireError, OSError):
        api.hang_up()
        raise
    finally:
        empty(inbox)
    sync_file_system(home)
    api.answer({"ok": True, **counts})


class _Unpacking:
    """The members of one archive, on their way into the inbox."""

    def __init__(self, home: int, inbox: int, directory: str) -> None:
        self._home = home
        top = real_place(home, inside(directory))
        if top is None:
            raise OutsideHome(f"{shown(directory)} leads out of {HOME}")
        self._top = top
        try:
            os.mkdir(STAGED, 0o700, dir_fd=inbox)
        except OSError as error:
            raise _refusal(error, top, home) from None
        self._tree = os.open(STAGED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=inbox)
        self._directories: dict[Name, tuple[int, int] | None] = {}
        self._links: dict[Name, str] = {}
        self._entries = self._names = self._files = self._bytes = 0
        self._parent: tuple[Name, int] | None = None

    def receive(self, reader: TarReader) -> None:
        """Make every member in the inbox. Raises Refused, OSError."""
        try:
            self._make_directories(self._top)
        except OSError as error:
            raise _refusal(error, self._top, self._home) from None
        for member in reader.members():
            self._entries += 1
            if self._entries > ENTRIES_MAX:
                raise Invalid(
                    f"an archive has at most {ENTRIES_MAX} members; send several archives"
                )
            name = self._name(member)
            if name == self._top and member.kind == "directory":
                if self._top:  # the mode of /home/work itself stays
                    self._directories[name] = member.mode, _time(member)
                continue
            try:
                self._make(member, name, reader.content)
            except OSError as error:
                raise _refusal(error, name, self._home) from None
        self._check_links()

    def tree(self) -> StagedTree:
        """The tree in the inbox, valid until `close`."""
        return StagedTree(self._tree, self._directories)

    def close(self) -> None:
        """Give the descriptors back."""
        self._let_go()
        os.close(self._tree)

    def counts(self) -> dict[str, int]:
        """The numbers of members, for the answer."""
        return {
            "files": self._files,
            "directories": len(self._directories),
            "links": len(self._links),
            "bytes": self._bytes,
        }

    def _name(self, member: TarMember) -> Name:
        """The place of `member` below /home/work. Raises Invalid, OutsideHome."""
        if member.name.startswith("/"):
            raise OutsideHome(
                f"{shown(member.name)} is an absolute name; allowed: relative names; pack the "
                "archive without the option -P of tar"
            )
        if ".." in member.name.split("/"):
            raise OutsideHome(
                f'{shown(member.name)} has a ".." in it; allowed: plain names; pack the archive '
                "with 'tar -C FOLDER -c .'"
            )
        name = self._below_top(member.name)
        if name == self._top and member.kind != "directory":
            raise Invalid(f"{shown(member.name)} is no name for a {member.kind}")
        return name

    def _below_top(self, name: str) -> Name:
        """The place of `name` of the archive. Raises Invalid, OutsideHome."""
        place = (*self._top, *inside(name.lstrip("/") or "."))
        if len(place) > DEPTH_MAX:
            raise Invalid(f"{shown(name)}: a name below {HOME} has at most {DEPTH_MAX} components")
        if len(os.fsencode(relative(place))) > NAME_MAX:
            raise Invalid(f"{shown(name)}: a name below {HOME} has at most {NAME_MAX} bytes")
        return place

    def _make(self, member: TarMember, name: Name, content: Callable[[int], bytes]) -> None:
        """Make one member in the inbox. Raises Refused, OSError."""
        if member.kind == "directory":
            self._make_directories(name, member)
            self._directories[name] = member.mode, _time(member)
            return
        parent = self._open_parent(name[:-1], member)
        if name in self._directories:
            raise _two_kinds(member.name, f"a {member.kind}", "a directory")
        try:
            self._make_entry(member, name, parent, content)
        except FileExistsError:  # as tar does, the last member of a name counts
            self._remove(name, parent)
            self._make_entry(member, name, parent, content)

    def _remove(self, name: Name, parent: int) -> None:
        """Remove an earlier member of the same name, which then does not count."""
        status = os.lstat(name[-1], dir_fd=parent)
        os.unlink(name[-1], dir_fd=parent)
        if self._links.pop(name, None) is None:
            self._files -= 1
            self._bytes -= status.st_size if status.st_nlink == 1 else 0

    def _make_entry(
        self, member: TarMember, name: Name, parent: int, content: Callable[[int], bytes]
    ) -> None:
        if member.kind == "file":
            self._make_file(member, name[-1], parent, content)
        elif member.kind == "link":
            if not member.target or "\0" in member.target:
                raise Invalid(
                    f"{shown(member.name)} is a link to {shown(member.target)}, which is no name; "
                    "leave the link out"
                )
            self._remember(name, member.target)
            os.symlink(member.target, name[-1], dir_fd=parent)
            self._links[name] = member.target
            os.utime(name[-1], ns=(_time(member),) * 2, dir_fd=parent, follow_symlinks=False)
        else:
            self._make_hard_link(member, name, parent)

    def _make_file(
        self, member: TarMember, name: str, parent: int, content: Callable[[int], bytes]
    ) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            while data := content(_PIECE):
                self._bytes += len(data)
                while data:
                    data = data[os.write(fd, data) :]
            os.fchmod(fd, member.mode)
            os.utime(fd, ns=(_time(member),) * 2)
        finally:
            os.close(fd)
        self._files += 1

    def _make_hard_link(self, member: TarMember, name: Name, parent: int) -> None:
        what = f"{shown(member.name)} is a hard link to {shown(member.target)}"
        try:
            source = self._below_top(member.target)
        except Refused as error:
            raise type(error)(f"{what}, which cannot be a member: {error}") from None
        if source in self._directories or source == self._top:
            raise Invalid(f"{what}, a directory; allowed: hard links to files")
        try:
            above = self._open(source[:-1])
            try:
                os.link(
                    source[-1], name[-1], src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False
                )
            finally:
                os.close(above)
        except OSError as error:
            if error.errno not in _NO_SOURCE:
                raise
            raise Invalid(
                f"{what}, which is no earlier member of the archive; pack both names together, or "
                "use the option --hard-dereference of tar"
            ) from None
        if source in self._links:  # from another directory, it leads to another place
            self._remember(name, self._links[source])
            self._links[name] = self._links[source]
        else:
            self._files += 1

    def _make_directories(self, name: Name, member: TarMember | None = None) -> None:
        """Make the directory `name` for `member`, and those above it that no member has named."""
        for depth in range(1, len(name) + 1):
            above = name[:depth]
            if above in self._directories:
                continue
            parent = self._open_parent(above[:-1], member)
            try:
                os.mkdir(above[-1], 0o700, dir_fd=parent)
            except FileExistsError:
                raise self._in_the_way(above, name, member) from None
            self._remember(above, "")
            self._directories[above] = None

    def _in_the_way(self, place: Name, name: Name, member: TarMember | None) -> Invalid:
        """The refusal of `member`: it needs the directory `place`, which is an earlier member."""
        kind = "a link" if place in self._links else "a file"
        other = "/".join(place[len(self._top) :])
        if member is None or (place == name and member.kind == "directory"):
            return _two_kinds(other, kind, "a directory")
        return Invalid(
            f"{shown(member.name)} goes through {shown(other)}, which is {kind} in the archive; "
            "allowed: directories; leave one of the two out"
        )

    def _open_parent(self, name: Name, member: TarMember | None) -> int:
        """A descriptor of the directory `name` of the inbox, valid until the next call."""
        if self._parent is None or self._parent[0] != name:
            if name not in self._directories and name:
                self._make_directories(name, member)
            self._let_go()
            self._parent = name, self._open(name)
        return self._parent[1]

    def _open(self, name: Name) -> int:
        """A descriptor of a directory of the inbox, reached through no link. Raises OSError."""
        return openat2(self._tree, relative(name), os.O_PATH | os.O_DIRECTORY, NO_LINKS)

    def _let_go(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _remember(self, name: Name, target: str) -> None:
        self._names += sum(map(len, name)) + 64 * len(name) + len(target)
        if self._names > REMEMBERED_MAX:
            raise Invalid(
                "the names of the archive are too many or too long to be checked; send several "
                f"archives (refused at {shown(absolute(name))})"
            )

    def _check_links(self) -> None:
        """Raise OutsideHome for a link of the archive that leaves /home/work, also by way of other
        links, of the archive or of the tree."""
        rule = LinkRule(self._tree, self._home)
        for name, target in self._links.items():
            if rule.leaves(name, target):
                raise OutsideHome(
                    f"{shown(absolute(name))} is a link to {shown(target)}, which leaves {HOME}; "
                    "leave the link out, or pack the file that it leads to"
                )


def _time(member: TarMember) -> int:
    """The member's time, as the kernel takes it. Raises Invalid."""
    if not -_TIME_MAX <= member.mtime <= _TIME_MAX:
        raise impossible_time(member.name, str(member.mtime // 10**9))
    return member.mtime


def _two_kinds(name: str, kind: str, other: str) -> Invalid:
    return Invalid(f"{shown(name)} is {kind} and {other} in the archive; leave one of them out")


def _refusal(error: OSError, name: Name, home: int) -> Refused:
    """The refusal of a member that the inbox did not take. Raises `error` for our own faults."""
    refusal = refused(error, name, home)
    if isinstance(refusal, QuotaExceeded):
        return QuotaExceeded(f"{refusal}; an archive needs room for the old and the new files")
    return refusal
