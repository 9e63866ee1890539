"""The mounts that a process sees: the reader of /proc/PID/mountinfo (proc(5)).

An init reads its own before each fresh run, so a line costs few calls of Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from . import procfs


class MountInfo(NamedTuple):
    """One mount.

    number       the mnt_id, as fdinfo names it too
    device       of its file system: MAJOR:MINOR
    point        its place
    options      of the mount: ro, nosuid and others
    propagation  to other mount namespaces ("shared:1"); none for a private mount
    fstype       the type of its file system
    settings     the options of its file system, separated by commas
    """

    number: str
    device: str
    point: str
    options: list[str]
    propagation: list[str]
    fstype: str
    settings: str


def read(pid: int | str = "self") -> Iterator[MountInfo]:
    """The mounts of a process at this moment. Raises OSError."""
    return parse(procfs.read(f"/proc/{pid}/mountinfo"))


def parse(text: str) -> Iterator[MountInfo]:
    """The mounts in the text of the file."""
    # Not splitlines: names of mounts may have U+2028 and other ends of lines.
    for line in text.split("\n"):
        if not line:
            continue
        left, _, right = line.partition(" - ")
        number, _, device, _, point, options, *propagation = left.split(" ")
        fstype, _, settings = right.split(" ", 2)
        if "\\" in point:
            point = _unescaped(point)
        if "\\" in fstype:
            fstype = _unescaped(fstype)
        yield MountInfo(number, device, point, options.split(","), propagation, fstype, settings)


def _unescaped(word: str) -> str:
    """A word as it is; in the file a space and the like are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), word)
