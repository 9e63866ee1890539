"""Requests about virtual folders: folder_files, folder_remove."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ...errors import StageError
from ..background import FAILED, BackgroundJobs, reported
from ..runs.launcher import HelperView, start_helper
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.folders import FOLDER_UID
from .replies import PendingReply, Result


class FolderRequests:
    """Acts on virtual folders. `add` takes each file helper that starts."""

    def __init__(
        self, resources: Resources, add: Callable[[Worker], None], jobs: BackgroundJobs
    ) -> None:
        self._resources = resources
        self._add = add
        self._jobs = jobs

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

    def folder_remove(self, reply: PendingReply, folder: str) -> None:
        """Remove a virtual folder that no session has. The kernel frees the blocks of its image one
        by one, so a background job does it. Raises Invalid, StageError."""
        folders = self._resources.folders
        folders.begin_removal(folder)

        def removed(failure: dict[str, Any] | None) -> None:
            folders.end_removal(folder)
            failure = FAILED if failure is None else failure
            reply.finish(StageError(**failure) if failure else None)

        try:
            self._jobs.begin("remove folder", reported(lambda: folders.remove(folder)), removed, [])
        except StageError:
            folders.end_removal(folder)
            raise
