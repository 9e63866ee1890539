"""Teardown of slots: a slot is vacated when its last worker and cgroup are gone, the request for
the release is answered, and a background job reclaims the slot behind the answer.

From the answer on nobody works for the slot, and no session has it: its name is off the disk. The
slot is leased again only when the job has proven that nothing remains (slots/reclaim.py). A slot in
which something is left stays in the warden's hands and is tried again every STUCK_S.

The answer waits for the job in three cases: a process outside of the groups has the uid, virtual
folders are to be written, or the disk is full: there, the client deletes to have room.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from ... import log
from ...errors import StageError
from ...host import procfs
from ...host.free_space import INODES_FLOOR, FreeSpace
from ...wire import messages
from .. import memory_files
from ..background import BackgroundJobs
from ..job_process import Done
from ..runs import run_directory
from ..shared_resources import Resources
from ..slots.reclaim import Remains
from ..slots.slots import Slot
from ..workers import Workers
from .slot_jobs import empty_slot, emptying

STUCK_S = 5.0
"""Seconds between two tries to empty a slot in which something is left. Often that is only a dead
process, which the host's first process has not collected yet."""

COLLECTION_S, PAUSE_S = 0.05, 0.001
"""How long the loop waits for the collection of dead processes of a slot, before a background job
does so; and the seconds between two looks."""

_UNKNOWN = Remains(["something unknown: the background job has failed"], [])

Finish = Callable[[StageError | None], None]
"""Called when a release has ended, with its failure."""


class Teardown:
    """The releases that are under way, by slot.

    on_reclaimed  is called when a job has ended, whether or not the slot is vacant now
    """

    def __init__(self, resources: Resources, jobs: BackgroundJobs, workers: Workers) -> None:
        self._resources = resources
        self._slots = resources.slots
        self._jobs = jobs
        self._workers = workers
        self._releases: dict[int, list[Finish]] = {}
        self._emptying: set[int] = set()  # slots with a background job that empties them
        self._awaited: dict[int, float] = {}  # slots with dead processes -> until when
        self._retry_at = 0.0
        self.on_reclaimed: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._releases)

    @property
    def is_reclaiming(self) -> bool:
        """A slot may be vacant soon."""
        return bool(self._emptying)

    def begin(self, slot: Slot, finish: Finish) -> None:
        """End all that works for `slot`, and release the slot when the last of it is gone."""
        slot.releasing = True
        self._releases.setdefault(slot.number, []).append(finish)
        self._workers.kill(slot)
        self.go_on()

    def go_on(self) -> None:
        """Vacate the slots that have become idle."""
        for number in list(self._releases):
            slot = self._slots.leased.get(number)  # None: it is being emptied already
            if slot is None or slot.remounting or self._workers.is_busy(slot):
                continue
            if self._awaits_collection(slot):
                continue
            self._awaited.pop(number, None)
            try:
                folders = vacate(self._resources, slot)
            except StageError as error:
                self._finish(slot, error)
                continue
            if self._is_over(slot) and not folders:
                self._finish(slot, None)
                self.reclaim_later(slot)
            else:
                self._reclaim(slot, folders)

    def _awaits_collection(self, slot: Slot) -> bool:
        """The uid of a slot without workers has a process: mostly a dead shim or init, which this
        process or the spawner collects in a moment. It is looked at again soon, for a while."""
        if not procfs.is_user_of_any(slot.uid):
            return False
        now = time.monotonic()
        return now < self._awaited.setdefault(slot.number, now + COLLECTION_S)

    def _is_over(self, slot: Slot) -> bool:
        """The client need not wait for the reclaim of `slot`: no process has its uid, no session
        has it on the disk, and the disk has room without what the slot takes."""
        return (
            not procfs.is_user_of_any(slot.uid)
            and not os.path.lexists(f"{slot.path}/session")
            and self._has_room()
        )

    def _has_room(self) -> bool:
        config = self._resources.config
        return FreeSpace.at(config.state_dir).holds(config.disk_floor, INODES_FLOOR)

    def due_in(self) -> float | None:
        """Seconds until `maintain` has something to do; None: nothing but an event does that."""
        if self._awaited:
            return PAUSE_S
        if not self._slots.stuck - self._emptying:
            return None
        return max(0.0, self._retry_at - time.monotonic())

    def maintain(self) -> None:
        """Do what is due: look again at slots with dead processes, and try stuck ones again."""
        if self._awaited:
            self.go_on()
        if self._slots.stuck - self._emptying and self._retry_at <= time.monotonic():
            self.retry()

    def retry(self) -> None:
        """Try once more to empty the stuck slots."""
        self._retry_at = time.monotonic() + STUCK_S
        for number in sorted(self._slots.stuck - self._emptying):
            self._reclaim(self._slots.emptying[number], [])

    def reclaim_later(self, slot: Slot) -> None:
        """Have a vacated slot without folders reclaimed in a background job that nobody waits
        for."""
        self._emptying.add(slot.number)
        work, keep = emptying(self._resources, slot), [slot.uid_lease.fileno()]
        self._jobs.put_off(f"empty slot {slot.number}", work, self._ending(slot), keep)

    def _reclaim(self, slot: Slot, folders: list[int]) -> None:
        """Have a vacated slot reclaimed at once. The folders may take long, so the job has a child
        of its own."""
        self._emptying.add(slot.number)
        state_dir = self._resources.config.state_dir
        try:
            self._jobs.begin(
                f"empty slot {slot.number}",
                lambda: empty_slot(state_dir, slot.number, slot.uid, folders),
                self._ending(slot),
                [*folders, slot.uid_lease.fileno()],
            )
        except StageError as error:  # no process can be made
            self._emptied(slot, Remains([str(error)], []))
        finally:
            messages.close_all(folders)

    def _ending(self, slot: Slot) -> Done:
        """The end of a background job that reclaims `slot`."""
        return lambda left: self._emptied(slot, Remains(**left) if left else _UNKNOWN)

    def _emptied(self, slot: Slot, remains: Remains) -> None:
        self._emptying.discard(slot.number)
        again = slot.number in self._slots.stuck
        try:
            emptied(self._resources, slot, remains)
        except StageError as error:
            if not again:
                log.event("slot.stuck", logging.ERROR, slot=slot.number, error=error.message)
            self._finish(slot, error)
        else:
            self._finish(slot, None)
        self.on_reclaimed()

    def _finish(self, slot: Slot, error: StageError | None) -> None:
        slot.releasing = False
        for finish in self._releases.pop(slot.number, []):
            finish(error)


def vacate(resources: Resources, slot: Slot) -> list[int]:
    """Take a slot that has no workers away from its session; its folders for `reclaim`."""
    folders = resources.folders.take_back(slot)
    resources.workspaces.take_back(slot)
    for run in run_directory.numbers(slot.path):
        memory_files.remove(slot.run_path(run))
    resources.slots.vacate(slot)
    resources.hierarchy.remove_slot(slot.number)
    return folders


def emptied(resources: Resources, slot: Slot, remains: Remains) -> None:
    """Free the slot, if nothing remains of it. Raises StageError when more than dead processes
    remain."""
    if not remains:
        resources.slots.release(slot)
        return
    resources.slots.stuck.add(slot.number)
    if remains.things:
        things = ", ".join(remains.things)
        raise StageError("release", f"slot {slot.number} cannot be emptied: {things}")
