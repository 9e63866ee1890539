"""Requests about virtual folders: folder_make, folder_files, folder_remove.

The disk may be slow, so background jobs make, mount and remove folders. A removal waits for the
file calls whose helpers are being made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from ... import log
from ...errors import StageError
from ...wire import messages
from ..background import BackgroundJobs, failure, reported
from ..fork import die_with
from ..job_process import JobSpec
from ..runs.launcher import HelperView, start_helper
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.folders import FOLDER_UID
from .replies import PendingReply, Result
from .slot_jobs import close_folders, mounting


class FolderRequests:
    """Acts on virtual folders. `add` takes each file helper that starts."""

    def __init__(
        self, resources: Resources, add: Callable[[Worker], None], jobs: BackgroundJobs
    ) -> None:
        self._resources = resources
        self._add = add
        self._jobs = jobs
        self._removals: dict[str, Callable[[], None]] = {}  # those that wait for file calls

    def folder_make(self, reply: PendingReply, folder: str, size: int, inodes: int) -> None:
        """Have a virtual folder made. Raises SandboxdError."""
        folders, warden = self._resources.folders, os.getpid()

        def act() -> None:
            die_with(warden)  # the next warden does not know of it
            folders.make(folder, size, inodes)

        def done(result: dict[str, Any] | None) -> None:
            reply.finish(failure(result))

        self._jobs.begin("make folder", reported(act), done, [])

    def folder_files(self, reply: PendingReply, folder: str) -> None:
        """Start a file helper that sees one virtual folder, which is mounted for that. Raises
        SandboxdError, OSError."""
        folders = self._resources.folders
        call = folders.begin_call(folder)

        def mounted(result: dict[str, Any] | None) -> None:
            try:
                if error := failure(result):
                    raise error
                helper = self._start_helper(folder)
            except StageError as error:
                reply.refuse(error)
            except OSError as error:  # no descriptor is left, for instance
                reply.refuse(StageError.of("file helper", error))
            else:
                reply.succeed(Result(descriptors=[helper]))
            finally:
                self._end_call(folder, call)

        if not folders.unmounted([folder]):
            mounted({})
            return
        try:
            work = mounting(self._resources, [folder])
            self._jobs.begin("mount folder", work, mounted, [])
        except StageError:
            self._end_call(folder, call)
            raise

    def _start_helper(self, folder: str) -> int:
        root = self._resources.folders.open(folder)
        try:
            view = HelperView(f"sandboxd: files {folder}", FOLDER_UID, root)
            pid, fd = start_helper(view, self._resources.root)
        finally:
            os.close(root)
        self._add(Worker(pid))
        return fd

    def _end_call(self, folder: str, call: int) -> None:
        """Unmount the folder, if nobody else uses it. Its helper may have failed already, and then
        the last descriptor waits for the disk: a background job has that one."""
        folders = self._resources.folders
        file_systems: list[int] = []
        try:
            file_systems = folders.end_call(folder, call)
            if file_systems:
                work = JobSpec(close_folders, {})
                self._jobs.begin("close folder", work, lambda _: None, file_systems)
        except StageError as error:  # no process can be made, or no descriptor is free
            log.event("folder.closed", logging.WARNING, folder=folder, error=str(error))
        finally:
            messages.close_all(file_systems)
        if folder not in folders.used and (remove := self._removals.pop(folder, None)):
            remove()

    def folder_remove(self, reply: PendingReply, folder: str) -> None:
        """Remove a virtual folder that no session has. The kernel frees the blocks of its image one
        by one, so a background job does it. Raises Invalid."""
        folders = self._resources.folders
        folders.begin_removal(folder)

        def removed(result: dict[str, Any] | None) -> None:
            folders.end_removal(folder)
            reply.finish(failure(result))

        def remove() -> None:
            work = reported(lambda: folders.remove(folder))
            try:
                self._jobs.begin("remove folder", work, removed, [])
            except StageError as error:
                folders.end_removal(folder)
                reply.refuse(error)

        if folder in folders.used:
            self._removals[folder] = remove
        else:
            remove()
