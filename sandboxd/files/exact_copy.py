"""Exact copies of the entries of a tree: content with its holes, mode, times, extended attributes.

The names are single components below descriptors, and no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOATIME | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OWN = 0o700


def open_own_directory(name: str, above: int) -> int:
    """A descriptor of the directory `name` in `above`, in which its owner may do everything; the
    mode is changed if need be. Raises OSError."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=above)
    except PermissionError:
        os.chmod(name, OWN, dir_fd=above)
        fd = os.open(name, _DIRECTORY, dir_fd=above)
    make_own(fd)
    return fd


def make_own(fd: int) -> None:
    """Let the owner of the directory `fd` do everything in it. Raises OSError."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & OWN != OWN:
        os.fchmod(fd, mode | OWN)


def copy_entry(name: str, source: int, target: int, status: os.stat_result) -> None:
    """Make `name` in the directory `target` as it is in `source`, where it has `status`; it is no
    directory. Raises OSError."""
    if stat.S_ISREG(status.st_mode):
        _copy_file(name, source, target, status)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:  # a FIFO, a socket, or the device 0 of an overlay, which needs no rights
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    closed = not mode & stat.S_IRUSR
    if closed:
        os.chmod(name, mode | stat.S_IRUSR, dir_fd=source)
    try:
        original = os.open(name, _READ, dir_fd=source)
    finally:
        if closed:
            os.chmod(name, mode, dir_fd=source)
    try:
        copy = os.open(name, _NEW, 0o600, dir_fd=target)
        try:
            _copy_content(original, copy, status.st_size)
            set_attributes(copy, attributes(original), status)
        finally:
            os.close(copy)
    finally:
        os.close(original)


def _copy_content(original: int, copy: int, size: int) -> None:
    """Copy `size` bytes; holes stay holes."""
    os.ftruncate(copy, size)
    end = 0
    while end < size:
        try:
            begin = os.lseek(original, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # there is only a hole left
                raise
            return
        end = os.lseek(original, begin, os.SEEK_HOLE)
        while begin < end:
            count = os.copy_file_range(original, copy, end - begin, begin, begin)
            if count == 0:
                return  # the file has become shorter
            begin += count


def attributes(fd: int) -> dict[str, bytes]:
    """The extended attributes of an open file or directory. Raises OSError."""
    return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}


def set_attributes(fd: int, wanted: dict[str, bytes], status: os.stat_result) -> None:
    """Give an open file or directory these extended attributes, and the mode and times of `status`.
    Raises OSError."""
    present = attributes(fd)
    for name in present.keys() - wanted.keys():
        os.removexattr(fd, name)
    for name, value in wanted.items():
        if present.get(name) != value:
            os.setxattr(fd, name, value)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
