"""A host's file system, made of empty files below a directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

Entry = int | str
"""The mode of an empty file, or the target of a link."""


class Tree:
    """Files at `root`, which stands for "/"."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def add(self, entries: Mapping[str, Entry]) -> Tree:
        """Make `entries`, by absolute path, with directories that all may enter."""
        for path, entry in entries.items():
            place = Path(self.root + path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, str):
                place.symlink_to(entry)
            else:
                place.touch()
                os.chmod(place, entry)
        return self

    def chmod(self, path: str, mode: int) -> Tree:
        """Change the mode of what is at `path`."""
        os.chmod(self.root + path, mode)
        return self
