"""Provisioning of slots and virtual folders: the requests lease and folder_make.

It takes the disk's time, which may be long, so a background job does it, and the reply is sent when
the job has ended.

A slot that is being provisioned is leased, so that no other session gets it, and not ready, so that
no request reaches it. If the job fails, the slot is released like any other, and the failure is the
reply.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ...errors import SandboxdError, StageError
from ...jail.stage import stage
from ...model import Attachment
from ..background import BackgroundJobs
from ..doctor.trial import die_with
from ..leaks.rule import slot_of_group
from ..shared_resources import Resources
from ..slots import flush
from ..slots.leases import Slot
from .replies import PendingReply, Result
from .teardown import Teardown, free

_FAILED = {"stage": "job", "message": "the background job has failed", "errno": 0}


class Provisioning:
    """Has slots and folders made in background jobs."""

    def __init__(self, resources: Resources, jobs: BackgroundJobs, teardown: Teardown) -> None:
        self._resources = resources
        self._jobs = jobs
        self._teardown = teardown

    def lease(
        self,
        reply: PendingReply,
        session: str,
        size: int,
        inodes: int,
        mounts: tuple[Attachment, ...],
    ) -> None:
        """Lease a slot and have its scratch made. Raises SandboxdError, OSError."""
        resources, slot = self._resources, reserve_slot(self._resources, session, mounts)

        def finish(error: StageError | None) -> None:
            if error:
                self._teardown.begin(slot, lambda _: reply.refuse(error))
            else:
                slot.ready = True
                reply.succeed(Result({"slot": slot.number}))

        try:
            self._begin(
                f"make slot {slot.number}",
                lambda: make_slot(resources, slot, size, inodes),
                finish,
                [slot.lock.fileno()],
            )
        except StageError:  # no process can be made
            free(resources, slot)
            raise

    def folder_make(self, reply: PendingReply, folder: str, size: int, inodes: int) -> None:
        """Have a virtual folder made. Raises SandboxdError."""
        folders = self._resources.folders
        self._begin("make folder", lambda: folders.make(folder, size, inodes), reply.finish, [])

    def _begin(
        self,
        name: str,
        make: Callable[[], None],
        finish: Callable[[StageError | None], None],
        keep: list[int],
    ) -> None:
        warden = os.getpid()

        def work() -> dict[str, Any]:
            die_with(warden)  # the next warden does not know of it
            try:
                make()
            except StageError as error:
                return {"stage": error.stage, "message": error.message, "errno": error.errno}
            return {}

        def done(failure: dict[str, Any] | None) -> None:
            failure = _FAILED if failure is None else failure
            finish(StageError(**failure) if failure else None)

        self._jobs.begin(name, work, done, keep)


def reserve_slot(resources: Resources, session: str, mounts: tuple[Attachment, ...]) -> Slot:
    """Lease a slot to `session`, with its folders mounted. Raises SandboxdError, OSError."""
    with stage("lease"):
        busy = {slot_of_group(name) for name in resources.groups()}
        slot = resources.slots.lease(session, busy)
    try:
        resources.folders.lend(slot, mounts)
    except (SandboxdError, OSError):
        free(resources, slot)
        raise
    return slot


def make_slot(resources: Resources, slot: Slot, size: int, inodes: int) -> None:
    """Make the scratch of a reserved slot, of `size` bytes and `inodes`. Raises StageError."""
    resources.scratch.make(slot.path, slot.uid, size, inodes)
    with stage("lease"):
        for mount in slot.folders:  # its place; no program of the session has run yet
            os.mkdir(f"{slot.scratch}/work/{mount.name}")
        flush.file_system(slot.scratch)
        resources.slots.commit(slot)
