"""The workers of this daemon, each from its start until its cgroup is gone.

Workers that the warden has forked are its children. A shim that its spawner or an earlier daemon
has forked is known by a pidfd (pidfd_open(2)), which becomes readable when the shim ends.
"""

from __future__ import annotations

import functools
import logging
import os
import select
import selectors
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace

from .. import crash, log
from ..jail.cgroup import Group
from .leaks.rule import Expected, LeaseRow
from .runs import slot_group
from .runs.emptied_directories import EmptiedDirectories
from .runs.group_removal import GroupRemovals
from .runs.jail_entry import Shim
from .runs.memory_handoff import MemoryHandoff
from .runs.worker import Worker
from .shared_resources import Resources
from .slots.slots import Slot

LAST = 64
"""Workers that are remembered after their end."""


class Workers:
    """All workers, by slot. `on_end` is called when a worker has ended or its cgroup is gone.
    `directories` are those of forgotten runs."""

    def __init__(
        self,
        resources: Resources,
        selector: selectors.BaseSelector,
        directories: EmptiedDirectories,
        on_end: Callable[[], None],
    ) -> None:
        self._resources = resources
        self._selector = selector
        self._directories = directories
        self._on_end = on_end
        self._children: dict[int, Worker] = {}
        self._watched: dict[int, Worker] = {}  # by pidfd
        # The spawner's word that a fault has ended a shim may come after its end.
        self._last = deque[Worker](maxlen=LAST)
        self._handoff = MemoryHandoff(
            lambda: resources.slots.leased.values(), resources.files_in_memory
        )
        self._removals = GroupRemovals(
            selector,
            lambda ended: self._handoff.may_go(ended, self.all()),
            self._group_gone,
        )

    def all(self) -> list[Worker]:
        """Every worker that has not ended."""
        return [*self._children.values(), *self._watched.values()]

    @property
    def are_none(self) -> bool:
        """There is no worker."""
        return not (self._children or self._watched)

    def add(self, worker: Worker) -> None:
        """Take a worker that has begun: a child of this process, or one that has a pidfd. A shim
        that was warm is known already."""
        if worker.pidfd is None:
            self._children[worker.pid] = worker
            return
        if worker.pidfd not in self._watched:
            end = functools.partial(self._watched_ended, worker.pidfd)
            self._selector.register(worker.pidfd, selectors.EVENT_READ, end)
        self._watched[worker.pidfd] = worker

    def became_warm(self, shim: Shim) -> None:
        """The run of `shim` is over, and the shim waits for the next one of its session."""
        known = self._children.get(shim.pid), self._watched.get(shim.pidfd or 0)
        for worker in known:
            if worker and worker.pid == shim.pid and worker.slot and worker.run is not None:
                self.add(replace(worker, run=None))
                self._directories.ended(worker.slot, worker.run)
                slot_group.leave(self._resources.hierarchy, worker.slot, worker.run)
                self._on_end()

    def collected(self, pid: int, code: int) -> None:
        """A child has ended with this exit code and was waited for. It need not be a worker."""
        if worker := self._children.pop(pid, None):
            if fault := crash.fault(code):
                _log_crash(worker, fault)
            self._ended(worker)

    def crashed(self, pid: int, fault: str) -> None:
        """A fault has ended the process `pid` of the spawner; its end is, or will be, seen too."""
        known = [one for one in (*self.all(), *self.removing, *self._last) if one.pid == pid]
        _log_crash(known[0] if known else Worker(pid), fault)

    def poll(self) -> None:
        """Take in the ends of workers with a pidfd, without the loop."""
        poll = select.poll()
        for pidfd in self._watched:
            poll.register(pidfd, select.POLLIN)
        for pidfd, _ in poll.poll(0):
            self._watched_ended(pidfd)

    def _watched_ended(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        self._ended(self._watched.pop(pidfd))

    def _ended(self, worker: Worker) -> None:
        """A worker has ended: end all that is left of its run."""
        self._last.appendleft(worker)
        if worker.slot and worker.group:
            self._removals.add(worker)
            self._directories.ended(worker.slot, worker.run or 0)
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

    def meets_others(self, slot: Slot, terminal: bool) -> bool:
        """A run of `slot` that begins now, a `terminal` or not, can send descriptors to others."""
        return self._handoff.meets_others(slot, terminal, self.all())

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
        groups = defaultdict[int, frozenset[str]](frozenset)
        for one in workers:
            if one.slot:
                pids[one.slot.number].append(one.pid)
                if one.group:
                    groups[one.slot.number] |= {one.group.name}
        leases = {
            number: LeaseRow(
                number,
                slot.session,
                frozenset(pids[number]),
                groups[number].union(f"{number}.{run}" for run in slot.runs),
            )
            for number, slot in (slots.leased | slots.spares).items()
        }
        folder_helper = any(one.slot is None for one in workers)
        return Expected(
            config.first_uid,
            config.count,
            leases,
            frozenset(slots.emptying) - slots.stuck,
            frozenset(one.group.name for one in self.removing if one.group),
            None if folder_helper else folders.used,
        )

    def groups(self) -> dict[str, Group]:
        """The groups of all runs, by name. Some of earlier daemons' runs are in other places."""
        known = {one.group.name: one.group for one in self.all() if one.group}
        return self._resources.groups() | known


def _log_crash(worker: Worker, fault: str) -> None:
    slot = worker.slot.number if worker.slot else None
    log.event("child.crashed", logging.ERROR, slot=slot, run=worker.run, signal=fault)
