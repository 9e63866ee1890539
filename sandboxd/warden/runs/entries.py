"""The entries to the jail of one warden: those that are prepared ahead, and those that are warm.

An order takes one of two roads (requests/run_requests.py). `resume` gives the warm entry of a
session its next run. Without one, or if it is silent, `begin` gives the run to an entry that has
seen no session. The candidates are prepared ones, then one that the spawner makes for the order,
then one that the warden forks itself: the first that acknowledges has the run. Silence means that
the next one is tried (jail_entry.py).

Prepared entries are made when a run has ended, one after the other, so that no run waits for them.
A warm entry waits for `warm_s`. A jail shows the host as it was when the jail was made: a name that
its programs have looked up stays as it was. So no run begins in an entry that is older than AGE_S,
and a session that is never at rest sees the packages that the host has installed.

Of more than `warm_max` warm ones the newest goes: if the oldest went, sessions that take turns
would never find a warm one. All warm ones go when the host is short of memory. All that wait go
when the jail changes (a new copy of host files, a reload), and at the end of the daemon.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import selectors
import time
from collections.abc import Callable, Iterator

from ... import log
from ...errors import StageError
from ...host import memory
from ...host.descriptors import readable
from ...jail.enter import Jail
from ...jail.stage import stage
from ...shim import main as shim
from ...shim.run_spec import RunSpec
from ..fork import fork
from ..slots.slots import Slot
from .jail_entry import JailEntry, Shim, Tenancy
from .spawner import SpawnerSpec
from .spawner_link import Crashed, SpawnerLink

AGE_S = 60.0
"""The age up to which an entry may take a run."""

WARM_MAX = 64
WARM_SIZE = 8 << 20
WARM_SHARE = 8
"""Warm entries at one time: so many at most, and those that this part of the host's memory holds.
Each has two processes, together of WARM_SIZE."""

SHORT_SHARE = 16
"""While less than this part of the host's memory is available, no entry stays warm."""

LOOK_S = 1.0
"""Between two looks at the memory, while entries are warm."""

REFILL_S = 0.5
"""Seconds after which entries are made also while the runs that have taken them go on."""

PAUSE_S = 5.0
"""Between two tries to make an entry on a host that cannot."""

SOON_S = 0.005
"""How long a run waits for the entry of the run before. A shim clears its jail in half a
millisecond, and a run in another entry takes twice the CPU time."""

TRIES = 2
"""Prepared entries that are tried for one order."""


