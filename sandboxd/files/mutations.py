"""The changes in a virtual folder that its owner requests: new directories, new names, removal.

The kernel resolves a name below `home` up to its last component. The change applies to the entry
with that last component itself, to a link and not to its target. Programs of a session may change
the folder at the same time. Where a program is faster, the request is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from ..errors import Invalid, NotFound, Refused
from .api_connection import ApiConnection
from .beneath import look, refused
from .commit_plan import DIRECTORY_MODE
from .paths import Name, absolute, inside, naming_file, shown
from .removal import empty, move_directory
from .sync import sync_file_system

PATHS_MAX = 1000
"""Names of one request."""


def make_directories(
    api: ApiConnection, home: int, names: list[str], parents: bool, exist_ok: bool
) -> None:
    """Answer a mkdir request: all of `names`, or none. Raises Refused for the first name that
    cannot be made."""
    with contextlib.ExitStack() as undo:
        for name in _components(names):
            for depth in range(1 if parents else len(name), len(name) + 1):
                if _make_directory(home, name[:depth], exist_ok or depth < len(name)):
                    undo.callback(_remove_directory, home, name[:depth])
        undo.pop_all()
    sync_file_system(home)
    api.answer({"ok": True})


def _make_directory(home: int, name: Name, exist_ok: bool) -> bool:
    """Make a directory; False: it was there. Raises Refused."""
    try:
        with _parent(home, name) as parent:
            try:
                os.mkdir(name[-1], DIRECTORY_MODE, dir_fd=parent)
            except FileExistsError:
                if not exist_ok or not _is_directory(home, name):
                    raise
                return False
            return True
    except FileNotFoundError:
        above = shown(absolute(name[:-1]))
        raise NotFound("path", f"{above} does not exist; ask for parents to be made") from None
    except OSError as error:
        raise _refused(error, name, home) from None


def _remove_directory(home: int, name: Name) -> None:
    """Remove a directory that was just made, unless a program has put something into it."""
    with contextlib.suppress(OSError), _parent(home, name) as parent:
        os.rmdir(name[-1], dir_fd=parent)


def rename(api: ApiConnection, home: int, source: str, to: str) -> None:
    """Answer a rename request: `source` gets the name `to` in its directory. Raises Refused."""
    name = naming_file(source)
    if "/" in to or naming_file(to) != (to,):
        raise Invalid(f"{shown(to)} cannot be a new name; a new name has no slash")
    target = (*name[:-1], to)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.close(look(home, target, os.O_NOFOLLOW))
        raise Invalid(f"{shown(absolute(target))} exists")
    _move(home, name, target)
    sync_file_system(home)
    api.answer({"ok": True})


def move(api: ApiConnection, home: int, source: str, to: str) -> None:
    """Answer a move request: `source` gets the name `to`, or moves into the directory `to`.

    An existing file of that name is replaced. Raises Refused.
    """
    name, target = naming_file(source), inside(to)
    if _is_directory(home, target):
        target = (*target, name[-1])
    if name != target:
        _move(home, name, target)
    sync_file_system(home)
    api.answer({"ok": True})


def _move(home: int, name: Name, target: Name) -> None:
    if target[: len(name)] == name:
        raise Invalid(f"{shown(absolute(name))} cannot be moved into itself")
    try:
        with _parent(home, name) as source, _parent(home, target) as directory:
            os.rename(name[-1], target[-1], src_dir_fd=source, dst_dir_fd=directory)
    except OSError as error:
        raise _refused(error, name, home) from None


def remove(api: ApiConnection, home: int, inbox: int, names: list[str], recursive: bool) -> None:
    """Answer a remove request: all of `names`, or none. Raises Refused.

    Each name disappears by one rename. The removal of large trees comes after that.
    """
    requested = _components(names)
    for name in requested:
        _check_removable(home, name, recursive)
    known = frozenset(requested)
    tops = [n for n in requested if not any(n[:i] in known for i in range(1, len(n)))]
    with contextlib.ExitStack() as undo:
        for number, name in enumerate(tops):
            try:
                _move_to_inbox(home, inbox, name, str(number), undo)
            except OSError as error:
                raise _refused(error, name, home) from None
        undo.pop_all()
    empty(inbox)
    sync_file_system(home)
    api.answer({"ok": True})


def _components(names: list[str]) -> list[Name]:
    """The components of the names of a request, in order, without duplicates. Raises Invalid."""
    if not 1 <= len(names) <= PATHS_MAX:
        raise Invalid(f"1 to {PATHS_MAX} paths are allowed, not {len(names)}")
    return list(dict.fromkeys(naming_file(name.rstrip("/") or name) for name in names))


def _check_removable(home: int, name: Name, recursive: bool) -> None:
    try:
        fd = look(home, name, os.O_NOFOLLOW)
    except OSError as error:
        raise _refused(error, name, home) from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode) and not recursive:
            raise Invalid(f"{shown(absolute(name))} is a directory; ask for recursive removal")
    finally:
        os.close(fd)


def _move_to_inbox(home: int, inbox: int, name: Name, to: str, undo: contextlib.ExitStack) -> None:
    """Move `name` to the inbox, and put the reverse on `undo`. Raises OSError."""
    with _parent(home, name) as parent:
        if stat.S_ISDIR(os.lstat(name[-1], dir_fd=parent).st_mode):
            move_directory(name[-1], parent, to, inbox)
        else:
            os.rename(name[-1], to, src_dir_fd=parent, dst_dir_fd=inbox)
    undo.callback(_move_back, home, inbox, name, to)


def _move_back(home: int, inbox: int, name: Name, to: str) -> None:
    with contextlib.suppress(OSError), _parent(home, name) as parent:  # the parent may be gone
        os.rename(to, name[-1], src_dir_fd=inbox, dst_dir_fd=parent)


def _is_directory(home: int, name: Name) -> bool:
    try:
        os.close(look(home, name, os.O_DIRECTORY))
    except OSError:  # every error means that `name` cannot be used as a directory
        return False
    return True


@contextlib.contextmanager
def _parent(home: int, name: Name) -> Iterator[int]:
    """A descriptor of the parent directory of `name`. Raises OSError."""
    fd = look(home, name[:-1], os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _refused(error: OSError, name: Name, home: int) -> Refused:
    """As `refused`, with the errors that only changes can meet."""
    if error.errno == errno.EEXIST:
        return Invalid(f"{shown(absolute(name))} exists")
    if error.errno in (errno.ENOTEMPTY, errno.EINVAL):
        return Invalid(f"{shown(absolute(name))}: {os.strerror(error.errno)}")
    return refused(error, name, home)
