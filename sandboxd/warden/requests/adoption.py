"""Adoption of the slots of an earlier daemon, and the end of all that is not adopted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from ...errors import Invalid, StageError
from ...jail.cgroup import Group
from ...model import GIB, Attachment
from ..runs import run_directory
from ..runs.cgroups import Hierarchy
from ..runs.group_removal import end_groups
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots import uid_processes
from ..slots.leases import Slot

GROUPS_S = 10.0
"""How long the processes of a killed daemon's runs may take to end."""

HELPERS_S = 1.0
"""How long its file helpers have to finish. They see that the api is gone."""


def adopt(
    resources: Resources,
    number: int,
    session: str,
    mounts: tuple[Attachment, ...],
    runs: Set[int],
) -> tuple[list[Worker], StageError | None]:
    """Lease slot `number` to `session` again and mount it; the shims of those of `runs` that go
    on. All else that has its uid is ended, and the directories of other runs are removed.

    With an error in the result, the slot is leased all the same, since its files may be the only
    copy, but the files cannot be used. Raises Invalid, Unavailable when the slot is not leased.
    """
    if resources.config.scratch.kind == "tmpfs":
        raise Invalid("a scratch in memory does not survive a restart")
    slot = resources.slots.adopt(number, session)
    slot.ready = True
    shims: list[Worker] = []
    try:
        _find_shims(resources.hierarchy, slot, runs, shims)
        uid_processes.end(slot.uid, lambda: _processes(shims), HELPERS_S)
        resources.scratch.mount(slot.path, 1024 * GIB, 0)
        resources.folders.lend(slot, mounts)
    except StageError as error:
        return shims, error
    return shims, None


def _find_shims(hierarchy: Hierarchy, slot: Slot, runs: Set[int], shims: list[Worker]) -> None:
    """Add to `shims` those of `runs` that go on. The groups of all other runs are ended, and the
    directories of runs that are not in `runs` removed."""
    over = []
    for run in run_directory.numbers(slot.path):
        path = slot.run_path(run)
        group = run_directory.group(path)
        shim = run_directory.living(path, slot.uid) if run in runs else None
        if shim is None:
            over.append(group)
        else:
            slot.runs[run], pidfd = shim
            shims.append(Worker(slot.runs[run], slot, run, group, pidfd))
        if run not in runs:
            run_directory.remove(path)
    # A run that goes on may have the group of an earlier run, whose shim it has.
    living = {shim.group.name for shim in shims if shim.group}
    _end_groups(hierarchy, [group for group in over if group.name not in living])


def remove_unknown(resources: Resources, workers: Iterable[Worker]) -> list[str]:
    """End the runs and remove the slots that no session has adopted; directories of the slots.
    `workers` are those that were adopted."""
    known = {worker.group.name for worker in workers if worker.group}
    unknown = [group for name, group in resources.groups().items() if name not in known]
    _end_groups(resources.hierarchy, unknown)
    return resources.slots.remove_unleased()


def _end_groups(hierarchy: Hierarchy, groups: Sequence[Group]) -> None:
    """Kill all processes in `groups`, and remove the groups. Raises StageError."""
    if left := end_groups(groups, GROUPS_S):
        raise StageError("sweep", f"processes do not end: {left[0].members()}")
    for group in groups:
        hierarchy.tidy(group)


def _processes(shims: Sequence[Worker]) -> set[int]:
    """Every process of these runs."""
    groups = [shim.group.members() for shim in shims if shim.group]
    return {shim.pid for shim in shims}.union(*groups)
