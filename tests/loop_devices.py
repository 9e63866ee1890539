"""The loop devices of this host; those of other tests come and go meanwhile."""

from __future__ import annotations

from pathlib import Path

from sandboxd.host import procfs


def backing_files() -> list[str]:
    """The files of all loop devices."""
    paths = Path("/sys/block").glob("loop*/loop/backing_file")
    return [name for path in paths if (name := procfs.text(str(path)).strip())]
