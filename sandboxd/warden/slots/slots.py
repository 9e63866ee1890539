"""Slots: small numbers that are leased to sessions. Uid, gid and directories follow from a number.

    STATE/slots/N/session      the session's UUID, written last when leased; blank in a spare
    STATE/slots/N/ended        the same file, whose name changes first when the session is over
    STATE/slots/N/image        its scratch, see scratch.py
    STATE/slots/N/scratch/     where the scratch is mounted, in the warden's mount namespace
    STATE/slots/N/runs/K/      run K, see runs/run_directory.py

Two daemons on one host (a service, and one that `sandboxd run` starts for itself) must not use
one uid twice. A leased slot therefore has a uid lease, which all daemons of the host respect
(warden/uid_lease.py). A shim inherits the uid lease until it has the uid itself, so lease or uid
shows at every moment that the uid is taken, also when the warden is killed. When a slot is adopted
after a restart, every process that has its uid and belongs to no run is ended first.

A slot is leased only after proof that nothing remains of it (reclaim.py). Background jobs make the
proof ahead: for free slots, and for a slot whose session has ended. From the proof on the daemon
holds the uid lease of the vacant slot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from ... import log
from ...config.settings import SlotsConfig
from ...errors import Invalid, Unavailable
from ...jail.cgroup import Group
from ...model import Attachment, Limits, NetworkGrant, Workspace
from ..uid_lease import UidLease, lease_uid
from . import block_groups, flush
from .reclaim import reclaim, unused

VACANT_MAX = 16
"""Vacant slots whose uid leases a daemon holds; at most a quarter of all, since another daemon of
the host may need some."""

NO_NAME = " " * 36
"""As long as a UUID, which takes its place when the spare is leased."""

SETUP_S = 2.0
"""How long a shim may take to have the uid of its slot."""


@dataclass(frozen=True, slots=True)
class RunShare:
    """The part of one run in the bounds of its slot: its highest limits, and its group."""

    limits: Limits
    group: Group
    terminal: bool


@dataclass
class Slot:
    """A leased slot.

    owner      the owner of its session
    uid_lease  keeps other daemons from its uid
    ready      its scratch is made and mounted
    releasing  its session is over, and its workers are being ended
    runs       number -> pid of the shim
    shares     number -> the part of a run in the bounds of the slot (runs/slot_group.py), until its
               group is gone
    bounds     the identity of its group, with memory in bytes and CPU quota in microseconds, as
               this daemon has last written them
    forgotten  runs whose directory is to be emptied when they are over
    emptied_runs emptied directories of such runs, which wait for a run
    emptied_due those that a job is emptying now (runs/emptied_directories.py)
    suspect    its scratch was mounted while the disk was full
    remounting a background job mounts its scratch anew
    attachments the virtual folders that its session sees
    idmap      a user namespace that maps their files to the slot's uid; None without folders
    network    the hosts that the runs of its session may reach; None: none
    workspace  the directory of the host that its session sees, if it has one
    workspace_map   the same for its files
    """

    number: int
    uid: int
    path: str
    session: str
    uid_lease: UidLease
    owner: str = ""
    ready: bool = False
    releasing: bool = False
    runs: dict[int, int] = field(default_factory=dict)
    shares: dict[int, RunShare] = field(default_factory=dict)
    bounds: tuple[tuple[int, ...], int, int] | None = None
    forgotten: set[int] = field(default_factory=set)
    emptied_runs: list[str] = field(default_factory=list)
    emptied_due: int = 0
    suspect: bool = False
    remounting: bool = False
    attachments: tuple[Attachment, ...] = ()
    idmap: int | None = None
    network: NetworkGrant | None = None
    workspace: Workspace | None = None
    workspace_map: int | None = None

    @property
    def gid(self) -> int:
        """The slot's group: the same number."""
        return self.uid

    @property
    def scratch(self) -> str:
        """Where the scratch is mounted."""
        return f"{self.path}/scratch"

    def run_path(self, run: int) -> str:
        """The directory of a run."""
        return f"{self.path}/runs/{run}"


