"""Workspaces: directories of the host that sessions see in their workdir.

A workspace is below one of [workspaces] paths and belongs to the user who creates the session, over
a Unix socket. Programs see it through an idmapped mount (jail/idmap.py): the files of that user and
group seem to be those of the slot, and new files belong to the user on the host. No other id is
mapped, and a session has no capability, so programs can do less there than the user.

    grant   The api passes the connection of the request on, and the kernel says whose it is. A
            background job opens the directory with the ids of this user: root could reach
            directories that the user cannot. The warden seals the grant with a key that the api
            does not have. So an api in wrong hands gets no directory of a user who never called.
    open    For each run and each file call the warden opens the directory anew, by the same rules:
            beneath the root by descriptor, without links and mounts on the way. Nothing is mounted
            in the warden's namespace, so a kill at any moment leaves no mount.

The clone has no mounts below the directory, and no set-user-ID programs and devices. That binds the
session alone. Programs of the host would take a set-user-ID file at its word, so the filter of the
session refuses to make one (profile.SET_ID).
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ...errors import Invalid, StageError, Unavailable
from ...host import mountinfo, unix_peer
from ...jail import idmap, syscalls
from ...jail.idmap import Ids
from ...jail.mounts import IDMAP, WRITABLE, FolderMount, clone
from ...jail.stage import stage
from ...model import Workspace
from . import flush
from .slots import Slot

STAGE = "workspace"

KEY_SIZE = 32

FILE_SYSTEMS = {"ext4": (5, 12), "xfs": (5, 12), "btrfs": (5, 15), "tmpfs": (6, 3)}
"""File systems whose owners can be mapped, and the first version of Linux that does it. The host
alone writes to the disks of these. Others are refused: the server of an NFS knows no map, and an
overlay has the owners of two file systems."""

_LINKLESS = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS | syscalls.RESOLVE_NO_SYMLINKS
_PLACE = os.O_PATH | os.O_DIRECTORY

_DROP_IN = "as a service it needs the drop-in that scripts/install writes"

_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "is no directory",
    errno.EACCES: "cannot be reached by its user",
    errno.ELOOP: "has a symbolic link on its way",
    errno.EXDEV: "is on another file system than the path of [workspaces] above it",
}


@dataclass(frozen=True, slots=True)
class User:
    """The process at the other end of a connection, when it connected: ids and groups."""

    ids: Ids
    groups: tuple[int, ...]


def user_of(connection: int, listeners: Iterable[str]) -> User:
    """The user who has connected to one of our Unix sockets `listeners`. Raises Invalid.

    The names of both ends matter: for a socket that the api itself has connected, the kernel would
    name the user who listens at the other end. In a mount namespace of its own the api can give
    such a socket any name. But a listener always has a name (unix(7)), and a client has none.
    """
    with socket.socket(fileno=os.dup(connection)) as sock:
        if sock.family != socket.AF_UNIX or f"unix:{sock.getsockname()}" not in listeners:
            raise Invalid("a workspace needs a connection to the Unix socket of the daemon")
        if _peer_name(sock):
            raise Invalid("a workspace needs a client whose own socket has no name")
        _, uid, gid = unix_peer.credentials(sock)
        return User(Ids(uid, gid), tuple(unix_peer.further_groups(sock)))


def _peer_name(sock: socket.socket) -> str | bytes:
    """The name of the other end; "": it has none. Raises Invalid for a socket without one."""
    try:
        name: str | bytes = sock.getpeername()
    except OSError:
        raise Invalid("a workspace needs a connection") from None
    return name


@contextlib.contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Have the rights of `user` over files, and no capability. For processes with one thread."""
    own = os.getgroups()
    os.setgroups(user.groups)
    os.setegid(user.ids.gid)
    os.seteuid(user.ids.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(own)


def open_below(roots: Iterable[str], path: str) -> int:
    """An O_PATH descriptor of the directory `path`, which is below one of `roots`. Raises Invalid
    with the reason."""
    above = [root for root in roots if path.startswith(f"{root}/")]
    if not above:
        raise Invalid(f"{path} is below none of the [workspaces] paths of this server")
    root = max(above, key=len)
    place = open_root(root)
    try:
        below = path.removeprefix(f"{root}/")
        return syscalls.openat2(place, below, _PLACE, _LINKLESS | syscalls.RESOLVE_NO_XDEV)
    except OSError as error:
        raise Invalid(f"{path} {_reason(error.errno)}") from None
    finally:
        os.close(place)


def open_root(root: str) -> int:
    """An O_PATH descriptor of a path of [workspaces]. Raises Invalid with the reason."""
    top = os.open("/", _PLACE | os.O_CLOEXEC)
    try:
        return syscalls.openat2(top, root.removeprefix("/"), _PLACE, _LINKLESS)
    except OSError as error:
        reason = f"{_reason(error.errno)}, as the daemon sees it"
        raise Invalid(f"{root}, a path of [workspaces], {reason}; {_DROP_IN}") from None
    finally:
        os.close(top)


def _reason(code: int | None) -> str:
    return _REASONS.get(code or 0) or os.strerror(code or 0)


def check(fd: int, path: str, uid: int) -> None:
    """Raise Invalid when the directory `fd` cannot be a workspace of the user `uid`."""
    check_file_system(fd, path)
    if os.fstat(fd).st_uid != uid:
        raise Invalid(f"{path} does not belong to the user {uid}")


def check_file_system(fd: int, path: str) -> None:
    """Raise Invalid when no workspace can be on the file system of `fd`."""
    kind = fstype(fd)
    if kind not in FILE_SYSTEMS:
        known = ", ".join(FILE_SYSTEMS)
        raise Invalid(f"{path} is on the file system {kind}; a workspace can be on {known}")
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        raise Invalid(f"{path} is read-only for the daemon; {_DROP_IN}")


def _expect_places(fd: int, names: Iterable[str]) -> None:
    """Raise Invalid unless the workspace `fd` has a directory for each of the virtual folders."""
    for name in names:
        try:
            place = syscalls.openat2(fd, name, _PLACE, _LINKLESS | syscalls.RESOLVE_NO_XDEV)
        except OSError:
            raise Invalid(f"it has no directory {name} for the virtual folder") from None
        os.close(place)


def fstype(fd: int) -> str:
    """The type of the file system that `fd` is on, as mountinfo names it."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
        number = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
    return next((mount.fstype for mount in mountinfo.read() if mount.number == number), "unknown")


def mapped(fd: int, userns: int) -> int:
    """A detached clone of the directory `fd` alone, with its attributes and the map `userns`.
    Raises StageError."""
    with stage(STAGE):
        tree = clone(fd, recursive=False)
    try:
        idmap.apply(tree, WRITABLE, userns, STAGE)
    except StageError:
        os.close(tree)
        raise
    return tree


class WorkspaceStore:
    """The workspaces of one daemon.

    roots      gives the configured paths
    listeners  our sockets, as unix:PATH
    """

    def __init__(self, roots: Callable[[], tuple[str, ...]], state_dir: str) -> None:
        self._roots = roots
        self._key_path = f"{state_dir}/workspace.key"
        self._key = b""
        self.listeners: tuple[str, ...] = ()

    def grant(self, session: str, path: str, place: str, user: User) -> Workspace:
        """The workspace of a session, sealed. Blocks on the disk, and acts as `user`: for a process
        of its own. Raises Invalid, StageError."""
        with acting_as(user):
            fd = open_below(self._roots(), path)
        try:
            check(fd, path, user.ids.uid)
        finally:
            os.close(fd)
        granted = Workspace(path, place, user.ids.uid, user.ids.gid, "")
        return replace(granted, seal=_seal(self.key(), session, granted))

    def lend(self, slot: Slot, workspace: Workspace | None) -> None:
        """Prove that the programs of `slot` can see `workspace`. `take_back` undoes this, also
        after an error. Raises Unavailable, StageError."""
        slot.workspace = workspace
        with contextlib.ExitStack() as stack:
            self.clones(slot, stack)

    def take_back(self, slot: Slot) -> None:
        """`slot` has no workspace any more. Nothing of it is changed."""
        if slot.workspace_map is not None:
            os.close(slot.workspace_map)
        slot.workspace = slot.workspace_map = None

    def clones(self, slot: Slot, stack: contextlib.ExitStack) -> tuple[FolderMount, ...]:
        """The workspace of `slot`, if it has one, as a part of a root; `stack` closes the
        descriptor. Raises Unavailable when the directory is not there as it was granted."""
        workspace = slot.workspace
        if workspace is None:
            return ()
        if not hmac.compare_digest(_seal(self.key(), slot.session, workspace), workspace.seal):
            raise Unavailable("the workspace was not granted to this session")
        if slot.workspace_map is None:
            stored, seen = Ids(workspace.uid, workspace.gid), Ids(slot.uid, slot.gid)
            slot.workspace_map = idmap.user_namespace(stored, seen, STAGE)
        try:
            with contextlib.ExitStack() as opened:
                (fd,) = self.opened(slot, opened)
                check(fd, workspace.path, workspace.uid)
                if not workspace.place:
                    _expect_places(fd, [attachment.name for attachment in slot.attachments])
                tree = mapped(fd, slot.workspace_map)
        except Invalid as error:
            raise Unavailable(f"the workspace cannot be used: {error.public}") from None
        stack.callback(os.close, tree)
        parent, _, name = workspace.inside.rpartition("/")
        return (FolderMount(parent, name, tree, WRITABLE | IDMAP, host=True),)

    def opened(self, slot: Slot, stack: contextlib.ExitStack) -> tuple[int, ...]:
        """An O_PATH descriptor of the workspace of `slot`, if it has one; `stack` closes it. Raises
        Invalid with the reason."""
        if slot.workspace is None:
            return ()
        fd = open_below(self._roots(), slot.workspace.path)
        stack.callback(os.close, fd)
        return (fd,)

    def key(self) -> bytes:
        """The key of the seals, made at its first use. It outlives the daemon, as sessions do."""
        if not self._key:
            with stage(STAGE):
                self._key = self._stored_key()
        return self._key

    def _stored_key(self) -> bytes:
        with contextlib.suppress(FileNotFoundError), open(self._key_path, encoding="utf-8") as file:
            key = bytes.fromhex(file.read())
            if len(key) == KEY_SIZE:  # else a loss of power has cut the file before its first use
                return key
        key = os.urandom(KEY_SIZE)
        flush.write(self._key_path, key.hex())
        return key


def _seal(key: bytes, session: str, workspace: Workspace) -> str:
    facts = [session, workspace.path, workspace.place, workspace.uid, workspace.gid]
    return hmac.digest(key, json.dumps(facts).encode(), "sha256").hex()
