"""Remounting of scratches that were mounted while the disk was full.

An ext4 that could not write its journal then (jbd2) shuts itself off, possibly much later. A new
mount makes it usable again: what was on the disk is good. A scratch that a run uses stays as it is.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from ...errors import StageError
from ...host.free_space import FreeSpace
from ...model import GIB, MIB
from ..shared_resources import Resources
from ..slots.slots import Slot

ROOM = 16 * MIB
"""Bytes of disk that a scratch may need to recover: its journal, and some more."""

UNMOUNT_S = 1.0
"""How long a mount may take to go after the last process that saw it."""


def suspect_scratches(resources: Resources) -> bool:
    """Suspect every mounted scratch if the disk is full; True if it has room."""
    room = FreeSpace.at(resources.config.state_dir).holds(ROOM, 0)
    if not room:
        for slot in resources.slots.leased.values():
            slot.suspect = True
    return room


def remount_if_suspect(resources: Resources, slot: Slot, end_warm: Callable[[Slot], None]) -> None:
    """Mount the scratch of `slot` anew if that is needed and possible now. `end_warm` ends shims
    that have the scratch open and no run."""
    if not suspect_scratches(resources) or slot.runs:
        return
    if not slot.suspect and not _is_shut_off(slot.scratch):
        return
    end_warm(slot)
    resources.scratch.unmount(slot.path)
    deadline = time.monotonic() + UNMOUNT_S
    while resources.scratch.in_use(slot.path) and time.monotonic() < deadline:
        time.sleep(0.01)  # a process that has just ended holds it; if it stays, nothing changes
    resources.scratch.mount(slot.path, 1024 * GIB, 0)
    slot.suspect = False


def _is_shut_off(scratch: str) -> bool:
    """The scratch takes no changes. Since Linux 6.13 no flag of the mount shows that, so a change
    is tried."""
    try:
        os.utime(scratch)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EIO):
            raise StageError.of("scratch", error) from None
        return True
    return False
