"""A tree with an entry of each kind, as a build may leave it, and the description of a tree."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

Description = dict[str, tuple[Any, ...]]


def describe(*tops: Path) -> Description:
    """All that a program can learn about trees: but for the numbers of inodes, of which only those
    with several names are compared, by their names."""
    entries, names = dict[str, tuple[Any, ...]](), dict[int, list[str]]()
    for top in tops:
        for path in [top, *sorted(top.rglob("*"))]:
            status = path.lstat()
            content: Any = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            extra = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            if not stat.S_ISDIR(status.st_mode):
                names.setdefault(status.st_ino, []).append(str(path))
            mode, times = status.st_mode, status.st_mtime_ns
            nlink = 0 if stat.S_ISDIR(mode) else status.st_nlink
            entries[str(path)] = (mode, times, content, extra, status.st_ino, nlink)
    return {
        path: (*values[:4], names.get(values[4]), values[5]) for path, values in entries.items()
    }


def build(work: Path, tmp: Path) -> None:
    """A tree with an entry of each kind."""
    (work / "main").write_bytes(b"\x7fELF program")
    (work / "main").chmod(0o755)
    (work / "main.c").write_text("int main(void) { return 0; }\n")
    os.utime(work / "main.c", ns=(1, 123456789))
    (work / "data" / "deep" / "deeper").mkdir(parents=True)
    (work / "data" / "deep" / "deeper" / "x").write_text("x")
    (work / "data" / "closed").mkdir()
    (work / "data" / "closed" / "inner").write_text("inner")
    (work / "empty").mkdir()
    (work / "empty.txt").touch()
    (work / "link").symlink_to("data/deep")
    (work / "dangling").symlink_to("/nowhere")
    os.mkfifo(work / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(work / "socket"))
    (work / "one").write_text("three names")
    os.link(work / "one", work / "two")
    os.link(work / "one", work / "data" / "three")
    with open(work / "sparse", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
        file.truncate(3 << 20)
    os.setxattr(work / "main", "user.note", b"of the build")
    os.setxattr(work / "data", "user.note", b"of the build")
    (work / os.fsdecode(b"not \xff utf-8")).write_text("n")
    (tmp / "cache").mkdir()
    (tmp / "cache" / "c").write_text("c")
    tmp.chmod(0o1777)
    (work / "data" / "closed").chmod(0o555)
    (work / "secret").write_text("s")
    (work / "secret").chmod(0o000)
