"""A slot is a small number leased to a session; uid, gid and directories follow from it.

    STATE/slots/N/session      the session's UUID, written last when leased, removed first
    STATE/slots/N/image        its scratch, see scratch.py
    STATE/slots/N/scratch/     where the scratch is mounted, in the warden's mount namespace
    STATE/slots/N/runs/K/      console, journal and control socket of run K

Two daemons on one host (a service, and one that `sandboxd run` starts for itself) must not use
one uid twice. The lease therefore includes a name in the abstract socket namespace, which the
kernel gives to one process at a time and takes back when the last holder of it ends, a shim
that outlives its warden included; payloads have a network namespace of their own and cannot
squat there. A slot is leased only after proof that no process has its uid.
"""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ..config import Slots as SlotsConfig
from ..errors import Unavailable
from ..model import Attachment


@dataclass
class Slot:
    """A leased slot.

    lock     holds its uid against other daemons
    folders  the virtual folders that its session sees
    idmap    a user namespace that maps their files to the slot's uid; None without folders
    """

    number: int
    uid: int
    path: str
    session: str
    lock: socket.socket
    runs: dict[int, int] = field(default_factory=dict)  # run -> pid of its shim
    folders: tuple[Attachment, ...] = ()
    idmap: int | None = None

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


class Slots:
    """All slots of one daemon."""

    def __init__(self, config: SlotsConfig, state_dir: str) -> None:
        self._config = config
        self._dir = f"{state_dir}/slots"
        self.leased: dict[int, Slot] = {}
        os.makedirs(self._dir, mode=0o700, exist_ok=True)

    def lease(self, session: str) -> Slot:
        """A free slot for `session`, with empty directories. Raises Unavailable."""
        for number in range(self._config.count):
            if number in self.leased or os.path.exists(self._path(number)):
                continue
            lock = self._lock(number)
            if lock is None:
                continue
            if uid_in_use(self._config.first_uid + number):
                lock.close()
                continue
            slot = self._slot(number, session, lock)
            os.makedirs(f"{slot.path}/runs", mode=0o700)
            os.mkdir(slot.scratch, mode=0o700)
            return slot
        raise Unavailable(f"all {self._config.count} slots are leased; raise slots.count")

    def commit(self, slot: Slot) -> None:
        """The slot is complete: from here on it survives a restart."""
        Path(slot.path, "session").write_text(slot.session)

    def adopt(self, number: int, session: str) -> Slot:
        """Lease again what an earlier daemon leased to `session`. Raises Unavailable."""
        path = Path(self._path(number), "session")
        if number in self.leased or not 0 <= number < self._config.count:
            raise Unavailable(f"slot {number} is not free")
        if not path.exists() or path.read_text() != session:
            raise Unavailable(f"slot {number} does not hold session {session}")
        lock = self._lock(number)
        if lock is None:
            raise Unavailable(f"slot {number} is held by another daemon")
        return self._slot(number, session, lock)

    def release(self, slot: Slot) -> None:
        """Remove the directories of `slot` and let go of its uid; its scratch is unmounted."""
        shutil.rmtree(slot.path, ignore_errors=True)
        slot.lock.close()
        del self.leased[slot.number]

    def forget(self) -> list[str]:
        """Remove what is on disk of slots that nobody has leased; returns their directories."""
        strays = [
            entry.path for entry in os.scandir(self._dir) if int(entry.name) not in self.leased
        ]
        for path in strays:
            shutil.rmtree(path, ignore_errors=True)
        return strays

    def _path(self, number: int) -> str:
        return f"{self._dir}/{number}"

    def _slot(self, number: int, session: str, lock: socket.socket) -> Slot:
        uid = self._config.first_uid + number
        slot = Slot(number, uid, self._path(number), session, lock)
        self.leased[number] = slot
        return slot

    def _lock(self, number: int) -> socket.socket | None:
        """The name of the slot's uid, None when another daemon holds it."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.bind(f"\0sandboxd/uid/{self._config.first_uid + number}")
        except OSError:
            sock.close()
            return None
        return sock


def uid_in_use(uid: int) -> bool:
    """A process has `uid` as one of its user ids."""
    wanted = str(uid)
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                line = next((line for line in file if line.startswith("Uid:")), "")
        except OSError:
            continue  # it has ended
        if wanted in line.split()[1:]:
            return True
    return False
