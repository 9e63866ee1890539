"""The bounds of a slot's group, which holds the sum of a session's runs: the run of the queue, and
its terminals.

Each run has limits of its own. Without a bound of their sum, a session could have its memory limit
five times. The group has these bounds:

    memory  the highest limit of its runs, OWN_MEMORY for each run, and the memory of runs that are
            over, at most one limit more
    CPU     the highest limit of its runs
    tasks   none: admission promises the tasks of each run, and a terminal is of no use beside a run
            that has used up all

When the sum reaches the bound, the kernel kills the largest process of any of the runs. It counts
that in the group of this process's run, so the verdict of that run names the memory limit.

Memory of a run that is over goes a moment later than the run, because files of its /dev/shm go with
its mount namespace. The next run of the queue may begin earlier and must not be killed for it.

A bound is raised before a run begins. It is lowered when the memory in use fits: the kernel would
kill processes otherwise (v2), or refuse (v1). With runs of an earlier daemon, whose limits this one
does not know, it is not lowered.
"""

from __future__ import annotations

import contextlib
import os

from ...errors import StageError
from ...host import cgroup_settings
from ...host.cgroup_settings import UNLIMITED
from ...host.cgroupfs import GroupFiles
from ...jail.cgroup import PERIOD_US, SOCKETS_SHARE
from ...jail.stage import expect, stage
from ...model import MIB
from ..slots.slots import RunShare, Slot
from .cgroups import Hierarchy

OWN_MEMORY = 16 * MIB
"""Memory of a run that its program does not use: init, page tables and other memory of the kernel,
and the shell of a terminal that waits."""

SLACK = 4 * MIB
"""The counters of the kernel may be late by some pages of each CPU."""


def join(
    hierarchy: Hierarchy, slot: Slot, run: int, share: RunShare, is_warm: bool = False
) -> None:
    """Bound the group of `slot` for a run that is about to begin, too. `is_warm`: the init of an
    earlier run waits in its group for this one. Raises StageError."""
    over = [one for number, one in slot.shares.items() if _is_over(slot, number, share)]
    slot.shares[run] = share
    held = sum(one.group.shared_memory() for one in over)
    _bound(hierarchy, slot, held, is_warm)


def leave(hierarchy: Hierarchy, slot: Slot, run: int) -> None:
    """The group of a run is gone, or was not made: lower the bounds, as far as that is possible."""
    slot.shares.pop(run, None)
    if slot.shares:
        with contextlib.suppress(StageError):  # the higher bound stays; the next run sets it anew
            _bound(hierarchy, slot, 0)


def _is_over(slot: Slot, run: int, beginning: RunShare) -> bool:
    """The run is over, and its group is not gone. The queue has one run at a time: when the next
    one begins, that before is over, although its shim may not have been collected yet."""
    return run not in slot.runs or not (slot.shares[run].terminal or beginning.terminal)


def _bound(hierarchy: Hierarchy, slot: Slot, held: int, is_warm: bool = False) -> None:
    """Write the bounds of the slot's runs. `held` is the memory of runs that are over. While a
    process `is_warm` below the group, nobody can have made that anew."""
    files = GroupFiles(hierarchy.slot_dirs(slot.number))
    shares = slot.shares.values()
    highest = max(share.limits.memory for share in shares)
    memory = _pages(highest + OWN_MEMORY * len(shares) + min(held, highest))
    quota_us = int(max(share.limits.cpus for share in shares) * PERIOD_US)
    identity = slot.bounds[0] if is_warm and slot.bounds else files.identity()
    wanted = identity, memory, quota_us
    if slot.bounds == wanted:  # the kernel has them from the run before
        return
    may_lower = slot.runs.keys() <= slot.shares.keys()
    slot.bounds = None
    with stage("cgroup of the slot"):
        current = files.memory_limit()
        is_exact = memory >= current or (may_lower and files.held_below() + SLACK < memory)
        if is_exact:
            _write(files, cgroup_settings.memory(files.v2, memory, _pages(memory // SOCKETS_SHARE)))
        if quota_us > files.cpu_quota_us():
            _write(files, cgroup_settings.cpu(files.v2, quota_us, PERIOD_US))
    if is_exact:
        slot.bounds = wanted


def _pages(size: int) -> int:
    """The size in whole pages, as the kernel stores it."""
    page = os.sysconf("SC_PAGE_SIZE")
    return -(-size // page) * page


def _write(files: GroupFiles, settings: list[tuple[str, str]]) -> None:
    """Write values, unless the last one of each file is there already."""
    settings = [(name, value) for name, value in settings if files.exists(name)]
    if all(files.read(name) == value for name, value in dict(settings).items()):
        return
    for name, value in settings:
        files.write(name, value)
        if value != UNLIMITED:  # only ever on the way to a limit
            expect(f"cgroup of the slot {name}", "value", files.read(name), value)
