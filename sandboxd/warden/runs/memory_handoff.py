"""The rule for memory of a run that is over and that programs of another run still hold.

A program can send a descriptor to another run that it shares a directory with, through a socket
there: to a terminal of its session, or to a session that sees the same virtual folder, or has a
workspace of the same user, which may be the same one or be inside of the other. The memory
behind the descriptor (memfd_create(2), a file of /dev/shm) stays charged to the group of the run
that allocated it. The kernel allows the removal of that group, and then nobody would be charged any
more: run after run could hand its memory on until the host has none.

So a group with such memory is not removed while runs go on that may hold the memory, and runs that
may hold it for longer than HELD_S are ended. Runs of other owners cannot hold it, since a folder
and a workspace belong to one. The sessions that could have passed something on are remembered by
place (`places_of`), because a session between two others may be gone already. A place that no slot
has is forgotten: a descriptor waits in a socket only as long as a process has the socket.

Other memory stays with a descriptor, too, and no cgroup counts it, such as that of locks. A run
that begins while others could get its descriptors has smaller bounds of it (shim/bounded_calls.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from ... import log
from ...jail.cgroup import Group
from ..slots.slots import Slot
from .worker import Worker

HELD_S = 3.0
"""The kernel's counters may be 2 s late (mm/memcontrol.c, FLUSH_TIME)."""


def places_of(slot: Slot) -> set[str]:
    """The places where programs of a slot meet those of others: its virtual folders, by UUID, and
    the workspaces of its user."""
    places = {one.folder for one in slot.attachments}
    if slot.workspace:
        places.add(f"workspaces of {slot.workspace.uid}")
    return places


class MemoryHandoff:
    """Decides when the group of a run that is over may be removed. `slots` are those of sessions
    at this moment."""

    def __init__(self, slots: Callable[[], Iterable[Slot]]) -> None:
        self._slots = slots
        self._since: dict[str, float] = {}
        # Place -> those of its family: one set, which all of them share.
        self._families: dict[str, set[str]] = {}

    def may_go(self, ended: Worker, workers: Iterable[Worker]) -> bool:
        """No run holds memory of the run `ended`. Ends workers that may hold it for too long."""
        assert ended.group and ended.slot
        self._relate(ended.slot, workers)
        holders = list(self._may_hold(ended.slot, workers))
        if not holders or not ended.group.holds_memory():
            self._since.pop(ended.group.name, None)
            return True
        now = time.monotonic()
        if now - self._since.setdefault(ended.group.name, now) > HELD_S:
            _end(ended.group, holders)
        return False

    def meets_others(self, slot: Slot, terminal: bool, workers: Iterable[Worker]) -> bool:
        """There are runs to which a run of `slot` that begins now can send a descriptor. The run
        before it may still be among `workers`: a session has one at a time, beside terminals."""
        if places_of(slot):
            self._relate(slot, workers)
        return any(
            terminal or one.terminal or one.slot is not slot
            for one in self._may_hold(slot, workers)
        )

    def _may_hold(self, slot: Slot, workers: Iterable[Worker]) -> Iterator[Worker]:
        """The runs to which a program of `slot` can have sent a descriptor."""
        family = set[str]().union(*(self._families[place] for place in places_of(slot)))
        for worker in workers:
            if worker.run is None or worker.slot is None:
                continue
            if worker.slot is slot or (family and family & places_of(worker.slot)):
                yield worker

    def _forget_unused(self) -> None:
        """Places that no slot has leave their families; those that remain stay related."""
        if self._families:
            in_use = set[str]().union(*map(places_of, self._slots()))
            for place in self._families.keys() - in_use:
                self._families.pop(place).discard(place)

    def _relate(self, slot: Slot, workers: Iterable[Worker]) -> None:
        """Places of one session, that of `slot` or of a worker, are of one family from then on."""
        self._forget_unused()
        slots = {one.slot.number: one.slot for one in workers if one.slot} | {slot.number: slot}
        for one in slots.values():
            places = places_of(one)
            family = places.union(*(self._families.get(place, set()) for place in places))
            self._families |= dict.fromkeys(family, family)


def _end(group: Group, holders: list[Worker]) -> None:
    names = ", ".join(sorted(one.group.name for one in holders if one.group))
    size = group.shared_memory()
    log.event("memory.held", logging.WARNING, run=group.name, bytes=size, ended=names)
    for worker in holders:
        worker.kill()
