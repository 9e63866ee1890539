"""The unpacking of a downloaded tar, whose content an untrusted program has written.

tarfile's own filter for this (PEP 706) is missing from Python 3.11.2, which Debian 12 has. Here
every member is created through descriptors of directories that were opened without following
links, and links are created last. No member is ever written through a link, neither through a
link of the archive nor through an older one.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
from typing import BinaryIO

from ..errors import Refused

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(archive: BinaryIO, into: str) -> list[str]:
    """Put all members below the directory `into`, which is created if missing; the top names.

    Existing files are overwritten. Raises Refused for a member that would leave `into`.
    """
    os.makedirs(into, exist_ok=True)
    top = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    names: dict[str, None] = {}
    links: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(fileobj=archive, mode="r|", errorlevel=2) as tar:
            for member in tar:
                parts = _parts(member.name)
                names[parts[0]] = None
                if member.issym():
                    links.append(member)
                elif member.isdir():
                    os.close(_directory(top, parts))
                elif member.isreg():
                    _write(top, parts, member, tar)
        for member in links:
            _link(top, _parts(member.name), member.linkname)
    except OSError as error:
        raise Refused(f"not unpacked into {into}: {error.filename}: {error.strerror}") from None
    finally:
        os.close(top)
    return list(names)


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or name.startswith("/"):
        raise Refused(f"the archive names {name!r}, which would leave the folder")
    return parts


def _directory(top: int, parts: list[str]) -> int:
    """A descriptor of a directory below `top`, created if missing. Raises OSError."""
    here = os.dup(top)
    for part in parts:
        try:
            try:
                os.mkdir(part, dir_fd=here)
            except FileExistsError:
                pass
            inner = os.open(part, _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = inner
    return here


def _write(top: int, parts: list[str], member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    directory = _directory(top, parts[:-1])
    try:
        mode = 0o755 if member.mode & 0o100 else 0o644
        source = tar.extractfile(member)
        with os.fdopen(os.open(parts[-1], _FILE, mode, dir_fd=directory), "wb") as file:
            if source:
                shutil.copyfileobj(source, file)
    finally:
        os.close(directory)


def _link(top: int, parts: list[str], target: str) -> None:
    """Create a link that stays below `top`. It replaces an existing link but no file."""
    resolved = posixpath.normpath("/".join([*parts[:-1], target]))
    if target.startswith("/") or resolved.startswith(".."):
        raise Refused(f"the link {'/'.join(parts)} -> {target} would leave the folder")
    directory = _directory(top, parts[:-1])
    try:
        try:
            os.readlink(parts[-1], dir_fd=directory)
            os.unlink(parts[-1], dir_fd=directory)
        except FileNotFoundError:
            pass
        os.symlink(target, parts[-1], dir_fd=directory)
    finally:
        os.close(directory)
