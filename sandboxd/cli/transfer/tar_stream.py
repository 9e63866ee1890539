"""A tree of files as a stream of tar, made while it is sent, so its size does not matter.

The headers are tarfile's, in the pax format (POSIX.1-2001). The time of a member is a pax record of
exact text, since a float loses nanoseconds. The size in a header is promised before the content is
read: a file that grows meanwhile is cut, and one that shrinks is filled up with zeros, as by GNU
tar, with a warning.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator

from ...files.tar_times import decimal_seconds
from ..reporter import Reporter
from .local_tree import LocalTree, TreeEntry
from .progress import Advance

CHUNK = 1 << 18
"""Bytes of a chunk: small members share one, which costs the connection less."""

MODES = 0o777
"""The bits of a mode that go up. Set-id bits never do."""

_BLOCK, _END = tarfile.BLOCKSIZE, bytes(2 * tarfile.BLOCKSIZE)


def tar_stream(
    tree: LocalTree, entries: Iterable[TreeEntry], say: Reporter, advance: Advance
) -> Iterator[bytes]:
    """The tar of `entries` in chunks. `advance` is called with the bytes of content, as they go."""
    chunk = bytearray()
    for entry in entries:
        for data in _member(tree, entry, say, advance):
            chunk += data
            if len(chunk) >= CHUNK:
                yield bytes(chunk)
                chunk.clear()
    yield bytes(chunk + _END)


def _member(tree: LocalTree, entry: TreeEntry, say: Reporter, advance: Advance) -> Iterator[bytes]:
    if not entry.is_file:
        yield _header(entry, 0)
        return
    try:
        fd = tree.open(entry.name)
    except OSError as error:
        say.warning(f"{tree.shown(entry.name)}: {error.strerror or 'vanished'}; left out")
        return
    try:
        before = os.fstat(fd)
        yield _header(entry, before.st_size)
        yield from _content(fd, before.st_size, advance)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        say.warning(f"{tree.shown(entry.name)} changed while it was read")


def _content(fd: int, size: int, advance: Advance) -> Iterator[bytes]:
    """Exactly `size` bytes, and zeros up to the next block."""
    left = size
    while left:
        data = os.read(fd, min(CHUNK, left)) or bytes(min(CHUNK, left))
        left -= len(data)
        yield data
        advance(len(data))
    yield bytes(-size % _BLOCK)


def _header(entry: TreeEntry, size: int) -> bytes:
    member = tarfile.TarInfo(entry.name)
    member.type = _TYPES[stat.S_IFMT(entry.mode)]
    member.mode = entry.mode & MODES
    member.size = size
    member.linkname = entry.target
    member.pax_headers = {"mtime": decimal_seconds(entry.mtime_ns)}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


_TYPES = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
}
