"""Proof that nothing of a slot is left, without which nobody gets it again; and its emptying.

Looked at are the processes with its uid, System V objects of it, a loop device on its
image, which is there as long as the image is mounted in any mount namespace, and its directory.
The cgroups of its runs are the warden's to look at.

What is dead and only awaits its parent keeps the uid, too, and whose parent that is may be no
matter of ours (a container's first process that collects nothing): the slot waits for it, but
nobody who wants the slot's session gone has to.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..leaks.scan import loops, objects, processes

PATIENCE_S = 2.0
"""How long the kernel may take to let go of what has just ended."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a slot, for people, and processes of it that are dead."""

    things: list[str]
    dead: list[str]

    def __bool__(self) -> bool:
        return bool(self.things or self.dead)


def leftovers(state_dir: str, number: int, uid: int) -> Remains:
    """What is left of a slot."""
    state, uids = os.path.realpath(state_dir), range(uid, uid + 1)
    found = list(processes(state, uids, {}))
    things = [f"pid {one.pid} {one.title}" for one in found if not one.zombie]
    things += [f"{one.kind} {one.id}" for one in objects(uids)]
    things += [one.device for one in loops(state) if one.image == f"/slots/{number}/image"]
    if os.path.lexists(f"{state}/slots/{number}"):
        things.append(f"slots/{number}")
    return Remains(things, [f"pid {one.pid}" for one in found if one.zombie])


def empty(state_dir: str, number: int, uid: int, file_systems: Sequence[int]) -> Remains:
    """Give up the descriptors that keep a slot's `file_systems`, remove its directory; what is
    left nevertheless. Blocks until everything is written: for a chore."""
    for fd in file_systems:
        os.close(fd)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shutil.rmtree(f"{state_dir}/slots/{number}", ignore_errors=True)
        left = leftovers(state_dir, number, uid)
        if not left.things or time.monotonic() > deadline:
            return left
        time.sleep(0.02)
