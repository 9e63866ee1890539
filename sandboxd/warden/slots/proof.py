"""The proof that nothing remains of a slot, and the emptying of slots. Without this proof no other
session gets the slot.

A slot remains as long as there are processes with its uid, System V objects of that uid, a loop
device on its image (which lasts as long as the image is mounted in any mount namespace), or its
directory. The warden itself looks at the cgroups of its runs.

A dead process that awaits its parent keeps the uid as well. The parent may be out of our reach (the
first process of a container that collects nothing), so the slot waits for it, but the request that
releases the slot does not.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Set
from dataclasses import dataclass

from ... import log
from ..leaks.scan import loops, objects, processes
from . import flush, images

PATIENCE_S = 10.0
"""How long the kernel may take to free the resources of processes that have just ended. The unmount
of a file system waits for its dirty pages, on a busy disk for seconds."""


@dataclass(frozen=True, slots=True)
class Remains:
    """The remains of a slot, in words for operators: `things`, and processes that are `dead`."""

    things: list[str]
    dead: list[str]

    def __bool__(self) -> bool:
        return bool(self.things or self.dead)


def remains(state_dir: str, number: int, uid: int) -> Remains:
    """All that remains of slot `number`."""
    state, uids = os.path.realpath(state_dir), range(uid, uid + 1)
    living_or_dead = list(processes(state, uids, {}))
    things = [f"pid {one.pid} {one.title}" for one in living_or_dead if not one.zombie]
    things += [f"{one.kind} {one.id}" for one in objects(uids)]
    things += [one.device for one in loops(state) if one.image == f"/slots/{number}/image"]
    if os.path.lexists(f"{state}/slots/{number}"):
        things.append(f"slots/{number}")
    return Remains(things, [f"pid {one.pid}" for one in living_or_dead if one.zombie])


def unused(state_dir: str, first_uid: int, numbers: Set[int]) -> list[int]:
    """The slots of `numbers` of which nothing remains; one walk of /proc for all of them."""
    state = os.path.realpath(state_dir)
    uids = range(first_uid + min(numbers), first_uid + max(numbers) + 1) if numbers else range(0)
    taken = {one.uid - first_uid for one in processes(state, uids, {})}
    taken |= {one.uid - first_uid for one in objects(uids)}
    images_in_use = {one.image for one in loops(state)}
    return sorted(
        number
        for number in numbers - taken
        if f"/slots/{number}/image" not in images_in_use
        and not os.path.lexists(f"{state}/slots/{number}")
    )


@dataclass(frozen=True, slots=True)
class FileSystems:
    """Descriptors that keep the detached file systems of a slot.

    scratch  the session's own, whose end is its removal
    folders  virtual folders, whose data stays
    """

    scratch: int | None = None
    folders: tuple[int, ...] = ()

    @property
    def descriptors(self) -> list[int]:
        """All of them."""
        return [*self.folders, *([] if self.scratch is None else [self.scratch])]


def empty(state_dir: str, number: int, uid: int, file_systems: FileSystems) -> Remains:
    """Close the descriptors that keep a slot's `file_systems` and remove its directory; all that
    remains nevertheless. Blocks until the folders are written, so a background job calls it."""
    if file_systems.scratch is not None:
        _forget(f"{state_dir}/slots/{number}", file_systems.scratch)
    for fd in file_systems.descriptors:
        os.close(fd)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        shutil.rmtree(f"{state_dir}/slots/{number}", ignore_errors=True)
        left = remains(state_dir, number, uid)
        if not left.things or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def _forget(path: str, scratch: int) -> None:
    """Drop the data of the slot at `path` that is not on the disk, once it is on the disk that no
    session has the slot: else a host that loses power now would give the session its slot back
    without this data."""
    if os.path.lexists(f"{path}/session"):
        return
    try:
        flush.directory(path)
        images.forget(scratch)
    except OSError as error:  # the close then waits until the data is written
        log.event("slot.not-forgotten", logging.WARNING, path=path, error=error.strerror)
