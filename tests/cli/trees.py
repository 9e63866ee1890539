"""Trees of files for tests: what they have in them, and a Reporter that remembers its lines."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from sandboxd.cli.reporter import Reporter


class Lines(Reporter):
    """A reporter that prints nothing; its lines are there to read."""

    def __init__(self) -> None:
        super().__init__(quiet=False, as_json=False)
        self.phases: list[str] = []
        self.warnings: list[str] = []

    def phase(self, text: str, always: bool = False, **_: Any) -> None:
        self.phases.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def contents(top: Path | str, links: bool = True) -> dict[str, tuple[Any, ...]]:
    """Everything below `top` by name: kind, permissions, time, and bytes or target."""
    members: dict[str, tuple[Any, ...]] = {}
    for folder, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            mode = stat.S_IMODE(status.st_mode)
            key = os.path.relpath(path, top)
            if stat.S_ISLNK(status.st_mode):
                members[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                members[key] = ("directory", mode, status.st_mtime_ns)
            elif stat.S_ISREG(status.st_mode):
                members[key] = ("file", mode, status.st_mtime_ns, Path(path).read_bytes())
            else:
                members[key] = ("special",)
    return members


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **more: Any
) -> tarfile.TarInfo:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info


def directory(name: str, **more: Any) -> tarfile.TarInfo:
    return member(name, tarfile.DIRTYPE, **more)


def link(name: str, target: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, target)


def archive(*members: tarfile.TarInfo | tuple[str, bytes]) -> tarfile.TarFile:
    """A stream with these members; a pair is a file with its bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in members:
            if isinstance(each, tuple):
                name, content = each
                tar.addfile(member(name, size=len(content)), io.BytesIO(content))
            else:
                tar.addfile(each)
    data.seek(0)
    return tarfile.open(fileobj=data, mode="r|")
