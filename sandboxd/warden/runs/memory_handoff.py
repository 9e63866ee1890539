"""Memory of a run that is over, held by the programs of another one.

A program can send a descriptor to another run that it shares a directory with, through a socket
there: another terminal of its session, or a session that sees the same virtual folder. What is
behind it (memfd_create(2), a file of /dev/shm) stays charged to the group of the run that made it.
Were that group just removed, as the kernel allows, nobody would be charged any more, and run after
run could hand its memory on until the host has none.

So a group with such memory is not removed while runs go on that may hold it, and those that hold
it longer than HELD_S are ended. Nobody else's are: folders belong to one owner. Which sessions
could have passed something on is remembered by folder, since a session between two others may be
gone already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from ... import log
from ...jail.cgroup import Group
from ..requests import Worker
from ..slots.leases import Slot

HELD_MAX = 1 << 20
"""Bytes that a run may leave behind: what is not passed on is freed a little later."""

HELD_S = 3.0
"""The kernel's counters may be 2 s late (mm/memcontrol.c, FLUSH_TIME)."""


class MemoryHandoff:
    """Decides when the group of a run that is over may go."""

    def __init__(self, kill: Callable[[Worker], None]) -> None:
        self._kill = kill
        self._since: dict[str, float] = {}
        self._families: dict[str, set[str]] = {}  # folder -> those that it was seen with

    def may_go(self, ended: Worker, working: Iterable[Worker]) -> bool:
        """Nobody holds memory of the run `ended`. Ends those of the `working` that may hold it
        for too long."""
        assert ended.group and ended.slot
        self._relate([ended, *working])
        holders = list(self._may_hold(ended.slot, working))
        if not holders or ended.group.shared_memory() <= HELD_MAX:
            self._since.pop(ended.group.name, None)
            return True
        now = time.monotonic()
        if now - self._since.setdefault(ended.group.name, now) > HELD_S:
            self._end(ended.group, holders)
        return False

    def _end(self, group: Group, holders: list[Worker]) -> None:
        names = ", ".join(sorted(one.group.name for one in holders if one.group))
        size = group.shared_memory()
        log.event("memory.held", logging.WARNING, run=group.name, bytes=size, ended=names)
        for one in holders:
            self._kill(one)

    def _may_hold(self, slot: Slot, working: Iterable[Worker]) -> Iterator[Worker]:
        """The runs that a descriptor of a run of `slot` can have come to."""
        family = set[str]().union(*(self._families[one.folder] for one in slot.folders))
        for one in working:
            if one.run is None or one.slot is None:
                continue
            if one.slot is slot or any(a.folder in family for a in one.slot.folders):
                yield one

    def _relate(self, runs: Iterable[Worker]) -> None:
        """Folders that a session has together are of one family, and stay it."""
        for slot in {one.slot.number: one.slot for one in runs if one.slot}.values():
            names = {one.folder for one in slot.folders}
            family = names.union(*(self._families.get(name, set()) for name in names))
            self._families |= dict.fromkeys(family, family)
