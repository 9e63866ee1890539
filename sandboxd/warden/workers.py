"""The workers of this daemon, each from its start until its cgroup is gone.

Workers that this daemon has started are its children. A shim that an earlier daemon has started is
known by a pidfd (pidfd_open(2)), which becomes readable when the shim ends.
"""

from __future__ import annotations

import functools
import logging
import os
import selectors
from collections import defaultdict
from collections.abc import Callable

from .. import crash, log
from ..jail.cgroup import Group
from .leaks.rule import Expected, Lease
from .runs import run_directory, slot_group
from .runs.group_removal import GroupRemovals
from .runs.memory_handoff import MemoryHandoff
from .runs.worker import Worker
from .shared_resources import Resources
from .slots.leases import Slot


class Workers:
    """All workers, by slot. `on_end` is called when a worker has ended or its cgroup is gone."""

    def __init__(
        self, resources: Resources, selector: selectors.BaseSelector, on_end: Callable[[], None]
    ) -> None:
        self._resources = resources
        self._selector = selector
        self._on_end = on_end
        self._children: dict[int, Worker] = {}
        self._adopted: dict[int, Worker] = {}  # by pidfd
        self._handoff = MemoryHandoff()
        self._removals = GroupRemovals(
            selector,
            lambda ended: self._handoff.may_go(ended, self.all()),
            self._group_gone,
        )

    @property
    def children(self) -> list[Worker]:
        """The workers that this daemon has started."""
        return list(self._children.values())

    def all(self) -> list[Worker]:
        """Every worker that has not ended."""
        return [*self._children.values(), *self._adopted.values()]

    def add(self, worker: Worker) -> None:
        """Take a worker that is a child of this process."""
        self._children[worker.pid] = worker

    def adopt(self, worker: Worker) -> None:
        """Take a shim that an earlier daemon has started."""
        assert worker.pidfd is not None
        self._adopted[worker.pidfd] = worker
        end = functools.partial(self._adopted_ended, worker)
        self._selector.register(worker.pidfd, selectors.EVENT_READ, end)

    def collected(self, pid: int, code: int) -> None:
        """A child has ended with this exit code and was waited for. It need not be a worker."""
        if worker := self._children.pop(pid, None):
            if fault := crash.fault(code):
                slot = worker.slot.number if worker.slot else None
                log.event("child.crashed", logging.ERROR, slot=slot, run=worker.run, signal=fault)
            self._ended(worker)

    def _adopted_ended(self, worker: Worker) -> None:
        assert worker.pidfd is not None
        self._selector.unregister(worker.pidfd)
        del self._adopted[worker.pidfd]
        os.close(worker.pidfd)
        self._ended(worker)

    def _ended(self, worker: Worker) -> None:
        """A worker has ended: end all that is left of its run."""
        if worker.slot and worker.group:
            self._removals.add(worker)
            run_directory.ended(worker.slot, worker.run or 0)
        self._on_end()

    @property
    def removing(self) -> list[Worker]:
        """The workers whose runs are over, and whose cgroups are not gone yet."""
        return self._removals.workers

    def remove_groups(self, every: bool = False) -> None:
        """Remove the cgroups of runs that are over, those that are due or `every` one."""
        if self._removals.go_on(every):
            self._on_end()

    def remove_groups_in(self) -> float | None:
        """Seconds until `remove_groups` has something to do; None: it has to wait for an end."""
        return self._removals.due_in()

    def _group_gone(self, ended: Worker) -> None:
        assert ended.group
        self._resources.hierarchy.tidy(ended.group)
        if ended.slot and ended.run is not None:
            slot_group.leave(self._resources.hierarchy, ended.slot, ended.run)

    def kill(self, slot: Slot) -> None:
        """End all workers of `slot`."""
        for worker in self.all():
            if worker.slot is slot:
                worker.kill()

    def is_busy(self, slot: Slot) -> bool:
        """A worker of `slot` is there, or the cgroup of one."""
        return any(one.slot is slot for one in (*self.all(), *self.removing))

    def expected(self) -> Expected:
        """The lease table of this moment, for the check for leaks."""
        slots, folders = self._resources.slots, self._resources.folders
        workers, config = self.all(), self._resources.config.slots
        pids = defaultdict[int, list[int]](list)
        for one in workers:
            if one.slot:
                pids[one.slot.number].append(one.pid)
        leases = {
            number: Lease(
                number,
                slot.session,
                frozenset(pids[number]),
                frozenset(f"{number}.{run}" for run in slot.runs),
            )
            for number, slot in (slots.leased | slots.spares).items()
        }
        folder_helper = any(one.slot is None for one in workers)
        return Expected(
            config.first_uid,
            config.count,
            leases,
            frozenset(slots.emptying) - slots.stuck,
            frozenset(f"{one.slot.number}.{one.run}" for one in self.removing if one.slot),
            None if folder_helper else folders.mounted,
        )

    def groups(self) -> dict[str, Group]:
        """The groups of all runs, by name. Some of earlier daemons' runs are in other places."""
        known = {one.group.name: one.group for one in self.all() if one.group}
        return self._resources.groups() | known
