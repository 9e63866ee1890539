"""Remounting of scratches that take no changes any more, before the requests that need them.

An ext4 that could not write its journal (jbd2), mostly since the disk was full, shuts itself off,
possibly much later. A new mount makes it usable again: what was on the disk is good. A scratch that
a run uses stays as it is.

A mount waits for the disk, so a background job does it, and the requests wait for the job. The loop
itself only looks (`is_shut_off`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from ...errors import StageError
from ...host.free_space import FreeSpace
from ...model import MIB
from ...wire.ops import Request
from ..background import BackgroundJobs, failure
from ..shared_resources import Resources
from ..slots.scratch import STAGE
from ..slots.slots import Slot
from .slot_jobs import remounting

ROOM = 16 * MIB
"""Bytes of disk that a scratch may need to recover: its journal, and some more."""

GoOn = Callable[[StageError | None], None]
"""Goes on with a request that has waited, or refuses it with the error."""


class Remounts:
    """The scratches that are being mounted anew, with the requests that wait. `end_warm` ends shims
    that have a scratch open and no run; `on_end` is called when a job has ended."""

    def __init__(
        self,
        resources: Resources,
        jobs: BackgroundJobs,
        end_warm: Callable[[Slot], None],
        on_end: Callable[[], None],
    ) -> None:
        self._resources = resources
        self._jobs = jobs
        self._end_warm = end_warm
        self._on_end = on_end
        self._waiting: dict[int, list[GoOn]] = {}

    def hold(self, request: Request, go_on: GoOn) -> bool:
        """Keep a request back until the scratch that it needs is mounted anew; False: there is no
        need. Raises SandboxdError."""
        if not request.op.scratch:
            return False
        slot = self._resources.usable(request.arguments["slot"], request.arguments["session"])
        if not slot.remounting:
            if not self._is_due(slot):
                return False
            self._begin(slot)
        self._waiting.setdefault(slot.number, []).append(go_on)
        return True

    def close(self) -> None:
        """The daemon ends: the requests that wait are refused, and begin nothing any more."""
        for number in list(self._waiting):
            self._go_on(number, StageError("scratch", "the daemon is ending"))

    def _go_on(self, number: int, error: StageError | None) -> None:
        for go_on in self._waiting.pop(number, []):
            go_on(error)

    def _is_due(self, slot: Slot) -> bool:
        if self._resources.config.scratch.kind == "tmpfs":  # a new one would be empty
            return False
        if not suspect_scratches(self._resources) or slot.runs:
            return False
        return slot.suspect or is_shut_off(slot.scratch)

    def _begin(self, slot: Slot) -> None:
        self._end_warm(slot)

        def done(result: dict[str, Any] | None) -> None:
            error = failure(result)
            slot.remounting, slot.suspect = False, error is not None
            self._go_on(slot.number, error)
            self._on_end()

        work, keep = remounting(self._resources, slot), [slot.uid_lease.fileno()]
        self._jobs.begin(f"mount slot {slot.number} anew", work, done, keep)
        slot.remounting = True


def suspect_scratches(resources: Resources) -> bool:
    """Suspect every mounted scratch if the disk is full; True if it has room."""
    room = FreeSpace.at(resources.config.state_dir).holds(ROOM, 0)
    if not room:
        for slot in resources.slots.leased.values():
            slot.suspect = True
    return room


def is_shut_off(scratch: str) -> bool:
    """The scratch takes no changes. Since Linux 6.13 no flag of the mount shows that, so a change
    is tried: the removal of a directory that is not empty. ext4 refuses it before it begins a
    transaction, which could wait for the disk: with a full journal, for all that is in it."""
    try:
        os.rmdir(f"{scratch}/{STAGE}")
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EIO):
            return True
        if error.errno != errno.ENOTEMPTY:
            raise StageError.of("scratch", error) from None
    return False
