"""Provisioning of slots: the request lease.

It takes the disk's time, which may be long, so a background job does it, and the reply is sent when
the job has ended.

A session gets a slot that is proven to be empty (slots/reclaim.py). The proof is a background job
as well, and usually one that ran before: the loop itself looks at no process.

A slot that is being provisioned is leased, so that no other session gets it, and not ready, so that
no request reaches it. If the job fails, the slot is released like any other, and the failure is the
reply.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from ...errors import Invalid, SandboxdError, StageError, Unavailable
from ...model import Attachment, NetworkGrant, Workspace
from ..background import BackgroundJobs, failure
from ..leaks.rule import slot_of_group
from ..shared_resources import Resources
from ..slots.slots import Slot
from .replies import PendingReply, Result
from .slot_jobs import making
from .spares import Spares
from .teardown import Teardown


@dataclass(frozen=True, slots=True)
class _LeaseRequest:
    """A request for a slot that waits until one is vacant."""

    reply: PendingReply
    session: str
    owner: str
    size: int
    inodes: int
    attachments: tuple[Attachment, ...]
    network: NetworkGrant | None
    workspace: Workspace | None


class Provisioning:
    """Has slots made in background jobs."""

    def __init__(
        self, resources: Resources, jobs: BackgroundJobs, teardown: Teardown, spares: Spares
    ) -> None:
        self._resources = resources
        self._spares = spares
        self._jobs = jobs
        self._teardown = teardown
        self._waiting = deque[_LeaseRequest]()
        teardown.on_reclaimed = self._serve_reclaimed

    def lease(
        self,
        reply: PendingReply,
        session: str,
        owner: str,
        size: int,
        inodes: int,
        attachments: tuple[Attachment, ...],
        network: NetworkGrant | None,
        workspace: Workspace | None,
    ) -> None:
        """Lease a slot and have its scratch made, as soon as a slot is vacant. Raises
        SandboxdError, OSError."""
        if network and (refusal := self._resources.config.network.refusal(network)):
            raise Invalid(refusal)
        is_plain = not attachments and workspace is None
        if is_plain and (claimed := self._spares.claim(session, size, inodes)):
            slot, name = claimed
            slot.owner, slot.network = owner, network
            reply.succeed(Result({"slot": slot.number}, [name]))
            self._make_ahead()
            return
        lease = _LeaseRequest(reply, session, owner, size, inodes, attachments, network, workspace)
        slots = self._resources.slots
        if self._waiting or not slots.vacant:
            self._waiting.append(lease)
            self.prove()
            return
        self._make(lease)
        self._make_ahead()

    def _make_ahead(self) -> None:
        """Have spares and vacant slots for later sessions."""
        self._spares.refill()
        slots = self._resources.slots
        if len(slots.vacant) < slots.vacant_max // 2:
            self.prove()

    def prove(self, begin: int = 0) -> None:
        """Have free slots proven to be empty in a background job, and lease them to the sessions
        that wait. Nothing happens while a job is under way, or will be."""
        slots = self._resources.slots
        if slots.proving:
            if self._waiting:
                self._jobs.begin_due(now=True)
            return
        try:
            following = slots.prove(begin)
        except (SandboxdError, OSError) as error:  # no lease can be taken
            slots.proven(frozenset())
            reason = StageError.of("lease", error) if isinstance(error, OSError) else error
            self._refuse_waiting(reason)
            return
        if not slots.proving:
            if self._waiting:
                self._await_reclaim()
            return

        def proven(unused: Any) -> None:
            slots.proven(frozenset(unused or ()))
            if unused is None:
                self._refuse_waiting(StageError("lease", "the proof of free slots has failed"))
            self._serve_waiting()
            if self._waiting:
                self.prove(following)
            else:
                self._spares.refill()

        begin_job = self._jobs.begin if self._waiting else self._jobs.put_off
        try:
            begin_job(
                "prove slots", lambda: slots.unused(busy(self._resources)), proven,
                [lease.fileno() for lease in slots.proving.values()],
            )  # fmt: skip
        except StageError as error:  # no process can be made
            slots.proven(frozenset())
            self._refuse_waiting(error)

    def _await_reclaim(self) -> None:
        """No slot is free: the sessions that wait get one that is reclaimed soon, perhaps that of a
        spare (_serve_reclaimed), or they are refused."""
        if self._teardown.is_reclaiming or self._spares.give_up_one():
            self._jobs.begin_due(now=True)
            return
        count = self._resources.slots.count
        self._refuse_waiting(Unavailable(f"all {count} slots are leased; raise slots.count"))

    def _serve_reclaimed(self) -> None:
        """The slot of a session that has ended may be vacant now."""
        self._serve_waiting()
        if self._waiting:
            self.prove()
        else:
            self._spares.refill()

    def _serve_waiting(self) -> None:
        while self._waiting and self._resources.slots.vacant:
            lease = self._waiting.popleft()
            try:
                self._make(lease)
            except SandboxdError as error:
                lease.reply.refuse(error)
            except OSError as error:
                lease.reply.refuse(StageError.of("lease", error))

    def _refuse_waiting(self, error: SandboxdError) -> None:
        while self._waiting:
            self._waiting.popleft().reply.refuse(error)

    def _make(self, lease: _LeaseRequest) -> None:
        """Lease a vacant slot, and have its scratch made. Raises SandboxdError, OSError; then the
        slot is emptied in a background job."""
        resources, reply = self._resources, lease.reply
        slot = resources.slots.lease(lease.session)
        slot.owner, slot.network = lease.owner, lease.network

        def finish(result: dict[str, Any] | None) -> None:
            if error := failure(result) or shown(resources, slot):
                self._teardown.begin(slot, lambda _: reply.refuse(error))
            else:
                slot.ready = True
                reply.succeed(Result({"slot": slot.number}))

        try:
            resources.folders.lend(slot, lease.attachments)
            resources.workspaces.lend(slot, lease.workspace)
            work = making(resources, slot, lease.size, lease.inodes)
            self._jobs.begin(f"make slot {slot.number}", work, finish, [slot.uid_lease.fileno()])
        except (SandboxdError, OSError):
            self._teardown.begin(slot, lambda _: None)
            raise


def shown(resources: Resources, slot: Slot) -> StageError | None:
    """The folders of `slot` are mounted; the reason why its programs cannot see them, if any."""
    try:
        resources.folders.prove(slot)
    except StageError as error:
        return error
    return None


def busy(resources: Resources) -> frozenset[int | None]:
    """The slots that have groups of runs."""
    return frozenset(slot_of_group(name) for name in resources.groups())