def warm_max(total: int) -> int:
    """How many entries may be warm where memory has so many bytes in `total`."""
    return max(1, min(WARM_MAX, total // WARM_SHARE // WARM_SIZE))


class Entries:
    """The entries of one warden, and their spawner.

    spec     the values for a spawner at this moment
    crashed  takes the entries that a fault has ended
    became_warm   called with the process of an entry that has become warm
    size     prepared entries that shall wait
    warm_s   seconds for which a warm entry waits
    warm_max warm entries at one time
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        spec: Callable[[], SpawnerSpec],
        crashed: Crashed,
        became_warm: Callable[[Shim], None],
    ) -> None:
        self._selector = selector
        self._spec = spec
        self._became_warm = became_warm
        self._spawner = SpawnerLink(selector, crashed)
        self._waiting: list[JailEntry] = []
        self._claimed: list[JailEntry] = []  # those that may become warm, and the warm ones
        self._warm: dict[int, JailEntry] = {}  # by the number of the slot
        self._warm_due = math.inf  # no warm one has to go before
        self._refill_at = 0.0
        self.size = 0
        self.warm_s = 0.0
        self._memory = memory.size()
        self._look_at = 0.0
        self._is_short = False
        self.warm_max = warm_max(self._memory)

    # -- a run

    def warm(self, tenancy: Tenancy) -> JailEntry | None:
        """The warm entry that a run of a session may have. One that cannot serve it goes."""
        entry = self._warm.get(tenancy.slot.number) or self._soon_warm(tenancy.slot)
        if entry is None:
            return None
        assert entry.tenancy
        if entry.tenancy.suits(tenancy) and not self._is_old(entry, time.monotonic()):
            return entry
        self._remove(entry)
        return None

    def _soon_warm(self, slot: Slot) -> JailEntry | None:
        """The entry of the run before, which is over when the next one begins: in a moment its shim
        has cleared the jail, or ends."""
        for entry in self._claimed:
            if entry.state == "claimed" and entry.tenancy and entry.tenancy.slot is slot:
                if readable(entry.sock.fileno(), wait_s=SOON_S):
                    self._received(entry)
                return self._warm.get(slot.number)
        return None

    def resume(self, entry: JailEntry, run: RunSpec) -> Shim | None:
        """Give the next run of its session to a warm entry; None if it does not take it."""
        del self._warm[run.slot]
        try:
            entry.order(*run.next_order())
            if resumed := entry.acknowledged():
                return resumed
        except OSError:  # it has ended
            pass
        self._remove(entry)
        return None

    def begin(self, run: RunSpec, tenancy: Tenancy, jail: Jail) -> Shim:
        """Give a run to an entry that has seen no session; the process that is its shim from now
        on. Raises StageError."""
        message, fds = run.order()
        for entry in self._candidates(jail):
            try:
                entry.order(message, fds)
                self._start(entry, jail)
                if begun := entry.acknowledged():
                    self._refill_at = max(self._refill_at, time.monotonic() + REFILL_S)
                    self._keep(entry, tenancy, run.stays)
                    return begun
            except BaseException as error:  # whatever it is: what is refused must not go on
                entry.kill()
                # It had ended, or the host has nothing left for a new one.
                if entry.shim or not isinstance(error, OSError):
                    raise
                continue
            log.event("entry.silent", logging.WARNING, slot=run.slot, run=run.run)
        raise StageError("claim", "no shim takes the run")

    def _candidates(self, jail: Jail) -> Iterator[JailEntry]:
        """Entries that may take an order, the cheapest first."""
        spec = self._spawner.spec
        usable = spec is not None and spec.jail == jail
        for _ in range(TRIES if usable else 0):
            prepared = [entry for entry in self._waiting if entry.state == "prepared"]
            if not prepared:
                break
            self._selector.unregister(prepared[0].sock)
            self._waiting.remove(prepared[0])
            yield prepared[0]
        with stage("claim"):
            if usable and self._spawner.is_ready:
                yield JailEntry()
            own = JailEntry()
            own.child = 0
            yield own

    def _start(self, entry: JailEntry, jail: Jail) -> None:
        """Put the entry, which has its order, into a process, unless it is in one. Raises OSError,
        StageError."""
        if entry.child == 0:
            end = entry.end
            entry.child = fork([end.fileno()], lambda: shim.main(end, jail))
            end.close()
        elif entry.end.fileno() >= 0:
            self._spawner.make(entry)

    def _keep(self, entry: JailEntry, tenancy: Tenancy, stays: bool) -> None:
        """Listen to an entry that may become warm."""
        if not stays:
            entry.drop()
            return
        entry.tenancy = tenancy
        self._listen(entry)
        self._claimed.append(entry)

    # -- what waits

    def maintain(self) -> None:
        """Do what is due: start a spawner, let old entries go, have the next one made."""
        now, spec = time.monotonic(), self._spec()
        if self._spawner.spec is not None and self._spawner.spec != spec:
            self.flush()
        if self._warm and (now >= self._warm_due or self._lacks_memory(now)):
            self._end_warm_ones(now)
        if self.size == 0:
            return
        if self._spawner.spec is None:
            self._spawner.start(spec)
            return
        for entry in [one for one in self._waiting if self._is_old(one, now)]:
            self._remove(entry)
        if self._may_make() and now >= self._refill_at:
            self._make_ahead()

    def due_in(self) -> float | None:
        """Seconds until `maintain` has something to do; None: nothing but an event does that."""
        now = time.monotonic()
        at = [self._warm_due, self._look_at] if self._warm else []
        if self.size:
            at += [entry.begun + AGE_S for entry in self._waiting]
            at += [self._refill_at] if self._may_make() else []
            if (start_in := self._spawner.start_in()) is not None:
                at.append(now + start_in)
        return max(0.0, min(at) - now) if at else None

    def run_ended(self) -> None:
        """A run has ended: its entry may be replaced."""
        self._refill_at = 0.0

    def _end_warm_ones(self, now: float) -> None:
        """Let the warm entries go whose time is over, or all on a host that is short of memory."""
        for entry in list(self._warm.values()):
            if self._warm_until(entry) <= now or self._lacks_memory(now):
                self._remove(entry)
        self._warm_due = min(map(self._warm_until, self._warm.values()), default=math.inf)

    def _warm_until(self, entry: JailEntry) -> float:
        return min(entry.since + self.warm_s, entry.begun + AGE_S)

    @staticmethod
    def _is_old(entry: JailEntry, now: float) -> bool:
        return now - entry.begun >= AGE_S

    def _may_make(self) -> bool:
        busy = any(entry.state == "preparing" for entry in self._waiting)
        return self._spawner.is_ready and not busy and len(self._waiting) < self.size

    def _make_ahead(self) -> None:
        with contextlib.ExitStack() as undo:
            try:
                entry = JailEntry()
                undo.callback(entry.drop)
                self._spawner.make(entry)
            except OSError:  # no descriptor is free
                self._refill_at = time.monotonic() + PAUSE_S
                return
            undo.pop_all()
        self._waiting.append(entry)
        self._listen(entry)

    def _listen(self, entry: JailEntry) -> None:
        received = functools.partial(self._received, entry)
        self._selector.register(entry.sock, selectors.EVENT_READ, received)

    def _received(self, entry: JailEntry) -> None:
        before = entry.state
        if not entry.receive():
            if before == "preparing":  # a host that can make none is asked again later
                self._refill_at = time.monotonic() + PAUSE_S
            self._remove(entry)
        elif entry.state == "warm" and before != "warm" and entry.shim and entry.tenancy:
            self._became_warm(entry.shim)
            self._keep_warm(entry, entry.tenancy.slot)

    def _keep_warm(self, entry: JailEntry, slot: Slot) -> None:
        """The entry has become warm."""
        if earlier := self._warm.get(slot.number):
            self._remove(earlier)
        self._warm[slot.number] = entry
        self._warm_due = min(self._warm_due, self._warm_until(entry))
        if len(self._warm) > self.warm_max or self._lacks_memory(entry.since):
            self._remove(entry)

    def _lacks_memory(self, now: float) -> bool:
        """The host has little memory left, as the last look shows; a look is due every LOOK_S."""
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            with contextlib.suppress(OSError, ValueError):  # then as before
                self._is_short = memory.available() < self._memory // SHORT_SHARE
        return self._is_short

    def _remove(self, entry: JailEntry) -> None:
        self._selector.unregister(entry.sock)
        (self._waiting if entry in self._waiting else self._claimed).remove(entry)
        if entry.tenancy and self._warm.get(entry.tenancy.slot.number) is entry:
            del self._warm[entry.tenancy.slot.number]
        entry.drop()

    def collected(self, pid: int) -> None:
        """A child of the warden has ended. It need not be the spawner."""
        self._spawner.collected(pid)

    def end_warm(self, slot: Slot) -> None:
        """Let the warm entries of a slot go."""
        if entry := self._warm.get(slot.number):
            self._remove(entry)

    def flush(self) -> None:
        """Let all that wait go, and the spawner, which another one follows."""
        for entry in [*self._waiting, *self._warm.values()]:
            self._remove(entry)
        self._spawner.stop()

    def close(self) -> None:
        """End all that wait and the spawner, and make none any more."""
        self.size, self.warm_s = 0, 0.0
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            self._selector.unregister(entry.sock)
            entry.finish()
        for entry in list(self._warm.values()):
            self._remove(entry)
        self._spawner.stop(wait=True)
