"""Requests about virtual folders: folder_files, folder_remove."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..runs.launcher import HelperView, start_helper
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.folders import FOLDER_UID
from .replies import Result


class FolderRequests:
    """Acts on virtual folders. `add` takes each file helper that starts."""

    def __init__(self, resources: Resources, add: Callable[[Worker], None]) -> None:
        self._resources = resources
        self._add = add

    def folder_files(self, folder: str) -> Result:
        """Start a file helper that sees one virtual folder."""
        root = self._resources.folders.open(folder)
        try:
            view = HelperView(f"sandboxd: files {folder}", FOLDER_UID, root)
            pid, fd = start_helper(view, self._resources.root)
        finally:
            os.close(root)
        self._add(Worker(pid))
        return Result(descriptors=[fd])

    def folder_remove(self, folder: str) -> Result:
        """Remove a virtual folder that no session has."""
        self._resources.folders.remove(folder)
        return Result()
