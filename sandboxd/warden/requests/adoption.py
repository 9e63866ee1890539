"""Adoption of the slots of an earlier daemon, and the end of all that is not adopted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from ... import log
from ...errors import Invalid, StageError
from ...jail.cgroup import Group
from ...model import SCRATCH_MAX
from .. import memory_files
from ..leaks.rule import slot_of_group
from ..runs import control_socket, cpu_hold, run_directory
from ..runs.cgroups import Hierarchy, is_slot_group
from ..runs.group_removal import end_groups
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots import uid_processes
from ..slots.slots import Slot

GROUPS_S = 10.0
"""How long the processes of a killed daemon's runs may take to end."""

HELPERS_S = 1.0
"""How long its file helpers have to finish. They see that the api is gone."""


@dataclass(slots=True)
class Adoption:
    """A slot that is leased again.

    shims  of the runs that go on
    over   the groups of runs that are over, which are to be ended
    error  a run could not be looked at; the slot is leased all the same
    """

    slot: Slot
    shims: list[Worker] = field(default_factory=list)
    over: list[Group] = field(default_factory=list)
    error: StageError | None = None


def take_up(resources: Resources, number: int, session: str, runs: Set[int]) -> Adoption:
    """Lease slot `number` to `session` again; the shims of those of `runs` that go on. The
    directories of other runs are removed. The slot is not ready before `complete`.

    Raises Invalid, Unavailable when the slot is not leased.
    """
    if resources.config.scratch.kind == "tmpfs":
        raise Invalid("a scratch in memory does not survive a restart")
    adoption = Adoption(resources.slots.adopt(number, session))
    try:
        _find_shims(adoption, runs)
        for shim in adoption.shims:
            if shim.group:
                cpu_hold.end_left(shim.group)
    except StageError as error:
        adoption.error = error
    return adoption


def complete(resources: Resources, adoption: Adoption) -> None:
    """End all that has the uid of the slot, but for the runs that go on, and mount the scratch.
    A background job does this: other processes end in their own time, and the disk may be slow.

    After a StageError the slot stays leased, since its files may be the only copy, but the files
    cannot be used.
    """
    if adoption.error:
        raise adoption.error
    # A run that goes on may have the group of an earlier run, whose shim it has.
    living = {shim.group.name for shim in adoption.shims if shim.group}
    over = [group for group in adoption.over if group.name not in living]
    if left := _end_groups(resources.hierarchy, over):
        raise StageError("sweep", f"processes do not end: {left[0].members()}")
    uid_processes.end(adoption.slot.uid, lambda: _processes(adoption.shims), HELPERS_S)
    resources.scratch.mount(adoption.slot.path, SCRATCH_MAX, 0)


def _find_shims(adoption: Adoption, runs: Set[int]) -> None:
    """Sort the runs of the slot into those of `runs` that go on, and those that are over. The
    directories of runs that are not in `runs` are removed."""
    slot = adoption.slot
    run_directory.remove_set_aside(slot.path)
    for run in run_directory.numbers(slot.path):
        path = slot.run_path(run)
        group = run_directory.group(path)
        shim = control_socket.living(path, slot.uid) if run in runs else None
        if shim is None:
            adoption.over.append(group)
        else:
            slot.runs[run], pidfd = shim
            adoption.shims.append(Worker(slot.runs[run], slot, run, group, pidfd))
        if run not in runs:
            run_directory.remove(path)


def remove_unknown(resources: Resources, workers: Iterable[Worker]) -> Callable[[], list[str]]:
    """The work of a background job that ends the runs and removes the slots that no session has
    adopted up to now; its result are the directories of the slots. `workers` are those that were
    adopted.

    The groups of slots stay: a run may begin in one while the job works, and what is done to the
    group of a slot is done to each run in it. The warden removes those that are idle.

    A slot with a process that no signal ends, since its disk does not respond for instance, is left
    as it is. No session gets it, and the check for leaks tries again.
    """
    known = {worker.group.name for worker in workers if worker.group}
    unknown = [
        group
        for name, group in resources.groups().items()
        if name not in known and not is_slot_group(name)
    ]
    unleased = resources.slots.unleased()  # now: the daemon leases slots while the job works
    memory_files.remove_unknown(resources.config.state_dir, unleased)  # and runs begin

    def work() -> list[str]:
        stuck = set()
        for group in _end_groups(resources.hierarchy, unknown):
            pids = sorted(group.members())
            log.event("group.stuck", logging.ERROR, group=group.name, pids=pids)
            stuck.add(slot_of_group(group.name))
        return resources.slots.remove([number for number in unleased if number not in stuck])

    return work


def _end_groups(hierarchy: Hierarchy, groups: Sequence[Group]) -> list[Group]:
    """Kill all processes in `groups`, and remove the groups; those of which a process does not
    end."""
    left = end_groups(groups, GROUPS_S)
    for group in groups:
        if group not in left:
            hierarchy.tidy(group)
    return left


def _processes(shims: Sequence[Worker]) -> set[int]:
    """Every process of these runs."""
    groups = [shim.group.members() for shim in shims if shim.group]
    return {shim.pid for shim in shims}.union(*groups)
