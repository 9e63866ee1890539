"""The search for a text in the files of a daemon."""

from __future__ import annotations

import os
from pathlib import Path

IMAGE = 16 << 20
"""Bytes of the smallest file system of a session or a folder, which is the user's own."""


def holders(folder: Path, *texts: bytes) -> list[Path]:
    """The files below a directory that have one of the texts, without images of file systems."""
    paths = [Path(top, name) for top, _, names in os.walk(folder) for name in names]
    return [path for path in paths if any(text in _content(path) for text in texts)]


def _content(path: Path) -> bytes:
    try:
        is_searched = path.is_file() and path.stat().st_size < IMAGE
        return path.read_bytes() if is_searched else b""
    except FileNotFoundError:  # the daemon removes files of a session that has ended
        return b""
