"""Spares: slots whose scratches are made ahead, for sessions of the default size without folders.

A creation that finds a spare claims it: the name of the session is written into a file that is
there already, and the api flushes the file. Any other creation has its scratch made on demand.

A spare belongs to no session, so no start and no adoption takes it up: the next start removes it,
as it removes a slot whose creation was broken off. Spares are made in background jobs that nobody
waits for. They go at a reload that changes their size or number, when the disk is full, and with
the daemon. They promise no disk to anybody: admission counts a session when the session is made.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from ... import log
from ...host.free_space import INODES_FLOOR, FreeSpace
from ..background import BackgroundJobs, failure
from ..shared_resources import Resources
from ..slots.slots import Slot
from .slot_jobs import making
from .teardown import Teardown

RETRY_S = 10.0
"""After a spare that could not be made, none is tried for so long."""

SHARE = 8
"""At most one slot of so many is a spare: sessions of other sizes need slots, too."""


class Spares:
    """The spares of one daemon: those in `slots.spares` that are `ready` have a scratch."""

    def __init__(self, resources: Resources, jobs: BackgroundJobs, teardown: Teardown) -> None:
        self._resources = resources
        self._slots = resources.slots
        self._jobs = jobs
        self._teardown = teardown
        self._shape = resources.config.scratch
        self._retry_at = 0.0
        self._is_closed = self._is_needed = False

    def claim(self, session: str, size: int, inodes: int) -> tuple[Slot, int] | None:
        """A spare for a session that wants a scratch of this shape, and a descriptor of its name,
        which is not flushed yet; None: there is no such spare."""
        if (size, inodes) != (self._shape.size, self._shape.inodes_of(self._shape.size)):
            return None
        for slot in self._slots.spares.values():
            if slot.ready:
                try:
                    return slot, self._slots.claim(slot, session)
                except OSError:  # a damaged disk
                    self._discard(slot)
                    return None
        return None

    def refill(self) -> None:
        """Have spares made, as many as are missing and as there are vacant slots and disk for."""
        if self._is_closed or time.monotonic() < self._retry_at:
            return
        wanted = min(self._shape.spares, self._slots.count // SHARE)
        if self._resources.tied:  # a private daemon has one session
            wanted = 0
        missing = min(wanted - len(self._slots.spares), len(self._slots.vacant))
        if missing > 0 and self._has_room():
            for _ in range(missing):
                self._make(self._slots.set_aside())

    def renew(self) -> None:
        """The configuration was read again, or time has passed: discard what does not fit it."""
        shape = self._resources.config.scratch
        if shape != self._shape or not self._has_room():
            self._discard_all()
        self._shape = shape
        self.refill()

    def close(self) -> None:
        """The daemon ends."""
        self._is_closed = True
        self._discard_all()

    def give_up_one(self) -> bool:
        """Discard a spare, whose slot is needed, as soon as it is made; False: there is none."""
        for slot in self._slots.spares.values():
            if slot.ready:
                self._discard(slot)
                return True
        self._is_needed = bool(self._slots.spares)
        return self._is_needed

    def _make(self, slot: Slot) -> None:
        shape = self._shape
        work = making(self._resources, slot, shape.size, shape.inodes_of(shape.size))

        def done(result: dict[str, Any] | None) -> None:
            if error := failure(result):
                self._retry_at = time.monotonic() + RETRY_S
                log.event("spare.failed", logging.WARNING, slot=slot.number, error=str(error))
            slot.ready = not error
            if error or self._is_closed or self._is_needed or shape != self._shape:
                self._is_needed = False
                self._discard(slot)

        self._jobs.put_off(f"make spare {slot.number}", work, done, [slot.uid_lease.fileno()])

    def _discard_all(self) -> None:
        for slot in list(self._slots.spares.values()):
            if slot.ready:  # the end of its job discards any other
                self._discard(slot)

    def _discard(self, slot: Slot) -> None:
        slot.ready = False
        self._slots.vacate(slot)
        self._teardown.reclaim_later(slot)

    def _has_room(self) -> bool:
        config = self._resources.config
        return FreeSpace.at(config.state_dir).holds(2 * config.disk_floor, 2 * INODES_FLOOR)
