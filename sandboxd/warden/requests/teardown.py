"""Teardown of slots: a slot is vacated when its last worker is gone, a background job empties it,
and the request for the release is answered then.

A slot in which something is left (slots/reclaim.py) stays leased and is tried again every STUCK_S.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from ... import log, wire
from ...errors import StageError
from ..background import BackgroundJobs
from ..shared_resources import Resources
from ..slots.leases import Slot
from ..slots.reclaim import Remains, reclaim
from ..workers import Workers

STUCK_S = 5.0
"""Seconds between two tries to empty a slot in which something is left. Often that is only a dead
process, which the host's first process has not collected yet."""

_UNKNOWN = Remains(["something unknown: the background job has failed"], [])

Finish = Callable[[StageError | None], None]
"""Called when a release has ended, with its failure."""


class Teardown:
    """The releases that are under way, by slot."""

    def __init__(self, resources: Resources, jobs: BackgroundJobs, workers: Workers) -> None:
        self._resources = resources
        self._slots = resources.slots
        self._jobs = jobs
        self._workers = workers
        self._releases: dict[int, list[Finish]] = {}
        self._emptying: set[int] = set()  # slots with a background job that empties them
        self._retry_at = 0.0

    def __len__(self) -> int:
        return len(self._releases)

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
            if slot is None or self._workers.is_busy(slot):
                continue
            try:
                folders = vacate(self._resources, slot)
            except StageError as error:
                self._finish(slot, error)
            else:
                self._empty(slot, folders)

    def retry_in(self) -> float | None:
        """Seconds until stuck slots are tried again; None: no slot is stuck."""
        if not self._slots.stuck - self._emptying:
            return None
        return max(0.0, self._retry_at - time.monotonic())

    def retry(self) -> None:
        """Try once more to empty the stuck slots."""
        self._retry_at = time.monotonic() + STUCK_S
        for number in sorted(self._slots.stuck - self._emptying):
            self._empty(self._slots.emptying[number], [])

    def _empty(self, slot: Slot, folders: list[int]) -> None:
        """Have everything of a slot removed in a background job."""
        self._emptying.add(slot.number)
        state = self._resources.config.state_dir
        try:
            self._jobs.begin(
                f"empty slot {slot.number}",
                lambda: asdict(reclaim(state, slot.number, slot.uid, folders)),
                lambda left: self._emptied(slot, Remains(**left) if left else _UNKNOWN),
                [*folders, slot.lock.fileno()],
            )
        except StageError as error:  # no process can be made
            self._emptied(slot, Remains([str(error)], []))
        finally:
            wire.close_all(folders)

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

    def _finish(self, slot: Slot, error: StageError | None) -> None:
        slot.releasing = False
        for finish in self._releases.pop(slot.number, []):
            finish(error)


def free(resources: Resources, slot: Slot) -> None:
    """Take everything back from a slot that has no processes, and wait for it. Raises StageError
    when something is left, which the next sweep tries again."""
    folders = vacate(resources, slot)
    emptied(
        resources, slot, reclaim(resources.config.state_dir, slot.number, slot.uid, folders)
    )  # fmt: skip


def vacate(resources: Resources, slot: Slot) -> list[int]:
    """Take a slot that has no workers away from its session; its folders for `reclaim`."""
    folders = resources.folders.take_back(slot)
    resources.slots.vacate(slot)
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
