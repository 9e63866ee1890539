"""Every shim and file helper of this daemon, from its start until its cgroup is gone.

Those that it has started itself are its children. Those that an earlier daemon has started are
known by a pidfd (pidfd_open(2)), which becomes readable when they end.
"""

from __future__ import annotations

import functools
import os
import selectors
import signal
from collections.abc import Callable

from ...jail.cgroup import Group
from ..leaks.rule import Expected, Lease
from ..requests import Requests, Worker
from ..slots.leases import Slot
from .memory_handoff import MemoryHandoff


class Workers:
    """Who works for which slot. `ended` is called whenever somebody is gone, or its cgroup is.

    removing  runs that are over, and whose cgroup is not gone yet
    """

    def __init__(
        self, requests: Requests, selector: selectors.BaseSelector, ended: Callable[[], None]
    ) -> None:
        self._requests = requests
        self._selector = selector
        self._on_end = ended
        self._children: dict[int, Worker] = {}
        self._adopted: dict[int, Worker] = {}  # by pidfd
        self._held = MemoryHandoff(kill)
        self.removing: list[Worker] = []

    @property
    def children(self) -> list[Worker]:
        """Those that this daemon has started."""
        return list(self._children.values())

    def all(self) -> list[Worker]:
        """Every shim and helper."""
        return [*self._children.values(), *self._adopted.values()]

    def add(self, started: Worker) -> None:
        """A child."""
        self._children[started.pid] = started

    def adopt(self, started: Worker) -> None:
        """One that an earlier daemon has started."""
        assert started.pidfd is not None
        self._adopted[started.pidfd] = started
        end = functools.partial(self._adopted_ended, started)
        self._selector.register(started.pidfd, selectors.EVENT_READ, end)

    def collected(self, pid: int) -> None:
        """A child has ended and was waited for; others than these may be meant."""
        if started := self._children.pop(pid, None):
            self._ended(started)

    def _adopted_ended(self, started: Worker) -> None:
        assert started.pidfd is not None
        self._selector.unregister(started.pidfd)
        del self._adopted[started.pidfd]
        os.close(started.pidfd)
        self._ended(started)

    def _ended(self, started: Worker) -> None:
        """A shim or helper is gone; so is everything that it had."""
        if started.slot and started.group:
            started.group.kill()
            self.removing.append(started)
            self._requests.ended(started.slot, started.run or 0)
        self._on_end()

    def remove_groups(self) -> None:
        """Remove the cgroups of runs that are over; those still busy are tried again."""
        if not self.removing:
            return
        left, working = [], self.all()
        for started in self.removing:
            assert started.group
            try:
                gone = self._held.may_go(started, working) and started.group.remove()
            except OSError:  # no descriptor is left, say; it is tried again
                gone = False
            if gone:
                self._requests.hierarchy.tidy(started.group)
            else:
                left.append(started)
        self.removing = left
        self._on_end()

    def kill(self, slot: Slot) -> None:
        """End all that works for `slot`."""
        for started in self.all():
            if started.slot is slot:
                kill(started)

    def is_busy(self, slot: Slot) -> bool:
        """Somebody works for `slot`, or its cgroup is still there."""
        return any(one.slot is slot for one in (*self.all(), *self.removing))

    def known(self) -> Expected:
        """What is right at this moment, for the ledger."""
        slots, folders = self._requests.slots, self._requests.folders
        working = self.all()
        leases = {
            number: Lease(
                number,
                slot.session,
                frozenset(one.pid for one in working if one.slot is slot),
                frozenset(f"{number}.{run}" for run in slot.runs),
            )
            for number, slot in slots.leased.items()
        }
        config = self._requests.config.slots
        helping = any(one.slot is None for one in working)
        return Expected(
            config.first_uid,
            config.count,
            leases,
            frozenset(slots.emptying) - slots.stuck,
            frozenset(f"{s.slot.number}.{s.run}" for s in self.removing if s.slot),
            None if helping else folders.mounted,
        )

    def groups(self) -> dict[str, Group]:
        """The groups of all runs, by name: those that there are, and, of runs that an earlier
        daemon has started in another place, those that are known."""
        known = {one.group.name: one.group for one in self.all() if one.group}
        return self._requests.groups() | known


def kill(started: Worker) -> None:
    """End a shim or helper. A shim's init dies with it, and the run with its init."""
    try:
        if started.pidfd is None:
            os.kill(started.pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(started.pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if started.group:
        started.group.kill()
