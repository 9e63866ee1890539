"""The files that Debian packages ship below /etc and /var/lib, by the database of dpkg.

A file whose checksum is the one of its package has the same bytes as on every other host that has
the package, so it holds no secret of this host. The database belongs to root:

    /var/lib/dpkg/status           the checksums of files that an administrator may change
                                   (deb-conffiles(5)), in the field Conffiles
    /var/lib/dpkg/info/*.md5sums   those of all other files
    /var/lib/dpkg/info/*.list      all paths, links among them
    /var/lib/ucf/hashfile          the version that ucf(1) has installed last, of files that some
                                   packages make during their installation

MD5 is what dpkg stores. It is enough here: only root can write these files, and a file with the
checksum of another one that exists already (a second preimage) cannot be made.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator

STATUS = "/var/lib/dpkg/status"
UCF = "/var/lib/ucf/hashfile"

TEMPLATES = {"/etc/profile": "/usr/share/base-files/profile"}
"""Files that a package copies from a place that every jail shows. dpkg has no checksum of them."""

_FIELD = re.compile(rb"^Conffiles:\n((?: .*\n)+)", re.MULTILINE)
_CONFFILE = re.compile(rb"^ (/etc/.*) ([0-9a-f]{32})(?: [a-z-]+)*$", re.MULTILINE)
_SHIPPED = re.compile(rb"^([0-9a-f]{32})  ((?:etc|var/lib)/.*)$", re.MULTILINE)
_UCF = re.compile(rb"^([0-9a-f]{32})  (/etc/.*)$", re.MULTILINE)
_BELOW_ETC = re.compile(rb"\n(/etc/.*)")


def checksums(root: str = "/") -> dict[str, set[str]]:
    """The MD5 checksums of each path that a package ships; none on a host without dpkg."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    root = root.rstrip("/")
    for field in _FIELD.finditer(_read(f"{root}{STATUS}")):
        for path, checksum in _CONFFILE.findall(field[1]):
            known[os.fsdecode(path)].add(checksum.decode())
    for text in _texts(root, ".md5sums"):
        for checksum, path in _SHIPPED.findall(text):
            known["/" + os.fsdecode(path)].add(checksum.decode())
    return dict(known)


def installed(root: str = "/") -> dict[str, set[str]]:
    """The MD5 checksums of files below /etc that packages made when they were installed.

    A package may have made such a file from answers to its questions, so it is not the same on each
    host.
    """
    root = root.rstrip("/")
    known: defaultdict[str, set[str]] = defaultdict(set)
    for checksum, path in _UCF.findall(_read(f"{root}{UCF}")):
        known[os.fsdecode(path)].add(checksum.decode())
    for path, template in TEMPLATES.items():
        if content := _read(root + template):
            known[path].add(hashlib.md5(content, usedforsecurity=False).hexdigest())
    return dict(known)


def links(root: str = "/") -> list[str]:
    """The symbolic links below /etc that are in a package."""
    root = root.rstrip("/")
    paths = {
        os.fsdecode(path)
        for text in _texts(root, ".list")
        for path in _BELOW_ETC.findall(b"\n" + text)
    }
    return sorted(path for path in paths if os.path.islink(root + path))


def _texts(root: str, suffix: str) -> Iterator[bytes]:
    """The files of all packages with this suffix that name a path below /etc or /var/lib."""
    directory = f"{root}/var/lib/dpkg/info"
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(suffix))
    except OSError:  # another package manager
        return
    for name in names:
        text = _read(f"{directory}/{name}")
        if b"etc/" in text or b"var/lib/" in text:
            yield text


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # a package that was removed meanwhile, or no dpkg at all
        return b""
