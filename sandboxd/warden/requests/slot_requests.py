"""Requests about a session's slot: adopt, files, release."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set

from ...jail.stage import stage
from ...model import Attachment
from ..runs.launcher import HelperView, start_helper
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.leases import Slot
from ..slots.scratch import clone_into
from ..workers import Workers
from .adoption import adopt
from .remount import remount_if_suspect
from .replies import PendingReply, Result
from .teardown import Teardown


class SlotRequests:
    """Acts on slots. `end_rest` ends the shims of a slot that have no run."""

    def __init__(
        self,
        resources: Resources,
        workers: Workers,
        teardown: Teardown,
        end_rest: Callable[[Slot], None],
    ) -> None:
        self._resources = resources
        self._workers = workers
        self._teardown = teardown
        self._end_rest = end_rest

    def adopt(
        self, slot: int, session: str, mounts: tuple[Attachment, ...], runs: Set[int]
    ) -> Result:
        """Take up a slot of an earlier daemon. The slot may be leased in spite of an error, with
        shims at work, see adoption.py."""
        workers, error = adopt(self._resources, slot, session, mounts, runs)
        for worker in workers:
            self._workers.add(worker)
        if error:
            raise error
        return Result()

    def files(self, slot: int, session: str) -> Result:
        """Start a file helper that sees the scratch and the folders of a session."""
        resources, leased = self._resources, self._resources.usable(slot, session)
        remount_if_suspect(resources, leased, self._end_rest)
        with contextlib.ExitStack() as stack:
            with stage("file helper"):
                root = clone_into(stack, leased.scratch)
            folders = resources.folders.clones(leased, stack)
            view = HelperView(f"sandboxd: files slot {slot}", leased.uid, root, folders)
            pid, fd = start_helper(view, resources.root)
        self._workers.add(Worker(pid, leased))
        return Result(descriptors=[fd])

    def release(self, reply: PendingReply, slot: int, session: str) -> None:
        """End everything in a slot and free it."""
        self._teardown.begin(self._resources.leased(slot, session), reply.finish)
