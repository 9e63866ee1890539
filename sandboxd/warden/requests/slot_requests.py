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
from .remount import remount_if_suspect
from .replies import PendingReply, Result
from .teardown import Teardown


class SlotRequests:
    """Acts on slots. `end_warm` ends the shims of a slot that have no run; `link` gives a run to
    the broker."""

    def __init__(
        self,
        resources: Resources,
        workers: Workers,
        teardown: Teardown,
        jobs: BackgroundJobs,
        end_warm: Callable[[Slot], None],
        link: Callable[[Slot | None, int | None], None],
    ) -> None:
        self._resources = resources
        self._jobs = jobs
        self._workers = workers
        self._teardown = teardown
        self._end_warm = end_warm
        self._link = link

    def adopt(
        self,
        reply: PendingReply,
        slot: int,
        session: str,
        attachments: tuple[Attachment, ...],
        network: NetworkGrant | None,
        workspace: Workspace | None,
        runs: Set[int],
    ) -> None:
        """Take up a slot of an earlier daemon. The slot is leased in spite of a StageError, with
        shims at work, see adoption.py."""
        adoption = take_up(self._resources, slot, session, runs)
        adoption.slot.network = network
        # Opened for each run, and not now: a directory that is gone is no reason to lose the rest.
        adoption.slot.workspace = workspace
        for worker in adoption.shims:
            self._workers.add(worker)
            self._link(worker.slot, worker.run)

        def completed(result: dict[str, Any] | None) -> None:
            error = failure(result)
            adoption.slot.ready = True
            try:
                if error is None:
                    self._resources.folders.lend(adoption.slot, attachments)
            except StageError as refused:
                error = refused
            reply.finish(error)

        work = reported(lambda: complete(self._resources, adoption))
        keep = [adoption.slot.uid_lease.fileno()]
        try:
            self._jobs.begin(f"adopt slot {slot}", work, completed, keep)
        except StageError:
            adoption.slot.ready = True  # it can be released
            raise

    def files(self, slot: int, session: str) -> Result:
        """Start a file helper that sees the scratch and the folders of a session."""
        resources, leased = self._resources, self._resources.usable(slot, session)
        remount_if_suspect(resources, leased, self._end_warm)
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
