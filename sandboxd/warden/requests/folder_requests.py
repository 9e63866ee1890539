"""Requests about virtual folders: folder_make, folder_files, folder_remove.

The disk may be slow, so background jobs make and remove folders.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ...errors import StageError
from ..background import BackgroundJobs, failure, reported
from ..fork import die_with
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

    def folder_make(self, reply: PendingReply, folder: str, size: int, inodes: int) -> None:
        """Have a virtual folder made. Raises SandboxdError."""
        folders, warden = self._resources.folders, os.getpid()

        def act() -> None:
            die_with(warden)  # the next warden does not know of it
            folders.make(folder, size, inodes)

        def done(result: dict[str, Any] | None) -> None:
            reply.finish(failure(result))

        self._jobs.begin("make folder", reported(act), done, [])

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

        def removed(result: dict[str, Any] | None) -> None:
            folders.end_removal(folder)
            reply.finish(failure(result))

        try:
            self._jobs.begin("remove folder", reported(lambda: folders.remove(folder)), removed, [])
        except StageError:
            folders.end_removal(folder)
            raise
