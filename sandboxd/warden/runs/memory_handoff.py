"""The rule for memory of a run that is over and that programs of another run still hold.

A program can send a descriptor to another run that it shares a directory with, through a socket
there: to a terminal of its session, or to a session that sees the same virtual folder, or has a
workspace of the same user that is the same one or inside of the other. The memory behind the
descriptor (memfd_create(2), a file of /dev/shm) stays charged to the group of the run that
allocated it. The kernel allows the removal of that group, and then nobody would be charged any
more: run after run could hand its memory on until the host has none.

So a group with such memory is not removed while runs go on that may hold the memory, and runs that
may hold it for longer than HELD_S are ended. Runs of other owners cannot hold it, since a folder
and a workspace belong to one. The sessions that could have passed something on are remembered by
place (`places_of`), because a session between two others may be gone already. A place is forgotten
when no slot has it, or a workspace inside of it: a descriptor waits in a socket only as long as a
process has the socket. Workspaces of two users are apart, or one could have the runs of the other
ended.

A scratch or a workspace on a tmpfs has its files in memory, too, and they are charged to the run
that wrote them. As much memory as all files there have is not taken for handed on.

Other memory stays with a descriptor, too, and no cgroup counts it, such as that of locks. A run
that begins while others could get its descriptors has smaller bounds of it (shim/bounded_calls.py).
Runs of one owner that have places count as such others from the start: a session that begins later
may see the places of both, and what has been allocated by then cannot be bounded any more.
"""

from __future__ import annotations

import logging
import os
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
    its workspace, by user and path."""
    places = {one.folder for one in slot.attachments}
    if workspace := slot.workspace:  # no link is on its way
        places.add(f"{workspace.uid}:{os.path.normpath(workspace.path)}")
    return places


def _is_inside(place: str, other: str) -> bool:
    """The place is the other one, or a workspace inside of it."""
    return f"{place}/".startswith(f"{other}/")


class MemoryHandoff:
    """Decides when the group of a run that is over may be removed. `slots` are those of sessions
    at this moment, `stored` has the bytes of all files on a tmpfs that a slot sees by path."""

    def __init__(
        self, slots: Callable[[], Iterable[Slot]], stored: Callable[[Slot], int]
    ) -> None:  # fmt: skip
        self._slots = slots
        self._stored = stored
        self._since: dict[str, float] = {}
        # Place -> those of its family: one set, which all of them share.
        self._families: dict[str, set[str]] = {}

    def may_go(self, ended: Worker, workers: Iterable[Worker]) -> bool:
        """No run holds memory of the run `ended`. Ends workers that may hold it for too long."""
        assert ended.group and ended.slot
        self._relate(ended.slot, workers)
        holders = list(self._may_hold(ended.slot, workers))
        if not holders or not self._is_handed_on(ended.group, ended.slot):
            self._since.pop(ended.group.name, None)
            return True
        now = time.monotonic()
        if now - self._since.setdefault(ended.group.name, now) > HELD_S:
            _end(ended.group, holders)
        return False

    def _is_handed_on(self, group: Group, slot: Slot) -> bool:
        """Programs may hold memory of `group`, beside the files that others see by path."""
        return group.holds_memory() and group.holds_memory(beside=self._stored(slot))

    def meets_others(self, slot: Slot, terminal: bool, workers: Iterable[Worker]) -> bool:
        """There are runs to which a run of `slot` that begins now can send a descriptor, or could
        through a later session. The run before it may still be among `workers`: a session has one
        at a time, beside terminals."""
        has_places = bool(places_of(slot))
        if has_places:
            self._relate(slot, workers)
        if any(
            terminal or one.terminal or one.slot is not slot
            for one in self._may_hold(slot, workers)
        ):
            return True
        return has_places and any(
            one.run is not None and one.slot is not slot and places_of(one.slot)
            for one in workers
            if one.slot and one.slot.owner == slot.owner
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
                if not any(_is_inside(one, place) for one in in_use):
                    self._families.pop(place).discard(place)

    def _relate(self, slot: Slot, workers: Iterable[Worker]) -> None:
        """Places of one session, that of `slot` or of a worker, are of one family from then on."""
        self._forget_unused()
        slots = {one.slot.number: one.slot for one in workers if one.slot} | {slot.number: slot}
        for one in slots.values():
            family = places = places_of(one)
            for other, related in self._families.items():
                if any(_is_inside(at, other) or _is_inside(other, at) for at in places):
                    family = family | related
            self._families |= dict.fromkeys(family, family)


def _end(group: Group, holders: list[Worker]) -> None:
    names = ", ".join(sorted(one.group.name for one in holders if one.group))
    size = group.shared_memory()
    log.event("memory.held", logging.WARNING, run=group.name, bytes=size, ended=names)
    for worker in holders:
        worker.kill()
