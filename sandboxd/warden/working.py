"""Every shim and file helper of this daemon, from its start until its cgroup is gone.

Those that it has started itself are its children. Those that an earlier daemon has started are
known by a pidfd (pidfd_open(2)), which becomes readable when they end.
"""

from __future__ import annotations

import functools
import logging
import os
import selectors
import signal
from collections.abc import Callable

from .. import crash, log
from ..jail.cgroup import Group
from .held import Held
from .ledger import Known, Lease
from .requests import Requests, Started
from .slots import Slot


class Working:
    """Who works for which slot. `ended` is called whenever somebody is gone, or its cgroup is.

    removing  runs that are over, and whose cgroup is not gone yet
    """

    def __init__(
        self, requests: Requests, selector: selectors.BaseSelector, ended: Callable[[], None]
    ) -> None:
        self._requests = requests
        self._selector = selector
        self._on_end = ended
        self._children: dict[int, Started] = {}
        self._adopted: dict[int, Started] = {}  # by pidfd
        self._held = Held(kill)
        self.removing: list[Started] = []

    @property
    def children(self) -> list[Started]:
        """Those that this daemon has started."""
        return list(self._children.values())

    def all(self) -> list[Started]:
        """Every shim and helper."""
        return [*self._children.values(), *self._adopted.values()]

    def add(self, started: Started) -> None:
        """A child."""
        self._children[started.pid] = started

    def adopt(self, started: Started) -> None:
        """One that an earlier daemon has started."""
        assert started.pidfd is not None
        self._adopted[started.pidfd] = started
        end = functools.partial(self._adopted_ended, started)
        self._selector.register(started.pidfd, selectors.EVENT_READ, end)

    def collected(self, pid: int, code: int) -> None:
        """A child has ended with this exit code and was waited for; others than these may be
        meant."""
        if started := self._children.pop(pid, None):
            if fault := crash.fault(code):
                slot = started.slot.number if started.slot else None
                log.event("child.crashed", logging.ERROR, slot=slot, run=started.run, signal=fault)
            self._ended(started)

    def _adopted_ended(self, started: Started) -> None:
        assert started.pidfd is not None
        self._selector.unregister(started.pidfd)
        del self._adopted[started.pidfd]
        os.close(started.pidfd)
        self._ended(started)

    def _ended(self, started: Started) -> None:
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

    def known(self) -> Known:
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
        return Known(
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


def kill(started: Started) -> None:
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
