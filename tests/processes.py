"""The processes of this host. Others come and go meanwhile: one that has ended has no title, no
parent and no children."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sandboxd.host import procfs


def title(pid: int) -> str:
    """Its name as `ps` shows it, or its command line, with a NUL between two arguments."""
    return procfs.text(f"/proc/{pid}/cmdline").rstrip("\0")


def titles(prefix: str) -> dict[int, str]:
    """The title of every process whose title begins with `prefix`, by pid."""
    return _with_prefix(procfs.pids(), prefix)


def children(pid: int, prefix: str = "") -> dict[int, str]:
    """The title of every child of a process whose title begins with `prefix`, by pid; the eldest
    child is the first."""
    return _with_prefix(_children(pid), prefix)


def descendants(pid: int, prefix: str = "") -> dict[int, str]:
    """The same for its children, their children, and so on."""
    return _with_prefix(_descendants(pid), prefix)


def ancestors(pid: int) -> list[int]:
    """The parents of a process, nearest first."""
    parents = []
    while pid > 1:
        fields = procfs.text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if not fields:
            break
        pid = int(fields[1])
        parents.append(pid)
    return parents


def files(pid: int) -> dict[int, str]:
    """The open files of a process, by descriptor, as readlink(2) names them."""
    names = dict[int, str]()
    with contextlib.suppress(OSError):
        for fd in map(int, os.listdir(f"/proc/{pid}/fd")):
            with contextlib.suppress(OSError):
                names[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return names


def _with_prefix(pids: Iterator[int] | list[int], prefix: str) -> dict[int, str]:
    names = {pid: title(pid) for pid in pids}
    return {pid: name for pid, name in names.items() if name.startswith(prefix)}


def _children(pid: int) -> Iterator[int]:
    try:
        threads = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except OSError:
        return
    for thread in threads:
        yield from map(int, procfs.text(f"/proc/{pid}/task/{thread}/children").split())


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)
