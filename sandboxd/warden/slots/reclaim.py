"""The reclaim of a slot: the one way to take all of it back, and the proof that nothing remains.

The end of a session, the start of a daemon and the check for leaks call `reclaim`. It can be done
any number of times: each step removes what is still there. The cleanup after a private daemon has
only the directory of a daemon that is gone, and cannot know its uids (private_cleanup.py).

    processes     of the slot's uid are killed (uid_processes.py)
    file systems  are closed: the scratch, whose data is dropped, and virtual folders
    directory     with image and runs is removed
    proof         no process and no System V object has the uid, no loop device has the image, the
                  directory is gone. A loop device lasts as long as the image is mounted in any
                  mount namespace. The warden itself looks at the cgroups of its runs.

Without this proof no other session gets the slot.

A dead process that awaits its parent keeps the uid as well. The parent may be out of our reach (the
first process of a container that collects nothing), so the slot waits for it, but the request that
releases the slot does not.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from ... import log
from ...errors import StageError
from ...host import procfs
from . import flush, images, uid_processes
from .host_resources import loops, objects, processes

PATIENCE_S = 10.0
"""How long the kernel may take to free the resources of processes that have just ended. The unmount
of a file system waits for its dirty pages, on a busy disk for seconds."""

PAUSE_S, PAUSE_MAX_S = 0.001, 0.02
"""Between two looks at what remains; the pause doubles each time."""


@dataclass(frozen=True, slots=True)
class Remains:
    """The remains of a slot, in words for operators: `things`, and processes that are `dead`."""

    things: list[str]
    dead: list[str]

    def __bool__(self) -> bool:
        return bool(self.things or self.dead)


def reclaim(state_dir: str, number: int, uid: int, folders: Sequence[int] = ()) -> Remains:
    """Take back all of slot `number`, which no session has; all that remains nevertheless.

    The caller holds the lease of `uid`, and has ended the groups of the slot's runs. `folders` are
    descriptors of virtual folders that only this slot had (images.detach); they are closed, which
    waits until the folders are written. So a background job calls this.
    """
    path = f"{state_dir}/slots/{number}"
    try:
        uid_processes.end(uid)
        _unmount(path)
    except StageError as error:  # the proof names the rest
        log.event("slot.busy", logging.WARNING, slot=number, error=str(error))
    for fd in folders:
        os.close(fd)
    image = f"{path}/image"
    deadline, pause_s = time.monotonic() + PATIENCE_S, PAUSE_S
    while True:
        # Without the image, its device is found only by a look at all devices.
        if not images.is_in_use(image) or time.monotonic() > deadline:
            detached = {number} if images.is_detached(image) else set[int]()
            shutil.rmtree(path, ignore_errors=True)
            left = remains(state_dir, {number: uid}, detached)[number]
            if not left.things or time.monotonic() > deadline:
                return left
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


def remains(
    state_dir: str, uids: Mapping[int, int], detached: Set[int] = frozenset()
) -> dict[int, Remains]:
    """Number -> all that remains of that slot, for the slots of `uids`. Of the `detached` ones no
    loop device has the image. The processes of the host are looked at only if one has such a uid,
    and its loop devices only for slots that are not `detached`."""
    state = os.path.realpath(state_dir)
    numbers = {uid: number for number, uid in uids.items()}
    left = {number: Remains([], []) for number in uids}
    if busy := {uid for uid in numbers if procfs.is_user_of_any(uid)}:
        for one in processes(state, busy, {}):
            remaining = left[numbers[one.uid]]
            if one.zombie:
                remaining.dead.append(f"pid {one.pid}")
            else:
                remaining.things.append(f"pid {one.pid} {one.title}")
    for item in objects(numbers):
        left[numbers[item.uid]].things.append(f"{item.kind} {item.id}")
    if images_left := {f"/slots/{n}/image": n for n in uids.keys() - detached}:
        for loop in loops(state):
            if loop.image in images_left:
                left[images_left[loop.image]].things.append(loop.device)
    for number, remaining in left.items():
        if os.path.lexists(f"{state}/slots/{number}"):
            remaining.things.append(f"slots/{number}")
    return left


def unused(state_dir: str, first_uid: int, numbers: Iterable[int]) -> list[int]:
    """The slots of `numbers` of which nothing remains."""
    left = remains(state_dir, {number: first_uid + number for number in numbers})
    return sorted(number for number, remaining in left.items() if not remaining)


def _unmount(path: str) -> None:
    """Unmount the scratch of the slot at `path`, if this mount namespace has it. Raises
    StageError."""
    scratch = images.detach(f"{path}/scratch")
    if scratch is not None:
        try:
            _forget(path, scratch)
        finally:
            os.close(scratch)


def _forget(path: str, scratch: int) -> None:
    """Drop the data of the slot at `path` that is not on the disk, once it is on the disk that no
    session has the slot: else a host that loses power now would give the session its slot back
    without this data."""
    if os.path.lexists(f"{path}/session") or not images.is_worth_forgetting(scratch):
        return
    try:
        flush.directory(path)
        images.forget(scratch)
    except OSError as error:  # the close then waits until the data is written
        log.event("slot.not-forgotten", logging.WARNING, path=path, error=error.strerror)