def commit(path: str, session: str) -> None:
    """The slot at `path` is complete: from here on it survives a restart. A spare does not: its
    file has room for a name, and no name."""
    flush.write(f"{path}/session", session or NO_NAME)
    flush.directory(path)
    flush.directory(os.path.dirname(path))


class Slots:
    """All slots of one daemon.

    emptying  slots that were leased and are not proven to be empty yet; no session gets them
    stuck     slots of `emptying` that could not be emptied at once
    unadopted slots of sessions, since another daemon has their uids: their files stay, and nobody
              gets the slots before the next start
    vacant    numbers that are proven to be empty, with the uid leases that keep others out
    proving   numbers that a background job looks at, with their uid leases
    spares    slots of no session, which have a scratch or are getting one (requests/spares.py)
    """

    def __init__(self, config: SlotsConfig, state_dir: str) -> None:
        self._config = config
        self.count = config.count
        self._state_dir = state_dir
        self._dir = f"{state_dir}/slots"
        self.leased: dict[int, Slot] = {}
        self.emptying: dict[int, Slot] = {}
        self.stuck: set[int] = set()
        self.unadopted: set[int] = set()
        self.vacant: dict[int, UidLease] = {}
        self.proving: dict[int, UidLease] = {}
        self.spares: dict[int, Slot] = {}
        self.vacant_max = max(1, min(VACANT_MAX, config.count // 4))
        os.makedirs(self._dir, mode=0o700, exist_ok=True)
        block_groups.spread(self._dir)

    def lease(self, session: str) -> Slot:
        """A vacant slot for `session`; there is one (`prove`). provision.py makes all in it."""
        number = min(self.vacant)
        return self._slot(number, session, self.vacant.pop(number))

    def set_aside(self) -> Slot:
        """A vacant slot that becomes a spare; there is one."""
        number = min(self.vacant)
        slot = self._slot(number, "", self.vacant.pop(number))
        self.spares[number] = self.leased.pop(number)
        return slot

    def claim(self, slot: Slot, session: str) -> int:
        """Lease a spare that is complete to `session`; a descriptor of the file with the name. The
        lease survives a restart of the host once that file is flushed. Raises OSError."""
        fd = os.open(f"{slot.path}/session", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(fd, session.encode(), 0)
            name = os.open(f"{slot.path}/session", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        finally:
            os.close(fd)
        slot.session = session
        self.leased[slot.number] = self.spares.pop(slot.number)
        return name

    def prove(self, begin: int) -> int:
        """Take the uid leases of free numbers from `begin` on, as many as may be vacant, so that
        their emptiness can be proven (`unused`); the number to go on with, `begin` for no more."""
        wanted = self.vacant_max - len(self.vacant)
        for number in range(begin, self._config.count):
            if len(self.proving) >= wanted:
                return number
            if number in self.vacant or any(number in taken for taken in self._taken()):
                continue
            if (uid_lease := self.take_uid_lease(number)) is not None:
                self.proving[number] = uid_lease
        return self._config.count if self.proving else begin

    def unused(self, busy: Set[int | None]) -> list[int]:
        """The numbers of `proving` of which nothing remains, without the `busy` ones."""
        return unused(self._state_dir, self._config.first_uid, set(self.proving) - busy)

    def proven(self, unused: Set[int]) -> None:
        """The proof is complete: these numbers are vacant, unless enough slots have become so
        meanwhile. Others are given up."""
        for number, uid_lease in self.proving.items():
            if number in unused and len(self.vacant) < self.vacant_max:
                self.vacant[number] = uid_lease
            else:
                uid_lease.close()
        self.proving = {}

    def close(self) -> None:
        """Give up the uid leases of all slots that no session has."""
        spares = [slot.uid_lease for slot in self.spares.values()]
        for uid_lease in (*self.vacant.values(), *self.proving.values(), *spares):
            uid_lease.close()
        self.vacant, self.proving, self.spares = {}, {}, {}

    def adopt(self, number: int, session: str) -> Slot:
        """Lease the slot again that an earlier daemon leased to `session`. Raises Invalid when
        there is no such slot, Unavailable when another daemon has its uid or the configuration
        has no such number."""
        path = Path(self._path(number), "session")
        if number in self.leased:
            raise Invalid(f"slot {number} is not free")
        if number >= self._config.count:
            raise Unavailable(f"slot {number} is beyond slots.count, {self._config.count}")
        if not path.exists() or path.read_text() != session:
            raise Invalid(f"slot {number} does not hold session {session}")
        uid_lease = self._take_uid_lease_soon(number)
        if uid_lease is None:
            self.unadopted.add(number)
            raise Unavailable(f"slot {number} is held by another daemon")
        return self._slot(number, session, uid_lease)

    def vacate(self, slot: Slot) -> None:
        """The session of `slot` is over: all that remains of the slot is to be removed, by the next
        daemon if not by this one."""
        with contextlib.suppress(OSError):  # a full disk allows it, a damaged one may not
            # Not unlink: with `discard`, to free a block waits for the disk (ext4(5)).
            os.rename(f"{slot.path}/session", f"{slot.path}/ended")
        self.leased.pop(slot.number, None)
        self.spares.pop(slot.number, None)
        self.emptying[slot.number] = slot

    def release(self, slot: Slot) -> None:
        """Nothing remains of `slot`: this is the proof for the next session."""
        del self.emptying[slot.number]
        self.stuck.discard(slot.number)
        if len(self.vacant) < self.vacant_max:
            self.vacant[slot.number] = slot.uid_lease
        else:
            slot.uid_lease.close()

    def unleased(self) -> list[int]:
        """The slots that have a directory and are not leased."""
        names = [entry.name for entry in os.scandir(self._dir)]
        numbers = [int(name) for name in names if name.isdecimal()]
        held = *self._taken(), self.vacant, self.proving
        return [
            number for number in numbers
            if number < self._config.count and not any(number in one for one in held)
        ]  # fmt: skip

    def remove(self, unleased: Sequence[int]) -> list[str]:
        """Reclaim these slots; the paths of those that no other daemon holds.

        For background jobs: the slots that were leased since then are not among them.
        """
        removed = []
        for number in unleased:
            uid_lease = self._take_uid_lease_soon(number)
            if uid_lease is None:
                continue
            with uid_lease:
                uid = self._config.first_uid + number
                if left := reclaim(self._state_dir, number, uid):  # the check for leaks goes on
                    things = ", ".join(left.things + left.dead)
                    log.event("slot.stuck", logging.ERROR, slot=number, error=things)
                removed.append(self._path(number))
        return removed

    def _taken(self) -> tuple[Collection[int], ...]:
        """The slots that sessions have, had or may get back, and the spares."""
        return self.leased, self.emptying, self.unadopted, self.spares

    def _path(self, number: int) -> str:
        return f"{self._dir}/{number}"

    def _slot(self, number: int, session: str, uid_lease: UidLease) -> Slot:
        uid = self._config.first_uid + number
        slot = Slot(number, uid, self._path(number), session, uid_lease)
        self.leased[number] = slot
        return slot

    def _take_uid_lease_soon(self, number: int) -> UidLease | None:
        """As `take_uid_lease`, for a slot in which a killed daemon has just started a run."""
        deadline = time.monotonic() + SETUP_S
        while (uid_lease := self.take_uid_lease(number)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return uid_lease

    def take_uid_lease(self, number: int) -> UidLease | None:
        """The lease of the slot's uid, held while it is open; None: another process has it, or a
        session of this daemon. The slot is not vacant any more."""
        mine = self.vacant.pop(number, None) or self.proving.pop(number, None)
        return mine or lease_uid(self._config.first_uid + number)
