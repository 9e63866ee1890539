"""Requests about a session's slot: adopt, files, release."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from typing import Any

from ...errors import StageError
from ...jail.stage import stage
from ...model import Attachment, NetworkGrant, Workspace
from ..background import BackgroundJobs, failure, reported
from ..runs.launcher import HelperView, start_helper
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.scratch import clone_into
from ..slots.slots import Slot
from ..workers import Workers
from .adoption import complete, take_up
from .provisioning import shown
from .replies import PendingReply, Result
from .slot_jobs import mounting
from .teardown import Finish, Teardown


class SlotRequests:
    """Acts on slots. `link` gives a run to the broker."""

    def __init__(
        self,
        resources: Resources,
        workers: Workers,
        teardown: Teardown,
        jobs: BackgroundJobs,
        link: Callable[[Slot | None, int | None], None],
    ) -> None:
        self._resources = resources
        self._jobs = jobs
        self._workers = workers
        self._teardown = teardown
        self._link = link

    def adopt(
        self,
        reply: PendingReply,
        slot: int,
        session: str,
        owner: str,
        attachments: tuple[Attachment, ...],
        network: NetworkGrant | None,
        workspace: Workspace | None,
        runs: Set[int],
    ) -> None:
        """Take up a slot of an earlier daemon. The slot is leased in spite of a StageError, with
        shims at work, see adoption.py."""
        adoption = take_up(self._resources, slot, session, runs)
        adoption.slot.owner, adoption.slot.network = owner, network
        # Opened for each run, and not now: a directory that is gone is no reason to lose the rest.
        adoption.slot.workspace = workspace
        for worker in adoption.shims:
            self._workers.add(worker)
            self._link(worker.slot, worker.run)

        def finish(error: StageError | None) -> None:
            adoption.slot.ready = True
            reply.finish(error)

        def completed(result: dict[str, Any] | None) -> None:
            if error := failure(result):
                finish(error)
            else:
                self._lend_folders(adoption.slot, attachments, finish)

        work = reported(lambda: complete(self._resources, adoption))
        keep = [adoption.slot.uid_lease.fileno()]
        try:
            self._jobs.begin(f"adopt slot {slot}", work, completed, keep)
        except StageError:
            adoption.slot.ready = True  # it can be released
            raise

    def _lend_folders(
        self, slot: Slot, attachments: tuple[Attachment, ...], finish: Finish
    ) -> None:
        """Have the folders of an adopted slot mounted and proven."""
        folders = self._resources.folders

        def mounted(result: dict[str, Any] | None) -> None:
            finish(failure(result) or shown(self._resources, slot))

        try:
            folders.lend(slot, attachments)
            if missing := folders.unmounted([one.folder for one in attachments]):
                work = mounting(self._resources, missing)
                self._jobs.begin("mount folders", work, mounted, [])
            else:
                mounted({})
        except StageError as error:
            finish(error)

    def files(self, slot: int, session: str) -> Result:
        """Start a file helper that sees the scratch and the folders of a session."""
        resources, leased = self._resources, self._resources.usable(slot, session)
        with contextlib.ExitStack() as stack:
            with stage("file helper"):
                root = clone_into(stack, leased.scratch)
            folders = resources.folders_of(leased, stack)
            view = HelperView(f"sandboxd: files slot {slot}", leased.uid, root, folders)
            pid, fd = start_helper(view, resources.root)
        self._workers.add(Worker(pid, leased))
        return Result(descriptors=[fd])

    def release(self, reply: PendingReply, slot: int, session: str) -> None:
        """End everything in a slot and free it."""
        self._teardown.begin(self._resources.leased(slot, session), reply.finish)
